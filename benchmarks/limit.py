"""What the machine can do at most, and where the time of ours goes."""

import re
import time
from pathlib import Path
from typing import Any

import ours
import torch
from peers import read_texts
from worker import Once, notes

ROWS = {"cpu": (1_024, 4_096), "cuda": (16_384, 65_536)}
"""Tokens multiplied at a time, by device type."""

AT_ONCE = {"cpu": 1, "cuda": 20}
"""Products between two looks at the clock: a GPU is waited for before each."""

SECONDS = 0.15
"""How long each product is repeated in a round."""

KINDS = {
    "attention": r"attention|flash",
    "embedding": r"embedding|index_select|gather",
    "products": r"mm$|mm_|linear|matmul|einsum|mkldnn|onednn",
    "compiled": r"compiled|inductor|cpp_fused|triton",
    "copies": r"copy|clone|cat$|stack|contiguous|aten::to$|pad|fill|zero",
    "elementwise": r"mul|add|sub|div|pow|sqrt|mean|sum|norm|silu|gelu|tanh|softmax|neg|where|sin$|cos$|exp",
}
"""Kind of work → names of torch's operators; the first that fits counts."""

IDLE = {"cpu": "Python, and what no operator does", "cuda": "waiting for Python and for copies"}
"""What is left, by device type."""


def products(folder: str, dtype: str) -> Once:
    """Multiply as the model does; ``notes["speed"]`` is the best rate of a round, operations a second."""
    kind = getattr(torch, dtype)
    device = ours.device()
    pairs = [
        (torch.randn(rows, width).to(device, kind), torch.randn(out, width).to(device, kind))
        for out, width in ours.product_shapes(Path(folder))
        for rows in ROWS[device.type]
    ]
    many = AT_ONCE[device.type]

    @torch.inference_mode()
    def once() -> Any:
        best = 0.0
        for left, right in pairs:
            torch.nn.functional.linear(left, right)
            began = now = finished(device)
            while now - began < SECONDS:
                before = now
                for _ in range(many):
                    torch.nn.functional.linear(left, right)
                now = finished(device)
                best = max(best, many * 2 * left.numel() * len(right) / (now - before))
        notes["speed"] = best
        return dict

    return once


def finished(device: torch.device) -> float:
    """Return the time when the device has done all it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def profile(folder: str, texts: str, dtype: str, compiled: bool = False) -> Once:
    """Encode with torch's profiler; ``notes["shares"]`` are shares of the seconds by kind of work.

    A GPU's time is that of the kernels each operator launched; the rest it stands idle.
    """
    read, encoder = read_texts(texts), ours.open_encoder(Path(folder), dtype, compiled=compiled)
    encoder.encode(read if compiled else read[:8], "document")
    activities, spent, rest = [torch.profiler.ProfilerActivity.CPU], "self_cpu_time_total", IDLE["cpu"]
    if encoder.device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
        spent, rest = "self_device_time_total", IDLE["cuda"]

    def once() -> Any:
        started = time.perf_counter()
        sequences = encoder.templates.document.token_ids(encoder.tokenizer, read)
        reading = time.perf_counter() - started
        with torch.profiler.profile(activities=activities) as seen:
            started = time.perf_counter()
            encoder.start(sequences, "document").vectors()
            seconds = time.perf_counter() - started + reading
        shares = dict.fromkeys((*KINDS, "other operators"), 0.0)
        for event in seen.key_averages():
            if event.device_type == torch.autograd.DeviceType.CPU:  # kernels are counted with their operator
                shares[kind_of(event.key)] += getattr(event, spent) / 1e6 / seconds
        shares["tokenising"] = reading / seconds
        shares[rest] = max(0.0, 1 - sum(shares.values()))
        notes["shares"] = shares
        return dict

    return once


def kind_of(operator: str) -> str:
    """Return the kind of work of an operator of torch."""
    found = (kind for kind, names in KINDS.items() if re.search(names, operator, re.IGNORECASE))
    return next(found, "other operators")
