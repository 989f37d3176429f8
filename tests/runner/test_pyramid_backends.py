"""Pyramids on other backends give the bytes that threads give, wave after wave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.runner import RunnerConfig
from bioimage_py.runner.slurm import SlurmConfig
from bioimage_py.wrapper.resampling import ReducedSource
from tests.runner.slurm_lab import SlurmLab
from tests.runner.test_subprocess import chunk_files

# In blocks of 16³ the levels are made in two waves.
LAYOUT: dict[str, Any] = {"chunks": (8, 8, 8), "block_shape": (16, 16, 16)}


def check(folder: Path, method: str, **backend: Any) -> None:
    image = np.random.default_rng(0).integers(0, 5, (37, 50, 41)).astype("uint16")
    bp.copy(image, folder / "in.zarr", chunks=(16, 16, 16), overwrite=True)
    planned = bp.pyramid_plan(folder / "in.zarr", folder / "a.ome.zarr", method=method, **LAYOUT)
    assert len(planned.parts) == 2
    local = folder / "local" / "a.ome.zarr"
    bp.pyramid(folder / "in.zarr", local, method=method, **LAYOUT)
    made = bp.pyramid(
        folder / "in.zarr", folder / "a.ome.zarr", method=method, num_workers=2, **backend, **LAYOUT
    )
    assert chunk_files(folder / "a.ome.zarr") == chunk_files(local)
    for level in made[1:]:
        image = ReducedSource(image, 2, method)[...]
        np.testing.assert_array_equal(level[...], image)


def test_subprocess(tmp_path: Path) -> None:
    check(tmp_path, "mean", job_type="subprocess", job_config=RunnerConfig(tmp_root=tmp_path))


@pytest.mark.slow
def test_slurm(tmp_path: Path, slurm: SlurmLab, slurm_config: Callable[..., SlurmConfig]) -> None:
    check(tmp_path, "mean", job_type="slurm", job_config=slurm_config())


@pytest.mark.slow
def test_dask(tmp_path: Path, scheduler: str) -> None:
    config = bp.DaskConfig(address=scheduler, tmp_root=tmp_path / "runs")
    check(tmp_path, "mode", job_type="dask", job_config=config)
