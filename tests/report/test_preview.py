"""`preview`: the right thing at the right place, in the right proportion, from the right level."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import bioimage_py as bp
from bioimage_py.errors import (
    BioimagePyError,
    BioimagePyWarning,
    InvalidArgumentError,
    OutputExistsError,
    SourceNotFoundError,
    UnsupportedFormatError,
)
from bioimage_py.sources import create_output
from bioimage_py.wrapper.shape import RoiSource
from tests.report.images import bright_box, counted_reads, described, inside, pyramid

SHAPE = (32, 96, 128)
CUBE = ((4, 12), (24, 60), (96, 120))


@pytest.fixture
def cube() -> np.ndarray:
    """A dim volume with a bright box in it that is nowhere near the middle of any axis but y."""
    volume = np.full(SHAPE, 100, "uint16")
    volume[tuple(slice(a, b) for a, b in CUBE)] = 4000
    return volume


def test_a_cube_is_where_it_belongs_in_each_panel(cube: np.ndarray) -> None:
    picture = bp.preview(described(cube, "zyx", (2.0, 0.5, 0.5)), position=(6, 30, 100))
    assert [panel.axes for panel in picture.panels] == [("y", "x"), ("y", "z"), ("z", "x")]
    assert [panel.title for panel in picture.panels] == ["z = 6", "x = 100", "y = 30"]
    for number, (down, across) in enumerate([(1, 2), (1, 0), (0, 2)]):
        expected = [CUBE[axis][end] / SHAPE[axis] for axis in (down, across) for end in (0, 1)]
        assert bright_box(inside(picture, number)) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_beside_the_cube_does_not_show_it(cube: np.ndarray, axis: int) -> None:
    position = [6, 30, 100]
    position[axis] = CUBE[axis][1]
    picture = bp.preview(described(cube, "zyx"), position=position, contrast=(0, 4000))
    number = {0: 0, 2: 1, 1: 2}[axis]
    assert [(inside(picture, n) > 127).any() for n in range(3)] == [n != number for n in range(3)]


def test_axes_in_any_order_are_shown_by_their_names(cube: np.ndarray) -> None:
    turned = described(np.ascontiguousarray(cube.transpose(2, 0, 1)), "xzy")
    straight = described(cube, "zyx")
    position = {"z": 6, "y": 30, "x": 100}
    assert np.array_equal(
        bp.preview(turned, position=position).pixels, bp.preview(straight, position=position).pixels
    )


def test_panels_have_the_proportion_of_the_object(cube: np.ndarray) -> None:
    picture = bp.preview(described(cube, "zyx", (3.0, 1.0, 0.5)), size=384)
    z, y, x = 32 * 3.0, 96 * 1.0, 128 * 0.5
    scale = 384 / max(z, y, x)
    sizes = [panel.size for panel in picture.panels]
    assert sizes == [(y * scale, round(x * scale)), (y * scale, z * scale), (z * scale, round(x * scale))]


def test_units_that_differ_are_brought_together() -> None:
    image = np.zeros((100, 200), "uint8")
    metadata = bp.with_metadata(image, axes="yx", voxel_size=(2.0, 1000.0), units=("um", "nm"))
    assert bp.preview(metadata, size=400).panels[0].size == (400, 400)


@pytest.mark.parametrize("position", [(0, 0, 0), (31, 95, 127)])
def test_ticks_say_where_the_other_slices_are(cube: np.ndarray, position: Any) -> None:
    picture = bp.preview(described(cube, "zyx"), position=position)
    panel = picture.panels[0]
    right = picture.pixels[panel.top : panel.top + panel.size[0], panel.left + panel.size[1] + 3]
    below = picture.pixels[panel.top + panel.size[0] + 3, panel.left : panel.left + panel.size[1]]
    for line, axis in ((right, 1), (below, 2)):
        (at,) = np.flatnonzero(line.max(axis=1) == 0)
        assert at / len(line) == pytest.approx((position[axis] + 0.5) / SHAPE[axis], abs=1 / len(line))


@pytest.mark.parametrize(
    ("size", "unit", "text", "length"),
    [
        (0.65, "micrometer", "50 µm", 50),
        (4.0, "nanometer", "500 nm", 500),
        (0.4, "angstrom", "50 Å", 50),
        (7e-6, "meter", "500 µm", 5e-4),
    ],
)
def test_the_scale_bar_is_as_long_as_it_says(size: float, unit: str, text: str, length: float) -> None:
    picture = bp.preview(described(np.zeros((300, 400), "uint8"), "yx", (size, size), unit), size=400)
    assert picture.scale_bar is not None
    assert picture.scale_bar.text == text
    per_pixel = 400 * size / picture.panels[0].size[1]
    assert picture.scale_bar.pixels == round(length / per_pixel)
    panel = picture.panels[0]
    below = picture.pixels[panel.top + panel.size[0] + 2 :, panel.left :]
    runs = [len(run) for row in below for run in "".join("#" if p.max() == 0 else " " for p in row).split()]
    assert max(runs) == picture.scale_bar.pixels


@pytest.mark.parametrize(
    "source", [described(np.zeros((30, 40)), "yx"), described(np.zeros((30, 40)), "yx", (1.0, 1.0), None)]
)
def test_there_is_no_bar_where_the_unit_is_not_known(source: bp.Source) -> None:
    assert bp.preview(source).scale_bar is None


def test_channels_are_blended_in_their_colours_and_limits() -> None:
    image = np.zeros((2, 40, 40), "uint16")
    image[0, :20] = 500
    image[1, :, :20] = 80
    source = described(
        image,
        "cyx",
        channel_colors=("FF0000", "0000FF"),
        contrast_limits=((0, 1000), (0, 80)),
        channel_names=("a", "b"),
    )
    pixels = inside(bp.preview(source))
    at = [pixels[y, x].tolist() for y, x in ((10, 10), (10, 310), (310, 10), (310, 310))]
    assert at == [[128, 0, 255], [128, 0, 0], [0, 0, 255], [0, 0, 0]]
    only = inside(bp.preview(source, channels=1))
    assert only[10, 10].tolist() == [255, 255, 255]
    swapped = inside(bp.preview(source, channels=[1, 0]))
    assert swapped[10, 10].tolist() == [128, 0, 255]


def test_limits_that_are_the_whole_range_of_a_wide_dtype_were_not_chosen() -> None:
    image = np.zeros((40, 40), "uint16")
    image[:20] = 500
    shown = inside(bp.preview(described(image, "yx", contrast_limits=((0, 2**16 - 1),))))
    assert shown[10, 10].tolist() == [255, 255, 255]


def test_channels_without_colours_are_told_apart() -> None:
    image = np.zeros((3, 12, 12), "uint16")
    for n in range(3):
        image[n, 4 * n : 4 * n + 4] = 100
    pixels = inside(bp.preview(described(image, "cyx")))
    assert len({tuple(pixels[y, 40]) for y in (8, 48, 80)}) == 3


def test_colours_are_shown_as_they_are_and_opacity_on_white() -> None:
    image = np.zeros((64, 64, 4), "uint8")
    image[:32] = (200, 100, 50, 255)
    image[32:] = (200, 100, 50, 0)
    pixels = inside(bp.preview(image, size=64))
    assert pixels[10, 10].tolist() == [200, 100, 50]
    assert pixels[50, 10].tolist() == [255, 255, 255]
    assert inside(bp.preview(image[..., :3], size=64))[50, 10].tolist() == [200, 100, 50]


def test_labels_have_distinct_colours_everywhere_the_same_and_no_others() -> None:
    labels = np.zeros((3, 16, 16), "uint32")
    labels[:] = np.arange(256).reshape(16, 16)
    picture = bp.preview(labels, size=128)
    found = {tuple(c) for c in inside(picture).reshape(-1, 3).tolist()}
    assert len(found) == 256
    assert inside(picture)[2, 2].tolist() == [0, 0, 0]
    other = inside(bp.preview(labels[1, 5:9, 5:9], size=128))
    assert {tuple(c) for c in other.reshape(-1, 3).tolist()} <= found


def test_time_is_selected_and_said() -> None:
    movie = np.zeros((3, 20, 20), "uint8")
    movie[2, :10] = 200
    source = described(movie, "tyx")
    first, last = bp.preview(source, contrast=(0, 200)), bp.preview(source, time=2, contrast=(0, 200))
    assert not inside(first).any()
    assert inside(last)[10, 10].tolist() == [255, 255, 255]


def test_a_projection_sees_what_no_slice_does(cube: np.ndarray) -> None:
    volume = described(cube, "zyx")
    picture = bp.preview(volume, projection="max")
    assert [panel.title for panel in picture.panels] == ["z: max"]
    assert bright_box(inside(picture)) == pytest.approx([24 / 96, 60 / 96, 96 / 128, 120 / 128], abs=0.01)
    middle = bp.preview(volume, projection="mean", contrast=(100, 4000))
    share = inside(middle)[int(40 / 96 * 384), int(108 / 128 * 512)] / 255
    assert share == pytest.approx(8 / 32, abs=0.01)


def test_the_coarsest_level_that_is_good_enough_is_the_one_that_is_read(tmp_path: Path) -> None:
    path = pyramid(tmp_path / "a.ome.zarr")
    for size, level in ((512, "0"), (257, "0"), (256, "1"), (128, "2"), (100, "2"), (64, "3")):
        with counted_reads() as reads:
            picture = bp.preview(path, size=size, contrast=(0, 1300))
        assert {name for name, _ in reads} == {f"{path}:{level}"}
        assert picture.level == f"{path}:{level}"
        pixels = inside(picture)
        assert pixels[10, 10, 0] == 0
        assert pixels[-10, 10, 0] == round(255 * (1000 + 100 * int(level)) / 1300)


def test_of_a_level_only_the_chunks_of_the_slices_are_read(tmp_path: Path) -> None:
    path = pyramid(tmp_path / "a.ome.zarr")
    with counted_reads() as reads:
        picture = bp.preview(path, size=128, position=(40, 200, 300))
    planes = {tuple(np.argwhere(np.array(box.shape) == 1).ravel()) for _, box in reads}
    assert planes == {(0,), (1,), (2,)}
    assert {box.begin[axis] for _, box in reads for axis in range(3) if box.shape[axis] == 1} == {10, 50, 75}
    assert picture.read_bytes <= 3 * 16 * 128 * 128 * 2


def test_metadata_that_a_user_says_are_those_of_the_full_size(tmp_path: Path) -> None:
    path = pyramid(tmp_path / "a.ome.zarr")
    source = bp.open_source(path, voxel_size=(2.0, 1.0, 1.0), units="nm")
    picture = bp.preview(source, size=128)
    assert picture.level == f"{path}:1"
    assert [panel.size for panel in picture.panels] == [(128, 128), (128, 32), (32, 128)]
    assert picture.scale_bar is not None
    assert picture.scale_bar.text == "100 nm"


def test_views_that_are_too_much_are_left_out_and_said(tmp_path: Path) -> None:
    with create_output(
        tmp_path / "slices.zarr", shape=(64, 128, 128), dtype="uint8", chunks=(1, 128, 128)
    ) as made:
        made[...] = 1
    with pytest.warns(BioimagePyWarning, match=r"without its view along x and y.*2\.02 MiB.*100 KiB"):
        picture = bp.preview(tmp_path / "slices.zarr", read_limit="100KiB")
    assert [panel.title for panel in picture.panels] == ["z = 32"]
    assert picture.read_bytes == 128 * 128
    with pytest.raises(InvalidArgumentError, match=r"16 KiB.*read_limit of 10 KiB.*levels"):
        bp.preview(tmp_path / "slices.zarr", read_limit="10KiB")


def test_a_plane_that_takes_long_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bioimage_py.report.preview.plane._ALL_VOXELS", 1000)
    image = np.arange(400 * 400, dtype="float32").reshape(400, 400)
    pixels = inside(bp.preview(image, size=100, contrast=(0, 160_000)))
    assert pixels[50, 50, 0] == pytest.approx(255 * (202 * 400 + 202) / 160_000, abs=1)


@pytest.mark.parametrize(
    "dtype", ["bool", "float16", "float64", "complex64", "int8", "int64", "uint64", ">u2"]
)
def test_every_kind_of_number_has_a_picture(dtype: str) -> None:
    image = np.zeros((40, 40))
    image[:20] = 1
    pixels = inside(bp.preview(image.astype(dtype)))
    assert pixels[10, 10].max() > 200
    assert pixels[-10, 10].max() == 0


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        (np.full((9, 9), np.nan), [0]),
        (np.full((9, 9), np.inf), [0]),
        (np.zeros((9, 9)), [0]),
        (np.full((9, 9), 7.0), [128]),
        (np.array([[1e308, -1e308]] * 2), [0, 255]),
    ],
    ids=["nan", "inf", "zero", "constant", "largest"],
)
def test_images_without_contrast(image: np.ndarray, shown: list[int]) -> None:
    pixels = inside(bp.preview(image))
    assert sorted({int(pixels.min()), int(pixels.max())}) == shown


def test_a_few_bright_points_are_seen() -> None:
    image = np.zeros((400, 400), "uint16")
    image[100, 100] = 5
    assert inside(bp.preview(image, size=400))[100, 100, 0] == 255


def test_small_images_are_enlarged_no_more_than_is_good() -> None:
    assert bp.preview(np.zeros((10, 20))).panels[0].size == (80, 160)
    assert bp.preview(np.zeros((1, 5000))).panels[0].size == (1, 512)


@pytest.mark.parametrize(
    ("image", "said", "error", "message"),
    [
        (np.zeros(()), {}, InvalidArgumentError, "two axes of space or more"),
        (np.zeros(5), {}, InvalidArgumentError, "two axes of space or more"),
        (np.zeros((0, 5)), {}, InvalidArgumentError, "holds no voxel"),
        (np.zeros((4, 0, 5)), {}, InvalidArgumentError, "holds no voxel"),
        (np.zeros((3, 3), [("a", "u1")]), {}, UnsupportedFormatError, "dtype"),
        (
            np.zeros((5, 5, 5)),
            {"position": (5, 0, 0)},
            InvalidArgumentError,
            "position 5 along z.*from 0 to 4",
        ),
        (np.zeros((5, 5, 5)), {"position": (0, -1, 0)}, InvalidArgumentError, "position -1 along y"),
        (np.zeros((5, 5, 5)), {"position": (0, 0)}, InvalidArgumentError, "one index per axis shown"),
        (np.zeros((5, 5, 5)), {"position": {"q": 0}}, InvalidArgumentError, "the axis 'q'.*z, y, x"),
        (np.zeros((5, 5, 5)), {"position": (0, 0, 1.5)}, InvalidArgumentError, "position 1.5 along x"),
        (np.zeros((5, 5, 5)), {"time": 1}, InvalidArgumentError, "no axis of time"),
        (np.zeros((5, 5, 5)), {"channels": 1}, InvalidArgumentError, "no axis of channels"),
        (np.zeros((2, 5, 5, 5)), {"channels": 2}, InvalidArgumentError, "channel 2 is outside.*0 to 1"),
        (np.zeros((2, 5, 5, 5)), {"channels": (1, 1)}, InvalidArgumentError, "each once"),
        (np.zeros((5, 5)), {"projection": "max"}, InvalidArgumentError, "none to project along"),
        (np.zeros((5, 5, 5)), {"projection": "min"}, InvalidArgumentError, "max, mean"),
        (np.zeros((5, 5, 5), "u4"), {"projection": "mean"}, InvalidArgumentError, "mean of labels"),
        (np.zeros((5, 5)), {"kind": "labels"}, InvalidArgumentError, "labels are integers"),
        (np.zeros((5, 5)), {"kind": "mask"}, InvalidArgumentError, "labels, image"),
        (np.zeros((5, 5)), {"contrast": (5, 5)}, InvalidArgumentError, "contrast is two numbers"),
        (np.zeros((5, 5)), {"percentiles": (-1, 50)}, InvalidArgumentError, "from 0 to 100"),
        (np.zeros((5, 5)), {"size": 10}, InvalidArgumentError, "from 64 to 4096"),
        (np.zeros((5, 5)), {"read_limit": "much"}, InvalidArgumentError, "read_limit"),
        (np.zeros((5, 5)), {"output": ""}, InvalidArgumentError, "not empty"),
        (np.zeros((5, 5)), {"output": "picture"}, InvalidArgumentError, r"no ending.*\.png"),
        (np.zeros((5, 5)), {"output": "a.zarr"}, InvalidArgumentError, r"ending '\.zarr'.*\.png"),
        (np.zeros((5, 5)), {"output": "s3://b/a.png"}, InvalidArgumentError, "a local file"),
        (np.zeros((5, 5)), {"output": "none/a.png"}, SourceNotFoundError, "make it first"),
    ],
    ids=lambda value: None if isinstance(value, np.ndarray) else "",
)
def test_what_makes_no_picture_says_why_and_writes_nothing(
    image: np.ndarray,
    said: Any,
    error: type[Exception],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message) as caught:
        bp.preview(image, **{"output": "a.png", **said})
    assert isinstance(caught.value, BioimagePyError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("ending", "format"), [("png", "PNG"), ("JPG", "JPEG"), ("tif", "TIFF"), ("webp", "WEBP")]
)
def test_the_ending_chooses_the_format(tmp_path: Path, ending: str, format: str) -> None:
    picture = bp.preview(np.eye(50), tmp_path / f"a.{ending}")
    assert picture.path == str(tmp_path / f"a.{ending}")
    with Image.open(picture.path) as written:
        assert written.format == format
        assert (written.height, written.width, 3) == picture.pixels.shape
        if format == "PNG":
            assert np.array_equal(np.asarray(written), picture.pixels)


def test_a_file_that_is_there_stays_unless_it_may_go(tmp_path: Path) -> None:
    place = tmp_path / "a.png"
    place.write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        bp.preview(np.eye(50), place)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputExistsError, match="is a folder"):
        bp.preview(np.eye(50), tmp_path / "folder.png", overwrite=True)
    assert place.read_bytes() == b"mine"
    bp.preview(np.eye(50), place, overwrite=True)
    assert place.read_bytes().startswith(b"\x89PNG")
    assert {found.name for found in tmp_path.iterdir()} == {"a.png", "folder.png"}


def test_a_picture_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "a.png"
    place.write_bytes(b"mine")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    picture = bp.preview(np.eye(50))
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="no space left"):
        picture.save(place, overwrite=True)
    monkeypatch.undo()
    assert place.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [place]


def test_an_input_is_never_replaced_nor_joined(tmp_path: Path) -> None:
    Image.fromarray(np.eye(20, dtype="uint8") * 255).save(tmp_path / "in.png")
    before = (tmp_path / "in.png").read_bytes()
    (tmp_path / "link.png").symlink_to(tmp_path / "in.png")
    for output in ("in.png", "link.png"):
        with pytest.raises(InvalidArgumentError, match="never written to"):
            bp.preview(tmp_path / "in.png", tmp_path / output, overwrite=True)
    (tmp_path / "link.png").unlink()
    with pytest.raises(InvalidArgumentError, match="never written to"):
        bp.preview(RoiSource(bp.open_source(tmp_path, "*.png"), np.s_[:, :5]), tmp_path / "new.png")
    path = pyramid(tmp_path / "a.ome.zarr", (4, 8, 8), 2)
    with pytest.raises(InvalidArgumentError, match="never written to"):
        bp.preview(path, path / "picture.png")
    assert bp.preview(bp.open_source(tmp_path, "*.png"), tmp_path / "new.jpg").path
    assert (tmp_path / "in.png").read_bytes() == before


def test_a_picture_shows_itself() -> None:
    picture = bp.preview(np.zeros((4, 30, 30)))
    assert picture._repr_png_().startswith(b"\x89PNG")
    assert repr(picture).startswith("<Picture ")
    assert "z = 2, x = 15, y = 15" in repr(picture)


def test_panels_titles_and_names_do_not_overlap() -> None:
    for shape, size in (((64, 64, 64), 64), ((2, 500, 8), 300), ((300, 3, 3), 256), ((1, 40, 2), 64)):
        picture = bp.preview(np.ones(shape, "uint8"), size=size)
        boxes = [(p.left, p.top, p.left + p.size[1], p.top + p.size[0]) for p in picture.panels]
        for n, (left, top, right, bottom) in enumerate(boxes):
            assert min(left, top) >= 0
            assert right <= picture.pixels.shape[1]
            assert bottom <= picture.pixels.shape[0]
            for others in boxes[n + 1 :]:
                assert right <= others[0] or bottom <= others[1] or others[2] <= left or others[3] <= top


@pytest.mark.parametrize(
    "name", ["EMD-3001.map", "Misc_pollen.npy.gz", "reference_image.png", "z5py.n5/gzip"]
)
def test_files_of_other_programs_have_a_picture(shared_data: Path, tmp_path: Path, name: str) -> None:
    picture = bp.preview(shared_data / name, tmp_path / "a.png")
    shown = inside(picture)
    assert np.ptp(shown) > 150
    assert math.isclose(
        shown.shape[1] / shown.shape[0],
        {"E": 43 * 0.44825 / (25 * 0.3925), "M": 1228 / 935}.get(name[0], 1),
        rel_tol=0.02,
    )
