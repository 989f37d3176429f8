"""Pages of TIFFs that are not like the first one, not stored as they say, or not images of their own."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

from bioimage_py import open_source
from bioimage_py.errors import (
    AmbiguousSourceError,
    BioimagePyError,
    BioimagePyWarning,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.sources import family_of
from tests.pairwise import pairwise
from tests.sources.contract import textured


def rewrite(path: Path, page: int = 0, **tags: Any) -> None:
    """Overwrite values of tags in a file."""
    with tifffile.TiffFile(path, mode="r+") as file:
        for name, value in tags.items():
            file.pages[page].aspage().tags[name].overwrite(value)


def rename_tag(path: Path, page: int, name: str, code: int) -> None:
    """Put another tag in the place of one."""
    with tifffile.TiffFile(path) as file:
        place = file.pages[page].aspage().tags[name].offset
    with path.open("r+b") as raw:
        raw.seek(place)
        raw.write(struct.pack("<H", code))


def read(path: Path, **options: Any) -> np.ndarray:
    with open_source(path, **options) as source:
        return source[...]


def as_folder(path: Path, array: np.ndarray) -> Path:
    """Put the file between two whole slices of the same kind."""
    folder = path.parent / "slices"
    folder.mkdir()
    whole = path.with_name("whole.tif")
    for n, file in enumerate((whole, path, whole)):
        (folder / f"s{n}.tif").write_bytes(file.read_bytes())
    return folder


def both(path: Path, array: np.ndarray, error: str | None = None) -> None:
    """Read a damaged file alone, and as a slice between two that are whole: the same must come of it."""
    for where, expected in ((path, array), (as_folder(path, array), np.stack([array] * 3))):
        if error is None:
            np.testing.assert_array_equal(read(where), expected)
        else:
            with pytest.raises(StorageError, match=error):
                read(where)


class TestLengths:
    """Lengths of strips and tiles that are 0, missing, or wrong."""

    def write(self, folder: Path, array: np.ndarray, **options: Any) -> Path:
        for name in ("whole.tif", "a.tif"):
            tifffile.imwrite(folder / name, array, metadata=None, **options)
        return folder / "a.tif"

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"rowsperstrip": 4},
            {"rowsperstrip": 7},
            {"tile": (16, 16)},
            {"compression": "deflate", "rowsperstrip": 5},
            {"compression": "lzw"},
            {"compression": "jpeg", "tile": (16, 16)},
            {"compression": "deflate", "predictor": 2, "tile": (16, 16)},
        ],
    )
    def test_none_stated(self, options: dict[str, Any], tmp_path: Path) -> None:
        array = textured((20, 40), "uint8")
        path = self.write(tmp_path, array, **options)
        expected = tifffile.imread(path)
        name = "TileByteCounts" if "tile" in options else "StripByteCounts"
        with tifffile.TiffFile(path) as file:
            n = len(file.pages.first.databytecounts)
        rewrite(path, **{name: (0,) * n})
        both(path, expected)

    @pytest.mark.parametrize(
        "options", [{}, {"rowsperstrip": 4}, {"compression": "deflate", "rowsperstrip": 4}]
    )
    @pytest.mark.parametrize("lost", ["StripByteCounts", "RowsPerStrip"])
    def test_no_tag(self, options: dict[str, Any], lost: str, tmp_path: Path) -> None:
        array = textured((20, 40), "uint16")
        path = self.write(tmp_path, array, **options)
        if lost == "RowsPerStrip" and options:
            pytest.skip("without it a page is one strip")
        rename_tag(path, 0, lost, 280)
        both(path, array)

    @pytest.mark.parametrize("short", [1, 3, 40])
    def test_the_last_one_is_short_and_its_bytes_are_there(self, short: int, tmp_path: Path) -> None:
        array = textured((20, 40), "uint16")
        path = self.write(tmp_path, array, rowsperstrip=8)
        with tifffile.TiffFile(path) as file:
            counts = file.pages.first.databytecounts
        rewrite(path, StripByteCounts=(*counts[:-1], counts[-1] - short))
        both(path, array)

    def test_one_is_short_and_the_next_begins_there(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, textured((20, 40), "uint8"), rowsperstrip=8)
        with tifffile.TiffFile(path) as file:
            offsets, counts = file.pages.first.dataoffsets, file.pages.first.databytecounts
        rewrite(
            path,
            StripOffsets=(offsets[0], offsets[1] - 10, offsets[2] - 10),
            StripByteCounts=(counts[0] - 10, *counts[1:]),
        )
        both(path, np.zeros(0), "corrupt")

    def test_the_file_ends_before(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, textured((20, 40), "uint8"), rowsperstrip=8)
        path.write_bytes(path.read_bytes()[:-1])
        both(path, np.zeros(0), "truncated")

    def test_a_length_without_a_place(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, textured((20, 40), "uint8"), rowsperstrip=8, compression="zstd")
        with tifffile.TiffFile(path) as file:
            offsets = file.pages.first.dataoffsets
        rewrite(path, StripOffsets=(0, *offsets[1:]))
        both(path, np.zeros(0), "at byte 0")

    def test_neither_place_nor_length_is_missing(self, tmp_path: Path) -> None:
        array = textured((20, 40), "uint8")
        path = self.write(tmp_path, array, rowsperstrip=8)
        with tifffile.TiffFile(path) as file:
            offsets, counts = file.pages.first.dataoffsets, file.pages.first.databytecounts
        rewrite(path, StripOffsets=(offsets[0], 0, offsets[2]), StripByteCounts=(counts[0], 0, counts[2]))
        array[8:16] = 0
        np.testing.assert_array_equal(read(path), array)

    def test_too_few_strips(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, textured((20, 40), "uint8"), rowsperstrip=8, compression="zstd")
        rewrite(path, RowsPerStrip=4)
        both(path, np.zeros(0), "3 strips or tiles, its shape needs 5")


class TestTruncatedSegments:
    """Streams that end early, which some decoders fill up."""

    @pytest.mark.parametrize(
        ("kept", "compression", "options"),
        pairwise(
            [0.1, 0.5, 0.95],
            ["jpeg", "jpegxr", "jpeg2000", "webp", "png", "lzw", "deflate", "packbits"],
            [{}, {"tile": (64, 64)}],
        ),
    )
    def test_is_an_error(
        self, compression: str, options: dict[str, Any], kept: float, tmp_path: Path
    ) -> None:
        array = textured((96, 128, 3), "uint8")
        for name in ("whole.tif", "a.tif"):
            tifffile.imwrite(
                tmp_path / name, array, metadata=None, compression=compression, photometric="rgb", **options
            )
        path = tmp_path / "a.tif"
        with tifffile.TiffFile(path) as file:
            counts = file.pages.first.databytecounts
        cut = (*counts[:-1], int(counts[-1] * kept))
        rewrite(path, **{"TileByteCounts" if options else "StripByteCounts": cut})
        both(path, array, "corrupt")

    @pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
    @pytest.mark.parametrize(
        ("compression", "tags"),
        [
            ("group3", {}),
            ("group3", {292: 1}),
            ("group3", {292: 4}),
            ("group4", {}),
            ("group4", {266: 2}),
            ("tiff_ccitt", {}),
        ],
    )
    def test_fax(self, compression: str, tags: dict[int, int], kept: float, tmp_path: Path) -> None:
        from PIL import Image

        array = textured((96, 128), "uint8") > 100
        for name in ("whole.tif", "a.tif"):
            Image.fromarray(array).save(tmp_path / name, compression=compression, tiffinfo={262: 1, **tags})
        path = tmp_path / "a.tif"
        with Image.open(path) as image:
            np.testing.assert_array_equal(read(path), np.asarray(image))
        with tifffile.TiffFile(path) as file:
            (count,) = file.pages.first.databytecounts
        rewrite(path, StripByteCounts=int(count * kept))
        both(path, array, "corrupt")

    def test_a_thumbnail_in_the_header_of_a_jpeg_is_not_its_end(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, textured((96, 128), "uint8"), metadata=None, compression="jpeg")
        with tifffile.TiffFile(path) as file:
            (offset,), (count,) = file.pages.first.dataoffsets, file.pages.first.databytecounts
        data = path.read_bytes()
        thumbnail = imagecodecs.jpeg_encode(np.zeros((8, 8), "u1"))
        stream = data[offset : offset + count]
        header = b"\xff\xe1" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail
        stream = stream[:2] + header + stream[2:]
        whole = np.squeeze(imagecodecs.jpeg_decode(stream))
        path.write_bytes(data + stream)
        rewrite(path, StripOffsets=len(data), StripByteCounts=len(stream))
        np.testing.assert_array_equal(read(path), whole)
        rewrite(path, StripByteCounts=len(stream) // 2)
        with pytest.raises(StorageError, match="no end marker"):
            read(path)
        # Bytes behind the end marker do no harm.
        path.write_bytes(data + stream + bytes(7))
        rewrite(path, StripOffsets=len(data), StripByteCounts=len(stream) + 7)
        np.testing.assert_array_equal(read(path), whole)


class TestCodings:
    """Pages of one file that are encoded each in its own way."""

    def write(self, path: Path, pages: list[tuple[np.ndarray, dict[str, Any]]]) -> Path:
        with tifffile.TiffWriter(path) as writer:
            for page, options in pages:
                writer.write(page, metadata=None, contiguous=False, photometric="minisblack", **options)
        return path

    @pytest.mark.parametrize("n_pages", [3, 12])
    @pytest.mark.parametrize(
        ("first", "other"),
        [
            ({}, {"compression": "deflate"}),
            ({"compression": "deflate"}, {}),
            ({"compression": "deflate"}, {"compression": "zstd"}),
            ({"compression": "deflate"}, {"compression": "deflate", "predictor": 2}),
            ({"compression": "lzw", "predictor": 2}, {"compression": "lzw"}),
            ({"tile": (16, 16)}, {"tile": (16, 16), "compression": "zstd"}),
        ],
    )
    def test_each_is_decoded_by_its_own_tags(
        self, n_pages: int, first: dict[str, Any], other: dict[str, Any], tmp_path: Path
    ) -> None:
        array = textured((n_pages, 20, 32), "uint16")
        odd = (1, n_pages - 2)
        pages = [(page, other if n in odd else first) for n, page in enumerate(array)]
        np.testing.assert_array_equal(read(self.write(tmp_path / "a.tif", pages)), array)

    @pytest.mark.parametrize("ome", [False, True])
    def test_bit_order(self, ome: bool, tmp_path: Path) -> None:
        array = textured((10, 20, 32), "uint8")
        path = tmp_path / "a.tif"
        if ome:
            tifffile.imwrite(path, array, photometric="minisblack", ome=True)
        else:
            self.write(path, [(page, {}) for page in array])
        rewrite(path, 4, ResolutionUnit=2)
        rename_tag(path, 4, "ResolutionUnit", 266)  # FillOrder: the least bit first
        array[4] = np.packbits(np.unpackbits(array[4], bitorder="little")).reshape(array[4].shape)
        np.testing.assert_array_equal(read(path), array)

    def test_strips_that_are_cut_otherwise_are_refused(self, tmp_path: Path) -> None:
        array = textured((10, 20, 32), "uint16")
        pages = [
            (page, {"rowsperstrip": 7 if n == 4 else 8, "compression": "zstd"})
            for n, page in enumerate(array)
        ]
        path = self.write(tmp_path / "a.tif", pages)
        with pytest.raises(AmbiguousSourceError, match=r"2 series.*\(9, 20, 32\).*\(20, 32\)"):
            open_source(path)
        np.testing.assert_array_equal(read(path, key="1"), array[4])

    def test_a_page_of_another_dtype_among_many(self, tmp_path: Path) -> None:
        array = textured((12, 20, 32), "uint16")
        path = self.write(
            tmp_path / "a.tif", [(page.view("int16") if n == 4 else page, {}) for n, page in enumerate(array)]
        )
        with pytest.raises(AmbiguousSourceError, match=r"\(11, 20, 32\) uint16.*\(20, 32\) int16"):
            open_source(path)

    def test_where_white_is_0_in_some_pages_only_is_told(self, tmp_path: Path) -> None:
        array = textured((3, 20, 32), "uint8")
        path = self.write(tmp_path / "a.tif", [(page, {}) for page in array])
        rewrite(path, 1, PhotometricInterpretation=0)
        with pytest.warns(BioimagePyWarning, match="0 is white"):
            source = open_source(path)
        np.testing.assert_array_equal(source[...], array)
        folder = tmp_path / "slices"
        folder.mkdir()
        for n, page in enumerate(array):
            photometric = "miniswhite" if n == 1 else "minisblack"
            tifffile.imwrite(folder / f"{n}.tif", page, photometric=photometric, metadata=None)
        with pytest.warns(BioimagePyWarning, match="0 is white"):
            source = open_source(folder)
        np.testing.assert_array_equal(source[...], array)

    def test_ccitt_options(self, tmp_path: Path) -> None:
        from PIL import Image

        bits = textured((40, 64), "uint8") > 100
        folder = tmp_path / "fax"
        folder.mkdir()
        for n, options in enumerate((0, 1, 4, 5)):
            Image.fromarray(bits).save(
                folder / f"{n}.tif", compression="group3", tiffinfo={292: options, 262: 1}
            )
        expected = []
        for n in range(4):
            with Image.open(folder / f"{n}.tif") as image:
                expected.append(np.asarray(image))
        found = read(folder)
        for n in range(4):
            np.testing.assert_array_equal(found[n], expected[n])
            np.testing.assert_array_equal(np.squeeze(read(folder / f"{n}.tif")), expected[n])


def link(path: Path, page: int, to: int | None) -> None:
    """Let the pointer behind a page lead to another page."""
    with tifffile.TiffFile(path) as file:
        pages = list(file.pages)
        at = pages[page].offset
        target = 0 if to is None else pages[to].offset
    data = bytearray(path.read_bytes())
    (n,) = struct.unpack_from("<H", data, at)
    struct.pack_into("<I", data, at + 2 + 12 * n, target)
    path.write_bytes(data)


class TestLoops:
    @pytest.mark.parametrize(
        ("n_pages", "last", "to"), [(1, 0, 0), (5, 4, 0), (5, 4, 4), (5, 4, 2), (9, 5, 3), (130, 129, 60)]
    )
    @pytest.mark.parametrize("compression", [None, "zstd"])
    def test_each_page_is_read_once(
        self, n_pages: int, last: int, to: int, compression: str | None, tmp_path: Path
    ) -> None:
        array = textured((n_pages, 8, 9), "uint16")
        path = tmp_path / "loop.tif"
        with tifffile.TiffWriter(path) as writer:
            for page in array:
                writer.write(page, metadata=None, contiguous=False, compression=compression)
        link(path, last, to)
        with pytest.warns(BioimagePyWarning, match=rf"loop, after page {last} comes page {to} again"):
            source = open_source(path)
        np.testing.assert_array_equal(source[...].reshape(-1, 8, 9), array[: last + 1])

    def test_in_a_folder(self, tmp_path: Path) -> None:
        array = textured((3, 8, 9), "uint16")
        for n, page in enumerate(array):
            tifffile.imwrite(tmp_path / f"{n}.tif", page, metadata=None)
            link(tmp_path / f"{n}.tif", 0, 0)
        with pytest.warns(BioimagePyWarning, match="loop"):
            source = open_source(tmp_path)
        np.testing.assert_array_equal(source[...], array)

    def test_a_slice_with_a_second_page_is_not_like_one_that_loops(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "0.tif", textured((8, 9), "uint16"), metadata=None)
        link(tmp_path / "0.tif", 0, 0)
        with tifffile.TiffWriter(tmp_path / "1.tif") as writer:
            for page in textured((2, 8, 9), "uint16"):
                writer.write(page, metadata=None, contiguous=False)
        with pytest.warns(BioimagePyWarning), pytest.raises(BioimagePyError):
            open_source(tmp_path)


class TestRoles:
    """Pages that are smaller copies or masks of others."""

    @pytest.mark.parametrize(
        ("subfiletype", "same", "n_images"), pairwise([1, 4, 5], [True, False], [1, 2, 9])
    )
    def test_are_no_planes(self, subfiletype: int, same: bool, n_images: int, tmp_path: Path) -> None:
        array = textured((n_images, 20, 30), "uint8")
        path = tmp_path / "a.tif"
        side = textured((20, 30) if same else (5, 6), "uint8")
        with tifffile.TiffWriter(path) as writer:
            for page in array:
                writer.write(page, metadata=None, contiguous=False)
                writer.write(side, metadata=None, contiguous=False, subfiletype=1)
        for n in range(n_images):
            rewrite(path, 2 * n + 1, NewSubfileType=subfiletype)
        np.testing.assert_array_equal(read(path).reshape(array.shape), array)
        assert len(family_of("tiff").list_arrays(str(path))) == 2
        np.testing.assert_array_equal(read(path, key="1").reshape(-1, *side.shape)[0], side)

    def test_a_bilevel_mask(self, tmp_path: Path) -> None:
        array = textured((20, 30), "uint8")
        with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
            writer.write(array, metadata=None)
            writer.write(array > 100, metadata=None, subfiletype=4)
        np.testing.assert_array_equal(read(tmp_path / "a.tif"), array)

    def test_the_thumbnail_comes_first(self, tmp_path: Path) -> None:
        array = textured((200, 300), "uint16")
        with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
            writer.write(array[::13, ::17].astype("uint8"), metadata=None, subfiletype=1)
            writer.write(array, metadata=None)
        np.testing.assert_array_equal(read(tmp_path / "a.tif"), array)

    def test_the_old_tag_is_read_too(self, tmp_path: Path) -> None:
        array = textured((200, 300), "uint16")
        with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
            writer.write(array, metadata=None)
            writer.write(array[:20, :30], metadata=None, extratags=[(255, 3, 1, 2, True)])
        np.testing.assert_array_equal(read(tmp_path / "a.tif"), array)

    def test_a_file_of_nothing_else_is_read(self, tmp_path: Path) -> None:
        array = textured((3, 20, 30), "uint8")
        with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
            for page in array:
                writer.write(page, metadata=None, contiguous=False, subfiletype=1)
        np.testing.assert_array_equal(read(tmp_path / "a.tif"), array)

    def test_images_that_differ_stay_ambiguous(self, tmp_path: Path) -> None:
        with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
            writer.write(textured((20, 30), "uint8"), metadata=None)
            writer.write(textured((5, 6), "uint8"), metadata=None)
        with pytest.raises(AmbiguousSourceError, match="2 series"):
            open_source(tmp_path / "a.tif")


class TestLog:
    def test_what_tifffile_logs_becomes_a_warning(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, textured((20, 30), "uint8"), description="x" * 100, metadata=None)
        with tifffile.TiffFile(path) as file:
            place = file.pages.first.tags["ImageDescription"].offset
        with path.open("r+b") as raw:
            raw.seek(place + 8)
            raw.write(struct.pack("<I", 2**31))
        with pytest.warns(BioimagePyWarning, match=r"a\.tif.*unusual or damaged; tifffile says: .*270"):
            source = open_source(path)
        np.testing.assert_array_equal(source[...], textured((20, 30), "uint8"))
        assert not caplog.records
        assert capfd.readouterr().err == ""
        tifffile.TiffFile(path).close()  # what the user does with tifffile is the user's
        assert caplog.records


def test_unsupported_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, textured((20, 30), "uint8"), metadata=None, compression="deflate")
    rewrite(path, Compression=12345)
    with pytest.raises(UnsupportedFormatError, match="12345"):
        open_source(path)


def _kinds(folder: Path) -> dict[str, bytes]:
    """Small TIFFs of many kinds."""
    deep = textured((3, 24, 32), "uint16")
    flat = (deep >> 8).astype("uint8")
    kinds: list[tuple[np.ndarray, dict[str, Any]]] = [
        (deep, {"metadata": None}),
        (deep, {}),
        (deep, {"imagej": True, "resolution": (4, 4), "metadata": {"unit": "um", "spacing": 2.0}}),
        (deep, {"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 0.5}}),
        (deep, {"bigtiff": True, "byteorder": ">", "compression": "zstd", "tile": (16, 16)}),
        (deep, {"compression": "deflate", "rowsperstrip": 5, "predictor": 2, "metadata": None}),
        (flat, {"compression": "lzw"}),
        (flat, {"compression": "packbits", "metadata": None}),
        (flat, {"compression": "jpeg", "tile": (16, 16)}),
        (flat > 100, {}),
        (np.moveaxis(flat, 0, -1).copy(), {"photometric": "rgb"}),
        (flat, {"photometric": "rgb", "planarconfig": "separate", "compression": "deflate"}),
        (deep[:, :16, :16], {"tile": (3, 16, 16), "volumetric": True}),
    ]
    made = {}
    for n, (array, options) in enumerate(kinds):
        tifffile.imwrite(folder / "kind.tif", array, **({"photometric": "minisblack"} | options))
        made[f"kind{n}.tif"] = (folder / "kind.tif").read_bytes()
    with tifffile.TiffWriter(folder / "kind.tif") as writer:
        writer.write(flat[0], subifds=1, tile=(16, 16))
        writer.write(flat[0, ::2, ::2], subfiletype=1, tile=(16, 16))
        writer.write(flat[1] > 100, subfiletype=4)
    return made | {"pyramid.tif": (folder / "kind.tif").read_bytes()}


def _damaged(data: bytes, rng: np.random.Generator) -> bytes:
    found = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        # Mostly what stands before the voxels.
        at = int(rng.integers(2, len(found) if rng.random() < 0.3 else min(len(found), 600)))
        kind = rng.integers(6)
        if kind == 0:
            found[at] = rng.integers(256)
        elif kind == 1:
            found[at] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            found[at : at + 4] = bytes([255] * 4)
        elif kind == 3:
            found[at : at + 4] = bytes(4)
        elif kind == 4:
            found[at : at + 4] = int(rng.integers(2**32)).to_bytes(4, "little")
        else:
            found = found[: max(16, int(len(found) * rng.random()))]
    return bytes(found)


@pytest.mark.filterwarnings("ignore::bioimage_py.errors.BioimagePyWarning")
@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_raise_nothing_foreign(
    seed: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kinds = _kinds(tmp_path)
    folder = tmp_path / "slices"
    folder.mkdir()
    refused = 0
    for n in range(40):
        rng = np.random.default_rng((seed, n))
        name = sorted(kinds)[rng.integers(len(kinds))]
        (folder / "0.tif").write_bytes(kinds[name])
        (folder / "1.tif").write_bytes(_damaged(kinds[name], rng))
        for path in (folder / "1.tif", folder):
            try:
                with open_source(path) as source:
                    assert source.metadata is not None
                    if source.nbytes < 2**26:
                        source[...]
            except BioimagePyError:
                refused += 1
    assert refused
    assert "tifffile" not in capfd.readouterr().err


@pytest.mark.filterwarnings("ignore:.*invalid data type")  # some releases of tifffile say it too
@pytest.mark.parametrize("tag", [256, 257])
@pytest.mark.parametrize(("n_pages", "page"), [(1, 0), (3, 0), (3, 1)])
def test_a_page_that_states_no_extent_is_damaged_and_not_empty(
    tmp_path: Path, tag: int, n_pages: int, page: int
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, textured((n_pages, 16, 24), "uint16"), metadata=None, photometric="minisblack")
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        place = tiff.pages[page].tags[tag].offset
    data[place + 2 : place + 4] = b"\xff\xff"
    path.write_bytes(data)
    with pytest.raises(StorageError, match=rf"page {page} has no .*tag {tag}"):
        open_source(path)
