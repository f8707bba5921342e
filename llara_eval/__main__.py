"""``python -m llara_eval`` is the same program as ``llara-eval``."""

from llara_eval.cli import main

if __name__ == "__main__":
    main()
