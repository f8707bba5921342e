"""RepLLaMA: "Fine-Tuning LLaMA for Multi-Stage Text Retrieval" (arXiv 2310.08319).

RepLLaMA's templates and recipe. It is trained by the same fine-tuner as LLaRA, of which it is the ablation
without adaptation. The recipe is that of the released code (texttron/tevatron, examples/repllama).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llara_eval.core.errors import UsageError
from llara_eval.encoding.templates import Template, Templates, special_tokens
from llara_eval.training.config import Contrast, LoRA, Schedule

LORA = LoRA(
    rank=32,
    alpha=64,
    dropout=0.1,
    targets=("q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
)
"""The released LoRA settings; the key projections have no adapters."""


_LOST = 1
"""Tokens that a limit of length loses there: three are kept free for the two that are added (data.py)."""


def templates(tokenizer: Any) -> Templates:
    """Return the templates: ``query: …</s>`` and ``passage: …</s>``, pooled at the end-of-sequence token.

    They have at most 511 tokens a side, as many as the released evaluation reads at its limit of 512.

    Raises:
        UsageError: The tokenizer has no end-of-sequence token.
    """
    if not tokenizer.eos_token:
        raise UsageError("RepLLaMA pools at the end-of-sequence token, which this tokenizer does not have")
    sides = [
        Template(
            prefix=special_tokens(tokenizer)[0],
            prompt=prompt,
            suffix=(tokenizer.eos_token,),
            pooling="last",
            max_length=512 - _LOST,
        )
        for prompt in ("query: ", "passage: ")
    ]
    return Templates(*sides)


def recipe() -> tuple[Contrast, Schedule]:
    """Return the released recipe on larger batches: MS MARCO passage, fifteen hard negatives, one epoch.

    128 queries are compared with the passages of all of them, 2,048, where the released script compares 8
    with 128, and counts equal passages twice and known positives as negatives.
    """
    contrast = Contrast(temperature=0.01, group_size=16, query_length=32, passage_length=196)
    return contrast, Schedule(learning_rate=1e-4, batch_size=128, warmup=100, lora=LORA)


def released_recipe() -> tuple[Contrast, Schedule]:
    """Return the recipe as the released code computes it.

    texttron/tevatron at dd063104, examples/repllama: 8 queries a device at a time (README.md), whose passages
    no other device sees (``build`` in repllama.py leaves out ``negatives_x_device``), one token of every
    length lost (data.py), and the learning rate of DeepSpeed's WarmupDecayLR (ds_config.json).
    """
    contrast, schedule = recipe()
    return (
        replace(
            contrast,
            query_length=contrast.query_length - _LOST,
            passage_length=contrast.passage_length - _LOST,
            negatives="device",
            device_batch=8,
            mask_known=False,
        ),
        replace(schedule, warmup_shape="log", drop_last=True),
    )


def recognise(tokenizer: Any, adapter: Mapping[str, Any] | None) -> Templates | None:
    """Return the templates if the configuration of a LoRA folder is that of RepLLaMA, else None."""
    if adapter is None or adapter.get("peft_type") != "LORA":
        return None
    settings = (adapter.get("r"), adapter.get("lora_alpha"), adapter.get("lora_dropout"))
    targets = adapter.get("target_modules") or ()  # a pattern if it is text, which matches no set of names
    if settings != (LORA.rank, LORA.alpha, LORA.dropout) or set(targets) != set(LORA.targets):
        return None
    return templates(tokenizer)
