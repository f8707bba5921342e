"""``llara-eval plan``: what an evaluation will take, before anything is encoded."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from llara_eval.cli import options
from llara_eval.cli.console import print_json, show, table
from llara_eval.core.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from llara_eval.checkpoints.folder import Checkpoint
    from llara_eval.planning.encoding import Plan
    from llara_eval.planning.workload import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The options that say where a model would run, and whether it is timed here."""

    PANEL: ClassVar[str] = "Hardware options"

    device_tflops: Annotated[
        str,
        typer.Option(
            metavar="NAME|X", help="The device: h100, h200, a100, l40s, l4, mi300x, or a number of TFLOP/s."
        ),
    ] = "h100"
    utilisation: Annotated[float, typer.Option(help="The share of these TFLOP/s that encoding reaches.")] = (
        0.5
    )
    gpus: Annotated[int, typer.Option(min=1, help="How many devices share the work.")] = 1
    probe: Annotated[bool, typer.Option("--probe/--no-probe", help="Time encoding on this machine.")] = True
    probe_seconds: Annotated[float, typer.Option(min=1, max=60, help="The most seconds of that timing.")] = 60


def plan(
    model: options.Checkpoint,
    data_dir: options.DataDir,
    datasets: options.SomeDatasets = None,
    split: options.Split = None,
    *,
    hardware: Hardware,
    opening: options.Opening,
) -> None:
    """Estimate the tokens, hours, disk and memory of an evaluation.

    By default, the data sets are MS MARCO and all of BEIR.

    The configuration of the model is enough. If it comes with a tokenizer, data sets at hand are sampled; if
    it comes with weights, they are timed here. Nothing is downloaded but the model.
    """
    progress = opening.set_up()
    from adapters import find_checkpoint
    from llara_eval.encoding.devices import default_device, settle_dtype
    from llara_eval.encoding.encoder import BATCH_TOKENS
    from llara_eval.planning import corpus_sizes, encoding
    from llara_eval.planning import cost as skeleton
    from llara_eval.planning.probe import open_encoder, time_encoder
    from llara_eval.planning.workload import workloads

    device = encoding.device(hardware.device_tflops, hardware.utilisation)
    settings = opening.settings()
    checkpoint = find_checkpoint(model, settings, offline=opening.offline)
    cost = skeleton.cost(checkpoint.config)
    reading = _reading(model, checkpoint, settings)
    dtype, batch_tokens = settings.get("dtype"), int(settings.get("batch_tokens", 0)) or None
    names = datasets or list(corpus_sizes.load())
    loads = workloads(names, reading, data_dir=data_dir, split=split, progress=progress)
    planned_dtype = settle_dtype(dtype or "float16", default_device())
    planned_tokens = batch_tokens or BATCH_TOKENS["cuda"]
    measured = None
    if hardware.probe:
        encoder = open_encoder(checkpoint, reading, dtype=dtype, batch_tokens=batch_tokens)
        lengths = encoding.one_shard(loads)
        measured = time_encoder(encoder, lengths, seconds=hardware.probe_seconds, progress=progress)
    estimate = encoding.Plan(
        model=Path(model).name if Path(model).exists() else model,
        cost=cost,
        rows=[encoding.row(load, cost) for load in loads],
        device=device,
        gpus=hardware.gpus,
        batch_tokens=planned_tokens,
        peak_memory=cost.memory(planned_tokens, planned_dtype.itemsize),
        probe=measured,
    )
    if opening.as_json:
        print_json(estimate.as_json())
    else:
        show(_collections(estimate, reading))
        show(_summary(estimate))


def _reading(model: str, checkpoint: "Checkpoint", settings: dict[str, Any]) -> "Reading":
    """Return how the model reads texts; without a tokenizer, only the most tokens of a text are known.

    Raises:
        UsageError: A setting is unknown, or needs a tokenizer that the checkpoint does not have.
    """
    from adapters import checkpoint_texts
    from adapters.dense_config import DenseConfig
    from adapters.options import configure
    from llara_eval.encoding.templates import Template, Templates
    from llara_eval.planning.workload import Reading

    if checkpoint.has("tokenizer*", "vocab*"):
        tokenizer, templates = checkpoint_texts(model, settings, checkpoint)
        return Reading(
            templates,
            tokenizer,
            lambda dataset, length: checkpoint_texts(model, settings, checkpoint, dataset, length)[1],
        )
    config, _ = configure(DenseConfig, {}, settings, model)
    if config.template is not None:
        raise UsageError(f"--option template: needs a tokenizer, and {checkpoint.folder} has none")
    usual = config.max_length or Template().max_length
    lengths = config.query_length or usual, config.document_length or usual
    return Reading(Templates(*(Template(max_length=length) for length in lengths)))


def _collections(plan: "Plan", reading: "Reading") -> "Table":
    """Return a table of what each collection takes, and all of them."""
    from rich.box import SIMPLE

    here = ["here"] if plan.probe else []
    numbers = ["documents", "tokens\n/doc", "tokens\n(B)", f"{plan.device.name}-\nhours", "GB", *here]
    rows: list[list[Any]] = [
        [
            row.name.removeprefix("beir/"),
            row.documents,
            f"{row.tokens_per_document:.0f}",
            *map(_number, (row.tokens / 1e9, row.hours(plan.device.speed), row.vector_bytes / 1e9)),
            *([_duration(row.hours(plan.probe.speed))] if plan.probe else []),
            row.tokens_from,
        ]
        for row in (*plan.rows, plan.total)
    ]
    headings = ["data set", *numbers, "tokens\nfrom"]
    return table(
        headings,
        [*rows[:-1], [], rows[-1]],
        numbers=numbers,
        unbroken=headings,
        title=f"{plan.model}, documents of at most {reading.templates.document.max_length:,} tokens",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
        show_edge=False,
        pad_edge=False,
    )


def _summary(plan: "Plan") -> "Table":
    """Return a table of what all collections take together, and of the assumptions."""
    from rich.box import SIMPLE

    total, device, cost = plan.total, plan.device, plan.cost
    attention = total.operations / total.tokens - 2 * cost.products
    hours = total.hours(device.speed) / plan.gpus
    rows = [
        [
            "operations of a token",
            f"{2 * cost.products / 1e9:.4g} GFLOP (two for each of its weights) and {attention / 1e9:.2g} of "
            "attention",
        ],
        [
            f"time on {plan.gpus} {device.name}",
            f"{_number(hours)} h at {device.utilisation:.0%} of {device.tflops:g} TFLOP/s",
        ],
        [
            "memory of a device",
            f"{plan.peak_memory / 2**30:.1f} GiB: {cost.parameters:,} weights, activations of "
            f"{plan.batch_tokens:,} tokens",
        ],
        ["vectors", f"{_number(total.vector_bytes / 1e9)} GB in {total.shards:,} shards"],
        ["queries", f"{total.queries:,}, counted in tokens and hours, but not in vectors"],
    ]
    if (probe := plan.probe) is not None:
        part = "" if probe.layers == cost.layers else f" on {probe.layers} of {cost.layers} layers"
        rows.append(
            [
                "time here",
                f"{_duration(total.hours(probe.speed))} at {plan.tokens_per_second:,.1f} tokens/s, "
                f"{probe.speed / 1e9:,.0f} GFLOP/s: measured{part} for {probe.seconds:.0f} s "
                f"({probe.device}, {probe.dtype})",
            ]
        )
    return table(
        ["together", ""],
        rows,
        caption="sample: counted by the model's tokenizer on documents at hand; published: from totals of "
        "WordPiece tokens, within 10 %",
        box=SIMPLE,
    )


def _number(value: float) -> str:
    """Return a number of at most six characters; a small one has one significant digit."""
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 0.01 else f"{value:.1g}"


def _duration(hours: float) -> str:
    """Return a time in its largest unit that is not more than the time."""
    units = {"y": 365 * 24, "d": 24, "h": 1, "min": 1 / 60, "s": 1 / 3600}
    unit = next((unit for unit, size in units.items() if hours >= size), "s")
    return f"{hours / units[unit]:,.{0 if unit == 'min' else 1}f} {unit}"
