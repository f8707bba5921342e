"""Encoding: real tokens per second of ours and of the peers, and the share of the limit that ours reaches."""

import json
import random
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import ours
import synthetic
from rounds import Competitor, Outcome, Ratio, Worker, comparison, compete, ratio
from table import Table
from worker import Output

from llara_eval.datasets.folder import corpus_of

COLLECTIONS = ("scifact", "arguana")
MEAN = 0.999
"""The mean cosine with our vectors above which the times of a competitor count."""

LOWEST = {"float32": 0.999, "bfloat16": 0.99, "float16": 0.99}
"""Dtype → the lowest cosine of a text with which times count.

In bfloat16, loops that agree in float32 differ by .002 on some texts with SmolLM2.
"""

SEED = 0


class Model(NamedTuple):
    """A model to encode with.

    Attributes:
        pooling: ``mean`` or ``last``.
        max_length: The most tokens of a text.
        share: The share of the texts that it encodes on a CPU, so that a round takes a minute.
    """

    pooling: str
    max_length: int
    share: float


MODELS = {"all-minilm-l6-v2": Model("mean", 256, 1.0), "smollm2-135m": Model("last", 256, 0.125)}

PEERS = {
    "beir": ("peers:beir", {}),
    "sentence-transformers": ("peers:sentence_transformers", {}),
    "mteb": ("peers:mteb", {}),
    "FlagEmbedding-style": ("peers:loop", {"name": "flag"}),
    "Tevatron-style": ("peers:loop", {"name": "tevatron"}),
    "token-sorted": ("peers:loop", {"name": "plain"}),
}


def sample(data_dir: Path, count: int) -> tuple[list[str], str]:
    """Return texts and their source: equally many of each collection, or made-up ones without collections."""
    folders = [data_dir / name for name in COLLECTIONS]
    draw = random.Random(SEED)
    if all(folder.is_dir() for folder in folders):
        corpora = [corpus_of(folder) for folder in folders]
        sampled = [
            text
            for corpus in corpora
            for text in draw.sample([document.contents for document in corpus], count // len(corpora))
        ]
        draw.shuffle(sampled)
        return sampled, " and ".join(COLLECTIONS)
    made_up = synthetic.texts(count, synthetic.lengths_like("scifact"), {}, SEED)
    return list(made_up), "made up, lengths of scifact"


def objection(expected: Output, output: Output, *, lowest: float = LOWEST["float32"]) -> str:
    """Return how the token ids or vectors of a competitor differ from ours; empty if they do not."""
    for name in ("lengths", "ids"):
        if not np.array_equal(expected[name], output[name]):
            return f"other token ids: {output['lengths'].sum():,} tokens, not {expected['lengths'].sum():,}"
    norms = np.linalg.norm(expected["vectors"], axis=1) * np.linalg.norm(output["vectors"], axis=1)
    cosines = (expected["vectors"] * output["vectors"]).sum(1) / norms
    if cosines.min() > lowest and cosines.mean() > MEAN:
        return ""
    return f"other vectors: cosine {cosines.min():.4f}, mean {cosines.mean():.4f}"


def measure(
    name: str,
    dtype: str,
    texts: Sequence[str],
    peers: Collection[str],
    rounds: int,
    folder: Path,
    say: Callable[[str], None],
    *,
    compiled: bool = False,
) -> dict[str, Any]:
    """Measure one model in one dtype.

    Args:
        name: A name of :data:`MODELS`.
        dtype: The dtype of weights and products.
        texts: The texts to encode.
        peers: The names of :data:`PEERS` to compare with.
        rounds: The number of rounds that count.
        folder: The folder that keeps checkpoints between runs.
        say: Called with messages on the progress.
        compiled: Whether our layers are compiled, before anything is timed.
    """
    model = MODELS[name]
    checkpoint, exported = ours.write_checkpoints(name, folder / name, model.max_length, model.pooling)
    file = folder / "texts.json"
    file.write_text(json.dumps(texts))
    common = {"folder": str(checkpoint), "exported": str(exported), "texts": str(file), "dtype": dtype}
    loop = {"pooling": model.pooling, "max_length": model.max_length}
    outcomes = compete(
        [
            Competitor("llara-eval", "ours:encode", {**common, "compiled": compiled}),
            *(
                Competitor(peer, target, {**common, **more, **(loop if more else {})})
                for peer, (target, more) in PEERS.items()
                if peer in peers
            ),
            Competitor(
                "limit", "limit:products", {"folder": str(checkpoint), "dtype": dtype}, compared=False
            ),
        ],
        rounds,
        partial(objection, lowest=LOWEST[dtype]),
        say=say,
    )
    profiled = {**{key: common[key] for key in ("folder", "texts", "dtype")}, "compiled": compiled}
    with Worker(Competitor("profile", "limit:profile", profiled)) as worker:
        worker.answer()
        shares = worker.round()["shares"]
    lengths = [*map(len, ours.token_ids(checkpoint, texts))]
    return {
        "model": name,
        "dtype": f"{dtype}, compiled" if compiled else dtype,
        "texts": len(texts),
        "tokens": sum(lengths),
        "operations": ours.operations(checkpoint, lengths),
        "outcomes": outcomes,
        "shares": shares,
    }


def tables(measured: dict[str, Any], source: str) -> list[Table]:
    """Return the comparison with the peers, and the share of the limit with a profile of the rest."""
    model, tokens = MODELS[measured["model"]], measured["tokens"]
    ours_outcome, *peers, limit = measured["outcomes"]
    title = f"{measured['model']}, {measured['dtype']}"
    ratios = [ratio(peer, ours_outcome).middle for peer in peers if not peer.refused]
    speeds = [measured["operations"] / answer["seconds"] for answer in ours_outcome.rounds]
    reached = Ratio.of([speed / answer["speed"] for speed, answer in zip(speeds, limit.rounds, strict=True)])
    middle = f" The median peer takes {median(ratios):.2f} times as long." if ratios else ""

    def cells(peer: Outcome) -> list[object]:
        speed, padding = f"{tokens / peer.median():,.0f}", f"{peer.median('padding'):.3f}"
        if peer is ours_outcome:
            return [speed, "", padding, ""]
        return [speed, ratio(peer, ours_outcome), padding, f"{peer.median('batch'):,.0f}"]

    return [
        comparison(
            f"Encode, {title}",
            f"{measured['texts']:,} texts ({source}), {tokens:,} tokens, at most {model.max_length} each, "
            f"pooling {model.pooling}.{middle}",
            ["tokens/s", "ours is faster, times", "padding", "batch size"],
            [ours_outcome, *peers],
            cells,
        ),
        Table(
            f"Encode at the limit, {title}",
            f"Best product {limit.median('speed') / 1e9:,.0f} GFLOP/s; ours {median(speeds) / 1e9:,.0f}, "
            "of products with weights and attention, padding not counted.",
            ["", "share"],
            [
                ["ours of the best product", reached],
                *([f"time: {kind}", f"{share:.1%}"] for kind, share in measured["shares"].items()),
            ],
        ),
    ]
