"""Failures of the network and of the Hugging Face hub, each as one sentence with the way out.

The messages of requests, httpx, urllib3 and huggingface_hub name their own objects, and are long.
"""

import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus

from llara_eval.core.errors import DataError
from llara_eval.core.files import WAYS_OUT


def reason(error: BaseException) -> str:
    """Return in a few words why a request failed: what the server answered, or why it could not be asked."""
    chain = _chain(error)
    status = _status(chain)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "too many requests (429); wait some minutes"
    if status in {*HTTPStatus}:
        return f"the server answers {status} {HTTPStatus(status).phrase}"
    if any(isinstance(link, socket.gaierror) for link in chain):
        return "the name of the server is not known; is there a network?"
    if any(isinstance(link, TimeoutError) for link in chain):
        return "the server does not answer in time"
    texts = [link.strerror for link in chain if isinstance(link, OSError) and link.strerror]
    return (texts or str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def hub_errors(name: str, *, page: str, revision: str | None, offline: bool = False) -> Iterator[None]:
    """Turn the errors that huggingface_hub raises in the block into a sentence about a repository.

    Args:
        name: The name of the repository, as the user gave it.
        page: The address of its page.
        revision: The revision that was asked for; None: the newest.
        offline: Whether the network must not be used.

    Raises:
        DataError: The hub could not be asked, or has not what was asked for.
    """
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    http_error: type[Exception] = HfHubHTTPError.__bases__[0]  # of the HTTP library that the hub's one uses
    try:
        yield
    except (http_error, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in WAYS_OUT:
            raise
        if offline and isinstance(error, LocalEntryNotFoundError):
            raise not_downloaded(name) from error
        raise DataError(f"{name} {_problem(error, page, revision)}") from error


def hub_endpoint() -> str | None:
    """Return the address of the hub as ``HF_ENDPOINT`` gives it now; None: the usual one."""
    return os.environ.get("HF_ENDPOINT") or None


def not_downloaded(name: str) -> DataError:
    """Return the error that a repository is not at hand and must not be downloaded."""
    return DataError(
        f"{name} has not been downloaded, and the network must not be used; name a folder that has its "
        "files, or leave out --offline and HF_HUB_OFFLINE"
    )


def _problem(error: Exception, page: str, revision: str | None) -> str:
    """Return what is wrong with a repository, and the way out."""
    from huggingface_hub import errors

    chain = _chain(error)

    def is_a(*kinds: type[Exception]) -> bool:
        return any(isinstance(one, kinds) for one in chain)

    if is_a(errors.GatedRepoError):
        return f"is gated: ask for access at {page}, then run: hf auth login"
    if is_a(errors.RepositoryNotFoundError):
        return "is not on the hub, or is private; for a private one run: hf auth login"
    if is_a(errors.RevisionNotFoundError):
        return f"has no revision {revision}; see {page}"
    status = _status(chain)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return f"may not be read ({status}); run: hf auth login, with a token that may read it"
    way_out = ", or run: hf auth login, which allows more" if status == HTTPStatus.TOO_MANY_REQUESTS else ""
    return f"cannot be read from the hub: {reason(error)}{way_out}"


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return an error, and the errors that it was raised from or during."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _status(chain: Iterable[BaseException]) -> int:
    """Return the HTTP status of the answer that errors are about; 0 if there was no answer."""
    responses = (getattr(error, "response", None) for error in chain)
    return next((int(response.status_code) for response in responses if response is not None), 0)
