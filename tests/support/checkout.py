"""The folder of this checkout, and the shared folder beside it."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("LLARA_EVAL_SHARED", ROOT.parent / "shared"))
