"""Shards: a collection is cut by the content of its texts into units of tokenising, encoding and recovery.

A shard ends behind a text whose hash says so, not after a fixed number of texts, and its name is a hash of
its texts. Two collections that share most of their texts (FEVER and Climate-FEVER) therefore share most of
their shards, wherever their other texts stand, and whatever is made of a shard is made once.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from llara_eval.core.decode import decode
from llara_eval.core.files import atomic_write
from llara_eval.core.types import Ids, as_ids
from llara_eval.vectors.place import Folder
from llara_eval.vectors.sealed import seal

SHARD_SIZE = 4_096
"""The mean number of texts of a shard; a shard has at least a quarter and at most twice as many."""

_DIGEST = 16  # bytes of a text's hash


class Shard(NamedTuple):
    """A run of texts of a collection.

    Attributes:
        content: Hash of the texts, in order.
        ids: Their identifiers.
        texts: The texts.
    """

    content: str
    ids: Sequence[str]
    texts: Sequence[str]


def cut(items: Iterable[tuple[str, str]]) -> Iterator[Shard]:
    """Cut a stream of (identifier, text) into shards.

    Content-defined chunking, as Muthitacharoen et al., "A Low-bandwidth Network File System" (SOSP 2001),
    section 3.1, cut files.
    """
    ids: list[str] = []
    texts: list[str] = []
    content = hashlib.sha256()
    smallest, ends = SHARD_SIZE // 4, SHARD_SIZE - SHARD_SIZE // 4
    for identifier, text in items:
        digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=_DIGEST).digest()
        content.update(digest)
        ids.append(identifier)
        texts.append(text)
        marked = int.from_bytes(digest[:8], "big") % ends == 0
        if (marked and len(ids) >= smallest) or len(ids) >= 2 * SHARD_SIZE:
            yield Shard(content.hexdigest()[:32], ids, texts)
            ids, texts, content = [], [], hashlib.sha256()
    if ids:
        yield Shard(content.hexdigest()[:32], ids, texts)


class Piece(NamedTuple):
    """A shard in a listing.

    Attributes:
        content: Hash of its texts.
        rows: The number of its texts.
        ids_end: The byte at which its identifiers end in the listing's file of identifiers.
    """

    content: str
    rows: int
    ids_end: int


class Listing:
    """The shards of a collection, ``<name>.json``, and its identifiers, ``<name>.ids``.

    Args:
        place: The folder of both files.
        name: The name of the collection, by its content.
        pieces: The shards, in order.
    """

    def __init__(self, place: Folder, name: str, pieces: list[Piece]) -> None:
        self.place = place
        self.name = name
        self.pieces = pieces

    @classmethod
    def load(cls, where: Path | Folder, name: str) -> "Listing | None":
        """Read a listing; None if it is missing or damaged."""
        place = Folder.of(where)
        facts = place.record(f"{name}.json", f"{name}.ids")
        if facts is None:
            return None
        return cls(place, name, decode(facts.get("shards"), list[Piece], f"{place}/{name}.json"))

    def ids(self, number: int) -> Ids:
        """Return the identifiers (n,) of a shard's texts."""
        begin = self.pieces[number - 1].ids_end if number else 0
        with self.place.need(f"{self.name}.json", f"{self.name}.ids").open("rb") as file:
            file.seek(begin)
            lines = file.read(self.pieces[number].ids_end - begin).decode(errors="surrogatepass")
        return as_ids(lines.split("\n")[:-1])

    def copy_to(self, where: Path | Folder) -> None:
        """Write the same listing into another folder; its record, which says that it is whole, comes last."""
        place, names = Folder.of(where), (f"{self.name}.ids", f"{self.name}.json")
        self.place.need(names[1], names[0])
        for name in names:
            with atomic_write(place.path / name) as file, (self.place.path / name).open("rb") as source:
                shutil.copyfileobj(source, file)
        place.share(*names)

    @classmethod
    @contextmanager
    def writer(cls, where: Path | Folder, name: str) -> Iterator[Callable[[Shard], "Listing"]]:
        """Yield a function that adds a shard and returns the listing; no listing is kept after an error."""
        place = Folder.of(where)
        listing, content = cls(place, name, []), hashlib.sha256()
        with atomic_write(place.path / f"{name}.ids") as file:

            def add(shard: Shard) -> Listing:
                lines = "".join(f"{identifier}\n" for identifier in shard.ids)
                encoded = lines.encode(errors="surrogatepass")
                content.update(encoded)
                file.write(encoded)
                listing.pieces.append(Piece(shard.content, len(shard.ids), file.tell()))
                return listing

            yield add
        seal(place.path / f"{name}.json", content, {"shards": listing.pieces})
        place.share(f"{name}.ids", f"{name}.json")
