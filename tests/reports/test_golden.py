"""A small run gives the leaderboard and the keys of results that are stored: a changed format shows here."""

import json
from pathlib import Path

import golden_reports
import pytest

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    golden_reports.measure(folder)
    return folder


def test_the_leaderboard_is_the_one_stored(measured) -> None:
    stored = (GOLDEN / "leaderboard.md").read_text(encoding="utf-8")
    assert golden_reports.leaderboard(measured) == stored


def test_results_have_the_keys_that_are_stored(measured) -> None:
    stored = json.loads((GOLDEN / "result_keys.json").read_text(encoding="utf-8"))
    assert golden_reports.result_keys(measured) == stored
