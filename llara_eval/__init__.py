"""llara-eval: evaluation harness and leaderboard for LLM dense retrievers.

The package says what measuring means; the systems under test live in ``adapters``.
"""

__version__ = "0.1.0"
