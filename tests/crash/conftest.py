"""Rounds for the crash tests."""

from __future__ import annotations

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
    """Begin a round; the name of the test, with its number, is the seed."""
    begun: list[Round] = []

    def start(job_type: str, *, folder: Path = tmp_path, **config: Any) -> Round:
        begun.append(Round(reference, folder, request.node.name, job_type, **config))
        return begun[-1]

    yield start
    for each in begun:
        each.close()
