"""Options of systems: the conversion of text, what is refused, and the name of the system."""

from dataclasses import dataclass
from typing import Literal

import pytest

from adapters.options import configure, override, unnamed
from llara_eval.core.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    number: int | None = None
    share: float = 0.5
    fast: bool = False
    word: str = ""
    form: Literal["flat", "multifield"] | None = None
    parts: tuple[str, ...] = ("a",)
    threads: int = unnamed(1)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("number", "7", 7),
        ("number", 7, 7),
        ("number", None, None),
        ("share", "0.25", 0.25),
        ("share", "1e-5", 1e-5),
        ("share", 1, 1.0),
        ("fast", "true", True),
        ("fast", "False", False),
        ("fast", True, True),
        ("word", "7", "7"),
        ("word", "null", "null"),
        ("form", "flat", "flat"),
        ("parts", "b, c,", ("b", "c")),
        ("parts", ["b"], ("b",)),
    ],
)
def test_text_becomes_the_type_of_the_setting(name, text, value):
    settings, _ = configure(Settings, {}, {name: text}, "system")
    assert getattr(settings, name) == value
    assert type(getattr(settings, name)) is type(value)
    assert getattr(override(Settings(), {name: text}), name) == value


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("number", "seven", "int"),
        ("number", "7.5", "int"),
        ("number", "", "int"),
        ("number", True, "int"),
        ("share", "half", "float"),
        ("share", "nan", "a finite number"),
        ("share", "-inf", "a finite number"),
        ("share", "1e999", "float"),
        ("share", None, "float"),
        ("share", [1], "float"),
        ("fast", "yes", "bool"),
        ("word", 7, "str"),
        ("form", "tall", "one of flat, multifield"),
        ("parts", [1], "a list with commas"),
    ],
)
def test_what_has_another_type_is_refused_with_name_value_and_type(name, text, expected):
    with pytest.raises(UsageError) as refused:
        configure(Settings, {}, {name: text}, "system")
    assert str(refused.value) == f"option {name}={text}: expected {expected}"


def test_an_unknown_setting_is_refused_with_those_there_are():
    with pytest.raises(UsageError, match="system has no option 'size'; it has number, share, fast"):
        configure(Settings, {}, {"size": "1"}, "system")


def test_the_name_says_what_differs_from_the_entry_of_the_table():
    _, name = configure(Settings, {"share": 0.7}, {"share": "0.70", "number": "3", "threads": "8"}, "system")
    assert name == "system,number=3"


def test_an_override_takes_out_what_it_used():
    options = {"number": "3", "other": "x"}
    assert override(Settings(), options) == Settings(number=3)
    assert options == {"other": "x"}
