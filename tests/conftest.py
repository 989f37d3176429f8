"""What every test may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.runner.dask_lab import DaskLab
from tests.s3_lab import s3_lab

EXPLORE = int(os.environ.get("BIOIMAGE_PY_EXPLORE", "0"))
"""How many times as many examples to draw as tests ask for, with fresh seeds; 0 for a third, the same ones each time."""

# How long an example takes says more about the machine than about the code; and what `make test` finds, it finds each time.
settings.register_profile("same each time", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, derandomize=False, print_blob=True)
settings.load_profile("explore" if EXPLORE else "same each time")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is in the background of a shell, and children inherit it: those that a test interrupts would never end.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Draw a third of the examples that a property test asks for, or to explore many times as many."""
    functions = (getattr(item, "obj", None) for item in items)
    for function in {id(f): f for f in (getattr(f, "__func__", f) for f in functions)}.values():
        given = getattr(function, "_hypothesis_internal_use_settings", None)
        if given is not None:
            number = given.max_examples * EXPLORE or -(-given.max_examples // 3)
            function._hypothesis_internal_use_settings = settings(
                given, max_examples=number, derandomize=not EXPLORE
            )


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
    with s3_lab() as lab:
        yield lab.endpoint


@pytest.fixture(scope="session")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Dask scheduler with two worker processes."""
    pytest.importorskip("distributed", reason="distributed is not installed")
    lab = DaskLab(tmp_path_factory.mktemp("dask"))
    try:
        lab.start_scheduler()
        lab.start_workers(2)
        yield lab.address
    finally:
        lab.close()
