"""Anonymous memory (``RssAnon`` of /proc/self/status, Linux only), sampled during a block.

Unlike ``ru_maxrss``, it does not contain mapped files, which the system drops when it needs the memory.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_INTERVAL = 0.02
"""Seconds between two samples."""


def anonymous_memory() -> int:
    """Return the bytes of memory that belong to no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


@contextmanager
def sampled(sample: Callable[[], None]) -> Iterator[None]:
    """Call a function fifty times a second while a block runs, in a thread, and once at its end."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_INTERVAL):
            sample()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        sample()
