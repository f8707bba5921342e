"""The two files that mining writes: rows, and beside them the record of how they were made."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llara_eval.core.decode import read_record
from llara_eval.core.errors import UsageError
from llara_eval.core.files import refuse_inputs, sha256_of
from llara_eval.core.own_files import require_own


@dataclass(frozen=True, slots=True)
class _Written:
    """The fields of a record that say which file it is about: the new one, or the one that was replaced."""

    sha256: str
    replaced: str | None
    system: str
    corpus: str


def check_pair(output: Path, data: Sequence[Path], *, overwrite: bool) -> tuple[Path, str | None]:
    """Check that rows and their record may be written.

    Args:
        output: The file of the rows.
        data: The pairs that are read.
        overwrite: Whether an earlier pair of files may be replaced.

    Returns:
        The file of the record, and the SHA-256 of the rows that will be replaced, if there are any.

    Raises:
        UsageError: ``output`` does not end in ``.jsonl``; or one of both files is an input, or exists and may
            not be replaced, or was not written by mining, or changed since.
    """
    record = output.with_suffix(".json")
    if output.suffix != ".jsonl" or ((output.exists() or record.exists()) and not overwrite):
        raise UsageError(
            f"{output} must end in .jsonl, and neither it nor {record.name} exist (or --overwrite)"
        )
    for path in (output, record):
        refuse_inputs(path, data)
    replaced = sha256_of(output) if output.is_file() else None

    def is_own(path: Path) -> bool:
        written = read_record(record, _Written)
        return path == record or replaced in (written.sha256, written.replaced)

    for path in (output, record):
        require_own(path, is_own, "mine")
    return record, replaced
