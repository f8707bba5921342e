"""The border between this process and its surroundings: standard streams, signals, and errors of files."""

import errno
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, TextIO, cast

TERMINATED = 143

_STDERR = 2

_AGAIN = 0.05
"""Seconds after which an interruption that was lost comes again."""

_WRITING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EEXIST})
"""Errors of files that only a write has."""

_READING = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO, errno.EIO}
)
"""Errors of files that a read has; those of writes are explained where they happen."""

_REFUSED = frozenset({errno.EACCES, errno.EPERM})


def set_up() -> None:
    """Prepare the streams and the signals of this process."""
    _open_streams()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    sys.unraisablehook = _repeat_interruption


def _open_streams() -> None:
    """Open the standard streams that are closed, and let none of them fail for a character.

    A file that is opened later would otherwise get the number of a closed stream, and with it the messages of
    C libraries. A character that the encoding of a stream lacks is written as an escape.
    """
    while (handle := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(handle, True)
    os.close(handle)
    for name in ("stdout", "stderr"):
        stream = cast(TextIO | None, getattr(sys, name))
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")


def _repeat_interruption(lost: Any) -> None:
    """Report an error that no code could catch; if it was Ctrl-C or SIGTERM, let it come again.

    Python drops what is raised in the functions that it calls around a fork and when objects are removed.
    """
    if issubclass(lost.exc_type, KeyboardInterrupt):
        number = signal.SIGINT
    elif issubclass(lost.exc_type, SystemExit):
        number = signal.SIGTERM
    else:
        sys.__unraisablehook__(lost)
        return
    timer = threading.Timer(_AGAIN, signal.raise_signal, (number,))
    timer.daemon = True
    timer.start()


def is_of_reading(error: OSError) -> bool:
    """Return whether a file could not be read, as far as its error tells."""
    if not error.filename:
        return False
    if error.errno in _REFUSED:
        return os.path.lexists(error.filename) and not os.access(error.filename, os.R_OK)
    return error.errno in _READING


def is_of_writing(error: OSError) -> bool:
    """Return whether a file could not be written, as far as its error tells."""
    return error.errno in _WRITING or (error.errno in _REFUSED and not is_of_reading(error))
