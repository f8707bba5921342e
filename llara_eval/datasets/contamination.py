"""The training files that a system declares, and the findings of test texts in training files.

A checkpoint declares its training files by checksum (``training_files`` in ``training.json``), an evaluation
copies the declaration into the settings of its result, and the leaderboard looks for findings of the same
file and the same data set below ``runs/``: overlap is measured, never declared.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from llara_eval.core.decode import read_record
from llara_eval.core.files import slug, write_json

RECORD = "training.json"
"""The file that a training run writes last: a folder with it holds a finished run."""

TRAINING_FILES = "training_files"
"""Key of the declaration in the record and in the settings of a result: SHA-256 → name of a file."""

FINDINGS = "overlap"
"""Folder of findings below the folder of results."""

ANY = "any"
"""Stands for all roles a training text can have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """How much of a data set's test side is in a training file.

    Attributes:
        file: Name of the training file.
        sha256: SHA-256 of the file on disk.
        texts: Role of a training text (``query``, ``pos``, ``neg``, ``text``) → number of texts.
        dataset: Name of the data set.
        split: Split of its judgements.
        dataset_fingerprint: SHA-256 over documents, queries and judgements.
        tested: Role of a test text (``query``; ``relevant``, ``judged`` and ``other`` documents) → their
            number.
        seen: Role of a test text → role of the training text, or ``any`` → kind of the strongest match →
            how many test texts have it; a missing count is 0.
    """

    file: str
    sha256: str
    texts: dict[str, int]
    dataset: str
    split: str
    dataset_fingerprint: str
    tested: dict[str, int]
    seen: dict[str, dict[str, dict[str, int]]]

    def count(self, role: str) -> int:
        """Return how many test texts of a role have a match of any kind."""
        return sum(self.seen.get(role, {}).get(ANY, {}).values())

    def share(self, role: str) -> float:
        """Return the share of the test texts of a role that have a match of any kind."""
        return self.count(role) / self.tested[role] if self.tested.get(role) else 0.0

    @property
    def overlaps(self) -> bool:
        """Whether a test query or a relevant document was seen."""
        return bool(self.count("query") or self.count("relevant"))


@dataclass(frozen=True, slots=True)
class _Declaration:
    """The field of ``training.json`` that is read here; it has others."""

    training_files: dict[str, str] = field(default_factory=dict)


def declared(folder: Path) -> dict[str, str]:
    """Return the training files a checkpoint declares, SHA-256 → name; empty if it declares none.

    Raises:
        DataError: The ``training.json`` of the checkpoint is malformed.
    """
    path = folder / RECORD
    return read_record(path, _Declaration).training_files if path.is_file() else {}


def keep(runs_dir: Path, finding: Finding) -> Path:
    """Write a finding where :func:`walk` finds it; it replaces an earlier finding of the same files."""
    name = f"{slug(finding.dataset)}--{finding.dataset_fingerprint[:16]}--{finding.sha256[:16]}.json"
    path = runs_dir / FINDINGS / name
    write_json(path, asdict(finding))
    return path


def walk(runs_dir: Path) -> Iterator[Finding]:
    """Yield the findings that are kept, in the order of their paths.

    Raises:
        DataError: A file is not a finding of ``llara-eval overlap``.
    """
    for path in sorted((runs_dir / FINDINGS).glob("*.json")):
        yield read_record(path, Finding)
