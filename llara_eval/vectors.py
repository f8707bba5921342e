"""Vectors on disk: content-addressed, in shards, resumable, never silently reused.

A store is a folder named by the hash of everything that decides a text's vector. A shard is named by its
texts and written whole or not at all, with a sidecar that holds its checksum and what the work cost; the
listing of a collection comes last. An interrupted encoding goes on at the first shard that is missing or
damaged.
"""

import hashlib
import io
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llara_eval.encoder import Encoder, Work
from llara_eval.errors import DataError
from llara_eval.files import atomic_write, sha256_of, write_json
from llara_eval.leases import Leases
from llara_eval.protocols import SILENT, Advance, Progress
from llara_eval.shards import Listing
from llara_eval.templates import Side
from llara_eval.tokens import TokenStore
from llara_eval.types import Ids

_POLL = 0.5
"""Seconds between two looks at shards that others are making."""


class Vectors(NamedTuple):
    """A shard of a collection.

    Attributes:
        ids: (n,) identifiers.
        vectors: (n, D) float16, mapped from disk.
    """

    ids: Ids
    vectors: NDArray[np.float16]


class VectorStore:
    """The vectors of one collection in a folder of shards that others may share.

    Args:
        root: The folder that holds all stores.
        key: Everything that decides the vector of a text, as JSON values.
        name: Of the collection, by its content.
    """

    def __init__(self, root: Path, key: Mapping[str, Any], name: str) -> None:
        self.key = dict(key)
        self.name = name
        text = json.dumps(self.key, sort_keys=True, ensure_ascii=False)
        self.folder = root / hashlib.sha256(text.encode()).hexdigest()[:32]
        key_file = self.folder / "key.json"
        if not key_file.is_file():
            write_json(key_file, self.key)
        elif json.loads(key_file.read_text(encoding="utf-8")) != json.loads(text):
            raise DataError(f"{self.folder} holds vectors of another key; delete that folder")

    def sidecar(self, content: str) -> dict[str, Any] | None:
        """Return a shard's record if the shard is whole and its checksum holds, else None."""
        try:
            record: dict[str, Any] = json.loads(self._file(content, "json").read_text(encoding="utf-8"))
            whole = sha256_of(self._file(content, "npy")) == record["npy"]
        except (OSError, ValueError, KeyError):
            return None
        return record if whole else None

    def write(self, content: str, vectors: NDArray[np.float32], cost: Mapping[str, float]) -> None:
        """Write one shard; its sidecar last, so that a shard with a sidecar is whole.

        Args:
            content: Hash of the shard's texts.
            vectors: (n, D), kept as float16.
            cost: What the work took, for the record.
        """
        self._file(content, "json").unlink(missing_ok=True)
        packed = io.BytesIO()
        np.save(packed, vectors.astype(np.float16), allow_pickle=False)
        with atomic_write(self._file(content, "npy")) as file:
            file.write(packed.getbuffer())
        checksum = hashlib.sha256(packed.getbuffer()).hexdigest()
        write_json(self._file(content, "json"), {"rows": len(vectors), "npy": checksum, **cost})

    def records(self) -> list[dict[str, Any]] | None:
        """Return the records of all shards, None if the store is not complete and whole."""
        listing = Listing.load(self.folder, self.name)
        if listing is None:
            return None
        records = [self.sidecar(piece.content) for piece in listing.pieces]
        return None if None in records else [record for record in records if record]

    @property
    def listing(self) -> Listing:
        """The shards of a complete store.

        Raises:
            DataError: The store is not complete.
        """
        listing = Listing.load(self.folder, self.name)
        if listing is None:
            raise DataError(f"{self.folder} is not a complete store of vectors of {self.name}")
        return listing

    def __iter__(self) -> Iterator[Vectors]:
        """Yield the shards of a complete store, in order.

        Raises:
            DataError: The store is not complete.
        """
        listing = self.listing
        for number, piece in enumerate(listing.pieces):
            vectors = np.load(self._file(piece.content, "npy"), mmap_mode="r", allow_pickle=False)
            yield Vectors(listing.ids(number), vectors)

    def _file(self, content: str, kind: str) -> Path:
        return self.folder / f"{content}.{kind}"


def fill(
    store: VectorStore,
    encoder: Encoder,
    tokens: TokenStore,
    items: Iterable[tuple[str, str]],
    side: Side,
    *,
    total: int | None,
    progress: Progress = SILENT,
) -> dict[str, float]:
    """Tokenise and encode what a store still lacks of its collection.

    Any number of processes may do this at the same time: each takes the shards that no other has taken.

    Args:
        store: The store; shards that are there and whole are kept.
        encoder: The encoder that the store's key describes.
        tokens: Where token ids are kept, for the encoder's template.
        items: (identifier, text) in a fixed order.
        side: Which template to use.
        total: Number of items, for the progress shown.
        progress: Where to show it.

    Returns:
        What the vectors cost when they were made: seconds, tokens, padded (tokens with padding),
        rows; and ``reused``, the rows that were found rather than made now.
    """
    records = store.records()
    made = 0
    if records is None:
        listing = tokens.prepare(store.name, items, total=total, progress=progress)
        with progress.task(f"encode {side}s", total) as advance:
            made = _encode(store, encoder, tokens, listing, side, advance)
        listing.copy_to(store.folder)
        records = store.records()
        if records is None:
            raise DataError(f"{store.folder}: a shard reads back other than it was written")
    cost = {name: sum(record[name] for record in records) for name in ("seconds", "tokens", "padded", "rows")}
    return {**cost, "reused": cost["rows"] - made}


def _encode(
    store: VectorStore,
    encoder: Encoder,
    tokens: TokenStore,
    listing: Listing,
    side: Side,
    advance: Advance,
) -> int:
    """Encode shards until all are there; return how many rows were made here."""
    leases = Leases(store.folder / "leases")
    waiting = list(dict.fromkeys(listing.pieces))
    made = 0
    while waiting:
        held_by_others = []
        for piece in waiting:
            if store.sidecar(piece.content) is None:
                with leases.hold(piece.content) as mine:
                    if not mine:
                        held_by_others.append(piece)
                        continue
                    if store.sidecar(piece.content) is None:  # nor made since it was looked for
                        alive = partial(leases.renew, piece.content)
                        _encode_shard(store, encoder, tokens, piece.content, side, advance, alive)
                        made += piece.rows
                        continue
            advance(piece.rows)
        if len(held_by_others) == len(waiting):
            time.sleep(_POLL)
        waiting = held_by_others
    return made


def _encode_shard(
    store: VectorStore,
    encoder: Encoder,
    tokens: TokenStore,
    content: str,
    side: Side,
    advance: Advance,
    alive: Callable[[], None],
) -> None:
    sequences = tokens.read(content)
    if sequences is None:
        raise DataError(f"{tokens.folder}: the token ids of shard {content} are damaged; run this again")

    def report(n: int = 1, note: str = "") -> None:
        alive()
        advance(n, note)

    encoder.work, started = Work(), time.perf_counter()
    vectors = encoder.encode_tokens(sequences, side, report)
    seconds = round(time.perf_counter() - started, 3)
    store.write(
        content,
        vectors,
        {"seconds": seconds, "tokens": encoder.work.tokens, "padded": encoder.work.padded},
    )
