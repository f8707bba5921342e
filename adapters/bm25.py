"""BM25 by Lucene, through the Anserini jar inside Pyserini.

The settings follow the BEIR regressions of Anserini: Lucene's English analysis, k1 0.9, b 0.4;
*flat* is one field of title and text, *multifield* searches title and contents with weight 1 each
(Kamalloo et al., "Resources for Brewing BEIR", SIGIR 2024, section 3).

The order of tied documents is Anserini's, since the published values were made with it. Anserini sorts by
score, then by ascending document id, rounds the scores to four decimals, and lowers tied ones by a millionth
each. Its run is then read as trec_eval reads it: in float32, where scores above 16 may stay tied, and ties go
to the larger id. The scores that Lucene computed are looked up too, since only they tell what is a tie.
"""

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from adapters.anserini import anserini_jar, find_java, run_anserini
from adapters.options import Context, configure, unnamed
from llara_eval.core.errors import DataError, UsageError
from llara_eval.core.files import atomic_write, write_json, write_text
from llara_eval.core.folders import atomic_folder
from llara_eval.core.leases import Leases
from llara_eval.core.protocols import SILENT, Corpus, Progress
from llara_eval.core.sealed import is_whole, seal_folder
from llara_eval.core.types import Hits, Query, as_ids

_UNTOUCHED = 12
"""Ranks whose scores are looked up as Lucene computed them: for ties@10, where a query may find itself."""

_BATCH = 1_000
"""Queries of one Java process."""

_RENEW_EVERY = 10_000
"""Documents written between two renewals of the lease."""

_MOST_TERMS = 1_024
"""Lucene's ``IndexSearcher.maxClauseCount``, which Anserini does not change."""

_FORMAT = 2
"""Version of the layout of an index folder; each version has folders of its own."""

_COLLECTIONS = {"flat": "BeirFlatCollection", "multifield": "BeirMultifieldCollection"}


ENGLISH = "en"

ANALYZERS: Mapping[str, str] = MappingProxyType(
    {
        **{ENGLISH: "DefaultEnglishAnalyzer (Porter stemming, Lucene stop words)"},
        **{"ar": "ArabicAnalyzer", "bn": "BengaliAnalyzer", "da": "DanishAnalyzer", "de": "GermanAnalyzer"},
        **{"es": "SpanishAnalyzer", "fa": "PersianAnalyzer", "fi": "FinnishAnalyzer", "fr": "FrenchAnalyzer"},
        **{"hi": "HindiAnalyzer", "hu": "HungarianAnalyzer", "id": "IndonesianAnalyzer"},
        **{"it": "ItalianAnalyzer", "ja": "JapaneseAnalyzer", "ko": "CJKAnalyzer", "nl": "DutchAnalyzer"},
        **{"no": "NorwegianAnalyzer", "pl": "MorfologikAnalyzer", "pt": "PortugueseAnalyzer"},
        **{"ru": "RussianAnalyzer", "sv": "SwedishAnalyzer", "te": "TeluguAnalyzer", "th": "ThaiAnalyzer"},
        **{"tr": "TurkishAnalyzer", "uk": "UkrainianMorfologikAnalyzer", "zh": "CJKAnalyzer"},
    }
)
"""Language → the analyzer of Lucene that Anserini takes (its ``AnalyzerMap``).

Anserini analyses texts of any other language as English without a word.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bm25Config:
    """Options of BM25.

    Attributes:
        k1: Saturation of term frequency (Robertson and Zaragoza, "The Probabilistic Relevance
            Framework", 2009, equation 3.15).
        b: Strength of length normalisation, 0 to 1.
        fields: ``flat`` for title and text in one field, ``multifield`` for two fields.
        language: The language of documents and queries, one of :data:`ANALYZERS`.
        threads: Threads for indexing and searching.
    """

    k1: float = 0.9
    b: float = 0.4
    fields: Literal["flat", "multifield"] = "flat"
    language: str = ENGLISH
    threads: int = unnamed(os.cpu_count() or 1)

    def __post_init__(self) -> None:
        """Refuse values for which BM25 is not defined.

        Raises:
            UsageError: A value is out of range, or there is no analyzer for the language.
        """
        if self.language not in ANALYZERS:
            raise UsageError(
                f"there is no analyzer for the language {self.language!r}; there are: {', '.join(ANALYZERS)}"
            )
        if not (0 <= self.k1 < math.inf and 0 <= self.b <= 1 and self.threads >= 1):
            raise UsageError(
                "BM25 takes a k1 of 0 or more, b from 0 to 1 and at least one thread, found "
                f"k1={self.k1}, b={self.b}, threads={self.threads}"
            )


def open_bm25(name: str, base: Mapping[str, Any], options: Mapping[str, Any], context: Context) -> "Bm25":
    """Open BM25 under a name of the table of systems."""
    config, full_name = configure(Bm25Config, base, options, name)
    return Bm25(full_name, config, context.home)


class Bm25:
    """A retriever; see :class:`llara_eval.core.protocols.Retriever`.

    Args:
        name: The system's name.
        config: The options.
        home: The folder for caches; indexes are kept in ``indexes``, each named by the hash of its content.

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
        self._folder: Path | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The settings in effect."""
        return {
            "k1": self.config.k1,
            "b": self.config.b,
            "fields": self.config.fields,
            "toolkit": self._jar.stem.removesuffix("-fatjar"),
            "analyzer": ANALYZERS[self.config.language],
            "runtime": {"threads": self.config.threads, "java": self._java.version},
        }

    @property
    def _language(self) -> list[str]:
        """Anserini's option for the language, which indexing and searching must have alike."""
        return [] if self.config.language == ENGLISH else ["-language", self.config.language]

    def index(self, corpus: Corpus, progress: Progress = SILENT) -> None:
        """Build the Lucene index unless the cache has it; only one process at a time builds it."""
        config = self.config
        key = json.dumps([_FORMAT, corpus.fingerprint, config.fields, config.language, self._jar.name])
        folder = self._indexes / hashlib.sha256(key.encode()).hexdigest()[:32]
        if not is_whole(folder):
            leases = Leases(self._indexes)
            with leases.hold(folder.name, wait=True):
                if not is_whole(folder):
                    shutil.rmtree(folder, ignore_errors=True)  # a damaged one
                    with atomic_folder(folder) as unfinished:
                        self._fill(corpus, unfinished, progress, partial(leases.renew, folder.name))
                        seal_folder(unfinished)
        self.phases["index"] = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        self._folder = folder

    def search(self, queries: Sequence[Query], depth: int, progress: Progress = SILENT) -> Hits:
        """Search all queries, with the order and the scores that Anserini writes."""
        if self._folder is None:
            raise RuntimeError("index() comes before search()")
        started = time.perf_counter()
        doc_index: dict[str, int] = {}
        query, doc = array("q"), array("q")
        score, untouched = array("f"), array("f")
        with progress.task(f"search {self.name}", len(queries)) as advance:
            for start in range(0, len(queries), _BATCH):
                batch = range(start, min(start + _BATCH, len(queries)))
                searched = {row: queries[row] for row in batch if queries[row].text.strip()}
                ranked = self._search(searched, depth)
                computed = self._search(searched, min(depth, _UNTOUCHED), "-arbitraryScoreTieBreak")
                for row, hits in ranked.items():
                    query.extend([row] * len(hits))
                    doc.extend(doc_index.setdefault(doc_id, len(doc_index)) for doc_id, _ in hits)
                    score.extend(value for _, value in hits)
                    top = [value for _, value in computed[row]]
                    untouched.extend(top + [math.nan] * (len(hits) - len(top)))
                advance(len(batch))
        self.phases["search"] = {"seconds": round(time.perf_counter() - started, 3), "queries": len(queries)}
        return Hits(
            query_ids=as_ids(query.query_id for query in queries),
            doc_ids=as_ids(doc_index),
            query=np.array(query, np.int64),
            doc=np.array(doc, np.int64),
            score=np.array(score, np.float32),
            untouched=np.array(untouched, np.float32),
        )

    def _search(
        self, queries: Mapping[int, Query], hits: int, *options: str
    ) -> dict[int, list[tuple[str, float]]]:
        """Search queries, given by row number, and return row number → (document id, score), best first."""
        if not queries:
            return {}
        with tempfile.TemporaryDirectory() as scratch:
            topics, output = Path(scratch) / "topics.tsv", Path(scratch) / "run.txt"
            texts = {row: " ".join(query.text.split()) for row, query in queries.items()}
            write_text(topics, "".join(f"{row}\t{text}\n" for row, text in texts.items()))
            arguments = [
                "-index", f"{self._folder}/lucene", "-topics", str(topics), "-topicReader", "TsvString",
                "-output", str(output), "-hits", str(hits), "-threads", str(self.config.threads),
                "-bm25", "-bm25.k1", str(self.config.k1), "-bm25.b", str(self.config.b), *options,
                *self._language,
            ]  # fmt: skip
            if self.config.fields == "multifield":
                arguments += ["-fields", "contents=1.0", "title=1.0"]
            printed = run_anserini(
                "search.SearchCollection", *arguments, done_when=lambda _: output.is_file()
            )
            rankings: dict[int, list[tuple[str, float]]] = {}
            with output.open(encoding="utf-8", newline="\n") as lines:
                for line in lines:  # an id may hold spaces
                    row, _, rest = line.split(" ", 2)
                    doc_id, _, score, _ = rest.rsplit(" ", 3)
                    rankings.setdefault(int(row), []).append((doc_id, float(score)))
        if "TooManyClauses" in printed or "TooManyNestedClauses" in printed:  # which Anserini only logs
            left_out = [queries[row] for row in queries.keys() - rankings.keys()]
            longest = max(left_out, key=lambda query: len(query.text))
            raise DataError(
                f"query {longest.query_id!r} is too long for BM25: Lucene looks for at most {_MOST_TERMS:,} "
                f"different terms in all fields together, and it has {len(longest.text.split()):,} words; "
                "shorten it"
            )
        return rankings

    def _fill(self, corpus: Corpus, folder: Path, progress: Progress, renew: Callable[[], None]) -> None:
        """Write the documents as Anserini reads them, index them, and record the seconds."""
        started = time.perf_counter()
        source = folder / "source"
        with (
            progress.task(f"index {self.name}", len(corpus)) as advance,
            atomic_write(source / "corpus.jsonl") as documents,
        ):
            for row, document in enumerate(corpus):
                heading = f"{document.url} {document.title}".strip()  # Anserini's BEIR reader has no URLs
                fields = {"_id": document.doc_id, "title": heading, "text": document.text}
                documents.write(json.dumps(fields).encode() + b"\n")
                advance()
                if row % _RENEW_EVERY == 0:
                    renew()
        arguments = [
            "-collection", _COLLECTIONS[self.config.fields], "-generator", "DefaultLuceneDocumentGenerator",
            "-input", str(source), "-index", f"{folder}/lucene",
            "-threads", str(self.config.threads), "-optimize", *self._language,
        ]  # fmt: skip
        if self.config.fields == "multifield":
            arguments += ["-fields", "title"]
        run_anserini(
            "index.IndexCollection",
            *arguments,
            done_when=lambda printed: _indexed(printed) == len(corpus),
            while_running=renew,
        )
        shutil.rmtree(source)
        seconds = round(time.perf_counter() - started, 3)
        write_json(folder / "facts.json", {"seconds": seconds, "documents": len(corpus)})


def _indexed(printed: str) -> int:
    """Return the number of documents that Anserini reports as indexed or as empty."""
    counters = dict(re.findall(r"(indexed|empty): +([\d,]+)$", printed, flags=re.MULTILINE))
    return sum(int(counter.replace(",", "")) for counter in counters.values())
