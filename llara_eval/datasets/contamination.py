"""The training files that a checkpoint declares, and the overlap of training files with data sets.

A checkpoint declares its training files by checksum (``training_files`` in ``training.json``), and an
evaluation copies the declaration into the settings of its result. The leaderboard looks below ``runs/`` for
findings about the same file and the same data set: training files are declared, but overlap is measured.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from llara_eval.core.decode import Count, read_record
from llara_eval.core.errors import DataError
from llara_eval.core.files import slug, write_json
from llara_eval.core.reading import is_present

RECORD = "training.json"
"""The file that a training run writes last, so that a folder with this file holds a finished run."""

TRAINING_FILES = "training_files"
"""Key of the declaration in ``training.json`` and in a result's settings: SHA-256 → name of a file."""

FINDINGS = "overlap"
"""Folder of findings below the folder of results."""

ANY = "any"
"""Key of the counts over training texts of all roles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The numbers of queries and documents of a data set that a training file holds.

    Attributes:
        file: Name of the training file.
        sha256: SHA-256 of the file on disk.
        texts: Role of a training text (``query``, ``pos``, ``neg``, ``text``) → number of texts.
        dataset: Name of the data set.
        split: Split of its judgements.
        dataset_fingerprint: SHA-256 over documents, queries and judgements.
        tested: Role of a test text (``query``; ``relevant``, ``judged`` and ``other`` documents) → number of
            test texts.
        seen: Role of a test text → role of the training text, or ``any`` → kind of the strongest match →
            number of test texts; a missing count is 0.
    """

    file: str
    sha256: str
    texts: dict[str, Count]
    dataset: str
    split: str
    dataset_fingerprint: str
    tested: dict[str, Count]
    seen: dict[str, dict[str, dict[str, Count]]]

    def count(self, role: str) -> int:
        """Return the number of test texts of a role that have a match of any kind."""
        return sum(self.seen.get(role, {}).get(ANY, {}).values())

    def share(self, role: str) -> float:
        """Return the share of the test texts of a role that have a match of any kind."""
        return self.count(role) / self.tested[role] if self.tested.get(role) else 0.0

    @property
    def overlaps(self) -> bool:
        """Whether a test query or a relevant document is in the training file."""
        return bool(self.count("query") or self.count("relevant"))


@dataclass(frozen=True, slots=True)
class _Declaration:
    """The one field of ``training.json`` that concerns overlap."""

    training_files: dict[str, str] = field(default_factory=dict)


def declared(folder: Path) -> dict[str, str]:
    """Return the training files that a checkpoint declares, SHA-256 → name.

    Raises:
        DataError: The ``training.json`` of the checkpoint is malformed.
    """
    path = folder / RECORD
    return read_record(path, _Declaration).training_files if is_present(path) else {}


def keep(runs_dir: Path, finding: Finding) -> Path:
    """Write a finding for :func:`read_all`; an earlier finding about the same content is replaced."""
    name = f"{slug(finding.dataset)}--{finding.dataset_fingerprint[:16]}--{finding.sha256[:16]}.json"
    path = runs_dir / FINDINGS / name
    write_json(path, asdict(finding))
    return path


def read_all(runs_dir: Path) -> tuple[list[Finding], list[DataError]]:
    """Return the findings below ``runs_dir``, in the order of their paths, and the errors of damaged ones."""
    findings, damaged = [], []
    for path in sorted((runs_dir / FINDINGS).glob("*.json")):
        try:
            findings.append(read_record(path, Finding))
        except DataError as error:
            damaged.append(error)
    return findings, damaged
