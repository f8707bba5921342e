"""Loss curves of twenty optimizer steps; ``python golden_losses.py FOLDER`` writes them to the folder."""

import json
import random
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from tiny_training import WORDS, make_base, make_rows, read_log

from adapters.finetune import FinetuningRun
from adapters.llara.adapt import AdaptationRun
from adapters.llara.config import Adaptation
from llara_eval.training.config import Conditions, Contrast, LoRA, Schedule

STEPS = 20
TERMS = ("loss", "language_model", "ebae", "ebar", "distillation", "grad_norm", "tokens")
"""The values of a log entry that do not depend on the speed of the machine."""

Curve = dict[str, list[float]]


def _conditions(folder: Path) -> Conditions:
    return Conditions(output=folder / "out", micro_tokens=512, dtype="float32")


def _curve(output: Path) -> Curve:
    entries = [entry for entry in read_log(output) if entry["kind"] == "train"]
    return {term: [round(entry[term], 6) for entry in entries] for term in TERMS if term in entries[0]}


def adapt_curve(folder: Path) -> Curve:
    """Adapt every parameter of a tiny model."""
    AdaptationRun(
        make_base(folder / "base"),
        [make_rows(folder / "rows.jsonl")],
        Adaptation(max_length=300),
        Schedule(learning_rate=1e-3, batch_size=8, steps=STEPS),
        _conditions(folder),
    ).run()
    return _curve(folder / "out")


def finetune_curve(folder: Path) -> Curve:
    """Fine-tune LoRA adapters on a tiny model, with hard and in-batch negatives and a teacher's scores."""
    drawn = random.Random(1)
    texts = [" ".join(drawn.choices(WORDS, k=drawn.randint(2, 6))) for _ in range(5 * 32)]
    rows = [
        {
            "query": query,
            "pos": [positive],
            "neg": negatives,
            "pos_scores": [drawn.uniform(1, 3)],
            "neg_scores": [drawn.uniform(-1, 2) for _ in negatives],
        }
        for query, positive, *negatives in zip(*[iter(texts)] * 5, strict=True)
    ]
    path = folder / "groups.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    FinetuningRun(
        make_base(folder / "base"),
        [path],
        Contrast(group_size=3, temperature=0.05, distillation=0.5),
        Schedule(learning_rate=1e-3, batch_size=8, steps=STEPS, lora=LoRA(rank=4, alpha=8, dropout=0.0)),
        _conditions(folder),
    ).run()
    return _curve(folder / "out")


CURVES: Mapping[str, Callable[[Path], Curve]] = MappingProxyType(
    {"adapt": adapt_curve, "finetune": finetune_curve}
)


if __name__ == "__main__":
    for stage, make in CURVES.items():
        with tempfile.TemporaryDirectory() as temporary:
            curve = make(Path(temporary))
        (Path(sys.argv[1]) / f"{stage}.json").write_text(json.dumps(curve, indent=1) + "\n")
