"""Time per document and memory of a whole evaluation, on a made-up collection of any size.

Everything between a folder of documents and a score runs as in ``llara-eval evaluate``; only the model costs
nothing. It is a checkpoint like any other, of a language model without layers: the vector of a token is
random, and that of a text is their mean.

Times are those of the functions in ``STAGES``, without the calls of functions that have a stage of their own.
Memory is anonymous memory, see :mod:`memory`, sampled fifty times a second.

Usage: ``python benchmarks/scale.py [--documents 100000] [--like msmarco] [--queries 100] [--seed 0]
[--width 64] [--folder FOLDER] [--json]``
"""

import argparse
import functools
import json
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import synthetic
import torch
from memory import anonymous_memory, sampled
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
"""Stage → owner and name of its function; ``read`` streams the corpus again, ``verify`` reads shards back.

Vectors are written in another thread during the encoding.
"""

TOKENS = 8_192
"""Tokens of the vocabulary: a word has 1.3 tokens then, as in English with the usual vocabularies."""

MIB = 1 << 20

_END = "</s>"


class Clock:
    """Time and peak anonymous memory of each stage; the clock of a stage stops while another runs in it.

    Attributes:
        seconds: Stage → seconds of real time.
        processor: Stage → seconds of all processors, which do not depend on other programs.
        peak: Stage → bytes.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.processor: defaultdict[str, float] = defaultdict(float)
        self.peak: defaultdict[str, float] = defaultdict(float)
        self._running = ["between"]
        self._since = time.perf_counter(), time.process_time()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the block as a stage."""
        self._count()
        self._running.append(name)
        try:
            yield
        finally:
            self._count()
            self._running.pop()

    def time(self, stage: str, owner: Any, name: str) -> None:
        """Count all later calls of ``owner.name`` as a stage."""
        function = getattr(owner, name)

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.stage(stage):
                return function(*args, **kwargs)

        setattr(owner, name, timed)

    def _count(self) -> None:
        self.sample()
        now = time.perf_counter(), time.process_time()
        self.seconds[self._running[-1]] += now[0] - self._since[0]
        self.processor[self._running[-1]] += now[1] - self._since[1]
        self._since = now

    def sample(self) -> None:
        """Note the memory of the stage that runs now."""
        stage = self._running[-1]
        self.peak[stage] = max(self.peak[stage], anonymous_memory())


def main() -> None:
    """Run one evaluation, and print its times and memory."""
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
        measured = rehearse(chosen, chosen.folder)
    else:
        with tempfile.TemporaryDirectory() as folder:
            measured = rehearse(chosen, Path(folder))
    print(json.dumps(measured) if chosen.json else as_table(measured))


def rehearse(chosen: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Write a collection, evaluate the model without layers on it, and return the measurements."""
    lengths = synthetic.lengths_like(chosen.like)
    words = synthetic.texts(TOKENS, lengths, {}, chosen.seed)
    write_checkpoint(folder / "model", words, chosen.width, chosen.seed)
    clock, before = Clock(), anonymous_memory()
    for stage, (owner, name) in STAGES.items():
        clock.time(stage, owner, name)
    with sampled(clock.sample):
        synthetic.write(folder / "data", chosen.documents, chosen.queries, lengths, chosen.seed)
        dataset = datasets.load(str(folder / "data"), data_dir=folder, offline=True)
        retriever = open_system(str(folder / "model"), {}, Context(folder, offline=True))
        outcome = evaluate.evaluate(retriever, dataset, runs_dir=folder / "runs", on_existing="always")
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
    """Write a byte-level BPE tokenizer and a LLaMA without layers, whose encoding costs nothing."""
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


def as_table(measured: dict[str, Any]) -> str:
    """Return the measurements of :func:`rehearse` as a table in Markdown."""
    count = measured["documents"]
    rows = [
        f"{count:,} documents like {measured['like']}, {measured['tokens'] / count:.0f} tokens each; "
        f"{measured['queries']:,} queries; vectors {measured['width']} wide",
        "",
        "| stage | seconds | µs per document | µs of processors | peak anonymous memory, MiB |",
        "|---|---|---|---|---|",
    ]
    for stage in (*STAGES, "all"):
        seconds, processor, peak = (
            measured[kind].get(stage, total(measured[kind].values()))
            for kind, total in (("seconds", sum), ("processor", sum), ("peak_anonymous", max))
        )
        rows.append(
            f"| {stage} | {seconds:,.1f} | {seconds / count * 1e6:.1f} | {processor / count * 1e6:.1f} "
            f"| {peak / MIB:,.0f} |"
        )
    rows += [
        "",
        f"before the first stage {measured['anonymous_before'] / MIB:,.0f} MiB; largest resident memory, "
        f"mapped files included, {measured['max_rss'] / MIB:,.0f} MiB",
        "  ".join(f"{name} {mean:.4f}" for name, mean in measured["measures"].items()),
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    main()
