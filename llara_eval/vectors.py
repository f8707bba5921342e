"""Vectors on disk: content-addressed, in shards, resumable, never silently reused.

A store is a folder named by the hash of everything that decides its vectors. Each shard is written
whole or not at all, with a sidecar that holds checksums and what the work cost; the manifest comes
last. An interrupted encoding goes on at the first shard that is missing or damaged.
"""

import hashlib
import io
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llara_eval.encoder import Encoder, Work
from llara_eval.errors import DataError
from llara_eval.files import atomic_write, sha256_of, write_json, write_text
from llara_eval.protocols import SILENT, Progress
from llara_eval.templates import Side
from llara_eval.types import Ids, as_ids

SHARD_SIZE = 4_096
"""Texts of one shard: the unit of sorting, of writing and of what a crash can lose."""


class Shard(NamedTuple):
    """A piece of a store.

    Attributes:
        ids: (n,) identifiers.
        vectors: (n, D) float16, mapped from disk.
    """

    ids: Ids
    vectors: NDArray[np.float16]


class VectorStore:
    """A folder of shards, addressed by its key.

    Args:
        root: The folder that holds all stores.
        key: Everything that decides the vectors, as JSON values.
    """

    def __init__(self, root: Path, key: Mapping[str, Any]) -> None:
        self.key = dict(key)
        text = json.dumps(self.key, sort_keys=True, ensure_ascii=False)
        self.folder = root / hashlib.sha256(text.encode()).hexdigest()[:32]
        key_file = self.folder / "key.json"
        if not key_file.is_file():
            write_json(key_file, self.key)
        elif json.loads(key_file.read_text(encoding="utf-8")) != json.loads(text):
            raise DataError(f"{self.folder} holds vectors of another key; delete that folder")

    def sidecar(self, number: int) -> dict[str, Any] | None:
        """Return a shard's record if the shard is whole and its checksums hold, else None."""
        record_file = self._file(number, "json")
        try:
            record: dict[str, Any] = json.loads(record_file.read_text(encoding="utf-8"))
            whole = all(sha256_of(self._file(number, kind)) == record[kind] for kind in ("npy", "ids"))
        except (OSError, ValueError, KeyError):
            return None
        return record if whole else None

    def write(
        self, number: int, ids: Iterable[str], vectors: NDArray[np.float32], cost: Mapping[str, float]
    ) -> None:
        """Write one shard; its sidecar last, so that a shard with a sidecar is whole.

        Args:
            number: Which shard.
            ids: n identifiers.
            vectors: (n, D), kept as float16.
            cost: What the work took, for the record.
        """
        self._file(number, "json").unlink(missing_ok=True)
        packed = io.BytesIO()
        np.save(packed, vectors.astype(np.float16), allow_pickle=False)
        with atomic_write(self._file(number, "npy")) as file:
            file.write(packed.getbuffer())
        write_text(self._file(number, "ids"), "".join(f"{identifier}\n" for identifier in ids))
        checksums = {kind: sha256_of(self._file(number, kind)) for kind in ("npy", "ids")}
        write_json(self._file(number, "json"), {"rows": len(vectors), **checksums, **cost})

    def finish(self, records: list[dict[str, Any]]) -> None:
        """Write the manifest: the store is complete."""
        write_json(self.folder / "manifest.json", {"shards": records})

    def __iter__(self) -> Iterator[Shard]:
        """Yield the shards of a complete store, in order.

        Raises:
            DataError: The store is not complete.
        """
        for number in range(len(self.manifest)):
            ids = self._file(number, "ids").read_text(encoding="utf-8").split("\n")[:-1]
            yield Shard(as_ids(ids), np.load(self._file(number, "npy"), mmap_mode="r", allow_pickle=False))

    @property
    def manifest(self) -> list[dict[str, Any]]:
        """The records of all shards.

        Raises:
            DataError: The store is not complete.
        """
        try:
            records: list[dict[str, Any]] = json.loads((self.folder / "manifest.json").read_text())["shards"]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{self.folder} is not a complete store of vectors") from error
        return records

    def _file(self, number: int, kind: str) -> Path:
        return self.folder / f"shard-{number:05d}.{kind}"


def fill(
    store: VectorStore,
    encoder: Encoder,
    items: Iterable[tuple[str, str]],
    side: Side,
    *,
    total: int | None,
    progress: Progress = SILENT,
) -> dict[str, float]:
    """Encode what a store still lacks.

    Args:
        store: The store; shards that are there and whole are kept.
        encoder: The encoder that the store's key describes.
        items: (identifier, text) in a fixed order.
        side: Which template to use.
        total: Number of items, for the progress shown.
        progress: Where to show it.

    Returns:
        What the vectors cost when they were made: seconds, tokens, padded (tokens with padding),
        rows; and ``reused``, the rows that were found rather than made now.
    """
    records: list[dict[str, Any]] = []
    reused = 0
    stream = iter(items)
    with progress.task(f"encode {side}s", total) as advance:
        while block := list(islice(stream, SHARD_SIZE)):
            number = len(records)
            record = store.sidecar(number)
            if record is not None:
                reused += len(block)
                advance(len(block))
            else:
                ids, texts = zip(*block, strict=True)
                encoder.work, started = Work(), time.perf_counter()
                vectors = encoder.encode(texts, side, advance)
                seconds = round(time.perf_counter() - started, 3)
                cost = {"seconds": seconds, "tokens": encoder.work.tokens, "padded": encoder.work.padded}
                store.write(number, ids, vectors, cost)
                record = store.sidecar(number)
                if record is None:
                    raise DataError(f"{store.folder}: shard {number} reads back other than it was written")
            records.append(record)
    store.finish(records)
    cost = {name: sum(record[name] for record in records) for name in ("seconds", "tokens", "padded", "rows")}
    return {**cost, "reused": reused}
