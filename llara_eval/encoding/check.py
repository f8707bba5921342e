"""The check before a corpus is encoded: does the encoder do what its templates say?"""

from collections.abc import Sequence

import torch
from torch import Tensor

from llara_eval.core.errors import CheckFailedError
from llara_eval.encoding.encoder import Encoder
from llara_eval.encoding.padded import Tokens, embed
from llara_eval.encoding.templates import SIDES, Side, Template, fault_of_slots


def check(encoder: Encoder, texts: Sequence[str]) -> dict[str, float]:
    """Check on a few real texts that an encoder does what its templates say, before a corpus is encoded.

    Args:
        encoder: The encoder.
        texts: A few real texts, of different lengths.

    Returns:
        The smallest cosine of each comparison, for the record.

    Raises:
        CheckFailedError: The suffix does not survive truncation, a slot is not a token of its own, a
            batch of one differs from a batch of many, padding on the left differs from padding on the
            right, or both sides give the same sequences although their templates differ.
    """
    floor = 0.9999 if encoder.model.dtype == torch.float32 else 0.995
    worst: dict[str, float] = {}
    sequences: dict[Side, list[list[int]]] = {}
    for side in SIDES:
        template = encoder.templates.of(side)
        sequences[side] = template.token_ids(encoder.tokenizer, texts)
        _check_suffix(encoder, template, texts)
        _check_slots(encoder, template)
        many = encoder.embed(sequences[side], template)
        if not bool(torch.isfinite(many).all()):
            raise CheckFailedError(f"{side} embeddings hold NaN or infinity; try --dtype float32")
        for name, other in _others(encoder, sequences[side], template).items():
            cosine = float(torch.nn.functional.cosine_similarity(many.cpu(), other.cpu()).min())
            worst[name] = min(worst.get(name, 1.0), cosine)
            if not cosine >= floor:
                raise CheckFailedError(
                    f"{side}: {name} gives other vectors than a batch of many (cosine {cosine:.5f}, "
                    f"needed {floor}); this model cannot be evaluated reliably"
                )
    query, document = encoder.templates.query, encoder.templates.document
    if (query.prefix, query.prompt, query.suffix) != (
        document.prefix,
        document.prompt,
        document.suffix,
    ) and sequences["query"] == sequences["document"]:
        raise CheckFailedError(
            "query and document templates differ but give the same token ids: the tokenizer drops what "
            "sets them apart"
        )
    return worst


@torch.inference_mode()
def _others(encoder: Encoder, sequences: Sequence[Tokens], template: Template) -> dict[str, Tensor]:
    """Return vectors that must be the same: the stock model's of each text alone, and padded on the left.

    Where only the engine can pool, it is compared with itself, one text at a time.
    """
    if template.pooling == "modules":
        return {"batch of one": torch.cat([encoder.embed([ids], template) for ids in sequences])}
    model, causal = encoder.model, encoder.facts.causal
    return {
        "batch of one": torch.cat([embed(model, [ids], template, causal=causal) for ids in sequences]),
        "left padding": embed(model, sequences, template, causal=causal, left=True),
    }


def _check_suffix(encoder: Encoder, template: Template, texts: Sequence[str]) -> None:
    """Raise if truncating a long text loses or changes the tokens after it."""
    suffix = template.token_ids(encoder.tokenizer, ["a"])[0]
    long_text = " ".join(texts) * (1 + template.max_length // max(1, sum(map(len, texts)) // 8))
    full = template.token_ids(encoder.tokenizer, [long_text])[0]
    kept = len(template.suffix_ids(encoder.tokenizer))
    if len(full) > template.max_length or (kept and full[-kept:] != suffix[-kept:]):
        raise CheckFailedError("the template's suffix does not survive truncation")


def _check_slots(encoder: Encoder, template: Template) -> None:
    """Raise if several positions are pooled and one of them is not a slot token."""
    fault = fault_of_slots(encoder.tokenizer, template)
    if fault is not None:
        raise CheckFailedError(f"{fault}: is this the tokenizer the model was adapted with?")
