"""The Python face as a user writes it, for the type checker alone; nothing here is run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import llara_eval as le


class MyModel:
    name = "mine"

    def encode_queries(self, texts: list[str]) -> NDArray[np.float32]:
        return np.zeros((len(texts), 8), dtype=np.float32)

    def encode_documents(self, texts: list[str]) -> NDArray[np.float32]:
        return np.zeros((len(texts), 8), dtype=np.float32)


class BeirModel:
    name = "beir"

    def encode_queries(self, queries: list[str], batch_size: int = 16) -> NDArray[np.float32]:
        return np.zeros((len(queries), 8), dtype=np.float32)

    def encode_corpus(self, corpus: list[dict[str, str]], batch_size: int = 8) -> NDArray[np.float32]:
        return np.zeros((len(corpus), 8), dtype=np.float32)


class MySearch:
    name = "search"

    def search(self, queries: list[object], depth: int) -> dict[str, dict[str, float]]:
        return {}


outcome: le.Outcome = le.evaluate("path/to/checkpoint", "scifact", measures=["nDCG@10"], depth=100)
mean: float = outcome.means["nDCG@10"]
frame = outcome.to_frame()
dataset: le.Dataset = le.load_dataset(Path("path/to/folder"))
one: le.Outcome = le.evaluate(MyModel(), dataset)
other: le.Outcome = le.evaluate(BeirModel(), "scifact", runs_dir=Path("runs"))
third: le.Outcome = le.evaluate(MySearch(), dataset)
many: le.Outcomes = le.evaluate(["bm25", MyModel()], ["beir-13", dataset])
also: le.Outcomes = le.evaluate("bm25", ["beir-13"])
names: list[str] = [item.result.system for item in le.results("runs")]
memory: le.Dataset = le.Dataset.from_memory({"d": "text"}, {"q": "text"}, {"q": {"d": 1}})
comparison: le.Comparison = le.compare("bm25", outcome, dataset="scifact")
scored: le.Scored = le.score({"q": {"d": 1.0}}, {"q": {"d": 1}}, ["nDCG@10"])
system = le.open_system("bm25", options={"k1": 0.82})
wrapped: le.Outcome = le.evaluate(le.wrap(MyModel(), name="other", similarity="cosine"), dataset)
task, schedule = le.adaptation("llara")
adapted: Path = le.adapt("model", "wiki.txt", "adapted", task=task, schedule=replace(schedule, steps=9))
contrast, schedule = le.finetuning()
mined = le.mine(MyModel(), ["pairs.jsonl"], "scifact", "mined.jsonl", settings=le.Mining(negatives=7))
tuned: Path = le.finetune(adapted, "mined.jsonl", "tuned", schedule=replace(schedule, lora=None), merge=True)
