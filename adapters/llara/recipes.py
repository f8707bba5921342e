"""Recipes of LLaRA: functions that return settings."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from adapters.llara.config import Adaptation
from adapters.llara.templates import PAPER
from llara_eval.training.config import Contrast, LoRA, Schedule


def ours() -> tuple[Adaptation, Schedule]:
    """Return the adaptation of the released code with our averages, on the paper's schedule.

    The paper (arXiv 2312.15503, section 4) makes 10,000 optimizer steps of 256 rows of Wikipedia, 1,024
    tokens each, with learning rate 1e-5, and trains every parameter.
    """
    return Adaptation(), Schedule(learning_rate=1e-5, batch_size=256, steps=10_000, warmup=0.1)


def released() -> tuple[Adaptation, Schedule]:
    """Return the adaptation as the released code computes it, on the paper's schedule.

    FlagOpen/FlagEmbedding at 7ed43d67, research/LLARA: one row a device at a time (README.md), terms averaged
    on each device (pretrain/modeling.py), targets of whole texts without NLTK's stop words
    (pretrain/data.py), and the learning rate of DeepSpeed's WarmupDecayLR (stage1.json).
    """
    task = Adaptation(whole_targets=True, stop_words="nltk", lm_mean="device", device_batch=1)
    return task, replace(ours()[1], warmup_shape="log", drop_last=True)


def paper() -> tuple[Adaptation, Schedule]:
    """Return the adaptation of the paper (section 3): one slot, sums over tokens, no language-model term."""
    task = Adaptation(
        prompts=PAPER,
        language_model=False,
        distinct=False,
        token_mean=False,
        scale=1.0,
        averaged=False,
        stop_words="none",
    )
    return task, ours()[1]


def contrastive() -> tuple[Contrast, Schedule]:
    """Return the fine-tuning of the released code on larger batches: MS MARCO, fifteen hard negatives.

    64 queries are compared with the passages of all of them, 1,024, where the released script compares 8
    with 128, and counts equal passages twice and known positives as negatives.
    """
    return Contrast(), Schedule(
        learning_rate=3e-4, batch_size=64, warmup=0.1, lora=LoRA(rank=64, alpha=16, dropout=0.1)
    )


def released_contrastive() -> tuple[Contrast, Schedule]:
    """Return the fine-tuning as the released code computes it.

    FlagOpen/FlagEmbedding at 7ed43d67, research/LLARA: 8 devices with one query each, whose embeddings are
    gathered without gradients (README.md, finetune/modeling.py), negatives as the rows have them
    (finetune/data.py), and the learning rate of DeepSpeed's WarmupDecayLR (stage1.json).
    """
    contrast, schedule = contrastive()
    return (
        replace(contrast, negatives="gathered", device_batch=1, devices=8, mask_known=False),
        replace(schedule, batch_size=8, warmup_shape="log", drop_last=True),
    )


ADAPTATIONS: Mapping[str, Callable[[], tuple[Adaptation, Schedule]]] = MappingProxyType(
    {"llara": ours, "llara-released": released, "llara-paper": paper}
)
"""Recipes of ``llara-eval adapt`` by name."""
