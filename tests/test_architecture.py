"""The layers, the homes of third-party libraries, and the size of things: read from the source."""

import ast
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import pytest
from checkout import ROOT

PACKAGES = ("llara_eval", "adapters")


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
