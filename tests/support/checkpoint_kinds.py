"""Kinds of checkpoints, each built small: how it is known, and the vectors of its author's library.

The page ``docs/checkpoints.md`` shows these kinds, see :mod:`checkpoint_page`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tiny_models import make_tokenizer, save_checkpoint

TEXTS = [
    "eclipse",
    "Hello  World, naïve CAFÉ: é's 12,345",
    "a violin and a cello, tuned in fifths, are played with a bow; a guitar is plucked",
    "日本 🌘 don't",
    "word " * 20,
]

Vectors = Callable[[Sequence[str], str], NDArray[np.float32]]
"""The author's vectors, (n, D), of n texts of a side."""


@dataclass(frozen=True)
class Kind:
    """A kind of checkpoint.

    Attributes:
        name: What it is.
        known: How it is known, as the page says it.
        make: Writes the checkpoint into a folder, and returns the author's vectors.
        refused: What the error says, as a regular expression; None where the vectors are the author's.
        options: The user's options.
    """

    name: str
    known: str
    make: Callable[[Path], Vectors | None]
    refused: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def outcome(self) -> str:
        """What the page says of it."""
        given = " and ".join(f"`{_option(key, value)}`" for key, value in self.options.items())
        return ("refused" if self.refused else "≥ .99999") + (f" with {given}" if given else "")


def _option(key: str, value: Any) -> str:
    named = {"backend": f"--backend {value}", "trust_remote_code": "--trust-remote-code"}
    named |= {"prompt_name": f"--prompt-name {value}", "no_prompts": "--no-prompts"}
    return named.get(key, f"-o {key}={str(value).lower()}")


def library(folder: Path, **options: Any) -> Vectors:
    """Return the vectors of sentence-transformers; with its default similarity they are of unit length."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True, **options)
    encode = {"query": model.encode_query, "document": model.encode_document}
    unit = model.similarity_fn_name == "cosine"
    return lambda texts, side: encode[side](list(texts), normalize_embeddings=unit)


@torch.no_grad()
def pooled(
    model: Any,
    ids: Callable[[str], list[int]],
    texts: Sequence[str],
    *,
    pooling: str = "mean",
    unit: bool = True,
) -> NDArray[np.float32]:
    """Return the vectors of a transformers model, for one text after the other, without padding."""
    vectors = []
    for text in texts:
        hidden = model(torch.tensor([ids(text)])).last_hidden_state[0].float()
        vector = {"mean": hidden.mean(0), "first": hidden[0], "last": hidden[-1]}[pooling]
        vectors.append(torch.nn.functional.normalize(vector, dim=-1) if unit else vector)
    return torch.stack(vectors).numpy()


def stock(folder: Path, ids: Callable[[str], list[int]] | None = None, **how: Any) -> Vectors:
    """Return the vectors of transformers, with the token ids of its tokenizer or with given ones."""
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    if ids is None:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        ids = lambda text: tokenizer(text)["input_ids"]  # noqa: E731
    return lambda texts, side: pooled(model, ids, texts, **how)


def save_plain(folder: Path, architecture: str) -> Path:
    """Write a model and a tokenizer without slot tokens, by which LLaRA's templates would be recognised."""
    save_checkpoint(folder, architecture)
    make_tokenizer(slots=0).save_pretrained(folder)
    return folder


def change(file: Path, **values: Any) -> None:
    """Change values in a JSON file, which is made if there is none."""
    content = json.loads(file.read_text()) if file.is_file() else {}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**content, **values}))


def all_kinds() -> list[Kind]:
    """Return all kinds, in the order of the page."""
    import architecture_kinds
    import model_kinds
    import prompt_kinds
    import st_kinds
    import tokenizer_kinds

    modules = (st_kinds, prompt_kinds, architecture_kinds, model_kinds, tokenizer_kinds)
    return [kind for module in modules for kind in module.KINDS]
