"""``llara-eval systems``: the systems known by name."""

from llara_eval.cli import options
from llara_eval.cli.console import print_json, show, table


def systems(as_json: options.Json = False) -> None:
    """List the systems known by name.

    Any checkpoint can be evaluated as well: a folder, a GGUF file, or a name on the hub.
    """
    from adapters import SYSTEMS

    if as_json:
        print_json([{"name": name, "description": entry.description} for name, entry in SYSTEMS.items()])
        return
    rows = [[name, entry.description] for name, entry in SYSTEMS.items()]
    caption = "Anything else after --model is a checkpoint: folder, GGUF file or hub name."
    show(table(["name", "system"], rows, caption=caption))
