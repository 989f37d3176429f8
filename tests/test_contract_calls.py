"""Calls that the public contract spells out, one by one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py import runner, wrapper

ARRAY = np.arange(24.0, dtype="float32").reshape(2, 3, 4)


def test_integers_of_a_region_keep_their_axis_unless_squeezed() -> None:
    assert wrapper.RoiSource(ARRAY, (0, slice(0, 2))).shape == (1, 2, 4)
    assert wrapper.RoiSource(ARRAY, (0, slice(0, 2)), squeeze=True).shape == (2, 4)


def test_integers_pad_at_the_end() -> None:
    assert wrapper.PadSource(np.zeros((16, 16)), (8, 8)).shape == (24, 24)
    assert wrapper.PadSource(ARRAY[0], (2, 3))[...].tolist() == np.pad(ARRAY[0], ((0, 2), (0, 3))).tolist()
    assert wrapper.PadSource(ARRAY[0], ((1, 2), (0, 3))).shape == (6, 7)


def test_defaults_of_wrappers() -> None:
    assert wrapper.ExpandDimsSource(ARRAY).shape == (1, 2, 3, 4)
    assert wrapper.ResizedSource(ARRAY, (4, 6, 8)).scale == (0.5, 0.5, 0.5)
    assert wrapper.AffineSource(ARRAY, affine_matrix=np.eye(4))[...].tolist() == ARRAY.tolist()
    with pytest.raises(ValueError, match="exactly one way"):
        wrapper.AffineSource(ARRAY, affine_matrix=np.eye(4), scale=(1, 1, 1))
    with pytest.raises(ValueError, match="exactly one way"):
        wrapper.AffineSource(ARRAY)


def test_errors_and_configs_are_found_in_the_runner_room() -> None:
    assert runner.RunnerError is bp.RunnerError
    for name in (
        "get_runner",
        "LocalRunner",
        "SubprocessRunner",
        "SlurmRunner",
        "RunnerConfig",
        "SlurmConfig",
    ):
        assert getattr(runner, name) is getattr(bp, name)
    config = bp.SlurmConfig(
        partition=None, time=None, mem=None, cpus_per_task=1, gpus=0, account=None, qos=None, constraint=None,
        shebang=None, max_array_size=None, latency_wait=120.0,
    )  # fmt: skip
    assert config == bp.SlurmConfig(gpus=0, latency_wait=120.0)


def test_results_come_in_the_order_of_the_ids_also_repeated() -> None:
    local = bp.get_runner("local")

    def begins(block: Any, inputs: Any, outputs: Any, mask: Any) -> Any:
        assert len(outputs) == 0
        assert mask is None
        return tuple(block.begin)

    options: dict[str, Any] = {"block_shape": (1, 3, 4), "has_return_val": True}
    assert local.run(begins, [ARRAY], block_ids=[1, 0, 1], **options) == [(1, 0, 0), (0, 0, 0), (1, 0, 0)]
    assert local.map(lambda item: item * 2, 5, item_ids=[4, 0, 4]) == [8, 0, 8]
    assert local.map(lambda item: item, 3) == [0, 1, 2]


@pytest.mark.parametrize("halo", [1, (1, 1, 1), [1, 1, 1], np.array([1, 1, 1])])
def test_halos_in_any_form(halo: Any) -> None:
    def extents(block: Any, inputs: Any, outputs: Any, mask: Any) -> Any:
        roi = bp.to_roi(block.inner_block_local)
        return (
            block.outer_block.shape,
            inputs[0][bp.to_roi(block.outer_block)][roi].shape,
            block.inner_block.shape,
        )

    local = bp.get_runner("local")
    outer, inside, inner = local.run(extents, [ARRAY], block_shape=(1, 3, 2), halo=halo, has_return_val=True)[
        0
    ]
    assert (outer, inside, inner) == ((2, 3, 3), (1, 3, 2), (1, 3, 2))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"job_type": "cluster"}, "local.*subprocess.*slurm.*dask"),
        ({"job_type": "subprocess"}, "(?s)subprocess.*output"),
        ({"block_ids": [0], "resume_from": "run"}, "not both"),
        ({"resume_from": "run"}, "distributed"),
    ],
)
def test_refusals_of_copy(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        bp.copy(ARRAY, **arguments)


def test_an_index_out_of_bounds_is_an_index_error_and_a_value_error() -> None:
    for kind in (IndexError, ValueError):
        with pytest.raises(kind):
            bp.as_source(ARRAY)[5]


def test_none_is_all_cores_for_every_verb(tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert bp.plan(ARRAY, tmp_path / "a.zarr", num_workers=None).threads == cores
    assert bp.plan(ARRAY, tmp_path / "a.zarr").threads == 1
    assert bp.pyramid_plan(ARRAY, tmp_path / "a.ome.zarr", num_workers=None).threads == cores
    made = bp.copy(ARRAY, tmp_path / "a.zarr", num_workers=None)
    assert bp.verify(made, ARRAY, num_workers=None)
    assert bp.downsample(ARRAY, 2, num_workers=None).shape == (1, 2, 2)
    assert bp.get_runner("local").map(abs, 3, num_workers=None) == [0, 1, 2]
    assert bp.bench(ARRAY, tmp_path, sample=1000).num_workers == cores
    for wrong in (0, -1, True, 1.5, "2"):
        with pytest.raises(ValueError, match="positive integer, or None for all cores"):
            bp.copy(ARRAY, num_workers=wrong)  # type: ignore[arg-type]
