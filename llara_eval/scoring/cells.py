"""Lines of runs and judgements as cells: tabs or white space between columns, and comments.

If a line has as many cells between tabs as the first line, and none begins or ends with a space, only tabs
separate its columns, so that identifiers may contain spaces; otherwise any white space separates them. A line
that begins with ``#`` and a space is a comment, as in trec_eval 10; an identifier may begin with ``#``.
"""

import math
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from llara_eval.core.errors import DataError
from llara_eval.core.lines import text_lines
from llara_eval.core.reading import is_present


class Form(NamedTuple):
    """How the lines of a file are divided.

    Attributes:
        columns: Number of columns of the first line.
        separator: What separates its columns: a tab, or None for any white space.
    """

    columns: int
    separator: str | None


def sniff(path: Path, valid: Callable[[list[str]], bool]) -> tuple[int, Form, bool]:
    """Return the number of the first line with content, its form, and whether it is valid.

    Args:
        path: The file.
        valid: Returns whether cells can be a line of the file. If those between tabs cannot, and those
            between white space can, these are the columns.

    Raises:
        DataError: The file is missing or has no lines.
    """
    if not is_present(path):
        raise DataError(f"{path}: no such file")
    for number, line in _content(path):
        forms = [Form(len(line.split(separator)), separator) for separator in _order("\t", line)]
        valid_form = next((form for form in forms if valid(line.split(form.separator))), None)
        return number, valid_form or forms[0], valid_form is not None
    raise DataError(f"{path}: the file is empty")


def rows(path: Path, form: Form) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number from 1, cells) of the lines with content, each with as many cells as the first.

    Raises:
        DataError: A line has another number of cells.
    """
    for number, line in _content(path):
        for separator in _order(form.separator, line):
            cells = line.split(separator)
            if len(cells) == form.columns:
                yield number, cells
                break
        else:
            columns = len(line.split(form.separator))
            raise DataError.at(path, number, f"{columns} columns, expected {form.columns}")


def as_number(text: str) -> float:
    """Return the number in a cell; NaN if the cell holds no number."""
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan


def is_number(text: str) -> bool:
    """Return whether a cell holds a number."""
    return not math.isnan(as_number(text))


def _order(first: str | None, line: str) -> tuple[str | None, ...]:
    """Return the separators of a line that may be meant, the likeliest first."""
    if "\t" not in line:
        return (None,)
    cells = line.split("\t")
    between_tabs = first is not None and all(cell == cell.strip(string.whitespace) for cell in cells)
    return ("\t", None) if between_tabs else (None, "\t")


def _content(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are neither blank nor comments."""
    for number, line in text_lines(path):
        if line.strip() and not (line[:1] == "#" and line[1:2] in ("", " ")):
            yield number, line
