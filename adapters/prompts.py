"""The options of prompts, and sets of prompts for data sets: from a file, or the instructions of mteb."""

from dataclasses import dataclass

from adapters.options import unnamed
from llara_eval.core.errors import CheckFailedError
from llara_eval.core.paths import user_path
from llara_eval.datasets import known
from llara_eval.datasets.limited import whole
from llara_eval.datasets.mteb_tasks import read_instructions
from llara_eval.encoding.prompt_sets import MTEB, Entry, PromptOptions, PromptSet
from llara_eval.encoding.prompts import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptConfig:
    """The options that choose prompts; by default they are the checkpoint's own.

    Attributes:
        query_prompt: The text before each query; with ``prompts``, the format of instructions.
        document_prompt: The text before each document.
        prompt_name: The name of a prompt that the checkpoint stores.
        no_prompts: Whether texts are read without a prompt.
        prompts: A file with a prompt for each data set, or ``mteb``.
    """

    query_prompt: str | None = unnamed(None)
    document_prompt: str | None = unnamed(None)
    prompt_name: str | None = unnamed(None)
    no_prompts: bool = unnamed(False)
    prompts: str | None = unnamed(None)

    @property
    def prompt_options(self) -> PromptOptions:
        """What the options say of prompts.

        Raises:
            UsageError: They contradict each other.
        """
        return PromptOptions(
            query=self.query_prompt,
            document=self.document_prompt,
            name=self.prompt_name,
            none=self.no_prompts,
            set_name=self.prompts,
        )


def find_entry(options: PromptOptions, dataset: str | None) -> Entry | None:
    """Return what the set of prompts holds for a data set; None if the options name no set.

    Args:
        options: What the user says of prompts.
        dataset: The name of the data set; None for texts of no known data set, which have the default of a
            file, and None if it has none.

    Raises:
        DataError: The file is malformed, or the set has no prompt for the data set.
        MissingPartError: The set is that of mteb, which is not installed.
    """
    if options.set_name is None:
        return None
    if options.set_name == MTEB:
        return None if dataset is None else Entry(*read_instructions(whole(dataset)[0]))
    datasets = {name.lower() for full in known.KNOWN for name in _names(full)} | known.ALIASES.keys()
    prompts = PromptSet.from_file(user_path(options.set_name), datasets)
    return prompts.default if dataset is None else prompts.of(_names(dataset))


def require_prompts(origin: Origin, options: PromptOptions) -> None:
    """Check that prompts have been chosen.

    Raises:
        CheckFailedError: Each data set has prompts of its own, and none has been named.
    """
    if origin.pending:
        raise CheckFailedError(
            f"--prompts {options.set_name} has prompts for each data set, and none is named here; give "
            "--query-prompt and --document-prompt in its place, or a file with a default"
        )


def _names(dataset: str) -> list[str]:
    """Return the names by which a set may hold a data set, the closest first."""
    full, _ = whole(dataset)
    facts = known.find(full)
    name = facts.name if facts else full
    parent, _, _ = name.removeprefix("beir/").rpartition("/")
    names = [dataset, full, name, name.removeprefix("beir/"), *(facts.tasks if facts else ()), parent]
    return list(filter(None, names))
