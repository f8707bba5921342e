"""Files of runs and judgements for the tests of their readers."""

import gzip

import pytest


@pytest.fixture
def put(tmp_path):
    """Return a function that writes a file and returns its path."""

    def write(content, name="file.txt"):
        data = content if isinstance(content, bytes) else content.encode()
        path = tmp_path / name
        path.write_bytes(
            gzip.compress(data) if name.endswith(".gz") and not data.startswith(b"\x1f") else data
        )
        return path

    return write
