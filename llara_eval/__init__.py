"""llara-eval: evaluation harness and leaderboard for LLM dense retrievers, from Python.

::

    import llara_eval as le

    outcome = le.evaluate("path/to/checkpoint", "scifact")
    outcome.to_frame()

Every name below is imported when it is first used, so that the import of the package costs nothing. The
package measures systems; the systems themselves are in ``adapters``.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapters.llara.config import Adaptation
    from adapters.training import adapt, adaptation, finetune, finetuning, mine
    from llara_eval.core.errors import LlaraEvalError
    from llara_eval.datasets.dataset import Dataset
    from llara_eval.evaluation.evaluate import Outcome
    from llara_eval.evaluation.face import evaluate, load_dataset, open_system, wrap
    from llara_eval.evaluation.outcomes import Outcomes, results
    from llara_eval.reports.compare import Comparison, compare
    from llara_eval.reports.score import Scored, score
    from llara_eval.training.config import Contrast, LoRA, Schedule
    from llara_eval.training.mining import Mining

__version__ = "0.1.0"

__all__ = [
    "Adaptation",
    "Comparison",
    "Contrast",
    "Dataset",
    "LlaraEvalError",
    "LoRA",
    "Mining",
    "Outcome",
    "Outcomes",
    "Schedule",
    "Scored",
    "adapt",
    "adaptation",
    "compare",
    "evaluate",
    "finetune",
    "finetuning",
    "load_dataset",
    "mine",
    "open_system",
    "results",
    "score",
    "wrap",
]

_HOMES = {
    "adapters.llara.config": ("Adaptation",),
    "adapters.training": ("adapt", "adaptation", "finetune", "finetuning", "mine"),
    "llara_eval.core.errors": ("LlaraEvalError",),
    "llara_eval.datasets.dataset": ("Dataset",),
    "llara_eval.evaluation.evaluate": ("Outcome",),
    "llara_eval.evaluation.face": ("evaluate", "load_dataset", "open_system", "wrap"),
    "llara_eval.evaluation.outcomes": ("Outcomes", "results"),
    "llara_eval.reports.compare": ("Comparison", "compare"),
    "llara_eval.reports.score": ("Scored", "score"),
    "llara_eval.training.config": ("Contrast", "LoRA", "Schedule"),
    "llara_eval.training.mining": ("Mining",),
}
"""Module → its names, the same as in the block for type checkers above; a test compares both."""


def __getattr__(name: str) -> Any:
    """Import a name of the package when it is first used (PEP 562)."""
    for module, names in _HOMES.items():
        if name in names:
            if module.startswith("adapters."):
                importlib.import_module("llara_eval.evaluation.suite").require_own_adapters()
            value = getattr(importlib.import_module(module), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted({*globals(), *__all__})
