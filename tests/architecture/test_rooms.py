"""The rooms, the homes of third-party libraries, and the size of things: read from the source."""

import ast
import sys
from collections.abc import Iterator

from checkout import ROOT
from rooms import LAZY, ROOMS, Import, folder_of, imports, modules, page, room_of

PACKAGES = ("llara_eval", "adapters")
LONGEST_FILE, LONGEST_FUNCTION, LONGEST_TOP = 350, 70, 17


def ours() -> list[Import]:
    return [item for item in imports() if item.target.split(".")[0] in PACKAGES]


def test_the_reader_of_imports_sees_lazy_and_grouped_ones():
    seen = {(item.source, item.target, item.lazy) for item in imports()}
    assert ("llara_eval.evaluation.audit", "llara_eval.evaluation.record", False) in seen
    assert ("llara_eval.datasets.load", "llara_eval.datasets.download", True) in seen
    assert ("llara_eval.encoding.encoder", "torch", False) in seen
    assert len(modules()) > 30


def test_every_folder_is_a_room_and_every_room_a_folder():
    folders = {path.parent.name for path in (ROOT / "llara_eval").glob("*/__init__.py")}
    assert folders | {"adapters"} == set(ROOMS)
    assert (
        len([path for path in (ROOT / "llara_eval").iterdir() if path.name != "__pycache__"]) <= LONGEST_TOP
    )


def test_the_table_points_down_only():
    order = list(ROOMS)
    upward = [
        (room, other)
        for room in order
        for other in ROOMS[room].imports.split()
        if order.index(other) >= order.index(room)
    ]
    assert upward == []


def test_rooms_import_what_the_table_allows():
    used = {
        (here, there)
        for item in ours()
        if (here := room_of(item.source)) and (there := room_of(item.target)) and here != there
    }
    allowed = {(room, other) for room in ROOMS for other in ROOMS[room].imports.split()}
    assert sorted(used - allowed) == [], "imports that the table forbids"
    assert sorted(allowed - used) == [], "rows of the table that nothing uses"


def test_each_library_has_its_homes():
    used = {
        (room_of(item.source), library)
        for item in imports()
        if (library := item.target.split(".")[0]) not in {*PACKAGES, *sys.stdlib_module_names, "numpy"}
    }
    allowed = {(room, library) for room in ROOMS for library in ROOMS[room].libraries.split()}
    assert sorted(used - allowed) == [], "imports that the table forbids"
    assert sorted(allowed - used) == [], "rows of the table that nothing uses"


def test_only_one_module_calls_the_loaders_of_other_peoples_files():
    names = ("from_pretrained", "from_config", "SentenceTransformer", "GGUFReader", "load_peft_weights")
    callers = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in names
    }
    assert callers == {"llara_eval/checkpoints/libraries.py"}


def test_the_page_is_printed_from_the_table():
    assert (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8") == page()


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


def test_systems_are_imported_only_when_one_is_opened():
    eager = [item for item in ours() if room_of(item.target) == "adapters" != room_of(item.source)]
    assert all(item.lazy for item in eager if not item.only_for_types)


def test_heavy_libraries_are_imported_only_when_used():
    eager = {item.target.split(".")[0] for item in imports() if not (item.lazy or item.only_for_types)}
    assert eager & LAZY == set()


def test_help_imports_the_ground_and_the_door_only():
    waiting, reached = ["llara_eval.cli"], set()
    while waiting:
        module = waiting.pop()
        reached.add(module)
        eager = (item for item in ours() if item.source == module and not (item.lazy or item.only_for_types))
        waiting += {item.target for item in eager} - reached
    assert {room_of(module) for module in reached - {"llara_eval"}} == {"cli", "core"}


def test_no_file_is_too_long():
    files = [path for name in (*PACKAGES, "benchmarks", "tests") for path in (ROOT / name).rglob("*.py")]
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


def test_every_room_says_in_one_sentence_what_it_is():
    for room in ROOMS:
        tree = ast.parse((folder_of(room) / "__init__.py").read_text(encoding="utf-8"))
        assert ast.get_docstring(tree)
