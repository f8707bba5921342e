"""The processes of workers that a launcher has started."""

from pathlib import Path


def pids(folder: Path) -> list[int]:
    """Return the process ids of all workers so far."""
    return [int(line) for path in folder.glob("starts-*") for line in path.read_text().split()]


def is_running(pid: int) -> bool:
    """Return whether a process runs; one that has ended does not, whether waited for or not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
