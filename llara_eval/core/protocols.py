"""What the harness asks of others: a retriever to evaluate, a place to report progress to.

Every command imports this module, so that it imports nothing itself.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from llara_eval.core.types import Document, Hits, Query


class Advance(Protocol):
    """Reports that ``n`` more units of a task are done."""

    def __call__(self, n: int = 1, note: str = "") -> None:
        """Advance the task by ``n`` units; ``note`` is shown beside it until the next one."""


class Progress(Protocol):
    """Shows how far long work has come."""

    def task(self, description: str, total: int | None) -> AbstractContextManager[Advance]:
        """Start a task of ``total`` units (None: not known beforehand); it ends with the block."""


class Silent:
    """A :class:`Progress` that shows nothing."""

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Advance]:
        """Start a task nobody watches."""
        yield lambda n=1, note="": None


SILENT = Silent()


class Corpus(Protocol):
    """The documents of a data set. There may be many millions of them, so they are streamed, never held.

    Attributes:
        fingerprint: SHA-256 of the normalised content, in order.
    """

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of the normalised content, in order."""

    def __len__(self) -> int:
        """Return the number of documents."""

    def __iter__(self) -> "Iterator[Document]":
        """Stream the documents."""

    def split(self, cut: "Callable[[Document], Iterable[Document]]") -> "Corpus":
        """Return the corpus of the parts into which ``cut`` divides each document."""


class Retriever(Protocol):
    """A system under test: it indexes one corpus, then answers queries.

    Attributes:
        name: How the system is called in results and leaderboards.
        settings: The settings in effect, as JSON values; those under ``runtime`` say how it was
            computed (threads, device), the others decide what comes out.
        phases: Seconds, and counters such as tokens, of each phase so far, for the provenance.
    """

    name: str
    settings: Mapping[str, Any]
    phases: dict[str, dict[str, float]]

    def index(self, corpus: Corpus, progress: Progress = SILENT) -> None:
        """Make the corpus searchable, or find that it already is."""

    def search(self, queries: "Sequence[Query]", depth: int, progress: Progress = SILENT) -> "Hits":
        """Return at least the ``depth`` best documents of each query (fewer if there are no more)."""
