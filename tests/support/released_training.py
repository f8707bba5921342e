"""The optimizer steps of the released codes, written out from how they behave; nothing of ours computes here.

Read in FlagOpen/FlagEmbedding at 7ed43d67 (research/LLARA: ``finetune/modeling.py``, ``finetune/data.py``,
``pretrain/modeling.py``, ``pretrain/data.py``, ``stage1.json``), texttron/tevatron at dd063104
(examples/repllama: ``repllama.py``, ``data.py``, ``ds_config.json``) and deepspeedai/DeepSpeed at edaa7221
(``deepspeed/runtime/lr_schedules.py``). Every process holds a whole model and its own texts; gradients are
averaged over the processes, as data parallelism does.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

SELF = '", summarize the above passage within eight words: <s1><s2><s3><s4><s5><s6><s7><s8>'
NEXT = '", predict the following passage within eight words: <s9><s10><s11><s12><s13><s14><s15><s16>'
IGNORED = -100

Row = Mapping[str, Any]


class WarmupDecay:
    """The learning rate of ``WarmupDecayLR`` as DeepSpeed's engine uses it: it moves after the optimizer."""

    def __init__(self, highest: float, warmup: int, total: int) -> None:
        self.highest, self.warmup, self.total = highest, max(2, warmup), total
        self.iteration = -1

    def rate(self) -> float:
        if self.iteration < 0:
            return 0.0
        if self.iteration < self.warmup:
            return self.highest * math.log(self.iteration + 1) / math.log(self.warmup)
        return self.highest * max(0.0, (self.total - self.iteration) / max(1, self.total - self.warmup))


def train(
    model: Any,
    loss_of: Callable[[int], Sequence[Tensor]],
    *,
    steps: int,
    highest: float,
    warmup: float,
) -> list[float]:
    """Train a replica in each process, and return the losses that a process logs, averaged over processes.

    Args:
        model: The replica, the same in every process.
        loss_of: Step → the losses of this process's micro-batches.
        steps: Optimizer steps.
        highest: The learning rate after warm-up.
        warmup: Below 1 a share of all steps, otherwise a number of steps.
    """
    weights = list(model.parameters())
    optimizer = torch.optim.AdamW(weights, lr=highest, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    schedule = WarmupDecay(highest, math.ceil(steps * warmup) if warmup < 1 else int(warmup), steps)
    logged = []
    for step in range(steps):
        losses = loss_of(step)
        loss = sum(losses) / len(losses)
        loss.backward()
        mean = loss.detach().clone()
        for tensor in (mean, *(weight.grad for weight in weights if weight.grad is not None)):
            dist.all_reduce(tensor)
            tensor /= dist.get_world_size()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.param_groups[0]["lr"] = schedule.rate()
        optimizer.step()
        optimizer.zero_grad()
        schedule.iteration += 1
        logged.append(float(mean))
    return logged


def llara_ids(tokenizer: Any, text: str, suffix: str, limit: int) -> list[int]:
    """The limit counts the prompts, and cuts the text."""
    before = tokenizer('"')["input_ids"]
    after = tokenizer(suffix, add_special_tokens=False)["input_ids"]
    room = limit - len(before) - len(after)
    return before + tokenizer(text, add_special_tokens=False)["input_ids"][:room] + after


def pad(rows: Sequence[Sequence[int]], side: str) -> tuple[Tensor, Tensor]:
    """Return ids and mask, padded to a multiple of eight."""
    longest = -(-max(map(len, rows)) // 8) * 8
    ids, mask = torch.zeros(2, len(rows), longest, dtype=torch.long)
    for number, row in enumerate(rows):
        place = slice(longest - len(row), None) if side == "left" else slice(0, len(row))
        ids[number, place], mask[number, place] = torch.tensor(row), 1
    return ids, mask


def gathered(own: Tensor) -> Tensor:
    """Return the embeddings of all processes; only those of this one have a gradient."""
    others = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(others, own.detach().contiguous())
    others[dist.get_rank()] = own
    return torch.cat(others)


def llara_loss(
    model: Any, tokenizer: Any, row: Row, *, group: int, query_length: int, passage_length: int
) -> Tensor:
    """One query and its group; the groups of all processes are compared. ``neg`` must fill the group."""
    negatives = list(row["neg"])
    if len(negatives) < group - 1:
        negatives *= math.ceil((group - 1) / len(set(negatives)))
    if len(negatives) != group - 1:
        raise ValueError("which negatives are drawn would be left to chance")

    def embed(texts: Sequence[str], suffix: str, limit: int) -> Tensor:
        ids, mask = pad([llara_ids(tokenizer, text, suffix, limit) for text in texts], "left")
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
        return F.normalize(hidden[:, -8:].mean(dim=1), dim=-1)

    queries = gathered(embed([row["query"]], NEXT, query_length))
    passages = gathered(embed([row["pos"][0], *negatives], SELF, passage_length))
    scores = queries @ passages.T / 0.01
    return F.cross_entropy(scores, torch.arange(len(queries)) * group)


def repllama_loss(
    model: Any, tokenizer: Any, rows: Sequence[Row], *, query_length: int, passage_length: int
) -> Tensor:
    """The queries of one device and their groups, compared with each other alone."""

    def embed(texts: Sequence[str], limit: int) -> Tensor:
        cut = [tokenizer(text, add_special_tokens=False)["input_ids"][: limit - 3] for text in texts]
        sequences = [[tokenizer.bos_token_id, *ids, tokenizer.eos_token_id] for ids in cut]
        ids, mask = pad(sequences, "right")
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
        return F.normalize(hidden[torch.arange(len(texts)), mask.sum(dim=1) - 1], dim=-1)

    queries = embed([f"query: {row['query']}" for row in rows], query_length)
    texts = [f"passage: {text}" for row in rows for text in (row["pos"][0], *row["neg"])]
    passages = embed(texts, passage_length)
    target = torch.arange(len(rows)) * (len(texts) // len(rows))
    return F.cross_entropy(queries @ passages.T / 0.01, target)


def adaptation_loss(model: Any, tokenizer: Any, rows: Sequence[Row], *, cutoff: int) -> Tensor:
    """The joint sequences of one device: next tokens, and the words of this text and of the next."""
    before = tokenizer('"')["input_ids"]
    own, following = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (SELF, NEXT))
    room = cutoff - len(before) - len(own) - len(following)
    texts = [tokenizer(row["input"], add_special_tokens=False)["input_ids"][:room] for row in rows]
    ids, mask = pad([before + text + own + following for text in texts], "left")
    length, tail = ids.shape[1], len(following)
    positions = torch.arange(length)
    start = length - tail - len(own)
    positions[-tail:] = positions[start : start + tail].clone()
    allowed = torch.ones(length, length, dtype=torch.bool).tril() & mask[:, None, :].bool()
    allowed[:, -tail:, start:-tail] = False
    added = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    logits = model(
        input_ids=ids, attention_mask=added[:, None], position_ids=positions.expand_as(ids)
    ).logits.float()
    labels = torch.full_like(ids, IGNORED)
    for label, text in zip(labels, texts, strict=True):
        label[start - len(text) : start] = torch.tensor(text)
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
    bags = []
    for columns, name in ((slice(-tail - 8, -tail), "output_summarize"), (slice(-8, None), "output_predict")):
        log_p = logits[:, columns].max(dim=1).values.log_softmax(dim=1)
        terms = []
        for row, words in zip(log_p, rows, strict=True):
            target = torch.tensor(tokenizer(words[name])["input_ids"][:cutoff]).unique()
            target = target[target > 2]
            if len(target):
                terms.append(-row[target].mean())
        if terms:
            bags.append(sum(terms) / len(terms) / 10)
    return loss + sum(bags) / len(bags)
