"""Token ids on disk, one file for each shard, so that every text is tokenised once.

A store is a folder that is named by a hash of what decides the token ids: tokenizer, template and maximum
length. Checkpoints that share these share the store, and encoding a shard needs neither texts nor tokenizer.
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
from llara_eval.vectors.shards import Listing, cut
from llara_eval.vectors.store_folder import StoreFolder


class TokenStore:
    """The token ids of shards, for one tokenizer of Hugging Face and one template."""

    def __init__(self, root: StoreFolder, tokenizer: Any, template: Template) -> None:
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
        if template.cut != "end":
            self.key["cut"] = template.cut
        if not (template.prefix or template.suffix):  # an empty text becomes one of these
            self.key["empty"] = [tokenizer.eos_token_id, tokenizer.pad_token_id]
        self.folder = root.of_key(self.key)

    def prepare(
        self,
        name: str,
        items: Iterable[tuple[str, str]],
        *,
        total: int | None,
        lease_seconds: float = EXPIRES,
        progress: Progress = SILENT,
    ) -> Listing:
        """Tokenise the texts of a collection that the store still lacks, and return the collection's shards.

        The name of a collection is a hash of its content. Its items are (identifier, text) in a fixed order,
        and are not read if the store is complete. Another worker's lease expires after ``lease_seconds``.

        Raises:
            DataError: The store's folder has another key.
        """
        self.folder.claim(self.key)
        leases = self.folder.leases(lease_seconds)
        with leases.hold(name, wait=True):
            stored = Listing.load(self.folder, name)
            if stored is not None and all(self._has(shard.content) for shard in stored.shards):
                return stored
            with progress.task("tokenise", total) as advance, Listing.writer(self.folder, name) as add:
                for shard in cut(items):
                    if not self._has(shard.content):
                        self._write(shard.content, self.template.token_ids(self.tokenizer, shard.texts))
                    listing = add(shard)
                    leases.renew(name)
                    advance(len(shard.ids))
            return listing

    def read(self, content: str) -> list[NDArray[np.integer]] | None:
        """Return the token ids (L,) of each text of a shard; None if they are missing or damaged."""
        sequences, file = self._load(content), f"{content}.npz"
        if sequences is None and self.folder.download(file):
            sequences = self._load(content)
            if sequences is None:
                self.folder.delete_remote(file)
        return sequences

    def _has(self, content: str) -> bool:
        return self.folder.has(f"{content}.npz", is_local=self._load(content) is not None)

    def _load(self, content: str) -> list[NDArray[np.integer]] | None:
        try:
            file = self.folder.path / f"{content}.npz"
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
                ids, ends = arrays["ids"], arrays["ends"]
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile):
            return None  # each array in the archive has a checksum; the directory of the archive has none
        return np.split(ids, ends[:-1])

    def _write(self, content: str, sequences: Sequence[Sequence[int]]) -> None:
        ends = np.cumsum([len(sequence) for sequence in sequences])
        ids = np.concatenate(sequences)
        dtype = np.uint16 if ids.max() < 1 << 16 else np.uint32
        archive = io.BytesIO()
        np.savez(archive, ids=ids.astype(dtype), ends=ends)
        with atomic_write(self.folder.path / f"{content}.npz") as file:
            file.write(archive.getbuffer())
        self.folder.upload(f"{content}.npz")


def _fingerprint(tokenizer: Any) -> str:
    """Return a hash of everything that decides a tokenizer's output, except truncation and padding."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # a tokenizer written in Python has no single description
        names = {*tokenizer.vocab_files_names.values(), "tokenizer_config.json", "added_tokens.json"}
        files = (Path(tokenizer.name_or_path) / name for name in sorted(names))
        behaviour: Any = [
            type(tokenizer).__name__,
            sorted(tokenizer.get_vocab().items()),
            [[path.name, sha256_of(path)] for path in files if path.is_file()],
        ]
    else:
        behaviour = {**json.loads(backend.to_str()), "truncation": None, "padding": None}
        if getattr(tokenizer, "split_special_tokens", False):  # a setting outside the backend
            behaviour["split_special_tokens"] = True
    return hashlib.sha256(json.dumps(behaviour, sort_keys=True).encode()).hexdigest()
