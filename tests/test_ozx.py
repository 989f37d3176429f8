"""Zipped OME-Zarr, as RFC-9 has it: written whole, read by others, and made again after crashes."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts
import zarr

import bioimage_py as bp
from bioimage_py.cli import main
from bioimage_py.errors import (
    BioimagePyError,
    InvalidArgumentError,
    OutputExistsError,
    ReadOnlyError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.sources.ome_zarr import list_ome_zarr
from tests.sources.contract import textured
from tests.sources.ome_trees import image_with_labels, plate

IMAGE = textured((2, 40, 96, 80), "uint16")
OPTIONS: dict[str, Any] = {
    "axes": "czyx",
    "voxel_size": (2, 0.5, 0.25),
    "units": "um",
    "chunks": (1, 16, 16, 16),
    "levels": 3,
    "memory_limit": "32MiB",
}


def test_a_pyramid_is_read_by_others(tmp_path: Path) -> None:
    path = tmp_path / "image.ozx"
    levels = bp.pyramid(IMAGE, path, **OPTIONS)
    assert [p.name for p in tmp_path.iterdir()] == ["image.ozx"]
    np.testing.assert_array_equal(levels[0][...], IMAGE)
    assert (levels[0].metadata.voxel_size, levels[0].shards) == ((1, 2, 0.5, 0.25), (1, 64, 128, 128))
    with zipfile.ZipFile(path) as file:
        about = {"version": "0.5", "zipFile": {"centralDirectory": {"jsonFirst": True}}}
        assert json.loads(file.comment) == {"ome": about}
        entries = file.infolist()
        names = [entry.filename for entry in entries]
        assert names[:4] == ["zarr.json", "0/zarr.json", "1/zarr.json", "2/zarr.json"]
        assert not [name for name in names[4:] if not name.startswith(("0/c/", "1/c/", "2/c/"))]
        assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
        assert file.testzip() is None
        assert json.loads(file.read("zarr.json"))["attributes"]["ome"]["multiscales"][0]["name"] == "image"
    with zarr.storage.ZipStore(path, mode="r") as store:
        group = zarr.open_group(store, mode="r")
        for n, level in enumerate(levels):
            np.testing.assert_array_equal(group[str(n)][...], level[...])
    for n, level in enumerate(levels):
        inside = {"driver": "zip", "base": f"file://{path}", "path": f"{n}/"}
        opened = ts.open({"driver": "zarr3", "kvstore": inside}).result()
        np.testing.assert_array_equal(opened.read().result(), level[...])
    nz = pytest.importorskip("ngff_zarr")
    images = nz.from_ngff_zarr(str(path), validate=True).images
    assert [image.scale["x"] for image in images] == [level.metadata.voxel_size[-1] for level in levels]
    np.testing.assert_array_equal(np.asarray(images[0].data), IMAGE)


def test_what_others_write_is_read(tmp_path: Path) -> None:
    nz = pytest.importorskip("ngff_zarr")
    made = nz.to_multiscales(nz.to_ngff_image(IMAGE[0], "zyx", {"z": 2.0, "y": 0.5, "x": 0.5}), [2])
    nz.to_ngff_zarr(str(tmp_path / "a.ozx"), made, version="0.5")
    with bp.open_source(tmp_path / "a.ozx") as source:
        np.testing.assert_array_equal(source[...], IMAGE[0])
        assert source.metadata.voxel_size == (2.0, 0.5, 0.5)
        assert len(bp.sources.coarser_levels(source)) == 1


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_whole_images_go_in_and_out(tmp_path: Path, version: str) -> None:
    image_with_labels(tmp_path / "in.ome.zarr", version)
    bp.copy(tmp_path / "in.ome.zarr", tmp_path / "a.ozx", num_workers=2, digest=True)
    assert bp.verify(tmp_path / "in.ome.zarr", tmp_path / "a.ozx")
    assert bp.verify(tmp_path / "a.ozx")  # by its digest
    (image,) = list_ome_zarr(tmp_path / "a.ozx")
    assert (image.version, image.levels) == ("0.5", ("0", "1", "2"))
    assert [label.key for label in image.labels] == ["labels/cells"]
    road = bp.plan(tmp_path / "a.ozx", tmp_path / "out.ome.zarr")
    assert {array.plan.road for array in road.arrays} == {"verbatim"}
    bp.copy(tmp_path / "a.ozx", tmp_path / "out.ome.zarr")
    assert bp.verify(tmp_path / "in.ome.zarr", tmp_path / "out.ome.zarr")
    bp.copy(tmp_path / "a.ozx" / "labels" / "cells", tmp_path / "cells.ome.zarr")
    assert bp.verify(tmp_path / "in.ome.zarr" / "labels" / "cells", tmp_path / "cells.ome.zarr")
    old = (tmp_path / "a.ozx").read_bytes()
    with pytest.raises(OutputExistsError, match=r"a\.ozx' is there already"):
        bp.copy(tmp_path / "in.ome.zarr", tmp_path / "a.ozx")
    bp.copy(tmp_path / "in.ome.zarr", tmp_path / "a.ozx", overwrite=True)
    assert (tmp_path / "a.ozx").read_bytes() == old  # the same call makes the same bytes
    assert not (tmp_path / "a.ozx.bioimage-py").exists()
    for one in (str(tmp_path / "a.ozx"), bp.open_source(tmp_path / "a.ozx", "1")):
        with pytest.raises(InvalidArgumentError, match="to differ from its input"):
            bp.copy(one, tmp_path / "a.ozx", overwrite=True)


def test_a_plate(tmp_path: Path) -> None:
    plate(tmp_path / "in.zarr")
    bp.copy(tmp_path / "in.zarr", tmp_path / "plate.ozx")
    assert len(list_ome_zarr(tmp_path / "plate.ozx")) == 4
    assert bp.verify(tmp_path / "in.zarr", tmp_path / "plate.ozx")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image_with_labels(tmp_path / "in.ome.zarr")
    out = str(tmp_path / "out.ozx")
    assert main(["copy", str(tmp_path / "in.ome.zarr"), out, "--ome-zarr-version", "0.6", "--verify"]) == 0
    assert f"to {out}" in capsys.readouterr().out
    assert main(["info", out]) == 0
    told = capsys.readouterr().out
    assert "labels/cells" in told
    assert "version 0.6" in told
    with zipfile.ZipFile(out) as file:
        assert json.loads(file.comment)["ome"]["version"] == "0.6"


@pytest.mark.parametrize("moment", ["while it is packed", "before it has its name"])
def test_the_same_call_goes_on_after_a_kill(tmp_path: Path, moment: str) -> None:
    call = [str(tmp_path / "in.zarr"), str(tmp_path / "out.ozx")]
    bp.copy(IMAGE, call[0], chunks=(1, 16, 16, 16))
    place = "shutil.copyfileobj" if moment.startswith("while") else "archive.UnfinishedFile.finish"
    dies = f"""
import os, shutil
import bioimage_py as bp
from bioimage_py.sources.ome_zarr import archive
{place} = lambda *_: os._exit(9)
bp.copy(*{call}, codec="gzip:1", num_workers=2)
"""
    ended = subprocess.run(
        [sys.executable, "-c", dies], check=False, timeout=120, capture_output=True, text=True
    )
    assert ended.returncode == 9, ended.stderr
    assert not Path(call[1]).exists()
    seen: list[Any] = []
    bp.copy(*call, codec="gzip:1", num_workers=2, progress=seen.append)
    assert seen[-1].account is None or seen[-1].account.blocks_before == seen[-1].blocks_done
    np.testing.assert_array_equal(bp.open_source(call[1])[...], IMAGE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.zarr", "out.ozx"]


def test_large_shards_in_parts(tmp_path: Path) -> None:
    """Reading a part of a large entry, with sizes of 64 bits in its header and without, compressed, or damaged."""
    path, image = tmp_path / "a.ozx", np.random.default_rng(0).integers(0, 4000, (64, 128, 128), "uint16")
    bp.copy(image, path, chunks=(16, 32, 32), shards=(64, 128, 128))
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    for name, how in (("wide", {"force_zip64": True}), ("plain", {}), ("deflated", {})):
        with zipfile.ZipFile(tmp_path / f"{name}.ozx", "w") as file:
            for entry, data in entries.items():
                info = zipfile.ZipInfo(entry)
                info.compress_type = zipfile.ZIP_DEFLATED if name == "deflated" else zipfile.ZIP_STORED
                with file.open(info, "w", **how) as into:
                    into.write(data)
        with bp.open_source(tmp_path / f"{name}.ozx") as source:
            np.testing.assert_array_equal(source[3:20, 30:70, 5:], image[3:20, 30:70, 5:])
        assert bp.verify(tmp_path / f"{name}.ozx", image)
    with zipfile.ZipFile(tmp_path / "plain.ozx") as file:
        at = file.getinfo("0/c/0/0/0").header_offset
    data = bytearray((tmp_path / "plain.ozx").read_bytes())
    data[at] ^= 255
    (tmp_path / "plain.ozx").write_bytes(data)
    with bp.open_source(tmp_path / "plain.ozx") as source, pytest.raises(StorageError, match="is damaged"):
        source[:16, :32, :32]


def test_bad_calls(tmp_path: Path) -> None:
    image, out = IMAGE[0, :4], tmp_path / "a.ozx"
    (tmp_path / "text.ozx").write_text("not a zip file")
    calls: list[tuple[Any, type[BioimagePyError], str]] = [
        (lambda: bp.copy(image, "s3://lab/a.ozx"), InvalidArgumentError, "is packed on a disk"),
        (lambda: bp.copy(image, f"{out}/labels/x"), InvalidArgumentError, "'labels/x' cannot be added"),
        (lambda: bp.copy(image, out, zarr_format=2), InvalidArgumentError, "holds Zarr v3"),
        (lambda: bp.copy(image, out, update=True), InvalidArgumentError, "update is not possible"),
        (lambda: bp.copy(image, out, shards="large"), InvalidArgumentError, "a shape or 'auto'"),
        (lambda: bp.pyramid(image, out, job_type="subprocess"), InvalidArgumentError, "by one process"),
        (lambda: bp.create_output(out, like=image), UnsupportedFormatError, "by copy and pyramid only"),
        (lambda: bp.copy(image, tmp_path / "text.ozx", overwrite=True), OutputExistsError, "not a zip file"),
        (lambda: bp.copy(image, tmp_path / "no" / "a.ozx"), SourceNotFoundError, "there is no folder"),
    ]
    for call, kind, words in calls:
        with pytest.raises(kind, match=words):
            call()
    assert [p.name for p in tmp_path.iterdir()] == ["text.ozx"]


def test_bad_files(tmp_path: Path) -> None:
    path = tmp_path / "a.ozx"
    bp.copy(IMAGE[0], path, chunks=(16, 16, 16))
    with pytest.raises(ReadOnlyError, match="nothing in a zip file is replaced"):
        bp.open_source(path, mode="r+")
    whole = path.read_bytes()
    with pytest.raises(ReadOnlyError, match="nothing in a zip file is replaced"):
        bp.pyramid(path)
    assert path.read_bytes() == whole
    for part in (0, 0.5, 0.999):
        path.write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(StorageError, match=r"a\.ozx cannot be read as a zip file"):
            bp.open_source(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("inner/zarr.json", '{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    with pytest.raises(SourceNotFoundError, match="there is no Zarr array or group at"):
        bp.open_source(path)
