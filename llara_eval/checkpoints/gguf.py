"""Conversion of a GGUF file to a safetensors folder in the cache."""

import io
import logging
import sys
from contextlib import nullcontext, redirect_stderr
from pathlib import Path

import torch

from llara_eval.core.errors import DataError, MissingPartError
from llara_eval.core.files import sha256_of
from llara_eval.core.folders import atomic_folder
from llara_eval.core.leases import Leases
from llara_eval.core.paths import home

logger = logging.getLogger(__name__)

_LONGEST = 3_600.0
"""Seconds after which the conversion of another process counts as abandoned."""


def convert_gguf(path: Path) -> Path:
    """Convert a GGUF file to a safetensors folder in the cache and return the folder.

    A file is converted once; a process that finds another one converting it waits.

    Raises:
        DataError: The file cannot be read as a model.
        MissingPartError: The reader of GGUF files is not installed.
    """
    folder = home() / "models" / f"{path.stem}-{sha256_of(path)[:16]}"
    if not folder.is_dir():
        with Leases(home() / "leases", expires=_LONGEST).hold(folder.name, wait=True):
            if not folder.is_dir():
                _convert(path, folder)
    return folder


def _convert(path: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils.logging import disable_progress_bar

    logger.info("converting %s to safetensors, once", path.name)
    source = {"gguf_file": path.name, "local_files_only": True}
    disable_progress_bar()
    try:
        # A model that is not dequantized cannot be saved. Its progress bar is for terminals only.
        with nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):
            model = AutoModelForCausalLM.from_pretrained(
                path.parent, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32, **source
            )
            tokenizer = AutoTokenizer.from_pretrained(path.parent, **source)
        with atomic_folder(folder) as unfinished:
            model.save_pretrained(unfinished, safe_serialization=True)
            tokenizer.save_pretrained(unfinished)
    except ImportError as error:
        raise MissingPartError(f"reading {path.name} needs: pip install gguf") from error
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: cannot be read as a GGUF model: {error}") from error
