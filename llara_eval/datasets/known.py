"""The data sets known by name: what they must contain, how they are measured, whose they are; their groups.

The facts are in ``data/beir.csv`` and ``data/msmarco.csv``.

BEIR: Thakur et al., "BEIR", NeurIPS 2021 Datasets and Benchmarks, Table 1; the zips are those the ``beir``
package names. Counts, checksums and sizes: ir_datasets 0.6.3 (``etc/metadata.json``, ``etc/downloads.json``;
BEIR's own ``md5.csv`` is wrong in places); documents of the licensed data sets: Pyserini's indexes (nobody
pins their judgements). How to obtain those: the README of BEIR's ``examples/dataset``. Licences: the owners'
pages and data cards where there are some, else second-hand (mteb 2.26's task records, papers), and these
disagree now and then: a pointer, not advice.

MS MARCO and TREC Deep Learning: counts are those of ir_datasets 0.6.3. Measures: MS MARCO's leaderboards
(RR@10 for passages, RR@100 for documents; they keep 1,000 passages, but 100 documents) and Anserini's
regressions ``msmarco-v1-*``, ``dl19-*`` and ``dl20-*``. There, a passage of TREC is relevant from grade 2 on
("highly relevant"), a document from grade 1; nDCG uses all grades. A page is read as one text of 2,048
tokens, as RepLLaMA (arXiv 2310.08319) and LLaRA do.

Tokens: the mean of a document in tokens of a LLaMA tokenizer, see :mod:`llara_eval.planning.corpus_sizes`.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from llara_eval.core.decode import decode
from llara_eval.core.paths import DATA
from llara_eval.scoring.measures import DEFAULT_MEASURES

BASE_URL = "https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets"

RECIPES = "https://github.com/beir-cellar/beir/tree/main/examples/dataset"
"""How BEIR made the licensed data sets from their sources."""

DEPTH = 1_000
"""Documents kept for a query where a data set does not say otherwise, as BEIR and MS MARCO passage do."""

_LISTS = ("groups", "measures")
"""Columns of the tables whose cells hold several values, separated by spaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDataset:
    """What is known of a data set before it is read.

    Attributes:
        name: Full name, ``beir/<set>``, ``beir/cqadupstack/<forum>`` or ``<corpus>/<split>`` of MS MARCO.
        folder: Where it lies below a data folder, with ``/`` as separator.
        split: The split that everybody reports.
        documents: Number of documents; None where it is not pinned.
        queries: Number of judged queries of ``split``; None where it is not pinned.
        judgements: Number of judgements of ``split``; None where it is not pinned.
        source: Where the data set was defined.
        licence: The terms of use, in a few words.
        note: What surprises.
        drop_own_ids: Whether queries and documents share an id space, so that a query's own id is left out
            of its ranking.
        measures: The measures that are reported, the main one first.
        depth: Documents kept for a query.
        text_length: Tokens that a system reads of a document, if it can; None leaves that to the system.
        titled: Name of the data set of the same documents with titles; None where there is none.
        groups: The groups of which it is a member, see :data:`AVERAGES`.
        files: Names of the official files of documents, queries and judgements, of which any one will do;
            empty for a folder in BEIR layout.
        archive: Name of the zip, without its ending; None where there is none to download.
        md5: Checksum of the zip.
        archive_bytes: Size of the zip.
        obtain: How to obtain a licensed data set, in a sentence; empty where it can be downloaded.
        corpus: Name of the corpus that it is a part of; data sets of the same documents share it.
        tokens: Mean tokens of a document of that corpus; None where they have not been counted.
        spread: Standard deviation of the logarithm of these tokens.
        query_words: Mean words of a query.
    """

    name: str
    folder: str
    split: str = "test"
    documents: int | None = None
    queries: int | None = None
    judgements: int | None = None
    source: str = ""
    licence: str = "not stated"
    note: str = ""
    drop_own_ids: bool = False
    measures: tuple[str, ...] = DEFAULT_MEASURES
    depth: int = DEPTH
    text_length: int | None = None
    titled: str | None = None
    groups: tuple[str, ...] = ()
    files: tuple[tuple[str, ...], ...] = ()
    archive: str | None = None
    md5: str | None = None
    archive_bytes: int | None = None
    obtain: str = ""
    corpus: str = ""
    tokens: float | None = None
    spread: float = 0.0
    query_words: float = 0.0

    @property
    def url(self) -> str | None:
        """Where the zip is downloaded from; None where there is none."""
        return f"{BASE_URL}/{self.archive}.zip" if self.archive else None

    @property
    def is_documents(self) -> bool:
        """Whether its documents are whole pages, read at a length of their own, rather than passages."""
        return self.text_length is not None


def _read(file: str, **common: str) -> dict[str, KnownDataset]:
    """Read a table of known data sets; empty cells are left to the defaults.

    Args:
        file: Name of the table.
        common: What all its data sets have in common.
    """
    known = {}
    with (DATA / file).open(encoding="utf-8", newline="") as table:
        for cells in csv.DictReader(table):
            row: dict[str, object] = {column: cell for column, cell in cells.items() if cell}
            row |= {column: cells[column].split() for column in _LISTS if column in row}
            row["files"] = [names.split("|") for names in cells.get("files", "").split()]
            known[cells["name"]] = decode({**common, **row}, KnownDataset, file, text=True)
    return known


_BEIR = _read("beir.csv", source="BEIR (Thakur et al., NeurIPS 2021)")
_MSMARCO = _read(
    "msmarco.csv", source="https://microsoft.github.io/msmarco/", licence="non-commercial research"
)

KNOWN: Mapping[str, KnownDataset] = MappingProxyType(_BEIR | _MSMARCO)
"""Full name → what is known of the data set."""

BEIR = tuple(_BEIR)
"""All data sets of BEIR, the licensed ones and each forum of CQADupStack included."""

_GROUPS_OF_GROUPS = {"beir/cqadupstack": ("beir-14", "beir-15", "beir-18")}
"""Group → the groups of which it is a member as a whole."""


def _members(group: str) -> tuple[str, ...]:
    """Return the members of a group, data sets first."""
    single = sorted(name for name, known in KNOWN.items() if group in known.groups)
    return (*single, *(whole for whole, groups in _GROUPS_OF_GROUPS.items() if group in groups))


AVERAGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {group: _members(group) for group in ("beir-13", "beir-14", "beir-15", "beir-18", *_GROUPS_OF_GROUPS)}
)
"""Groups of data sets whose macro means are in circulation → their members; a member may be a group.

BEIR-13: the data sets whose mean RepLLaMA and LLaRA report. BEIR-14: the public data sets. BEIR-15: with MS
MARCO dev, as mteb averages. BEIR-18: with the licensed data sets, as in BEIR's paper, without MS MARCO.
"""

CQADUPSTACK = AVERAGES["beir/cqadupstack"]
"""The twelve forums that together are CQADupStack; their macro mean counts as one data set."""


def find(name: str) -> KnownDataset | None:
    """Return the known data set called ``name``, with or without ``beir/`` in front, or None."""
    return KNOWN.get(name) or KNOWN.get(f"beir/{name}")


def expand(name: str) -> tuple[str, ...]:
    """Return the data sets a name stands for: itself, or the members of a group."""
    members = AVERAGES.get(name.lower()) or AVERAGES.get(f"beir/{name.lower()}")
    return (name,) if members is None else tuple(part for member in members for part in expand(member))


def titled(name: str) -> str:
    """Return the name of the data set of the same documents with titles; others as they are."""
    known = KNOWN.get(name)
    return (known and known.titled) or name
