"""What the machine can do at most, and where the time of ours goes."""

import re
import time
from pathlib import Path
from typing import Any

import ours
import torch
from peers import read_texts
from worker import Once, notes

ROWS = (1_024, 4_096)
"""Tokens multiplied at a time."""

SECONDS = 0.15
"""How long each product is repeated in a round."""

KINDS = {
    "attention": r"attention|flash",
    "embedding": r"embedding|index_select|gather",
    "products": r"mm$|mm_|linear|matmul|einsum|mkldnn|onednn",
    "compiled": r"compiled|inductor|cpp_fused",
    "copies": r"copy|clone|cat$|stack|contiguous|aten::to$|pad|fill|zero",
    "elementwise": r"mul|add|sub|div|pow|sqrt|mean|sum|norm|silu|gelu|tanh|softmax|neg|where|sin$|cos$|exp",
}
"""Kind of work → names of torch's operators; the first that fits counts."""


def products(folder: str, dtype: str) -> Once:
    """Multiply as the model does; ``notes["speed"]`` is the best rate of a round, operations a second."""
    kind = getattr(torch, dtype)
    pairs = [
        (torch.randn(rows, width).to(kind), torch.randn(out, width).to(kind))
        for out, width in ours.product_shapes(Path(folder))
        for rows in ROWS
    ]

    @torch.inference_mode()
    def once() -> Any:
        best = 0.0
        for left, right in pairs:
            torch.nn.functional.linear(left, right)
            began = now = time.perf_counter()
            while now - began < SECONDS:
                before = now
                torch.nn.functional.linear(left, right)
                now = time.perf_counter()
                best = max(best, 2 * left.numel() * len(right) / (now - before))
        notes["speed"] = best
        return dict

    return once


def profile(folder: str, texts: str, dtype: str) -> Once:
    """Encode with torch's profiler; ``notes["shares"]`` are shares of the seconds by kind of work."""
    read, encoder = read_texts(texts), ours.open_encoder(Path(folder), dtype)
    encoder.encode(read[:8], "document")

    def once() -> Any:
        started = time.perf_counter()
        ours.token_ids(Path(folder), read)
        reading = time.perf_counter() - started
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
            started = time.perf_counter()
            encoder.encode(read, "document")
            seconds = time.perf_counter() - started
        shares = dict.fromkeys((*KINDS, "other operators"), 0.0)
        for event in seen.key_averages():
            shares[kind_of(event.key)] += event.self_cpu_time_total / 1e6 / seconds
        shares["tokenising"] = reading / seconds
        shares["Python, and what no operator does"] = max(0.0, 1 - sum(shares.values()))
        notes["shares"] = shares
        return dict

    return once


def kind_of(operator: str) -> str:
    """Return the kind of work of an operator of torch."""
    found = (kind for kind, names in KINDS.items() if re.search(names, operator, re.IGNORECASE))
    return next(found, "other operators")
