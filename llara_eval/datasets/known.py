"""The public data sets that have a name: their pinned counts, measures, licences and groups.

The facts are in ``data/beir.csv``, ``data/msmarco.csv``, ``data/nanobeir.csv`` and ``data/limit.csv``, and
the names in mteb in ``data/mteb_tasks.csv``.

BEIR: Thakur et al., "BEIR", NeurIPS 2021 Datasets and Benchmarks, Table 1; the zips are those the ``beir``
package names. Counts, checksums and sizes: ir_datasets 0.6.3 (``etc/metadata.json``, ``etc/downloads.json``;
BEIR's own ``md5.csv`` has errors). Document counts of the licensed data sets: Pyserini's indexes; no source
pins their judgements. How to obtain these data sets: the README of BEIR's ``examples/dataset``. Licences: the
owners' pages and data cards; where the owner states none, mteb 2.26's task records and papers. These sources
sometimes disagree, so a licence here is a pointer and no legal advice. TREC-COVID has hundreds of relevant
documents for a query, so its recall is also measured as in BEIR's paper (section 4): capped, ``R_cap@100``.

MS MARCO and TREC Deep Learning: counts are those of ir_datasets 0.6.3. Measures: MS MARCO's leaderboards
(RR@10 for passages, RR@100 for documents; they keep 1,000 passages, but 100 documents) and Anserini's
regressions ``msmarco-v1-*``, ``dl19-*`` and ``dl20-*``. There, a passage of TREC is relevant from grade 2 on
("highly relevant"), and a document from grade 1 on; nDCG uses all grades. A document is read as one text of
2,048 tokens, as RepLLaMA (arXiv 2310.08319) and LLaRA do.

NanoBEIR: names, revisions, licence and counts are those of mteb's task records and descriptive statistics
(commit a905523d). mteb and sentence-transformers leave a query's own document in its ranking there, in
ArguAna too, so the published values have it, and so has the rule here.

LIMIT: Weller et al., "On the Theoretical Limitations of Embedding-Based Retrieval", arXiv 2508.21038. The
measures are the paper's: every query has two relevant documents, so R@2 comes first. Counts and licence are
those of the hub's data cards, names and revisions those of mteb's task records.

Tokens: see :mod:`llara_eval.planning.corpus_sizes`.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from llara_eval.core.decode import decode
from llara_eval.core.paths import DATA
from llara_eval.scoring.measures import DEFAULT_MEASURES

BASE_URL = "https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets"

MIRRORS = ("https://github.com/xhluca/bm25s/releases/download/data",)
"""Other sources of the same zips, tried in order when the first fails; the checksum decides in any case."""

RECIPES = "https://github.com/beir-cellar/beir/tree/main/examples/dataset"
"""Instructions to make the licensed data sets of BEIR from their sources."""

DEPTH = 1_000
"""Default number of documents in a ranking, that of BEIR and of MS MARCO passage."""

_LISTS = ("groups", "measures")
"""Columns whose cells hold several values, separated by spaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDataset:
    """The pinned facts of a public data set.

    Attributes:
        name: Full name, ``beir/<set>``, ``beir/cqadupstack/<forum>`` or ``<corpus>/<split>`` of MS MARCO.
        folder: Path below the data folder, with ``/`` as separator.
        split: The split whose scores are published.
        documents: Number of documents; None where it is not pinned.
        queries: Number of judged queries of ``split``; None where it is not pinned.
        judgements: Number of judgements of ``split``; None where it is not pinned.
        source: The paper or page that defines the data set.
        licence: The terms of use, in a few words.
        note: A peculiarity that a user should know.
        drop_own_ids: Whether queries and documents share identifiers, so that the document with the query's
            own identifier is left out of its ranking.
        measures: The measures that are reported, the main one first.
        depth: Number of documents in a ranking.
        text_length: Maximum tokens of a document for systems with such a limit; None leaves it to the system.
        titled: Name of the data set of the same documents with titles; None where there is none.
        groups: The groups of which the data set is a member, see :data:`AVERAGES`.
        ids: A hash of the set of its document ids (``CorpusFacts.ids``), by which its documents are
            recognised in any folder; None where it is not pinned.
        files: Official files of documents, queries and judgements, each with its alternative names; empty
            for a data set in BEIR layout.
        hub: Name and revision of the data set on the hub, ``org/name@revision``; None where it is not there.
        archive: Name of the zip, without its ending; None where no zip can be downloaded.
        md5: Checksum of the zip.
        archive_bytes: Bytes of the zip.
        obtain: How to obtain a licensed data set, in a sentence; empty where it can be downloaded.
        corpus: Name of the corpus; data sets of the same documents share it.
        tokens: Mean tokens of a document of the corpus; None where they have not been counted.
        spread: Standard deviation of the logarithm of a document's tokens.
        query_words: Mean words of a query.
        tasks: The names of its tasks in mteb 2, the usual one first; the others have a part of the documents
            or other judgements.
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
    ids: str | None = None
    files: tuple[tuple[str, ...], ...] = ()
    hub: str | None = None
    archive: str | None = None
    md5: str | None = None
    archive_bytes: int | None = None
    obtain: str = ""
    corpus: str = ""
    tokens: float | None = None
    spread: float = 0.0
    query_words: float = 0.0
    tasks: tuple[str, ...] = ()

    @property
    def url(self) -> str | None:
        """Address of the zip; None where no zip can be downloaded."""
        return f"{BASE_URL}/{self.archive}.zip" if self.archive else None

    @property
    def urls(self) -> tuple[str, ...]:
        """Addresses of the zip, the first to be tried first."""
        return tuple(f"{base}/{self.archive}.zip" for base in (BASE_URL, *MIRRORS)) if self.archive else ()

    @property
    def is_public(self) -> bool:
        """Whether it can be downloaded from one place as a whole."""
        return bool(self.archive or self.hub)

    @property
    def is_documents(self) -> bool:
        """Whether its documents are whole web pages, with a length limit of their own, and not passages."""
        return self.text_length is not None


def _read(file: str, **common: str) -> dict[str, KnownDataset]:
    """Return the data sets of a table by name; empty cells take the value in ``common`` or the default."""
    data_sets = {}
    with (DATA / file).open(encoding="utf-8", newline="") as table:
        for cells in csv.DictReader(table):
            fields: dict[str, object] = {column: cell for column, cell in cells.items() if cell}
            fields = common | fields
            fields |= {column: str(fields[column]).split() for column in _LISTS if column in fields}
            fields["tasks"] = _TASKS.get(cells["name"], "").split()
            fields["files"] = [names.split("|") for names in cells.get("files", "").split()]
            data_sets[cells["name"]] = decode(fields, KnownDataset, file, text=True)
    return data_sets


def _read_tasks() -> dict[str, str]:
    """Return data set → its tasks in mteb, separated by spaces."""
    with (DATA / "mteb_tasks.csv").open(encoding="utf-8", newline="") as table:
        return {row["name"]: row["tasks"] for row in csv.DictReader(table)}


_TASKS = _read_tasks()
_BEIR = _read("beir.csv", source="BEIR (Thakur et al., NeurIPS 2021)")
_MSMARCO = _read(
    "msmarco.csv", source="https://microsoft.github.io/msmarco/", licence="non-commercial research"
)

_NANOBEIR = _read(
    "nanobeir.csv",
    split="train",
    source="NanoBEIR (Zeta Alpha, 2024), small parts of BEIR",
    licence="CC BY 4.0",
    groups="nanobeir",
)

_LIMIT = _read("limit.csv", source="LIMIT (Weller et al., arXiv 2508.21038)", licence="CC BY 4.0")

KNOWN: Mapping[str, KnownDataset] = MappingProxyType(_BEIR | _MSMARCO | _NANOBEIR | _LIMIT)
"""Full name → the facts of a data set."""

BEIR = tuple(_BEIR)
"""Names of all data sets of BEIR, with the licensed data sets and each forum of CQADupStack."""

_GROUPS_OF_GROUPS = {"beir/cqadupstack": ("beir-14", "beir-15", "beir-18")}
"""Group → the groups of which it is a member as a whole."""


def _members(group: str) -> tuple[str, ...]:
    """Return the members of a group, data sets first."""
    data_sets = sorted(name for name, known in KNOWN.items() if group in known.groups)
    return (*data_sets, *(subgroup for subgroup, groups in _GROUPS_OF_GROUPS.items() if group in groups))


AVERAGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        group: _members(group)
        for group in ("beir-13", "beir-14", "beir-15", "beir-18", *_GROUPS_OF_GROUPS, "nanobeir")
    }
)
"""Groups of data sets whose macro means are published → their members; a member may be a group.

BEIR-13: the data sets whose mean RepLLaMA and LLaRA report. BEIR-14: the public data sets without MS MARCO.
BEIR-15: BEIR-14 and MS MARCO dev, the mean of mteb. BEIR-18: BEIR-14 and the licensed data sets, the mean of
BEIR's paper.
"""

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "beir": "beir-15",
        "dbpedia": "dbpedia-entity",
        "dl19": "msmarco-passage/trec-dl-2019",
        "dl20": "msmarco-passage/trec-dl-2020",
        "msmarco-document": "msmarco-document/dev",
        "msmarco-passage": "msmarco-passage/dev",
        "touche2020": "webis-touche2020",
        "trec-dl-2019": "msmarco-passage/trec-dl-2019",
        "trec-dl-2020": "msmarco-passage/trec-dl-2020",
    }
)
"""Other usual names, in lower case, of data sets and groups; TREC Deep Learning means passages."""

CQADUPSTACK = AVERAGES["beir/cqadupstack"]
"""Names of the twelve forums of CQADupStack, whose macro mean counts as one data set."""


def find(name: str) -> KnownDataset | None:
    """Return the public data set of a name, see :func:`full_name`, or None."""
    return KNOWN.get(full_name(name))


def full_name(name: str) -> str:
    """Return the full name of a data set or group, which may be in any case, without ``beir/``, or an alias.

    A name that is unknown is returned as it is.
    """
    lower = ALIASES.get(name.lower(), name.lower())
    names = [full for full in (lower, f"beir/{lower}") if full in KNOWN or full in AVERAGES]
    return names[0] if names else name


def with_documents(ids: str) -> KnownDataset | None:
    """Return the public data set whose document ids have a hash (``CorpusFacts.ids``), or None."""
    return next((known for known in KNOWN.values() if known.ids == ids), None)


def expand(name: str) -> tuple[str, ...]:
    """Return the names of the data sets of a group, or a tuple of the name if it is no group."""
    members = AVERAGES.get(full_name(name))
    return (name,) if members is None else tuple(part for member in members for part in expand(member))


def titled(name: str) -> str:
    """Return the name of the variant of a data set with titles, or the name itself where there is none."""
    known = KNOWN.get(name)
    return (known and known.titled) or name
