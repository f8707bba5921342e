"""What reports read in the settings and in the provenance of a result; they hold further fields."""

from dataclasses import dataclass, field
from typing import Any, Literal

from llara_eval.core.decode import Count, Date


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How texts of one side were read; see :class:`llara_eval.encoding.templates.Template`.

    Attributes:
        prefix: Strings before a text.
        prompt: The prompt.
        suffix: Strings after a text.
        pooling: The name of the pooling.
        slots: The number of positions that are pooled.
        max_length: The limit of length in tokens; None if it is unknown.
    """

    prefix: tuple[str, ...] = ()
    prompt: str = ""
    suffix: tuple[str, ...] = ()
    pooling: str = ""
    slots: Count = 1
    max_length: Count | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """How queries and documents were read; None where a system has no templates."""

    query: Reading | None = None
    document: Reading | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The program that computed.

    Attributes:
        backend: The engine of a dense retriever; "" for other systems.
    """

    backend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownSettings:
    """The settings of a result that are shown, or that decide which results are comparable.

    Attributes:
        titles: The number of documents with a title; None if it was not counted.
        templates: The templates of a dense retriever.
        prompts: The name of the set of prompts; "" if there is none.
        prompts_from: Side → the source of its prompt.
        training_files: SHA-256 → name of a file that the checkpoint was trained on.
        checkpoint_sha256: The content hash of the checkpoint; "" for systems without one.
        dtype: The type of the weights; "" for systems without weights.
        toolkit: The program that searched; "" for our own search.
        runtime: The program that computed vectors.
    """

    titles: Count | None = None
    templates: Sides = Sides()
    prompts: str = ""
    prompts_from: dict[Literal["query", "document"], str] = field(default_factory=dict)
    training_files: dict[str, str] = field(default_factory=dict)
    checkpoint_sha256: str = ""
    dtype: str = ""
    toolkit: str = ""
    runtime: Runtime = Runtime()


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """The state of the source.

    Attributes:
        commit: The commit; "" if it is unknown.
        dirty: Whether files had changed since.
    """

    commit: str = ""
    dirty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownProvenance:
    """When a result was made, and from which source.

    Attributes:
        date: The time in ISO 8601.
        git: The commit; None outside of a checkout.
        options: The options of the command.
    """

    date: Date
    git: Commit | None = None
    options: dict[str, Any] = field(default_factory=dict)
