"""TIFF files of every kind, against tifffile's own reading."""
# ruff: noqa: RUF012 - the options of a test class are never changed

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bioimage_py.errors import (
    AmbiguousSourceError,
    BioimagePyError,
    InvalidArgumentError,
    ReadOnlyError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.geometry import Box
from bioimage_py.sources import Source, family_of, from_spec, open_source
from bioimage_py.sources.tiff import TiffSource, axis_names
from tests.sources.contract import SourceContract, textured


class Written(SourceContract):
    """A file that tifffile writes with `options`."""

    options: dict[str, Any] = {}
    codec = ""

    def make(self, array: np.ndarray, folder: Path) -> Source:
        tifffile.imwrite(folder / "image.tif", array, **{"photometric": "minisblack"} | self.options)
        return open_source(folder / "image.tif")

    def test_names_its_codec(self, source: Source) -> None:
        assert source.codec == self.codec
        assert (source.chunks is None) == (source.codec == "" and "tile" not in self.options)


class TestUncompressed(Written):
    pass


class TestUncompressedPages(Written):
    """Pages with gaps between them, each of which has to be found."""

    def make(self, array: np.ndarray, folder: Path) -> Source:
        with tifffile.TiffWriter(folder / "image.tif") as writer:
            for page in array:
                writer.write(page, contiguous=False, metadata=None)
        return open_source(folder / "image.tif")


class TestBigEndianBigTiff(Written):
    dtype = "float32"
    options = {"bigtiff": True, "byteorder": ">"}


class TestBigEndianTiled(Written):
    options = {"byteorder": ">", "tile": (16, 16), "compression": "zstd"}
    codec = "zstd"


class TestTiledDeflate(Written):
    shape = (3, 70, 90)
    options = {"tile": (32, 48), "compression": "deflate"}
    codec = "deflate"


class TestManyTilesAtOnce(Written):
    shape = (2, 150, 170)
    dtype = "uint8"
    options = {"tile": (16, 16), "compression": "deflate"}
    codec = "deflate"


class TestTiledUncompressed(Written):
    shape = (3, 70, 90)
    options = {"tile": (32, 48)}


class TestStrippedLzwPredictor(Written):
    shape = (3, 50, 60)
    options = {"compression": "lzw", "predictor": True, "rowsperstrip": 7}
    codec = "lzw + predictor 2"


class TestZstdFloatPredictor(Written):
    dtype = "float32"
    options = {"compression": "zstd", "predictor": 3}
    codec = "zstd + predictor 3"


class TestPackbits(Written):
    dtype = "int16"
    options = {"compression": "packbits"}
    codec = "packbits"


class TestOneBit(Written):
    dtype = "bool"
    options = {"compression": "deflate", "photometric": "minisblack"}
    codec = "deflate"


class TestOnePage(Written):
    shape = (40, 50)


class TestSixAxes(Written):
    shape = (2, 1, 3, 2, 20, 21)
    dtype = "uint8"
    options = {"compression": "deflate"}
    codec = "deflate"


class TestComplex(Written):
    dtype = "complex64"


class TestRgb(Written):
    shape = (4, 30, 40, 3)
    dtype = "uint8"
    options = {"photometric": "rgb", "compression": "deflate", "predictor": True}
    codec = "deflate + predictor 2"


class TestRgbUncompressed(Written):
    shape = (4, 30, 40, 3)
    dtype = "uint8"
    options = {"photometric": "rgb"}


class TestPlanarRgb(Written):
    shape = (4, 3, 40, 50)
    dtype = "uint8"
    options = {"photometric": "rgb", "planarconfig": "separate", "tile": (16, 32), "compression": "deflate"}
    codec = "deflate"


class TestVolumetricTiles(Written):
    shape = (40, 70, 50)
    options = {"tile": (16, 32, 32), "compression": "zstd", "volumetric": True}
    codec = "zstd"


class TestImageJ(Written):
    shape = (2, 3, 2, 20, 30)
    options = {"imagej": True, "metadata": {"axes": "TZCYX"}}


class TestOme(Written):
    shape = (2, 2, 3, 20, 30)
    options = {"ome": True, "metadata": {"axes": "TCZYX"}, "compression": "deflate"}
    codec = "deflate"


class TestJpeg(SourceContract):
    """Lossy: compared with what tifffile decodes."""

    shape = (2, 64, 80)
    dtype = "uint8"
    options: dict[str, Any] = {"compression": "jpeg", "tile": (32, 48)}

    def array(self) -> np.ndarray:
        y, x = np.mgrid[: self.shape[1], : self.shape[2]]
        stored = np.stack([(x + y + 40 * z) % 256 for z in range(self.shape[0])]).astype("uint8")
        if len(self.shape) == 4:
            stored = np.stack([stored, stored // 2, 255 - stored], axis=-1)
        return stored

    @pytest.fixture
    def expected(self, tmp_path: Path) -> np.ndarray:
        tifffile.imwrite(tmp_path / "image.tif", self.array(), **self.options)
        return tifffile.imread(tmp_path / "image.tif")

    def make(self, array: np.ndarray, folder: Path) -> Source:
        return open_source(folder / "image.tif")


class TestJpegRgbStrips(TestJpeg):
    shape = (2, 64, 80, 3)
    options = {"compression": "jpeg", "photometric": "rgb", "rowsperstrip": 16}


class TestPyramid(SourceContract):
    """Level 1 of a pyramid in SubIFDs."""

    shape = (3, 64, 96)

    def make(self, array: np.ndarray, folder: Path) -> Source:
        full = np.repeat(np.repeat(array, 2, 1), 2, 2)
        with tifffile.TiffWriter(folder / "image.ome.tif", ome=True) as writer:
            options: dict[str, Any] = {"tile": (32, 32), "compression": "deflate"}
            about = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2.0}
            writer.write(full, subifds=1, metadata=about, **options)
            writer.write(array, subfiletype=1, **options)
        with open_source(folder / "image.ome.tif") as whole:
            np.testing.assert_array_equal(whole[...], full)
            assert whole.metadata.voxel_size == (2.0, 0.25, 0.5)
        return open_source(folder / "image.ome.tif", level=1)

    def test_its_voxels_are_larger(self, source: Source) -> None:
        assert source.metadata.voxel_size == (2.0, 0.5, 1.0)
        assert source.metadata.units == ("micrometer",) * 3

    def test_there_is_no_third_level(self, source: TiffSource) -> None:
        with pytest.raises(SourceNotFoundError, match="2 pyramid levels"):
            open_source(source.path, level=2)


class TestSeveralFiles(SourceContract):
    """An OME-TIFF whose planes are in two files."""

    shape = (2, 20, 30)

    def make(self, array: np.ndarray, folder: Path) -> Source:
        write_two_file_ome(array, folder)
        return open_source(folder / "a.ome.tif")

    def test_a_missing_file_is_an_error_unless_fill_is_asked_for(
        self, source: Source, expected: np.ndarray, tmp_path: Path
    ) -> None:
        (tmp_path / "b.ome.tif").unlink()
        with pytest.raises(StorageError, match=r"1 of 2 planes .*\(1,\)"):
            open_source(tmp_path / "a.ome.tif")
        with open_source(tmp_path / "a.ome.tif", missing_planes="fill") as filled:
            np.testing.assert_array_equal(filled[0], expected[0])
            assert not filled[1].any()
            assert filled.fill_value == 0
            with from_spec(filled.to_spec()) as again:
                assert not again[1].any()


def write_two_file_ome(array: np.ndarray, folder: Path) -> None:
    planes = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{n}.ome.tif">urn:uuid:00000000-0000-0000-0000-00000000000{z}</UUID></TiffData>'
        for z, n in enumerate("ab")
    )
    for z, n in enumerate("ab"):
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:00000000-0000-0000-0000-00000000000{z}"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            'DimensionOrder="XYZCT" Type="uint16" SizeX="30" SizeY="20" SizeZ="2" SizeC="1" SizeT="1">'
            f'<Channel ID="Channel:0:0"/>{planes}</Pixels></Image></OME>'
        )
        tifffile.imwrite(folder / f"{n}.ome.tif", array[z], description=xml, metadata=None)


def test_imagej_stack_with_one_page_entry(tmp_path: Path) -> None:
    array = textured((5, 20, 30), "uint16")
    path = tmp_path / "big.tif"
    tifffile.imwrite(path, array[0], imagej=True, metadata=None)
    tifffile.imwrite(path, array, imagej=True)
    with tifffile.TiffFile(path) as file:
        first = file.pages.first
        at = first.offset + 2 + 12 * len(first.tags)
    data = bytearray(path.read_bytes())
    data[at : at + 4] = bytes(4)
    path.write_bytes(data)
    with open_source(path) as source:
        np.testing.assert_array_equal(source[...], array)
    path.write_bytes(data[:-1200])
    with pytest.raises(StorageError, match="truncated"):
        open_source(path)


@pytest.mark.parametrize(
    "options", [{"ome": True}, {"imagej": True}, {"photometric": "rgb"}, {"metadata": None}]
)
def test_is_what_tifffile_reads(options: dict[str, Any], tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", textured((4, 20, 30, 3), "uint8"), **options)
    want = tifffile.imread(tmp_path / "a.tif")
    with open_source(tmp_path / "a.tif") as source:
        np.testing.assert_array_equal(source[...], want)
        assert source.metadata.axes is not None
        assert len(source.metadata.axes) == want.ndim


@pytest.mark.filterwarnings(
    "ignore:.*zero-size array:UserWarning"
)  # tifffile's, while the test writes the file
def test_no_voxels(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((0, 5, 6), "uint8"))
    with open_source(tmp_path / "a.tif") as source:
        assert source.size == 0
        assert source[...].size == 0


def test_missing_tiles_read_as_fill(tmp_path: Path) -> None:
    path = tmp_path / "sparse.tif"
    array = textured((64, 64), "uint16")
    tifffile.imwrite(path, array, tile=(32, 32), compression="zstd")
    with tifffile.TiffFile(path, mode="r+") as file:
        tags = file.pages.first.tags
        for tag in ("TileOffsets", "TileByteCounts"):
            values = list(tags[tag].value)
            values[1] = 0
            tags[tag].overwrite(values)
    array[:32, 32:] = 0
    with open_source(path) as source:
        assert source.fill_value == 0
        np.testing.assert_array_equal(source[...], array)


def test_an_uncompressed_page_that_is_not_stored_is_not_the_header_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "sparse.tif"
    tifffile.imwrite(path, textured((8, 9), "uint8"), metadata=None, description="x" * 200)
    with tifffile.TiffFile(path, mode="r+") as file:
        for tag in ("StripOffsets", "StripByteCounts"):
            file.pages.first.tags[tag].overwrite(0)
    with pytest.raises(StorageError, match="are not stored"):
        open_source(path)
    with open_source(path, missing_planes="fill") as filled:
        np.testing.assert_array_equal(filled[...], np.zeros((8, 9), "uint8"))


class TestSeries:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "several.tif"
        with tifffile.TiffWriter(path) as writer:
            writer.write(textured((3, 20, 30), "uint16"), photometric="minisblack", metadata={"name": "raw"})
            writer.write(textured((40, 50), "uint8"), metadata={"name": "mask"})
        return path

    def test_several_and_no_choice_lists_them(self, path: Path) -> None:
        with pytest.raises(
            AmbiguousSourceError, match=r"0 'raw' \(3, 20, 30\) uint16; 1 'mask' \(40, 50\) uint8"
        ):
            open_source(path)
        assert family_of("tiff").list_arrays(str(path)) == [
            "0 'raw' (3, 20, 30) uint16",
            "1 'mask' (40, 50) uint8",
        ]

    @pytest.mark.parametrize("choice", [{"key": "1"}, {"key": "mask"}, {"series": 1}, {"series": "mask"}])
    def test_chosen_by_number_or_name(self, path: Path, choice: dict[str, Any]) -> None:
        with open_source(path, **choice) as source, from_spec(source.to_spec()) as again:
            np.testing.assert_array_equal(source[...], textured((40, 50), "uint8"))
            np.testing.assert_array_equal(again[...], source[...])
            assert source.name.endswith(":1")
            with open_source(path, "0") as other:
                assert not source.identities() & other.identities()

    def test_wrong_choices(self, path: Path) -> None:
        with pytest.raises(SourceNotFoundError, match=r"no series '2'.*0 'raw'"):
            open_source(path, "2")
        with pytest.raises(InvalidArgumentError, match="give one"):
            open_source(path, "0", series=1)
        with pytest.raises(InvalidArgumentError, match="missing_planes"):
            open_source(path, "0", missing_planes="zero")

    def test_a_thumbnail_is_no_second_image(self, tmp_path: Path) -> None:
        with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
            writer.write(
                textured((3, 20, 30), "uint16"), photometric="minisblack", metadata={"name": "image"}
            )
            writer.write(textured((8, 9), "uint8"), metadata={"name": "Thumbnail"})
        with open_source(tmp_path / "a.tif") as source:
            assert source.shape == (3, 20, 30)


class TestBadFiles:
    def test_empty(self, tmp_path: Path) -> None:
        (tmp_path / "a.tif").touch()
        with pytest.raises(StorageError, match="found 0 bytes"):
            open_source(tmp_path / "a.tif")

    def test_no_tiff(self, tmp_path: Path) -> None:
        (tmp_path / "a.tif").write_bytes(b"this is no TIFF at all" * 9)
        with pytest.raises(UnsupportedFormatError, match=r"a\.tif' is named like a TIFF"):
            open_source(tmp_path / "a.tif")

    def test_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(SourceNotFoundError, match=r"a\.tif"):
            open_source(tmp_path / "a.tif")

    def test_cannot_be_written(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), "u1"))
        with pytest.raises(ReadOnlyError, match="can only be read"):
            open_source(tmp_path / "a.tif", mode="r+")

    @pytest.mark.parametrize(
        "options", [{}, {"compression": "zstd"}, {"imagej": True}, {"metadata": None}, {"ome": True}]
    )
    @pytest.mark.parametrize("kept", [0.05, 0.4, 0.8, 0.999])
    @pytest.mark.filterwarnings("ignore:.*unusual or damaged")
    def test_truncated(self, options: dict[str, Any], kept: float, tmp_path: Path) -> None:
        path = tmp_path / "cut.tif"
        tifffile.imwrite(path, textured((12, 40, 50), "uint16"), **options)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * kept)])
        try:
            with open_source(path) as source:
                found = source[...]
        except (StorageError, UnsupportedFormatError) as error:
            assert "cut.tif" in str(error)  # noqa: PT017 - the other way out is as good
        else:  # only the list of pages behind the voxels was cut off
            assert kept > 0.9
            np.testing.assert_array_equal(found, textured((12, 40, 50), "uint16"))

    @pytest.mark.parametrize("kept", [0.3, 0.9])
    def test_truncated_between_its_pages(self, kept: float, tmp_path: Path) -> None:
        path = tmp_path / "cut.tif"
        with tifffile.TiffWriter(path) as writer:
            for page in textured((12, 40, 50), "uint16"):
                writer.write(page, contiguous=False, metadata=None, compression="zstd")
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * kept)])
        with pytest.raises(StorageError, match="truncated"):
            open_source(path)

    @pytest.mark.filterwarnings("ignore::bioimage_py.errors.BioimagePyWarning")
    @pytest.mark.parametrize("options", [{}, {"compression": "zstd"}, {"imagej": True}, {"ome": True}])
    def test_damaged_headers_raise_nothing_foreign(self, options: dict[str, Any], tmp_path: Path) -> None:
        path = tmp_path / "damaged.tif"
        tifffile.imwrite(path, textured((9, 40, 50), "uint16"), **options)
        whole, refused = path.read_bytes(), 0
        for seed in range(25):
            rng = np.random.default_rng(seed)
            data = bytearray(whole)
            data[rng.integers(4, 300)] = rng.integers(256)
            path.write_bytes(data)
            try:
                with open_source(path) as source:
                    source[...]
            except BioimagePyError:
                refused += 1
        assert refused

    def test_shrinks_while_it_is_open(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, textured((12, 40, 50), "uint16"))
        with open_source(path) as source:
            os.truncate(path, 30_000)
            with pytest.raises(StorageError, match=r"truncated.*expected 48000 bytes"):
                source[...]

    def test_corrupt_tile_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, textured((5, 256, 256), "uint16"), tile=(128, 128), compression="deflate")
        with tifffile.TiffFile(path) as file:
            at = file.pages[1].dataoffsets[2]
        with path.open("r+b") as raw:
            raw.seek(at)
            raw.write(b"\xff" * 40)
        with open_source(path) as source:
            source[0], source[1, :128]
            with pytest.raises(StorageError, match=r"a\.tif is corrupt: segment 2 of plane \(1,\).*deflate"):
                source[...]

    def test_closed(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "a.tif", np.ones((4, 5), "u1"))
        source = open_source(tmp_path / "a.tif")
        twin = source.for_run(1, 0)
        source.close()
        with pytest.raises(StorageError, match="closed"):
            source[...]
        assert twin[...].all()


class TestMetadata:
    def write(self, folder: Path, **options: Any) -> Source:
        options = {"photometric": "minisblack"} | options
        tifffile.imwrite(folder / "a.tif", textured((2, 3, 20, 30), "uint16"), **options)
        return open_source(folder / "a.tif")

    def test_ome(self, tmp_path: Path) -> None:
        about = {"axes": "CZYX", "Channel": {"Name": ["dapi", "gfp"]}}
        for axis, size in zip("XYZ", (100.0, 200.0, 300.0), strict=True):
            about |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "nm"}
        with self.write(tmp_path, ome=True, metadata=about) as source:
            found = source.metadata
            assert source.format == "ome-tiff"
        assert found.axes == ("c", "z", "y", "x")
        assert found.voxel_size == (1.0, 300.0, 200.0, 100.0)
        assert found.units == (None, "nanometer", "nanometer", "nanometer")
        assert found.channel_names == ("dapi", "gfp")

    def test_imagej(self, tmp_path: Path) -> None:
        about = {"axes": "TZYX", "spacing": 3.0, "unit": "um", "finterval": 0.5}
        with self.write(tmp_path, imagej=True, resolution=(2.0, 4.0), metadata=about) as source:
            found = source.metadata
            assert source.format == "imagej tiff"
        assert found.axes == ("t", "z", "y", "x")
        assert found.voxel_size == (0.5, 3.0, 0.25, 0.5)
        assert found.units == ("second", "micrometer", "micrometer", "micrometer")

    @pytest.mark.parametrize(
        ("options", "size"),
        [
            ({"resolution": (5000, 2500), "resolutionunit": "centimeter"}, (1.0, 1.0, 4.0, 2.0)),
            ({"resolution": (25400, 25400), "resolutionunit": "inch"}, (1.0, 1.0, 1.0, 1.0)),
            ({"resolution": (72, 72), "resolutionunit": "inch"}, None),
            ({"resolution": (118.11, 118.11), "resolutionunit": "centimeter"}, None),
            ({"resolution": (5000, 5000), "resolutionunit": "none"}, None),
            ({}, None),
        ],
    )
    def test_resolution_tags(self, options: dict[str, Any], size: Any, tmp_path: Path) -> None:
        with self.write(tmp_path, **options) as source:
            assert source.metadata.voxel_size == (None if size is None else pytest.approx(size))
            assert (source.metadata.units is None) == (size is None)

    @pytest.mark.parametrize(
        "text", ["<OME", '<?xml version="1.0"?><OME xmlns="x"><Image/></OME>', "ImageJ=1\nunit=\n"]
    )
    def test_malformed_is_no_reason_not_to_open(self, text: str, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "a.tif", textured((20, 30), "uint8"), description=text, metadata=None)
        with open_source(tmp_path / "a.tif") as source:
            np.testing.assert_array_equal(source[...], textured((20, 30), "uint8"))
            assert source.metadata.voxel_size is None
            assert source.metadata.attributes["tiff_description"].strip() == text.strip()

    @pytest.mark.parametrize(
        ("letters", "names"),
        [
            ("IYX", "z y x"),
            ("QYXS", "z y x c"),
            ("CYXS", "c y x s"),
            ("TZCYX", "t z c y x"),
            ("QQYX", "q q1 y x"),
        ],
    )
    def test_axes(self, letters: str, names: str) -> None:
        assert axis_names(letters) == tuple(names.split())


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class TestCost:
    """What a read costs, in decoded segments, bytes and descriptors."""

    @pytest.fixture
    def decoded(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
        calls: list[tuple[int, int]] = []
        plain = TiffSource._decode

        def counting(self: TiffSource, page: int, segment: int, *rest: Any) -> np.ndarray:
            calls.append((page, segment))
            return plain(self, page, segment, *rest)

        monkeypatch.setattr(TiffSource, "_decode", counting)
        return calls

    @pytest.mark.parametrize("options", [{"rowsperstrip": 8}, {"tile": (32, 32)}])
    def test_a_segment_is_decoded_once_for_all_blocks(
        self, options: dict[str, Any], decoded: list[tuple[int, int]], tmp_path: Path
    ) -> None:
        array = textured((6, 64, 64), "uint16")
        tifffile.imwrite(tmp_path / "a.tif", array, compression="deflate", **options)
        with open_source(tmp_path / "a.tif") as source:
            out = np.zeros_like(array)
            for y in range(0, 64, 16):
                for x in range(0, 64, 16):
                    box = Box((0, y, x), (6, y + 16, x + 16))
                    out[box.slices] = source.read(box)
        np.testing.assert_array_equal(out, array)
        assert len(decoded) == len(set(decoded))

    def test_one_tile_does_not_load_the_file(self, decoded: list[tuple[int, int]], tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, textured((20, 512, 512), "uint16"), tile=(128, 128), compression="zstd")
        with open_source(path) as source:
            tracemalloc.start()
            try:
                source[10, 100:110, 100:110]
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert decoded == [(10, 0)]
        assert peak < 2**18 < path.stat().st_size / 20

    def test_descriptors_do_not_add_up(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "a.tif", textured((5, 40, 50), "uint16"), compression="zstd")
        before = open_descriptors()
        for _ in range(20):
            with open_source(tmp_path / "a.tif") as source:
                twins = [source.for_run(2, 0) for _ in range(3)]
                assert all(np.array_equal(twin[1], source[1]) for twin in twins)
                assert open_descriptors() <= before + 1
            for twin in twins:
                twin.close()
        del twins, twin
        assert open_descriptors() == before

    def test_tiny_strips_are_decoded_together(self, tmp_path: Path) -> None:
        tifffile.imwrite(
            tmp_path / "a.tif", textured((2, 4096, 512), "uint16"), compression="zstd", rowsperstrip=2
        )
        with open_source(tmp_path / "a.tif") as source:
            assert source.chunks == (1, 1024, 512)
            np.testing.assert_array_equal(
                source[1, 1000:1030], textured((2, 4096, 512), "uint16")[1, 1000:1030]
            )
