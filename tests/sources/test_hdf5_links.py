"""What an HDF5 file may show of other files: beside it always, elsewhere when asked for, and never for writing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import (
    BioimagePyError,
    InvalidArgumentError,
    OutputExistsError,
    ReadOnlyError,
    SourceNotFoundError,
    StorageError,
)
from bioimage_py.sources import from_spec, open_source

ARRAY = np.arange(24, dtype="u2").reshape(4, 6)


def link(folder: Path, target: str) -> None:
    with h5py.File(folder / "a.h5", "w") as file:
        file["k"] = h5py.ExternalLink(target, "/g/x")


def storage(folder: Path, target: str) -> None:
    with h5py.File(folder / "a.h5", "w") as file:
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_external(target.replace("other.h5", "other.bin").encode(), 8, ARRAY.nbytes)
        space, kind = h5py.h5s.create_simple(ARRAY.shape), h5py.h5t.py_create(ARRAY.dtype)
        h5py.h5d.create(file.id, b"k", kind, space, created)


def virtual(folder: Path, target: str) -> None:
    layout = h5py.VirtualLayout(ARRAY.shape, ARRAY.dtype)
    layout[...] = h5py.VirtualSource(target, "g/x", ARRAY.shape)
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_virtual_dataset("k", layout, fillvalue=7)


KINDS = [link, storage, virtual]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with another file in it, below it and beside it."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for place in ("other.h5", "in/other.h5", "in/sub/other.h5"):
        with h5py.File(tmp_path / place, "w") as file:
            file["g/x"] = ARRAY
        (tmp_path / place).with_suffix(".bin").write_bytes(bytes(8) + ARRAY.tobytes())
    return tmp_path / "in"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["other.h5", "./other.h5", "sub/other.h5", "sub/../other.h5", "{in}/other.h5"]
)
def test_files_beside_and_below_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, name: str
) -> None:
    kind(folder, name.replace("{in}", str(folder)))
    monkeypatch.chdir("/")
    with open_source(folder / "a.h5", "k") as source:
        np.testing.assert_array_equal(source[1:, 2:4], ARRAY[1:, 2:4])
        with from_spec(source.to_spec()) as again:
            np.testing.assert_array_equal(again[...], ARRAY)
    np.testing.assert_array_equal(bp.copy(f"{folder}/a.h5:/k"), ARRAY)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["../other.h5", "sub/../../other.h5", "{up}/other.h5"])
def test_files_elsewhere_are_read_when_asked_for(folder: Path, kind: Any, name: str) -> None:
    kind(folder, name.replace("{up}", str(folder.parent)))
    with pytest.raises(StorageError, match=r"outside of the folder.*external_files=True"):
        open_source(folder / "a.h5", "k")
    with open_source(folder / "a.h5", "k", external_files=True) as source:
        np.testing.assert_array_equal(source[...], ARRAY)
        with from_spec(source.to_spec()) as again:
            np.testing.assert_array_equal(again[...], ARRAY)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("through", ["soft", "group"])
def test_soft_links_lead_on(folder: Path, kind: Any, through: str) -> None:
    kind(folder, "other.h5")
    with h5py.File(folder / "a.h5", "r+") as file:
        file["soft"] = h5py.SoftLink("/k")
        file["group/soft"] = h5py.SoftLink("/soft")
        file["whole"] = h5py.ExternalLink("other.h5", "/g")
        file["hole"] = h5py.SoftLink("/whole/x")
    for key in ("soft", "group/soft", "whole/x", "hole"):
        with open_source(folder / "a.h5", key) as source:
            np.testing.assert_array_equal(source[...], ARRAY)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_written_through_them(folder: Path, kind: Any) -> None:
    kind(folder, "other.h5")
    before = {p: p.read_bytes() for p in folder.parent.rglob("other.*")}
    with pytest.raises(ReadOnlyError, match="other"):
        open_source(folder / "a.h5", "k", mode="r+")
    with h5py.File(folder / "a.h5", "r+") as file:
        if kind is not link:  # a handle behind an external link is one of the other file
            with pytest.raises(ReadOnlyError, match="voxels are in other"):
                bp.copy(ARRAY + 1, file["k"])
    if kind is link:
        for key in ("k", "k/new"):
            with pytest.raises(ReadOnlyError, match="external link"):
                bp.copy(ARRAY + 1, f"{folder}/a.h5:/{key}", overwrite=True)
    assert {p: p.read_bytes() for p in folder.parent.rglob("other.*")} == before


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_gone_is_an_error(folder: Path, kind: Any) -> None:
    kind(folder, "gone.h5")
    with pytest.raises(BioimagePyError, match=r"gone|other"):
        open_source(folder / "a.h5", "k")
    kind(folder, "other.h5")
    (folder / "other.h5").unlink()
    os.truncate(folder / "other.bin", 20)
    with pytest.raises(BioimagePyError, match="other"):
        open_source(folder / "a.h5", "k")


def test_links_in_a_circle(tmp_path: Path) -> None:
    for one, other in ("ab", "ba"):
        with h5py.File(tmp_path / f"{one}.h5", "w") as file:
            file["k"] = h5py.ExternalLink(f"{other}.h5", "/k")
            file["s"] = h5py.SoftLink("/s")
    with pytest.raises(StorageError, match="circle"):
        open_source(tmp_path / "a.h5", "k")
    with pytest.raises(SourceNotFoundError):
        open_source(tmp_path / "a.h5", "s")


def test_missing_parts_of_virtual_datasets(folder: Path) -> None:
    virtual(folder, "other.h5")
    source = open_source(folder / "a.h5", "k")
    (folder / "other.h5").rename(folder / "away.h5")
    with pytest.raises(StorageError, match="no longer exists"):
        bp.copy(source)
    with pytest.raises(StorageError, match=r"1 of its parts.*other\.h5.*missing_files='fill'"):
        open_source(folder / "a.h5", "k")
    with open_source(folder / "a.h5", "k", missing_files="fill") as filled:
        assert (filled[...] == 7).all()
        assert (bp.copy(filled) == 7).all()
    with h5py.File(folder / "other.h5", "w") as file:
        file["g/y"] = ARRAY
    with pytest.raises(StorageError, match=r"other\.h5' has no 'g/x'"):
        open_source(folder / "a.h5", "k")
    with h5py.File(folder / "other.h5", "r+") as file:
        file["g/x"] = ARRAY[:2]
    with pytest.raises(StorageError, match="smaller"):
        open_source(folder / "a.h5", "k")
    with h5py.File(folder / "a.h5") as file, pytest.raises(StorageError, match="smaller"):
        bp.as_source(file["k"])


def test_parts_that_are_virtual_themselves(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["g/x"] = ARRAY
    for name, below in (("b.h5", "c.h5"), ("a.h5", "b.h5")):
        layout = h5py.VirtualLayout(ARRAY.shape, ARRAY.dtype)
        layout[...] = h5py.VirtualSource(below, "g/x", ARRAY.shape)
        with h5py.File(tmp_path / name, "w") as file:
            file.create_virtual_dataset("g/x", layout)
    with open_source(tmp_path / "a.h5") as source:
        assert open_source(tmp_path / "c.h5").identities() < source.identities()
        np.testing.assert_array_equal(source[...], ARRAY)
    (tmp_path / "c.h5").unlink()
    with pytest.raises(StorageError, match=r"c\.h5"):
        open_source(tmp_path / "a.h5")


def test_gaps_in_numbered_files_are_told(tmp_path: Path) -> None:
    for n in (0, 2):
        with h5py.File(tmp_path / f"p{n}.h5", "w") as file:
            file["x"] = np.full((2, 4), n + 1)
    unlimited = h5py.h5s.UNLIMITED
    space = h5py.h5s.create_simple((6, 4), (unlimited, 4))
    shown = h5py.h5s.create_simple((6, 4), (unlimited, 4))
    shown.select_hyperslab((0, 0), (unlimited, 1), block=(2, 4), stride=(2, 4))
    created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    created.set_virtual(shown, b"p%b.h5", b"x", h5py.h5s.create_simple((2, 4)))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        h5py.h5d.create(file.id, b"k", h5py.h5t.NATIVE_INT64, space, created)
    with pytest.warns(UserWarning, match=r"missing: p1\.h5"):
        open_source(tmp_path / "a.h5", "k")


@pytest.mark.parametrize("option", [{"external_files": "yes"}, {"missing_files": "zero"}, {"series": 1}])
def test_options_are_checked(folder: Path, option: dict[str, Any]) -> None:
    link(folder, "other.h5")
    with pytest.raises(InvalidArgumentError, match=next(iter(option))):
        open_source(folder / "a.h5", "k", **option)


def test_a_link_to_nothing_is_in_the_way(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["k"] = h5py.SoftLink("/nothing")
    with pytest.raises(OutputExistsError, match="link to '/nothing'"):
        bp.copy(ARRAY, f"{tmp_path}/a.h5:/k", overwrite=True)
