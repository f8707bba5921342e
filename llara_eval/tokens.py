"""Texts tokenised once: flat token ids on disk, a file for each shard.

A store is a folder named by what decides the ids: tokenizer, template and length limit. Checkpoints that
share these share the store, and whoever encodes a shard needs neither its texts nor the tokenizer.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_eval.files import atomic_write, write_json
from llara_eval.leases import Leases
from llara_eval.protocols import SILENT, Progress
from llara_eval.shards import Listing, cut
from llara_eval.templates import Template


class TokenStore:
    """The token ids of shards, for one tokenizer and template.

    Args:
        root: The folder that holds all stores.
        tokenizer: A Hugging Face tokenizer.
        template: How texts become sequences.
    """

    def __init__(self, root: Path, tokenizer: Any, template: Template) -> None:
        self.tokenizer = tokenizer
        self.template = template
        key = {
            "format": 1,
            "tokenizer": _fingerprint(tokenizer),
            "prefix": template.prefix,
            "prompt": template.prompt,
            "suffix": template.suffix,
            "max_length": template.max_length,
        }
        text = json.dumps(key, sort_keys=True, ensure_ascii=False)
        self.folder = root / hashlib.sha256(text.encode()).hexdigest()[:32]
        if not (self.folder / "key.json").is_file():
            write_json(self.folder / "key.json", key)

    def prepare(
        self, name: str, items: Iterable[tuple[str, str]], *, total: int | None, progress: Progress = SILENT
    ) -> Listing:
        """Tokenise what the store still lacks of a collection.

        Args:
            name: Of the collection, by its content.
            items: (identifier, text) in a fixed order; not read if all is there.
            total: Number of items, for the progress shown.
            progress: Where to show it.

        Returns:
            The collection's shards.
        """
        leases = Leases(self.folder / "leases")
        with leases.hold(name, wait=True):
            known = Listing.load(self.folder, name)
            if known is not None and all(self.read(piece.content) is not None for piece in known.pieces):
                return known
            with progress.task("tokenise", total) as advance, Listing.writer(self.folder, name) as add:
                for shard in cut(items):
                    if self.read(shard.content) is None:
                        self._write(shard.content, self.template.token_ids(self.tokenizer, shard.texts))
                    listing = add(shard)
                    leases.renew(name)
                    advance(len(shard.ids))
            return listing

    def read(self, content: str) -> list[NDArray[np.integer]] | None:
        """Return the sequences of a shard; None if they are not there, or not whole."""
        try:
            with np.load(self._file(content), allow_pickle=False) as file:
                ids, ends = file["ids"], file["ends"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None  # every array in the archive has a checksum
        return np.split(ids, ends[:-1])

    def _write(self, content: str, sequences: Sequence[Sequence[int]]) -> None:
        ends = np.cumsum([len(sequence) for sequence in sequences])
        ids = np.concatenate(sequences)
        kind = np.uint16 if ids.max() < 1 << 16 else np.uint32
        packed = io.BytesIO()
        np.savez(packed, ids=ids.astype(kind), ends=ends)
        with atomic_write(self._file(content)) as file:
            file.write(packed.getbuffer())

    def _file(self, content: str) -> Path:
        return self.folder / f"{content}.npz"


def _fingerprint(tokenizer: Any) -> str:
    """Return a hash of what a tokenizer does; how it was last told to cut and pad is no part of that."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # written in Python: by its vocabulary and class
        does: Any = [type(tokenizer).__name__, sorted(tokenizer.get_vocab().items())]
    else:
        does = {**json.loads(backend.to_str()), "truncation": None, "padding": None}
    return hashlib.sha256(json.dumps(does, sort_keys=True).encode()).hexdigest()
