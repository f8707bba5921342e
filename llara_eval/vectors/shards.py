"""Shards: a collection is cut by the content of its texts into units of tokenising, encoding and recovery.

A shard ends after a text whose hash has a certain form, not after a fixed number of texts, and a shard is
named by a hash of its texts. Two collections that share most of their texts (FEVER and Climate-FEVER)
therefore share most of their shards, wherever the other texts stand, and a shared shard is encoded once.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from llara_eval.core.decode import decode
from llara_eval.core.files import atomic_write
from llara_eval.core.sealed import seal
from llara_eval.core.types import Ids, as_ids
from llara_eval.vectors.store_folder import StoreFolder

SHARD_SIZE = 4_096
"""The mean number of texts of a shard; a shard has at least a quarter and at most twice as many."""


class Shard(NamedTuple):
    """Consecutive texts of a collection.

    Attributes:
        content: Hash of the texts, in order.
        ids: The identifiers of the texts.
        texts: The texts.
    """

    content: str
    ids: Sequence[str]
    texts: Sequence[str]


def cut(items: Iterable[tuple[str, str]]) -> Iterator[Shard]:
    """Cut a stream of (identifier, text) into shards.

    This is content-defined chunking, which Muthitacharoen et al., "A Low-bandwidth Network File System"
    (SOSP 2001), section 3.1, apply to files.
    """
    ids: list[str] = []
    texts: list[str] = []
    content = hashlib.sha256()
    smallest, ends = SHARD_SIZE // 4, SHARD_SIZE - SHARD_SIZE // 4
    for identifier, text in items:
        digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
        content.update(digest)
        ids.append(identifier)
        texts.append(text)
        marked = int.from_bytes(digest[:8], "big") % ends == 0
        if (marked and len(ids) >= smallest) or len(ids) >= 2 * SHARD_SIZE:
            yield Shard(content.hexdigest()[:32], ids, texts)
            ids, texts, content = [], [], hashlib.sha256()
    if ids:
        yield Shard(content.hexdigest()[:32], ids, texts)


class ShardEntry(NamedTuple):
    """A shard in a listing.

    Attributes:
        content: Hash of the shard's texts.
        rows: The number of texts.
        ids_end: The byte at which the shard's identifiers end in the listing's file of identifiers.
    """

    content: str
    rows: int
    ids_end: int


class Listing:
    """The shards of a collection, ``<name>.json``, and its identifiers, ``<name>.ids``.

    Args:
        folder: The folder of both files.
        name: The name of the collection: a hash of its content.
        shards: The shards, in order.
    """

    def __init__(self, folder: StoreFolder, name: str, shards: list[ShardEntry]) -> None:
        self.folder = folder
        self.name = name
        self.shards = shards

    @classmethod
    def load(cls, folder: StoreFolder, name: str) -> "Listing | None":
        """Read a listing; None if the listing is missing or damaged."""
        facts = folder.facts(f"{name}.json", f"{name}.ids")
        if facts is None:
            return None
        return cls(folder, name, decode(facts.get("shards"), list[ShardEntry], f"{folder}/{name}.json"))

    def ids(self, number: int) -> Ids:
        """Return the identifiers (n,) of the texts of a shard, counted from 0."""
        begin = self.shards[number - 1].ids_end if number else 0
        with self.folder.fetch(f"{self.name}.json", f"{self.name}.ids").open("rb") as file:
            file.seek(begin)
            lines = file.read(self.shards[number].ids_end - begin).decode(errors="surrogatepass")
        return as_ids(lines.split("\n")[:-1])

    def copy_to(self, folder: StoreFolder) -> None:
        """Write the same listing into another folder; its record is written last and marks it as complete."""
        names = f"{self.name}.ids", f"{self.name}.json"
        self.folder.fetch(names[1], names[0])
        for name in names:
            with atomic_write(folder.path / name) as file, (self.folder.path / name).open("rb") as source:
                shutil.copyfileobj(source, file)
        folder.upload(*names)

    @classmethod
    @contextmanager
    def writer(cls, folder: StoreFolder, name: str) -> Iterator[Callable[[Shard], "Listing"]]:
        """Yield a function that adds a shard and returns the listing; after an error, nothing is kept."""
        listing, content = cls(folder, name, []), hashlib.sha256()
        with atomic_write(folder.path / f"{name}.ids") as file:

            def add(shard: Shard) -> Listing:
                lines = "".join(f"{identifier}\n" for identifier in shard.ids)
                encoded = lines.encode(errors="surrogatepass")
                content.update(encoded)
                file.write(encoded)
                listing.shards.append(ShardEntry(shard.content, len(shard.ids), file.tell()))
                return listing

            yield add
        seal(folder.path / f"{name}.json", content, {"shards": listing.shards})
        folder.upload(f"{name}.ids", f"{name}.json")
