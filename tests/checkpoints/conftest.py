"""A tiny checkpoint that the tests of a module share, and a copy of it that a test may change."""

import shutil

import pytest
from tiny_models import save_checkpoint


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("models") / "bare")


@pytest.fixture
def copy(bare, tmp_path):
    return shutil.copytree(bare, tmp_path / "copy")
