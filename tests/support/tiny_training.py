"""Tiny training runs: ``tiny_training.py FOLDER STEPS DTYPE [compiled]`` adapts in ``FOLDER/out``."""

import itertools
import json
import random
import signal
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from tiny_models import make_config, make_tokenizer
from transformers import AutoModelForCausalLM

from adapters.finetune import FinetuningRun
from adapters.llara.adapt import AdaptationRun
from adapters.llara.config import Adaptation
from llara_eval.core.files import write_text
from llara_eval.core.folders import atomic_folder
from llara_eval.datasets.load import load
from llara_eval.training import job
from llara_eval.training.config import Conditions, Contrast, LoRA, Schedule
from llara_eval.training.log import LOG
from llara_eval.training.validation import ndcg_at_10

WORDS = ["sun", "moon", "earth", "star", "sea", "river", "stone", "bread", "violin", "cello", "guitar"]


def make_base(folder: Path, *, slots: int = 16, **changes: Any) -> Path:
    """Write a tiny causal language model; several processes may do so at once."""
    if not folder.exists():
        torch.manual_seed(0)
        config = make_config("llama", max_position_embeddings=512, initializer_range=0.05, **changes)
        with atomic_folder(folder) as unfinished:
            AutoModelForCausalLM.from_config(config).save_pretrained(unfinished)
            make_tokenizer(slots).save_pretrained(unfinished)
    return folder


def make_rows(path: Path, rows: int = 80) -> Path:
    """Write adaptation rows made of a few words."""
    drawn = random.Random(0)
    texts = [" ".join(drawn.choices(WORDS, k=drawn.randint(3, 12))) for _ in range(rows + 1)]
    lines = [
        json.dumps({"input": text, "output_summarize": text, "output_predict": following})
        for text, following in itertools.pairwise(texts)
    ]
    write_text(path, "\n".join(lines) + "\n")
    return path


def make_groups(path: Path, rows: int = 16) -> Path:
    """Write rows of queries with a positive and three negative passages."""
    drawn = random.Random(1)
    texts = [" ".join(drawn.choices(WORDS, k=drawn.randint(2, 6))) for _ in range(5 * rows)]
    lines = [
        json.dumps({"query": query, "pos": [positive], "neg": negatives})
        for query, positive, *negatives in zip(*[iter(texts)] * 5, strict=True)
    ]
    write_text(path, "\n".join(lines) + "\n")
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
        save_minutes=0,
        evaluate_every=10,
        merge=merge,
        compiled=compiled,
    )
    return AdaptationRun(
        make_base(folder / "base"),
        [make_rows(folder / "rows.jsonl")],
        Adaptation(max_length=300),
        schedule,
        conditions,
        held_out=8,
    ).run()


def make_task(folder: Path) -> Path:
    """Write the input of :func:`tune`: a tied base model without slots, ragged groups, a test collection."""
    tokens = len(make_tokenizer(0))
    make_base(folder / "model", slots=0, vocab_size=tokens, tie_word_embeddings=True)
    many = [f"{'stone bread violin ' * 4}{number}" for number in range(15)]
    files = {
        "groups.jsonl": [{"query": "sun", "pos": ["moon"]}, {"query": "sea", "pos": ["river"], "neg": many}],
        "corpus.jsonl": [{"_id": word, "title": "", "text": word} for word in WORDS],
        "queries.jsonl": [{"_id": f"to {word}", "text": word} for word in WORDS],
    }
    for name, lines in files.items():
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "qrels").mkdir()
    judged = [f"to {one}\t{other}\t1\n" for one, other in itertools.pairwise(WORDS)]
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(judged))
    return folder


def tune(folder: Path, *, stopped: bool = False) -> Path:
    """Fine-tune a LoRA adapter and slot tokens for three steps, and return the folder of the checkpoint.

    Args:
        folder: See :func:`make_task`.
        stopped: Whether Ctrl-C is pressed at the first step.
    """
    dataset = load(str(folder), data_dir=folder, offline=True)

    def interrupted(*model: Any, **settings: Any) -> dict[str, float]:
        signal.raise_signal(signal.SIGINT)
        return ndcg_at_10(*model, **settings)

    lora = LoRA(rank=4, alpha=8, dropout=0.0)
    run = FinetuningRun(
        folder / "model",
        [folder / "groups.jsonl"],
        Contrast(group_size=16, temperature=0.05),
        Schedule(learning_rate=1e-3, batch_size=2, steps=3, lora=lora),
        Conditions(output=folder / "out", micro_tokens=512, dtype="float32", validate_on=dataset),
    )
    with patch.object(job, "ndcg_at_10", interrupted if stopped else ndcg_at_10):
        return run.run()


def read_log(output: Path) -> list[dict[str, Any]]:
    """Return the entries of a run's log."""
    return [json.loads(line) for line in (output / LOG).read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], compiled="compiled" in sys.argv)
