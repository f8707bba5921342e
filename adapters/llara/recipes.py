"""Recipes of LLaRA: functions that return settings."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from adapters.llara.config import Adaptation
from adapters.llara.templates import PAPER
from llara_eval.training.config import Contrast, LoRA, Schedule


def released() -> tuple[Adaptation, Schedule]:
    """Return the adaptation of the released code, with the paper's schedule (arXiv 2312.15503, section 4).

    The paper makes 10,000 optimizer steps of 256 rows of Wikipedia, 1,024 tokens each, with learning rate
    1e-5, and trains every parameter.
    """
    return Adaptation(), Schedule(learning_rate=1e-5, batch_size=256, steps=10_000, warmup=0.1)


def paper() -> tuple[Adaptation, Schedule]:
    """Return the adaptation of the paper (section 3): one slot, no language-model term."""
    task = Adaptation(
        prompts=PAPER,
        language_model=False,
        distinct=False,
        scale=1.0,
        averaged=False,
        remove_stop_words=False,
    )
    return task, released()[1]


def contrastive() -> tuple[Contrast, Schedule]:
    """Return the fine-tuning of the released code: MS MARCO, one positive and fifteen hard negatives.

    The released script has one query a process and an unknown number of processes; 64 queries are our choice.
    """
    return Contrast(), Schedule(
        learning_rate=3e-4, batch_size=64, warmup=0.1, lora=LoRA(rank=64, alpha=16, dropout=0.1)
    )


ADAPTATIONS: Mapping[str, Callable[[], tuple[Adaptation, Schedule]]] = MappingProxyType(
    {"llara": released, "llara-paper": paper}
)
"""Recipes of ``llara-eval adapt`` by name."""
