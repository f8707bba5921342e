"""A GGUF file → a safetensors folder in the cache."""

import io
import logging
import sys
from contextlib import nullcontext, redirect_stderr
from pathlib import Path

import torch

from llara_eval.core.errors import DataError, MissingPartError
from llara_eval.core.files import sha256_of
from llara_eval.core.folders import atomic_folder
from llara_eval.core.paths import home

logger = logging.getLogger(__name__)


def convert_gguf(path: Path) -> Path:
    """Convert a GGUF file to a safetensors folder in the cache, once, and return that folder.

    Raises:
        DataError: The file cannot be read as a model.
        MissingPartError: The reader for GGUF is not installed.
    """
    folder = home() / "models" / f"{path.stem}-{sha256_of(path)[:16]}"
    if (folder / "config.json").is_file():
        return folder
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils.logging import disable_progress_bar

    logger.info("converting %s to safetensors, once", path.name)
    where = {"gguf_file": path.name, "local_files_only": True}
    disable_progress_bar()
    try:
        # Without dequantizing, the model cannot be saved; its progress bar is for terminals only.
        with nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):
            model = AutoModelForCausalLM.from_pretrained(
                path.parent, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32, **where
            )
            tokenizer = AutoTokenizer.from_pretrained(path.parent, **where)
        with atomic_folder(folder) as unfinished:
            model.save_pretrained(unfinished, safe_serialization=True)
            tokenizer.save_pretrained(unfinished)
    except ImportError as error:
        raise MissingPartError(f"reading {path.name} needs: pip install gguf") from error
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: cannot be read as a GGUF model: {error}") from error
    return folder
