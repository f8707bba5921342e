"""BM25 by Lucene, through Pyserini and the Anserini jar inside it.

The settings follow the BEIR regressions of Anserini: Lucene's English analysis, k1 0.9, b 0.4;
*flat* is one field of title and text, *multifield* searches title and contents with weight 1 each
(Kamalloo et al., "Resources for Brewing BEIR", SIGIR 2024, section 3).
"""

import hashlib
import json
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from adapters.java import anserini_jar, find_java, start_jvm
from adapters.options import Context, configure, unnamed
from llara_eval.collection import Corpus
from llara_eval.errors import DataError, LlaraEvalError
from llara_eval.files import atomic_write, write_json
from llara_eval.protocols import SILENT, Progress
from llara_eval.types import Hits, Query, as_ids

logger = logging.getLogger(__name__)

_TIE_MARGIN = 100
"""Documents fetched beyond the depth, so that ties at the cut are ours to break; doubled at need."""

_BATCH = 256
"""Queries handed to Lucene at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bm25Config:
    """Settings of BM25.

    Attributes:
        k1: Saturation of term frequency (Robertson and Zaragoza, "The Probabilistic Relevance
            Framework", 2009, equation 3.15).
        b: Strength of length normalisation, 0 to 1.
        fields: ``flat`` or ``multifield``.
        threads: Threads for indexing and searching.
    """

    k1: float = 0.9
    b: float = 0.4
    fields: Literal["flat", "multifield"] = "flat"
    threads: int = unnamed(os.cpu_count() or 1)


def open_bm25(name: str, base: Mapping[str, Any], given: Mapping[str, Any], context: Context) -> "Bm25":
    """Open BM25 under a name of the table of systems."""
    config, full_name = configure(Bm25Config, base, given, name)
    return Bm25(full_name, config, context.home)


class Bm25:
    """A retriever; see :class:`llara_eval.protocols.Retriever`.

    Args:
        name: The system's name.
        config: Its settings.
        home: The cache folder; indexes live in ``indexes``, each named by the hash of its content.

    Raises:
        MissingPartError: Java or Pyserini is missing.
    """

    def __init__(self, name: str, config: Bm25Config, home: Path) -> None:
        self.name = name
        self.config = config
        self._indexes = home / "indexes"
        self.phases: dict[str, dict[str, float]] = {}
        self._java = find_java()
        self._jar = anserini_jar()
        self._searcher: Any = None
        self._documents = 0

    @property
    def settings(self) -> dict[str, Any]:
        """The settings in effect."""
        return {
            "k1": self.config.k1,
            "b": self.config.b,
            "fields": self.config.fields,
            "toolkit": self._jar.stem.removesuffix("-fatjar"),
            "analyzer": "DefaultEnglishAnalyzer (Porter stemming, Lucene stop words)",
            "runtime": {"threads": self.config.threads, "java": self._java.version},
        }

    def index(self, corpus: Corpus, progress: Progress = SILENT) -> None:
        """Build the Lucene index, or open the one in the cache."""
        key = json.dumps([corpus.fingerprint, self.config.fields, self._jar.name])
        folder = self._indexes / hashlib.sha256(key.encode()).hexdigest()[:32]
        facts = folder / "facts.json"
        if not facts.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            self._build(corpus, folder, progress)
        cost = json.loads(facts.read_text(encoding="utf-8"))
        self.phases["index"] = {"seconds": cost["seconds"], "documents": cost["documents"]}
        self._documents = cost["documents"]
        pyclass = start_jvm()
        self._searcher = pyclass.autoclass("io.anserini.search.SimpleSearcher")(str(folder / "lucene"))
        self._searcher.set_bm25(float(self.config.k1), float(self.config.b))

    def search(self, queries: Sequence[Query], depth: int, progress: Progress = SILENT) -> Hits:
        """Search all queries; a query whose cut falls inside a tie is searched deeper."""
        started = time.perf_counter()
        found: dict[str, tuple[list[str], list[float]]] = {}
        with progress.task(f"search {self.name}", len(queries)) as advance:
            for start in range(0, len(queries), _BATCH):
                batch = queries[start : start + _BATCH]
                pending, count = list(batch), depth + _TIE_MARGIN
                while pending:
                    found.update(self._search(pending, count))
                    pending = [query for query in pending if _cut_in_tie(found.get(query.query_id), count)]
                    count *= 2
                advance(len(batch))
        self.phases["search"] = {"seconds": round(time.perf_counter() - started, 3), "queries": len(queries)}
        return _hits(queries, found)

    def _search(self, queries: Sequence[Query], count: int) -> dict[str, tuple[list[str], list[float]]]:
        pyclass = start_jvm()
        texts, ids = pyclass.JArrayList(), pyclass.JArrayList()
        for query in queries:
            texts.add(pyclass.JString(query.text.encode()))
            ids.add(pyclass.JString(query.query_id.encode()))
        count, threads = min(count, self._documents), self.config.threads
        if self.config.fields == "flat":
            answer = self._searcher.batch_search(texts, ids, count, threads)
        else:
            weights = pyclass.JHashMap()
            for field in ("contents", "title"):
                weights.put(field, pyclass.JFloat(1.0))
            answer = self._searcher.batch_search_fields(texts, ids, count, threads, weights)
        out = {}
        for entry in answer.entrySet().toArray():
            hits = entry.getValue()
            out[entry.getKey()] = ([hit.docid for hit in hits], [hit.score for hit in hits])
        return out

    def _build(self, corpus: Corpus, folder: Path, progress: Progress) -> None:
        """Write the documents as Anserini reads them, index them, and note what it cost."""
        started = time.perf_counter()
        source = folder / "source"
        with progress.task(f"index {self.name}", len(corpus)) as advance:
            with atomic_write(source / "corpus.jsonl") as file:
                for document in corpus:
                    row = {"_id": document.doc_id, "title": document.title, "text": document.text}
                    file.write(json.dumps(row).encode() + b"\n")
                    advance()
            self._run_anserini(source, folder / "lucene")
        shutil.rmtree(source)
        seconds = round(time.perf_counter() - started, 3)
        write_json(folder / "facts.json", {"seconds": seconds, "documents": len(corpus)})

    def _run_anserini(self, source: Path, target: Path) -> None:
        """Run Anserini's indexer in its own process.

        Raises:
            LlaraEvalError: It failed; the message ends with its last words.
        """
        collection = "BeirFlatCollection" if self.config.fields == "flat" else "BeirMultifieldCollection"
        command = [
            str(self._java.home / "bin" / "java"), "-cp", str(self._jar), "io.anserini.index.IndexCollection",
            "-collection", collection, "-generator", "DefaultLuceneDocumentGenerator",
            "-input", str(source), "-index", str(target), "-threads", str(self.config.threads), "-optimize",
        ]  # fmt: skip
        if self.config.fields == "multifield":
            command += ["-fields", "title"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not target.is_dir():
            words = (done.stdout + done.stderr).strip()[-1500:]
            raise LlaraEvalError(f"Anserini could not index (exit {done.returncode}): {words}")


def _cut_in_tie(hits: tuple[list[str], list[float]] | None, count: int) -> bool:
    """Whether Lucene may have left out a document that ties with one inside the wanted depth."""
    if hits is None or len(hits[1]) < count:
        return False
    scores = hits[1]
    return scores[-1] == scores[-min(_TIE_MARGIN, len(scores))]


def _hits(queries: Sequence[Query], found: Mapping[str, tuple[list[str], list[float]]]) -> Hits:
    """Bring Lucene's answers into columns.

    Raises:
        DataError: Lucene answered a query nobody asked (an identifier was garbled on the way).
    """
    strange = set(found) - {query.query_id for query in queries}
    if strange:
        raise DataError(f"Lucene answered queries that were not asked: {sorted(strange)[:3]}")
    table: dict[str, int] = {}
    query_rows, doc_rows, scores = [], [], []
    for row, query in enumerate(queries):
        ids, values = found.get(query.query_id, ([], []))
        query_rows += [row] * len(ids)
        doc_rows += [table.setdefault(doc_id, len(table)) for doc_id in ids]
        scores += values
    return Hits(
        as_ids(query.query_id for query in queries),
        as_ids(table),
        np.array(query_rows, dtype=np.int64),
        np.array(doc_rows, dtype=np.int64),
        np.array(scores, dtype=np.float32),
    )
