"""The instructions of retrieval tasks, read from the installed package ``mteb``."""

import warnings
from typing import NamedTuple

from llara_eval.core.errors import DataError, MissingPartError
from llara_eval.datasets import known


class Instructions(NamedTuple):
    """The instructions of a task.

    Attributes:
        source: The task and the version of mteb.
        query: The instruction of queries.
        document: The instruction of documents; None if the task has none for them.
    """

    source: str
    query: str
    document: str | None


def read_instructions(dataset: str) -> Instructions:
    """Return the instructions of a data set's task, as mteb gives them to instruction-tuned models.

    A task without an instruction of its own has that of its type. A single text is an instruction of queries:
    mteb's wrappers of such models leave passages without one.

    Args:
        dataset: The name of a public data set.

    Raises:
        MissingPartError: mteb is not installed.
        DataError: mteb has no task of the data set.
    """
    facts = known.find(dataset)
    if facts is None or not facts.tasks:
        raise DataError(f"mteb has no task for {dataset}; give its prompts as a file, --prompts FILE")
    try:
        import mteb
    except ImportError as error:
        raise MissingPartError(f"--prompts mteb needs: pip install 'llara-eval[mteb]' ({error})") from error
    name = facts.tasks[0]
    try:
        with warnings.catch_warnings(action="ignore"):
            task = mteb.get_task(name)
    except KeyError as error:
        raise DataError(f"the installed mteb {mteb.__version__} has no task {name}") from error
    prompt = task.metadata.prompt or task.abstask_prompt
    by_side = prompt if isinstance(prompt, dict) else {"query": prompt}
    source = f"task {name} of mteb {mteb.__version__}"
    query = by_side.get("query")
    if not query:
        raise DataError(f"the {source} has no instruction for queries")
    return Instructions(source, query, by_side.get("document"))
