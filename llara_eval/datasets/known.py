"""The BEIR data sets: what they must contain, how they are scored, whose they are, and their averages.

Source of the collection: Thakur et al., "BEIR", NeurIPS 2021 Datasets and Benchmarks, Table 1; the
zips are those the ``beir`` package names. The facts are in ``data/beir.csv``. Counts, checksums and sizes:
ir_datasets 0.6.3 (``etc/metadata.json``, ``etc/downloads.json``; BEIR's own ``md5.csv`` is wrong in places);
documents of the licensed sets: Pyserini's indexes (nobody pins their judgements). How to obtain those: the
README of BEIR's ``examples/dataset``. Licences: the owners' pages and data cards where there are some, else
second-hand (mteb 2.26's task records, papers), and these disagree now and then: a pointer, not advice.
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from llara_eval.core.paths import DATA

BASE_URL = "https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets"

RECIPES = "https://github.com/beir-cellar/beir/tree/main/examples/dataset"
"""How BEIR made the licensed sets from their sources."""


class KnownSet(NamedTuple):
    """What is known of a BEIR data set before it is read.

    Attributes:
        name: Full name, ``beir/<set>`` or ``beir/cqadupstack/<forum>``.
        archive: Name of the zip, without its ending.
        md5: Checksum of the zip; None for a licensed set, which has none.
        documents: Number of documents; None where it is not pinned.
        queries: Number of judged queries of ``split``.
        judgements: Number of rows of the judgements of ``split``; None where not pinned.
        split: The split everybody reports.
        drop_own_ids: Whether queries and documents share an id space, so that a query's own id is
            left out of its ranking.
        archive_bytes: Size of the zip.
        licence: The terms of use, in a few words.
        note: What surprises.
        obtain: How to get a licensed set, in a sentence; empty where it can be downloaded.
    """

    name: str
    archive: str
    md5: str | None
    documents: int | None
    queries: int
    judgements: int | None
    split: str = "test"
    drop_own_ids: bool = False
    archive_bytes: int | None = None
    licence: str = "not stated"
    note: str = ""
    obtain: str = ""

    @property
    def url(self) -> str | None:
        """Where the zip is downloaded from; None for a licensed set, which is never downloaded."""
        return None if self.obtain else f"{BASE_URL}/{self.archive}.zip"

    @property
    def source(self) -> str:
        """Where the collection was defined."""
        return "BEIR (Thakur et al., NeurIPS 2021)"

    @property
    def folder(self) -> str:
        """Where the set lies below a data folder, with ``/`` as separator."""
        return self.name.removeprefix("beir/")


def _read(path: Path) -> dict[str, KnownSet]:
    with path.open(encoding="utf-8", newline="") as file:
        return {
            f"beir/{row['name']}": KnownSet(
                f"beir/{row['name']}",
                row["archive"],
                row["md5"] or None,
                int(row["documents"]),
                int(row["queries"]),
                int(row["judgements"]) if row["judgements"] else None,
                split=row["split"],
                drop_own_ids=row["drop_own_ids"] == "yes",
                archive_bytes=int(row["archive_bytes"]) if row["archive_bytes"] else None,
                licence=row["licence"],
                note=row["note"],
                obtain=row["obtain"],
            )
            for row in csv.DictReader(file)
        }


KNOWN_SETS: Mapping[str, KnownSet] = MappingProxyType(_read(DATA / "beir.csv"))
"""Full name → what is known of it."""

CQADUPSTACK = tuple(name for name in KNOWN_SETS if name.startswith("beir/cqadupstack/"))
"""The twelve forums that together are CQADupStack; their macro mean counts as one data set."""

LICENSED = tuple(name for name, known in KNOWN_SETS.items() if known.obtain)
"""The four sets that a user has to supply."""

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

_BEIR_14 = (*BEIR_13, "beir/cqadupstack")

AVERAGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "beir-13": BEIR_13,
        "beir-14": _BEIR_14,
        "beir-15": (*_BEIR_14, "beir/msmarco"),
        "beir-18": (*_BEIR_14, *LICENSED),
        "beir/cqadupstack": CQADUPSTACK,
    }
)
"""Sets of sets whose macro means are in circulation → their members; a member may be one of them.

BEIR-14: the public sets. BEIR-15: with MS MARCO dev, as mteb averages. BEIR-18: with the licensed sets, as in
BEIR's paper, without MS MARCO.
"""


def find(name: str) -> KnownSet | None:
    """Return the known set called ``name``, with or without ``beir/`` in front, or None."""
    return KNOWN_SETS.get(name) or KNOWN_SETS.get(f"beir/{name}")


def expand(name: str) -> tuple[str, ...]:
    """Return the data sets a name stands for: itself, or the members of an average."""
    members = AVERAGES.get(name.lower()) or AVERAGES.get(f"beir/{name.lower()}")
    return (name,) if members is None else tuple(part for member in members for part in expand(member))
