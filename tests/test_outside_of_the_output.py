"""Nothing outside of the output is written or removed, whatever names and links a store holds."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import bioimage_py as bp
from bioimage_py.errors import BioimagePyError, InvalidArgumentError, ReadOnlyError
from bioimage_py.sources import locate
from bioimage_py.storage import StoreFolder, inner_name

AXES = [{"name": name, "type": "space"} for name in "yx"]
CLIMBING = ["..", "../photos", "a/../../photos", "0/../../photos", "/../photos", "../../photos"]
STRANGE = [
    "s3://lab/photos",
    "file:///etc",
    "a//b",
    "./a",
    "a/.",
    "a\\b",
    "..\\photos",
    "a\0b",
    "x" * 256,
    "caf\udce9",
]


def written(folder: Path) -> dict[str, bytes | None]:
    """Return all that is below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def multiscales(paths: list[str]) -> list[dict[str, Any]]:
    steps = [[{"type": "scale", "scale": [2.0**n] * 2}] for n in range(len(paths))]
    return [
        {
            "version": "0.4",
            "axes": AXES,
            "datasets": [
                {"path": path, "coordinateTransformations": step}
                for path, step in zip(paths, steps, strict=True)
            ],
        }
    ]


def said(group: Any, zarr_format: int, **ome: Any) -> None:
    group.attrs.update({"ome": {"version": "0.5", **ome}} if zarr_format == 3 else ome)


def image(path: Path, paths: list[str], zarr_format: int = 3) -> None:
    """Make an image of one array, 0, whose metadata name these levels."""
    group = zarr.open_group(path, mode="a", zarr_format=zarr_format)
    group.create_array("0", shape=(64, 64), chunks=(16, 16), dtype="u1")[...] = 5
    said(group, zarr_format, multiscales=multiscales(paths))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """What belongs to somebody else, beside and as arrays as well."""
    folder = tmp_path / "home" / "photos"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_text("x")
    zarr.create_array(tmp_path / "home" / "precious.zarr", shape=(32, 32), chunks=(16, 16), dtype="u1")[
        ...
    ] = 1
    return folder


@pytest.mark.parametrize("name", [*CLIMBING, *STRANGE])
def test_what_is_no_name_in_a_container(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"leads out of|cannot hold anything named"):
        inner_name(name, "a.zarr")
    for folder in (StoreFolder.at(str(tmp_path)), StoreFolder.at("s3://lab/a.zarr")):
        with pytest.raises(InvalidArgumentError):
            folder.child(name)


def test_names_that_are_what_they_seem() -> None:
    for name in ("a/b", "0", "…", "..a", "a..", "...", "%2e%2e", "a b", "[1]", "a:b"):
        assert inner_name(f"/{name}/", "a.zarr") == name


@pytest.mark.parametrize(
    "path",
    ["n.zarr/..", "n.zarr/a/../..", "n.ome.zarr/../x.ome.zarr", "n.n5/../x", "n.h5:/../x", "n.h5:/a/../x"],
)
def test_outputs_do_not_climb_out_of_their_container(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    values = np.ones((64, 64), "u1")
    calls: list[Callable[[], Any]] = [
        lambda: bp.copy(values, path, overwrite=True),
        lambda: bp.plan(values, path),
        lambda: bp.create_output(path, like=values),
        lambda: bp.open_source(path),
    ]
    if ".ome" in path:
        calls.append(lambda: bp.pyramid(values, path, levels=2))
    for call in calls:
        with pytest.raises(InvalidArgumentError, match=r"'\.\.'"):
            call()
    assert not written(tmp_path)


@pytest.mark.parametrize("suffix", [".zarr", ".n5", ".h5"])
@pytest.mark.parametrize("key", ["..", "../x", "a/../../x", "a/.."])
def test_keys_do_not_climb_out_of_their_container(tmp_path: Path, suffix: str, key: str) -> None:
    values = np.ones((8, 8), "u1")
    path = tmp_path / "dir" / f"n{suffix}"
    for call in (lambda: bp.create_output(path, key=key, like=values), lambda: bp.open_source(path, key)):
        with pytest.raises(InvalidArgumentError, match="leads out of"):
            call()
    assert not written(tmp_path)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("level", [*CLIMBING, "../precious.zarr", "a\\..\\..\\photos", "."])
def test_levels_that_lead_out(photos: Path, zarr_format: int, level: str) -> None:
    home = photos.parent
    image(home / "e.ome.zarr", ["0", level], zarr_format)
    before = written(home)
    with pytest.raises(BioimagePyError):
        bp.pyramid(home / "e.ome.zarr", levels=2, overwrite=True)
    with pytest.raises(BioimagePyError):
        bp.pyramid(
            np.ones((64, 64), "u1"), home / "e.ome.zarr", levels=2, overwrite=True, zarr_format=zarr_format
        )
    assert written(home) == before
    out = home.parent / "out"
    out.mkdir()
    with pytest.raises(BioimagePyError):
        bp.copy(home / "e.ome.zarr", out / "e.ome.zarr", overwrite=True)
    assert not written(out)
    # The array that is there is still read.
    assert (bp.open_source(home / "e.ome.zarr", "0")[...] == 5).all()


@pytest.mark.parametrize("level", ["", "0", "0/", "photos", "a/0", "up/0"])
def test_levels_that_are_none(photos: Path, level: str) -> None:
    path = photos.parent / "e.ome.zarr"
    image(path, ["0", level])
    shutil.move(photos, path / "photos")
    (path / "a").mkdir()
    (path / "a" / "0").symlink_to("../0")
    (path / "up").symlink_to("../e.ome.zarr")
    before = written(path)
    with pytest.raises(BioimagePyError):
        bp.pyramid(path, levels=2, overwrite=True)
    assert written(path) == before


def test_links_in_circles_are_not_followed(tmp_path: Path) -> None:
    for suffix in (".zarr", ".n5"):
        path = tmp_path / f"a{suffix}"
        bp.copy(np.ones((8, 8), "u1"), path / "g" / "raw")
        (path / "g" / "up").symlink_to("..")
        (path / "self").symlink_to("self")
        (path / "alias").symlink_to("g")
        with pytest.raises(bp.errors.AmbiguousSourceError, match="holds 2 arrays"):
            bp.open_source(path)


def test_a_level_around_the_full_size_one_stays(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "e.ome.zarr", mode="w", zarr_format=3)
    group.create_array("s/0", shape=(64, 64), chunks=(16, 16), dtype="u1")[...] = 5
    said(group, 3, multiscales=multiscales(["s/0", "s"]))
    before = written(tmp_path)
    with pytest.raises(InvalidArgumentError, match="smaller level"):
        bp.pyramid(tmp_path / "e.ome.zarr", levels=2, overwrite=True)
    assert written(tmp_path) == before


def test_a_level_that_is_named_twice_is_removed_once(tmp_path: Path) -> None:
    path = tmp_path / "e.ome.zarr"
    bp.pyramid(np.ones((64, 64), "u1"), path, levels=2, chunks=(16, 16))
    document = json.loads((path / "zarr.json").read_text())
    datasets = document["attributes"]["ome"]["multiscales"][0]["datasets"]
    datasets += [datasets[1], {**datasets[1], "path": "gone"}]
    (path / "zarr.json").write_text(json.dumps(document))
    assert len(bp.pyramid(path, levels=3, overwrite=True)) == 3


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", ["../../precious", "..", "../0", "/../../precious", "a\\b"])
def test_labels_wells_and_series_that_lead_out(photos: Path, zarr_format: int, name: str) -> None:
    home = photos.parent
    image(home / "precious", ["0"], zarr_format)
    for kind in ("labels", "plate", "well", "series"):
        path = home / f"{kind}.ome.zarr"
        group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
        if kind == "labels":
            image(path, ["0"], zarr_format)
            said(group.create_group("labels"), zarr_format, labels=[name])
        elif kind == "plate":
            said(group, zarr_format, plate={"wells": [{"path": name}], "rows": [], "columns": []})
        elif kind == "well":
            said(group, zarr_format, well={"images": [{"path": name}]})
        else:
            said(group, zarr_format, **{"bioformats2raw.layout": 3})
            said(group.create_group("OME"), zarr_format, series=[name])
        before = written(home)
        with pytest.raises(InvalidArgumentError, match=r"leads out of|backslash"):
            bp.copy(path, home.parent / "out.ome.zarr", overwrite=True)
        assert written(home) == before
        assert not (home.parent / "out.ome.zarr").exists()


def test_levels_of_n5_that_lead_out(photos: Path) -> None:
    path = photos.parent / "a.n5"
    bp.copy(np.ones((8, 8), "u1"), path / "g" / "s0")
    (path / "g" / "attributes.json").write_text(
        json.dumps({"multiscales": multiscales(["../../precious.zarr"])})
    )
    with pytest.raises(InvalidArgumentError, match="leads out of"):
        bp.open_source(path, "g")


def test_scales_outside_of_a_precomputed_volume_are_read_and_not_written(tmp_path: Path) -> None:
    values = np.arange(4 * 8 * 8, dtype="u1").reshape(4, 8, 8)
    bp.copy(values, tmp_path / "a.precomputed")
    bp.copy(values[:2], tmp_path / "b.precomputed")
    info = json.loads((tmp_path / "a.precomputed" / "info").read_text())
    for key in ("../a.precomputed/s0", "../../a.precomputed/s0", "s0/../../a.precomputed/s0"):
        info["scales"][0]["key"] = key
        (tmp_path / "b.precomputed" / "info").write_text(json.dumps(info))
        before = written(tmp_path / "a.precomputed")
        with pytest.raises(InvalidArgumentError, match="leads out of"):
            bp.open_source(tmp_path / "b.precomputed", mode="r+")
        if key.count("..") == 1:
            with pytest.warns(bp.errors.BioimagePyWarning, match="outside of the volume"):
                assert (bp.open_source(tmp_path / "b.precomputed")[...] == values).all()
        else:
            with pytest.raises(InvalidArgumentError, match="leads out of"):
                bp.open_source(tmp_path / "b.precomputed")
        assert written(tmp_path / "a.precomputed") == before


@pytest.mark.parametrize("suffix", [".zarr", ".n5"])
def test_links_out_of_a_container_are_not_followed_for_writing(photos: Path, suffix: str) -> None:
    home = photos.parent
    values = np.ones((32, 32), "u1")
    bp.copy(values, home / f"mine{suffix}" / "a")
    bp.copy(values * 7, home / f"theirs{suffix}" / "a")
    (home / f"mine{suffix}" / "array").symlink_to(home / f"theirs{suffix}" / "a")
    (home / f"mine{suffix}" / "group").symlink_to(f"../theirs{suffix}")
    (home / f"mine{suffix}" / "inner").symlink_to("a")
    before = written(home / f"theirs{suffix}")
    for key in ("array", "group/a", "group/new"):
        with pytest.raises(InvalidArgumentError, match="by a link"):
            bp.copy(values, home / f"mine{suffix}" / key, overwrite=True)
    for key in ("array", "group/a"):
        with pytest.raises(ReadOnlyError, match="is a link to"):
            bp.open_source(home / f"mine{suffix}", key, mode="r+")
        # To read, links are followed as the system does.
        assert (bp.open_source(home / f"mine{suffix}", key)[...] == 7).all()
    assert written(home / f"theirs{suffix}") == before
    bp.open_source(home / f"mine{suffix}", "inner", mode="r+")[...] = 3
    assert (bp.open_source(home / f"mine{suffix}", "a")[...] == 3).all()


def test_a_container_that_is_a_link_is_what_it_leads_to(tmp_path: Path) -> None:
    bp.copy(np.ones((8, 8), "u1"), tmp_path / "real.zarr" / "a")
    (tmp_path / "link.zarr").symlink_to("real.zarr")
    bp.copy(np.full((8, 8), 2, "u1"), tmp_path / "link.zarr" / "a", overwrite=True)
    bp.open_source(tmp_path / "link.zarr", "a", mode="r+")[0, 0] = 3
    assert bp.open_source(tmp_path / "real.zarr", "a")[...].sum() == 2 * 64 + 1


@pytest.mark.parametrize("where", ["c", "c/1", "c/1/1"])
def test_chunks_that_are_links_out_of_the_store(tmp_path: Path, where: str) -> None:
    values = np.arange(64 * 64, dtype="u2").reshape(64, 64)
    path, aside = tmp_path / "a.zarr", tmp_path / "aside"
    bp.copy(values, path, chunks=(16, 16))
    shutil.move(path / where, aside)
    (path / where).symlink_to(aside)
    before = written(tmp_path)
    with pytest.raises(ReadOnlyError, match="is a link to"):
        bp.open_source(path, mode="r+")
    with pytest.raises(ReadOnlyError, match="read-only"):
        bp.copy(values, zarr.open_array(path, mode="r+"))
    assert written(tmp_path) == before
    assert (bp.open_source(path)[...] == values).all()
    assert (bp.copy(zarr.open_array(path, mode="r+")) == values).all()
    # Replacing the array removes the link, and not what it leads to.
    kept = aside.read_bytes() if aside.is_file() else written(aside)
    bp.copy(values + 1, path, overwrite=True)
    assert (aside.read_bytes() if aside.is_file() else written(aside)) == kept
    assert (bp.open_source(path)[...] == values + 1).all()


def test_metadata_that_are_links_stay_what_they_lead_to(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    bp.copy(np.ones((64, 64), "u1"), path, chunks=(16, 16))
    shutil.move(path / "zarr.json", tmp_path / "kept.json")
    (path / "zarr.json").symlink_to(tmp_path / "kept.json")
    kept = (tmp_path / "kept.json").read_bytes()
    bp.pyramid(path, levels=2)
    assert (tmp_path / "kept.json").read_bytes() == kept
    assert (
        len(json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]["datasets"])
        == 2
    )


def test_levels_and_labels_that_are_links_out(photos: Path) -> None:
    home = photos.parent
    path = home / "e.ome.zarr"
    bp.pyramid(np.ones((64, 64), "u1"), path, levels=2, chunks=(16, 16))
    shutil.move(path / "1", home / "one.zarr")
    (path / "1").symlink_to("../one.zarr")
    (home / "labels").mkdir()
    (path / "labels").symlink_to("../labels")
    before = written(home)
    for call in (
        lambda: bp.pyramid(path, levels=2, overwrite=True),
        lambda: bp.pyramid(np.ones((64, 64), "u1"), path, levels=2, overwrite=True),
        lambda: bp.pyramid(np.ones((64, 64), "u1"), path / "labels" / "cells", levels=2),
    ):
        with pytest.raises(BioimagePyError):
            call()
    assert written(home) == before


def test_paths_that_stores_cannot_take(tmp_path: Path) -> None:
    values = np.ones((8, 8), "u1")
    long = "x" * 256
    for name in ("b\\c.zarr", "..\\c.n5", "caf\udce9.zarr", "caf\udce9.n5", f"{long}.zarr", f"{long}/a.h5"):
        with pytest.raises(InvalidArgumentError, match=r"backslash|UTF-8|at most 255"):
            bp.copy(values, os.fspath(tmp_path) + "/" + name)
        with pytest.raises(InvalidArgumentError, match=r"backslash|UTF-8|at most 255"):
            bp.create_output(tmp_path / name, like=values)
    assert not written(tmp_path)
    # Other formats take them.
    for name in ("b\\c.npy", "caf\udce9.npy", "caf\udce9.h5"):
        bp.copy(values, tmp_path / name)
        assert (bp.open_source(tmp_path / name)[...] == 1).all()
    for name in ("b\\c.h5:/a\\b",):
        bp.copy(values, f"{tmp_path}/{name}")
        assert (bp.open_source(f"{tmp_path}/{name}")[...] == 1).all()


@pytest.mark.parametrize("suffix", [".zarr", ".n5", ".h5"])
@pytest.mark.parametrize("key", ["b[1]", "b?", "*", "g[0-9]/x*", "a#b", "a%41", "a:b"])
def test_keys_with_characters_of_patterns(tmp_path: Path, suffix: str, key: str) -> None:
    values = np.arange(64, dtype="u1").reshape(8, 8)
    path = tmp_path / f"a{suffix}"
    bp.create_output(path, key=key, like=values)[...] = values
    for source in (bp.open_source(path, key), bp.open_source(f"{path}:/{key}")):
        assert (source[...] == values).all()
        source.close()
    if suffix != ".h5":
        assert (bp.open_source(f"{path}/{key}")[...] == values).all()


def test_patterns_are_still_patterns(tmp_path: Path) -> None:
    import tifffile

    for n in range(3):
        tifffile.imwrite(tmp_path / f"s{n}.tif", np.full((4, 4), n, "u1"))
    assert bp.open_source(tmp_path, "s[01].tif").shape == (2, 4, 4)
    assert bp.open_source(f"{tmp_path}/s?.tif").shape == (3, 4, 4)


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%b c", "100%", "a[1]", "ü*"])
def test_names_in_buckets(bucket: str, name: str) -> None:
    del bucket
    values = np.arange(64, dtype="u1").reshape(8, 8)
    bp.copy(values, f"s3://lab/{name}.zarr").close()
    made = bp.open_source(f"s3://lab/{name}.zarr")
    assert (made[...] == values).all()
    assert (bp.open_source(made.path)[...] == values).all()
    with pytest.raises(ValueError, match="differ"):
        bp.copy(f"s3://lab/{name}.zarr", made.path, overwrite=True)
    bp.create_output("s3://lab/names.zarr", key=name, like=values)[...] = values
    assert (bp.open_source("s3://lab/names.zarr", name)[...] == values).all()
    assert (bp.open_source(f"s3://lab/names.zarr/{name}")[...] == values).all()


def test_urls_do_not_climb() -> None:
    for url in (
        "s3://lab/a/../b.zarr",
        "s3://lab/a/%2e%2E/b.zarr",
        "memory://a/../b.zarr",
        "http://localhost/../b.zarr",
    ):
        with pytest.raises(InvalidArgumentError, match=r"'\.\.' in it"):
            StoreFolder.at(url)
    for url in ("s3://lab/a.zarr/%2e%2e/b", "memory://a.zarr/../b"):
        with pytest.raises(InvalidArgumentError, match="leads out of"):
            locate(url)


def test_groups_in_buckets_are_never_replaced(bucket: str) -> None:
    del bucket
    values = np.ones((8, 8), "u1")
    bp.copy(values, "s3://lab/group.zarr/a").close()
    with pytest.raises(bp.errors.OutputExistsError, match="is a group"):
        bp.copy(values, "s3://lab/group.zarr", overwrite=True)
    assert (bp.open_source("s3://lab/group.zarr/a")[...] == 1).all()


def test_what_is_not_an_array_in_a_bucket_stays(bucket: str) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=bucket, region_name="us-east-1")
    client.put_object(Bucket="lab", Key="photos.zarr/a.jpg", Body=b"x")
    for path in ("s3://lab/photos.zarr", "s3://lab/others.ome.zarr"):
        bp.copy(np.ones((8, 8), "u1"), path, overwrite=True).close()
    bp.copy(np.full((8, 8), 2, "u1"), "s3://lab/others.ome.zarr", overwrite=True).close()
    assert (bp.open_source("s3://lab/others.ome.zarr")[...] == 2).all()
    with pytest.raises(bp.errors.OutputExistsError, match=r"also holds a\.jpg"):
        bp.copy(np.ones((8, 8), "u1"), "s3://lab/photos.zarr", overwrite=True)
    assert client.get_object(Bucket="lab", Key="photos.zarr/a.jpg")["Body"].read() == b"x"
    client.put_object(Bucket="lab", Key="album.n5/a.jpg", Body=b"x")
    bp.copy(np.ones((8, 8), "u1"), "s3://lab/album.n5", overwrite=True).close()
    assert client.get_object(Bucket="lab", Key="album.n5/a.jpg")["Body"].read() == b"x"
    client.close()


def ome_tiff_of_two(path: Path, other: str) -> None:
    """Write an OME-TIFF of two planes, of which the second is said to be in another file."""
    import tifffile

    planes = "".join(
        f'<TiffData IFD="0" FirstZ="{z}" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{z}</UUID></TiffData>'
        for z, name in enumerate((path.name, other))
    )
    described = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:0"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="8" SizeY="8" SizeZ="2" SizeC="1" SizeT="1">'
        f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'
    )
    tifffile.imwrite(path, np.full((8, 8), 1, "u1"), description=described, metadata=None)


def test_files_of_an_ome_tiff_are_read_beside_it_only(tmp_path: Path) -> None:
    import tifffile

    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "b.ome.tif", np.full((2, 8, 8), 9, "u1"), metadata={"axes": "ZYX"})
    for other in ("../b.ome.tif", str(tmp_path / "b.ome.tif"), "x/../../b.ome.tif"):
        (tmp_path / "in" / "x").mkdir(exist_ok=True)
        ome_tiff_of_two(tmp_path / "in" / "a.ome.tif", other)
        with pytest.raises(BioimagePyError, match=r"b\.ome\.tif.*outside of the folder"):
            bp.open_source(tmp_path / "in" / "a.ome.tif")
    # A link that somebody has put beside it is beside it.
    (tmp_path / "in" / "b.ome.tif").symlink_to("../b.ome.tif")
    ome_tiff_of_two(tmp_path / "in" / "a.ome.tif", "b.ome.tif")
    assert bp.open_source(tmp_path / "in" / "a.ome.tif")[:, 0, 0].tolist() == [1, 9]
