"""The page of a run as one file of HTML that loads nothing, and a server on loopback that keeps it up to date."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Self

from bioimage_py.errors import (
    BioimagePyError,
    Hint,
    InvalidArgumentError,
    OutputExistsError,
    SourceNotFoundError,
    StorageError,
)
from bioimage_py.report.page.shown_run import RunLook, ShownRun
from bioimage_py.runner import look_at_run
from bioimage_py.runner.run import RunFolder, StatusReader
from bioimage_py.storage import FileFolder, is_url, path_text

_LOOPBACK = "127.0.0.1"
_MARK = b'data-made-by="bioimage-py page"'
_LAST_LOOK = 6.0
"""Seconds that pages which are open get to fetch the end of a run."""


def run_page(run_folder: str | os.PathLike[str]) -> str:
    """Return a page about a run as HTML: its blocks in their place, speed, stages, tasks, errors and plan.

    The page is whole in itself and loads nothing. The run is not disturbed.

    Parameters
    ----------
    run_folder
        The folder of the run, such as `error.tmp_folder`.

    Raises
    ------
    SourceNotFoundError
        If the folder does not exist, as when all blocks are done.
    InvalidArgumentError
        If it belongs to another user, or is not a run folder.
    RunnerError
        If the cluster does not say whether tasks of the run are still active.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import bioimage_py as bp
    >>> folder = tempfile.mkdtemp()
    >>> np.save(f"{folder}/a.npy", np.zeros((8, 8), "uint8"))
    >>> config = bp.RunnerConfig(tmp_root=f"{folder}/runs", keep_run_folder=True)
    >>> with bp.copy(f"{folder}/a.npy", f"{folder}/a.zarr", job_config=config):
    ...     [run] = os.listdir(f"{folder}/runs")
    >>> bp.run_page(f"{folder}/runs/{run}")[:15]
    '<!doctype html>'
    """
    reader = StatusReader(RunFolder.open(run_folder))
    return page_html(RunLook(reader).shown(look_at_run(reader)))


@cache
def _template() -> tuple[str, str]:
    """Return the page without its data, and the policy by which it can run its own script and nothing else."""
    text = (files(__package__) / "template.html").read_text("utf-8")
    inner = [re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)[-1] for tag in ("style", "script")]
    style, script = (base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in inner)
    policy = (
        f"default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'"
    )
    return text, policy


def page_html(shown: ShownRun) -> str:
    """Return the page: what it shows is data in it, and cannot end the element that holds it."""
    text, policy = _template()
    before, after = text.replace("@policy@", policy, 1).split("@data@", 1)
    return before + _as_json(shown).replace("<", "\\u003c").replace("&", "\\u0026") + after


def _as_json(shown: ShownRun) -> str:
    # What turns the direction of text around would make others read what is not there.
    return re.sub(r"\\u(202[a-e]|206[6-9])", r"\\ufffd", json.dumps(shown.to_json(), separators=(",", ":")))


def check_page_path(output: str | os.PathLike[str]) -> Path:
    """Return where a page is written, before anything is done; only another page may be there already.

    Raises InvalidArgumentError for a URL, OutputExistsError for what is no page, SourceNotFoundError if the folder does not
    exist, and StorageError if it cannot be written.
    """
    name = path_text(output)
    if is_url(name):
        raise InvalidArgumentError(f"a page is written into a local file, and {name!r} is a URL")
    path = Path(name).expanduser()
    if path.is_dir():
        raise OutputExistsError(
            f"{name!r} is a folder: give the name of a file, such as {str(path / 'run.html')!r}"
        )
    if not path.parent.is_dir():
        raise SourceNotFoundError(
            f"there is no folder {str(path.parent)!r} to write {path.name!r} into: make it first"
        )
    try:
        begin = path.read_bytes()[:200] if os.path.lexists(path) else _MARK
    except OSError as error:
        raise StorageError(f"{name!r} cannot be written: {error.strerror}") from error
    if _MARK not in begin:
        raise OutputExistsError(
            f"{name!r} exists and is not the page of a run", hints=[Hint("give another name")]
        )
    if not os.access(path.parent, os.W_OK):
        raise StorageError(f"{name!r} cannot be written: no file can be made in {str(path.parent)!r}")
    return path


def write_page(shown: ShownRun, output: str | os.PathLike[str]) -> Path:
    """Write a page, whole or not at all; raises as `check_page_path` does."""
    path = check_page_path(output)
    try:
        FileFolder(str(path.parent)).write(path.name, page_html(shown).encode())
    except OSError as error:
        raise StorageError(f"{str(path)!r} cannot be written: {error.strerror}") from error
    return path


@contextmanager
def page_of_run(folder: RunFolder, output: str | os.PathLike[str]) -> Iterator[Callable[[], object]]:
    """Leave a page about a run that is finished meanwhile, however that ends; what is given is called when all is done, before the folder goes."""
    check_page_path(output)
    look = RunLook(StatusReader(folder))

    def last_look() -> ShownRun:
        return look.shown(look.reader.look())

    last_look()
    try:
        yield last_look
    except BioimagePyError:
        with suppress(BioimagePyError):  # what has ended the run is told
            write_page(last_look(), output)
        raise
    write_page(look.ended(), output)


class PageServer:
    """Serves the page of a run to this computer only, at an address with a random token that others cannot guess.

    Raises InvalidArgumentError if the port cannot be had.
    """

    def __init__(self, shown: ShownRun, port: int = 0) -> None:
        self._token = secrets.token_urlsafe(16)
        self._shown = replace(shown, live=True)
        self._asked = 0.0
        self._told = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        try:
            self._server = ThreadingHTTPServer((_LOOPBACK, port), Handler)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise InvalidArgumentError(
                f"port {port} of {_LOOPBACK} cannot be used ({why}): give another port, or none to take one that is free"
            ) from error
        self._server.daemon_threads = True
        self.url = f"http://{_LOOPBACK}:{self._server.server_address[1]}/{self._token}/"
        threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="bioimage-page", daemon=True
        ).start()

    def show(self, shown: ShownRun) -> None:
        self._shown = replace(shown, live=True)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Send the page, or what it shows now, to whoever knows the token and asks for this computer."""
        host = (request.headers.get("Host") or "").rpartition(":")[0]
        kinds = {"": "text/html; charset=utf-8", "data.json": "application/json"}
        asked = request.path.encode()
        name = next((n for n in kinds if secrets.compare_digest(asked, f"/{self._token}/{n}".encode())), None)
        if name is None or host not in (_LOOPBACK, "localhost"):
            request.send_error(404)
            return
        shown = self._shown
        body = (_as_json(shown) if name else page_html(shown)).encode()
        request.send_response(200)
        headers = {
            "Content-Type": kinds[name], "Content-Length": str(len(body)), "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer", "Content-Security-Policy": f"{_template()[1]}; frame-ancestors 'none'",
        }  # fmt: skip
        for header, value in headers.items():
            request.send_header(header, value)
        request.end_headers()
        self._asked = time.monotonic()
        request.wfile.write(body)
        if not shown.live:
            self._told.set()

    def finish(self, shown: ShownRun) -> None:
        """Show how the run has ended."""
        self._shown = shown

    def wait_for_last_look(self) -> None:
        """Return when a page that is open has fetched how the run has ended, or some seconds later."""
        if self._asked and time.monotonic() < self._asked + _LAST_LOOK:
            self._told.wait(_LAST_LOOK)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
