"""Hard negatives for training pairs, from one call: pairs, a system and a corpus to a file and its record."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import adapters
from adapters.objects import PythonSystem, as_retriever
from adapters.options import Context
from adapters.training import Files, cache, files_of
from llara_eval.core import paths
from llara_eval.core.errors import UsageError
from llara_eval.core.files import refuse_inputs, write_json
from llara_eval.core.lines import find_file
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.core.provenance import describe
from llara_eval.datasets.corpus import Corpus
from llara_eval.datasets.folder import splits
from llara_eval.datasets.load import locate
from llara_eval.training import mining
from llara_eval.training.mining import Counts, Mining

if TYPE_CHECKING:
    from llara_eval.training.data import Rows

SELF = "self"
"""The corpus of all positives of the training pairs themselves."""

_NONE: Mapping[str, Any] = MappingProxyType({})


def mine(
    system: str | Path | PythonSystem,
    data: Files,
    corpus: str | Path,
    output: str | Path,
    *,
    settings: Mining | None = None,
    exclude: Iterable[str | Path] = (),
    options: Mapping[str, Any] = _NONE,
    data_dir: str | Path | None = None,
    overwrite: bool = False,
    offline: bool = False,
    progress: Progress = SILENT,
) -> Counts:
    """Find hard negatives for training pairs: documents that a system ranks high and that are not positives.

    Queries judged in a split other than ``train`` of a collection that is among the data, the corpus or the
    excluded ones are left out.

    Args:
        system: What finds the negatives: ``bm25``, a checkpoint, any other name, or a Python object.
        data: Pairs: JSONL files of ``query`` and ``pos``, or folders in BEIR layout (their ``train`` split).
        corpus: Where negatives come from: a data set, a ``corpus.jsonl``, or ``self`` (all positives).
        output: The ``.jsonl`` file to write; its record is beside it.
        settings: How negatives are chosen; None as :class:`llara_eval.training.mining.Mining` usually does.
        exclude: Data sets whose queries must not be trained on.
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
    settings, target, pairs = settings or Mining(), Path(output), files_of(data)
    record = _record_of(target, pairs, overwrite=overwrite)
    folder = paths.data_dir() if data_dir is None else Path(data_dir)
    find = partial(locate, data_dir=folder, offline=offline)
    rows = mining.read_pairs(pairs, cache=cache(), progress=progress)
    source, collection = _corpus(str(corpus), rows, find)
    excluded = [_with_judgements(str(name), find(str(name))) for name in exclude]
    forbidden = mining.judged_queries([*excluded, *collection, *(path for path in pairs if path.is_dir())])
    if isinstance(system, str | Path):
        retriever = adapters.open_system(str(system), options, Context(home=paths.home(), offline=offline))
    else:
        retriever = as_retriever(system)
    counts = mining.mine(
        retriever, rows, source, settings, target, forbidden=forbidden, cache=cache(), progress=progress
    )
    values = {
        "settings": asdict(settings),
        "counts": asdict(counts),
        "system": retriever.name,
        "system_settings": dict(retriever.settings),
        "data": rows.fingerprint,
        "corpus": source.fingerprint,
        "provenance": describe(),
    }
    write_json(record, values)
    return counts


def _record_of(output: Path, data: Sequence[Path], *, overwrite: bool) -> Path:
    """Return the file that says how a file of negatives was mined.

    Raises:
        UsageError: The file has another ending, or something is there that must not be replaced.
    """
    record = output.with_suffix(".json")
    if output.suffix != ".jsonl" or ((output.exists() or record.exists()) and not overwrite):
        raise UsageError(
            f"{output} must end in .jsonl, and neither it nor {record.name} exist (or --overwrite)"
        )
    for written in (output, record):
        refuse_inputs(written, data)
    return record


def _with_judgements(name: str, folder: Path) -> Path:
    """Return the folder of an excluded data set.

    Raises:
        UsageError: It has no judgements, so that nothing would be excluded.
    """
    if not splits(folder):
        raise UsageError(
            f"--exclude {name}: {folder} has no judgements (qrels/*.tsv) whose queries to leave out"
        )
    return folder


def _corpus(name: str, rows: "Rows", find: Callable[[str], Path]) -> tuple[Corpus, list[Path]]:
    """Return the corpus, and the test collection it belongs to, if any."""
    if name == SELF:
        return mining.own_corpus(rows, cache()), []
    path = Path(name).expanduser()
    if path.is_file():
        return Corpus(path), [path.parent]
    folder = find(name)
    return Corpus(find_file(folder, "corpus.jsonl")), [folder]
