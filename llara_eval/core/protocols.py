"""The interfaces of the harness: retrievers, corpora, and displays of progress.

Every command imports this module, so the module imports nothing that takes time.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from llara_eval.core.types import Document, Hits, Query


class Advance(Protocol):
    """A function that reports the progress of a task."""

    def __call__(self, n: int = 1, note: str = "", tokens: int = 0) -> None:
        """Report that ``n`` more units are done, which have ``tokens`` tokens.

        ``note`` is shown beside the task until the next report.
        """


class Progress(Protocol):
    """A display of the progress of long work."""

    def task(self, description: str, total: int | None) -> AbstractContextManager[Advance]:
        """Start a task of ``total`` units (None: an unknown number), which ends with the block."""


class Silent:
    """A :class:`Progress` that shows nothing."""

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Advance]:
        """Start a task whose progress is not shown."""
        yield lambda n=1, note="", tokens=0: None


SILENT = Silent()


class Corpus(Protocol):
    """The documents of a data set, which are streamed, since there may be many millions of them."""

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the normalised content, in order."""

    def __len__(self) -> int:
        """Return the number of documents."""

    def __iter__(self) -> "Iterator[Document]":
        """Stream the documents."""

    def split(self, cut: "Callable[[Document], Iterable[Document]]") -> "Corpus":
        """Return a corpus of the parts into which ``cut`` divides each document."""


@runtime_checkable
class Adjustable(Protocol):
    """A retriever that reads the texts of each data set in a way of its own."""

    def on(self, dataset: str, text_length: int | None) -> "Retriever":
        """Return this retriever, with the same weights, as it reads a data set.

        Args:
            dataset: The name of the data set, by which prompts are chosen.
            text_length: Maximum tokens of a document, if the system can read so many and no option says
                otherwise; None leaves it to the system.
        """


@runtime_checkable
class Warned(Protocol):
    """A retriever of which a reader of its results should know more.

    Attributes:
        warnings: Sentences about what was assumed.
    """

    warnings: Sequence[str]


class Retriever(Protocol):
    """A system under test, which indexes one corpus and then searches it.

    Attributes:
        name: The name of the system in results and leaderboards.
        settings: The settings in effect, in JSON types. Those under ``runtime`` (threads, device) tell how
            the results were computed; the others decide the results.
        phases: Name of a phase → its seconds, and counters such as tokens, for the provenance.
    """

    name: str
    settings: Mapping[str, Any]
    phases: dict[str, dict[str, float]]

    def index(self, corpus: Corpus, progress: Progress = SILENT) -> None:
        """Make the corpus searchable, unless it is so already."""

    def search(self, queries: "Sequence[Query]", depth: int, progress: Progress = SILENT) -> "Hits":
        """Return at least the ``depth`` best documents of each query, or all documents if there are fewer."""
