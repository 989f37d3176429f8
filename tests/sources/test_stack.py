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
    InvalidArgumentError,
    ReadOnlyError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.geometry import Box
from bioimage_py.sources import Source, from_spec, open_source, stack
from bioimage_py.sources.file_bytes import FileBytes
from bioimage_py.sources.stack_listing import natural_key
from bioimage_py.sources.tiff import TiffSource
from bioimage_py.sources.tiff_ifd import first_page
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
        with pytest.raises(UnsupportedFormatError, match=r"a\.txt' is no TIFF, PNG or JPEG"):
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
        assert len(parsed) == 1

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
        monkeypatch.setattr("bioimage_py.sources.stack_slices.first_page", lambda file: None)
        array = textured((5, 20, 30), "uint16")
        folder = write_slices(array, tmp_path, compression="deflate")
        with open_source(folder, "*.tif") as source:
            np.testing.assert_array_equal(source[...], array)
