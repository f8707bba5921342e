"""Queries whose identifiers are those of documents, and whether these documents are left out of the rankings.

In ArguAna a query is a document of the corpus, and the document itself would be its best hit. Elsewhere ids
may merely collide, and leaving out a document would remove a relevant one. So the user decides, or else the
data set, if it declares a rule or its documents are those of a public data set that does. Where neither
decides, the documents stay, and a warning says how many queries are concerned.
"""

from typing import Literal

from llara_eval.datasets import known as catalogue
from llara_eval.datasets.corpus import CorpusFacts

OwnIds = Literal["drop", "keep"]
"""Whether the document with a query's own identifier is left out of its ranking."""


def own_id_rule(
    facts: CorpusFacts, declared: bool | None, own_ids: OwnIds | None
) -> tuple[bool, str, tuple[str, ...]]:
    """Return whether own ids are dropped, an ending of the data set's name, and warnings.

    Args:
        facts: The counts of the corpus.
        declared: Whether the data set says that own ids are dropped or kept; None: it does not say.
        own_ids: What the user wants; None: what the data set says or, if it says nothing, to keep them.
    """
    twin = catalogue.with_documents(facts.ids) if declared is None else None
    usual = twin.drop_own_ids if twin else bool(declared)
    drop = usual if own_ids is None else own_ids == "drop"
    ending = "" if drop == usual else f"+own-ids-{own_ids}"
    if not facts.own_ids or (declared is not None and drop == usual):
        return drop, ending, ()
    queries = (
        f"{facts.own_ids:,} queries have the id of a document ({facts.own_texts:,} of them its text, too)"
    )
    happens = "are left out of" if drop else "stay in"
    warning = f"{queries}; these documents {happens} the rankings of their queries"
    if own_ids is not None:
        warning += f", as --own-ids {own_ids} says"
    elif twin and twin.drop_own_ids:
        warning += f", as in {twin.name}, whose documents these are"
    else:
        warning += "; --own-ids drop leaves them out"
    return drop, ending, (warning,)
