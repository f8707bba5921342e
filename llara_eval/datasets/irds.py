"""Data sets of ir_datasets by their id: written once as a folder in BEIR layout, and read like any other.

Source: MacAvaney et al., "Simplified Data Wrangling with ir_datasets", SIGIR 2021.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from llara_eval.core.errors import DataError
from llara_eval.core.files import slug, write_text
from llara_eval.core.folders import atomic_folder
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.datasets.download import write_manifest

logger = logging.getLogger(__name__)

PREFIX = "irds:"
"""Begins the id of a data set of ir_datasets: ``irds:beir/scifact/test``."""


def fetch(name: str, data_dir: Path, *, offline: bool, progress: Progress = SILENT) -> Path:
    """Return the folder of a data set, which ir_datasets downloads if need be; its judgements are ``test``.

    Args:
        name: The id with its prefix.
        data_dir: The folder of data sets.
        offline: Whether the network must not be used.
        progress: Where to show progress.

    Raises:
        DataError: There is no such id, it has no documents, queries or judgements, or ir_datasets fails.
    """
    identifier = name.removeprefix(PREFIX)
    folder = data_dir / "irds" / slug(identifier)
    if folder.is_dir():
        return folder
    if offline:
        raise DataError(f"{name} is not in {folder.parent}, and the network must not be used")
    import ir_datasets

    try:
        source = ir_datasets.load(identifier)
    except KeyError as error:
        raise DataError(f"ir_datasets has no {identifier!r}; see https://ir-datasets.com") from error
    lacks = [part for part in ("docs", "queries", "qrels") if not getattr(source, f"has_{part}")()]
    if lacks:
        raise DataError(
            f"{name} has no {' and no '.join(lacks)}; name one with judgements, such as {name}/test"
        )
    logger.info(
        "%s: terms of use and origin are at https://ir-datasets.com/%s", name, identifier.split("/")[0]
    )
    try:
        with atomic_folder(folder) as draft:
            with progress.task(f"copy {identifier}", _count(source)) as advance:
                _write(draft / "corpus.jsonl", _documents(source, advance))
            _write(
                draft / "queries.jsonl",
                ({"_id": q.query_id, "text": q.default_text()} for q in source.queries),
            )
            (draft / "qrels").mkdir()
            rows = "".join(f"{qrel.query_id}\t0\t{qrel.doc_id}\t{qrel.relevance}\n" for qrel in source.qrels)
            write_text(draft / "qrels" / "test.tsv", rows)
            write_manifest(draft, url=f"{name} (ir_datasets {ir_datasets.__version__})", md5="")
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{name}: ir_datasets failed ({error}); the same command tries again") from error
    return folder


def _count(source: Any) -> int | None:
    """Return the number of documents as ir_datasets states it, or None."""
    count = (source.docs_metadata() or {}).get("count")
    return count if isinstance(count, int) else None


def _documents(source: Any, advance: Callable[[], object]) -> Iterator[dict[str, str]]:
    """Yield title and text of each document; one of other fields has the text that ir_datasets names."""
    titled = {"title", "text"} <= set(source.docs_cls()._fields)
    for document in source.docs_iter():
        advance()
        yield {
            "_id": document.doc_id,
            "title": document.title if titled else "",
            "text": document.text if titled else document.default_text(),
        }


def _write(path: Path, rows: Iterable[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
