"""``llara-eval plan``: what an evaluation will take, before anything is encoded."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llara_eval.cli import options, training_options
from llara_eval.cli.console import plain, progress, set_up_logging, show
from llara_eval.core.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from llara_eval.checkpoints.folder import Checkpoint
    from llara_eval.planning.encoding import Plan
    from llara_eval.planning.workload import Reading


DeviceTflops = Annotated[
    str,
    typer.Option("--device-tflops", help="h100, h200, a100, l40s, l4, mi300x, or a number of TFLOP/s."),
]
Utilisation = Annotated[float, typer.Option("--utilisation", help="The share of them that encoding reaches.")]
Gpus = Annotated[int, typer.Option("--gpus", min=1, help="Devices that share the work.")]
WithProbe = Annotated[bool, typer.Option("--probe/--no-probe", help="Time encoding on this machine.")]
ProbeSeconds = Annotated[
    float, typer.Option("--probe-seconds", min=1, max=60, help="The most time that takes.")
]


def plan(
    model: training_options.Model,
    data_dir: options.DataDir,
    datasets: options.SomeDatasets = None,
    device_tflops: DeviceTflops = "h100",
    utilisation: Utilisation = 0.5,
    gpus: Gpus = 1,
    split: options.Split = None,
    probe: WithProbe = True,
    probe_seconds: ProbeSeconds = 60,
    option: options.Settings = None,
    dtype: options.Dtype = None,
    max_length: options.MaxLength = None,
    batch_tokens: options.BatchTokens = None,
    offline: options.Offline = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Say what evaluating a model will take: tokens, GPU-hours, disk, memory.

    By default, on MS MARCO and all of BEIR.

    The model's configuration is enough. Where it comes with a tokenizer, data sets at hand are
    sampled; where it comes with weights, these are timed here. Nothing is downloaded but the model.
    """
    set_up_logging(quiet=quiet, verbose=False)
    from adapters import checkpoint_folder
    from llara_eval.checkpoints.folder import Checkpoint
    from llara_eval.encoding.devices import default_device, settle_dtype
    from llara_eval.encoding.encoder import BATCH_TOKENS
    from llara_eval.planning import corpus_sizes, encoding
    from llara_eval.planning import cost as skeleton
    from llara_eval.planning.probe import open_encoder, time_encoder
    from llara_eval.planning.workload import workloads

    device = encoding.device(device_tflops, utilisation)
    settings = options.settings(option, dtype=dtype, max_length=max_length, batch_tokens=batch_tokens)
    checkpoint, watch = Checkpoint(checkpoint_folder(model, offline=offline)), progress(quiet=quiet)
    cost = skeleton.cost(checkpoint.config)
    reading = _reading(model, checkpoint, settings)
    names = datasets or list(corpus_sizes.load())
    loads = workloads(names, reading, data_dir=data_dir, split=split, progress=watch)
    rows = [encoding.row(load, cost) for load in loads]
    dtype, batch_tokens = settings.get("dtype"), int(settings.get("batch_tokens", 0)) or None
    planned_dtype, budget = (
        settle_dtype(dtype or "bfloat16", default_device()),
        batch_tokens or BATCH_TOKENS["cuda"],
    )
    measured = None
    if probe:
        encoder = open_encoder(checkpoint, reading, dtype=dtype, batch_tokens=batch_tokens)
        lengths = encoding.one_shard(loads)
        measured = time_encoder(encoder, lengths, seconds=probe_seconds, progress=watch)
    estimate = encoding.Plan(
        model=Path(model).name if Path(model).exists() else model,
        cost=cost,
        rows=rows,
        device=device,
        gpus=gpus,
        batch_tokens=budget,
        peak_memory=cost.memory(budget, planned_dtype.itemsize),
        probe=measured,
    )
    if as_json:
        typer.echo(json.dumps(estimate.as_json()))
    else:
        _show(estimate, reading)


def _reading(model: str, checkpoint: "Checkpoint", settings: dict[str, Any]) -> "Reading":
    """Return how the model reads texts; without a tokenizer only lengths are known of that.

    Raises:
        UsageError: A setting is unknown, or needs a tokenizer, and the checkpoint has none.
    """
    from adapters import checkpoint_texts
    from adapters.dense import DenseConfig
    from adapters.options import configure
    from llara_eval.encoding.templates import Template, Templates
    from llara_eval.planning.workload import Reading

    if checkpoint.has("tokenizer*", "vocab*"):
        tokenizer, templates = checkpoint_texts(model, settings, checkpoint)
        return Reading(templates, tokenizer)
    config, _ = configure(DenseConfig, {}, settings, model)
    if config.template is not None:
        raise UsageError(f"--option template: needs a tokenizer, and {checkpoint.folder} has none")
    template = Template(max_length=config.max_length or Template().max_length)
    return Reading(Templates(template, template))


def _show(plan: "Plan", reading: "Reading") -> None:
    """Show a row for each collection, then what they take together."""
    from rich.box import SIMPLE
    from rich.table import Table

    everything, speed = plan.total, plan.device.speed
    limit = reading.templates.document.max_length
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    table.title = f"{plain(plan.model)}, documents of at most {limit:,} tokens"
    table.add_column("data set", no_wrap=True)
    here = ["here"] if plan.probe else []
    for title in ("documents", "tokens\n/doc", "tokens\n(B)", f"{plan.device.name}-\nhours", "GB", *here):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("tokens\nfrom", no_wrap=True)
    for row in (*plan.rows, everything):
        if row is everything:
            table.add_section()
        table.add_row(
            plain(row.name.removeprefix("beir/")),
            f"{row.documents:,}",
            f"{row.tokens_per_document:.0f}",
            *map(_number, (row.tokens / 1e9, row.hours(speed), row.vector_bytes / 1e9)),
            *([_duration(row.hours(plan.probe.speed))] if plan.probe else []),
            row.tokens_from,
        )
    show(table)
    show(_summary(plan))


def _summary(plan: "Plan") -> "Table":
    """Return what all collections take together, and from what that follows."""
    from rich.box import SIMPLE
    from rich.table import Table

    everything, device, cost = plan.total, plan.device, plan.cost
    attention = everything.operations / everything.tokens - 2 * cost.products
    wall = everything.hours(device.speed) / plan.gpus
    lines = {
        "operations of a token": f"{2 * cost.products / 1e9:.4g} GFLOP (two for each of its weights) and "
        f"{attention / 1e9:.2g} of attention",
        f"time on {plan.gpus} {device.name}": f"{_number(wall)} h at {device.utilisation:.0%} of "
        f"{device.tflops:g} TFLOP/s",
        "memory there": f"{plan.peak_memory / 2**30:.1f} GiB: {cost.parameters:,} weights and the states of "
        f"{plan.batch_tokens:,} tokens",
        "vectors": f"{_number(everything.vector_bytes / 1e9)} GB in {everything.shards:,} shards",
        "queries": f"{everything.queries:,}, in tokens and hours, not in vectors",
    }
    if (probe := plan.probe) is not None:
        part = "" if probe.layers == cost.layers else f" on {probe.layers} of {cost.layers} layers"
        lines["time here"] = (
            f"{_duration(everything.hours(probe.speed))} at {plan.tokens_per_second:,.1f} tokens/s, "
            f"{probe.speed / 1e9:,.0f} GFLOP/s: measured{part} for {probe.seconds:.0f} s "
            f"({probe.device}, {probe.dtype})"
        )
    table = Table("together", "", box=SIMPLE)
    for name, value in lines.items():
        table.add_row(name, value)
    table.caption = (
        "sample: counted by the model's tokenizer on documents at hand; published: from totals of WordPiece "
        "tokens, within 10 %"
    )
    return table


def _number(value: float) -> str:
    """Return a number in at most six characters, small ones with one digit that is not nought."""
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 0.01 else f"{value:.1g}"


def _duration(hours: float) -> str:
    """Return a time in the largest unit of which there is one."""
    units = {"y": 365 * 24, "d": 24, "h": 1, "min": 1 / 60, "s": 1 / 3600}
    unit = next((unit for unit, size in units.items() if hours >= size), "s")
    return f"{hours / units[unit]:,.{0 if unit == 'min' else 1}f} {unit}"
