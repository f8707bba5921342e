"""The measures of BEIR that ir_measures lacks, as names that its parser reads.

They are computed by :mod:`llara_eval.scoring.formulas`.
"""

from typing import Any, ClassVar

import ir_measures

R_CAP, HOLE = "R_cap", "Hole"


class _OfBeir(ir_measures.measures.Measure):  # type: ignore[misc]
    """A measure of BEIR that ir_measures lacks; a cut-off is required."""

    SUPPORTED_PARAMS: ClassVar[dict[str, Any]] = {
        "cutoff": ir_measures.measures.ParamInfo(dtype=int, required=True),
        "rel": ir_measures.measures.ParamInfo(dtype=int, default=1),
    }


class _CappedRecall(_OfBeir):
    __name__ = NAME = R_CAP


class _Hole(_OfBeir):
    __name__ = NAME = HOLE


for _measure in (_CappedRecall(), _Hole()):
    ir_measures.measures.registry.setdefault(_measure.NAME, _measure)  # its parser looks for names there
