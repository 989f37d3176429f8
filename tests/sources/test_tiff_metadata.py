"""What TIFFs say of the image that is read, and of no other one; sets of OME-TIFFs."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bioimage_py import open_source
from bioimage_py.errors import (
    AmbiguousSourceError,
    BioimagePyWarning,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.metadata import ImageMetadata
from tests.sources.contract import textured


def about(path: Path, **options: Any) -> ImageMetadata:
    with open_source(path, **options) as source:
        return source.metadata


class TestImagesOfOme:
    def two(self, path: Path, first: str | None, second: str | None, **options: Any) -> Path:
        with tifffile.TiffWriter(path, ome=True) as writer:
            for name, size, extent in ((first, 2.0, 32), (second, 7.0, 16)):
                said = {"axes": "ZYX", "PhysicalSizeX": size, "PhysicalSizeY": size, "PhysicalSizeZ": size}
                writer.write(
                    textured((3, extent, 24), "uint16"),
                    photometric="minisblack",
                    metadata=said | ({"Name": name} if name else {}),
                    **options,
                )
        return path

    @pytest.mark.parametrize(
        "name", ["Macrophages", "labelled cells", "preview of it", "thumbnails", "macro 1", "Label_2"]
    )
    def test_a_name_that_begins_like_a_thumbnail_is_no_thumbnail(self, name: str, tmp_path: Path) -> None:
        path = self.two(tmp_path / "two.ome.tif", "nuclei", name)
        with pytest.raises(AmbiguousSourceError, match=name):
            open_source(path)

    @pytest.mark.parametrize("name", ["Macro", "label image", "thumbnail", " Preview", "overview image"])
    def test_a_smaller_image_of_such_a_name_is_one(self, name: str, tmp_path: Path) -> None:
        path = self.two(tmp_path / "two.ome.tif", "nuclei", name)
        assert open_source(path).shape == (3, 32, 24)

    def test_an_image_of_such_a_name_that_is_not_smaller_is_none(self, tmp_path: Path) -> None:
        path = tmp_path / "two.ome.tif"
        with tifffile.TiffWriter(path, ome=True) as writer:
            for name, extent in (("cells", 16), ("label", 16)):
                writer.write(textured((3, extent, 24), "uint16"), metadata={"axes": "ZYX", "Name": name})
        with pytest.raises(AmbiguousSourceError, match="label"):
            open_source(path)

    @pytest.mark.parametrize("names", [("a", "b"), ("same", "same"), (None, None)])
    def test_spacing_is_that_of_the_image(self, names: tuple[Any, Any], tmp_path: Path) -> None:
        path = self.two(tmp_path / "two.ome.tif", *names)
        for key, size in (("0", 2.0), ("1", 7.0)):
            assert about(path, key=key).voxel_size == (size,) * 3

    def test_images_without_pixels_do_not_count(self, tmp_path: Path) -> None:
        def image(n: int, size: float, data: str) -> str:
            return (
                f'<Image ID="Image:{n}" Name="same"><Pixels ID="Pixels:{n}" DimensionOrder="XYZCT" Type="uint8" SizeX="9" '
                f'SizeY="8" SizeZ="1" SizeC="1" SizeT="1" PhysicalSizeX="{size}" PhysicalSizeY="{size}">{data}</Pixels></Image>'
            )

        pages = [
            '<TiffData IFD="1" PlaneCount="1"/>',
            "<MetadataOnly/>",
            '<TiffData IFD="0" PlaneCount="1"/>',
        ]
        xml = '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        xml += "".join(image(n, n + 1, data) for n, data in enumerate(pages)) + "</OME>"
        path = tmp_path / "a.ome.tif"
        array = textured((2, 8, 9), "uint8")
        with tifffile.TiffWriter(path) as writer:
            for n, page in enumerate(array):
                writer.write(page, description=xml if n == 0 else None, metadata=None, contiguous=False)
        for key, page, size in (("0", 1, 1.0), ("1", 0, 3.0)):
            with open_source(path, key=key) as source:
                np.testing.assert_array_equal(source[...], array[page])
                assert source.metadata.voxel_size == (size, size)

    def test_the_place_of_the_first_plane_is_the_origin(self, tmp_path: Path) -> None:
        said = {
            "axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 500.0, "PhysicalSizeYUnit": "nm", "PhysicalSizeZ": 2.0,
            "Plane": {
                "PositionX": [10.0, 11.0], "PositionXUnit": ["µm"] * 2,
                "PositionY": [0.25, 11.0], "PositionYUnit": ["mm"] * 2,
                "PositionZ": [-3.0, -1.0],
            },
        }  # fmt: skip
        tifffile.imwrite(tmp_path / "a.ome.tif", textured((2, 20, 30), "uint16"), metadata=said)
        found = about(tmp_path / "a.ome.tif")
        assert found.voxel_size == (2.0, 500.0, 0.5)
        assert found.origin == pytest.approx((-3.0, 250_000.0, 10.0))

    def test_places_in_a_reference_frame_are_no_lengths(self, tmp_path: Path) -> None:
        said = {
            "axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5,
            "Plane": {"PositionX": [10.0, 11.0], "PositionXUnit": ["reference frame"] * 2},
        }  # fmt: skip
        tifffile.imwrite(tmp_path / "a.ome.tif", textured((2, 20, 30), "uint16"), metadata=said)
        assert about(tmp_path / "a.ome.tif").origin is None


class TestImageJ:
    def write(self, path: Path, said: dict[str, Any], **options: Any) -> Path:
        tifffile.imwrite(path, textured((2, 3, 20, 30), "uint16"), imagej=True, metadata=said, **options)
        return path

    @pytest.mark.parametrize(
        ("resolution", "resolutionunit", "unit", "size"),
        [
            ((40000, 20000), "centimeter", "um", (0.5, 0.25)),
            ((101600, 25400), "inch", "micron", (1.0, 0.25)),
            ((40000, 20000), "centimeter", "nm", (500.0, 250.0)),
            ((4, 2), "centimeter", "cm", (0.5, 0.25)),
            ((4, 2), "centimeter", "um", (0.5, 0.25)),  # 2.5 mm is not what is meant
            ((4, 2), "none", "um", (0.5, 0.25)),
            ((4, 2), "centimeter", "furlong", (0.5, 0.25)),
        ],
    )
    @pytest.mark.filterwarnings("ignore:.*furlong")
    def test_resolution_beside_a_unit(
        self, resolution: Any, resolutionunit: str, unit: str, size: tuple[float, float], tmp_path: Path
    ) -> None:
        path = self.write(
            tmp_path / "a.tif", {"axes": "TZYX", "unit": unit, "spacing": 2.0}, resolution=resolution, resolutionunit=resolutionunit
        )  # fmt: skip
        assert about(path).voxel_size == pytest.approx((1.0, 2.0, *size))

    def test_units_of_their_own(self, tmp_path: Path) -> None:
        said = {"axes": "TZYX", "unit": "um", "yunit": "nm", "zunit": "mm", "spacing": 2.0}
        found = about(self.write(tmp_path / "a.tif", said, resolution=(4, 2)))
        assert found.voxel_size == (1.0, 2.0, 0.5, 0.25)
        assert found.units == (None, "millimeter", "nanometer", "micrometer")

    @pytest.mark.parametrize(
        ("said", "step", "unit"),
        [
            ({"fps": 4.0}, 0.25, "second"),
            ({"finterval": 0.5, "fps": 7.0}, 0.5, "second"),
            ({"finterval": 5.0, "tunit": "ms"}, 5.0, "millisecond"),
        ],
    )
    def test_time(self, said: dict[str, Any], step: float, unit: str, tmp_path: Path) -> None:
        found = about(
            self.write(tmp_path / "a.tif", {"axes": "TZYX", "unit": "um"} | said, resolution=(4, 4))
        )
        assert found.voxel_size is not None
        assert found.units is not None
        assert (found.voxel_size[0], found.units[0]) == (step, unit)

    def test_what_is_not_said_of_z_is_not_known(self, tmp_path: Path) -> None:
        found = about(self.write(tmp_path / "a.tif", {"axes": "TZYX", "unit": "um"}, resolution=(4, 4)))
        assert found.voxel_size == (1.0, 1.0, 0.25, 0.25)
        assert found.units == (None, None, "micrometer", "micrometer")

    def test_a_unit_without_resolution_is_no_size(self, tmp_path: Path) -> None:
        text = "ImageJ=1.53\nunit=um\n"
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, textured((20, 30), "uint16"), description=text, metadata=None)
        with tifffile.TiffFile(path) as file:
            places = [file.pages.first.tags[name].offset for name in ("XResolution", "YResolution")]
        with path.open("r+b") as raw:
            for n, place in enumerate(places):
                raw.seek(place)
                raw.write(struct.pack("<H", 286 + n))
        assert about(path).voxel_size is None


def test_spacing_of_each_series(tmp_path: Path) -> None:
    path = tmp_path / "two.tif"
    with tifffile.TiffWriter(path) as writer:
        for extent, spacing in ((20, 2.0), (10, 7.0)):
            said = {"axes": "ZYX", "unit": "um", "spacing": spacing}
            writer.write(
                textured((4, extent, 24), "uint16"), photometric="minisblack", metadata=said, resolution=(extent, 10)
            )  # fmt: skip
    assert about(path, key="0").voxel_size == pytest.approx((2.0, 0.1, 0.05))
    assert about(path, key="1").voxel_size == pytest.approx((7.0, 0.1, 0.1))


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "jpeg"])
def test_samples_of_colour_have_colours(planar: str, compression: str | None, tmp_path: Path) -> None:
    if planar == "separate" and compression:
        pytest.skip("not written by tifffile")
    shape = (32, 48, 3) if planar == "contig" else (3, 32, 48)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, textured(shape, "uint8"), photometric="rgb", planarconfig=planar, compression=compression, metadata=None
    )  # fmt: skip
    found = about(path)
    assert found.channel_colors == ("FF0000", "00FF00", "0000FF")
    assert found.contrast_limits == ((0.0, 255.0),) * 3
    assert found.channel_names is None
    tifffile.imwrite(
        path, textured((32, 48, 3), "uint8"), photometric="minisblack", planarconfig="contig", metadata=None
    )
    assert about(path).channel_colors is None


def test_pictures_and_slices_of_colour_have_colours(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "tifs").mkdir()
    for n in range(2):
        Image.fromarray(textured((20, 30, 3), "uint8")).save(tmp_path / f"{n}.png")
        tifffile.imwrite(
            tmp_path / f"tifs/{n}.tif", textured((20, 30, 3), "uint8"), photometric="rgb", metadata=None
        )
    Image.fromarray(textured((20, 30, 4), "uint8")).save(tmp_path / "rgba.png")
    for path in (tmp_path / "0.png", tmp_path / "tifs"):
        assert about(path).channel_colors == ("FF0000", "00FF00", "0000FF")
    with open_source(tmp_path, "?.png") as source:
        assert source.metadata.channel_colors == ("FF0000", "00FF00", "0000FF")
    assert about(tmp_path / "rgba.png").channel_colors is None


class TestTagsOfMicroscopes:
    def test_lsm(self, tmp_path: Path) -> None:
        info = np.zeros(1, _lsm_dtype())
        for name, value in (
            ("MagicNumber", 0x00400494C), ("StructureSize", info.itemsize), ("DimensionX", 30), ("DimensionY", 20),
            ("DimensionZ", 4), ("DimensionChannels", 1), ("DimensionTime", 1), ("ThumbnailX", 15), ("ThumbnailY", 10),
            ("VoxelSizeX", 0.25e-6), ("VoxelSizeY", 0.5e-6), ("VoxelSizeZ", 2e-6), ("TimeIntervall", 3.0),
        ):  # fmt: skip
            info[name] = value
        path = tmp_path / "a.lsm"
        array = textured((4, 20, 30), "uint8")
        with tifffile.TiffWriter(path) as writer:
            for n, page in enumerate(array):
                tag = [(34412, 1, info.nbytes, info.tobytes(), True)] if n == 0 else []
                writer.write(page, metadata=None, contiguous=False, extratags=tag)
                writer.write(page[::2, ::2], metadata=None, contiguous=False, subfiletype=1)
        with open_source(path) as source:
            np.testing.assert_array_equal(source[...], array)
            found = source.metadata
        assert found.axes == ("z", "y", "x")
        assert found.voxel_size == pytest.approx((2.0, 0.5, 0.25))
        assert found.units == ("micrometer",) * 3

    def test_stk(self, tmp_path: Path) -> None:
        array = textured((4, 20, 30), "uint8")
        path = tmp_path / "a.stk"
        uic1 = [3, 1, 4, 0, 5, 0, 6, 0]  # calibrated; X, Y and units are elsewhere
        uic2 = [5, 2, 1, 1, 1, 1] * 4  # 2.5 µm between planes
        tags = [(65100, 4, len(uic1), uic1, True), (65101, 4, len(uic2), uic2, True)]
        tifffile.imwrite(path, array.reshape(80, 30), metadata=None, extratags=tags)
        with tifffile.TiffFile(path) as file:
            places = {tag.code: (tag.offset, tag.valueoffset) for tag in file.pages.first.tags}
        data = bytearray(path.read_bytes())
        end = len(data)
        data += struct.pack("<4I", 1, 4, 1, 2) + struct.pack("<I", 3) + b"um\0"
        for n, at in ((3, end), (5, end + 8), (7, end + 16)):
            struct.pack_into("<I", data, places[65100][1] + 4 * n, at)
        struct.pack_into("<HHI", data, places[65100][0], 33628, 4, 4)
        struct.pack_into("<HHI", data, places[65101][0], 33629, 5, 4)
        for code, value in ((257, 20), (278, 20), (279, 600)):
            kind = struct.unpack_from("<H", data, places[code][0] + 2)[0]
            struct.pack_into("<H" if kind == 3 else "<I", data, places[code][0] + 8, value)
        path.write_bytes(data)
        with open_source(path) as source:
            np.testing.assert_array_equal(source[...], array)
            found = source.metadata
        assert found.axes == ("z", "y", "x")
        assert found.voxel_size == (2.5, 0.5, 0.25)
        assert found.units == ("micrometer",) * 3

    def test_svs(self, tmp_path: Path) -> None:
        text = "Aperio Image Library v11\n64x48 [0,0 64x48]|AppMag = 20|MPP = 0.4990|Left = 1"
        path = tmp_path / "a.svs"
        array = textured((48, 64, 3), "uint8")
        with tifffile.TiffWriter(path) as writer:
            tiled: dict[str, Any] = {"photometric": "rgb", "tile": (16, 16), "metadata": None}
            writer.write(array, description=text, **tiled)
            writer.write(array[::8, ::8].copy(), photometric="rgb", metadata=None)
            writer.write(array[::2, ::2].copy(), **tiled)
            writer.write(array[:20, :20].copy(), photometric="rgb", metadata=None, subfiletype=1)
            writer.write(array[:20, :30].copy(), photometric="rgb", metadata=None, subfiletype=9)
        with open_source(path) as source:
            np.testing.assert_array_equal(source[...], array)
        assert about(path).voxel_size == pytest.approx((0.499, 0.499, 1.0))
        assert about(path).units == ("micrometer", "micrometer", None)
        assert about(path, level=1).voxel_size == pytest.approx((0.998, 0.998, 1.0))
        assert about(path, key="1").voxel_size is None

    @pytest.mark.parametrize("ome", [True, False])
    def test_micro_manager(self, ome: bool, tmp_path: Path) -> None:
        array = textured((3, 20, 30), "uint8")
        path = tmp_path / "scan_MMStack.ome.tif"
        write_micromanager(path, array, ome_of_set(0, ["scan_MMStack.ome.tif"] * 3) if ome else "")
        with open_source(path) as source:
            np.testing.assert_array_equal(source[...], array)
            found = source.metadata
        assert found.axes == ("z", "y", "x")
        # 0.5 in its OME-XML, 0.25 in its summary.
        assert found.voxel_size == pytest.approx((2.0, 0.5, 0.5) if ome else (3.0, 0.25, 0.25))
        assert found.units == ("micrometer",) * 3

    def test_damaged_tags_are_no_reason_not_to_open(self, tmp_path: Path) -> None:
        path = tmp_path / "a.svs"
        with tifffile.TiffWriter(path) as writer:
            writer.write(
                textured((48, 64), "uint8"), tile=(16, 16), metadata=None, description="Aperio |MPP = 1e|"
            )
        assert about(path).voxel_size is None


def write_micromanager(path: Path, array: np.ndarray, description: str) -> None:
    """Write planes as Micro-Manager does: each page has 13 tags and its voxels behind them; a summary and an index are apart."""
    summary = {
        "MicroManagerVersion": "1.4", "Frames": 1, "Slices": len(array), "Channels": 1, "Positions": 1, "Prefix": "scan",
        "PixelSize_um": 0.25, "z-step_um": 3.0, "Interval_ms": 0,
    }  # fmt: skip
    text = json.dumps(summary).encode()
    described = description.encode() + b"\0"
    data = bytearray(40) + text
    about_at = len(data)
    data += described + b"{   }\0"
    pages = []
    for n, plane in enumerate(array):
        data += bytes(len(data) % 2)
        pages.append(len(data))
        following = 0 if n == len(array) - 1 else len(data) + 162 + plane.size + (plane.size % 2)
        tags = [
            (256, 4, 1, plane.shape[1]), (257, 4, 1, plane.shape[0]), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
            (270, 2, len(described), about_at), (273, 4, 1, len(data) + 162), (277, 3, 1, 1), (278, 3, 1, plane.shape[0]),
            (279, 4, 1, plane.size), (284, 3, 1, 1), (296, 3, 1, 1), (51123, 2, 6, about_at + len(described)),
        ]  # fmt: skip
        if n > 0 or not description:
            tags[5] = (270, 2, 1, 0)
        data += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        data += struct.pack("<I", following) + plane.tobytes()
    index = len(data)
    data += struct.pack("<II", 3453623, len(array))
    for n, page in enumerate(pages):
        data += struct.pack("<5I", 0, n, 0, 0, page)
    struct.pack_into("<2sHI", data, 0, b"II", 42, pages[0])
    struct.pack_into("<IIIIII", data, 8, 54773648, index, 483765892, 0, 99384722, 0)
    struct.pack_into("<II", data, 32, 2355492, len(text))
    path.write_bytes(data)


def _lsm_dtype() -> np.dtype[Any]:
    fields = [
        (name or f"reserved {n}", "<" + kind) for n, (name, kind) in enumerate(tifffile.TIFF.CZ_LSMINFO)
    ]
    return np.dtype([(name, kind[1:] if kind[1].isdigit() else kind) for name, kind in fields])


UUID = "urn:uuid:00000000-0000-0000-0000-00000000000{}"


def ome_of_set(n: int, names: list[str], *, root: str | None = None) -> str:
    """OME-XML of a stack of planes that are in one file each."""
    planes = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{name}">{UUID.format(z)}</UUID></TiffData>'
        for z, name in enumerate(names)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        f'UUID="{root or UUID.format(n)}"><Image ID="Image:0" Name="set"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
        f'Type="uint16" SizeX="30" SizeY="20" SizeZ="{len(names)}" SizeC="1" SizeT="1" PhysicalSizeX="0.5" '
        f'PhysicalSizeY="0.5" PhysicalSizeZ="2"><Channel ID="Channel:0:0"/>{planes}</Pixels></Image></OME>'
    )


class TestSets:
    names = ("a.ome.tif", "b.ome.tif", "c.ome.tif")

    def write(self, folder: Path, said: list[str] | None = None) -> np.ndarray:
        array = textured((3, 20, 30), "uint16")
        folder.mkdir(exist_ok=True)
        for n, name in enumerate(self.names):
            xml = ome_of_set(n, said or list(self.names))
            tifffile.imwrite(folder / name, array[n], description=xml, metadata=None)
        return array

    def test_opened_by_any_of_its_files(self, tmp_path: Path) -> None:
        array = self.write(tmp_path)
        for name in self.names:
            with open_source(tmp_path / name) as source:
                np.testing.assert_array_equal(source[...], array)
                assert source.metadata.voxel_size == (2.0, 0.5, 0.5)

    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        array = self.write(tmp_path)
        (tmp_path / "b.ome.tif").unlink()
        for name in ("a.ome.tif", "c.ome.tif"):
            with pytest.raises(StorageError, match=r"refers to b\.ome\.tif \(not there\)"):
                open_source(tmp_path / name)
            with open_source(tmp_path / name, missing_planes="fill") as source:
                np.testing.assert_array_equal(source[...][::2], array[::2])
                assert not source[1].any()

    def test_no_plane_in_the_file_itself(self, tmp_path: Path) -> None:
        path = tmp_path / "a.ome.tif"
        xml = ome_of_set(9, ["x.ome.tif", "y.ome.tif"])
        tifffile.imwrite(path, textured((20, 30), "uint16"), description=xml, metadata=None)
        with pytest.raises(StorageError, match=r"x\.ome\.tif \(not there\), y\.ome\.tif"):
            open_source(path)

    @pytest.mark.parametrize("kind", ["up", "absolute", "windows", "down and up"])
    def test_names_that_lead_out_of_the_folder_are_not_followed(self, kind: str, tmp_path: Path) -> None:
        outside = tmp_path / "b.ome.tif"
        place = {
            "up": "../b.ome.tif", "absolute": str(outside), "windows": "C:\\data\\b.ome.tif", "down and up": "x/../../b.ome.tif"
        }[kind]  # fmt: skip
        array = self.write(tmp_path / "set", ["a.ome.tif", place, "c.ome.tif"])
        (tmp_path / "set/b.ome.tif").rename(outside)
        (tmp_path / "set/x").mkdir()
        with pytest.raises(StorageError, match="outside of the folder") as caught:
            open_source(tmp_path / "set/a.ome.tif")
        assert place in str(caught.value)
        with open_source(tmp_path / "set/a.ome.tif", missing_planes="fill") as source:
            assert not source[1].any()
        # A file of that name beside it is the one that is meant: sets are moved as a whole.
        (tmp_path / "set/b.ome.tif").write_bytes(outside.read_bytes())
        with open_source(tmp_path / "set/a.ome.tif") as source:
            np.testing.assert_array_equal(source[...], array)

    def test_files_that_are_encoded_each_in_its_own_way(self, tmp_path: Path) -> None:
        array = textured((3, 20, 30), "uint16")
        ways: list[dict[str, Any]] = [{}, {"byteorder": ">"}, {"compression": "zstd", "bigtiff": True}]
        for first in range(3):
            for n, name in enumerate(self.names):
                xml = ome_of_set(n, list(self.names))
                way = ways[(n + first) % 3]
                tifffile.imwrite(tmp_path / name, array[n], description=xml, metadata=None, **way)
            for name in self.names:
                with open_source(tmp_path / name) as source:
                    np.testing.assert_array_equal(source[...], array)

    def test_files_of_another_dtype_are_refused(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        xml = ome_of_set(1, list(self.names))
        tifffile.imwrite(tmp_path / "b.ome.tif", textured((20, 30), "int16"), description=xml, metadata=None)
        with pytest.raises(UnsupportedFormatError, match=r"page 1 .* int16"):
            open_source(tmp_path / "a.ome.tif")

    def test_files_in_folders_below_are_read(self, tmp_path: Path) -> None:
        array = self.write(tmp_path, ["a.ome.tif", "sub\\b.ome.tif", "sub/c.ome.tif"])
        (tmp_path / "sub").mkdir()
        for name in ("b.ome.tif", "c.ome.tif"):
            (tmp_path / name).rename(tmp_path / "sub" / name)
        with open_source(tmp_path / "a.ome.tif") as source:
            np.testing.assert_array_equal(source[...], array)

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        (tmp_path / "b.ome.tif").unlink()
        os.mkfifo(tmp_path / "b.ome.tif")
        with pytest.raises(StorageError, match=r"b\.ome\.tif \(not a regular file\)"):
            open_source(tmp_path / "a.ome.tif")

    def binary_only(self, folder: Path, companion: str) -> np.ndarray:
        array = textured((3, 20, 30), "uint16")
        for n, name in enumerate(self.names):
            xml = (
                '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
                f'UUID="{UUID.format(n)}"><BinaryOnly MetadataFile="{companion}" UUID="{UUID.format(8)}"/></OME>'
            )
            tifffile.imwrite(folder / name, array[n], description=xml, metadata=None)
        return array

    def test_the_companion_file_is_read(self, tmp_path: Path) -> None:
        array = self.binary_only(tmp_path, "set.companion.ome")
        xml = ome_of_set(8, list(self.names)).replace("<Image ", "<!-- µm --><Image ")
        (tmp_path / "set.companion.ome").write_text(xml, encoding="utf-8")
        for name in self.names:
            with open_source(tmp_path / name) as source:
                np.testing.assert_array_equal(source[...], array)
                assert source.metadata.voxel_size == (2.0, 0.5, 0.5)

    def test_a_folder_is_the_set_of_its_companion_file(self, tmp_path: Path) -> None:
        array = self.binary_only(tmp_path, "set.companion.ome")
        with pytest.raises(StorageError, match=r"set\.companion\.ome \(not there\)"):
            open_source(tmp_path)
        with pytest.warns(BioimagePyWarning, match=r"set\.companion\.ome"):
            np.testing.assert_array_equal(open_source(tmp_path, missing_planes="fill")[...], array)
        (tmp_path / "set.companion.ome").write_text(ome_of_set(8, list(self.names)), encoding="utf-8")
        with open_source(tmp_path) as source:
            np.testing.assert_array_equal(source[...], array)
            assert source.metadata.voxel_size == (2.0, 0.5, 0.5)
        (tmp_path / self.names[1]).unlink()
        with pytest.raises(SourceNotFoundError, match="of which 1 are gone"):
            open_source(tmp_path)
        array[1] = 0
        np.testing.assert_array_equal(open_source(tmp_path, missing_planes="fill")[...], array)

    def test_the_companion_is_another_tiff(self, tmp_path: Path) -> None:
        array = self.binary_only(tmp_path, "a.ome.tif")
        tifffile.imwrite(
            tmp_path / "a.ome.tif", array[0], description=ome_of_set(0, list(self.names)), metadata=None
        )
        for name in self.names:
            with open_source(tmp_path / name) as source:
                np.testing.assert_array_equal(source[...], array)

    @pytest.mark.parametrize("companion", ["set.companion.ome", "../set.companion.ome"])
    def test_a_companion_that_is_not_there_is_named(self, companion: str, tmp_path: Path) -> None:
        folder = tmp_path / "set"
        folder.mkdir()
        array = self.binary_only(folder, companion)
        if companion.startswith(".."):
            (tmp_path / "set.companion.ome").write_text(ome_of_set(8, list(self.names)))
        with pytest.raises(StorageError, match=r"set\.companion\.ome") as caught:
            open_source(folder / "a.ome.tif")
        assert companion in str(caught.value)
        with pytest.warns(BioimagePyWarning, match=r"set\.companion\.ome"):
            source = open_source(folder / "a.ome.tif", missing_planes="fill")
        np.testing.assert_array_equal(source[...], array[0])

    @pytest.mark.parametrize(
        "change",
        [
            lambda xml: xml.replace('SizeZ="3"', 'SizeZ="3000000000"'),
            lambda xml: xml.replace('PlaneCount="1"', 'PlaneCount="99999999999"', 1),
            lambda xml: xml.replace('FirstZ="2"', 'FirstZ="99999999999"'),
        ],
    )
    def test_more_planes_than_there_can_be(self, change: Any, tmp_path: Path) -> None:
        path = tmp_path / "a.ome.tif"
        xml = change(ome_of_set(0, list(self.names)))
        tifffile.imwrite(path, textured((20, 30), "uint16"), description=xml, metadata=None)
        with pytest.raises(StorageError, match="planes"):
            open_source(path)
