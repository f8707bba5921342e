"""Ours against pinned peers and the machine's limit; ``make bench`` installs the peers and runs this.

Every ratio is formed within a round, in which all competitors run one after the other, each in a separate
process, with the same threads, on the same texts or vectors. Their outputs are compared first: a competitor
with another output is not timed. Tables show the middle round and, in brackets, the lowest and the highest.

Usage: ``python benchmarks/bench.py [encode] [search] [scoring] [startup] [growth] [--quick] [--json]
[--documents 256] [--model MODEL] [--dtype DTYPE] [--compile] [--peer PEER] [--rounds 3]
[--data-dir ../shared/data/beir]``
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import encode
import ours
import scoring
import search
import startup
import torch
from table import Table

HERE = Path(__file__).parent
PARTS = ("startup", "scoring", "search", "encode", "growth")
GROWTH = (10_000, 100_000)


def main() -> None:
    """Measure some parts or all of them, and print tables, or their content as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all if none is named"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes and one round: ten minutes")
    parser.add_argument("--rounds", type=int, help="by default 3, or 1 with --quick")
    parser.add_argument(
        "--documents",
        type=int,
        help="texts to encode: 256, or 64 with --quick; with an LLM on a CPU an eighth",
    )
    parser.add_argument(
        "--model", choices=[*encode.MODELS], action="append", help="the model that encodes; by default all"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        action="append",
        help="by default all that suit the device",
    )
    parser.add_argument("--compile", action="store_true", help="compile our layers first, untimed")
    parser.add_argument(
        "--peer", choices=[*encode.PEERS], action="append", help="the peer in encoding; by default all"
    )
    parser.add_argument("--data-dir", type=Path, default=HERE.parents[1] / "shared" / "data" / "beir")
    parser.add_argument("--growth", type=int, nargs="+", default=GROWTH, help="numbers of documents")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(PARTS)}")
    chosen.rounds = chosen.rounds or (1 if chosen.quick else 3)
    chosen.documents = chosen.documents or (64 if chosen.quick else 256)
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    cores = len(os.sched_getaffinity(0))
    os.environ.setdefault("OMP_NUM_THREADS", str(cores))  # or torch and faiss would take other numbers
    about = machine()
    print(f"{about}\n", file=sys.stderr if chosen.json else sys.stdout, flush=True)
    tables = []
    for table in measure(chosen):
        tables.append(table._asdict())
        if not chosen.json:
            print(f"{table}\n", flush=True)
    if chosen.json:
        print(json.dumps({"machine": about, "tables": tables}, default=str))


def measure(chosen: argparse.Namespace) -> Iterator[Table]:
    """Yield the tables of the chosen parts."""
    parts = chosen.parts or PARTS
    started = time.perf_counter()

    def say(message: str) -> None:
        print(f"{time.perf_counter() - started:6.0f} s  {message}", file=sys.stderr, flush=True)

    if "startup" in parts:
        yield startup.table(startup.measure(chosen.rounds, say))
    if "scoring" in parts:
        queries = scoring.QUERIES // (10 if chosen.quick else 1)
        yield scoring.table(queries, scoring.measure(queries, chosen.rounds, say))
    if "search" in parts:
        for size in search.QUICK if chosen.quick else search.SIZES:
            yield search.table(size, search.measure(size, chosen.rounds, say))
    if "encode" in parts:
        peers, folder = chosen.peer or encode.PEERS, HERE.parent / "build" / "bench"
        for name in chosen.model or encode.MODELS:
            share = encode.MODELS[name].share if ours.device().type == "cpu" else 1
            texts, source = encode.sample(chosen.data_dir, int(chosen.documents * share))
            for dtype in chosen.dtype or ours.native_dtypes():
                measured = encode.measure(
                    name, dtype, texts, peers, chosen.rounds, folder, say, compiled=chosen.compile
                )
                yield from encode.tables(measured, source)
    if "growth" in parts:
        yield growth(chosen.growth, say)


def growth(sizes: Sequence[int], say: Callable[[str], None]) -> Table:
    """Return the table of time and memory of a whole evaluation by number of documents, see :mod:`scale`."""
    evaluations = []
    for documents in sizes:
        say(f"{documents:,} documents: a whole evaluation without a model")
        words = f"--documents {documents} --like quora --json".split()
        done = subprocess.run(
            [sys.executable, HERE / "scale.py", *words], stdout=subprocess.PIPE, text=True, check=True
        )
        evaluations.append(json.loads(done.stdout))
    microseconds = [
        sum(seconds for stage, seconds in item["seconds"].items() if stage != "generate")
        / item["documents"]
        * 1e6
        for item in evaluations
    ]
    peaks = [max(item["peak_anonymous"].values()) for item in evaluations]
    return Table(
        "Growth",
        "Load, tokenise, encode without a model, store, search 100 queries, score: `scale.py --like quora`.",
        ["documents", "µs each", "of the first", "peak anonymous MiB", "of the first"],
        [
            [
                f"{size:,}",
                f"{spent:.0f}",
                f"{spent / microseconds[0]:.2f}",
                f"{peak / 2**20:,.0f}",
                f"{peak / peaks[0]:.2f}",
            ]
            for size, spent, peak in zip(sizes, microseconds, peaks, strict=True)
        ],
    )


def machine() -> str:
    """Return the date, the machine and the versions of a measurement."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    capabilities = torch.cpu.get_capabilities()
    instructions = [item for item in ("avx2", "avx512_bf16", "amx_bf16") if capabilities.get(item)]
    if torch.cuda.is_available():
        name = f"{torch.cuda.get_device_name()} beside {name}"
    return (
        f"{datetime.date.today()}, {name} ({', '.join(instructions)}), "
        f"{os.environ['OMP_NUM_THREADS']} threads, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
