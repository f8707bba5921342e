"""A checkpoint folder → a folder for sentence-transformers, which is checked to give the same vectors."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from llara_eval.checkpoints import libraries, st_write
from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.checkpoints.load import AS_IT_IS, LoadOptions, load
from llara_eval.checkpoints.tokenizer import TOKENIZER_FILE, overruling
from llara_eval.core.errors import CheckFailedError, MissingPartError, UsageError
from llara_eval.core.folders import atomic_folder
from llara_eval.core.paths import real_path, user_path
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.core.sealed import CHECKSUMS, changes, seal_folder
from llara_eval.encoding.encoder import Encoder
from llara_eval.encoding.templates import SIDES, Side

logger = logging.getLogger(__name__)

_FLOOR = 0.9999
"""The least agreement of equal vectors in float32."""


def export(
    folder: Path | Checkpoint,
    output: Path,
    options: LoadOptions = AS_IT_IS,
    *,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> None:
    """Write a checkpoint as a sentence-transformers folder and check that it gives the same vectors.

    Args:
        folder: A checkpoint folder, or a checkpoint that is already open.
        output: The folder to write; it appears only after the check has passed.
        options: What decides the templates. What neither this nor the checkpoint says is a warning in the
            log.
        overwrite: Whether an earlier export is replaced, unless it changed since.
        progress: Shows the three steps: read, write, check.

    Raises:
        MissingPartError: sentence-transformers is not installed.
        UsageError: The output may not be written, or sentence-transformers cannot apply a template; or code
            of the checkpoint may run, or each data set has a prompt of its own, which an export has not.
        DataError: The checkpoint cannot be read.
        CheckFailedError: The exported folder gives other vectors, or it is unclear which of the stored
            prompts is meant.
    """
    try:
        import sentence_transformers  # noqa: F401
    except ImportError as error:
        raise MissingPartError(f"export needs: pip install sentence-transformers ({error})") from error
    checkpoint = folder if isinstance(folder, Checkpoint) else Checkpoint(folder)
    output = real_path(user_path(output))
    _check_output(real_path(checkpoint.folder), output, overwrite)
    if checkpoint.code:
        raise UsageError(f"{checkpoint.folder} runs code of its own, which an export would not have")
    with progress.task("export", 3) as advance, atomic_folder(output, replace=True) as unfinished:
        encoder = load(checkpoint, options, dtype="float32")
        if encoder.origin.pending:
            raise UsageError("an export has one prompt a side: give --query-prompt and --document-prompt")
        for warning in encoder.origin.warnings:
            logger.warning(warning)
        st_write.check_representable(encoder)
        texts = _probes(encoder)
        expected = {side: encoder.encode(texts, side) for side in SIDES}
        device = str(encoder.device)
        advance()
        st_write.write(encoder, unfinished, output.name)
        _check_tokenizers(unfinished)
        del encoder  # makes room for the weights that the check reads
        advance()
        _verify(unfinished, texts, expected, device)
        seal_folder(unfinished)
        advance()


def _check_output(folder: Path, output: Path, overwrite: bool) -> None:
    """Raise a UsageError if the output may not be written."""
    if output == folder or output in folder.parents:
        raise UsageError(f"--output {output} holds the checkpoint itself; name another folder")
    if output.exists() and not overwrite:
        raise UsageError(f"{output} exists; name another folder or add --overwrite")
    if output.exists() and not (output / CHECKSUMS).is_file():
        raise UsageError(f"{output} is not an earlier export and cannot be replaced; name another folder")
    if output.exists() and (others := changes(output)):
        raise UsageError(
            f"{output} holds {', '.join(others[:5])}, which no export wrote or which changed since; "
            "move that away, or choose another --output"
        )


def _check_tokenizers(folder: Path) -> None:
    """Raise a UsageError if transformers would read an exported tokenizer in another way than it is."""
    for file in sorted(folder.rglob(TOKENIZER_FILE)):
        config = libraries.read_config(file.parent, trusted=False)
        if (name := overruling(file.parent, config)) is not None:
            raise UsageError(
                f"transformers reads every tokenizer of a {config.model_type} model as {name}, which gives "
                "other token ids than the one of this checkpoint; it cannot be exported"
            )


def _probes(encoder: Encoder) -> list[str]:
    """Return texts that reveal differences: empty, short, odd, longer than the limit, with special tokens."""
    longest = max(encoder.templates.of(side).max_length for side in SIDES)
    return [
        "",
        "eclipse",
        "  The moon passes between the sun and the earth,\n\n\tseen from … 日本 🌘 e\u0301\u200b\x07 ﬁn.  ",
        "so that no text fits " * longest,
        "said " + " and ".join(sorted(encoder.tokenizer.get_added_vocab())),
    ]


def _verify(
    folder: Path, texts: Sequence[str], expected: Mapping[Side, NDArray[np.float32]], device: str
) -> None:
    """Raise a CheckFailedError if the export gives other vectors than the checkpoint."""
    model = libraries.read_modules(folder, device=device, dtype=torch.float32, trusted=False)
    encode = {"query": model.encode_query, "document": model.encode_document}
    for side, ours in expected.items():
        theirs = encode[side](list(texts), show_progress_bar=False, convert_to_numpy=True)
        # This is the cosine of vectors of equal length, and less if their lengths differ.
        agreement = 2 * (ours * theirs).sum(1) / ((ours**2).sum(1) + (theirs**2).sum(1))
        worst = int(np.argmin(agreement))
        if not agreement[worst] > _FLOOR:
            raise CheckFailedError(
                f"sentence-transformers gives another {side} vector for {texts[worst][:60]!r} "
                f"(cosine {agreement[worst]:.5f}, needed above {_FLOOR}); nothing was written"
            )
