"""What every test may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

EXPLORE = int(os.environ.get("BIOIMAGE_PY_EXPLORE", "0"))
"""How many times as many examples as usual to draw, with fresh seeds; 0 for the same ones each time."""

# How long an example takes says more about the machine than about the code; and what `make test` finds, it finds each time.
settings.register_profile("same each time", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, derandomize=False, print_blob=True)
settings.load_profile("explore" if EXPLORE else "same each time")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is in the background of a shell, and children inherit it: those that a test interrupts would never end.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Draw more examples in each property test, whatever number it asks for itself."""
    for item in items if EXPLORE else ():
        function = getattr(item, "obj", None)
        given = getattr(function, "_hypothesis_internal_use_settings", None)
        if given is not None:
            more = settings(given, max_examples=EXPLORE * given.max_examples, derandomize=False)
            function = getattr(function, "__func__", function)
            function._hypothesis_internal_use_settings = more


PASSWORD = "correct-horse"
"""Of the S3 server on this machine."""

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """The folder of files made by other people's programs; skips where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"the folder of shared test files {DATA} is absent")
    return DATA


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The endpoint of an S3 server with a bucket called 'lab'; its credentials are in the environment."""
    pytest.importorskip("moto.server")
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", PASSWORD)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        client.create_bucket(Bucket="lab")
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        yield endpoint
        client.close()
    server.stop()
