"""The border of the process: closed and narrow streams, Ctrl-C at any time, and files that cannot be read."""

import errno
import os
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from llara_eval.cli import app, boundary

STOP = "import llara_eval.cli as c\ndef stop(*_, **__): raise KeyboardInterrupt\n"
SCORE = ["score", "--qrels", "qrels.tsv", "--run", "run.trec"]


def program(words, folder, *, before="", after="", **settings):
    """Run the program with code before and after its import."""
    code = f"import sys\n{before}\nfrom llara_eval.__main__ import main\n{after}\nmain()"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        capture_output=True,
        check=False,
        timeout=100,
        **settings,
    )


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a run and judgements whose names no terminal should obey."""
    (tmp_path / "qrels.tsv").write_text("q 0 \u2013d 1\n", encoding="utf-8")
    (tmp_path / "run.trec").write_text("q Q0 \u2013d 1 2.0 t\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_character_that_the_terminal_lacks_is_an_escape(folder, encoding):
    words = [*SCORE[:4], "\u2013 \u0120\udcff.trec"]
    done = program(words, folder, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert done.returncode == 3
    assert b"Traceback" not in done.stderr
    done = program(SCORE, folder, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert done.returncode == 0, done.stderr
    assert b"nDCG@10" in done.stdout


@pytest.mark.parametrize("closed", [(2,), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("words", [SCORE, [*SCORE, "--json"], ["score", "--qrels", "x", "--run", "y"]])
def test_closed_streams_change_no_exit_code(folder, closed, words):
    before = "import os\nfor number in " + repr(closed) + ": os.close(number)"
    command = [sys.executable, "-m", "llara_eval", *words]
    closing = f"{before}\nos.execv({command[0]!r}, {command!r})"
    done = subprocess.run([sys.executable, "-c", closing], cwd=folder, capture_output=True, check=False)
    assert done.returncode == (3 if "x" in words else 0)
    if closed == (2,) and "--json" in words:
        assert done.stdout.startswith(b"{")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "class Finder:\n def find_spec(self, name, *_):\n"
            "  if name == 'typer': raise KeyboardInterrupt\nsys.meta_path.insert(0, Finder())",
            "",
        ),
        (
            "",
            f"{STOP}c.Commands.make_context = stop",
        ),
        (
            "",
            f"{STOP}c.boundary.set_up = stop",
        ),
        (
            "",
            f"{STOP}c._Group._invoke = stop",
        ),
        (
            "",
            f"{STOP}import typer.main as t\nt.get_command = stop",
        ),
    ],
    ids=["imports", "first words", "streams", "command", "commands"],
)
def test_ctrl_c_at_any_time_is_an_exit_code(folder, before, after):
    done = program(SCORE, folder, before=before, after=after)
    assert done.returncode == 130
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(signal.getsignal(signal.SIGINT) == signal.SIG_IGN, reason="Ctrl-C is ignored")
@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_that_python_drops_at_a_fork_comes_again(folder, number, code):
    after = (
        "import llara_eval.cli as c, os, signal, time\n"
        f"os.register_at_fork(before=lambda: signal.raise_signal(signal.{number}))\n"
        "def fork(*_):\n"
        " if os.fork() == 0: os._exit(0)\n"
        " time.sleep(30)\n"
        "c._Group._invoke = fork"
    )
    done = program(SCORE, folder, after=after)
    assert done.returncode == code, done.stderr
    assert b"Exception ignored" not in done.stderr


@pytest.mark.parametrize(
    ("number", "name", "code"),
    [
        (errno.ENAMETOOLONG, "x" * 300, 3),
        (errno.ELOOP, "x", 3),
        (errno.EISDIR, "x", 3),
        (errno.ENOENT, "x", 3),
        (errno.ENOSPC, None, 1),
        (errno.ENOSPC, "x", 1),
        (errno.EROFS, "x", 1),
        (errno.EACCES, "there is no such file", 1),
    ],
)
def test_files_that_cannot_be_read_are_data_and_disks_that_are_full_are_not(monkeypatch, number, name, code):
    def fail(*_):
        raise OSError(number, os.strerror(number), name)

    monkeypatch.setattr("llara_eval.cli._Group._invoke", fail)
    result = CliRunner().invoke(app, SCORE)
    assert result.exit_code == code
    assert os.strerror(number) in result.stderr


def test_a_file_that_may_not_be_read_is_data(monkeypatch, tmp_path):
    (tmp_path / "x").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    error = OSError(errno.EACCES, "no", str(tmp_path / "x"))
    assert boundary.is_of_reading(error)
    assert not boundary.is_of_writing(error)


@pytest.mark.parametrize("option", ["--run", "--qrels"])
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("x" * 300, 3),
        (".", 3),
        ("/dev/null", 3),
        ("absent", 3),
        ("qrels.tsv/x", 3),
        ("~nobody-of-that-name/x", 2),
    ],
)
def test_a_path_that_cannot_be_read_is_a_message(folder, monkeypatch, option, path, code):
    monkeypatch.chdir(folder)
    words = [path if before == option else word for before, word in zip(["", *SCORE], SCORE, strict=False)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("error: ")
