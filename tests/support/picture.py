"""The picture of the README: the comparison of results in runs/, as a terminal shows it.

``python tests/support/picture.py > docs/compare.svg`` draws it again after results have changed.
"""

import io
import os
import re
import shlex
import subprocess
import sys

from checkout import ROOT
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

COMMAND = "llara-eval compare bm25 bm25-multifield all-minilm-l6-v2 smollm2-135m --dataset scifact"
WIDTH = 94
FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"


def picture() -> str:
    """Return the picture as SVG; it names fonts of the reader's machine and downloads none."""
    shown = subprocess.run(
        [sys.executable, "-m", *shlex.split(COMMAND.replace("llara-eval", "llara_eval"))],
        cwd=ROOT,
        env={**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        encoding="utf-8",
    ).stdout
    console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False)
    console.print(Text(f"$ {COMMAND}\n", style="bold green"))
    console.print(Text.from_ansi(shown))
    without_fonts = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    drawing = console.export_svg(title="llara-eval", code_format=without_fonts, unique_id="compare")
    return re.sub(r"Fira Code, ?monospace|Fira Code", FONT, drawing)


if __name__ == "__main__":
    sys.stdout.write(picture())
