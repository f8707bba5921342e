"""What is done where an output exists already: the words of ``--on-existing`` and ``on_existing=``."""

from typing import Literal

OnExistingResult = Literal["only-missing", "always", "never"]
"""Of an evaluation: ``only-missing`` keeps a result of the same settings and data, ``always`` measures again,
``never`` keeps any result."""

OnExistingRun = Literal["only-missing", "always", "refuse"]
"""Of a training run: ``only-missing`` continues it, or keeps it if it is finished, ``always`` starts again,
``refuse`` ends with an error."""
