"""Matches between test texts and training texts, by their words.

:func:`normalised` is the one definition of the same text, for mining and for overlap. The kinds of match,
the strongest first:

- ``exact``: the same words in the same order;
- ``near``: the sets of neighbouring word pairs have a Jaccard index of at least 0.8;
- ``13-gram``: thirteen words in a row are the same (Brown et al. 2020, arXiv 2005.14165, appendix C). A
  shorter text can have an exact or a near match only: a short question inside a longer text is no match.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import chain, islice, pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

T = TypeVar("T")

GRAM = 13
"""Number of equal words in a row that count as copied: the N of Brown et al. 2020, appendix C."""

THRESHOLD = 0.8
"""Least Jaccard index of near-duplicates.

Shingles are word pairs because test queries are short. If one inner word of a text of n words is replaced,
the index of word pairs is (n − 3) / (n + 1), which is 0.8 from 19 words on; the index of triples is 0.8 from
29 words on. Such texts belong together: "X increases Y" and "X decreases Y" have the same relevant documents.
"""

BANDS, ROWS = 16, 4
"""Bands and rows of the MinHash index: two texts with Jaccard index j become candidates with probability
1 − (1 − j⁴)¹⁶, which is 0.9998 at the threshold and 0.03 at 0.2; candidates are then compared exactly."""

COMMON = 10
"""Most test texts that may share a 13-gram. A more frequent gram is boilerplate of the collection (a licence,
the headings of a form) and is ignored; Brown et al. apply the same bound to training documents."""

BATCH = 1_000
"""Number of texts that are looked up together."""

_MULTIPLIER = 0x9E3779B97F4A7C15
"""Multiplier of the hash: 2⁶⁴ divided by the golden ratio, odd (Knuth, TAOCP vol. 3, section 6.4)."""


class Kind(StrEnum):
    """Kinds of match, the weakest first."""

    GRAM = "13-gram"
    NEAR = "near"
    EXACT = "exact"


STRENGTH = {kind: rank for rank, kind in enumerate(Kind)}
"""Kind of match → rank, the weakest first."""


class Item(NamedTuple):
    """A test text: a query or a document.

    Attributes:
        role: ``query``, ``relevant`` (a document relevant to some query), ``judged`` (a judged document
            that is never relevant) or ``other`` (any other document).
        id: Identifier of the query or document.
        text: The text that a system reads.
        bare: The text without its title; a copy of it is an exact match, too.
    """

    role: str
    id: str
    text: str
    bare: str


class Hit(NamedTuple):
    """A test text that a training text matches.

    Attributes:
        text: Number of the training text.
        item: Number of the test text.
        kind: Kind of match.
        score: 1 (exact), the Jaccard index (near), or the share of the test text's 13-grams in the training
            text.
    """

    text: int
    item: int
    kind: Kind
    score: float


class _Words(dict[int, str]):
    """Translation that keeps letters, marks and digits, deletes invisible characters, and spaces the rest."""

    def __missing__(self, code: int) -> str:
        category = unicodedata.category(chr(code))
        self[code] = chr(code) if category[0] in "LMN" else "" if category == "Cf" else " "
        return self[code]


_WORDS = _Words()


def words(text: str) -> list[str]:
    """Return the words of a text: in Unicode NFKC, casefolded, without punctuation, symbols and white space.

    In a language without spaces (Chinese, Thai), the text between two punctuation marks is one word.
    """
    return _folded(text).translate(_WORDS).split()


def normalised(text: str) -> str:
    """Return the normalised form of a text: two texts are the same if their forms are equal and not empty.

    The form consists of the words with one space between them, so that case, punctuation and white space are
    ignored. If a text has no words (``?!``), its form consists of the symbols.
    """
    return _joined(words(text), text)


def _joined(words_of_text: Sequence[str], text: str) -> str:
    """Return the normalised form of a text whose words are known."""
    if words_of_text:
        return " ".join(words_of_text)
    return "".join(char for char in _folded(text) if unicodedata.category(char)[0] not in "CZ")


def _folded(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", folded)


def jaccard(one: Sequence[str], other: Sequence[str]) -> float:
    """Return the Jaccard index of two texts' sets of neighbouring words; 0 if neither has two words."""
    pairs, others = set(pairwise(one)), set(pairwise(other))
    return len(pairs & others) / max(1, len(pairs | others))


class Index:
    """An index of test texts, which finds the matches of training texts.

    Args:
        test_texts: The test texts; an empty text has no match.

    Attributes:
        names: Role and identifier of each test text.
    """

    def __init__(self, test_texts: Iterable[Item]) -> None:
        from datasketch import MinHash, MinHashLSH

        self.names: list[tuple[str, str]] = []
        self._texts: list[str] = []
        self._exact: dict[str, set[int]] = defaultdict(set)
        self._empty = MinHash(num_perm=BANDS * ROWS)
        self._near = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
        parts = []
        for batch in batches(test_texts):
            texts = [words(item.text) for item in batch]
            for item, text in zip(batch, texts, strict=True):
                self._add(item, text)
            pairs, grams = _windows(texts, 2), _windows(texts, GRAM)
            parts.append((pairs.hashes, grams.hashes, grams.owners + len(self.names) - len(batch)))
        pair_parts, gram_parts, owner_parts = zip(*parts, strict=True)
        self._pairs = np.unique(np.concatenate(pair_parts))
        hashes, owners = np.concatenate(gram_parts), np.concatenate(owner_parts)
        order = np.argsort(hashes, kind="stable")
        _, counts = np.unique(hashes, return_counts=True)
        order = order[np.repeat(counts, counts) <= COMMON]
        self._grams, self._owners = hashes[order], owners[order]
        self._size = np.bincount(self._owners, minlength=len(self.names))

    def _add(self, item: Item, text: Sequence[str]) -> None:
        number = len(self.names)
        self.names.append((item.role, item.id))
        self._texts.append(" ".join(text))
        for form in {_joined(text, item.text), normalised(item.bare)} - {""}:
            self._exact[form].add(number)
        if len(text) > 1:
            self._near.insert(number, self._sketch(text))

    def find(self, training_texts: Sequence[str]) -> Iterator[Hit]:
        """Yield the matches of training texts, sorted by kind and then by training text.

        A call with ``BATCH`` training texts is faster than as many calls with one.
        """
        texts = [words(text) for text in training_texts]
        for number, (text, whole) in enumerate(zip(texts, training_texts, strict=True)):
            for item in self._exact.get(_joined(text, whole), ()):
                yield Hit(number, item, Kind.EXACT, 1.0)
        pairs = _windows(texts, 2)
        # A near-duplicate shares 0.8 of its pairs with one test text, and so with all test texts together.
        shared = np.bincount(pairs.owners, _among(self._pairs, pairs.hashes), minlength=len(texts))
        size = np.bincount(pairs.owners, minlength=len(texts))
        for number in np.flatnonzero(shared / np.maximum(size, 1) >= THRESHOLD).tolist():
            for item in self._near.query(self._sketch(texts[number])):
                score = jaccard(texts[number], self._texts[item].split())
                if score >= THRESHOLD:
                    yield Hit(number, item, Kind.NEAR, score)
        for number, item, count in self._shared(_windows(texts, GRAM)):
            yield Hit(number, item, Kind.GRAM, count / int(self._size[item]))

    def _shared(self, grams: "_Windows") -> Iterator[tuple[int, int, int]]:
        """Yield numbers of training text, test text and common grams, for all pairs with a common gram."""
        shared = _among(self._grams, grams.hashes)
        first, last = (np.searchsorted(self._grams, grams.hashes[shared], side) for side in ("left", "right"))
        counts = last - first
        matches = np.arange(counts.sum()) + np.repeat(first - (np.cumsum(counts) - counts), counts)
        pairs = np.repeat(grams.owners[shared], counts) * len(self.names) + self._owners[matches]
        for pair, count in zip(*np.unique(pairs, return_counts=True), strict=True):
            yield *divmod(int(pair), len(self.names)), int(count)

    def _sketch(self, text: Sequence[str]) -> Any:
        sketch = self._empty.copy()
        sketch.update_batch({f"{one} {other}".encode() for one, other in pairwise(text)})
        return sketch


def batches(values: Iterable[T]) -> Iterator[list[T]]:
    """Yield lists of ``BATCH`` values; the last may be shorter."""
    iterator = iter(values)
    while batch := list(islice(iterator, BATCH)):
        yield batch


class _Windows(NamedTuple):
    """The M distinct n-grams of some texts: (M,) hashes, and (M,) numbers of the texts that hold them."""

    hashes: NDArray[np.uint64]
    owners: NDArray[np.int64]


def _windows(texts: Sequence[Sequence[str]], size: int) -> _Windows:
    """Hash every ``size`` words in a row (Karp and Rabin 1987) from the values of Python's ``hash``.

    For a billion training grams and a million test grams, the probability that two different grams share a
    hash is 1 in 20,000.
    """
    texts = [text if len(text) >= size else () for text in texts]
    lengths = [len(text) for text in texts]
    count = sum(lengths)
    if not count:
        return _Windows(np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64))
    single = np.fromiter(map(hash, chain.from_iterable(texts)), np.int64, count).view(np.uint64)
    owners = np.repeat(np.arange(len(texts)), lengths)
    powers = np.cumprod(np.full(size, _MULTIPLIER, dtype=np.uint64))
    hashes = sliding_window_view(single, size) @ powers
    inside = owners[: len(hashes)] == owners[size - 1 :]
    hashes, owners = hashes[inside], owners[: len(hashes)][inside]
    order = np.lexsort((hashes, owners))
    hashes, owners = hashes[order], owners[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
    return _Windows(hashes[new], owners[new])


def _among(keys: NDArray[np.uint64], values: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return an (n,) mask of the values that are among sorted keys."""
    if not len(keys):
        return np.zeros(len(values), dtype=bool)
    mask: NDArray[np.bool_] = keys.take(np.searchsorted(keys, values), mode="clip") == values
    return mask
