"""Hashes of texts and records."""

import hashlib
from collections.abc import Iterable


def add_record(content: "hashlib._Hash", fields: Iterable[str]) -> None:
    """Add a record to a hash, in a form that no other record has.

    The number of fields and the length of each are hashed too. A separator would not do: it may occur in a
    text, and then two different records have one hash.

    Args:
        content: The hash to add to.
        fields: The texts of the record.
    """
    encoded = [field.encode(errors="surrogatepass") for field in fields]
    content.update(" ".join(map(str, [len(encoded), *map(len, encoded)])).encode() + b"\n")
    content.update(b"".join(encoded))
