"""What a command prints: nothing that comes from data commands the terminal."""

import logging

import pytest

from llara_eval.cli.console import say, set_up, show, styled, table

ODD = "a\x1b[31m\x07\x9b\u202eb\udcff"
SHOWN = r"a\x1b[31m\x07\x9b\u202eb\udcff"


def test_messages_have_escapes_for_control_characters(capsys):
    say(f"error: {ODD}")
    assert capsys.readouterr().err == f"error: {SHOWN}\n"


def test_tables_have_escapes_for_control_characters(capsys):
    show(table([ODD], [[ODD], [styled(ODD, "red")]], title=ODD, caption=ODD))
    text = capsys.readouterr().out
    assert text.count(SHOWN) == 5
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(text)


@pytest.mark.parametrize("name", ["llara_eval.somewhere", "adapters.somewhere"])
def test_logs_have_escapes_for_control_characters(capsys, name):
    set_up(quiet=False)
    odd = ODD.removesuffix("\udcff")  # which the processes of pytest cannot report to each other
    logging.getLogger(name).warning("odd: %s", odd)
    assert capsys.readouterr().err == "odd: " + SHOWN.removesuffix(r"\udcff") + "\n"
