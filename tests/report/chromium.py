"""A headless Chromium for tests, driven through its DevTools protocol.

Set `BIOIMAGE_PY_REQUIRE_BROWSER=1` to have it installed with apt-get where it is missing, and tests fail, not skip, where it
cannot be had.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.debian import install, is_required
from tests.waiting import PATIENCE

REQUIRE = "BIOIMAGE_PY_REQUIRE_BROWSER"
NAMES = ("chromium", "chromium-browser", "google-chrome")
WINDOW = (1000, 720)
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--use-gl=angle", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader", "--remote-debugging-port=0", f"--window-size={WINDOW[0]},{WINDOW[1]}",
    # Nothing but this computer can be reached: what a page needs has to come from the server that is tested.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)  # fmt: skip


def find_chromium() -> str:
    """Return the browser's command; skip the test where there is none, or fail where one is required."""
    command = next((found for name in NAMES if (found := shutil.which(name))), None)
    if command is None and is_required(REQUIRE):
        install(NAMES[0])
        command = shutil.which(NAMES[0])
    if command is None:
        text = f"Chromium is not installed; with {REQUIRE}=1 the tests install it with apt-get"
        pytest.fail(text) if is_required(REQUIRE) else pytest.skip(text)
    return command


class Page:
    """A page that is open in the browser.

    Attributes
    ----------
    responses
        Address and status of everything that was answered.
    failures
        What the network did not answer, and what the page complained of.
    """

    def __init__(self, address: str) -> None:
        self.responses: list[tuple[str, int]] = []
        self.failures: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._socket = self._loop.run_until_complete(_connect(address))
        self._count = 0
        for domain in ("Network", "Page", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._count += 1
        self._socket.write_message(json.dumps({"id": self._count, "method": method, "params": parameters}))
        while True:
            message = self._next(30)
            if message.get("id") == self._count:
                assert "error" not in message, message
                return dict(message["result"])

    def open(self, url: str) -> None:
        """Go to an address."""
        self.call("Page.navigate", url=url)

    def wait_until(self, done: Callable[[], bool], seconds: float = 90) -> None:
        """Go on reading what the browser reports until something is so; fail after that time."""
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, (self.responses[-20:], self.failures)
            try:
                self._next(0.2)
            except TimeoutError:
                continue

    def picture(self) -> bytes:
        """Return what is seen, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def close(self) -> None:
        self._socket.close()
        self._loop.run_until_complete(asyncio.sleep(0.1))
        self._loop.close()

    def _next(self, seconds: float) -> dict[str, Any]:
        text = self._loop.run_until_complete(asyncio.wait_for(self._read(), seconds))
        assert text is not None, "the browser has gone away"
        message = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return dict(message)

    async def _read(self) -> Any:
        # A read that was given up would lose its message: the one that is under way is waited for again.
        if getattr(self, "_pending", None) is None:
            self._pending = asyncio.ensure_future(_as_coroutine(self._socket.read_message()))
        text = await asyncio.shield(self._pending)
        self._pending = None
        return text

    def _note(self, method: str, about: dict[str, Any]) -> None:
        if method == "Network.responseReceived":
            self.responses.append((about["response"]["url"], about["response"]["status"]))
        elif method == "Network.loadingFailed" and not about.get("canceled"):
            self.failures.append(f"network: {about.get('errorText')}")
        elif method == "Runtime.exceptionThrown":
            self.failures.append(str(about["exceptionDetails"]))
        elif (
            method == "Log.entryAdded" and about["entry"]["level"] == "error"
        ):  # where a test has enabled that
            self.failures.append(str(about["entry"]["text"]))


async def _as_coroutine(future: Any) -> Any:
    return await future


async def _connect(address: str) -> Any:
    from tornado.websocket import websocket_connect

    return await websocket_connect(address, max_message_size=2**27)


@contextmanager
def open_page(folder: Path) -> Iterator[Page]:
    """Start a browser with a profile of its own in a folder, and open an empty page."""
    import urllib.request

    command = find_chromium()
    profile = folder / "profile"
    with (folder / "chromium.log").open("wb") as log:
        browser = subprocess.Popen(
            [command, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        port = _port(profile / "DevToolsActivePort", browser, folder / "chromium.log")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
            targets = json.loads(answer.read())
        page = Page(next(t["webSocketDebuggerUrl"] for t in targets if t["type"] == "page"))
        try:
            yield page
        finally:
            page.close()
    finally:
        os.killpg(browser.pid, signal.SIGKILL)
        browser.wait()


def _port(file: Path, browser: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + PATIENCE
    while not (file.exists() and file.read_text().strip()):
        assert browser.poll() is None, log.read_text(errors="replace")[-2000:]
        assert time.monotonic() < deadline, log.read_text(errors="replace")[-2000:]
        time.sleep(0.1)
    return int(file.read_text().split()[0])
