"""The tables of published scores: BEIR by training regime, then MS MARCO."""

from collections.abc import Sequence

from llara_eval.datasets.known import AVERAGES, BEIR, CQADUPSTACK, titled
from llara_eval.reports import averages as means
from llara_eval.reports.markdown import ABSENT, MEASURES, escaped, mean_cell, table
from llara_eval.reports.published import BASELINES, PublishedScore

_MSMARCO = (
    ("msmarco-passage/dev", "RR@10"),
    ("msmarco-passage/dev", "R@1000"),
    ("msmarco-passage/trec-dl-2019", "nDCG@10"),
    ("msmarco-passage/trec-dl-2020", "nDCG@10"),
    ("msmarco-document/dev", "RR@100"),
)
_TITLED = "§"
_SECOND_HAND = "¶"


def published_tables(published: Sequence[PublishedScore]) -> list[str]:
    """Return the published tables: BEIR by training regime, then MS MARCO."""
    parts = []
    regimes = {
        True: "### BEIR, nDCG@10, systems not trained on BEIR's training splits",
        False: "### BEIR, nDCG@10, systems trained with BEIR's training splits (not zero-shot)",
    }
    for zero_shot, title in regimes.items():
        chosen = [row for row in published if row.zero_shot is zero_shot and row.measure == "nDCG@10"]
        chosen = [row for row in chosen if row.dataset.removeprefix("mean/") in (*BEIR, *AVERAGES)]
        if chosen:
            parts += [title, _beir_table(chosen), _sources(chosen)]
    columns = {*_MSMARCO, *((titled(dataset), measure) for dataset, measure in _MSMARCO)}
    chosen = [row for row in published if (row.dataset, row.measure) in columns]
    if chosen:
        legend = [f"{_TITLED} on passages with titles, which are another data set."]
        with_titles = any(row.dataset not in dict(_MSMARCO) for row in chosen)
        parts += ["### MS MARCO", _msmarco_table(chosen), *(legend if with_titles else []), _sources(chosen)]
    return parts


def _beir_table(rows: Sequence[PublishedScore]) -> str:
    """Return a table with a row a system; columns: the means that are complete, then the data sets."""
    values = means.published(rows, "nDCG@10")
    others = {(row.system, row.dataset): f"{_value(row.value)} ({row.split})" for row in rows if row.split}
    marks = {(row.system, row.dataset): _marks(row, rows) for row in rows}
    averages = means.complete(values.values())
    datasets = sorted({row.dataset for row in rows} & set(BEIR) - set(CQADUPSTACK))
    lines = []
    for system in _systems(rows):
        scores = values[system]
        cells = [
            mean_cell(means.mean(name, scores)) + marks.get((system, f"mean/{name}"), "") for name in averages
        ]
        for name in datasets:
            cell = _value(scores[name]) if name in scores else others.get((system, name), ABSENT)
            cells.append(cell + marks.get((system, name), ""))
        lines.append([_named(system, rows), *cells])
    header = [
        *(f"**{means.title(name)}**" for name in averages),
        *(name.removeprefix("beir/") for name in datasets),
    ]
    return table(["system", *header], lines)


def _msmarco_table(rows: Sequence[PublishedScore]) -> str:
    scores = {row[:3]: row for row in rows}
    lines = []
    for system in _systems(rows):
        cells = []
        for dataset, measure in _MSMARCO:
            score, other = (scores.get((system, name, measure)) for name in (dataset, titled(dataset)))
            shown = score or other
            mark = f" {_TITLED}" if shown is not score else ""
            cells.append(f"{_value(shown.value)}{mark}{_marks(shown, rows)}" if shown else ABSENT)
        notes = dict.fromkeys(row.note for row in rows if row.system == system and row.note)
        lines.append([_named(system, rows), *cells, escaped("; ".join(notes))])
    header = [f"{dataset.removeprefix('msmarco-')} {MEASURES[measure]}" for dataset, measure in _MSMARCO]
    return table(["system", *header, "note"], lines)


def _checkpoints(system: str, rows: Sequence[PublishedScore]) -> list[str]:
    """Return the checkpoints of a system, each once."""
    return list(dict.fromkeys(row.checkpoint for row in rows if row.system == system and row.checkpoint))


def _named(system: str, rows: Sequence[PublishedScore]) -> str:
    """Return a system's name, with its checkpoint if all values of its row are of one."""
    checkpoints = _checkpoints(system, rows)
    return escaped(f"{system}: {checkpoints[0]}" if len(checkpoints) == 1 else system)


def _marks(row: PublishedScore, rows: Sequence[PublishedScore]) -> str:
    """Return what follows a value: whether it is second-hand, and its checkpoint if there are several."""
    mark = f" {_SECOND_HAND}" if row.second_hand else ""
    return mark + (f" ({escaped(row.checkpoint)})" if len(_checkpoints(row.system, rows)) > 1 else "")


def _sources(rows: Sequence[PublishedScore]) -> str:
    """Return the list of sources, a line for each system with at most two of them, and the legend."""
    lines = []
    for system in _systems(rows):
        sources = list(dict.fromkeys(row.source for row in rows if row.system == system))
        shown = "; ".join(sources[:2]) + (f"; and {len(sources) - 2} more" if len(sources) > 2 else "")
        lines.append(f"- {escaped(system)}: {escaped(shown)}")
    legend = []
    if any(row.dataset.startswith("mean/") for row in rows):
        legend.append("† only the mean was published.")
    if any(row.second_hand for row in rows):
        legend.append(f"{_SECOND_HAND} second-hand: not read in the system's own source.")
    return "\n".join(lines) + ("\n\n" + " ".join(legend) if legend else "")


def _systems(rows: Sequence[PublishedScore]) -> list[str]:
    """Return the names of the systems: baselines first, then the others in alphabetical order."""
    names = {row.system for row in rows}
    return [name for name in BASELINES if name in names] + sorted(names - set(BASELINES))


def _value(value: float) -> str:
    """Return a published value with as many decimals as it has, three at least."""
    return f"{value:.4f}".rstrip("0").ljust(5, "0")
