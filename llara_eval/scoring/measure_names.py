"""The names of measures in other tools, in any case, and the form that ir_measures reads."""

import re

import ir_measures

from llara_eval.scoring.beir_measures import R_CAP

_ALIASES = {
    "ndcg_cut": "nDCG",
    "recip_rank": "RR",
    "map_cut": "AP",
    "recall": "R",
    "recall_cap": R_CAP,
    "precision": "P",
    "hit": "Success",
    "hit_rate": "Success",
}
"""Names in trec_eval, BEIR and ranx → names in ir_measures."""

_NAMES = {name.lower(): name for name in ir_measures.measures.registry} | _ALIASES

_FORM = re.compile(
    r"(?P<name>[a-z]+(?:_[a-z]+)*?)(?P<params>\(.*\))?(?:[@_.](?P<cutoff>[0-9]+))?", re.IGNORECASE
)


def standard_name(name: str) -> str:
    """Return a measure as ir_measures reads it: ``ndcg_cut_10`` and ``NDCG@10`` are ``nDCG@10``.

    A name of another form, or of another measure, is returned as it is.
    """
    match = _FORM.fullmatch(name.strip())
    standard = _NAMES.get(match["name"].lower()) if match else None
    if match is None or standard is None:
        return name.strip()
    cutoff = "" if match["cutoff"] is None else f"@{match['cutoff']}"
    return f"{standard}{match['params'] or ''}{cutoff}"
