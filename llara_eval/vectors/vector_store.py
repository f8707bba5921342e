"""Vectors on disk: content-addressed, in shards, resumable, never silently reused.

A store is a folder that is named by the hash of everything that decides a text's vector. A shard is named by
the hash of its texts. It appears only when it is complete, with a record that holds its checksum and the cost
of its vectors; the listing of a collection is written last. An interrupted encoding goes on at the first
shard that is missing or damaged.
"""

import hashlib
import io
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llara_eval.core.errors import CheckFailedError, DataError
from llara_eval.core.files import atomic_write
from llara_eval.core.leases import EXPIRES, Leases, Waiting
from llara_eval.core.protocols import SILENT, Advance, Progress
from llara_eval.core.sealed import canonical, decode_record, seal
from llara_eval.core.types import Ids
from llara_eval.encoding.encoder import Encoder, Started
from llara_eval.encoding.templates import Side
from llara_eval.vectors.shards import Listing
from llara_eval.vectors.store_folder import StoreFolder
from llara_eval.vectors.token_store import TokenStore

_AGREED = "engine.json"
"""The file of a store with what all its workers agree on."""


class Vectors(NamedTuple):
    """A shard of a collection.

    Attributes:
        ids: (n,) identifiers.
        vectors: (n, D) float16, mapped from disk.
    """

    ids: Ids
    vectors: NDArray[np.float16]


class VectorStore:
    """The vectors of one collection in a folder of shards, which other collections may share.

    Args:
        root: The folder of all stores.
        key: The cache key: everything that decides the vector of a text, in JSON types.
        name: The name of the collection: a hash of its content.

    Raises:
        DataError: The store's folder has another key, or its key is damaged.
    """

    def __init__(self, root: StoreFolder, key: Mapping[str, Any], name: str) -> None:
        self.name = name
        self.folder = root.of_key(key)
        self.folder.claim(key)

    def agree(self, choose: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Return what all workers agree on: what the first of them chose, in JSON types.

        Raises:
            DataError: The file of the choice is damaged.
        """
        agreed = decode_record(self.folder.agree(_AGREED, lambda: canonical(choose())))
        if agreed is None:
            path = self.folder.path
            raise DataError(f"{path / _AGREED} is damaged; delete {path} to make its vectors again")
        return agreed

    def record(self, content: str) -> dict[str, Any] | None:
        """Return the record of a shard; None if the shard or its record is missing or damaged."""
        return self.folder.facts(f"{content}.json", f"{content}.npy")

    def write(self, content: str, vectors: NDArray[np.float32], cost: Mapping[str, float]) -> None:
        """Write the vectors (n, D) of a shard as float16, and then its record, which marks it as complete.

        ``content`` is the hash of the shard's texts; ``cost`` are seconds and tokens, for the record.

        Raises:
            CheckFailedError: A component is too large for float16.
        """
        with np.errstate(over="ignore"):
            stored = vectors.astype(np.float16)
        if (np.isinf(stored) & np.isfinite(vectors)).any():
            raise CheckFailedError(
                f"a vector has a component of {np.nanmax(np.abs(vectors)):.3g}, but vectors are stored as "
                "float16, which ends at 65,504; does the template lack normalize?"
            )
        array = io.BytesIO()
        np.save(array, stored, allow_pickle=False)
        with atomic_write(self.folder.path / f"{content}.npy") as file:
            file.write(array.getbuffer())
        checksum = hashlib.sha256(array.getbuffer())
        seal(self.folder.path / f"{content}.json", checksum, {"rows": len(vectors), **cost})
        self.folder.upload(f"{content}.npy", f"{content}.json")

    def records(self) -> list[dict[str, Any]] | None:
        """Return the records of all shards; None if the store is incomplete or damaged."""
        listing = Listing.load(self.folder, self.name)
        if listing is None:
            return None
        records = [self.record(shard.content) for shard in listing.shards]
        return None if None in records else [record for record in records if record]

    @property
    def listing(self) -> Listing:
        """The shards of a complete store.

        Raises:
            DataError: The store is not complete.
        """
        listing = Listing.load(self.folder, self.name)
        if listing is None:
            raise DataError(f"{self.folder} is not a complete store of the vectors of {self.name}")
        return listing

    def __iter__(self) -> Iterator[Vectors]:
        """Yield the shards of a complete store, in order.

        Raises:
            DataError: The store is not complete.
        """
        listing = self.listing
        for number, shard in enumerate(listing.shards):
            file = self.folder.fetch(f"{shard.content}.json", f"{shard.content}.npy")
            yield Vectors(listing.ids(number), np.load(file, mmap_mode="r", allow_pickle=False))


def fill(
    store: VectorStore,
    encoder: Encoder,
    tokens: TokenStore,
    items: Iterable[tuple[str, str]],
    side: Side,
    *,
    total: int | None,
    lease_seconds: float = EXPIRES,
    progress: Progress = SILENT,
) -> dict[str, float]:
    """Tokenise and encode the texts of a collection that a store still lacks.

    Any number of processes may do this at the same time: each takes the shards that no other has taken. The
    store's key describes the encoder, and ``tokens`` belongs to the encoder's template for this side. The
    items are as in :meth:`TokenStore.prepare`. Another worker's lease expires after ``lease_seconds``.

    Returns:
        What the vectors cost when they were made: ``seconds``, ``tokens``, ``padded`` (tokens with padding)
        and ``rows``; and ``reused``, the rows that the store had before.

    Raises:
        CheckFailedError: A vector is too large for float16.
        DataError: A file is damaged after it was written, or a store's folder has another key.
    """
    records = store.records()
    encoded_rows = 0
    if records is None:
        listing = tokens.prepare(
            store.name, items, total=total, lease_seconds=lease_seconds, progress=progress
        )
        leases = store.folder.leases(lease_seconds)
        with progress.task("encode queries" if side == "query" else "encode documents", total) as advance:
            encoded_rows = _encode(store, encoder, tokens, listing, side, leases, advance)
        listing.copy_to(store.folder)
        records = store.records()
        if records is None:
            raise DataError(f"{store.folder}: a file differs from what was written; run this again")
    tokens.folder.remove_leftovers({store.name})
    store.folder.remove_leftovers({shard.content for shard in store.listing.shards})
    cost = {name: sum(record[name] for record in records) for name in ("seconds", "tokens", "padded", "rows")}
    return {**cost, "reused": cost["rows"] - encoded_rows}


def _encode(
    store: VectorStore,
    encoder: Encoder,
    tokens: TokenStore,
    listing: Listing,
    side: Side,
    leases: Leases,
    advance: Advance,
) -> int:
    """Encode shards until the store has all; return the number of rows that this worker encoded."""
    pending = list({shard.content: shard for shard in listing.shards}.values())
    encoded_rows, ready_times = 0, [0.0]
    # A thread writes a shard while the next shard is encoded. At most two shards are in memory.
    with ThreadPoolExecutor(1) as thread:
        writing: Future[None] = thread.submit(lambda: None)
        waiting = Waiting(leases)
        while pending:
            held_by_others = []
            for shard in pending:
                if store.record(shard.content) is None:
                    with ExitStack() as lease:
                        if not lease.enter_context(leases.hold(shard.content)):
                            held_by_others.append(shard)
                            continue
                        # Another worker may have made the shard before this one took the lease.
                        if store.record(shard.content) is None:
                            since = time.perf_counter()
                            renew = partial(leases.renew, shard.content)
                            started = _start(encoder, tokens, shard.content, side, advance, renew)
                            previous = writing
                            writing = thread.submit(
                                _write, store, shard.content, since, started, lease.pop_all(), ready_times
                            )
                            previous.result()
                            encoded_rows += shard.rows
                            continue
                advance(shard.rows)
            if len(held_by_others) < len(pending):
                waiting = Waiting(leases)
            else:
                waiting.pause(held_by_others[0].content)
            pending = held_by_others
    writing.result()
    return encoded_rows


def _start(
    encoder: Encoder,
    tokens: TokenStore,
    content: str,
    side: Side,
    advance: Advance,
    renew: Callable[[], None],
) -> Started:
    sequences = tokens.read(content)
    if sequences is None:
        raise DataError(f"{tokens.folder}: the token ids of shard {content} are damaged; run this again")

    def report(n: int = 1, note: str = "", tokens: int = 0) -> None:
        renew()
        advance(n, note, tokens)

    return encoder.start(sequences, side, report)


def _write(
    store: VectorStore,
    content: str,
    since: float,
    started: Started,
    lease: AbstractContextManager[object],
    ready_times: list[float],
) -> None:
    """Write a shard when its vectors are ready, then release its lease.

    The cost of a shard does not include the time until the vectors of the previous shard were ready.
    """
    with lease:
        vectors = started.vectors()
        ready_times.append(time.perf_counter())
        seconds = round(ready_times[-1] - max(since, ready_times[-2]), 3)
        cost = {"seconds": seconds, "tokens": started.tokens, "padded": started.padded}
        store.write(content, vectors, cost)
