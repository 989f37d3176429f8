"""Windows' rules for paths, as far as they can be tried elsewhere."""

from __future__ import annotations

import ntpath
import os
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import InvalidArgumentError, SourceNotFoundError
from bioimage_py.sources import locate
from bioimage_py.storage import inner_name, is_url, local_text
from bioimage_py.system import files, forward_slashes, reserved_name

IMAGE = np.arange(24, dtype="u1").reshape(4, 6)
DRIVES = (
    "C:/data/x.zarr",
    "c:\\data\\x.zarr",
    "C:x.zarr",
    "\\\\server\\share\\x.zarr",
    "//server/share/x.zarr",
    "\\\\?\\C:\\x.zarr",
)


@pytest.mark.parametrize("path", DRIVES)
def test_a_drive_letter_is_not_the_scheme_of_a_url(path: str) -> None:
    assert not is_url(path)
    assert not is_url(PureWindowsPath(path).as_posix())


@pytest.mark.parametrize(
    "url", ["s3://bucket/x.zarr", "gs://b/x", "https://host/x.zarr", "memory://x", "file:///C:/x.zarr"]
)
def test_a_url_has_two_slashes(url: str) -> None:
    assert is_url(url)


@pytest.fixture
def backslashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are separated as on Windows, for the room `system`."""

    class Windows:
        sep = "\\"

        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

    monkeypatch.setattr(files, "os", Windows())


@pytest.mark.usefixtures("backslashes")
@pytest.mark.parametrize("path", DRIVES)
def test_windows_paths_are_written_with_slashes_and_mean_the_same(path: str) -> None:
    text = forward_slashes(path)
    assert "\\" not in text
    assert ntpath.normcase(ntpath.normpath(text)) == ntpath.normcase(ntpath.normpath(path))
    assert PureWindowsPath(text) == PureWindowsPath(path)
    assert local_text(path) == text
    assert local_text("file:///C:/x.zarr") == "C:/x.zarr"


@pytest.mark.usefixtures("backslashes")
@pytest.mark.parametrize(
    ("path", "container", "key"),
    [
        ("C:\\data\\x.zarr", "C:/data/x.zarr", None),
        ("C:\\data\\x.zarr\\s0", "C:/data/x.zarr", "s0"),
        ("C:/data/x.zarr/a/b", "C:/data/x.zarr", "a/b"),
        ("C:\\data\\x.h5:/volumes/raw", "C:/data/x.h5", "volumes/raw"),
        ("C:\\data.zarr\\x.n5\\raw", "C:/data.zarr", "x.n5/raw"),
        ("C:\\data\\x.tif", "C:/data/x.tif", None),
    ],
)
def test_containers_and_keys_are_told_apart_behind_a_drive(
    path: str, container: str, key: str | None
) -> None:
    found = locate(path)
    assert (found.path, found.key) == (container, key)


def test_a_backslash_is_part_of_a_name_elsewhere() -> None:
    assert forward_slashes("a\\b") == "a\\b"


@pytest.mark.parametrize("key", ["a\\b", "..\\..\\x", "C:\\x"])
def test_keys_hold_no_backslash(key: str) -> None:
    with pytest.raises(InvalidArgumentError, match="backslash"):
        inner_name(key, "x.zarr")


@pytest.mark.parametrize(
    "name",
    ["CON", "nul", "aux.zarr", "COM1.tif", "lpt9", "PRN ", "a:b", "what?", "x.", "x ", "a|b", "Nul.tar.gz"],
)
def test_names_that_windows_cannot_have(name: str) -> None:
    assert reserved_name(name)


@pytest.mark.parametrize(
    "name", ["console", "null.zarr", "com.zarr", "com10", "auxiliary", ".zattrs", "c", "0.0.0", "s0", "a b"]
)
def test_names_that_windows_can_have(name: str) -> None:
    assert reserved_name(name) is None


def test_on_windows_an_output_with_such_a_name_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("bioimage_py.storage.names.RESERVES_NAMES", True)
    with pytest.raises(InvalidArgumentError, match=r"'aux\.zarr'.*device"):
        bp.copy(IMAGE, tmp_path / "aux.zarr")
    with pytest.raises(InvalidArgumentError, match="device"):
        bp.create_output(tmp_path / "x.zarr", key="con/s0", shape=(4, 4), dtype="u1")
    with pytest.raises(InvalidArgumentError, match="device"):
        bp.copy(IMAGE, tmp_path / "nul" / "x.npy")
    assert not list(tmp_path.iterdir())


def test_names_that_differ_in_case_only_are_two_here_and_said_apart(tmp_path: Path) -> None:
    bp.copy(IMAGE, tmp_path / "a.zarr")
    if (tmp_path / "A.zarr").exists():
        pytest.skip("this file system does not tell case apart")
    with pytest.raises(SourceNotFoundError, match=r"there is a\.zarr"):
        bp.open_source(tmp_path / "A.zarr")
    bp.copy(IMAGE + 1, tmp_path / "A.zarr")
    assert bp.verify(IMAGE, tmp_path / "a.zarr").equal
