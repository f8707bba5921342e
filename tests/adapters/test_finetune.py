"""Training from Python: each stage is one call with its settings as objects, as the command makes it."""

import json
from dataclasses import replace
from pathlib import Path

from fakes import FakeRetriever
from tiny_training import WORDS, make_base, make_rows

from adapters.finetune import RECIPES, FinetuningRun
from adapters.llara.adapt import AdaptationRun
from adapters.llara.recipes import ours
from llara_eval.checkpoints.load import load
from llara_eval.training.checkpoint import RECORD
from llara_eval.training.config import Conditions
from llara_eval.training.mining import Mining, mine


def test_a_base_model_is_adapted_mined_for_and_fine_tuned_in_three_calls(tmp_path: Path) -> None:
    base, texts = make_base(tmp_path / "base"), [make_rows(tmp_path / "rows.jsonl", 8)]
    task, schedule = ours()
    brief = replace(schedule, steps=1, batch_size=4)
    conditions = Conditions(output=tmp_path / "adapted", dtype="float32")
    run = AdaptationRun(base, texts, task, brief, conditions)
    assert run.plan().steps == 1
    adapted = run.run()
    assert adapted == tmp_path / "adapted"
    record = json.loads((adapted / RECORD).read_text(encoding="utf-8"))
    assert record["task"]["max_length"] == 512, "as many tokens as the model has positions, below 1,024"

    pairs, mined = tmp_path / "pairs.jsonl", tmp_path / "mined.jsonl"
    rows = [{"query": f"what is a {word}", "pos": [f"a {word} is a thing"]} for word in WORDS]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    ranked = {str(query): {str(document): 9.0 - document for document in range(9)} for query in range(11)}
    counts = mine(FakeRetriever(ranked), [pairs], "self", Mining(negatives=2, max_overlap=1.0), mined)
    assert counts.negatives == 2 * len(WORDS)
    assert json.loads(mined.with_suffix(".json").read_text(encoding="utf-8"))["counts"]["rows"] == len(WORDS)

    contrast, schedule = RECIPES["llara"].settings()
    tuned = FinetuningRun(
        adapted,
        [mined],
        contrast,
        replace(schedule, steps=1, batch_size=4, lora=None),
        Conditions(output=tmp_path / "tuned", dtype="float32"),
    ).run()
    assert load(tuned).encode(["sun"], "query").shape == (1, 32)
