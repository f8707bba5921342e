"""Memory that belongs to no file (``RssAnon`` of /proc/self/status, Linux only), and its peak over a time.

Files that are mapped, which the system drops when it needs the room, are not in it, as they are in
``ru_maxrss``.
"""

import threading
from pathlib import Path
from typing import Self

SECONDS_BETWEEN = 0.02


def anonymous_memory() -> int:
    """Return the bytes of memory that belong to no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


class Peak:
    """The most anonymous memory while a block runs.

    Attributes:
        bytes: How much.
    """

    def __enter__(self) -> Self:
        """Begin to look."""
        self.bytes = anonymous_memory()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look a last time."""
        self._done.set()
        self._thread.join()
        self.bytes = max(self.bytes, anonymous_memory())

    def _watch(self) -> None:
        while not self._done.wait(SECONDS_BETWEEN):
            self.bytes = max(self.bytes, anonymous_memory())
