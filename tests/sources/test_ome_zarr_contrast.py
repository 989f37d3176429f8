"""Contrast limits of images that say nothing of them: what they are, and that no way of writing changes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources import NumpySource, open_source
from tests.sources.test_ome_zarr_writing import check_schema

NAMED = ImageMetadata(axes=tuple("czyx"), channel_names=("dna", "actin"))


def image(dtype: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    scale = 60 if dtype == "uint8" else 800
    values = rng.normal(scale, scale / 3, (2, 8, 64, 64)).clip(0)
    values[1] /= 2
    return values.astype(dtype)


def omero(path: Path) -> Any:
    zarr3 = path / "zarr.json"
    found = json.loads((zarr3 if zarr3.exists() else path / ".zattrs").read_text())
    return (found["attributes"]["ome"] if zarr3.exists() else found).get("omero")


def limits(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, (0.1, 99.8), method="inverted_cdf").tolist()
    return low, high


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_limits_are_percentiles_of_the_smallest_level(tmp_path: Path, dtype: str, zarr_format: int) -> None:
    voxels = image(dtype)
    made = bp.pyramid(
        NumpySource(voxels, NAMED),
        tmp_path / "a.ome.zarr",
        levels=3,
        zarr_format=zarr_format,
        chunks=(2, 8, 16, 16),
    )
    smallest = np.asarray(made[-1][...])
    for n, channel in enumerate(omero(tmp_path / "a.ome.zarr")["channels"]):
        window = channel["window"]
        assert (window["start"], window["end"]) == limits(smallest[n])
        assert window["min"] <= window["start"] < window["end"] <= window["max"]
        assert set(window) == {"min", "max", "start", "end"}
    check_schema(tmp_path / "a.ome.zarr", zarr_format, "image")
    found = open_source(tmp_path / "a.ome.zarr").metadata
    assert (found.channel_names, found.contrast_limits) == (("dna", "actin"), tuple(map(limits, smallest)))


def test_a_copy_of_one_level_takes_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    voxels = image("uint16")
    bp.copy(NumpySource(voxels, NAMED), tmp_path / "a.ome.zarr", chunks=(1, 8, 16, 16))
    assert open_source(tmp_path / "a.ome.zarr").metadata.contrast_limits == tuple(map(limits, voxels))
    monkeypatch.setattr("bioimage_py.sources.ome_zarr.contrast._SAMPLE", 5_000)
    bp.copy(NumpySource(voxels, NAMED), tmp_path / "b.ome.zarr", chunks=(1, 8, 16, 16))
    bp.copy(NumpySource(voxels, NAMED), tmp_path / "c.ome.zarr", chunks=(2, 8, 64, 64))
    for name in ("b", "c"):
        found = open_source(tmp_path / f"{name}.ome.zarr").metadata.contrast_limits
        assert found is not None
        np.testing.assert_allclose(found, list(map(limits, voxels)), rtol=0.2, atol=60)


@pytest.mark.parametrize(
    ("voxels", "expected"),
    [
        (np.zeros((4, 8, 8), "u2"), (0, 1)),
        (np.full((4, 8, 8), np.nan, "f4"), (0.0, 1.0)),
        (np.where(np.arange(256).reshape(4, 8, 8) % 7, np.float32(3), np.float32(np.inf)), (3.0, 4.0)),
        (np.ones((4, 8, 8), "u8") << np.uint64(63), (2**63, 2**63 + 1)),
    ],
)
def test_odd_voxels(tmp_path: Path, voxels: np.ndarray, expected: tuple[float, float]) -> None:
    bp.copy(NumpySource(voxels, ImageMetadata(tuple("zyx"), channel_names=("dna",))), tmp_path / "a.ome.zarr")
    (channel,) = omero(tmp_path / "a.ome.zarr")["channels"]
    assert (channel["window"]["start"], channel["window"]["end"]) == expected


def test_nothing_is_made_up(tmp_path: Path) -> None:
    voxels = image("uint16")
    bp.pyramid(voxels, tmp_path / "a.ome.zarr", axes="czyx", levels=2)
    assert omero(tmp_path / "a.ome.zarr") is None
    said = ImageMetadata(tuple("czyx"), contrast_limits=((0, 65535), (5, 9)))
    bp.pyramid(NumpySource(voxels, said), tmp_path / "b.ome.zarr", levels=2)
    channels = omero(tmp_path / "b.ome.zarr")["channels"]
    assert [(c["window"]["start"], c["window"]["end"]) for c in channels] == [(0, 65535), (5, 9)]
    assert not any("label" in channel for channel in channels)
    picture = ImageMetadata(tuple("cyx"), channel_colors=("FF0000", "00FF00", "0000FF"))
    bp.copy(NumpySource(np.full((3, 8, 8), 9, "u1"), picture), tmp_path / "c.ome.zarr")
    assert [c["window"]["end"] for c in omero(tmp_path / "c.ome.zarr")["channels"]] == [255] * 3


def test_the_same_on_every_way(tmp_path: Path) -> None:
    bp.copy(NumpySource(image("uint16"), NAMED), tmp_path / "in.zarr", chunks=(1, 4, 16, 16))
    how: list[dict[str, Any]] = [
        {},
        {"block_shape": (2, 8, 32, 32), "num_workers": 2},
        {"job_type": "subprocess", "num_workers": 2},
    ]
    for n, options in enumerate(how):
        out = tmp_path / f"{n}/a.ome.zarr"
        bp.pyramid(tmp_path / "in.zarr", out, levels=2, chunks=(1, 8, 32, 32), **options)
        assert (out / "zarr.json").read_bytes() == (tmp_path / "0/a.ome.zarr/zarr.json").read_bytes()


def test_a_run_that_is_resumed(tmp_path: Path) -> None:
    bp.copy(NumpySource(image("uint16"), NAMED), tmp_path / "in.zarr", chunks=(1, 4, 16, 16))
    bad = tmp_path / "in.zarr/c/1/1/0/0"
    kept = bad.read_bytes()
    bad.write_bytes(kept[:9])
    for verb, options in ((bp.copy, {"chunks": (1, 8, 32, 32)}), (bp.pyramid, {"levels": 2})):
        out = tmp_path / f"{verb.__name__}.ome.zarr"
        bad.write_bytes(kept[:9])
        config = bp.RunnerConfig(tmp_root=tmp_path / "runs")
        with pytest.raises(bp.RunnerError) as failed:
            verb(tmp_path / "in.zarr", out, job_config=config, **options)
        assert omero(out)["channels"][0]["window"]["provisional"]
        bad.write_bytes(kept)
        assert failed.value.tmp_folder is not None
        bp.resume(failed.value.tmp_folder)
        again = tmp_path / f"{verb.__name__}-again.ome.zarr"
        verb(tmp_path / "in.zarr", again, **options)
        assert omero(out) == omero(again)
        assert "provisional" not in omero(out)["channels"][0]["window"]
