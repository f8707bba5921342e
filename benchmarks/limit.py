"""The limit of the machine, and a profile of our encoding."""

import re
import time
from pathlib import Path
from typing import Any

import ours
import torch
from worker import Once, notes

ROWS = {"cpu": (1_024, 4_096), "cuda": (16_384, 65_536)}
"""Device type → tokens of a product."""

AT_ONCE = {"cpu": 1, "cuda": 20}
"""Device type → products between two readings of the clock, for each of which a GPU must be idle."""

SECONDS = 0.15
"""Seconds for which each product is repeated in a round."""

KINDS = {
    "attention": r"attention|flash",
    "embedding": r"embedding|index_select|gather",
    "products": r"mm$|mm_|linear|matmul|einsum|mkldnn|onednn",
    "compiled": r"compiled|inductor|cpp_fused|triton",
    "copies": r"copy|clone|cat$|stack|contiguous|aten::to$|pad|fill|zero",
    "elementwise": r"mul|add|sub|div|pow|sqrt|mean|sum|norm|silu|gelu|tanh|softmax|neg|where|sin$|cos$|exp",
}
"""Kind of work → pattern of the names of torch's operators; the first that matches counts."""

IDLE = {"cpu": "Python, and what no operator does", "cuda": "waiting for Python and for copies"}
"""Device type → name of the rest of the time."""


def products(folder: str, dtype: str) -> Once:
    """Multiply as the model does; ``notes["speed"]`` is the best rate of a round in operations per second."""
    device, torch_dtype = ours.device(), getattr(torch, dtype)
    pairs = [
        (torch.randn(rows, width).to(device, torch_dtype), torch.randn(out, width).to(device, torch_dtype))
        for out, width in ours.product_shapes(Path(folder))
        for rows in ROWS[device.type]
    ]
    repeats = AT_ONCE[device.type]

    @torch.inference_mode()
    def once() -> Any:
        best = 0.0
        for left, right in pairs:
            torch.nn.functional.linear(left, right)
            began = now = finished(device)
            while now - began < SECONDS:
                before = now
                for _ in range(repeats):
                    torch.nn.functional.linear(left, right)
                now = finished(device)
                best = max(best, repeats * 2 * left.numel() * len(right) / (now - before))
        notes["speed"] = best
        return dict

    return once


def finished(device: torch.device) -> float:
    """Wait until the device is idle, and return the time."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def profile(folder: str, texts: str, dtype: str, compiled: bool = False) -> Once:
    """Encode with torch's profiler; ``notes["shares"]`` are shares of the seconds by kind of work.

    The time of a GPU is that of the kernels that each operator launched; the rest of the time it is idle.
    """
    read, encoder = ours.read_texts(texts), ours.open_encoder(Path(folder), dtype, compiled=compiled)
    encoder.encode(read if compiled else read[:8], "document")
    activities, spent, rest = [torch.profiler.ProfilerActivity.CPU], "self_cpu_time_total", IDLE["cpu"]
    if encoder.device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
        spent, rest = "self_device_time_total", IDLE["cuda"]

    def once() -> Any:
        started = time.perf_counter()
        sequences = encoder.templates.document.token_ids(encoder.tokenizer, read)
        tokenising = time.perf_counter() - started
        with torch.profiler.profile(activities=activities) as profiler:
            started = time.perf_counter()
            encoder.start(sequences, "document").vectors()
            seconds = time.perf_counter() - started + tokenising
        shares = dict.fromkeys((*KINDS, "other operators"), 0.0)
        for event in profiler.key_averages():
            if event.device_type == torch.autograd.DeviceType.CPU:  # a kernel counts with its operator
                shares[kind_of(event.key)] += getattr(event, spent) / 1e6 / seconds
        shares["tokenising"] = tokenising / seconds
        shares[rest] = max(0.0, 1 - sum(shares.values()))
        notes["shares"] = shares
        return dict

    return once


def kind_of(operator: str) -> str:
    """Return the kind of work of an operator of torch."""
    kinds = (kind for kind, pattern in KINDS.items() if re.search(pattern, operator, re.IGNORECASE))
    return next(kinds, "other operators")
