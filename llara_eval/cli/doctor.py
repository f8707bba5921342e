"""``llara-eval doctor``: the parts that the program depends on, and which are missing."""

from llara_eval.cli import options
from llara_eval.cli.console import print_json, show, styled, table


def doctor(data_dir: options.DataDir, as_json: options.Json = False) -> None:
    """Show what this installation can do.

    What killed processes left in its folders is removed. The exit code is 7 if an optional part is missing.
    """
    from llara_eval.cli.installation import diagnose, remove_leftovers
    from llara_eval.core.errors import MissingPartError

    remove_leftovers(data_dir)
    findings = diagnose(data_dir)
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        rows = [
            [finding.part, styled("ok", "green"), finding.found, ""]
            if finding.ok
            else [finding.part, styled("missing", "bold red"), finding.found, finding.way_out]
            for finding in findings
        ]
        show(table(["part", "", "found", "way out"], rows))
    missing = [finding.part for finding in findings if not finding.ok]
    if missing:
        raise MissingPartError(f"missing: {', '.join(missing)}")
