"""A program whose child processes run commands, each killed before a line of our code on request.

``python mortal.py`` obeys lines of JSON on stdin, ``{"words": [...], "folder": "…", "line": 250}``: a child
runs the command ``llara-eval WORDS`` in the folder and gets SIGKILL before that line, counted from 1 over all
lines of Python that it runs here; without ``line`` it is left alone. ``"archive": [URL, MD5]`` in place of
``words`` fetches the archive of a data set. The answer is a line of JSON: the exit code, or minus the signal,
and the number of lines.
"""

import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from checkout import ROOT
from warm import warm

_OURS = (str(ROOT / "llara_eval"), str(ROOT / "adapters"))


class Mortality:
    """Counts the lines of our code, and kills this process before one of them."""

    def __init__(self, line: int | None) -> None:
        self.last = line
        self.lines = 0

    def __call__(self, frame: Any, event: str, argument: Any) -> Any:
        return self.count if frame.f_code.co_filename.startswith(_OURS) else None

    def count(self, frame: Any, event: str, argument: Any) -> Any:
        if event == "line":
            self.lines += 1
            if self.lines == self.last:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.count


def work(words: list[str], archive: list[str]) -> None:
    """Run a command, or fetch an archive into the folder ``data``."""
    if archive:
        from llara_eval.datasets import download, known

        url, md5 = archive
        known.BASE_URL, known.MIRRORS, download._CHUNK = url, (), 1_000
        download.fetch_archive(
            known.KnownDataset(name="beir/tiny", folder="tiny", archive="tiny", md5=md5), Path("data")
        )
        return
    from llara_eval.__main__ import main

    sys.argv = ["llara-eval", *words]
    main()


def live(folder: str, line: int | None, report: int, words: list[str], archive: list[str]) -> int:
    """Be the child: return its exit code, and write the number of lines."""
    os.chdir(folder)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(Path(folder).parent / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ |= {"LLARA_EVAL_HOME": f"{folder}/home", "LLARA_EVAL_STORE": ""}
    mortality, code = Mortality(line), 0
    sys.settrace(mortality)
    try:
        work(words, archive)
    except SystemExit as end:
        code = int(end.code or 0)
    sys.settrace(None)
    os.write(report, str(mortality.lines).encode())
    return code


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    warm()
    gc.freeze()  # a collection in a fork would copy the memory of all that is imported
    answers.write("ready\n")
    answers.flush()
    for text in sys.stdin:
        asked = json.loads(text)
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            code = 99
            try:
                code = live(
                    asked["folder"],
                    asked.get("line"),
                    writing,
                    asked.get("words", []),
                    asked.get("archive", []),
                )
            finally:
                os._exit(code)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            lines = int(pipe.read() or 0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        answers.write(json.dumps([code, lines]) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
