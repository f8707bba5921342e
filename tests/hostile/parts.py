"""The parts of rooms: checkpoints, collections, results and caches, made once by the real program."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

RunCommand = Callable[[Path, tuple[str, ...]], None]
"""Runs a command in a room; it must succeed."""

WORDS = ["moon", "sun", "bow", "cello", "violin", "guitar", "bread", "river", "glass", "stone", "eclipse"]

DOCUMENTS = {f"d{i}": f"{word} {WORDS[i - 3]} {WORDS[i - 5]}" for i, word in enumerate(WORDS)}
QUERIES = {f"q{i}": f"{WORDS[i]} {WORDS[i + 1]}" for i in range(5)}
QRELS = {f"q{i}": {f"d{i}": 2, f"d{i + 1}": 1, f"d{i + 5}": 0} for i in range(5)}
RUN = {f"q{i}": {f"d{(i * 3 + rank) % 11}": 9.5 - rank for rank in range(6)} for i in range(5)}


def make(name: str, parts: Path, command: RunCommand) -> Path:
    """Return the folder of a part, which is made if it is not there."""
    folder = parts / name
    if not folder.exists():
        draft = parts / f"draft-{name}"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        _MAKERS[name](draft, parts, command)
        for unwanted in ("user", "tmp"):
            shutil.rmtree(draft / unwanted, ignore_errors=True)
        draft.rename(folder)
    return folder


def copy(folder: Path, room: Path) -> None:
    """Copy a part into a room."""
    shutil.copytree(folder, room, symlinks=True, dirs_exist_ok=True)


def _files(folder: Path, parts: Path, command: RunCommand) -> None:
    """Write run and judgements in every form."""
    import pyarrow as pa
    from pyarrow import parquet

    rows = [(q, d, rank, score) for q, docs in RUN.items() for rank, (d, score) in enumerate(docs.items(), 1)]
    judged = [(q, d, grade) for q, docs in QRELS.items() for d, grade in docs.items()]
    texts = {
        "run.trec": "".join(f"{q} Q0 {d} {rank} {score} tag\n" for q, d, rank, score in rows),
        "run.tabs.tsv": "".join(f"{q}\tQ0\t{d}\t{rank}\t{score}\ttag\n" for q, d, rank, score in rows),
        "run.four.txt": "".join(f"{q} {d} {rank} {score}\n" for q, d, rank, score in rows),
        "run.msmarco.tsv": "".join(f"{q}\t{d}\t{rank}\n" for q, d, rank, _ in rows),
        "run.json": json.dumps(RUN),
        "run.jsonl": "".join(
            json.dumps({"query_id": q, "doc_id": d, "score": score}) + "\n" for q, d, _, score in rows
        ),
        "qrels.txt": "".join(f"{q} 0 {d} {grade}\n" for q, d, grade in judged),
        "qrels.tsv": "query-id\tcorpus-id\tscore\n" + "".join(f"{q}\t{d}\t{g}\n" for q, d, g in judged),
        "qrels.json": json.dumps(QRELS),
        "qrels.jsonl": "".join(
            json.dumps({"query-id": q, "corpus-id": d, "score": grade}) + "\n" for q, d, grade in judged
        ),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    columns = list(zip(*rows, strict=True))
    table = pa.table({"query_id": columns[0], "doc_id": columns[1], "score": columns[3]})
    parquet.write_table(table, folder / "run.parquet")
    columns = list(zip(*judged, strict=True))
    table = pa.table({"query-id": columns[0], "corpus-id": columns[1], "score": columns[2]})
    parquet.write_table(table, folder / "qrels.parquet")


def _collection(folder: Path, parts: Path, command: RunCommand) -> None:
    target = folder / "collection"
    (target / "qrels").mkdir(parents=True)
    documents = [{"_id": d, "title": "", "text": text} for d, text in DOCUMENTS.items()]
    queries = [{"_id": q, "text": text} for q, text in QUERIES.items()]
    for name, rows in (("corpus", documents), ("queries", queries)):
        (target / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judged = "".join(f"{q}\t{d}\t{grade}\n" for q, docs in QRELS.items() for d, grade in docs.items())
    (target / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    groups = [{"query": f"{word} {word}", "pos": [word], "neg": ["stone glass", "sun"]} for word in WORDS]
    (folder / "groups.jsonl").write_text("".join(json.dumps(row) + "\n" for row in groups))


def _checkpoint(architecture: str) -> Callable[[Path, Path, RunCommand], None]:
    def write(folder: Path, parts: Path, command: RunCommand) -> None:
        from tiny_models import save_checkpoint

        save_checkpoint(folder / "ckpt", architecture)

    return write


def _sentence(folder: Path, parts: Path, command: RunCommand) -> None:
    from tiny_models import make_sentence_transformer

    prompts = {"prompts": {"query": "find: ", "document": ""}, "default_prompt_name": None}
    make_sentence_transformer(folder / "ckpt", "bert", "cls", config_sentence_transformers=prompts)


def templated(folder: Path, seed: int = 0) -> None:
    """Write a checkpoint with a template."""
    from tiny_models import save_checkpoint

    from llara_eval.encoding.templates import Template, Templates

    save_checkpoint(folder, "llama", seed)
    side = Template(suffix=("</s>",), pooling="last", max_length=32)
    Templates(side, side).save(folder)


def _templated(folder: Path, parts: Path, command: RunCommand) -> None:
    templated(folder / "ckpt")


def _lora(folder: Path, parts: Path, command: RunCommand) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from tiny_models import make_model, save_checkpoint

    from llara_eval.encoding.templates import Template, Templates

    save_checkpoint(folder / "base", "llama")
    torch.manual_seed(1)
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model = get_peft_model(make_model("llama"), config)
    model.peft_config["default"].base_model_name_or_path = "../base"
    model.save_pretrained(folder / "ckpt")
    side = Template(suffix=("</s>",), pooling="last", max_length=32)
    Templates(side, side).save(folder / "ckpt")


def _gguf(folder: Path, parts: Path, command: RunCommand) -> None:
    from gguf_files import write_gguf

    (folder / "ckpt").mkdir()
    write_gguf(folder / "ckpt" / "model.gguf", pooling_type=1)


EVALUATE = ("evaluate", "-m", "ckpt", "-d", "collection", "--runs-dir", "runs", "--offline", "-q")


def _evaluated(folder: Path, parts: Path, command: RunCommand) -> None:
    """Evaluate two systems: results in ``runs``, caches in ``home``, a finding about training data."""
    for name in ("collection", "templated"):
        copy(make(name, parts, command), folder)
    command(folder, (*EVALUATE, "--name", "first"))
    templated(folder / "second", seed=1)
    command(folder, tuple("second" if word == "ckpt" else word for word in EVALUATE))
    overlap = ("overlap", "--train", "groups.jsonl", "-d", "collection", "--runs-dir", "runs", "--offline")
    command(folder, overlap)
    command(folder, ("leaderboard", "--runs-dir", "runs", "--output", "board.md"))
    (folder / "board.md").unlink()


TRAIN = (
    *("finetune", "-m", "ckpt", "--data", "groups.jsonl", "--output", "out/tuned", "--steps", "4"),
    *("--batch-size", "4", "--batch-tokens", "600", "--dtype", "float32", "--save-minutes", "0"),
    *("--offline", "-q", "-o", "lora=false", "-o", "passage_length=64"),
)


def _training(folder: Path, parts: Path, command: RunCommand) -> None:
    for name in ("collection", "llama"):
        copy(make(name, parts, command), folder)


def _trained(folder: Path, parts: Path, command: RunCommand) -> None:
    """Finish a training run."""
    copy(make("training", parts, command), folder)
    command(folder, TRAIN)


def _unfinished(folder: Path, parts: Path, command: RunCommand) -> None:
    """Interrupt a training run after two steps, so that it leaves a training state."""
    copy(make("training", parts, command), folder)
    command(folder, ("INTERRUPTED", *TRAIN))


def _trained_only(folder: Path, parts: Path, command: RunCommand) -> None:
    """Make the finished run, with which unfinished ones are compared; nothing of it is in the room."""
    make("trained", parts, command)


_MAKERS = {
    "files": _files,
    "collection": _collection,
    "llama": _checkpoint("llama"),
    "bert": _checkpoint("bert"),
    "sentence": _sentence,
    "templated": _templated,
    "lora": _lora,
    "gguf": _gguf,
    "evaluated": _evaluated,
    "training": _training,
    "trained": _trained,
    "unfinished": _unfinished,
    "trained-only": _trained_only,
}
