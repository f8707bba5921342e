"""Every kind of checkpoint gives the vectors of its author's library, or is refused with a sentence."""

import numpy as np
import pytest
from checkpoint_kinds import TEXTS, all_kinds
from checkpoint_page import PAGE, page

from adapters import open_system
from adapters.options import Context
from llara_eval.core.errors import LlaraEvalError
from llara_eval.encoding.check import check
from llara_eval.encoding.templates import SIDES

FLOOR = 0.99999
"""The least agreement with the author's vectors, in float32."""


def agreement(ours, theirs):
    """Return the cosine of vectors of equal length, and less if their lengths differ."""
    return 2 * (ours * theirs).sum(1) / ((ours**2).sum(1) + (theirs**2).sum(1))


@pytest.mark.parity
@pytest.mark.parametrize("kind", all_kinds(), ids=lambda kind: f"{kind.name}: {kind.outcome}")
def test_a_kind_of_checkpoint_is_read_as_its_author_means(tmp_path, kind) -> None:
    folder = tmp_path / "model"
    theirs = kind.make(folder)
    options = {"dtype": "float32", **kind.options}
    context = Context(home=tmp_path / "home", offline=True)
    if kind.refused is not None:
        with pytest.raises(LlaraEvalError, match=kind.refused):
            check(open_system(str(folder), options, context).encoder, TEXTS)
        return
    encoder = open_system(str(folder), options, context).encoder
    for side in SIDES:
        ours = encoder.encode(TEXTS, side)
        assert np.min(agreement(ours, theirs(TEXTS, side))) >= FLOOR


def test_the_page_shows_these_kinds() -> None:
    assert len({kind.name for kind in all_kinds()}) >= 25
    assert PAGE.read_text(encoding="utf-8") == page(), "python tests/support/checkpoint_page.py"
