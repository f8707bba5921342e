"""Time per document and memory of a whole evaluation, on a made-up collection of any size.

Everything between a folder of documents and a score is run as ``llara-eval evaluate`` runs it; only the
model costs nothing. It is a language model without layers, a checkpoint like any other: a token is a
random vector and a text their mean, that is, words hashed into a few dimensions.

Times are of the functions in ``STAGES`` without what they call that has a row of its own. Memory is
anonymous memory (``RssAnon`` of /proc/self/status, Linux only), looked at fifty times a second: files that
are mapped, which the system drops when it needs the room, are not in it, as they are in ``ru_maxrss``.

Usage: ``python benchmarks/scale.py [--documents 100000] [--like msmarco] [--queries 100] [--seed 0]
[--width 64] [--folder FOLDER] [--json]``
"""

import argparse
import functools
import json
import resource
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import synthetic
import torch
from memory import SECONDS_BETWEEN, anonymous_memory
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModel, LlamaConfig, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from adapters import open_system
from adapters.dense import Dense
from adapters.options import Context
from llara_eval.datasets import load as datasets
from llara_eval.encoding.encoder import Encoder
from llara_eval.encoding.templates import Template
from llara_eval.evaluation import evaluate
from llara_eval.vectors.vector_store import VectorStore

STAGES = {
    "generate": (synthetic, "write"),
    "load": (datasets, "load"),
    "read": (Dense, "index"),
    "tokenise": (Template, "token_ids"),
    "encode": (Encoder, "start"),
    "verify": (VectorStore, "record"),
    "search": (Dense, "search"),
    "rank": (evaluate, "rank"),
    "score": (evaluate, "score"),
    "record": (evaluate, "_store"),
}
"""Stage → the function that does it; ``read`` streams the corpus again, ``verify`` reads shards back.

Vectors are written in a thread beside the encoding.
"""

TOKENS = 8_192
"""Tokens of the vocabulary: 1.3 a word, as English has with vocabularies of the usual size."""

MIB = 1 << 20

_END = "</s>"


class Clock:
    """Time and peak anonymous memory of each stage; a stage stops while another one runs in it.

    Attributes:
        seconds: Stage → time that passed.
        processor: Stage → seconds of all processors, which other programs do not lengthen.
        peak: Stage → bytes.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.processor: defaultdict[str, float] = defaultdict(float)
        self.peak: defaultdict[str, float] = defaultdict(float)
        self._running = ["between"]
        self._since = time.perf_counter(), time.process_time()
        self._done = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what happens in the block as one stage."""
        self._count()
        self._running.append(name)
        try:
            yield
        finally:
            self._count()
            self._running.pop()

    def time(self, stage: str, owner: Any, name: str) -> None:
        """From now on, count calls of ``owner.name`` as a stage."""
        function = getattr(owner, name)

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.stage(stage):
                return function(*args, **kwargs)

        setattr(owner, name, timed)

    def stop(self) -> None:
        """Look at memory no more."""
        self._done.set()

    def _count(self) -> None:
        self._look()
        now = time.perf_counter(), time.process_time()
        self.seconds[self._running[-1]] += now[0] - self._since[0]
        self.processor[self._running[-1]] += now[1] - self._since[1]
        self._since = now

    def _look(self) -> None:
        stage = self._running[-1]
        self.peak[stage] = max(self.peak[stage], anonymous_memory())

    def _watch(self) -> None:
        while not self._done.wait(SECONDS_BETWEEN):
            self._look()


def main() -> None:
    """Rehearse once and print what it took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--like", default="msmarco", help="lengths: a BEIR folder, or a set's name")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--width", type=int, default=64, help="of vectors")
    parser.add_argument("--folder", type=Path, help="work here and keep all; else in a temporary folder")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    if chosen.documents < chosen.queries * synthetic.RELEVANT:
        parser.error(f"every query needs {synthetic.RELEVANT} documents of its own; lower --queries")
    if chosen.folder:
        found = rehearse(chosen, chosen.folder)
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = rehearse(chosen, Path(folder))
    print(json.dumps(found) if chosen.json else as_table(found))


def rehearse(chosen: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Generate a collection in a folder, evaluate the model without layers on it, say what it took."""
    lengths = synthetic.lengths_like(chosen.like)
    words = synthetic.texts(TOKENS, lengths, {}, chosen.seed)
    write_checkpoint(folder / "model", words, chosen.width, chosen.seed)
    clock, before = Clock(), anonymous_memory()
    for stage, (owner, name) in STAGES.items():
        clock.time(stage, owner, name)
    synthetic.write(folder / "data", chosen.documents, chosen.queries, lengths, chosen.seed)
    dataset = datasets.load(str(folder / "data"), data_dir=folder, offline=True)
    retriever = open_system(str(folder / "model"), {}, Context(folder, offline=True))
    outcome = evaluate.evaluate(retriever, dataset, runs_dir=folder / "runs", on_existing="always")
    clock.stop()
    return {
        **{key: str(value) if isinstance(value, Path) else value for key, value in vars(chosen).items()},
        "tokens": outcome.result.phases["index"]["tokens"],
        "measures": outcome.result.means,
        "seconds": {stage: round(clock.seconds[stage], 3) for stage in STAGES},
        "processor": {stage: round(clock.processor[stage], 3) for stage in STAGES},
        "peak_anonymous": {stage: clock.peak[stage] for stage in STAGES},
        "anonymous_before": before,
        "max_rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def write_checkpoint(folder: Path, texts: Iterable[str], width: int, seed: int) -> None:
    """Write a checkpoint that costs nothing: a byte-level BPE tokenizer and a LLaMA without layers."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TOKENS,
        special_tokens=[_END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=_END).save_pretrained(folder)
    disable_progress_bar()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=TOKENS, hidden_size=width, num_hidden_layers=0, num_attention_heads=1, intermediate_size=1
    )
    AutoModel.from_config(config).save_pretrained(folder)


def as_table(found: dict[str, Any]) -> str:
    """Return a result of :func:`rehearse` as a table in Markdown."""
    count = found["documents"]
    rows = [
        f"{count:,} documents like {found['like']}, {found['tokens'] / count:.0f} tokens each; "
        f"{found['queries']:,} queries; vectors {found['width']} wide",
        "",
        "| stage | seconds | µs per document | µs of processors | peak anonymous memory, MiB |",
        "|---|---|---|---|---|",
    ]
    for stage in (*STAGES, "all"):
        seconds, processor, peak = (
            found[kind].get(stage, total(found[kind].values()))
            for kind, total in (("seconds", sum), ("processor", sum), ("peak_anonymous", max))
        )
        rows.append(
            f"| {stage} | {seconds:,.1f} | {seconds / count * 1e6:.1f} | {processor / count * 1e6:.1f} "
            f"| {peak / MIB:,.0f} |"
        )
    rows += [
        "",
        f"before the first stage {found['anonymous_before'] / MIB:,.0f} MiB; largest resident memory, mapped "
        f"files included, {found['max_rss'] / MIB:,.0f} MiB",
        "  ".join(f"{name} {mean:.4f}" for name, mean in found["measures"].items()),
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    main()
