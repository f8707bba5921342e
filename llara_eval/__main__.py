"""``llara-eval``, and ``python -m llara_eval``: the command line, imported where Ctrl-C is caught already."""

import sys


def main() -> None:
    """Run the program; Ctrl-C ends it with exit code 130, also before any command has begun."""
    try:
        from llara_eval.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
