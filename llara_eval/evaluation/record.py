"""The record of one evaluation, and the folder that holds it with its run and per-query values."""

import hashlib
import logging
import os
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from llara_eval.core.decode import LARGEST, Number, Positive, Share, decode, read_record
from llara_eval.core.errors import DataError
from llara_eval.core.files import slug, write_json, write_text
from llara_eval.core.hashing import add_record
from llara_eval.core.lines import open_bytes, text_lines
from llara_eval.core.types import Qrels, Run, as_ids
from llara_eval.evaluation.shown import Reading, ShownProvenance, ShownSettings
from llara_eval.scoring.cells import as_number
from llara_eval.scoring.measures import Scores
from llara_eval.scoring.trec import read_run, write_run

logger = logging.getLogger(__name__)

SCHEMA = 1
RESULT, PER_QUERY, RUN = "result.json", "per_query.tsv", "run.trec.gz"


class Mean(TypedDict):
    """A mean over all judged queries.

    Attributes:
        mean: The mean.
        low: The lower end of its 95 % confidence interval.
        high: The upper end.
    """

    mean: Number
    low: Number
    high: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The record of one evaluation: its means, and the conditions under which they hold.

    Attributes:
        system: The name of the system.
        dataset: The name of the data set.
        split: The split of its judgements.
        n_queries: The number of judged queries, over which means are taken.
        n_documents: The number of documents that were searched.
        depth: The number of documents that were kept for a query.
        measures: Measure → mean and confidence interval.
        ties_at_10: The share of queries with a tie between ranks 10 and 11.
        settings_passed: The settings that the user gave.
        settings: The settings in effect, and under ``titles`` the number of documents with a title.
        drop_own_ids: Whether the document with a query's own id was left out of its ranking.
        dataset_fingerprint: SHA-256 of documents, queries and judgements.
        qrels_fingerprint: SHA-256 of the judgements.
        dataset_source: Where the data set was downloaded from, with the revision or the checksum; "" if that
            is unknown.
        run_sha256: SHA-256 of the uncompressed text of the run file.
        warnings: Sentences about faults of the data, and about what the system assumed.
        phases: Seconds and counters of each phase.
        provenance: Versions, machine, code, command and memory.
        schema: The version of this record's format.
    """

    system: str
    dataset: str
    split: str
    n_queries: Positive
    n_documents: Positive
    depth: Positive
    measures: dict[str, Mean]
    ties_at_10: Share
    settings_passed: dict[str, Any]
    settings: dict[str, Any]
    drop_own_ids: bool
    dataset_fingerprint: str
    qrels_fingerprint: str
    run_sha256: str
    warnings: list[str]
    phases: dict[str, dict[str, int | float]]
    provenance: dict[str, Any]
    dataset_source: str = ""
    schema: int = SCHEMA

    @property
    def shown_settings(self) -> ShownSettings:
        """The part of the settings that reports show.

        Raises:
            DataError: A setting has another type.
        """
        return decode(self.settings, ShownSettings, f"{self.system} on {self.dataset}, settings")

    @property
    def shown_provenance(self) -> ShownProvenance:
        """The part of the provenance that reports show.

        Raises:
            DataError: The provenance has no date, or a value has another type.
        """
        return decode(self.provenance, ShownProvenance, f"{self.system} on {self.dataset}, provenance")

    @property
    def prompts(self) -> str:
        """The prompts of a dense system and their sources, in a sentence; empty if it has none."""
        settings = self.shown_settings
        sentences = []
        for side, source in settings.prompts_from.items():
            reading: Reading | None = getattr(settings.templates, side)
            if reading and reading.prompt:
                sentences.append(f"{side} prompt {reading.prompt!r} ({source})")
        return ", ".join(sentences)

    @property
    def means(self) -> dict[str, float]:
        """Measure → mean."""
        return {name: value["mean"] for name, value in self.measures.items()}


@dataclass(frozen=True, slots=True)
class _Version:
    """The version of a record's format; other fields are ignored."""

    schema: Any = None


def folder_of(runs_dir: Path, system: str, dataset: str, split: str) -> Path:
    """Return the folder of a result: ``<runs>/<system>/<dataset>``, or ``<dataset>--<split>``."""
    return runs_dir / slug(system) / "--".join(map(slug, [dataset, *split_to_name(dataset, split)]))


def split_to_name(dataset: str, split: str) -> tuple[str, ...]:
    """Return the split if it must be named; it is implied if it is ``test`` or the name ends with it."""
    return () if split == "test" or dataset.endswith(f"/{split}") else (split,)


def qrels_fingerprint(qrels: Qrels) -> str:
    """Return the SHA-256 of judgements in sorted order."""
    content = hashlib.sha256()
    for query_id in sorted(qrels):
        for doc_id, grade in sorted(qrels[query_id].items()):
            add_record(content, (query_id, doc_id, str(grade)))
    return content.hexdigest()


def save_run(folder: Path, run: Run, tag: str) -> str:
    """Write a run, and return the SHA-256 of its uncompressed text."""
    write_run(folder / RUN, run, tag)
    return run_sha256(folder)


def run_sha256(folder: Path) -> str:
    """Return the SHA-256 of a stored run's uncompressed text.

    Raises:
        DataError: The run is missing or damaged.
    """
    try:
        with open_bytes(folder / RUN) as (content, _):
            return hashlib.file_digest(content, "sha256").hexdigest()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{folder / RUN}: cannot be read ({error})") from error


def load_run(folder: Path) -> Run:
    """Read a stored run.

    Raises:
        DataError: The run is missing or malformed.
    """
    return read_run(folder / RUN)


def save_per_query(path: Path, scores: Scores) -> None:
    """Write per-query values as a table: ``query_id`` and one column for each measure, unrounded."""
    columns = [values.tolist() for values in scores.values.values()]
    lines = ["\t".join(["query_id", *scores.values])]
    for query_id, *values in zip(scores.query_ids, *columns, strict=True):
        lines.append("\t".join([query_id, *map(repr, values)]))
    write_text(path, "\n".join(lines) + "\n")


def load_per_query(path: Path) -> Scores:
    """Read a table that :func:`save_per_query` wrote.

    Raises:
        DataError: The file is missing or malformed, or a value is not a number that a measure can have.
    """
    rows = [line.split("\t") for _, line in text_lines(path)]
    header = rows[0] if rows else []
    names = header[1:]
    if header[:1] != ["query_id"] or not names or len(set(names)) < len(names) or len(rows) < 2:
        raise DataError(f"{path}: not a table of per-query values: a header and a line for each query")
    table = np.zeros((len(rows) - 1, len(names)))
    line_of: dict[str, int] = {}
    for number, (query_id, *cells) in enumerate(rows[1:], 2):
        if (first := line_of.setdefault(query_id, number)) != number:
            raise DataError.at(path, number, f"query {query_id!r} is in line {first} already")
        values = np.array([as_number(cell) for cell in cells])
        if len(values) != len(names) or not (np.abs(values) <= LARGEST).all():
            raise DataError.at(
                path, number, f"expected {len(names)} values that a measure can have, found {cells}"
            )
        table[number - 2] = values
    return Scores(as_ids(line_of), {name: table[:, column] for column, name in enumerate(names)})


def is_stored(folder: Path) -> bool:
    """Return whether a folder has a record, or anything in its place: that is damaged, not missing."""
    return os.path.lexists(folder / RESULT)


def is_part_of_result(path: Path) -> bool:
    """Return whether a file is one of those that an evaluation keeps together."""
    return path.name in (RESULT, PER_QUERY, RUN) and is_stored(path.parent)


def replace(new: Path, folder: Path) -> None:
    """Move the files of a new result over those of an earlier one.

    The earlier record is removed first, so that no record ever stands beside the run of another evaluation.
    """
    (folder / RESULT).unlink(missing_ok=True)
    for name in (RUN, PER_QUERY, RESULT):
        (new / name).replace(folder / name)


def save(folder: Path, result: Result) -> None:
    """Write the record of a result, which comes last: a folder with a record is complete."""
    write_json(folder / RESULT, asdict(result))


def load(folder: Path) -> Result:
    """Read a record.

    Raises:
        DataError: The record is missing, malformed, or of another schema; or a value in it has another type
            than declared, or cannot be shown.
    """
    path = folder / RESULT
    schema = read_record(path, _Version).schema
    if schema != SCHEMA:
        raise DataError(f"{path}: schema {schema!r}; this version reads {SCHEMA}")
    result = read_record(path, Result)
    decode(result.settings, ShownSettings, f"{path}, settings")
    decode(result.provenance, ShownProvenance, f"{path}, provenance")
    return result


def on_same_data(runs_dir: Path, results: Iterable[Result]) -> list[Result]:
    """Return the results in a folder of results that are on the same data sets as given ones.

    A result that cannot be read is left out, with a warning.
    """
    fingerprints = {result.dataset: result.dataset_fingerprint for result in results}
    stored, damaged = read_all(runs_dir)
    for error in damaged.values():
        logger.warning("not shown: %s", error)
    return [
        result for result in stored.values() if fingerprints.get(result.dataset) == result.dataset_fingerprint
    ]


def read_all(runs_dir: Path) -> tuple[dict[Path, Result], dict[Path, DataError]]:
    """Read all results in a folder of results, in the order of their paths.

    Returns:
        Folder → its result, and folder → error for each result that cannot be read.
    """
    results: dict[Path, Result] = {}
    damaged: dict[Path, DataError] = {}
    for folder in filter(is_stored, sorted(runs_dir.glob("*/*"))):
        try:
            results[folder] = load(folder)
        except DataError as error:
            damaged[folder] = error
    return results, damaged
