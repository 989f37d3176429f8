"""The contract of every backend, on a real Slurm cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.runner.slurm import SlurmConfig, SlurmRunner
from tests.runner.contract import RunnerContract
from tests.runner.slurm_lab import SlurmLab


class TestSlurmRunner(RunnerContract):
    @pytest.fixture(autouse=True)
    def _settings(self, slurm: SlurmLab, slurm_config: Callable[..., SlurmConfig]) -> None:
        self.config = slurm_config(retries=1)

    def make(self) -> SlurmRunner:
        return SlurmRunner(self.config)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and "copied" not in p.name
    }


def test_same_bytes_as_local(
    tmp_path: Path, slurm: SlurmLab, slurm_config: Callable[..., SlurmConfig]
) -> None:
    image = np.random.default_rng(0).integers(0, 9999, (70, 50, 60)).astype("uint16")
    source = bp.copy(image, tmp_path / "in.zarr", chunks=(16, 16, 16))
    mask = bp.copy((image % 5 > 0).astype("uint8"), tmp_path / "mask.zarr", chunks=(20, 20, 20))
    for options in ({}, {"mask": mask, "block_shape": (32, 16, 16)}):
        layout = {"chunks": (16, 16, 16), "shards": (32, 32, 32), "overwrite": True}
        bp.copy(source, tmp_path / "local.zarr", num_workers=2, **layout, **options)
        config = slurm_config(cpus_per_task=2)
        out = bp.copy(
            source,
            tmp_path / "slurm.zarr",
            job_type="slurm",
            job_config=config,
            num_workers=2,
            **layout,
            **options,
        )
        assert bp.verify(out, tmp_path / "local.zarr").equal
        assert files(tmp_path / "slurm.zarr") == files(tmp_path / "local.zarr")
    assert not list((tmp_path / "runs").iterdir())


def test_a_digest_that_tasks_have_computed(
    tmp_path: Path, slurm: SlurmLab, slurm_config: Callable[..., SlurmConfig]
) -> None:
    image = np.random.default_rng(0).integers(0, 9999, (200, 70, 60)).astype("uint16")
    bp.copy(image, tmp_path / "in.zarr", chunks=(32, 64, 64))
    out = bp.copy(
        tmp_path / "in.zarr",
        tmp_path / "out.zarr",
        job_type="slurm",
        job_config=slurm_config(),
        num_workers=2,
        block_shape=(64, 64, 64),
        chunks=(64, 64, 64),
        digest=True,
    )
    assert bp.verify(out, image, by_digest=True).equal
    assert bp.verify(out).equal
    with bp.open_source(out.path, mode="r+") as written:
        written[199, 69, 59] += 1
    with pytest.raises(InvalidArgumentError, match="no digest is kept"):
        bp.verify(out.path)
