"""Azure's blob storage on this machine: Azurite, Microsoft's own emulator.

Set `BIOIMAGE_PY_REQUIRE_AZURE=1` to have it installed with npm where it is missing, and tests fail, not skip, where it cannot be.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.debian import install_with_npm, is_required
from tests.waiting import PATIENCE, eventually

REQUIRE = "BIOIMAGE_PY_REQUIRE_AZURE"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of the account that Azurite has, as everybody knows."""


@contextlib.contextmanager
def azure_lab(folder: Path) -> Iterator[str]:
    """Serve the containers 'lab' and, for all to read, 'public'; give the endpoint, of which the environment says nothing."""
    program = _azurite()
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
    words = [program, "--blobPort", str(port), "--inMemoryPersistence", "--skipApiVersionCheck"]
    with (folder / "azurite.log").open("w") as log:
        server = subprocess.Popen(
            [*words, "--disableTelemetry", "--silent"],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            cwd=folder,
        )
        try:
            eventually(lambda: _answers(server, port), "Azurite does not answer", pause=0.1)
            for name in ("lab", "public"):
                _make_container(endpoint, name, public=name == "public")
            yield endpoint
        finally:
            server.kill()
            server.wait()


def _azurite() -> str:
    if shutil.which("azurite-blob") is None and is_required(REQUIRE):
        install_with_npm("azurite")
    found = shutil.which("azurite-blob")
    if found is None:
        text = f"Azurite is not installed; with {REQUIRE}=1 the tests install it with npm"
        pytest.fail(text) if is_required(REQUIRE) else pytest.skip(text)
    return found


def _answers(server: subprocess.Popen[bytes], port: int) -> bool:
    assert server.poll() is None, "Azurite ended"
    with socket.socket() as found:
        return found.connect_ex(("127.0.0.1", port)) == 0


def _make_container(endpoint: str, name: str, *, public: bool) -> None:
    headers = {
        "x-ms-date": datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT"),
        "x-ms-version": "2021-08-06",
    }
    if public:
        headers["x-ms-blob-public-access"] = "container"
    said = "".join(f"{header}:{headers[header]}\n" for header in sorted(headers))
    text = f"PUT{chr(10) * 12}{said}/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    mark = base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{mark}"
    asked = urllib.request.Request(f"{endpoint}/{name}?restype=container", method="PUT", headers=headers)
    urllib.request.urlopen(asked, timeout=PATIENCE).close()
