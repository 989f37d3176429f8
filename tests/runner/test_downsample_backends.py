"""Downsampling on Slurm and on Dask gives the bytes that threads give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.runner.slurm import SlurmConfig
from tests.runner.slurm_lab import SlurmLab
from tests.runner.test_subprocess import chunk_files
from tests.wrapper.test_reduced import REFERENCES, of_windows

OPTIONS: tuple[dict[str, Any], ...] = ({"order": 3, "anti_aliasing": True}, {"method": "mode"})


def check(folder: Path, options: dict[str, Any], **backend: Any) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 5, (37, 50, 41)).astype("uint16")
    bp.copy(image, folder / "in.zarr", chunks=(16, 16, 16), overwrite=True)
    layout = {"chunks": (8, 8, 8), "block_shape": (16, 8, 24), **options}
    bp.downsample(folder / "in.zarr", (2, 3, 2), folder / "local.zarr", **layout)
    out = bp.downsample(
        folder / "in.zarr", (2, 3, 2), folder / "other.zarr", num_workers=2, **backend, **layout
    )
    assert chunk_files(folder / "other.zarr") == chunk_files(folder / "local.zarr")
    if "method" in options:
        expected = of_windows(image, (2, 3, 2), REFERENCES[options["method"]])
        np.testing.assert_array_equal(out[...], expected)


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_slurm(
    options: Any, tmp_path: Path, slurm: SlurmLab, slurm_config: Callable[..., SlurmConfig]
) -> None:
    check(tmp_path, options, job_type="slurm", job_config=slurm_config())


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_dask(options: Any, tmp_path: Path, scheduler: str) -> None:
    config = bp.DaskConfig(address=scheduler, tmp_root=tmp_path / "runs")
    check(tmp_path, options, job_type="dask", job_config=config)
