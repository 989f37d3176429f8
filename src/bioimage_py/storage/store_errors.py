"""Requests through TensorStore: Ctrl-C ends them, a server that is gone is given up, exceptions become ours."""

from __future__ import annotations

import functools
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

from bioimage_py.errors import BioimagePyError, ReadOnlyError, StorageError
from bioimage_py.storage.names import is_unicode

_P = ParamSpec("_P")
_R = TypeVar("_R")
_LONGEST = 600

ENGINE_ERRORS = (ValueError, NotImplementedError, OSError)
"""What TensorStore raises where a store fails, or a request is one that it does not know."""

_POLL = 0.1
"""Seconds between two looks, while a request is waited for, whether the user has pressed Ctrl-C."""
_MOST_FAILURES = 3
"""Requests to a server that fail in a row, each after all its tries, before further ones fail at once."""
_PAUSE = 30.0
"""Seconds after which such a server is asked again."""
_UNREACHED = re.compile(
    r"CURL error Could not (?:connect to server|resolve hostname): ([^\[]*[^\[ ])|(error sending request)"
)
_SERVER_FAILED = re.compile(
    r"All \d+ retry attempts failed|after \d+ retries|UNAVAILABLE|DEADLINE_EXCEEDED", re.IGNORECASE
)


@dataclass
class _Server:
    """How often a server has failed in a row, and what it said."""

    name: str
    failures: int = 0
    last: float = 0.0
    said: str = ""


_servers: dict[str, _Server] = {}


def forget_failures() -> None:
    """Forget which servers failed: a run begins, and its user may have repaired what was wrong."""
    _servers.clear()


def server_answered(place: str) -> None:
    if (server := _server_of(place)) is not None:
        server.failures = 0


def _server_of(place: str) -> _Server | None:
    if "://" not in place or place.startswith(("file:", "memory:")):
        return None
    parts = urlsplit(place)
    name = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return _servers.get(name) or _servers.setdefault(name, _Server(name))


@contextmanager
def asking(place: str) -> Iterator[None]:
    """Count failures of the server of a URL; StorageError at once where it has failed several times in a row."""
    server = _server_of(place)
    if server is None:
        yield
        return
    if server.failures >= _MOST_FAILURES and time.monotonic() < server.last + _PAUSE:
        raise StorageError(
            f"{server.name} failed {server.failures} times in a row, after several tries each, and is not asked at present. It said: "
            f"{server.said}"
        )
    try:
        yield
    except Exception as error:
        if _SERVER_FAILED.search(str(error)):
            server.failures += 1
            server.last, server.said = time.monotonic(), plain_message(error)
        raise
    server.failures = 0


def awaited(request: Callable[[], Any], place: str) -> Any:
    """Return the result of a TensorStore request; behind a URL it is waited for in steps, which Ctrl-C can end."""
    if _server_of(place) is None:
        return request().result()
    with asking(place):
        began = time.monotonic()
        if threading.current_thread() is not threading.main_thread() and began < _interrupted_at[0] + _QUIET:
            raise StorageError(_INTERRUPTED)
        future = request()
        try:
            while True:
                try:
                    return future.result(timeout=_POLL)
                except TimeoutError:
                    if _interrupted_at[0] >= began:
                        raise StorageError(_INTERRUPTED) from None
        finally:
            if not future.done():
                future.cancel()


def answer(request: Any) -> Any:
    """Return the result of a request for a metadata file; right after Ctrl-C, when marks are put in order, it is waited for for a moment only."""
    left = _interrupted_at[0] + _QUIET - time.monotonic()
    if left < 0:
        return request.result()
    try:
        return request.result(timeout=left)
    except TimeoutError:
        _interrupted_at[0] = time.monotonic() - _QUIET + _POLL  # the next one fails soon
        raise StorageError(_INTERRUPTED) from None


_interrupted_at = [float("-inf")]
_INTERRUPTED = "interrupted while the server was waited for"
_QUIET = 2.0
"""Seconds after Ctrl-C in which the threads of a run begin no further request, and for which answers are waited for."""


def give_up_waiting() -> None:
    """Let all threads of this process that wait for servers fail: the user has pressed Ctrl-C."""
    _interrupted_at[0] = time.monotonic()


def apart(call: Callable[[], Any]) -> Any:
    """Make a call that ignores Ctrl-C in another thread, while the main thread waits for it."""
    if threading.current_thread() is not threading.main_thread():
        return call()
    return in_thread(call).result()


def in_thread(call: Callable[[], _R]) -> Future[_R]:
    """Begin a call in a thread of its own, which does not keep the process from ending."""
    answer = Future[_R]()

    def make() -> None:
        answer.set_running_or_notify_cancel()
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            answer.set_exception(error)

    threading.Thread(target=make, name="bioimage-request", daemon=True).start()
    return answer


def plain_message(error: BaseException) -> str:
    """Return an engine's text without its dump of the request, which is long and may hold headers; of a server's XML what it says."""
    text = str(error).partition("\n\nDebug source")[0]
    text = re.sub(r"<\?xml.*?<Code>(.*?)</Code>.*?<Message>([^<\n]*).*", r"\1: \2", text, flags=re.DOTALL)
    text = re.sub(r"\s*\[(tensorstore_spec|source locations)=.*", "", text, flags=re.DOTALL)
    text = re.sub(r"\s*\[(http_response_body|curl_code)='[^']*'\]", "", text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"


def reads_metadata(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Turn what malformed metadata make Python raise into a StorageError that names the path, the first argument."""

    @functools.wraps(function)
    def named(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except BioimagePyError:
            raise
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RuntimeError) as error:
            path = next((given for given in args if isinstance(given, str)), args[0])
            raise StorageError(f"the metadata of {path} are malformed: {plain_message(error)}") from error

    return named


def check_json(value: Any, place: str) -> None:
    """Raise StorageError for integers beyond 64 bits and text that is not Unicode: TensorStore takes neither."""
    if problem := json_problem(value):
        raise StorageError(f"the metadata of {place} are malformed: {problem}")


def json_problem(value: Any, name: str = "") -> str:
    """Return what TensorStore does not take of a JSON value, "" if it takes all."""
    # Most values are none of these: the cheap questions come first.
    if isinstance(value, str):
        if not value.isascii() and not is_unicode(value):
            return f"{name[:80]!r} holds {value[:80]!a}, which is not Unicode"
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            return f"{name[:80]!r} holds an integer of {value.bit_length()} bits, and 64 is the limit"
    elif isinstance(value, (list, tuple)):
        return next(filter(None, (json_problem(item, name) for item in value)), "")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            inner = f"{name}.{key}" if name else str(key)
            if problem := json_problem(key, name) or json_problem(item, inner):
                return problem
    return ""


def storage_error(error: BaseException, what: str, *, writing: bool = False) -> StorageError | ReadOnlyError:
    """Return the error that explains TensorStore's exception; `what` says what could not be done."""
    text = plain_message(error)
    if writing and re.search(r"PERMISSION_DENIED|Permission denied|Read-only file system", text):
        return ReadOnlyError(f"{what}: {text}. Check the permissions of the place that is named")
    if unreached := _UNREACHED.search(text):
        return StorageError(
            f"{what}: the server does not answer ({unreached[1] or unreached[2]}). Check its address, and the network"
        )
    if text.startswith("PERMISSION_DENIED") and what.startswith(("s3://", "az://")):
        return StorageError(
            f"{what}: {text}. Check the keys, the profile, or whether the bucket can be read anonymously"
        )
    if "was ignored by server" in text:
        return StorageError(
            f"{what}: the server does not send parts of files, without which a zip file cannot be read. Download it"
        )
    if re.search(r"No space left|Disk quota|RESOURCE_EXHAUSTED", text):
        return StorageError(f"{what}: {text}. The disk is full: free some space and run again")
    return StorageError(f"{what}: {text}")


@contextmanager
def storage_errors(what: str, *, writing: bool = False) -> Iterator[None]:
    try:
        yield
    except BioimagePyError:
        raise
    except ENGINE_ERRORS as error:
        raise storage_error(error, what, writing=writing) from error
