"""Anonymous memory (``RssAnon`` of /proc/self/status, Linux only), and its peak during a block.

Unlike ``ru_maxrss``, it does not contain mapped files, which the system drops when it needs the memory.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

_INTERVAL = 0.02
"""Seconds between two samples."""


def anonymous_memory() -> int:
    """Return the bytes of memory that belong to no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


class Peak:
    """The peak of anonymous memory while a block runs.

    Attributes:
        bytes: The peak so far.
    """

    def __enter__(self) -> Self:
        """Start to sample."""
        self.bytes = anonymous_memory()
        self._stop = sample_in_thread(self._sample)
        return self

    def __exit__(self, *_: object) -> None:
        """Take a last sample."""
        self._stop()
        self._sample()

    def _sample(self) -> None:
        self.bytes = max(self.bytes, anonymous_memory())


def sample_in_thread(sample: Callable[[], None]) -> Callable[[], None]:
    """Call a function fifty times a second in a thread, and return a function that ends the thread."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_INTERVAL):
            sample()

    def stop() -> None:
        done.set()
        thread.join()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return stop
