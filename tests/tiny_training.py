"""A tiny adaptation run: ``tiny_training.py FOLDER STEPS DTYPE [compiled]`` trains in ``FOLDER/out``."""

import itertools
import json
import random
import sys
from pathlib import Path

import torch
from tiny_models import make_config, make_tokenizer
from transformers import AutoModelForCausalLM

from adapters.llara.adapt import Adaptation
from adapters.llara.trainer import adapt, read_rows
from llara_eval.training.config import LoRA, Schedule
from llara_eval.training.run import Conditions

WORDS = ["sun", "moon", "earth", "star", "sea", "river", "stone", "bread", "violin", "cello", "guitar"]


def make_base(folder: Path) -> Path:
    """Write a tiny causal language model."""
    if not folder.exists():
        torch.manual_seed(0)
        config = make_config("llama", max_position_embeddings=512, initializer_range=0.05)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        make_tokenizer().save_pretrained(folder)
    return folder


def make_rows(path: Path, rows: int = 80) -> Path:
    """Write adaptation rows made of a few words."""
    drawn = random.Random(0)
    texts = [" ".join(drawn.choices(WORDS, k=drawn.randint(3, 12))) for _ in range(rows + 1)]
    lines = [
        json.dumps({"input": text, "output_summarize": text, "output_predict": following})
        for text, following in itertools.pairwise(texts)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def make_groups(path: Path, rows: int = 16) -> Path:
    """Write rows of queries with a positive and three negative passages."""
    drawn = random.Random(1)
    texts = [" ".join(drawn.choices(WORDS, k=drawn.randint(2, 6))) for _ in range(5 * rows)]
    lines = [
        json.dumps({"query": query, "pos": [positive], "neg": negatives})
        for query, positive, *negatives in zip(*[iter(texts)] * 5, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def run(
    folder: Path,
    steps: int,
    dtype: str = "float32",
    *,
    lora: bool = False,
    merge: bool = False,
    seed: int = 42,
    compiled: bool = False,
) -> Path:
    """Train for a few steps and return the folder of the checkpoint."""
    schedule = Schedule(
        learning_rate=1e-3,
        batch_size=8,
        steps=steps,
        seed=seed,
        lora=LoRA(rank=4, alpha=8, dropout=0.1) if lora else None,
    )
    conditions = Conditions(
        output=folder / "out",
        micro_tokens=512,
        dtype=dtype,
        save_minutes=0.01,
        evaluate_every=10,
        merge=merge,
        compiled=compiled,
    )
    adapt(
        make_base(folder / "base"),
        read_rows([make_rows(folder / "rows.jsonl")], chunk_words=500, cache=folder / "cache"),
        Adaptation(max_length=300),
        schedule,
        conditions,
        held_out=8,
    )
    return folder / "out"


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], compiled="compiled" in sys.argv)
