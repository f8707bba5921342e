"""The MS MARCO and TREC Deep Learning data sets: what they must contain, and how they are scored.

Counts and checksums: ir_datasets 0.6.3, ``etc/metadata.json`` and ``etc/downloads.json``. Measures: MS
MARCO's leaderboards (RR@10 for passages, RR@100 for documents) and Anserini's regressions
``msmarco-v1-*`` and ``dl19-*``, ``dl20-*``. There, a passage of TREC is relevant from grade 2 on ("highly
relevant"), a document from grade 1; nDCG uses all grades.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

_MICROSOFT = "https://msmarco.z22.web.core.windows.net/msmarcoranking"
_NIST = "https://trec.nist.gov/data/deep"
_TITLED = "https://huggingface.co/datasets/Tevatron/msmarco-passage-corpus"

FIRSTP_TOKENS = 2_048
"""Tokens of a page read as one text, as RepLLaMA (arXiv 2310.08319) and LLaRA do."""


class Source(NamedTuple):
    """Where an official file comes from.

    Attributes:
        url: The file as it is distributed, gzipped or an archive that holds ours.
        md5: Its checksum; None where it is not pinned.
        record: Its name in the records of ir_datasets; None where that does not have it.
    """

    url: str
    md5: str | None = None
    record: str | None = None


_ARCHIVE = Source(
    f"{_MICROSOFT}/collectionandqueries.tar.gz", "31644046b18952c1386cd4564ba2ae69", "collectionandqueries"
)

SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "collection.tsv": _ARCHIVE,
        "queries.dev.small.tsv": _ARCHIVE,
        "qrels.dev.small.tsv": _ARCHIVE,
        "corpus.jsonl": Source(f"{_TITLED}/blob/main/corpus.jsonl.gz"),
        "msmarco-docs.tsv": Source(f"{_MICROSOFT}/msmarco-docs.tsv.gz"),
        "msmarco-docs.trec": Source(
            f"{_MICROSOFT}/msmarco-docs.trec.gz", "d4863e4f342982b51b9a8fc668b2d0c0", "docs"
        ),
        "msmarco-docdev-queries.tsv": Source(
            f"{_MICROSOFT}/msmarco-docdev-queries.tsv.gz", "ac20593d71b9c32ab2633230f9cdf10d", "dev/queries"
        ),
        "msmarco-docdev-qrels.tsv": Source(
            f"{_MICROSOFT}/msmarco-docdev-qrels.tsv.gz", "5eeafaeb4960979a62e7fed93273254e", "dev/qrels"
        ),
        "msmarco-test2019-queries.tsv": Source(
            f"{_MICROSOFT}/msmarco-test2019-queries.tsv.gz",
            "eda71eccbe4d251af83150abe065368c",
            "trec-dl-2019/queries",
        ),
        "msmarco-test2020-queries.tsv": Source(
            f"{_MICROSOFT}/msmarco-test2020-queries.tsv.gz",
            "00a406fb0d14ed3752d70d1e4eb98600",
            "trec-dl-2020/queries",
        ),
        "2019qrels-pass.txt": Source(
            f"{_NIST}/2019qrels-pass.txt", "2f4be390198da108f6845c822e5ada14", "trec-dl-2019/qrels"
        ),
        "2020qrels-pass.txt": Source(
            f"{_NIST}/2020qrels-pass.txt", "0355ccee7509ac0463e8278186cdd8d1", "trec-dl-2020/qrels"
        ),
        "2019qrels-docs.txt": Source(
            f"{_NIST}/2019qrels-docs.txt", "d7ef53b995ef7e01676ea85d7ec01dda", "trec-dl-2019/qrels"
        ),
        "2020qrels-docs.txt": Source(
            f"{_NIST}/2020qrels-docs.txt", "e10f3545583b124a4ed5e7992293e15a", "trec-dl-2020/qrels"
        ),
    }
)
"""Name of an official file, without ``.gz`` → where it comes from."""


class MsMarcoSet(NamedTuple):
    """What is known of a data set before it is read.

    Attributes:
        name: Full name, ``<corpus>/<split>``.
        folder: Where its files lie below a data folder; passages with and without titles share one.
        corpus: Names of the file of documents, any one of them will do.
        queries_file: The file of queries, judged or not.
        qrels_file: The file of judgements.
        documents: Number of documents.
        queries: Number of judged queries.
        judgements: Number of judgements.
        measures: What is reported, the first first.
        depth: Documents kept for a query.
    """

    name: str
    folder: str
    corpus: tuple[str, ...]
    queries_file: str
    qrels_file: str
    documents: int
    queries: int
    judgements: int
    measures: tuple[str, ...]
    depth: int

    @property
    def split(self) -> str:
        """The judgements, ``dev`` or a year of TREC's Deep Learning track."""
        return self.name.rpartition("/")[2]

    @property
    def licence(self) -> str:
        """The terms of use, in a few words."""
        return "non-commercial research"

    @property
    def source(self) -> str:
        """Where the collection was defined."""
        return "https://microsoft.github.io/msmarco/"

    @property
    def note(self) -> str:
        """Its files, each gzipped or not."""
        return f"in {self.folder}/: " + ", ".join(" or ".join(names) for names in self.files)

    @property
    def is_documents(self) -> bool:
        """Whether its documents are whole pages rather than passages."""
        return self.folder == "msmarco-document"

    @property
    def text_length(self) -> int | None:
        """Tokens that a system reads of a document, if it can; None leaves that to the system."""
        return FIRSTP_TOKENS if self.is_documents else None

    @property
    def files(self) -> tuple[tuple[str, ...], ...]:
        """Names of the files of documents, queries and judgements; of each any one will do."""
        return self.corpus, (self.queries_file,), (self.qrels_file,)


_CORPORA = {
    "msmarco-passage": ("msmarco-passage", ("collection.tsv",), 8_841_823),
    "msmarco-passage-titled": ("msmarco-passage", ("corpus.jsonl",), 8_841_823),
    "msmarco-document": ("msmarco-document", ("msmarco-docs.tsv", "msmarco-docs.trec"), 3_213_835),
}
"""Corpus → folder, files, documents."""

_JUDGED = """
msmarco-passage   dev           queries.dev.small.tsv         qrels.dev.small.tsv       6980   7437
msmarco-passage   trec-dl-2019  msmarco-test2019-queries.tsv  2019qrels-pass.txt          43   9260
msmarco-passage   trec-dl-2020  msmarco-test2020-queries.tsv  2020qrels-pass.txt          54  11386
msmarco-document  dev           msmarco-docdev-queries.tsv    msmarco-docdev-qrels.tsv  5193   5193
msmarco-document  trec-dl-2019  msmarco-test2019-queries.tsv  2019qrels-docs.txt          43  16258
msmarco-document  trec-dl-2020  msmarco-test2020-queries.tsv  2020qrels-docs.txt          45   9098
"""
"""Folder, split, file of queries, file of judgements, judged queries, judgements."""

_DEPTH = {"msmarco-passage": 1_000, "msmarco-document": 100}
"""Documents kept for a query: MS MARCO's leaderboards take 1,000 passages, but 100 documents."""

_DEV = {
    "msmarco-passage": ("RR@10", "nDCG@10", "R@100", "R@1000", "Judged@10"),
    "msmarco-document": ("RR@100", "nDCG@10", "R@100", "R@1000", "Judged@10"),
}
_TREC = {
    "msmarco-passage": (
        "nDCG@10",
        "RR(rel=2)@10",
        "R(rel=2)@100",
        "R(rel=2)@1000",
        "AP(rel=2)@1000",
        "Judged@10",
    ),
    "msmarco-document": ("nDCG@10", "RR@10", "R@100", "R@1000", "AP@100", "Judged@10"),
}


def titled(name: str) -> str:
    """Return the name of the title-augmented passages for that of the official ones; others as they are."""
    return name.replace("msmarco-passage/", "msmarco-passage-titled/")


def _read() -> dict[str, MsMarcoSet]:
    sets = {}
    for corpus, (folder, files, documents) in _CORPORA.items():
        for row in _JUDGED.strip().split("\n"):
            judged, split, queries_file, qrels_file, queries, judgements = row.split()
            if judged != folder:
                continue
            sets[f"{corpus}/{split}"] = MsMarcoSet(
                name=f"{corpus}/{split}",
                folder=folder,
                corpus=files,
                queries_file=queries_file,
                qrels_file=qrels_file,
                documents=documents,
                queries=int(queries),
                judgements=int(judgements),
                measures=(_DEV if split == "dev" else _TREC)[folder],
                depth=_DEPTH[folder],
            )
    return sets


MSMARCO_SETS: Mapping[str, MsMarcoSet] = MappingProxyType(_read())
"""Full name → what is known of it."""


def text_length(dataset: str) -> int | None:
    """Return how many tokens of a document a data set has read; None leaves it to the checkpoint."""
    official = MSMARCO_SETS.get(dataset)
    return official.text_length if official else None
