"""One adaptation step of ours against one of the released LLaRA code, tensor by tensor.

Usage: ``python tests/parity/llara_step.py FOLDER``. The folder holds a model (``config.json``,
``model.safetensors``) and ``reference_step.safetensors``: left-padded joint sequences, their targets,
and what the released code computed on them. Prints one JSON line of largest relative errors (of a
tensor: largest difference over largest magnitude) and exits 1 if one is above 1e-4.
"""

import json
import re
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from adapters.llara.batches import Batch, Sums
from adapters.llara.config import Adaptation
from adapters.llara.joint import Frame, embeddings, hidden_states, lay_out
from adapters.llara.losses import NO_TOKEN
from adapters.llara.objective import AdaptationModel, row_weights
from llara_eval.encoding.templates import Template

TOLERANCE = 1e-4
FRAME = Frame(
    prefix=(1, 376), self_suffix=tuple(range(600, 619)), next_suffix=tuple(range(619, 637)), slots=8
)
SPECIAL = 2
"""Ids up to this one are special tokens and never targets."""


def read_batch(reference: dict[str, Tensor]) -> Batch:
    """Extract the texts from the sequences of the reference, and lay them out with our code.

    Raises:
        ValueError: Our layout is not the one in the file.
    """
    ids, mask, labels = (reference[name].long() for name in ("input_ids", "attention_mask", "labels"))
    around = len(FRAME.self_suffix) + len(FRAME.next_suffix)
    rows = [row[real.bool()].tolist() for row, real in zip(ids, mask, strict=True)]
    joint = lay_out([row[len(FRAME.prefix) : len(row) - around] for row in rows], FRAME)
    if not torch.equal(joint.ids[joint.segments > 0], ids[mask.bool()]):
        raise ValueError("the joint sequences are not prefix + text + SELF + NEXT as described")
    if not torch.equal(joint.labels, labels[labels >= 0]):
        raise ValueError("the language-model labels are not the text tokens")
    targets = [
        reference[name].long().where(reference[name] > SPECIAL, NO_TOKEN)
        for name in ("summarize_target_ids", "predict_target_ids")
    ]
    tokens = torch.tensor([len(row) - around - len(FRAME.prefix) for row in rows])
    has_target = [(target != NO_TOKEN).any(dim=1) for target in targets]
    weights = row_weights(torch.stack([tokens, *has_target], dim=1).float(), len(rows), Adaptation())
    return Batch(joint, *targets, Sums(*weights.unbind(dim=1)))


def parameter_of(name: str) -> str:
    """Return the model's name of the parameter a gradient in the file belongs to (``grad_q0``)."""
    plain = {"grad_lm_head": "lm_head.weight", "grad_embed": "model.embed_tokens.weight"}
    kinds = {"q": "self_attn.q_proj", "down": "mlp.down_proj"}
    layer = re.fullmatch(r"grad_(q|down)(\d+)", name)
    return f"model.layers.{layer[2]}.{kinds[layer[1]]}.weight" if layer else plain[name]


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference over the largest magnitude of the reference; 0 / 0 is 0."""
    largest = max(float(theirs.abs().max()), torch.finfo(torch.float32).tiny)
    return float((ours.detach() - theirs).abs().max()) / largest


def compare(folder: Path) -> dict[str, float]:
    """Return the relative error of every quantity in the folder's reference step."""
    reference = load_file(folder / "reference_step.safetensors")
    config = Adaptation()
    model = AdaptationModel(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), config)
    batch = read_batch(reference)
    terms = model(batch)
    sum(terms).backward()
    hidden = hidden_states(model.model.base_model, batch.joint)
    pooled = Template(pooling="last", slots=FRAME.slots)
    # The file has each bag-of-words term alone, as if the other did not exist.
    shares = sum(bool(weight.any()) for weight in batch.weights[1:])
    ours = {
        "loss": sum(terms),
        "ar": terms.language_model,
        "ebae": terms.ebae * shares,
        "ebar": terms.ebar * shares,
        "self_embedding": embeddings(hidden, batch.joint.self_slots, pooled),
        "next_embedding": embeddings(hidden, batch.joint.next_slots, pooled),
        "hidden_last": hidden[batch.joint.segments > 0],
    }
    reference["hidden_last"] = reference["hidden_last"][reference["attention_mask"].bool()]
    for name in reference:
        if name.startswith("grad_"):
            ours[name] = model.model.get_parameter(parameter_of(name)).grad
    return {name: relative_error(value, reference[name]) for name, value in ours.items() if name in reference}


def main() -> int:
    """Compare one folder; return the exit code."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    errors = compare(Path(sys.argv[1]))
    print(json.dumps(errors))
    return int(not all(error <= TOLERANCE for error in errors.values()))


if __name__ == "__main__":
    sys.exit(main())
