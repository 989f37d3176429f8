from __future__ import annotations

import copy
import json
import os
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile

from bioimage_py.cli import main
from bioimage_py.errors import (
    BioimagePyError,
    InvalidArgumentError,
    ReadOnlyError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.sources import as_source, create_output, family_by_suffix, from_spec, locate, open_source
from bioimage_py.storage import file_identity


@pytest.mark.parametrize(
    ("path", "key", "container", "inner", "kind"),
    [
        ("data.n5/raw", None, "data.n5", "raw", "n5"),
        ("data.n5/volumes/raw", None, "data.n5", "volumes/raw", "n5"),
        ("data.n5/volumes", "raw", "data.n5", "volumes/raw", "n5"),
        ("data.n5", "/volumes/raw/", "data.n5", "volumes/raw", "n5"),
        ("data.n5/", None, "data.n5", None, "n5"),
        ("DATA.N5/raw/", None, "DATA.N5", "raw", "n5"),
        ("file.h5:/volumes/raw", None, "file.h5", "volumes/raw", "hdf5"),
        ("file.h5:raw", None, "file.h5", "raw", "hdf5"),
        ("file.h5/volumes/raw", None, "file.h5", "volumes/raw", "hdf5"),
        ("file.h5:", None, "file.h5", None, "hdf5"),
        ("a.zarr:labels", "cells", "a.zarr", "labels/cells", "zarr"),
        ("a.zarr/b.zarr/0", None, "a.zarr", "b.zarr/0", "zarr"),
        ("scan 1: left, day 2.h5:/my data/raw:1", None, "scan 1: left, day 2.h5", "my data/raw:1", "hdf5"),
        ("/data/a b/c:d.zarr", None, "/data/a b/c:d.zarr", None, "zarr"),
        ("file:///data/a%20b.n5/raw", None, "/data/a b.n5", "raw", "n5"),
        ("file://localhost/data/a.n5", None, "/data/a.n5", None, "n5"),
        ("file:///data/odd#name?.npy", None, "/data/odd#name?.npy", None, "npy"),
        ("s3://bucket/folder/a.zarr/s0", None, "s3://bucket/folder/a.zarr", "s0", "zarr"),
        ("https://host:8080/a.zarr", "0", "https://host:8080/a.zarr", "0", "zarr"),
        ("https://host/a.n5?token=1", None, "https://host/a.n5?token=1", None, "n5"),
        ("stack.ome.tif", None, "stack.ome.tif", None, "tiff"),
        ("scan.nii.gz", None, "scan.nii.gz", None, "nifti"),
        ("VOLUME.MRC", None, "VOLUME.MRC", None, "mrc"),
        ("noending", None, "noending", None, None),
        ("/", None, "/", None, None),
    ],
)
def test_paths_are_split_into_container_and_key(
    path: str, key: str | None, container: str, inner: str | None, kind: str | None
) -> None:
    location = locate(path, key)
    assert (location.path, location.key) == (container, inner)
    assert (location.family.kind if location.family else None) == kind


@pytest.mark.parametrize("ending", ["nwb", "ims", "nc", "h5ad", "h5"])
@pytest.mark.parametrize("key", ["raw", "g/x[0]", "a?", "b*", "day 1: left/raw", "50%", "#1"])
def test_keys_in_hdf5_files_under_any_ending(tmp_path: Path, ending: str, key: str) -> None:
    array = np.arange(12, dtype="u2").reshape(3, 4)
    file = tmp_path / f"a.{ending}"
    with h5py.File(file, "w") as made:
        made[key] = array
    for path in (f"{file}:/{key}", f"{file}:{key}", f"{file}/{key}"):
        with open_source(path) as source:
            assert (source.path, source.key) == (str(file), key)
            np.testing.assert_array_equal(source[...], array)
    with open_source(file, key) as source:
        np.testing.assert_array_equal(source[...], array)


@pytest.mark.parametrize(
    "name", ["a.npy", "a.h5", "a.tif", "a.nii.gz", "a.mrc", "a.png", "a.czi", "a", "a.zarr.zip"]
)
def test_named_pipes_are_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    with pytest.raises(StorageError, match="named pipe"):
        open_source(path)
    with pytest.raises(BioimagePyError):
        create_output(path, shape=(3,), dtype="u1", overwrite=True)
    assert path.is_fifo()


def test_the_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    np.save(tmp_path / "a.npy", np.arange(3))
    with open_source("~/a.npy") as source:
        assert source.path == str(tmp_path / "a.npy")
    assert locate("~/b.n5/raw").path == str(tmp_path / "b.n5")
    with pytest.raises(SourceNotFoundError, match="~nobody-of-this-name"):
        open_source("~nobody-of-this-name/a.npy")


@pytest.mark.parametrize(
    "name", ["my volume.npy", "a:b.npy", "ünïcode ✓.npy", "100%.npy", "a#b?c.npy", "x.h5:y.npy", "[1].npy"]
)
def test_unusual_names_are_opened_as_they_are(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / name, np.arange(5))
    for path in (tmp_path / name, str(tmp_path / name)):
        with as_source(path) as source:
            np.testing.assert_array_equal(source[...], np.arange(5))
            with from_spec(source.to_spec()) as again:
                assert again.name == source.name
    with open_source((tmp_path / name).as_uri()) as source:
        assert source.shape == (5,)


def test_a_file_in_a_folder_called_like_a_container(tmp_path: Path) -> None:
    (tmp_path / "exports.zarr").mkdir()
    np.save(tmp_path / "exports.zarr" / "a.npy", np.arange(5))
    with open_source(tmp_path / "exports.zarr" / "a.npy") as source:
        assert source.shape == (5,)
    (tmp_path / "old.h5").mkdir()
    np.save(tmp_path / "old.h5" / "a.npy", np.arange(6))
    with open_source(tmp_path / "old.h5" / "a.npy") as source:
        assert source.shape == (6,)


def test_content_says_more_than_the_ending(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(5))
    (tmp_path / "a.npy").rename(tmp_path / "a.mrc")
    with open_source(tmp_path / "a.mrc") as source:
        assert source.format == "npy"


@pytest.mark.parametrize(
    ("path", "error", "says"),
    [
        ("", InvalidArgumentError, "not empty"),
        ("a\0b.npy", InvalidArgumentError, "text"),
        ("vol.npy", SourceNotFoundError, r"there is volume\.npy"),
        ("volmue.npy", SourceNotFoundError, r"there is volume\.npy"),
        ("elsewhere.npy", SourceNotFoundError, r"elsewhere\.npy'$"),
        ("nowhere/a.npy", SourceNotFoundError, "nowhere' does not exist either"),
        ("volume.npy/raw", SourceNotFoundError, "is a file, not a folder"),
        ("missing.n5/raw", SourceNotFoundError, r"missing\.n5"),
        ("notes.xyz", UnsupportedFormatError, r"neither its ending.*TIFF \(\.tif"),
        ("notes.txt.gz", UnsupportedFormatError, "decompress"),
        ("empty", UnsupportedFormatError, "neither an array nor slices, but nothing"),
        ("nothing/*.tif", SourceNotFoundError, "no folder"),
        ("file://server/share/a.npy", UnsupportedFormatError, "server"),
        ("x" * 300 + ".npy", StorageError, "File name too long"),
    ],
)
def test_paths_that_lead_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, error: type[Exception], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("volume.npy", np.arange(5))
    Path("notes.xyz").write_text("nothing to see")
    Path("notes.txt.gz").write_bytes(b"\x1f\x8b")
    Path("empty").mkdir()
    with pytest.raises(error, match=says):
        open_source(path)


def test_bytes_are_no_path() -> None:
    with pytest.raises(InvalidArgumentError, match="cannot read voxels from bytes"):
        as_source(b"a.npy")


@pytest.mark.parametrize("mode", ["w", "a", "", None])
def test_modes_are_r_and_r_plus(tmp_path: Path, mode: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"'r' or 'r\+'"):
        open_source(tmp_path, mode=mode)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", np.arange(5))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError, match="permission denied"):
        open_source(tmp_path / "a.npy")


class TestFoldersOfImages:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "slices"
        folder.mkdir()
        for z in range(12):
            tifffile.imwrite(folder / f"s{z}.tif", np.full((4, 5), z, "u2"))
        (folder / "notes.txt").write_text("not an image")
        return folder

    def test_are_found_by_themselves_and_by_pattern(self, folder: Path) -> None:
        for opened in (
            open_source(folder),
            open_source(str(folder) + "/"),
            open_source(folder.as_uri()),
            open_source(folder, "*.tif"),
            open_source(folder / "*.tif"),
        ):
            with opened as source:
                assert source.shape == (12, 4, 5)
                np.testing.assert_array_equal(source[:, 0, 0], np.arange(12))

    def test_of_several_kinds_need_a_pattern(self, folder: Path) -> None:
        (folder / "preview.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        with pytest.raises(InvalidArgumentError, match=r"several kinds \(\.png, \.tif\).*pattern"):
            open_source(folder)
        with open_source(folder, "s*.tif") as source:
            assert source.shape == (12, 4, 5)

    def test_a_pattern_that_matches_nothing(self, folder: Path) -> None:
        with pytest.raises(SourceNotFoundError, match="png"):
            open_source(folder, "*.png")
        with pytest.raises(SourceNotFoundError, match="no folder"):
            open_source(folder / "deeper", "*.tif")


@pytest.mark.parametrize("spec", [{}, {"path": "a.npy"}, None, [], "a.npy"])
def test_what_is_no_spec(spec: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="'kind'"):
        from_spec(spec)


def test_specs_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormatError, match=r"'floppy'.*zarr"):
        from_spec({"kind": "floppy", "path": "a"})
    with pytest.raises(SourceNotFoundError, match="gone"):
        from_spec({"kind": "npy", "path": str(tmp_path / "gone.npy")})
    np.save(tmp_path / "a.npy", np.arange(3))
    with pytest.raises(ReadOnlyError):
        from_spec({"kind": "npy", "path": str(tmp_path / "a.npy")})[0] = 1


def test_one_name_per_file_and_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zarr" / "raw").mkdir(parents=True)
    (tmp_path / "link.zarr").symlink_to("a.zarr")
    monkeypatch.chdir(tmp_path)
    whole = str(tmp_path / "a.zarr")
    expected = file_identity(whole, "raw", key_is_folder=True)
    assert file_identity("a.zarr/raw") == expected
    assert file_identity("link.zarr", "raw", key_is_folder=True) == expected
    assert file_identity(whole, "labels") != file_identity(whole, "raw")
    assert file_identity("not/there.npy") == file_identity(str(tmp_path / "not" / "there.npy"))
    url = file_identity("S3://Bucket/a.zarr", "x/0", key_is_folder=True)
    assert url == file_identity("s3://bucket/a.zarr/x", "0", key_is_folder=True)
    assert url != file_identity("s3://bucket/a.zarr/x", "1", key_is_folder=True)


def test_families_are_named_by_their_endings() -> None:
    assert family_by_suffix("a/b.precomputed/").kind == "precomputed"  # type: ignore[union-attr]
    assert family_by_suffix("https://host/a.zarr?x=b.n5").kind == "zarr"  # type: ignore[union-attr]
    assert family_by_suffix("zarr") is None


def test_zipped_zarr_is_read_and_never_written(tmp_path: Path) -> None:
    import zarr

    image = np.arange(60, dtype="uint8").reshape(3, 4, 5)
    with zarr.storage.ZipStore(tmp_path / "a.zarr.zip", mode="w") as store:
        zarr.create_array(store, data=image, chunks=(2, 2, 2))
    with open_source(tmp_path / "a.zarr.zip") as source:
        np.testing.assert_array_equal(source[...], image)
    with pytest.raises(UnsupportedFormatError, match="as a whole"):
        create_output(tmp_path / "b.zarr.zip", shape=(3,), dtype="uint8")
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr.zip"]


class _ManyAxes:
    shape, dtype = (1,) * 65, np.dtype("u1")

    def __getitem__(self, index: Any) -> Any:
        return np.zeros((), "u1")


def test_more_axes_than_numpy_has_are_one_error(tmp_path: Path) -> None:
    header = f"{{'descr': '<u2', 'fortran_order': False, 'shape': {(1,) * 65}, }}\n".encode()
    (tmp_path / "a.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(2)
    )
    (tmp_path / "a.zarr").mkdir()
    ones = [1] * 65
    array = {"zarr_format": 2, "shape": ones, "chunks": ones, "dtype": "<u2", "order": "C", "fill_value": 0}
    (tmp_path / "a.zarr" / ".zarray").write_text(json.dumps({**array, "filters": None, "compressor": None}))
    for given in (tmp_path / "a.npy", tmp_path / "a.zarr", _ManyAxes()):
        with pytest.raises(UnsupportedFormatError, match="65 axes, and numpy has arrays of at most 64"):
            as_source(given)


@pytest.mark.parametrize("url", ["http://[::1/a.zarr", "s3://[b/a.zarr", "file://[x/a.tif"])
def test_a_url_that_is_none_is_one_error(url: str) -> None:
    with pytest.raises(InvalidArgumentError, match="is not a valid URL"):
        open_source(url)
    with pytest.raises(InvalidArgumentError, match="is not a valid URL"):
        create_output(url, shape=(2,), dtype="u1")


@pytest.mark.parametrize(
    ("name", "option"), [("a.tif", "--reader"), ("a.zarr", "--series"), ("a.npy", "--series")]
)
def test_an_option_that_a_format_does_not_have_is_named_as_it_is_given(
    name: str, option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.zeros((4, 8), "u1")
    if name == "a.tif":
        tifffile.imwrite(tmp_path / name, values)
    else:
        create_output(tmp_path / name, shape=values.shape, dtype="u1").close()
    assert main(["info", str(tmp_path / name), option, "1"]) == 2
    said = capsys.readouterr().err
    assert f"leave out {option}\n" in said
    assert "missing_planes" not in said


def test_a_long_path_is_not_repeated_whole(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        open_source(tmp_path / ("9" * 5000))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["a.npy", "a.tif", "a.h5:/k", "a.zarr", "a.n5/k"])
def test_a_pickled_source_is_opened_again_and_leaves_the_first_one_open(name: str, tmp_path: Path) -> None:
    values = np.arange(24, dtype="u2").reshape(2, 3, 4)
    if name == "a.tif":
        tifffile.imwrite(tmp_path / name, values)
    else:
        with create_output(f"{tmp_path}/{name}", like=values) as output:
            output[...] = values
    with open_source(f"{tmp_path}/{name}") as source:
        for again in (pickle.loads(pickle.dumps(source)), copy.deepcopy(source)):
            np.testing.assert_array_equal(again[...], values)
            again.close()
        np.testing.assert_array_equal(source[...], values)
