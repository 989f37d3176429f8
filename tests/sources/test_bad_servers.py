"""Servers that fail, cut connections or say nothing: tries are bounded for a run, and Ctrl-C is answered."""

from __future__ import annotations

import http.server
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import RunnerError
from bioimage_py.storage import engine_context
from tests.s3_lab import Asked, s3_lab

VALUES = np.random.default_rng(0).integers(0, 9999, (64, 64, 32)).astype("uint16")


class BadServer(http.server.ThreadingHTTPServer):
    """Serves a folder, but what is asked for chunks is answered as `mode` says."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.mode = "good"
        self.asked: Counter[str] = Counter()
        self.over = threading.Event()
        self.busy = threading.Event()
        server = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments, directory=str(folder))

            def log_message(self, *_: Any) -> None:
                return

            def do_GET(self) -> None:
                if "/c/" not in self.path or server.mode == "good":
                    super().do_GET()
                    return
                server.asked[self.path] += 1
                if sum(server.asked.values()) > 8:
                    server.busy.set()
                if server.mode == "hang":
                    server.over.wait()
                elif server.mode == "cut":
                    self.send_response(200)
                    self.send_header("Content-Length", "1000")
                    self.end_headers()
                    self.wfile.write(b"few")
                    self.wfile.flush()
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                else:
                    self.send_response(500)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, *_: Any) -> None:
        return  # clients that go away are what is tried here

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BadServer]:
    folder = tmp_path / "served"
    bp.copy(VALUES, folder / "a.zarr", chunks=(8, 8, 32))
    with BadServer(folder) as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.over.set()
        made.shutdown()
        thread.join()


@pytest.mark.parametrize("mode", ["500", "cut"])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_a_server_that_fails_is_given_up(
    server: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, workers: int, dtype: str
) -> None:
    for name in ("_RETRIES", "_PATIENT_RETRIES"):
        quick = {**getattr(engine_context, name), "initial_delay": "1ms", "max_delay": "2ms"}
        monkeypatch.setattr(engine_context, name, quick)
    engine_context.metadata_context.cache_clear()
    how: dict[str, Any] = {"block_shape": (8, 8, 32), "num_workers": workers}
    server.mode = mode
    with pytest.raises(RunnerError, match="64 of 64 blocks failed") as caught:
        bp.copy(f"{server.url}/a.zarr", tmp_path / "o.zarr", chunks=(8, 8, 32), dtype=dtype, **how)
    assert max(server.asked.values()) <= 2 * 5
    assert sum(server.asked.values()) < 64, "all blocks went on asking"
    # It is asked again by the next run, at once.
    server.mode = "good"
    again = bp.open_source(tmp_path / "o.zarr", mode="r+")
    out = bp.copy(f"{server.url}/a.zarr", again, block_ids=caught.value.failed_block_ids, **how)
    np.testing.assert_array_equal(out[...], VALUES)
    engine_context.metadata_context.cache_clear()


@pytest.mark.parametrize(
    ("mode", "how"),
    [
        ("500", "num_workers=1"),
        ("hang", "num_workers=1"),
        ("cut", "num_workers=2, block_shape=(32, 64, 32)"),
        ("hang", "num_workers=2, dtype='f4'"),
    ],
)
def test_ctrl_c_does_not_wait_for_a_server(server: BadServer, tmp_path: Path, mode: str, how: str) -> None:
    code = f"""
        import signal
        import bioimage_py as bp
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            bp.copy("{server.url}/a.zarr", "{tmp_path}/o.zarr", {how})
        except KeyboardInterrupt:
            print("stopped")
    """
    server.mode = mode
    if mode == "hang":
        server.busy.set()
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    try:
        while not server.asked or not server.busy.wait(0.1):
            assert child.poll() is None, "it ended by itself"
        child.send_signal(signal.SIGINT)
        # All tries would take far longer.
        assert child.communicate(timeout=60) == ("stopped\n", None)
        assert child.returncode == 0
    finally:
        child.kill()


def test_ctrl_c_does_not_wait_for_a_bucket_that_is_written(tmp_path: Path) -> None:
    """What is to be said of the output there, that it is not finished, is there already."""
    bp.copy(VALUES, tmp_path / "a.zarr", chunks=(8, 8, 8))
    code = f"""
        import signal, bioimage_py as bp
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            bp.copy("{tmp_path}/a.zarr", "s3://lab/hangs.zarr", chunks=(8, 8, 8), codec="gzip", num_workers=2)
        except KeyboardInterrupt:
            print("stopped")
    """
    hangs, over = threading.Event(), threading.Event()

    def hang(asked: Asked) -> bool:
        if hangs.is_set() or (asked.method == "PUT" and "/c/1" in asked.key):
            hangs.set()
            over.wait()
        return False

    with s3_lab() as lab:
        lab.refused = hang
        words = [sys.executable, "-c", textwrap.dedent(code)]
        child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        try:
            while not hangs.wait(0.1):
                assert child.poll() is None, "it ended by itself"
            child.send_signal(signal.SIGINT)
            # All tries would take far longer.
            assert child.communicate(timeout=60) == ("stopped\n", None)
        finally:
            over.set()
            child.kill()
            child.wait()
