"""Copies in two passes on Slurm and on Dask give the bytes that threads give, and leave no temporary store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.runner.slurm import SlurmConfig
from bioimage_py.storage import StoreFolder
from tests.runner.dask_lab import DaskLab
from tests.runner.slurm_lab import SlurmLab
from tests.runner.test_subprocess import chunk_files


def check(folder: Path, **backend: Any) -> None:
    check_on_disk(folder, **backend)
    check_behind_url(folder, **backend)


def check_behind_url(folder: Path, **backend: Any) -> None:
    image = np.random.default_rng(1).integers(0, 5000, (16, 32, 32)).astype("uint16")
    bp.copy(image, folder / "small.zarr", chunks=(1, 32, 32))
    url = f"s3://lab/{folder.name}/other.zarr"
    how: dict[str, Any] = {"chunks": (8, 16, 16), "memory_limit": "22KiB"}
    assert bp.plan(folder / "small.zarr", url, **how, **backend).passes is not None
    out = bp.copy(folder / "small.zarr", url, **how, num_workers=2, **backend)
    np.testing.assert_array_equal(out[...], image)
    assert StoreFolder.at(url).folders_beginning() == [url]


def check_on_disk(folder: Path, **backend: Any) -> None:
    image = np.random.default_rng(0).integers(0, 5000, (32, 64, 64)).astype("uint16")
    bp.copy(image, folder / "in.zarr", chunks=(1, 64, 64))
    how: dict[str, Any] = {"chunks": (8, 16, 16), "memory_limit": "48KiB"}
    assert bp.plan(folder / "in.zarr", folder / "other.zarr", **how, **backend).passes is not None
    bp.copy(folder / "in.zarr", folder / "local.zarr", chunks=(8, 16, 16))
    out = bp.copy(folder / "in.zarr", folder / "other.zarr", **how, num_workers=2, **backend)
    np.testing.assert_array_equal(out[...], image)
    assert chunk_files(folder / "other.zarr") == chunk_files(folder / "local.zarr")
    assert list(folder.glob("*.rechunk-*")) == []


@pytest.mark.slow
@pytest.mark.usefixtures("bucket")
def test_slurm(tmp_path: Path, slurm: SlurmLab, slurm_config: Callable[..., SlurmConfig]) -> None:
    check(tmp_path, job_type="slurm", job_config=slurm_config())


@pytest.mark.slow
@pytest.mark.usefixtures("bucket")
def test_dask(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="distributed is not installed")
    lab = DaskLab(tmp_path / "dask")
    try:
        lab.start_scheduler()
        lab.start_workers(1)
        config = bp.DaskConfig(address=lab.address, tmp_root=tmp_path / "runs")
        check(tmp_path, job_type="dask", job_config=config)
    finally:
        lab.close()
