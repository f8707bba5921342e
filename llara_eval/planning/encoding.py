"""A plan of encoding: the operations, time, disk space and shards of some data sets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from llara_eval.core.errors import UsageError
from llara_eval.planning.cost import Cost
from llara_eval.planning.probe import Probe
from llara_eval.planning.workload import Workload
from llara_eval.vectors.shards import SHARD_SIZE

DEVICES = {"h100": 989.0, "h200": 989.0, "a100": 312.0, "l40s": 362.0, "l4": 121.0, "mi300x": 1307.0}
"""Dense bfloat16 TFLOP/s by the data sheets of NVIDIA (SXM; half of the value with sparsity) and AMD."""

NUMBER_BYTES = 2
"""Bytes of a number in a stored vector, which is float16."""


class Device(NamedTuple):
    """A processor by its data sheet.

    Attributes:
        name: Name of the processor.
        tflops: Peak TFLOP/s.
        utilisation: Share of the peak that encoding reaches, above 0 and at most 1.
    """

    name: str
    tflops: float
    utilisation: float

    @property
    def speed(self) -> float:
        """Floating-point operations per second."""
        return self.tflops * 1e12 * self.utilisation


class Row(NamedTuple):
    """The needs of one data set, or of all.

    Attributes:
        name: Name of the data set, or ``all``.
        documents: Number of documents.
        queries: Number of queries.
        tokens_per_document: Mean tokens of a document, template included.
        tokens_from: ``sample``, ``published`` or ``both``, as in a :class:`Workload`.
        tokens: Tokens of documents and queries.
        operations: Floating-point operations of encoding these tokens.
        vector_bytes: Bytes of the documents' vectors.
        shards: Number of shards, of ``SHARD_SIZE`` documents on average.
    """

    name: str
    documents: int
    queries: int
    tokens_per_document: float
    tokens_from: str
    tokens: float
    operations: float
    vector_bytes: int
    shards: int

    def hours(self, speed: float) -> float:
        """Return the hours of encoding at a speed in floating-point operations per second."""
        return self.operations / speed / 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An estimate of the encoding of some data sets.

    Attributes:
        model: Name of the model.
        cost: Cost of encoding with the model.
        rows: Needs of each data set.
        device: The assumed device.
        gpus: Number of such devices that share the work.
        batch_tokens: Tokens of one batch on the device.
        peak_memory: Peak bytes of weights and activations on the device.
        probe: Speed measured on this machine, or None.
    """

    model: str
    cost: Cost
    rows: Sequence[Row]
    device: Device
    gpus: int
    batch_tokens: int
    peak_memory: int
    probe: Probe | None

    @property
    def total(self) -> Row:
        """The needs of all data sets together."""
        documents = sum(row.documents for row in self.rows)
        sources = {row.tokens_from for row in self.rows}
        return Row(
            name="all",
            documents=documents,
            queries=sum(row.queries for row in self.rows),
            tokens_per_document=sum(row.documents * row.tokens_per_document for row in self.rows) / documents,
            tokens_from=sources.pop() if len(sources) == 1 else "both",
            tokens=sum(row.tokens for row in self.rows),
            operations=sum(row.operations for row in self.rows),
            vector_bytes=sum(row.vector_bytes for row in self.rows),
            shards=sum(row.shards for row in self.rows),
        )

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens of these data sets per second on this machine with the whole model, or None."""
        return self.probe and self.probe.speed * self.total.tokens / self.total.operations

    def as_json(self) -> dict[str, Any]:
        """Return the plan as a JSON object."""
        sums = self.total
        return {
            "model": self.model,
            **self.cost._asdict(),
            "gflop_per_token": sums.operations / sums.tokens / 1e9,
            "device": {**self.device._asdict(), "gpus": self.gpus},
            "datasets": [self._row_as_json(row) for row in self.rows],
            "total": self._row_as_json(sums),
            "wall_hours": sums.hours(self.device.speed) / self.gpus,
            "batch_tokens": self.batch_tokens,
            "peak_memory_bytes": self.peak_memory,
            "probe": self.probe and {**self.probe._asdict(), "tokens_per_second": self.tokens_per_second},
        }

    def _row_as_json(self, row: Row) -> dict[str, Any]:
        hours_here = self.probe and row.hours(self.probe.speed)
        return {**row._asdict(), "gpu_hours": row.hours(self.device.speed), "hours_here": hours_here}


def device(name_or_tflops: str, utilisation: float) -> Device:
    """Return a device by a name of ``DEVICES``, or by its TFLOP/s.

    Raises:
        UsageError: The name is neither known nor a positive number, or the utilisation is not a share.
    """
    if not 0 < utilisation <= 1:
        raise UsageError(f"utilisation {utilisation:g}: expected a share above 0 and at most 1")
    if name_or_tflops.lower() in DEVICES:
        return Device(name_or_tflops.upper(), DEVICES[name_or_tflops.lower()], utilisation)
    try:
        tflops = float(name_or_tflops)
    except ValueError:
        tflops = 0.0
    if not 0 < tflops < math.inf:
        raise UsageError(f"device {name_or_tflops!r}: expected its TFLOP/s, or one of {', '.join(DEVICES)}")
    return Device("GPU", tflops, utilisation)


def row(load: Workload, cost: Cost) -> Row:
    """Return the needs of one data set with a model."""
    sides = ((load.documents, load.document_tokens), (load.queries, load.query_tokens))
    return Row(
        name=load.name,
        documents=load.documents,
        queries=load.queries,
        tokens_per_document=float(load.document_tokens.mean()),
        tokens_from=load.tokens_from,
        tokens=sum(texts * float(tokens.mean()) for texts, tokens in sides),
        operations=sum(texts * float(cost.operations(tokens).mean()) for texts, tokens in sides),
        vector_bytes=load.documents * cost.width * NUMBER_BYTES,
        shards=math.ceil(load.documents / SHARD_SIZE),
    )


def one_shard(loads: Sequence[Workload]) -> list[int]:
    """Return the numbers of tokens of at most one shard of documents, drawn in proportion to corpus sizes."""
    random = np.random.default_rng(0)
    counts = np.array([load.documents for load in loads])
    chosen = random.choice(len(loads), size=min(SHARD_SIZE, int(counts.sum())), p=counts / counts.sum())
    return [round(float(random.choice(loads[number].document_tokens))) for number in chosen]
