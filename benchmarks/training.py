"""Tokens per second and peak memory of optimizer steps, against the straightforward form.

The straightforward form is that of the released LLaRA code: every row padded to the longest of the batch,
logits of every position, a Python loop over the rows, gradient checkpointing (without it the batch does not
fit). Both forms read the same rows, start from the same weights, and run one after the other in separate
processes. Real tokens are counted, never padding.

Usage: ``python benchmarks/training.py adapt|finetune --data FILE [--model smollm2-135m] [--rows 32]
[--length 512] [--steps 2] [--batch-tokens 1024] [--dtype bfloat16] [--gradient-checkpointing]
[--compile]``
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from adapters import checkpoint_folder
from adapters.llara.batches import Reader
from adapters.llara.config import Adaptation
from adapters.llara.data import read_rows
from adapters.llara.joint import Frame
from adapters.llara.objective import Adapt, AdaptationModel
from adapters.llara.templates import RELEASED, add_tokens, fit_embeddings, templates
from llara_eval.core.paths import home
from llara_eval.encoding.compile import compile_layers
from llara_eval.encoding.devices import default_device, set_up
from llara_eval.training.checkpoint import precision_of
from llara_eval.training.config import Contrast
from llara_eval.training.contrastive import Finetune
from llara_eval.training.data import Rows
from llara_eval.training.groups import FORMAT, draw
from llara_eval.training.objective import Objective

DEVICE = default_device()
Batch = Sequence[tuple[int, Mapping[str, Any]]]
Step = Callable[[Batch], tuple[int, float]]
"""Computes the gradients of a batch, and returns the number of real tokens and the loss."""
GROUP = 4
"""Passages of a query in fine-tuning."""
WARM_UP = 2
"""Rows of a first step of either form, which is not measured: it compiles whatever is compiled."""
FORMS = ("straightforward", "ours")


def main() -> None:
    """Measure both forms and compare them, or with ``--form`` print one of them as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=("adapt", "finetune"))
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=32, help="joint sequences, or passages, of a batch")
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--batch-tokens", type=int, default=1024, help="of ours, computed at a time")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="of products, in both forms")
    parser.add_argument("--gradient-checkpointing", action="store_true", help="in ours too")
    parser.add_argument("--compile", action="store_true", help="the layers of ours")
    parser.add_argument("--form", choices=FORMS)
    chosen = parser.parse_args()
    if chosen.form:
        print(json.dumps(measure(chosen)))
        return
    measured = {}
    for form in FORMS:
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--form", form],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(done.stderr)
        measured[form] = json.loads(done.stdout.splitlines()[-1])
        print(f"{form:16} {json.dumps(measured[form])}", flush=True)
    plain, ours = (measured[form] for form in FORMS)
    print(
        f"{chosen.stage}: {ours['tokens_per_second'] / plain['tokens_per_second']:.2f} times the tokens "
        f"per second, {ours['peak_mib'] / plain['peak_mib']:.2f} of the peak memory"
    )


def measure(chosen: argparse.Namespace) -> dict[str, float]:
    """Run a few steps of one form.

    Losses of the two forms differ by rounding, and by duplicate passages, which ours masks.
    """
    torch.manual_seed(0)
    folder = checkpoint_folder(chosen.model, offline=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    fit_embeddings(model, add_tokens(tokenizer, RELEASED.slot_tokens))
    model.config.use_cache = False
    if chosen.form == "straightforward" or chosen.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    count, rows = rows_of(chosen)
    if chosen.form == "ours":
        set_up(DEVICE)
        if chosen.compile:
            compile_layers(model, DEVICE)
        objective = our_objective(model.to(DEVICE).train(), tokenizer, chosen)
    else:
        plain = plain_adaptation if chosen.stage == "adapt" else plain_finetuning
        plain_step = plain(model.to(DEVICE).train(), tokenizer, chosen)

    def read(first: int, count: int) -> Any:
        batch = [(number, rows[number]) for number in range(first, first + count)]
        return objective.read(batch, 0) if chosen.form == "ours" else batch

    def step(batch: Any) -> tuple[int, float]:
        if chosen.form != "ours":
            return plain_step(batch)
        result = objective.step(batch)
        return result.tokens, result.terms["loss"]

    step(read(len(rows) - WARM_UP, WARM_UP))
    model.zero_grad(set_to_none=True)
    tokens, losses, started = 0, [], time.perf_counter()
    with ThreadPoolExecutor(1) as reader:  # as in our loop; the straightforward form reads in its step
        upcoming = reader.submit(read, 0, count)
        for number in range(1, chosen.steps + 1):
            batch = upcoming.result()
            if number < chosen.steps:
                upcoming = reader.submit(read, count * number, count)
            step_tokens, loss = step(batch)
            model.zero_grad(set_to_none=True)
            tokens += step_tokens
            losses.append(loss)
    seconds = time.perf_counter() - started
    return {
        "tokens_per_second": round(tokens / seconds, 1),
        "peak_mib": peak_mib(),
        "tokens": tokens,
        "seconds": round(seconds, 1),
        "loss": round(sum(losses) / len(losses), 4),
    }


def peak_mib() -> int:
    """Return the peak memory of the whole process, or of torch on a GPU."""
    if DEVICE.type == "cuda":
        return round(torch.cuda.max_memory_allocated() / 2**20)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def rows_of(chosen: argparse.Namespace) -> tuple[int, Rows]:
    """Return the number of rows of a step, and all rows."""
    cache = home() / "training"
    if chosen.stage == "adapt":
        return chosen.rows, read_rows([chosen.data], words=500, cache=cache)
    return chosen.rows // GROUP, Rows([chosen.data], FORMAT, cache=cache)


def our_objective(model: Any, tokenizer: Any, chosen: argparse.Namespace) -> Objective:
    """Return the objective of our training loop; in fine-tuning, every parameter is trained."""
    precision = precision_of(chosen.dtype, DEVICE)
    if chosen.stage == "adapt":
        adapted = AdaptationModel(model, Adaptation(max_length=chosen.length))
        texts = templates(tokenizer)
        return Adapt(adapted, tokenizer, texts, micro_tokens=chosen.batch_tokens, precision=precision)
    return Finetune(
        model.base_model,
        tokenizer,
        templates(tokenizer).cut_to(64, chosen.length),
        Contrast(group_size=GROUP),
        seed=0,
        micro_tokens=chosen.batch_tokens,
        precision=precision,
    )


def products_in(chosen: argparse.Namespace) -> torch.autocast:
    """Return the context in which the straightforward form computes."""
    precision = precision_of(chosen.dtype, DEVICE)
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=precision == torch.bfloat16)


def plain_adaptation(model: Any, tokenizer: Any, chosen: argparse.Namespace) -> Step:
    """Return the straightforward step of adaptation."""
    frame = Frame.of(templates(tokenizer), tokenizer)
    reader = Reader(tokenizer, frame, Adaptation(max_length=chosen.length))

    def step(rows: Batch) -> tuple[int, float]:
        ids, texts = reader.texts([row for _, row in rows])
        self_targets, next_targets = (
            reader.targets(texts),
            reader.targets([row["output_predict"] for _, row in rows]),
        )
        inputs, mask, positions, labels, allowed = pad_left(ids, frame)
        with products_in(chosen):
            logits = model(input_ids=inputs, attention_mask=allowed, position_ids=positions).logits.float()
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        tail = len(frame.next_suffix)
        for columns, targets in ((slice(-tail - 8, -tail), self_targets), (slice(-8, None), next_targets)):
            log_p = logits[:, columns].max(dim=1).values.log_softmax(dim=1)
            terms = [
                -row[torch.tensor(target, device=DEVICE).unique()].mean()
                for row, target in zip(log_p, targets, strict=True)
                if target
            ]
            loss = loss + sum(terms) / len(terms) / 10 / 2
        loss.backward()
        return int(mask.sum()), float(loss)

    return step


def pad_left(texts: Sequence[Sequence[int]], frame: Frame) -> tuple[Tensor, ...]:
    """Return ids, mask, positions, labels (B, L) and the additive joint mask (B, 1, L, L)."""
    suffix, tail = len(frame.self_suffix), len(frame.next_suffix)
    around = len(frame.prefix) + suffix + tail
    longest = -(-max(len(text) + around for text in texts) // 8) * 8
    ids, mask, positions = (torch.zeros(len(texts), longest, dtype=torch.long) for _ in range(3))
    labels = torch.full_like(ids, -100)
    for row, text in enumerate(texts):
        whole = [*frame.prefix, *text, *frame.self_suffix, *frame.next_suffix]
        begin, start = longest - len(whole), len(frame.prefix) + len(text)
        ids[row, begin:], mask[row, begin:] = torch.tensor(whole), 1
        positions[row, begin:] = torch.tensor([*range(start + suffix), *range(start, start + tail)])
        labels[row, begin + len(frame.prefix) : begin + start] = torch.tensor(text)
    allowed = torch.ones(longest, longest, dtype=torch.bool).tril() & mask[:, None, :].bool()
    allowed[:, -tail:, -suffix - tail : -tail] = False
    allowed |= torch.eye(longest, dtype=torch.bool)
    added = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    return tuple(tensor.to(DEVICE) for tensor in (ids, mask, positions, labels, added[:, None]))


def plain_finetuning(model: Any, tokenizer: Any, chosen: argparse.Namespace) -> Step:
    """Return the straightforward step of fine-tuning, with the logits that no loss needs."""
    templates_of_model = templates(tokenizer).cut_to(64, chosen.length)

    def encode(texts: Sequence[str], side: Any) -> tuple[Tensor, int]:
        sequences = templates_of_model.of(side).token_ids(tokenizer, texts)
        longest = -(-max(map(len, sequences)) // 8) * 8
        ids, mask = (
            torch.zeros(len(sequences), longest, dtype=torch.long),
            torch.zeros(len(sequences), longest),
        )
        for row, sequence in enumerate(sequences):
            ids[row, longest - len(sequence) :] = torch.tensor(sequence)
            mask[row, longest - len(sequence) :] = 1
        with products_in(chosen):
            out = model(input_ids=ids.to(DEVICE), attention_mask=mask.to(DEVICE), output_hidden_states=True)
        pooled = out.hidden_states[-1][:, -8:].float().mean(dim=1)
        return F.normalize(pooled, dim=-1), int(mask.sum())

    def step(rows: Batch) -> tuple[int, float]:
        groups = [draw(row, GROUP, seed=0, epoch=0, index=number) for number, row in rows]
        queries, query_tokens = encode([group.query for group in groups], "query")
        passages, passage_tokens = encode([text for group in groups for text in group.passages], "document")
        scores = queries @ passages.T / 0.01
        ends = torch.tensor([len(group.passages) for group in groups]).cumsum(0)
        first = torch.cat([torch.zeros(1, dtype=torch.long), ends[:-1]])
        loss = F.cross_entropy(scores, first.to(DEVICE))
        loss.backward()
        return query_tokens + passage_tokens, float(loss)

    return step


if __name__ == "__main__":
    main()
