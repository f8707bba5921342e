"""What commands of the tests work on and write: a checkpoint, a collection, and the files of an output."""

import json
from pathlib import Path
from random import Random
from typing import Any

from tiny_models import save_checkpoint

WORDS = ["moon", "sun", "bow", "cello", "violin", "guitar", "bread", "river", "glass", "stone"]

_LASTING = ("seconds", "phases", "provenance")
"""What a record says of the work and not of its outcome; a checksum over such words is one of them."""


def prepare(folder: Path) -> tuple[Path, Path]:
    """Write a checkpoint and a collection of 200 documents and 20 queries."""
    random = Random(0)
    collection = folder / "collection"
    (collection / "qrels").mkdir(parents=True)
    for name, count, most in (("corpus", 200, 8), ("queries", 20, 3)):
        rows = [
            {"_id": f"{name}{i}", "text": " ".join(random.choices(WORDS, k=random.randint(1, most)))}
            for i in range(count)
        ]
        (collection / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judged = "".join(f"queries{i}\tcorpus{i}\t1\n" for i in range(20))
    (collection / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    return save_checkpoint(folder / "tiny"), collection


def contents(root: Path) -> dict[str, Any]:
    """Return path → content of all files below a folder, without times and costs."""
    out: dict[str, Any] = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        value: Any = path.read_bytes()
        if path.suffix == ".json":
            value = json.loads(value)
            if "seconds" in value:
                del value["sha256"]
            if isinstance(value, dict):
                value = {key: value[key] for key in value if key not in _LASTING}
        out[str(path.relative_to(root.parent))] = value
    return out
