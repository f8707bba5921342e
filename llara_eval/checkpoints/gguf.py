"""Conversion of a GGUF file to a safetensors folder in the cache."""

import io
import logging
import sys
from contextlib import nullcontext, redirect_stderr
from pathlib import Path

import torch

from llara_eval.core.errors import DataError, MissingPartError, UsageError
from llara_eval.core.files import sha256_of, slug, write_json
from llara_eval.core.folders import atomic_folder
from llara_eval.core.leases import Leases
from llara_eval.core.paths import home
from llara_eval.core.sealed import is_whole, seal_folder

logger = logging.getLogger(__name__)

_POOLINGS = {1: "mean", 2: "cls", 3: "lasttoken"}
"""``pooling_type`` of a GGUF file → the pooling's name in sentence-transformers."""

_LONGEST = 3_600.0
"""Seconds after which the conversion of another process counts as abandoned."""


def convert_gguf(path: Path) -> Path:
    """Convert a GGUF file to a safetensors folder in the cache and return the folder.

    A file is converted once; a process that finds another one converting it waits.

    Raises:
        DataError: The file cannot be read as a model.
        UsageError: The model gives no vectors.
        MissingPartError: The reader of GGUF files is not installed.
    """
    folder = home() / "models" / f"{slug(path.stem)}-{sha256_of(path)[:16]}"
    if not is_whole(folder):
        with Leases(home() / "leases", expires=_LONGEST).hold(folder.name, wait=True):
            if not is_whole(folder):
                _convert(path, folder)
    return folder


def _pooling(path: Path) -> str | None:
    """Return the name of the pooling that a GGUF file asks for, as in sentence-transformers; None if none.

    Raises:
        UsageError: The model gives relevances, no vectors, or the pooling is unknown.
    """
    from gguf import GGUFReader, Keys, PoolingType

    fields = GGUFReader(path).fields
    architecture = fields[Keys.General.ARCHITECTURE].contents()
    field = fields.get(Keys.LLM.POOLING_TYPE.format(arch=architecture))
    value = PoolingType.NONE if field is None else field.contents()
    if value not in (*_POOLINGS, PoolingType.NONE):
        raise UsageError(f"{path}: pooling_type {value}; only mean (1), cls (2) and last (3) give vectors")
    return _POOLINGS.get(value)


def _write_pooling(folder: Path, pooling: str) -> None:
    """Write the modules of sentence-transformers beside a model; llama.cpp normalises its vectors too."""
    package = "sentence_transformers.models"
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    write_json(
        folder / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"{package}.{name}"}
            for i, (path, name) in enumerate(modules)
        ],
    )
    write_json(folder / "1_Pooling" / "config.json", {"pooling_mode": pooling})


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
        pooling = _pooling(path)
        with atomic_folder(folder, replace=True) as unfinished:
            model.save_pretrained(unfinished, safe_serialization=True)
            tokenizer.save_pretrained(unfinished)
            if pooling is not None:
                _write_pooling(unfinished, pooling)
            seal_folder(unfinished)
    except ImportError as error:
        raise MissingPartError(f"reading {path.name} needs: pip install gguf") from error
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: cannot be read as a GGUF model: {error}") from error
