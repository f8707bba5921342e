"""Workers that a launcher has started, as the system sees them."""

from pathlib import Path


def pids(folder: Path) -> list[int]:
    """Return the processes of all workers there have been."""
    return [int(line) for path in folder.glob("starts-*") for line in path.read_text().split()]


def is_running(pid: int) -> bool:
    """Return whether a process runs; one that ended and was not waited for does not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
