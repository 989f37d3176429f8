"""Fixtures of tests on a real Slurm cluster; `conftest.py` gives them to all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bioimage_py.runner.slurm import SlurmConfig
from tests.runner.slurm_lab import SlurmLab, default_lab, plain_lab, shared


@pytest.fixture(scope="session")
def _slurm_cluster() -> Iterator[SlurmLab]:
    with shared(default_lab()) as lab:
        yield lab


@pytest.fixture(scope="session")
def _plain_cluster() -> Iterator[SlurmLab]:
    with shared(plain_lab()) as lab:
        yield lab


@pytest.fixture
def slurm(_slurm_cluster: SlurmLab, monkeypatch: pytest.MonkeyPatch) -> SlurmLab:
    """A real cluster, with accounting, that Slurm's commands of this process speak to."""
    return _speak_to(_slurm_cluster, monkeypatch)


@pytest.fixture
def plain_slurm(_plain_cluster: SlurmLab, monkeypatch: pytest.MonkeyPatch) -> SlurmLab:
    """A real cluster of one node without accounting, that takes 3 tasks per array and forgets jobs after 2 s."""
    return _speak_to(_plain_cluster, monkeypatch)


def _speak_to(lab: SlurmLab, monkeypatch: pytest.MonkeyPatch) -> SlurmLab:
    monkeypatch.setenv("SLURM_CONF", lab.conf)
    monkeypatch.setenv("BIOIMAGE_PY_NO_CONFIG", "1")
    return lab


@pytest.fixture
def slurm_config(tmp_path: Path) -> Any:
    """Return a function that makes a quick configuration with other values for the fields named."""

    def make(**fields: Any) -> SlurmConfig:
        quick: dict[str, Any] = {
            "tmp_root": tmp_path / "runs",
            "poll_interval": 0.3,
            "latency_wait": 2,
            "tasks_per_worker": 2,
            "mem": "800M",
            "time": 10,
        }
        return SlurmConfig(**{**quick, **fields})

    return make
