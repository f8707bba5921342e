"""The modules of this folder are imported by their names, also in the process that runs the cases."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def loop() -> "Iterator[object]":
    """Return the warmed process that runs cases."""
    from loop import Loop

    warmed = Loop()
    yield warmed
    warmed.close()
