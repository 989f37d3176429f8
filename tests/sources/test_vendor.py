"""Files of microscope vendors, read through bioio: a CZI that Zeiss' own library wrote, and what is said where it cannot be read."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import (
    AmbiguousSourceError,
    InvalidArgumentError,
    MissingDependencyError,
    ReadOnlyError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.sources import Source, family_of
from tests.sources.contract import SourceContract, textured

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:ome_types", "ignore::DeprecationWarning:pydantic"
)


@pytest.fixture(autouse=True)
def _plugin() -> None:
    pytest.importorskip("bioio", reason="bioio is not installed (extra 'vendor')")
    pytest.importorskip("bioio_czi", reason="bioio-czi is not installed (extra 'vendor')")


def write_czi(path: Path, array: np.ndarray, **about: Any) -> Path:
    """Write T, C, Z, Y, X with Zeiss' library."""
    czi = pytest.importorskip("pylibCZIrw.czi", reason="pylibCZIrw is not installed")
    with czi.create_czi(str(path)) as document:
        for t, c, z in np.ndindex(*array.shape[:3]):
            document.write(array[t, c, z][..., None], plane={"T": t, "C": c, "Z": z})
        document.write_metadata("image", **about)
    return path


class TestCzi(SourceContract):
    shape = (2, 2, 3, 17, 20)
    dtype = "uint16"

    def make(self, array: np.ndarray, folder: Path) -> Source:
        return bp.open_source(write_czi(folder / "a.czi", array))


@pytest.mark.parametrize("n_channels", [1, 2])
def test_samples_are_channels(n_channels: int, tmp_path: Path) -> None:
    czi = pytest.importorskip("pylibCZIrw.czi", reason="pylibCZIrw is not installed")
    array = textured((n_channels, 2, 17, 20, 3), "uint8")
    path = tmp_path / "rgb.czi"
    with czi.create_czi(str(path)) as document:
        for c, z in np.ndindex(n_channels, 2):
            document.write(array[c, z], plane={"C": c, "Z": z})
    expected = np.moveaxis(array, -1, 1).reshape(1, 3 * n_channels, 2, 17, 20)
    with bp.open_source(path) as source:
        np.testing.assert_array_equal(source[...], expected)
        np.testing.assert_array_equal(source[0, 2, 1, 3:9, 4:6], expected[0, 2, 1, 3:9, 4:6])
        # Zeiss stores blue first.
        colors = ("0000FF", "00FF00", "FF0000") if n_channels == 1 else None
        assert source.metadata.channel_colors == colors
        with bp.from_spec(source.to_spec()) as again:
            np.testing.assert_array_equal(again[...], expected)


def test_samples_of_any_plugin_are_channels(tmp_path: Path) -> None:
    pytest.importorskip("bioio_tifffile", reason="bioio-tifffile is not installed")
    import tifffile

    array = textured((2, 4, 8, 9, 3), "uint8")
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", metadata={"axes": "CZYXS"})
    with family_of("vendor").open_path(str(tmp_path / "a.tif"), reader="bioio_tifffile") as source:
        np.testing.assert_array_equal(source[0], np.moveaxis(array, -1, 1).reshape(6, 4, 8, 9))


@pytest.mark.parametrize("stitched", [True, False])
@pytest.mark.parametrize("axis", ["M", "H", "R"])
def test_axes_that_would_be_dropped_are_refused(axis: str, stitched: bool) -> None:
    from types import SimpleNamespace

    from bioimage_py.sources import vendor

    def image(n: int) -> Any:
        stored = SimpleNamespace(order=f"{axis}TCZYX", shape=(n, 1, 2, 3, 8, 9))
        shown = SimpleNamespace(order="TCZYX", shape=(1, 2, 3, 8, 9))
        return SimpleNamespace(
            reader=SimpleNamespace(dims=stored), dims=shown if stitched or axis != "M" else stored
        )

    assert vendor._samples(image(1), "a.czi") == 1
    if axis == "M" and stitched:
        assert vendor._samples(image(4), "a.czi") == 1
    else:
        with pytest.raises(UnsupportedFormatError, match=f"axes beside.*{axis} of 4"):
            vendor._samples(image(4), "a.czi")


def test_metadata_survive_into_ome_zarr(tmp_path: Path) -> None:
    array = textured((1, 2, 3, 17, 20), "uint16")
    path = write_czi(
        tmp_path / "a.czi", array, channel_names={0: "dna", 1: "actin"}, scale_x=0.5e-6, scale_y=0.25e-6, scale_z=2e-6
    )  # fmt: skip
    source = bp.open_source(path)
    assert source.format == "bioio-czi"
    assert source.chunks is not None
    assert source.chunks[:2] == (1, 1)
    metadata = source.metadata
    assert metadata.axes == tuple("tczyx")
    assert metadata.voxel_size == pytest.approx((1.0, 1.0, 2.0, 0.25, 0.5))
    assert metadata.units == (None, None, "micrometer", "micrometer", "micrometer")
    assert metadata.channel_names == ("dna", "actin")
    out = bp.copy(path, tmp_path / "out.ome.zarr", num_workers=2)
    np.testing.assert_array_equal(out[...], array)
    written = bp.open_source(tmp_path / "out.ome.zarr").metadata
    assert written.voxel_size == pytest.approx((1.0, 1.0, 2.0, 0.25, 0.5))
    assert written.channel_names == ("dna", "actin")


def test_nothing_but_metadata_is_read_to_open_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dask

    path = write_czi(tmp_path / "a.czi", textured((1, 2, 3, 17, 20), "uint8"))
    computed: list[int] = []
    compute = dask.base.compute

    def counting(*args: Any, **options: Any) -> Any:
        computed.append(1)
        return compute(*args, **options)

    monkeypatch.setattr(dask.base, "compute", counting)
    source = bp.open_source(path)
    assert not computed
    source[0, 1, 2]
    assert len(computed) == 1


def test_scenes_are_keys(tmp_path: Path) -> None:
    path = str(write_czi(tmp_path / "a.czi", textured((1, 1, 1, 8, 9), "uint8")))
    (name,) = family_of("vendor").list_arrays(path)
    for key in (None, name, "0"):
        assert bp.open_source(path, key).shape == (1, 1, 1, 8, 9)
    with pytest.raises(SourceNotFoundError, match=f"no scene 'other'.*{name}"):
        bp.open_source(path, "other")


def test_several_scenes_must_be_chosen_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A file of several scenes that bioio reads: series of a TIFF.
    pytest.importorskip("bioio_tifffile", reason="bioio-tifffile is not installed")
    import tifffile

    path, arrays = tmp_path / "two.tif", [textured((2, 8, 9), "uint8", seed) for seed in (1, 2)]
    with tifffile.TiffWriter(path) as file:
        for array in arrays:
            file.write(array, photometric="minisblack", metadata={"axes": "ZYX"})
    with pytest.raises(AmbiguousSourceError, match="2 scenes"):
        family_of("vendor").open_path(str(path), reader="bioio_tifffile")
    assert [key for key, _ in family_of("vendor").images_in(str(path))] == ["0", "1"]
    for n, array in enumerate(arrays):
        with family_of("vendor").open_path(str(path), str(n), reader="bioio-tifffile") as source:
            np.testing.assert_array_equal(source[0, 0], array)
            with bp.from_spec(source.to_spec()) as again:
                np.testing.assert_array_equal(again[0, 0], array)


def test_formats_of_our_own_stay_ours(tmp_path: Path) -> None:
    import tifffile

    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), "u1"))
    assert bp.open_source(tmp_path / "a.tif").format.startswith("tiff")


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.sldy").write_bytes(b"x" * 100)
    assert importlib.util.find_spec("bioio_sldy") is None
    with pytest.raises(MissingDependencyError, match="bioio-sldy"):
        bp.open_source(tmp_path / "a.sldy")
    monkeypatch.setitem(sys.modules, "bioio", None)
    for suffix in ("czi", "lif", "nd2"):
        (tmp_path / f"a.{suffix}").write_bytes(b"x" * 100)
        with pytest.raises(MissingDependencyError, match=rf"pip install bioio bioio-{suffix}"):
            bp.open_source(tmp_path / f"a.{suffix}")


def test_what_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    path = write_czi(tmp_path / "a.czi", textured((1, 1, 1, 8, 9), "uint8"))
    with pytest.raises(ReadOnlyError, match="only be read"):
        bp.open_source(path, mode="r+")
    with pytest.raises(SourceNotFoundError, match=r"b\.czi"):
        bp.open_source(tmp_path / "b.czi")
    with pytest.raises(InvalidArgumentError, match="Leave out series"):
        bp.open_source(path, series=1)
    with pytest.raises(MissingDependencyError, match="bioio-nowhere"):
        bp.open_source(path, reader="bioio_nowhere")
    (tmp_path / "c.czi").write_bytes(b"x" * 100)
    with pytest.raises((StorageError, InvalidArgumentError), match=r"c\.czi"):
        bp.open_source(tmp_path / "c.czi")
    (tmp_path / "d.czi").write_bytes(path.read_bytes()[:-200])
    with pytest.raises((StorageError, InvalidArgumentError), match=r"d\.czi"):
        bp.open_source(tmp_path / "d.czi")[...]
