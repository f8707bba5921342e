"""Hashes of texts and records."""

import hashlib
from collections.abc import Iterable

_ESCAPED = str.maketrans({"\x1c": "\x1c0", "\x1e": "\x1c1", "\x1f": "\x1c2"})


def add_record(content: "hashlib._Hash", fields: Iterable[str]) -> None:
    """Add a record to a hash, in a form that no other record has.

    ASCII's separators end each field and the record. Where they occur in a text, they are escaped: otherwise
    two different records could have one hash.

    Args:
        content: The hash to add to.
        fields: The texts of the record.
    """
    record = "\x1f".join(field.translate(_ESCAPED) for field in fields) + "\x1e"
    content.update(record.encode(errors="surrogatepass"))
