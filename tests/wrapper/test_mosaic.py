"""Tiles at positions: against numpy, and from files that tifffile wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, strategies as st

import bioimage_py as bp
from bioimage_py.cli import main
from bioimage_py.errors import BioimagePyError
from bioimage_py.geometry import Box
from bioimage_py.sources import Source, from_spec, open_source
from bioimage_py.wrapper import MosaicSource
from tests.sources.contract import textured
from tests.wrapper import stored
from tests.wrapper.test_contract import WrapperContract

OVERLAPS = ("first", "last", "max", "mean", "linear")


def expected(tiles: Sequence[np.ndarray], positions: Any, overlap: str, fill: float = 0) -> np.ndarray:
    """What a mosaic is, voxel by voxel."""
    places = np.array(positions) - np.min(positions, axis=0)
    shape = np.max([place + tile.shape for place, tile in zip(places, tiles, strict=True)], axis=0)
    out = np.full(shape, fill, tiles[0].dtype)
    for at in np.ndindex(*shape):
        found = []
        for tile, place in zip(tiles, places, strict=True):
            inside = np.array(at) - place
            if (inside >= 0).all() and (inside < tile.shape).all():
                weight = np.prod(np.minimum(inside + 1, np.array(tile.shape) - inside) - 0.5)
                found.append((tile[tuple(inside)], weight if overlap == "linear" else 1.0))
        values = [value for value, _ in found]
        if len(found) == 1 or (found and overlap in ("first", "last")):
            out[at] = values[-1 if overlap == "last" else 0]
        elif found:
            mean = np.average(values, weights=[weight for _, weight in found])
            out[at] = max(values) if overlap == "max" else mean if out.dtype.kind == "f" else np.rint(mean)
    return out


@given(st.data())
def test_equals_numpy(data: st.DataObject) -> None:
    overlap, dtype = (
        data.draw(st.sampled_from(OVERLAPS)),
        data.draw(st.sampled_from(("uint8", "int16", "float32"))),
    )
    n, integer = data.draw(st.integers(1, 5)), st.integers(-9, 9)
    shapes = data.draw(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 7)), min_size=n, max_size=n))
    places = data.draw(st.lists(st.tuples(integer, integer), min_size=n, max_size=n))
    tiles = [textured(shape, dtype, seed) // 2 for seed, shape in enumerate(shapes)]
    source = MosaicSource(tiles, places, overlap, fill_value=7)
    want = expected(tiles, places, overlap, 7)
    np.testing.assert_allclose(source[...], want, rtol=1e-6 if dtype == "float32" else 0)
    ends = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in want.shape]
    box = Box(tuple(e[0] for e in ends), tuple(e[1] for e in ends))
    np.testing.assert_array_equal(source.read(box), source[...][box.slices])


class TestMosaic(WrapperContract):
    """Stored tiles, which overlap on both axes, and a gap."""

    def array(self) -> np.ndarray:
        whole = textured((1, 17, 20), "uint16")[0]
        whole[:3, 12:] = 0
        return whole

    def make(self, array: np.ndarray, folder: Path) -> Source:
        places = [(0, 0), (7, 0), (3, 9), (9, 8)]
        paths = []
        for n, (y, x) in enumerate(places):
            stored.saved(np.pad(array, 9)[9 + y : 19 + y, 9 + x : 21 + x], folder, str(n)).close()
            paths.append(folder / f"{n}.npy")
        return MosaicSource(paths, places)

    @pytest.fixture
    def expected(self) -> np.ndarray:
        return np.pad(self.array(), ((0, 2), (0, 1)))


def write_tiles(
    folder: Path, whole: np.ndarray, places: Sequence[tuple[int, int]], names: Sequence[str], **options: Any
) -> None:
    for (y, x), name in zip(places, names, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / name, whole[..., y : y + 40, x : x + 50], **options)


WHOLE = textured((1, 76, 95), "uint16")[0]
PLACES = [(0, 0), (0, 45), (36, 0), (36, 45)]
SIZE = {"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}}  # fmt: skip


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_table_in_units(overlap: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["a.ome.tif", "sub/b.ome.tif", "c.ome.tif", str(tmp_path / "elsewhere" / "d.ome.tif")]
    write_tiles(tmp_path / "run", WHOLE, PLACES, names, **SIZE)
    lines = [
        f"{name};{x / 2 + 1000.1};;{(y + 10) / 2000}" for name, (y, x) in zip(names, PLACES, strict=True)
    ]
    table = tmp_path / "run" / "tiles.csv"
    table.write_text("# stage\nFile;X (µm);note;y_mm\n" + "\n".join(lines) + "\n", encoding="utf-8-sig")
    out = tmp_path / "out.ome.zarr"
    assert main(["copy", str(table), str(out), "--overlap", overlap, "--chunks", "32,32", "-q"]) == 0
    found = open_source(out)
    np.testing.assert_array_equal(found[...], WHOLE)
    assert (found.metadata.voxel_size, found.metadata.origin) == ((0.5, 0.5), (5.0, 1000.0))
    assert main(["info", str(table)]) == 0
    shown = capsys.readouterr().out
    assert "mosaic of 4 ome-tiff tiles, overlap first" in shown
    assert "76 × 95" in shown
    assert "4 files" in shown


def test_workers_reopen_it_and_open_tiles_when_they_read_them(tmp_path: Path) -> None:
    write_tiles(tmp_path, WHOLE, PLACES, [f"{n}.tif" for n in "abcd"])
    (tmp_path / "t.tsv").write_text(
        "file\ty\tx\n" + "".join(f"{n}.tif\t{y}\t{x}\n" for n, (y, x) in zip("abcd", PLACES, strict=True))
    )
    source = open_source(tmp_path / "t.tsv")
    spec = json.loads(json.dumps(source.to_spec()))
    (tmp_path / "d.tif").rename(tmp_path / "gone")
    again = from_spec(spec)
    np.testing.assert_array_equal(again[:36], WHOLE[:36])
    with pytest.raises(BioimagePyError, match="there is no file"):
        again[...]
    (tmp_path / "gone").rename(tmp_path / "d.tif")
    bp.copy(source, tmp_path / "out.zarr", job_type="subprocess", num_workers=2, chunks=(40, 40))
    np.testing.assert_array_equal(open_source(tmp_path / "out.zarr")[...], WHOLE)
    with pytest.raises(BioimagePyError, match="same array"):
        bp.copy(source, tmp_path / "a.tif", overwrite=True)


def test_stage_positions(tmp_path: Path) -> None:
    """One file of all images, and files of one image each; a stage label where planes state nothing."""
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}
    with tifffile.TiffWriter(tmp_path / "all.ome.tif", ome=True) as together:
        for n, (y, x) in enumerate(PLACES):
            plane = {"PositionX": x / 2, "PositionY": y / 2000, "PositionXUnit": "µm", "PositionYUnit": "mm"}
            about = {"axes": "YX", **sizes, "Plane": {name: [value] for name, value in plane.items()}}
            tile = WHOLE[y : y + 40, x : x + 50]
            together.write(tile, metadata=about, contiguous=False)
            tifffile.imwrite(tmp_path / f"each{n}.ome.tif", tile, metadata=about)
            xml = tifffile.tiffcomment(tmp_path / f"each{n}.ome.tif")
            label = f'<StageLabel Name="s" X="{x / 2}" XUnit="µm" Y="{y / 2}" YUnit="µm"/><Pixels '
            begin, end = xml.index("<Plane"), xml.index("/>", xml.index("<Plane")) + 2
            xml = (xml[:begin] + xml[end:]).replace("<Pixels ", label)
            (tmp_path / f"label{n}.ome.tif").write_bytes((tmp_path / f"each{n}.ome.tif").read_bytes())
            tifffile.tiffcomment(tmp_path / f"label{n}.ome.tif", xml.encode())
    for path in ("all.ome.tif", "each*.ome.tif", "label{tile}.ome.tif"):
        with open_source(tmp_path / path, grid="stage") as found:
            np.testing.assert_array_equal(found[...], WHOLE)
            assert found.metadata.voxel_size == (0.5, 0.5)


@pytest.mark.parametrize(
    ("pattern", "names", "grid"),
    [
        ("img_r{row}_c{col:03}.tif", ["img_r1_c001.tif", "img_r1_c002.tif", "img_r2_c001.tif", "img_r2_c002.tif"], "10%"),
        ("s{series:03}.tif", ["s000.tif", "s001.tif", "s003.tif", "s002.tif"], "2x2,10%,snake"),
        ("*.tif", ["1.tif", "9.tif", "2.tif", "10.tif"], "2x2, 10%, columns"),
        ("1-Pos{x}_{y}/[i]mg_z{z}.tif", ["1-Pos0_0/img_z{}.tif", "1-Pos1_0/img_z{}.tif", "1-Pos0_1/img_z{}.tif", "1-Pos1_1/img_z{}.tif"], "10%"),
    ],
)  # fmt: skip
def test_grids(pattern: str, names: list[str], grid: str, tmp_path: Path) -> None:
    volume = np.stack([WHOLE, WHOLE + 1])
    for z, plane in enumerate(volume if "{z}" in pattern else [WHOLE]):
        write_tiles(tmp_path, plane, PLACES, [name.format(z) for name in names])
    with open_source(tmp_path / pattern, grid=grid, overlap="linear") as found:
        np.testing.assert_array_equal(found[...], volume if "{z}" in pattern else WHOLE)
        assert found.metadata.axes == ("z", "y", "x")[-found.ndim :]


def test_planes_and_gaps(tmp_path: Path) -> None:
    write_tiles(tmp_path, WHOLE, PLACES, [f"{n}.tif" for n in range(4)])
    rows = [f"{n}.tif,{x},{y},{z}" for n, ((y, x), z) in enumerate(zip(PLACES, (0, 4, 0, 4), strict=True))]
    (tmp_path / "t.csv").write_text("file,x,y,z_um\n" + "\n".join(rows))
    found = open_source(tmp_path / "t.csv", fill_value=5)
    assert found.metadata.axes == ("z", "y", "x")
    assert found.metadata.voxel_size == (4.0, 1.0, 1.0)
    np.testing.assert_array_equal(found[0, :, :50], WHOLE[:, :50])
    assert set(np.unique(found[0, :, 50:])) == {5}
    np.testing.assert_array_equal(found[1, :, 45:], WHOLE[:, 45:])
    gaps = open_source(tmp_path / "{tile}.tif", grid="2x3", missing_planes="fill")
    assert gaps.shape == (80, 150)
    assert not gaps[40:, 50:].any()


TABLES = [
    ("file,x,y\n0.tif,0,0\n1.tif,0,abc\n", "y in line 3.*is not a number but 'abc'"),
    ("file,x,y\n0.tif,0,0\n1.tif,0,inf\n", "is not a number but 'inf'"),
    ("file,x,y\n0.tif,0,0\n\nnone.tif,0,1\n", "line 4 of table.*there is no file or folder.*none.tif"),
    ("file,x\n0.tif,0\n", "no column y: its first line names file, x"),
    ("name,x,y\n0.tif,0,0\n", "no column file"),
    ("", "no column file and y and x"),
    ("file,x,y\n", "no tiles below"),
    ("file,x,y\n0.tif,0\n", "line 2.*has 2 columns"),
    ("file,x,y,x_um\n0.tif,0,0,0\n", "two columns for x"),
    ("file,x,y\n../0.tif,0,0\n", "leads out of"),
    ("file,x_um,y\n0.tif,0,0\n", "states no voxel size"),
    ("file,x,y\n0.tif,0,0\nbyte.tif,0,9\n", "same dtype: .*0.tif has uint16, and .*byte.tif has uint8"),
    ("file,x,y\n0.tif,0,0\nvolume.tif,0,9\n", "same axes: .*0.tif has 2, and .*volume.tif has 3"),
    ("file,x,y\n0.tif,0,0\nsized.ome.tif,0,9\n", "same voxel size: "),
]


@pytest.mark.parametrize(("text", "message"), TABLES)
def test_bad_tables_are_one_error_before_anything_is_written(text: str, message: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_tiles(run, WHOLE, [(0, 0)], ["0.tif"])
    write_tiles(run, WHOLE, [(0, 0)], ["sized.ome.tif"], **SIZE)
    tifffile.imwrite(run / "byte.tif", np.zeros((40, 50), "uint8"))
    tifffile.imwrite(run / "volume.tif", np.zeros((5, 40, 50), "uint16"), metadata={"axes": "ZYX"})
    (run / "t.csv").write_text(text)
    with pytest.raises(BioimagePyError, match=message):
        bp.copy(run / "t.csv", tmp_path / "out.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("r{row}_c{col}.tif", {"grid": "5%"}, "some are missing: row 1 column 0"),
        ("r{row}_c{col}.tif", {"grid": "1x2"}, "no place for all 3 tiles"),
        ("r{row}_c{col}.tif", {"grid": "snake"}, "must have {row} and {col}"),
        ("r*.tif", {"grid": "5%"}, "must state rows and columns"),
        ("q{row}_c{col}.tif", {"grid": "5%"}, "no file in folder.*matches"),
        ("r*.tif", {"grid": "2+2"}, "grid must be 'stage'"),
        ("r*.tif", {"grid": "3x1,40px"}, "cannot overlap by that much"),
        ("r*.tif", {"grid": "3x1,100%"}, "less than 100%"),
        ("r*.tif", {"grid": "stage"}, "does not state where it lies"),
        ("r0_c0.tif", {"grid": "1x1"}, "neither a table of tiles nor a pattern"),
        ("t.csv", {"grid": "1x1"}, "leave out the grid"),
        ("t.csv", {"overlap": "most"}, "overlap must be one of"),
        ("t.csv", {"fill_value": -1}, "does not fit the dtype"),
        ("t.csv", {"mode": "r+"}, "can only be read"),
        ("r{x}_*.tif", {}, "not an axis along which slices"),
    ],
)
def test_what_is_refused(path: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_tiles(tmp_path, WHOLE, PLACES[:3], ["r0_c0.tif", "r0_c1.tif", "r1_c1.tif"])
    (tmp_path / "t.csv").write_text("file,x,y\nr0_c0.tif,0,0\n")
    with pytest.raises(BioimagePyError, match=message):
        open_source(tmp_path / path, **options)
