"""The loop notices what no command may do."""

import os
from pathlib import Path

import pytest
from case import Case, Outcome
from guard import _violation as violation
from room import changes, problems_of_output, snapshot

WRITE = os.O_WRONLY | os.O_CREAT


@pytest.mark.parametrize(
    ("event", "arguments", "text"),
    [
        ("open", ("/elsewhere", "w", WRITE), "a file outside was opened for writing: /elsewhere"),
        ("open", ("/elsewhere", "r", os.O_RDONLY), None),
        ("open", ("/room/x", "w", WRITE), None),
        ("os.remove", ("/elsewhere", -1), "os.remove outside: /elsewhere"),
        ("os.rename", ("/room/x", "/room/y", -1, -1), None),
        ("socket.getaddrinfo", ("example.com", 443), "a request off the machine: example.com"),
        ("socket.connect", (None, ("10.0.0.1", 80)), "a request off the machine: ('10.0.0.1', 80)"),
        ("socket.connect", (None, "/run/socket"), None),
        ("subprocess.Popen", ("/bin/sh", [], None, None), "a program was started: sh"),
        ("subprocess.Popen", ("git", [], None, None), None),
    ],
)
def test_an_event_that_no_command_may_cause_is_named(event, arguments, text) -> None:
    assert violation(event, arguments, lambda path: str(path).startswith("/room/")) == text


def test_each_change_of_an_input_is_named(tmp_path: Path) -> None:
    for name in ("kept", "changed", "deleted", "link"):
        (tmp_path / name).write_text(name)
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("kept")
    (tmp_path / "out").mkdir()
    before = snapshot(tmp_path, ("out",))
    (tmp_path / "changed").write_text("x")
    (tmp_path / "deleted").unlink()
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("changed")
    (tmp_path / "added").touch()
    (tmp_path / "out" / "result").touch()
    assert list(changes(before, snapshot(tmp_path, ("out",)))) == [
        "a file was written outside of the output: added",
        "an input was changed: changed",
        "an input was deleted: deleted",
        "an input was changed: link",
    ]


@pytest.mark.parametrize(
    ("code", "stdout", "stderr", "problem"),
    [
        (0, b"{}", b"", None),
        (3, b"", b"error: x", "exit code 3, expected 0"),
        (1, b"", b"Traceback (most recent call last):\nOSError: x", "a traceback: OSError: x"),
        (-11, b"", b"x", "a crash: signal 11"),
        (0, b'{"a": NaN}', b"", "stdout is not JSON: NaN is no JSON"),
        (0, b"{}", b"a\x1b[2J", "stderr has the control character '\\x1b'"),
        (0, b"{}", "a\u202e".encode(), "stderr has the control character '\\u202e'"),
    ],
)
def test_what_no_command_may_print_is_named(tmp_path: Path, code, stdout, stderr, problem) -> None:
    case = Case(id="x/y", words=("score", "--json"))
    problems = list(problems_of_output(case, Outcome(code, stdout, stderr), tmp_path))
    assert problems == [] if problem is None else problems[0].startswith(problem)


def test_a_number_that_is_not_finite_is_noticed_in_markdown(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "board.md").write_text("| a | nan |\n")
    (problem,) = problems_of_output(Case(id="x/y", words=()), Outcome(0, b"", b""), tmp_path)
    assert problem == "board.md shows a number that is not finite"
