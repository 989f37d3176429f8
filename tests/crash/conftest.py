"""Rounds for the crash tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.rounds import Reference, Round


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The input of all rounds, and what an uninterrupted run makes of it."""
    return Reference(tmp_path_factory.mktemp("reference"))


@pytest.fixture
def begin(
    reference: Reference, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Round]]:
    """Begin a round; the name of the test, with its number, is the seed.

    A text in the environment variable BIOIMAGE_PY_CRASH_SEED makes it another one: so a night can be spent on new rounds.
    """
    begun: list[Round] = []

    def start(job_type: str, *, folder: Path = tmp_path, **config: Any) -> Round:
        seed = request.node.name + os.environ.get("BIOIMAGE_PY_CRASH_SEED", "")
        print(f"seed: {seed!r}")
        begun.append(Round(reference, folder, seed, job_type, **config))
        return begun[-1]

    yield start
    for each in begun:
        each.close()
