"""Folders of slices and single pictures."""
# ruff: noqa: RUF012 - the options of a test class are never changed

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

from bioimage_py.errors import (
    BioimagePyError,
    BioimagePyWarning,
    InvalidArgumentError,
    ReadOnlyError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.geometry import Box
from bioimage_py.sources import Source, from_spec, open_source
from bioimage_py.sources.slices import stack
from bioimage_py.sources.tiff import TiffSource, first_page
from bioimage_py.storage import FileBytes, natural_key
from tests.sources.contract import SourceContract, textured


def write_slices(array: np.ndarray, folder: Path, **options: Any) -> Path:
    """Write slices whose numbers are not padded, so that the order of their names is not theirs."""
    place = folder / "slices"
    place.mkdir()
    for z, image in enumerate(array):
        tifffile.imwrite(place / f"s{z}.tif", image, **options)
    return place


class TiffStack(SourceContract):
    shape = (12, 20, 30)
    options: dict[str, Any] = {}

    def make(self, array: np.ndarray, folder: Path) -> Source:
        return open_source(write_slices(array, folder, **self.options), "*.tif")


class TestDeflate(TiffStack):
    options = {"compression": "deflate"}


class TestUncompressed(TiffStack):
    pass


class TestBigEndian(TiffStack):
    dtype = "int16"
    options = {"byteorder": ">", "bigtiff": True}


class TestTiledPredictor(TiffStack):
    shape = (3, 40, 50)
    options = {"tile": (16, 32), "compression": "lzw", "predictor": True}


class TestRgb(TiffStack):
    shape = (3, 20, 30, 3)
    dtype = "uint8"
    options = {"photometric": "rgb", "compression": "zstd"}


class TestVolumes(TiffStack):
    """Slices that are volumes themselves."""

    shape = (3, 5, 20, 30)
    options = {"compression": "deflate"}

    def test_time_comes_first(self, source: Source) -> None:
        assert source.metadata.axes == ("t", "z", "y", "x")


class TestImageJVolumes(TestVolumes):
    options = {"imagej": True, "metadata": {"axes": "ZYX"}}


class TestLargeSlices(TiffStack):
    """Slices that are not decoded whole."""

    shape = (3, 20, 30)
    options = {"compression": "deflate", "tile": (16, 16)}

    @pytest.fixture(autouse=True)
    def small_is_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stack, "_WHOLE_SLICE", 100)
        monkeypatch.setattr(stack, "_BAND", 200)

    def test_chunks(self, source: Source) -> None:
        assert source.chunks == (1, 20, 30)


class TestLargeUncompressedSlices(TestLargeSlices):
    options = {}

    def test_chunks(self, source: Source) -> None:
        assert source.chunks == (1, 3, 30)


class TestPng(SourceContract):
    shape = (5, 20, 30)

    def make(self, array: np.ndarray, folder: Path) -> Source:
        for z, image in enumerate(array):
            (folder / f"{z}.png").write_bytes(imagecodecs.png_encode(image))
        return open_source(folder)

    def test_is_png(self, source: Source) -> None:
        assert source.format == "stack of png slices"
        assert source.metadata.axes == ("z", "y", "x", "c")[: source.ndim]


class TestPngRgb(TestPng):
    shape = (3, 20, 30, 3)
    dtype = "uint8"


class TestJpeg(SourceContract):
    """Lossy: compared with what imagecodecs decodes."""

    shape = (4, 24, 32)
    dtype = "uint8"

    def array(self) -> np.ndarray:
        smooth = np.add.outer(np.arange(4), np.add.outer(np.arange(24), np.arange(32))).astype("uint8")
        return np.stack([imagecodecs.jpeg_decode(imagecodecs.jpeg_encode(image)) for image in smooth])

    def make(self, array: np.ndarray, folder: Path) -> Source:
        smooth = np.add.outer(np.arange(4), np.add.outer(np.arange(24), np.arange(32))).astype("uint8")
        for z, image in enumerate(smooth):
            (folder / f"{z}.jpg").write_bytes(imagecodecs.jpeg_encode(image))
        return open_source(folder / "*.jpg")


class TestPicture(SourceContract):
    shape = (20, 30, 3)
    dtype = "uint8"

    def make(self, array: np.ndarray, folder: Path) -> Source:
        (folder / "a.png").write_bytes(imagecodecs.png_encode(array))
        return open_source(folder / "a.png")

    def test_axes(self, source: Source) -> None:
        assert source.metadata.axes == ("y", "x", "c")


def test_reads_the_shared_picture(shared_data: Path) -> None:
    path = shared_data / "reference_image.png"
    with open_source(path) as source:
        np.testing.assert_array_equal(source[...], imagecodecs.png_decode(path.read_bytes()))


def test_natural_order() -> None:
    names = ["a2b10", "a2b9", "a10b1", "A1", "a02b1", "b"]
    shuffled = random.Random(0).sample(names, len(names))
    assert sorted(shuffled, key=natural_key) == ["A1", "a02b1", "a2b9", "a2b10", "a10b1", "b"]


def test_natural_order_of_names_that_begin_like_shorter_ones() -> None:
    assert sorted(["img10", "img2", "img", "IMG"], key=natural_key) == ["IMG", "img", "img2", "img10"]


def test_a_slice_that_is_not_stored_is_an_error_and_not_the_header_of_its_file(tmp_path: Path) -> None:
    folder = write_slices(textured((4, 8, 9), "uint8"), tmp_path, metadata=None, description="x" * 200)
    with tifffile.TiffFile(folder / "s2.tif", mode="r+") as file:
        for tag in ("StripOffsets", "StripByteCounts"):
            file.pages.first.tags[tag].overwrite(0)
    with pytest.raises(StorageError, match=r"s2\.tif are not stored"):
        open_source(folder, "*.tif")


def test_finds_upper_case_and_leaves_out_hidden_files_and_folders(tmp_path: Path) -> None:
    array = textured((3, 8, 9), "uint8")
    for name, image in zip(("a1.tif", "A2.TIF", "a3.Tif"), array, strict=True):
        tifffile.imwrite(tmp_path / name, image)
    (tmp_path / "._a1.tif").write_bytes(b"macOS")
    (tmp_path / "a0.tif").mkdir()
    with open_source(tmp_path, "*.tif") as source:
        np.testing.assert_array_equal(source[...], array)


def test_voxel_size_of_the_slices(tmp_path: Path) -> None:
    folder = write_slices(
        textured((3, 8, 9), "uint8"), tmp_path, resolution=(5000, 2500), resolutionunit="centimeter"
    )
    with open_source(folder, "*.tif") as source:
        assert source.metadata.axes == ("z", "y", "x")
        assert source.metadata.voxel_size == (1.0, 4.0, 2.0)
        assert source.metadata.units == (None, "micrometer", "micrometer")


def test_slices_encoded_differently_are_one_stack(tmp_path: Path) -> None:
    array = textured((6, 40, 50), "uint16")
    ways: list[dict[str, Any]] = [
        {},
        {"compression": "deflate"},
        {"compression": "lzw", "predictor": True, "rowsperstrip": 7},
        {"tile": (16, 32), "compression": "zstd"},
        {"byteorder": ">", "bigtiff": True},
        {"ome": True},
    ]
    for z, (image, options) in enumerate(zip(array, ways, strict=True)):
        tifffile.imwrite(tmp_path / f"{z}.tif", image, **options)
    with open_source(tmp_path, "*.tif") as source:
        np.testing.assert_array_equal(source[...], array)


class TestBadStacks:
    @pytest.mark.parametrize(
        ("odd", "found"),
        [
            (np.zeros((20, 31), "u2"), r"\(20, 31\) and dtype uint16"),
            (np.zeros((20, 30), "u1"), "dtype uint8"),
        ],
    )
    def test_slices_that_differ_are_named(self, odd: np.ndarray, found: str, tmp_path: Path) -> None:
        folder = write_slices(textured((12, 20, 30), "uint16"), tmp_path, compression="deflate")
        tifffile.imwrite(folder / "s7.tif", odd)
        with pytest.raises(InvalidArgumentError, match=rf"s0\.tif.*\(20, 30\).*uint16.*s7\.tif.*{found}"):
            open_source(folder, "*.tif")

    def test_in_a_very_long_stack_they_are_named_when_read(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(stack, "_CHECK_ALL", 5)
        monkeypatch.setattr(stack, "_CHECK_SOME", 4)
        folder = write_slices(textured((12, 20, 30), "uint16"), tmp_path)
        tifffile.imwrite(folder / "s1.tif", np.zeros((20, 31), "u2"))
        with open_source(folder, "*.tif") as source:
            source[0]
            with pytest.raises(InvalidArgumentError, match=r"s0\.tif.*s1\.tif"):
                source[0:2]

    def test_no_match_says_what_is_there(self, tmp_path: Path) -> None:
        folder = write_slices(textured((3, 8, 9), "uint8"), tmp_path)
        (folder / "notes.txt").touch()
        with pytest.raises(SourceNotFoundError, match=r"slices' matches '\*\.png'.*3 x \.tif, 1 x \.txt"):
            open_source(folder, "*.png")

    def test_empty_folder_and_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(SourceNotFoundError, match="no files"):
            open_source(tmp_path, "*.png")
        with pytest.raises(SourceNotFoundError, match="no folder"):
            open_source(tmp_path / "nowhere", "*.png")

    def test_slices_of_another_kind(self, tmp_path: Path) -> None:
        folder = write_slices(textured((3, 8, 9), "uint8"), tmp_path)
        (folder / "s9.png").write_bytes(imagecodecs.png_encode(textured((8, 9), "uint8")))
        with pytest.raises((StorageError, UnsupportedFormatError), match=r"s9\.png"):
            open_source(folder, "s*")
        (folder / "a.txt").write_text("no image")
        with pytest.raises(UnsupportedFormatError, match=r"a\.txt' is not a TIFF, PNG or JPEG"):
            open_source(folder, "*")
        (folder / "a.txt").write_text("")
        with pytest.raises(UnsupportedFormatError, match=r"a\.txt' is empty"):
            open_source(folder, "*")

    @pytest.mark.parametrize("options", [{}, {"compression": "deflate"}])
    @pytest.mark.parametrize("kept", [0, 6, 100, 500])
    def test_truncated_slice(self, kept: int, options: dict[str, Any], tmp_path: Path) -> None:
        folder = write_slices(textured((5, 20, 30), "uint16"), tmp_path, **options)
        os.truncate(folder / "s3.tif", kept)
        with pytest.raises((StorageError, UnsupportedFormatError), match=r"s3\.tif"):
            open_source(folder, "*.tif")

    def test_truncated_picture(self, tmp_path: Path) -> None:
        for z, image in enumerate(textured((3, 20, 30), "uint8")):
            (tmp_path / f"{z}.png").write_bytes(imagecodecs.png_encode(image))
        os.truncate(tmp_path / "1.png", 300)
        with open_source(tmp_path, "*.png") as source, pytest.raises(StorageError, match=r"1\.png.*decoded"):
            source[...]

    def test_corrupt_slice_is_named(self, tmp_path: Path) -> None:
        folder = write_slices(textured((3, 20, 30), "uint16"), tmp_path, compression="deflate")
        with (folder / "s1.tif").open("r+b") as file:
            file.seek(-600, os.SEEK_END)
            file.write(b"\xff" * 600)
        with open_source(folder, "*.tif") as source, pytest.raises(StorageError, match=r"s1\.tif is corrupt"):
            source[...]

    def test_a_slice_that_goes_away(self, tmp_path: Path) -> None:
        folder = write_slices(textured((50, 8, 9), "uint8"), tmp_path)
        with open_source(folder, "*.tif") as source:
            (folder / "s0.tif").unlink()
            with pytest.raises(SourceNotFoundError, match=r"s0\.tif"):
                source[...]

    def test_a_folder_that_has_changed(self, tmp_path: Path) -> None:
        folder = write_slices(textured((3, 8, 9), "uint8"), tmp_path)
        with open_source(folder, "*.tif") as source:
            spec = source.to_spec()
        tifffile.imwrite(folder / "s3.tif", textured((8, 9), "uint8"))
        with pytest.raises(StorageError, match="there were 3 slices"):
            from_spec(spec)

    def test_cannot_be_written_and_can_be_closed(self, tmp_path: Path) -> None:
        folder = write_slices(textured((3, 8, 9), "uint8"), tmp_path)
        with pytest.raises(ReadOnlyError):
            open_source(folder, "*.tif", mode="r+")
        source = open_source(folder, "*.tif")
        source.close()
        with pytest.raises(StorageError, match="closed"):
            source[...]


class TestCost:
    def test_a_slice_is_decoded_once_for_all_blocks(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        array = textured((8, 64, 64), "uint16")
        folder = write_slices(array, tmp_path, compression="deflate")
        decoded: list[str] = []
        plain = TiffSource._decode

        def counting(self: TiffSource, *rest: Any) -> np.ndarray:
            decoded.append(self.path)
            return plain(self, *rest)

        monkeypatch.setattr(TiffSource, "_decode", counting)
        with open_source(folder, "*.tif") as source:
            assert not decoded
            for y in range(0, 64, 16):
                box = Box((0, y, 0), (8, y + 16, 64))
                np.testing.assert_array_equal(source.read(box), array[box.slices])
        assert len(decoded) == len(set(decoded)) == 8

    def test_tifffile_is_asked_once_for_equal_slices(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        folder = write_slices(textured((20, 8, 9), "uint16"), tmp_path, compression="deflate")
        parsed: list[Any] = []
        plain = tifffile.TiffFile
        monkeypatch.setattr(tifffile, "TiffFile", lambda *a, **k: parsed.append(a) or plain(*a, **k))
        with open_source(folder, "*.tif") as source:
            source[...]
        assert len(parsed) == 2  # to see whether they are a set of OME-TIFFs, and how they are encoded

    def test_descriptors_are_few(self, tmp_path: Path) -> None:
        array = textured((100, 8, 9), "uint8")
        folder = write_slices(array, tmp_path)
        before = len(list(Path("/proc/self/fd").iterdir()))
        with open_source(folder, "*.tif") as source:
            np.testing.assert_array_equal(source.for_run(4, 0)[...], array)
            assert len(list(Path("/proc/self/fd").iterdir())) <= before + 32
        del source
        assert len(list(Path("/proc/self/fd").iterdir())) == before

    @pytest.mark.parametrize(
        "options", [{}, {"compression": "deflate"}, {"tile": (16, 16)}, {"bigtiff": True}, {"byteorder": ">"}]
    )
    def test_first_page_is_what_tifffile_says(self, options: dict[str, Any], tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, textured((300, 200), "uint16"), description="x" * 9000, **options)
        found = first_page(FileBytes.open(str(path)))
        with tifffile.TiffFile(path) as file:
            assert found is not None
            assert found.offsets == tuple(file.pages.first.dataoffsets)
            assert found.byte_counts == tuple(file.pages.first.databytecounts)

    def test_what_is_out_of_the_ordinary_is_left_to_tifffile(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr("bioimage_py.sources.tiff.alike.first_page", lambda file: None)
        array = textured((5, 20, 30), "uint16")
        folder = write_slices(array, tmp_path, compression="deflate")
        with open_source(folder, "*.tif") as source:
            np.testing.assert_array_equal(source[...], array)


def constant_slices(folder: Path, names: list[str], **options: Any) -> Path:
    """Write slices of which each holds its place in the list."""
    folder.mkdir(exist_ok=True)
    for n, name in enumerate(names):
        tifffile.imwrite(folder / f"{name}.tif", np.full((4, 5), n, "uint8"), **options)
    return folder


def grid(pattern: str, *extents: int) -> list[str]:
    return [pattern.format(*index) for index in np.ndindex(*extents)]


class TestOrder:
    @pytest.mark.parametrize(
        "names",
        [
            ["z1.0", "z1.25", "z1.5"],
            ["z0,25", "z0,5", "z10,0"],
            ["z-2", "z-1", "z0"],
            ["z_-4", "z_-3", "z_-2"],
            ["-1", "0", "+1"],
            ["scan-1", "scan-2", "scan-3"],
            ["scan -1", "scan -2", "scan -3"],
            ["v2.5e-4", "v1e-3", "v1e0"],
            ["s1.8", "s1.9", "s1.10"],
            ["2024.1.9", "2024.1.10", "2024.10.1"],
            ["s1", "s02", "S3"],
            ["a3e-99999", "a4", "a5"],
        ],
    )
    def test_by_number(self, names: list[str], tmp_path: Path) -> None:
        with open_source(constant_slices(tmp_path / "s", names)) as source:
            assert source[:, 0, 0].tolist() == [0, 1, 2]

    @pytest.mark.parametrize(
        ("names", "missing"),
        [
            (["s000", "s001", "s003"], "number 2 is"),
            (["s00", "s05", "s15", "s20"], "number 10 is"),
            (["z1.0", "z1.5", "z2.5", "z3.0"], "along z.*number 2 is"),
            (["c0_z0", "c0_z1", "c0_z3", "c1_z0", "c1_z1", "c1_z3"], "along z.*number 2 is"),
            (["2024.01.01_s1", "2024.01.05_s2", "2024.02.01_s4"], "number 3 is"),
        ],
    )
    def test_what_is_left_out_is_told_and_can_be_filled(
        self, names: list[str], missing: str, tmp_path: Path
    ) -> None:
        folder = constant_slices(tmp_path / "s", names)
        with pytest.warns(BioimagePyWarning, match=missing):
            source = open_source(folder)
        assert source[...].reshape(-1, 20)[:, 0].tolist() == list(range(len(names)))
        filled = open_source(folder, missing_planes="fill")
        with from_spec(filled.to_spec()) as again:
            np.testing.assert_array_equal(again[...], filled[...])
            assert again.shape == filled.shape != source.shape

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize(
        "names",
        [
            ["2024-01-05", "2024-01-06", "2024-01-09"],
            ["s0", "s10", "s20"],
            ["s3", "s57", "s1009"],
            ["z1.0", "z1.25", "z1.3"],
            ["a", "b", "c"],
        ],
    )
    def test_numbers_that_do_not_count_have_no_gaps(self, names: list[str], tmp_path: Path) -> None:
        assert open_source(constant_slices(tmp_path / "s", names)).shape == (3, 4, 5)

    def test_filled_slices_are_zero(self, tmp_path: Path) -> None:
        folder = constant_slices(tmp_path / "s", ["s1", "s2", "s4"])
        with open_source(folder, missing_planes="fill") as source:
            assert source[:, 3, 4].tolist() == [0, 1, 0, 2]
        with pytest.raises(InvalidArgumentError, match="'error' or 'fill', got 'zero'"):
            open_source(folder, missing_planes="zero")

    @pytest.mark.parametrize("other", ["s01.tif", "s1.TIFF"])
    def test_two_slices_of_one_number_are_an_error(self, other: str, tmp_path: Path) -> None:
        folder = constant_slices(tmp_path / "s", ["s1", "s2"])
        tifffile.imwrite(folder / other, np.zeros((4, 5), "u1"))
        with pytest.raises(InvalidArgumentError, match=r"s0?1.*s0?1.*the same number"):
            open_source(folder, "s*")


class TestAxesInNames:
    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize(
        ("names", "shape", "axes"),
        [
            (grid("scan_C{}_Z{}", 2, 3), (2, 3), ("c", "z")),
            (grid("t{:02}_c{}_z{:03}", 2, 2, 3), (2, 2, 3), ("t", "c", "z")),
            (grid("img_time{:03}_channel{:03}_position000_z{:03}", 2, 2, 3), (2, 2, 3), ("t", "c", "z")),
            (grid("scanC{}Z{}", 2, 3), (2, 3), ("c", "z")),
            (grid("exp_t{}_w{}DAPI_s1", 3, 2), (3, 2), ("t", "c")),
            (grid("t{:02}_{:03}", 2, 3), (2, 3), ("t", "z")),
            (grid("r01c01f01p{:02}-ch1", 3), (3,), ("z",)),
            (grid("r01c01f01p{1:02}-ch{0}sk1fk1fl1", 2, 3), (2, 3), ("c", "z")),
            (grid("scan_C12_slice{:03}", 3), (3,), ("z",)),
            ([f"z{z}_{z * 12.5}um" for z in range(3)], (3,), ("z",)),
            ([f"z{z}_20240105T10120{z}" for z in range(3)], (3,), ("z",)),
            ([f"z{z}_t{z * 707}" for z in range(3)], (3,), ("z",)),
            (["t1_001", "t1_002", "t2_003", "t2_004"], (4,), ("z",)),
            (["t0", "t1"], (2,), ("t",)),
        ],
    )
    def test_are_the_axes_of_the_volume(
        self, names: list[str], shape: tuple[int, ...], axes: tuple[str, ...], tmp_path: Path
    ) -> None:
        with open_source(constant_slices(tmp_path / "s", names)) as source:
            assert source.shape == (*shape, 4, 5)
            assert source.metadata.axes == (*axes, "y", "x")
            assert source[..., 0, 0].ravel().tolist() == list(range(len(names)))
            np.testing.assert_array_equal(source.for_run(2, 0)[...], source[...])

    def test_in_another_order_than_that_of_the_names(self, tmp_path: Path) -> None:
        folder = constant_slices(tmp_path / "s", grid("a_z{:02}_ch{:02}", 3, 2))
        with open_source(folder) as source:
            assert source.metadata.axes == ("c", "z", "y", "x")
            assert source[:, :, 0, 0].tolist() == [[0, 2, 4], [1, 3, 5]]
            assert source.read(Box((1, 1, 2, 0), (2, 3, 4, 5))).tolist() == [[[[n] * 5] * 2 for n in (3, 5)]]

    def test_slices_that_are_volumes(self, tmp_path: Path) -> None:
        array = textured((2, 3, 5, 8, 9), "uint16")
        for t, c in np.ndindex(2, 3):
            tifffile.imwrite(tmp_path / f"t{t}_c{c}.tif", array[t, c], compression="deflate")
        with open_source(tmp_path) as source:
            np.testing.assert_array_equal(source[...], array)
            assert source.metadata.axes == ("t", "c", "z", "y", "x")
        with open_source(tmp_path, "t1_*.tif") as part:
            np.testing.assert_array_equal(part[...], array[1])

    def test_channels_of_rgb_slices_are_not_those_of_the_names(self, tmp_path: Path) -> None:
        for c, z in np.ndindex(2, 3):
            tifffile.imwrite(tmp_path / f"C{c}_Z{z}.tif", np.full((8, 9, 3), c, "u1"), photometric="rgb")
        with open_source(tmp_path) as source:
            assert source.shape == (2, 3, 8, 9, 3)
            assert source.metadata.axes == ("i", "z", "y", "x", "c")

    def test_missing_combinations_are_listed_and_can_be_filled(self, tmp_path: Path) -> None:
        folder = constant_slices(tmp_path / "s", grid("C{}_Z{}", 2, 3)[:-2])
        with pytest.raises(SourceNotFoundError, match=r"c=1 z=1; c=1 z=2.*missing_planes='fill'"):
            open_source(folder)
        with open_source(folder, missing_planes="fill") as source:
            assert source[:, :, 0, 0].tolist() == [[0, 1, 2], [3, 0, 0]]
            np.testing.assert_array_equal(from_spec(source.to_spec())[...], source[...])

    @pytest.mark.parametrize(
        ("names", "match"),
        [
            (
                grid("pos{}_z{}", 2, 3),
                r"state z, and a further number 'pos' \(0, 1\).*a pattern such as 'pos0_\*",
            ),
            (grid("t{}_s{}", 2, 3), r"state t, and a further number 's' \(0, 1, 2\)"),
            (["dapi_z0", "dapi_z1", "gfp_z0", "gfp_z1"], "'dapi_z0.tif' and 'gfp_z0.tif' the same place"),
            ([*grid("C{}_Z{}", 2, 3), "overview1"], r"'overview1.tif' does not: give a pattern"),
        ],
    )
    def test_several_images_are_not_one(self, names: list[str], match: str, tmp_path: Path) -> None:
        with pytest.raises(InvalidArgumentError, match=match):
            open_source(constant_slices(tmp_path / "s", names))

    def test_two_numbers_without_axes_are_told(self, tmp_path: Path) -> None:
        with pytest.warns(BioimagePyWarning, match=r"2 numbers.*such as 'brain0_\*\.tif'"):
            source = open_source(constant_slices(tmp_path / "s", grid("brain{}_{:03}", 2, 3)))
        assert source.shape == (6, 4, 5)


class TestWhatIsNoSlice:
    @pytest.mark.filterwarnings("error")
    def test_thumbnails_and_previews_are_left_out(self, tmp_path: Path) -> None:
        folder = constant_slices(tmp_path / "s", ["s0", "s1"])
        for name in ("s0_thumb.tif", "a_preview.tif", "thumbnail.tif", "overview.tif"):
            tifffile.imwrite(folder / name, np.zeros((2, 2), "u1"))
        for name in ("s0_thumb.jpg", ".DS_Store", "Thumbs.db", "._s0.png", ".s0.tif"):
            (folder / name).write_bytes(b"x")
        with open_source(folder) as source:
            assert source.shape == (2, 4, 5)
            np.testing.assert_array_equal(from_spec(source.to_spec())[...], source[...])
        with open_source(folder, "*_thumb.tif") as source:
            assert source.shape == (1, 2, 2)

    def test_slices_that_are_all_called_preview(self, tmp_path: Path) -> None:
        with open_source(constant_slices(tmp_path / "s", ["preview1", "preview2"])) as source:
            assert source.shape == (2, 4, 5)

    @pytest.mark.parametrize("target", ["purged/s1.tif", "s1.tif"])
    def test_a_link_to_nothing_is_an_error(self, target: str, tmp_path: Path) -> None:
        folder = constant_slices(tmp_path / "s", ["s0", "s2"])
        (folder / "s1.tif").symlink_to(target)
        with pytest.raises((SourceNotFoundError, StorageError), match=r"s1\.tif"):
            open_source(folder)
        assert open_source(folder, "s[02].tif").shape == (2, 4, 5)

    def test_pipes_and_sockets_do_not_hang(self, tmp_path: Path) -> None:
        folder = constant_slices(tmp_path / "s", ["s0", "s2"])
        os.mkfifo(folder / "notes")
        assert open_source(folder).shape == (2, 4, 5)
        os.mkfifo(folder / "s1.tif")
        with pytest.raises(StorageError, match=r"s1\.tif.*is not a file but a pipe"):
            open_source(folder)

    def test_a_folder_of_folders_says_what_is_there(self, tmp_path: Path) -> None:
        for name in ("pos0", "pos1"):
            constant_slices(tmp_path / name, ["s0"])
        os.mkfifo(tmp_path / "s1.tif")
        with pytest.raises(
            UnsupportedFormatError, match=r"neither an array nor slices, but pos0/, pos1/, s1\.tif"
        ):
            open_source(tmp_path)

    def test_names_that_are_not_utf8_or_too_long(self, tmp_path: Path) -> None:
        folder = constant_slices(tmp_path / "s", ["s0", "s1"])
        (folder / "s1.tif").rename(os.fsdecode(os.fsencode(folder) + b"/s\xff1.tif"))
        assert open_source(folder)[:, 0, 0].tolist() == [0, 1]
        with pytest.raises(StorageError, match="too long"):
            open_source(tmp_path / ("x" * 256))


class TestCodings:
    def test_ccitt_options_are_those_of_each_slice(self, tmp_path: Path) -> None:
        pillow = pytest.importorskip("PIL.Image")
        images = [(np.add.outer(np.arange(40), np.arange(64)) // (5 + n) % 2).astype(bool) for n in range(4)]
        ways: list[tuple[str, dict[int, int]]] = [
            ("group3", {}),
            ("group3", {292: 1}),
            ("group4", {}),
            ("group3", {292: 4}),
        ]
        for n, (compression, tags) in enumerate(ways):
            pillow.fromarray(images[n]).save(tmp_path / f"s{n}.tif", compression=compression, tiffinfo=tags)
        with open_source(tmp_path) as source:
            np.testing.assert_array_equal(source[...], images)

    def test_jpeg_slices_of_different_colour_spaces(self, tmp_path: Path) -> None:
        image = np.repeat(np.arange(48, dtype="u1").reshape(6, 8) * 5, 3).reshape(6, 8, 3)
        image[..., 0] //= 2
        for n, photometric in enumerate(("rgb", "ycbcr")):
            tifffile.imwrite(
                tmp_path / f"s{n}.tif",
                image,
                photometric=photometric,
                compression="jpeg",
                compressionargs={"level": 99},
            )
        with open_source(tmp_path) as source:
            for n in range(2):
                np.testing.assert_array_equal(source[n], tifffile.imread(tmp_path / f"s{n}.tif"))

    @pytest.mark.parametrize("options", [{}, {"quality": 60, "progressive": True}, {"exif": b"thumbnail"}])
    def test_truncated_jpeg(self, options: dict[str, Any], tmp_path: Path) -> None:
        pillow = pytest.importorskip("PIL.Image")
        if options.get("exif"):
            inner = imagecodecs.jpeg_encode(np.zeros((8, 8), "u1"))
            options = {"exif": b"Exif\0\0" + inner}
        noise = np.random.default_rng(0).integers(0, 255, (3, 64, 64), dtype="u1")
        for n, image in enumerate(noise):
            pillow.fromarray(image).save(tmp_path / f"{n}.jpg", **options)
        with open_source(tmp_path) as source:
            assert source[...].shape == (3, 64, 64)
        whole = (tmp_path / "1.jpg").read_bytes()
        for kept in (0, 2, len(whole) // 3, len(whole) - 100, len(whole) - 2):
            for tail in (b"", b"\0" * 64):
                (tmp_path / "1.jpg").write_bytes(whole[:kept] + tail)
                with pytest.raises((StorageError, UnsupportedFormatError), match=r"1\.jpg"):
                    open_source(tmp_path)[...]
                with pytest.raises(BioimagePyError):
                    open_source(tmp_path / "1.jpg")
        (tmp_path / "1.jpg").write_bytes(whole + b"trailing")
        assert open_source(tmp_path / "1.jpg").shape == (64, 64)

    def test_strips_that_say_nothing_of_their_length(self, tmp_path: Path) -> None:
        array = textured((3, 8, 9), "uint8")
        folder = write_slices(array, tmp_path)
        with tifffile.TiffFile(folder / "s1.tif", mode="r+") as file:
            file.pages.first.tags["StripByteCounts"].overwrite(0)
        try:
            found = open_source(folder)[...]
        except StorageError:
            return
        np.testing.assert_array_equal(found, array)


class TestOmeSets:
    def write(self, folder: Path, n_files: int = 3, prefix: str = "c") -> np.ndarray:
        folder.mkdir(exist_ok=True)
        array = textured((n_files, 4, 8, 9), "uint16")
        data = "".join(
            f'<TiffData FirstC="{c}" FirstZ="{z}" IFD="{z}" PlaneCount="1"><UUID FileName="{prefix}{c}.ome.tif">urn:uuid:{prefix}{c}</UUID>'
            "</TiffData>"
            for c, z in np.ndindex(n_files, 4)
        )
        for c, volume in enumerate(array):
            xml = (
                f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
                f'UUID="urn:uuid:{prefix}{c}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="9" '
                f'SizeY="8" SizeZ="4" SizeC="{n_files}" SizeT="1">{data}</Pixels></Image></OME>'
            )
            with tifffile.TiffWriter(folder / f"{prefix}{c}.ome.tif") as writer:
                for z, plane in enumerate(volume):
                    writer.write(plane, metadata=None, description=None if z else xml)
        return array

    def test_the_set_is_read_once(self, tmp_path: Path) -> None:
        array = self.write(tmp_path / "s")
        with open_source(tmp_path / "s") as source:
            np.testing.assert_array_equal(source[...], array)
            assert source.metadata.axes == ("c", "z", "y", "x")
            np.testing.assert_array_equal(from_spec(source.to_spec())[...], array)

    def test_a_pattern_takes_a_part(self, tmp_path: Path) -> None:
        array = self.write(tmp_path / "s")
        with open_source(tmp_path / "s", "c[02].ome.tif") as source:
            np.testing.assert_array_equal(source[...], array[[0, 2]])

    def test_a_file_of_the_set_is_gone(self, tmp_path: Path) -> None:
        array = self.write(tmp_path / "s")
        (tmp_path / "s" / "c1.ome.tif").unlink()
        with pytest.raises(SourceNotFoundError, match=r"set of 3.*c1\.ome\.tif"):
            open_source(tmp_path / "s")
        with open_source(tmp_path / "s", missing_planes="fill") as source:
            np.testing.assert_array_equal(source[0], array[0])
            assert not source[1].any()

    def test_two_sets_are_not_one_stack(self, tmp_path: Path) -> None:
        array = self.write(tmp_path / "s")
        self.write(tmp_path / "s", prefix="d")
        with pytest.raises(InvalidArgumentError, match=r"a set of 3 OME-TIFFs.*d0\.ome\.tif"):
            open_source(tmp_path / "s")
        np.testing.assert_array_equal(open_source(tmp_path / "s", "c*.tif")[...], array)

    def test_a_set_that_was_renamed_is_read_file_by_file(self, tmp_path: Path) -> None:
        array = self.write(tmp_path / "s")
        for c in range(3):
            (tmp_path / "s" / f"c{c}.ome.tif").rename(tmp_path / "s" / f"channel{c}.tif")
        with open_source(tmp_path / "s") as source:
            np.testing.assert_array_equal(source[...], array)
