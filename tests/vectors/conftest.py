"""The address of an empty store, in memory or in a folder."""

import uuid

import pytest


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path) -> str:
    """Return the address of an empty store."""
    return f"memory://{uuid.uuid4().hex}/deep" if request.param == "memory" else f"file://{tmp_path}/remote"
