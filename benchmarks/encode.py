"""Encoding: real tokens a second of ours and of the peers, and how near ours is to the limit."""

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
from rounds import Competitor, Outcome, Ratio, Worker, compete, ratio
from table import Table
from worker import Output

from llara_eval.core.lines import find_file
from llara_eval.datasets.corpus import Corpus

COLLECTIONS = ("scifact", "arguana")
MEAN = 0.999
"""Mean cosine with our vectors above which a time counts."""

LOWEST = {"float32": 0.999, "bfloat16": 0.99, "float16": 0.99}
"""Lowest cosine of a text. In bfloat16 loops that agree in float32 differ by .002 in some of SmolLM2's."""

SEED = 0


class Model(NamedTuple):
    """A model to encode with.

    Attributes:
        pooling: How hidden states become a vector.
        max_length: The most tokens of a text.
        share: Of the texts asked for, how many it gets on a CPU: as many as a round's minute allows.
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
    """Return texts and from where they are: equally many of each collection at hand, else made up."""
    folders = [data_dir / name for name in COLLECTIONS]
    draw = random.Random(SEED)
    if all(folder.is_dir() for folder in folders):
        corpora = [Corpus(find_file(folder, "corpus.jsonl")) for folder in folders]
        drawn = [
            text
            for corpus in corpora
            for text in draw.sample([document.contents for document in corpus], count // len(corpora))
        ]
        draw.shuffle(drawn)
        return drawn, " and ".join(COLLECTIONS)
    return list(
        synthetic.texts(count, synthetic.lengths_like("scifact"), {}, SEED)
    ), "made up, lengths of scifact"


def objection(expected: Output, found: Output, *, lowest: float = LOWEST["float32"]) -> str:
    """Say what is wrong with a competitor's token ids or vectors; empty if nothing is."""
    for name in ("lengths", "ids"):
        if not np.array_equal(expected[name], found[name]):
            return f"other token ids: {found['lengths'].sum():,} tokens, not {expected['lengths'].sum():,}"
    norms = np.linalg.norm(expected["vectors"], axis=1) * np.linalg.norm(found["vectors"], axis=1)
    cosines = (expected["vectors"] * found["vectors"]).sum(1) / norms
    if cosines.min() > lowest and cosines.mean() > MEAN:
        return ""
    return f"other vectors: cosine {cosines.min():.4f}, mean {cosines.mean():.4f}"


def measure(
    name: str,
    dtype: str,
    texts: Sequence[str],
    wanted: Collection[str],
    rounds: int,
    folder: Path,
    say: Callable[[str], None],
    *,
    compiled: bool = False,
) -> dict[str, Any]:
    """Measure one model in one type of weights.

    Args:
        name: Of :data:`MODELS`.
        dtype: Of weights and products.
        texts: What to encode.
        wanted: Which of :data:`PEERS` to compare with.
        rounds: How many rounds count.
        folder: Where checkpoints are kept between runs.
        say: Told what is going on.
        compiled: Whether ours has its layers compiled, before anything is timed.
    """
    model = MODELS[name]
    own, exported = ours.write_checkpoints(name, folder / name, model.max_length, model.pooling)
    file = folder / "texts.json"
    file.write_text(json.dumps(texts))
    given = {"folder": str(own), "exported": str(exported), "texts": str(file), "dtype": dtype}
    loop = {"pooling": model.pooling, "max_length": model.max_length}
    outcomes = compete(
        [
            Competitor("llara-eval", "ours:encode", {**given, "compiled": compiled}),
            *(
                Competitor(peer, target, {**given, **more, **(loop if more else {})})
                for peer, (target, more) in PEERS.items()
                if peer in wanted
            ),
            Competitor("limit", "limit:products", {"folder": str(own), "dtype": dtype}, compared=False),
        ],
        rounds,
        partial(objection, lowest=LOWEST[dtype]),
        say=say,
    )
    profiled = {**{key: given[key] for key in ("folder", "texts", "dtype")}, "compiled": compiled}
    with Worker(Competitor("profile", "limit:profile", profiled)) as worker:
        worker.answer()
        shares = worker.round()["shares"]
    lengths = [*map(len, ours.token_ids(own, texts))]
    return {
        "model": name,
        "dtype": f"{dtype}, compiled" if compiled else dtype,
        "texts": len(texts),
        "tokens": sum(lengths),
        "operations": ours.operations(own, lengths),
        "outcomes": outcomes,
        "shares": shares,
    }


def tables(found: dict[str, Any], source: str) -> list[Table]:
    """Return the comparison with the peers, and the limit with what takes the rest."""
    model, tokens = MODELS[found["model"]], found["tokens"]
    own, *peers, limit = found["outcomes"]
    what = f"{found['model']}, {found['dtype']}"
    ratios = [ratio(peer, own).middle for peer in peers if not peer.refused]
    speeds = [found["operations"] / answer["seconds"] for answer in own.rounds]
    reached = Ratio.of([speed / answer["speed"] for speed, answer in zip(speeds, limit.rounds, strict=True)])
    middle = f" The median peer takes {median(ratios):.2f} times as long." if ratios else ""
    return [
        Table(
            f"Encode, {what}",
            f"{found['texts']:,} texts ({source}), {tokens:,} tokens, at most {model.max_length} each, "
            f"pooling {model.pooling}.{middle}",
            ["", "tokens/s", "ours is faster, times", "padding", "batch size"],
            [row(peer, own, tokens) for peer in (own, *peers)],
        ),
        Table(
            f"Encode at the limit, {what}",
            f"Best product {limit.median('speed') / 1e9:,.0f} GFLOP/s; ours {median(speeds) / 1e9:,.0f}, "
            "of products with weights and attention, padding not counted.",
            ["", "share"],
            [
                ["ours of the best product", reached],
                *([f"time: {kind}", f"{share:.1%}"] for kind, share in found["shares"].items()),
            ],
        ),
    ]


def row(peer: Outcome, own: Outcome, tokens: int) -> list[object]:
    """Return the cells of one competitor."""
    if peer.refused:
        return [peer.name, peer.refused, "", "", ""]
    return [
        peer.name,
        f"{tokens / peer.median():,.0f}",
        "" if peer is own else ratio(peer, own),
        f"{peer.median('padding'):.3f}",
        "" if peer is own else f"{peer.median('batch'):,.0f}",
    ]
