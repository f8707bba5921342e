"""Conversion of a GGUF file to a safetensors folder in the cache."""

import logging
import shutil
import struct
from mmap import ACCESS_READ, mmap
from pathlib import Path

from llara_eval.checkpoints import libraries
from llara_eval.checkpoints.libraries import read_gguf, read_gguf_header
from llara_eval.core.errors import DataError, UsageError
from llara_eval.core.files import sha256_of, slug, write_json
from llara_eval.core.folders import atomic_folder
from llara_eval.core.leases import Leases
from llara_eval.core.paths import home
from llara_eval.core.reading import open_regular
from llara_eval.core.sealed import is_whole, seal_folder

logger = logging.getLogger(__name__)

_POOLINGS = {1: "mean", 2: "cls", 3: "lasttoken"}
"""``pooling_type`` of a GGUF file → the pooling's name in sentence-transformers."""

_STRING, _ARRAY = 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Types of values in a GGUF file: numbers of a type with a fixed size → the size in bytes."""

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
        DataError: The file cannot be read, holds no weights, or says more layers than it has tensors.
    """
    _check_extent(path)
    values, tensors = read_gguf_header(path)
    architecture = values.get("general.architecture")
    layers = values.get(f"{architecture}.block_count", 0)
    if not tensors or not isinstance(layers, int) or layers > tensors:
        raise DataError(f"{path}: {tensors} tensors cannot be a model of {layers} layers")
    value = values.get(f"{architecture}.pooling_type", 0)
    if value not in (0, *_POOLINGS):
        raise UsageError(f"{path}: pooling_type {value}; only mean (1), cls (2) and last (3) give vectors")
    return _POOLINGS.get(value)


def _check_extent(path: Path) -> None:
    """Check that the values in the header of a GGUF file end in the file: its reader does not.

    The layout is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.

    Raises:
        DataError: They do not, or are of an unknown type.
    """
    with open_regular(path) as file, libraries.reading(path, "cannot be read as a GGUF model"):
        content = mmap(file.fileno(), 0, access=ACCESS_READ)
        order = "<" if struct.unpack_from("<I", content, 4)[0] & 0xFFFF else ">"
        number, kind_and_count = struct.Struct(f"{order}Q"), struct.Struct(f"{order}IQ")
        position = 24

        def skip(kind: int) -> None:
            nonlocal position
            if kind == _STRING:
                position += 8 + number.unpack_from(content, position)[0]
            elif kind == _ARRAY:
                inner, count = kind_and_count.unpack_from(content, position)
                position += 12
                if inner in _SIZES:
                    position += count * _SIZES[inner]
                else:
                    for _ in range(count):
                        skip(inner)
            else:
                position += _SIZES[kind]

        for _ in range(number.unpack_from(content, 16)[0]):
            skip(_STRING)
            kind = struct.unpack_from(f"{order}I", content, position)[0]
            position += 4
            skip(kind)
        if position > len(content):
            raise DataError(f"{path}: the header of the GGUF file is longer than the file")


def _write_pooling(folder: Path, pooling: str, width: int) -> None:
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
    config = {"embedding_dimension": width, "pooling_mode": pooling}
    write_json(folder / "1_Pooling" / "config.json", config)


def _convert(path: Path, folder: Path) -> None:
    logger.info("converting %s to safetensors, once", path.name)
    pooling = _pooling(path)
    model, tokenizer = read_gguf(path)
    shutil.rmtree(folder, ignore_errors=True)  # a damaged one
    with atomic_folder(folder) as unfinished:
        model.save_pretrained(unfinished, safe_serialization=True)
        tokenizer.save_pretrained(unfinished)
        if pooling is not None:
            _write_pooling(unfinished, pooling, model.config.hidden_size)
        seal_folder(unfinished)
