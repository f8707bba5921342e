#!/usr/bin/env bash
# Checks that need a GPU, in ten minutes: the tests marked gpu, an evaluation, and steps of both trainings.
#
# Usage: benchmarks/gpu.sh [MODEL]            a checkpoint folder or a packaged model (default: smollm2-135m)
#        benchmarks/gpu.sh --dry-run [MODEL]  the same commands at the smallest size, on any device
#
# It needs no network and writes into a temporary folder only. PYTHON names the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

rows=32 length=512 steps=3 dtype=bfloat16
if [ "${1:-}" = --dry-run ]; then
  rows=4 length=192 steps=1 dtype=float32
  shift
fi
model=${1:-smollm2-135m}
python=${PYTHON:-python}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# Adaptation uses the documents of the demo, fine-tuning its judged pairs.
"$python" - "$out" <<'PROGRAM'
import csv, json, sys
from pathlib import Path

import torch

print("device:", torch.cuda.get_device_name() if torch.cuda.is_available() else "none but the processor", flush=True)
out, demo = Path(sys.argv[1]), Path("llara_eval/data/demo")
documents, queries = (
    {row["_id"]: row["text"] for row in map(json.loads, (demo / name).open())} for name in ("corpus.jsonl", "queries.jsonl")
)
with (out / "texts.jsonl").open("w") as file:
    file.writelines(json.dumps({"text": text}) + "\n" for text in documents.values())
texts = list(documents.values())
with (out / "pairs.jsonl").open("w") as file, next((demo / "qrels").glob("*.tsv")).open() as qrels:
    for number, row in enumerate(csv.DictReader(qrels, delimiter="\t")):
        pair = {"query": queries[row["query-id"]], "pos": [documents[row["corpus-id"]]]}
        negatives = [text for text in texts[number : number + 9] if text not in pair["pos"]]
        file.write(json.dumps({**pair, "neg": negatives}) + "\n")
PROGRAM

echo "== tests"
"$python" -m pytest -q -m gpu tests/encoding || [ $? = 5 ] # 5: no test was run
echo "== evaluate"
"$python" -m llara_eval evaluate --model "$model" --dataset demo --dtype "$dtype" --offline --quiet \
  --runs-dir "$out/runs" --json
for stage in adapt finetune; do
  echo "== $stage"
  data=texts
  if [ $stage = finetune ]; then data=pairs; fi
  "$python" benchmarks/training.py $stage --model "$model" --data "$out/$data.jsonl" \
    --rows $rows --length $length --steps $steps --dtype $dtype
done
