"""The record of one evaluation, and the folder that holds it with its run and per-query values."""

import gzip
import hashlib
import logging
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from llara_eval.core.decode import decode, read_record
from llara_eval.core.errors import DataError
from llara_eval.core.files import slug, write_json, write_text
from llara_eval.core.types import Qrels, Run, as_ids
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

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was measured, and everything needed to trust it.

    Attributes:
        schema: Version of this record's form.
        system: The system's name.
        dataset: The data set's name.
        split: Its split.
        n_queries: Judged queries, over which means are taken.
        n_documents: Documents searched.
        depth: Documents kept for a query.
        measures: measure → mean and confidence interval.
        ties_at_10: Share of queries with a tie straddling rank 10.
        settings_passed: The settings the user gave.
        settings: The settings in effect.
        drop_own_ids: Whether a query's own id was left out of its ranking.
        dataset_fingerprint: SHA-256 over documents, queries and judgements.
        qrels_fingerprint: SHA-256 over the judgements.
        run_sha256: SHA-256 of the run file's text (uncompressed).
        warnings: What was noticed about the data.
        phases: Seconds and counters of each phase.
        provenance: Versions, machine, code, command, memory.
    """

    system: str
    dataset: str
    split: str
    n_queries: int
    n_documents: int
    depth: int
    measures: dict[str, Mean]
    ties_at_10: float
    settings_passed: dict[str, Any]
    settings: dict[str, Any]
    drop_own_ids: bool
    dataset_fingerprint: str
    qrels_fingerprint: str
    run_sha256: str
    warnings: list[str]
    phases: dict[str, dict[str, int | float]]
    provenance: dict[str, Any]
    schema: int = SCHEMA

    @property
    def means(self) -> dict[str, float]:
        """Measure → mean."""
        return {name: value["mean"] for name, value in self.measures.items()}


@dataclass(frozen=True, slots=True)
class _Version:
    """What tells whether a file is a result of this version; other fields are not looked at."""

    schema: Any = None


@dataclass(frozen=True, slots=True)
class _Provenance:
    """What is read of a result's provenance."""

    date: str
    git: dict[str, Any] | None = None


def folder_of(runs_dir: Path, system: str, dataset: str, split: str) -> Path:
    """Return where a result lives: ``<runs>/<system>/<dataset>``, with the split if that must be said."""
    return runs_dir / slug(system) / "--".join(map(slug, [dataset, *split_to_name(dataset, split)]))


def split_to_name(dataset: str, split: str) -> tuple[str, ...]:
    """Return the split where a data set's name does not imply it: ``test``, and what the name ends with."""
    return () if split == "test" or dataset.endswith(f"/{split}") else (split,)


def qrels_fingerprint(qrels: Qrels) -> str:
    """Return a SHA-256 over judgements, whatever their order."""
    rows = (
        f"{query}\x1f{doc}\x1f{grade}\x1e" for query, docs in qrels.items() for doc, grade in docs.items()
    )
    return hashlib.sha256("".join(sorted(rows)).encode()).hexdigest()


def save_run(folder: Path, run: Run, tag: str) -> str:
    """Write the run and return the SHA-256 of its text."""
    write_run(folder / RUN, run, tag)
    return run_sha256(folder)


def run_sha256(folder: Path) -> str:
    """Return the SHA-256 of a stored run's uncompressed text.

    Raises:
        DataError: The run is missing or damaged.
    """
    try:
        with gzip.open(folder / RUN, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{folder / RUN}: cannot be read ({error})") from error


def load_run(folder: Path) -> Run:
    """Read a stored run back."""
    return read_run(folder / RUN)


def save_per_query(path: Path, scores: Scores) -> None:
    """Write per-query values as a table: ``query_id`` and one column a measure, nothing rounded."""
    names = list(scores.values)
    columns = [scores.values[name].tolist() for name in names]
    rows = ["\t".join(["query_id", *names])]
    for query_id, *values in zip(scores.query_ids, *columns, strict=True):
        rows.append("\t".join([query_id, *map(repr, values)]))
    write_text(path, "\n".join(rows) + "\n")


def load_per_query(path: Path) -> Scores:
    """Read what :func:`save_per_query` wrote.

    Raises:
        DataError: The file is missing or malformed, or a value is not finite.
    """
    try:
        header, *rows = path.read_text(encoding="utf-8").splitlines()
        names = header.split("\t")[1:]
        cells = [row.split("\t") for row in rows]
        table = np.array([[float(cell) for cell in row[1:]] for row in cells]).reshape(len(cells), len(names))
        if not np.isfinite(table).all():
            row = int(np.argwhere(~np.isfinite(table))[0, 0])
            raise ValueError(f"line {row + 2} has a value that is not finite")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a table of per-query values ({error})") from error
    columns = {name: table[:, column] for column, name in enumerate(names)}
    return Scores(query_ids=as_ids(row[0] for row in cells), values=columns)


def put(place: Path, folder: Path) -> None:
    """Put a whole result where another may be, whose record goes first: none stands beside another's run."""
    (folder / RESULT).unlink(missing_ok=True)
    for name in (RUN, PER_QUERY, RESULT):
        (place / name).replace(folder / name)


def save(folder: Path, result: Result) -> None:
    """Write the record; it comes last, so that a folder with a record is complete."""
    write_json(folder / RESULT, asdict(result))


def load(folder: Path) -> Result:
    """Read a record.

    Raises:
        DataError: The record is missing, malformed, or of another schema.
    """
    path = folder / RESULT
    schema = read_record(path, _Version).schema
    if schema != SCHEMA:
        raise DataError(f"{path}: schema {schema!r}; this version reads {SCHEMA}")
    result = read_record(path, Result)
    decode(result.provenance, _Provenance, f"{path}, provenance")
    return result


def beside(runs_dir: Path, results: Iterable[Result]) -> list[Result]:
    """Return results below a folder on the very data of some others; what is unreadable is passed over."""
    data = {result.dataset: result.dataset_fingerprint for result in results}
    found = []
    for path in sorted(runs_dir.glob(f"*/*/{RESULT}")):
        try:
            result = load(path.parent)
        except DataError as error:
            logger.warning("not shown: %s", error)
            continue
        if data.get(result.dataset) == result.dataset_fingerprint:
            found.append(result)
    return found


def walk(runs_dir: Path) -> Iterator[tuple[Path, Result]]:
    """Yield (folder, result) of all results below a folder, in the order of their paths."""
    for path in sorted(runs_dir.glob(f"*/*/{RESULT}")):
        yield path.parent, load(path.parent)
