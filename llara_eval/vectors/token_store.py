"""Texts are tokenised once: flat token ids on disk, one file for each shard.

A store is a folder named by what decides the token ids: tokenizer, template and maximum length. Checkpoints
that share these share the store, and encoding a shard needs neither its texts nor the tokenizer.
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

from llara_eval.core.files import atomic_write, sha256_of
from llara_eval.core.leases import EXPIRES
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.encoding.templates import Template
from llara_eval.vectors.place import Folder
from llara_eval.vectors.shards import Listing, cut


class TokenStore:
    """The token ids of shards, for one tokenizer and template.

    Args:
        root: The folder of all stores.
        tokenizer: A Hugging Face tokenizer.
        template: The template that turns texts into sequences.
    """

    def __init__(self, root: Path | Folder, tokenizer: Any, template: Template) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.key = {
            "format": 1,
            "tokenizer": _fingerprint(tokenizer),
            "prefix": template.prefix,
            "prompt": template.prompt,
            "suffix": template.suffix,
            "max_length": template.max_length,
        }
        if not (template.prefix or template.suffix):  # one of these stands for an empty text
            self.key["empty"] = [tokenizer.eos_token_id, tokenizer.pad_token_id]
        text = json.dumps(self.key, sort_keys=True, ensure_ascii=False)
        self.place = Folder.of(root) / hashlib.sha256(text.encode()).hexdigest()[:32]
        self.folder = self.place.path

    def prepare(
        self,
        name: str,
        items: Iterable[tuple[str, str]],
        *,
        total: int | None,
        lease_seconds: float = EXPIRES,
        progress: Progress = SILENT,
    ) -> Listing:
        """Tokenise the texts of a collection that the store still lacks.

        Args:
            name: The name of the collection, by its content.
            items: (identifier, text) in a fixed order; not read if the store lacks nothing.
            total: Number of items, for the progress shown.
            lease_seconds: How long another worker may be silent before this one takes over.
            progress: Where to show how far the work is.

        Returns:
            The collection's shards.

        Raises:
            DataError: The store's folder has another key.
        """
        self.place.claim(self.key)
        leases = self.place.leases(lease_seconds)
        with leases.hold(name, wait=True):
            known = Listing.load(self.place, name)
            if known is not None and all(self._has(piece.content) for piece in known.pieces):
                return known
            with progress.task("tokenise", total) as advance, Listing.writer(self.place, name) as add:
                for shard in cut(items):
                    if not self._has(shard.content):
                        self._write(shard.content, self.template.token_ids(self.tokenizer, shard.texts))
                    listing = add(shard)
                    leases.renew(name)
                    advance(len(shard.ids))
            return listing

    def read(self, content: str) -> list[NDArray[np.integer]] | None:
        """Return the sequences of a shard; None if they are missing or damaged."""
        sequences, file = self._load(content), self._file(content).name
        if sequences is None and self.place.bring(file):
            sequences = self._load(content)
            if sequences is None:
                self.place.drop(file)
        return sequences

    def _has(self, content: str) -> bool:
        """Whether the store has the sequences of a shard."""
        return self.place.has(self._file(content).name, here=self._load(content) is not None)

    def _load(self, content: str) -> list[NDArray[np.integer]] | None:
        try:
            with self._file(content).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                ids, ends = arrays["ids"], arrays["ends"]
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile):
            return None  # every array in the archive has a checksum; its directory has none
        return np.split(ids, ends[:-1])

    def _write(self, content: str, sequences: Sequence[Sequence[int]]) -> None:
        ends = np.cumsum([len(sequence) for sequence in sequences])
        ids = np.concatenate(sequences)
        dtype = np.uint16 if ids.max() < 1 << 16 else np.uint32
        packed = io.BytesIO()
        np.savez(packed, ids=ids.astype(dtype), ends=ends)
        with atomic_write(self._file(content)) as file:
            file.write(packed.getbuffer())
        self.place.share(self._file(content).name)

    def _file(self, content: str) -> Path:
        return self.folder / f"{content}.npz"


def _fingerprint(tokenizer: Any) -> str:
    """Return a hash of what a tokenizer does; its settings of truncation and padding are no part of it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # a tokenizer written in Python: hash its class, vocabulary and files
        names = {*tokenizer.vocab_files_names.values(), "tokenizer_config.json", "added_tokens.json"}
        files = (Path(tokenizer.name_or_path) / name for name in sorted(names))
        behaviour: Any = [
            type(tokenizer).__name__,
            sorted(tokenizer.get_vocab().items()),
            [[path.name, sha256_of(path)] for path in files if path.is_file()],
        ]
    else:
        behaviour = {**json.loads(backend.to_str()), "truncation": None, "padding": None}
        if getattr(tokenizer, "split_special_tokens", False):  # kept beside it
            behaviour["split_special_tokens"] = True
    return hashlib.sha256(json.dumps(behaviour, sort_keys=True).encode()).hexdigest()
