"""The check of an encoder on a few texts, before a corpus is encoded."""

from collections.abc import Sequence

import torch
from torch import Tensor

from llara_eval.core.errors import CheckFailedError
from llara_eval.encoding.encoder import Encoder
from llara_eval.encoding.model_facts import advice_on_nan
from llara_eval.encoding.padded import Tokens, embed
from llara_eval.encoding.templates import SIDES, Side, Template, fault_of_slots


def check(encoder: Encoder, texts: Sequence[str], *, floor: float | None = None) -> dict[str, float]:
    """Check on a few real texts that an encoder follows its templates.

    Args:
        encoder: The encoder.
        texts: The texts, of different lengths.
        floor: The lowest cosine of equal vectors; None takes .9999 in float32, else .995.

    Returns:
        The smallest cosine of each comparison, by the name of the comparison.

    Raises:
        CheckFailedError: The suffix does not survive truncation, a slot is not one added token, a vector
            differs between a batch of one and a batch of many or between padding on the left and on the
            right, a vector holds NaN or infinity, or both sides have the same token ids although their
            templates differ.
    """
    if floor is None:
        floor = 0.9999 if encoder.engine.dtype == torch.float32 else 0.995
    smallest: dict[str, float] = {}
    sequences: dict[Side, list[list[int]]] = {}
    for side in SIDES:
        template = encoder.templates.of(side)
        sequences[side] = template.token_ids(encoder.tokenizer, texts)
        _check_suffix(encoder, template, texts)
        fault = fault_of_slots(encoder.tokenizer, template)
        if fault is not None:
            raise CheckFailedError(f"{fault}: is this the tokenizer the model was adapted with?")
        many = encoder.embed(sequences[side], side)
        if not bool(torch.isfinite(many).all()):
            raise CheckFailedError(f"{side} embeddings hold NaN or infinity; {advice_on_nan(encoder.model)}")
        for name, expected in _expected(encoder, sequences[side], side).items():
            cosine = float(torch.nn.functional.cosine_similarity(many.cpu(), expected.cpu()).min())
            smallest[name] = min(smallest.get(name, 1.0), cosine)
            if not cosine >= floor:
                raise CheckFailedError(
                    f"{side}: {name} gives other vectors than a batch of many (cosine {cosine:.5f}, "
                    f"needed {floor}); this model cannot be evaluated reliably"
                )
    query, document = (
        (template.prefix, template.prompt, template.suffix) for template in map(encoder.templates.of, SIDES)
    )
    if query != document and sequences["query"] == sequences["document"]:
        raise CheckFailedError(
            "query and document templates differ but give the same token ids: the tokenizer drops what "
            "distinguishes them"
        )
    return smallest


@torch.inference_mode()
def _expected(encoder: Encoder, sequences: Sequence[Tokens], side: Side) -> dict[str, Tensor]:
    """Return the name of each comparison, and the vectors that are expected in it.

    They are those of the stock model for each text alone, and for all texts padded on the left. If only the
    engine can pool, the expected vectors are its own, for each text alone.
    """
    template = encoder.templates.of(side)
    if template.pooling == "modules":
        return {"batch of one": torch.cat([encoder.embed([ids], side) for ids in sequences])}
    model, causal = encoder.model, encoder.facts.causal
    return {
        "batch of one": torch.cat([embed(model, [ids], template, causal=causal) for ids in sequences]),
        "left padding": embed(model, sequences, template, causal=causal, left=True),
    }


def _check_suffix(encoder: Encoder, template: Template, texts: Sequence[str]) -> None:
    """Raise if the truncation of a long text loses or changes the tokens of the suffix."""
    long_text = " ".join(texts) * (1 + template.max_length // max(1, sum(map(len, texts)) // 8))
    short, long = template.token_ids(encoder.tokenizer, ["a", long_text])
    suffix = len(template.suffix_ids(encoder.tokenizer))
    if len(long) > template.max_length or (suffix and long[-suffix:] != short[-suffix:]):
        raise CheckFailedError("the template's suffix does not survive truncation")
