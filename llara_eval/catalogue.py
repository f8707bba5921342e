"""The public BEIR data sets: what they must contain, and how they are scored.

Counts and checksums: evaluation of the zips against ir_datasets' records (BEIR's own ``md5.csv`` is
wrong in places). Source of the collection: Thakur et al., "BEIR", NeurIPS 2021 Datasets and
Benchmarks, Table 1; the zips are those the ``beir`` package names.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

BASE_URL = "https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets"


class KnownSet(NamedTuple):
    """What is known of a public data set before it is read.

    Attributes:
        name: Full name, ``beir/<set>`` or ``beir/cqadupstack/<forum>``.
        archive: Name of the zip, without its ending.
        md5: Checksum of the zip.
        documents: Number of documents; None where it is not pinned.
        queries: Number of judged queries of ``split``.
        judgements: Number of rows of the judgements of ``split``; None where not pinned.
        split: The split everybody reports.
        drop_own_ids: Whether queries and documents share an id space, so that a query's own id is
            left out of its ranking.
    """

    name: str
    archive: str
    md5: str
    documents: int | None
    queries: int
    judgements: int | None
    split: str = "test"
    drop_own_ids: bool = False

    @property
    def url(self) -> str:
        """Where the zip is downloaded from."""
        return f"{BASE_URL}/{self.archive}.zip"

    @property
    def folder(self) -> str:
        """Where the set lies below a data folder, with ``/`` as separator."""
        return self.name.removeprefix("beir/")


_SETS = """
msmarco          8841823  6980  7437 444067daf65d982533ea17ebd59501e4 dev
trec-covid        171332    50 66336 ce62140cb23feb9becf6270d0d1fe6d1
nfcorpus            3633   323 12334 a89dba18a62ef92f7d323ec890a0d38d
nq               2681468  3452  4201 d4d3d2e48787a744b6f6e691ff534307
hotpotqa         5233329  7405 14810 f412724f78b0d91183a0e86805e16114
fiqa               57638   648  1706 17918ed23cd04fb15047f73e6c3bd9d9
arguana             8674  1406  1406 8ad3e3c2a5867cdced806d6503f29b99 own-ids
webis-touche2020  382545    49  2214 46f650ba5a527fc69e0a6521c5a23563
quora             522931 10000 15675 18fb154900ba42a600f84b839c173167 own-ids
dbpedia-entity   4635922   400 43515 c2a39eb420a3164af735795df012ac2c
scidocs            25657  1000 29928 38121350fc3a4d2f48850f6aff52e4a9
fever            5416568  6666  7937 5a818580227bfb4b35bb6fa46d9b6c03
climate-fever    5416593  1535  4681 8b66f0a9126c521bae2bde127b4dc99d
scifact             5183   300   339 5f7d1de60b170fc8027bb7898e2efca1
"""

_FORUMS = """
android 699 english 1570 gaming 1595 gis 885 mathematica 804 physics 1039 programmers 876 stats 652
tex 2906 unix 1072 webmasters 506 wordpress 541
"""
_CQADUPSTACK_MD5 = "4e41456d7df8ee7760a7f866133bda78"


def _read() -> dict[str, KnownSet]:
    known = {}
    for row in _SETS.split("\n"):
        if not row:
            continue
        name, documents, queries, judgements, md5, *marks = row.split()
        known[f"beir/{name}"] = KnownSet(
            f"beir/{name}",
            name,
            md5,
            int(documents),
            int(queries),
            int(judgements),
            split="dev" if "dev" in marks else "test",
            drop_own_ids="own-ids" in marks,
        )
    cells = _FORUMS.split()
    for forum, queries in zip(cells[::2], cells[1::2], strict=True):
        name = f"beir/cqadupstack/{forum}"
        known[name] = KnownSet(name, "cqadupstack", _CQADUPSTACK_MD5, None, int(queries), None)
    return known


KNOWN_SETS: Mapping[str, KnownSet] = MappingProxyType(_read())
"""Full name → what is known of it."""

CQADUPSTACK = tuple(name for name in KNOWN_SETS if name.startswith("beir/cqadupstack/"))
"""The twelve forums that together are CQADupStack; their macro mean counts as one data set."""

BEIR_13 = tuple(
    f"beir/{name}"
    for name in [
        "arguana",
        "climate-fever",
        "dbpedia-entity",
        "fever",
        "fiqa",
        "hotpotqa",
        "nfcorpus",
        "nq",
        "quora",
        "scidocs",
        "scifact",
        "trec-covid",
        "webis-touche2020",
    ]
)
"""The sets whose mean RepLLaMA and LLaRA report."""


def find(name: str) -> KnownSet | None:
    """Return the known set called ``name``, with or without ``beir/`` in front, or None."""
    return KNOWN_SETS.get(name) or KNOWN_SETS.get(f"beir/{name}")


def expand(name: str) -> tuple[str, ...]:
    """Return the data sets a name stands for: itself, or the twelve forums of ``cqadupstack``."""
    return CQADUPSTACK if name in ("cqadupstack", "beir/cqadupstack") else (name,)
