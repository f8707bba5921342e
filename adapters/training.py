"""Training from Python: adapt, mine and fine-tune, and the settings of their recipes."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

import adapters
from adapters.objects import PythonSystem, as_retriever
from adapters.options import Context, override
from llara_eval.core import paths
from llara_eval.core.errors import UsageError
from llara_eval.core.existing import OnExistingRun
from llara_eval.core.paths import user_path
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.datasets.dataset import Dataset
from llara_eval.encoding.prompt_sets import OWN_PROMPTS, PromptOptions
from llara_eval.training.config import Conditions, Contrast, Schedule

if TYPE_CHECKING:
    from adapters.llara.config import Adaptation
    from llara_eval.training.mining import Counts, Mining

_NONE: Mapping[str, Any] = MappingProxyType({})

Recipe = TypeVar("Recipe")
Task = TypeVar("Task")
Files = str | Path | Sequence[str | Path]


class RunOptions(TypedDict, total=False):
    """The conditions of a training run.

    The options are the attributes of :class:`llara_eval.training.config.Conditions`, which has the defaults.
    """

    micro_tokens: int
    dtype: str | None
    gradient_checkpointing: bool
    compiled: bool
    merge: bool
    save_minutes: float
    evaluate_every: int
    validate_on: Dataset | None
    on_existing: OnExistingRun
    offline: bool
    trust_remote_code: bool
    progress: Progress


def adaptation(recipe: str = "llara") -> "tuple[Adaptation, Schedule]":
    """Return the task and the schedule of a recipe of :func:`adapt`.

    The recipes are ``llara``, ``llara-released`` (as the released code computes) and ``llara-paper``.

    Both are frozen dataclasses; :func:`dataclasses.replace` changes a setting.

    Raises:
        UsageError: No recipe has this name.
    """
    from adapters.llara.recipes import ADAPTATIONS

    return _recipe_of(ADAPTATIONS, recipe)()


def finetuning(recipe: str = "llara") -> tuple[Contrast, Schedule]:
    """Return the objective and the schedule of a recipe of :func:`finetune`.

    The recipes are ``llara`` and ``repllama``, and as they were released ``llara-released`` and
    ``repllama-v1``.

    Both are frozen dataclasses; :func:`dataclasses.replace` changes a setting.

    Raises:
        UsageError: No recipe has this name.
    """
    from adapters.finetune import RECIPES

    return _recipe_of(RECIPES, recipe).settings()


def with_options(task: Task, schedule: Schedule, options: Mapping[str, Any]) -> tuple[Task, Schedule]:
    """Return the settings of a recipe with some of them replaced.

    ``lora=false`` trains every parameter. ``lora=true`` trains a LoRA adapter, and so does any of
    ``lora_rank``, ``lora_alpha``, ``lora_dropout`` and ``lora_targets``.

    Args:
        task: The recipe's task or objective, a dataclass.
        schedule: The recipe's schedule.
        options: Settings by name; text is converted, as it comes from ``--option KEY=VALUE``.

    Raises:
        UsageError: A setting is unknown or contradicts another, or its value cannot be converted.
    """
    from adapters.llara.recipes import contrastive

    remaining = dict(options)
    if "epochs" in remaining:
        if "steps" in remaining:
            raise UsageError("steps and epochs both set the length of the training: give one of them")
        schedule = replace(schedule, steps=None)
    if "prompts" in remaining and hasattr(task, "prompts"):
        raise UsageError("option prompts: they are read from a file, use --prompts")
    lora = schedule.lora or contrastive()[1].lora
    use_lora = remaining.pop("lora", None)
    lora_options = {
        key.removeprefix("lora_"): remaining.pop(key) for key in options if key.startswith("lora_")
    }
    task, schedule = override(task, remaining), override(schedule, remaining)
    if use_lora not in (None, "true", "false"):
        raise UsageError(f"option lora={use_lora}: expected true or false")
    if use_lora == "false":
        if lora_options:
            raise UsageError(
                f"option lora=false contradicts lora_{next(iter(lora_options))}, which needs LoRA"
            )
        schedule = replace(schedule, lora=None)
    elif use_lora == "true" or lora_options:
        schedule = replace(schedule, lora=override(lora, lora_options))
    unknown = [*remaining, *(f"lora_{key}" for key in lora_options)]
    if unknown:
        settings = [item.name for part in (task, schedule) for item in fields(part)]  # type: ignore[arg-type]
        names = ", ".join(name for name in settings if name != "prompts")
        raise UsageError(f"this recipe has no option {unknown[0]!r}; it has {names}, lora_rank, …")
    return task, schedule


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
    **conditions: Unpack[RunOptions],
) -> Path:
    """Adapt a causal language model to embed texts (EBAE and EBAR in one pass), as ``llara-eval adapt`` does.

    The same call continues a run that was interrupted.

    Args:
        model: The base model; see :class:`adapters.llara.adapt.AdaptationRun` for this and what follows.
        data: Files of adaptation rows, or of text to make them from.
        output: The folder of the new checkpoint.
        recipe: The recipe that task and schedule are taken from where they are not given.
        task: The task that the model learns, see :func:`adaptation`.
        schedule: The settings of the optimizer steps.
        chunk_words: Words of a chunk, roughly, where rows are made from text.
        held_out: Rows at the end of the data on which recall is measured.
        conditions: The conditions of the run, see :class:`RunOptions`.

    Returns:
        The folder of the checkpoint.

    Raises:
        LlaraEvalError: The recipe, the data or the model cannot be used, or the output holds another run.
    """
    from adapters.llara.adapt import AdaptationRun

    usual_task, usual_schedule = adaptation(recipe)
    return AdaptationRun(
        model,
        _paths(data),
        task or usual_task,
        schedule or usual_schedule,
        Conditions(output=user_path(output), **conditions),
        chunk_words=chunk_words,
        held_out=held_out,
    ).run()


def finetune(
    model: str | Path,
    data: Files,
    output: str | Path,
    *,
    recipe: str = "llara",
    contrast: Contrast | None = None,
    schedule: Schedule | None = None,
    prompts: PromptOptions = OWN_PROMPTS,
    **conditions: Unpack[RunOptions],
) -> Path:
    """Fine-tune a checkpoint with contrastive learning over hard negatives, as ``llara-eval finetune`` does.

    The same call continues a run that was interrupted.

    Args:
        model: The checkpoint; see :class:`adapters.finetune.FinetuningRun` for this and what follows.
        data: Files of training groups.
        output: The folder of the new checkpoint.
        recipe: The recipe of the templates, and of objective and schedule where they are not given.
        contrast: The objective's settings, see :func:`finetuning`.
        schedule: The settings of the optimizer steps.
        prompts: The prompts, by default those of the checkpoint or of the recipe.
        conditions: The conditions of the run, see :class:`RunOptions`.

    Returns:
        The folder of the checkpoint.

    Raises:
        LlaraEvalError: The recipe, the data or the model cannot be used, or the output holds another run.
    """
    from adapters.finetune import RECIPES, FinetuningRun

    usual_contrast, usual_schedule = finetuning(recipe)
    return FinetuningRun(
        model,
        _paths(data),
        contrast or usual_contrast,
        schedule or usual_schedule,
        Conditions(output=user_path(output), **conditions),
        RECIPES[recipe],
        prompts,
    ).run()


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
        system: The system that finds the negatives: ``bm25``, a checkpoint, any other name, or a Python
            object.
        data: Pairs, see :func:`llara_eval.training.mining.mine` for this and what follows.
        corpus: The source of the negatives: a data set, a ``corpus.jsonl``, or ``self`` (all positives).
        output: The ``.jsonl`` file to write; a record of how it was made is written beside it.
        settings: The settings by which negatives are chosen; None takes the defaults of :class:`Mining`.
        exclude: Data sets whose queries must not be trained on, beside those of the corpus and the data.
        options: Settings of the system, if it is named.
        data_dir: The folder of named data sets; None takes the usual one.
        overwrite: Whether an earlier output may be replaced.
        offline: Whether downloads are forbidden.
        progress: The display of progress.

    Returns:
        Counts of the rows, and of the documents that were ranked for them.

    Raises:
        UsageError: The output cannot be written, or an excluded data set has no judgements.
        DataError: A file is malformed, or a data set is missing.
    """
    from llara_eval.training import mining

    if isinstance(system, str | Path):
        context = Context(home=paths.home(), offline=offline)
        retriever = adapters.open_system(str(system), options, context)
    else:
        retriever = as_retriever(system)
    return mining.mine(
        retriever,
        _paths(data),
        corpus,
        settings or mining.Mining(),
        user_path(output),
        exclude=exclude,
        data_dir=None if data_dir is None else user_path(data_dir),
        offline=offline,
        overwrite=overwrite,
        progress=progress,
    )


def _recipe_of(recipes: Mapping[str, Recipe], name: str) -> Recipe:
    if name not in recipes:
        raise UsageError(f"recipe {name!r} is not one of {', '.join(recipes)}")
    return recipes[name]


def _paths(data: Files) -> list[Path]:
    """Return one or several files as a list of paths."""
    return [user_path(file) for file in ([data] if isinstance(data, str | Path) else data)]
