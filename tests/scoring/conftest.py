"""Files of runs and judgements for the tests of their readers."""

import gzip

import pytest

from llara_eval.core.errors import DataError


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


@pytest.fixture
def refuses():
    """Return a function that checks the message with which a reader refuses a file."""

    def check(read, path, line, problem) -> None:
        with pytest.raises(DataError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}:{line}: ")
        assert problem in str(caught.value)

    return check
