"""Python objects of all forms that can be evaluated: each encodes words as the same vectors."""

import hashlib
from collections.abc import Sequence

import numpy as np

WIDTH = 64


def vectors(texts: Sequence[str]) -> np.ndarray:
    """Return (n, D) vectors: a word adds 1 to a component that its hash selects, and less to another one."""
    out = np.zeros((len(texts), WIDTH), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split():
            digest = hashlib.sha256(word.encode()).digest()
            out[row, digest[0] % WIDTH] += 1.0
            out[row, digest[1] % WIDTH] += digest[2] / 512
    return out


class Words:
    """Encodes queries and documents."""

    name = "words"

    def encode_queries(self, texts):
        return vectors(texts)

    def encode_documents(self, texts):
        return vectors(texts)


class Beir:
    """Encodes as BEIR's models do."""

    name = "words"

    def encode_queries(self, queries, batch_size=8, **kwargs):
        return vectors(queries)

    def encode_corpus(self, corpus, batch_size=8, **kwargs):
        assert all(set(row) == {"title", "text"} for row in corpus)
        return vectors([f"{row['title']} {row['text']}".strip() for row in corpus])


class SentenceTransformerLike:
    """Encodes as sentence-transformers does since version 5."""

    name = "words"
    similarity_fn_name = "cosine"

    def encode(self, texts):
        raise AssertionError("encode_query and encode_document come first")

    def encode_query(self, texts):
        return vectors(texts)

    def encode_document(self, texts):
        return vectors(texts)


class OneEncode:
    """Encodes queries and documents alike, as torch tensors."""

    name = "words"

    def encode(self, texts):
        import torch

        return torch.from_numpy(vectors(texts)).to(torch.float64)


class Searches:
    """Searches by itself, and returns dictionaries."""

    name = "words"

    def index(self, corpus):
        self.documents = {document.doc_id: vectors([document.contents])[0] for document in corpus}

    def search(self, queries, depth):
        results = {}
        for query in queries:
            (vector,) = vectors([query.text])
            scores = {doc_id: float(vector @ other) for doc_id, other in self.documents.items()}
            best = sorted(scores, key=scores.get, reverse=True)[:depth]
            results[query.query_id] = {doc_id: scores[doc_id] for doc_id in best}
        return results
