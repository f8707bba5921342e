"""What Python calls to train: adapt, mine and fine-tune, with the recipes as objects."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

import adapters
from adapters.objects import PythonSystem, as_retriever
from adapters.options import Context
from llara_eval.core import paths
from llara_eval.core.errors import UsageError
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.datasets.dataset import Dataset
from llara_eval.training.config import Contrast, Schedule

if TYPE_CHECKING:
    from adapters.llara.config import Adaptation
    from llara_eval.training.job import Conditions
    from llara_eval.training.mining import Counts, Mining
    from llara_eval.training.validation import Validate

_NONE: Mapping[str, Any] = MappingProxyType({})

Recipe = TypeVar("Recipe")
Files = str | Path | Sequence[str | Path]


class RunOptions(TypedDict, total=False):
    """How a training run is carried out; what is left out is as usual.

    See :class:`llara_eval.training.job.Conditions`, whose attributes these are.
    """

    micro_tokens: int
    dtype: str | None
    gradient_checkpointing: bool
    compiled: bool
    merge: bool
    save_minutes: float
    evaluate_every: int
    on_existing: str


def adaptation(recipe: str = "llara") -> "tuple[Adaptation, Schedule]":
    """Return the task and the schedule of a recipe of :func:`adapt`: ``llara`` or ``llara-paper``.

    Both are frozen dataclasses; :func:`dataclasses.replace` changes a setting.

    Raises:
        UsageError: There is no such recipe.
    """
    from adapters.llara.recipes import ADAPTATIONS

    return _chosen(ADAPTATIONS, recipe)()


def finetuning(recipe: str = "llara") -> tuple[Contrast, Schedule]:
    """Return the objective and the schedule of a recipe of :func:`finetune`: ``llara`` or ``repllama``.

    Both are frozen dataclasses; :func:`dataclasses.replace` changes a setting.

    Raises:
        UsageError: There is no such recipe.
    """
    from adapters.finetune import RECIPES

    return _chosen(RECIPES, recipe).settings()


def adapt(
    model: str | Path,
    data: Files,
    output: str | Path,
    *,
    recipe: str = "llara",
    task: "Adaptation | None" = None,
    schedule: Schedule | None = None,
    chunk_words: int = 500,
    held_out: int = 0,
    validate_on: Dataset | None = None,
    offline: bool = False,
    progress: Progress = SILENT,
    **conditions: Unpack[RunOptions],
) -> Path:
    """Adapt a causal language model to embed texts (EBAE and EBAR in one pass), as ``llara-eval adapt`` does.

    Args:
        model: The base model: a folder, a GGUF file, a hub name, or a dense system's name.
        data: JSONL files of adaptation rows, or text to make them from (``.txt``, or JSONL with ``text``).
        output: The folder of the new checkpoint. The same call goes on with a run that was interrupted.
        recipe: Where task and schedule come from if they are not given.
        task: What the model is adapted to, see :func:`adaptation`. That of a recipe is cut to the tokens
            that the model can read.
        schedule: How parameters are updated.
        chunk_words: Words of a text made from plain text.
        held_out: Rows at the end of the data on which recall is measured.
        validate_on: Measure nDCG@10 on this data set now and then.
        offline: Never use the network.
        progress: Where to show progress.
        conditions: How the run is carried out.

    Returns:
        The folder of the checkpoint.

    Raises:
        LlaraEvalError: The recipe, the data or the model cannot be used, or the output holds another run.
    """
    from adapters.llara.adapt import adapt as run

    usual_task, usual_schedule = adaptation(recipe)
    return run(
        model,
        _files(data),
        task or usual_task,
        schedule or usual_schedule,
        _conditions(output, conditions),
        chunk_words=chunk_words,
        held_out=held_out,
        validate=_validation(validate_on),
        offline=offline,
        progress=progress,
    )


def finetune(
    model: str | Path,
    data: Files,
    output: str | Path,
    *,
    recipe: str = "llara",
    contrast: Contrast | None = None,
    schedule: Schedule | None = None,
    validate_on: Dataset | None = None,
    offline: bool = False,
    progress: Progress = SILENT,
    **conditions: Unpack[RunOptions],
) -> Path:
    """Fine-tune a checkpoint with contrastive learning over hard negatives, as ``llara-eval finetune`` does.

    Args:
        model: The checkpoint: a folder, a GGUF file, a hub name, or a dense system's name.
        data: JSONL files of ``query``, ``pos`` and, where there are any, ``neg``.
        output: The folder of the new checkpoint. The same call goes on with a run that was interrupted.
        recipe: Where the templates come from, and objective and schedule if they are not given.
        contrast: The objective, see :func:`finetuning`.
        schedule: How parameters are updated.
        validate_on: Measure nDCG@10 on this data set now and then.
        offline: Never use the network.
        progress: Where to show progress.
        conditions: How the run is carried out.

    Returns:
        The folder of the checkpoint.

    Raises:
        LlaraEvalError: The recipe, the data or the model cannot be used, or the output holds another run.
    """
    from adapters.finetune import RECIPES
    from adapters.finetune import finetune as run

    usual_contrast, usual_schedule = finetuning(recipe)
    return run(
        model,
        _files(data),
        contrast or usual_contrast,
        schedule or usual_schedule,
        _conditions(output, conditions),
        recipe=RECIPES[recipe],
        validate=_validation(validate_on),
        offline=offline,
        progress=progress,
    )


def mine(
    system: str | Path | PythonSystem,
    data: Files,
    corpus: str | Path,
    output: str | Path,
    *,
    settings: "Mining | None" = None,
    exclude: Sequence[str | Path] = (),
    options: Mapping[str, Any] = _NONE,
    data_dir: str | Path | None = None,
    overwrite: bool = False,
    offline: bool = False,
    progress: Progress = SILENT,
) -> "Counts":
    """Write training pairs with hard negatives, as ``llara-eval mine`` does.

    Args:
        system: What finds the negatives: ``bm25``, a checkpoint, any other name, or a Python object.
        data: Pairs: JSONL files of ``query`` and ``pos``, or folders in BEIR layout (their training split).
        corpus: Where negatives come from: a data set, a ``corpus.jsonl``, or ``self`` (all positives).
        output: The ``.jsonl`` file to write; its record is beside it.
        settings: How negatives are chosen; None as :class:`llara_eval.training.mining.Mining` usually does.
        exclude: Data sets whose queries must not be trained on, beside those of the corpus and the data.
        options: Settings of the system, if it is named.
        data_dir: Where named data sets are; None: the usual folder.
        overwrite: Replace an earlier file.
        offline: Never use the network.
        progress: Where to show progress.

    Returns:
        What became of rows and documents.

    Raises:
        UsageError: The output cannot be written, or an excluded data set has no judgements.
        DataError: A file is malformed, or a data set is not at hand.
    """
    from llara_eval.training import mining

    if isinstance(system, str | Path):
        context = Context(home=paths.home(), offline=offline)
        retriever = adapters.open_system(str(system), options, context)
    else:
        retriever = as_retriever(system)
    return mining.mine(
        retriever,
        _files(data),
        corpus,
        settings or mining.Mining(),
        Path(output),
        exclude=exclude,
        data_dir=None if data_dir is None else Path(data_dir),
        offline=offline,
        overwrite=overwrite,
        progress=progress,
    )


def _chosen(recipes: Mapping[str, Recipe], name: str) -> Recipe:
    """Return the recipe of a name.

    Raises:
        UsageError: There is none.
    """
    if name not in recipes:
        raise UsageError(f"recipe {name!r} is not one of {', '.join(recipes)}")
    return recipes[name]


def _files(data: Files) -> list[Path]:
    """Return one or several files as a list of paths."""
    items = [data] if isinstance(data, str | Path) else data
    return [Path(item).expanduser() for item in items]


def _conditions(output: str | Path, given: RunOptions) -> "Conditions":
    """Return how a run is carried out: as asked for, else as is usual on this machine."""
    from llara_eval.training.job import Conditions, usual_micro_tokens

    values: dict[str, Any] = {"micro_tokens": usual_micro_tokens(), **given}
    return Conditions(output=Path(output), **values)


def _validation(dataset: Dataset | None) -> "Validate | None":
    """Return what measures nDCG@10 on a data set."""
    if dataset is None:
        return None
    from llara_eval.training.validation import ndcg_at_10

    return partial(ndcg_at_10, dataset)
