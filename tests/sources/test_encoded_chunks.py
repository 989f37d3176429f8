"""Encoded chunks by their position: read, placed, written whole or not at all, and the codec that keeps them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bioimage_py.chunks import ChunkEncoding, compare_encodings
from bioimage_py.errors import ReadOnlyError, StorageError, UnsupportedFormatError
from bioimage_py.geometry import Box
from bioimage_py.sources import (
    ArraySpec,
    Source,
    create_output,
    encoded_reader,
    encoded_writer,
    encoding_of,
    family_of,
    open_source,
    planned_encoding,
)
from bioimage_py.sources.zarr import kept_codec
from bioimage_py.storage import FileBytes, FileFolder, StoredBytes, remove_leftovers
from tests.kernels.stored import Storing, make, store
from tests.sources.contract import textured

SHAPE = (9, 11, 13)
WAYS = [
    Storing("v2"),
    Storing("v3"),
    Storing("v3", shards=(8, 10, 6)),
    Storing("n5", "gzip"),
    Storing("hdf5", "gzip"),
]


@pytest.mark.parametrize("how", WAYS, ids=lambda how: f"{how.kind} {how.shards}")
def test_reading_by_position(tmp_path: Path, how: Storing) -> None:
    corner = (slice(0, 4), slice(5, 10), slice(12, 13))
    reader = encoded_reader(store(tmp_path / "a", how, textured(SHAPE, "uint16"), [corner]))
    cells = Box((0, 0, 0), (3, 3, 3))
    stored = [at for at in reader.candidates(cells) if reader.piece(at) is not None]
    assert stored == [(0, 1, 2)]
    place, data = reader.file_of((0, 1, 2)), reader.read((0, 1, 2))
    assert place is not None
    assert data is not None
    assert Path(place.path).read_bytes()[place.offset : place.offset + place.length] == data
    assert (reader.read((2, 2, 2)), reader.file_of((2, 2, 2))) == (None, None)


@pytest.mark.parametrize("how", [WAYS[0], WAYS[1]], ids=["v2", "v3"])
def test_writing_by_position(tmp_path: Path, how: Storing) -> None:
    array = textured(SHAPE, "uint16")
    reader = encoded_reader(store(tmp_path / "a", how, array))
    output = open_source(make(tmp_path / "b", how, SHAPE, "uint16"), mode="r+")
    writer = encoded_writer(output)
    data, place = reader.read((0, 1, 0)), reader.file_of((1, 1, 1))
    assert data is not None
    assert place is not None
    assert writer.write((0, 1, 0), data[:10], data[10:]) == len(data)
    stored = StoredBytes(FileBytes.open(place.path), place.offset, place.length)
    assert writer.write((1, 1, 1), stored) == place.length
    expected = np.zeros_like(array)
    for box in ((slice(0, 4), slice(5, 10), slice(0, 6)), (slice(4, 8), slice(5, 10), slice(6, 12))):
        expected[box] = array[box]
    np.testing.assert_array_equal(output[...], expected)
    assert (writer.remove((0, 1, 0)), writer.remove((0, 1, 0)), writer.remove((0, 2, 0))) == (
        True,
        False,
        False,
    )


def test_what_cannot_be_had_is_said(tmp_path: Path) -> None:
    file = store(tmp_path / "a.h5", WAYS[-1], textured(SHAPE, "uint16"))
    with pytest.raises(UnsupportedFormatError, match="by its library only"):
        encoded_writer(file)
    with pytest.raises(UnsupportedFormatError, match="held in memory"):
        encoded_reader(create_output("memory://encoded/a.zarr", shape=(3, 4), dtype="uint8"))


def test_a_disk_that_is_full_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = FileFolder(str(tmp_path))

    def full(*args: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    for pieces in ([b"abc"], [StoredBytes(None, 0, 3, b"abc")]):
        with pytest.raises(StorageError, match="no space left"):
            files.write("c/0/0", *pieces)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_folder_that_is_gone_is_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no longer exists"):
        FileFolder(str(tmp_path / "gone")).write("c/0", b"abc")


@pytest.mark.parametrize("n_pieces", [1, 2])
def test_a_folder_that_may_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_pieces: int
) -> None:
    def forbidden(*args: Any) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", forbidden)
    with pytest.raises(ReadOnlyError, match="permissions"):
        FileFolder(str(tmp_path)).write("c", *[StoredBytes(None, 0, 3, b"abc")] * n_pieces)


def test_half_written_files_are_found_by_those_who_clean_up(tmp_path: Path) -> None:
    new = FileFolder(str(tmp_path)).new("c/0/0")
    new.__enter__().append(b"abc")
    assert len(list((tmp_path / "c/0").iterdir())) == 1
    assert remove_leftovers(str(tmp_path)) == 1


def test_files_that_tensorstore_left_are_found_whatever_their_number(tmp_path: Path) -> None:
    left = ["0.0_1.__lock", "0.0_0a3f.__lock", "c/7_0123456789abcdef.__lock"]
    stays = ["0.0", "1_g.__lock", "1_0123456789abcdef0.__lock", "1.__lock", "1_ab.__lock.txt"]
    (tmp_path / "c").mkdir()
    for name in [*left, *stays]:
        (tmp_path / name).touch()
    assert remove_leftovers(str(tmp_path)) == len(left)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == sorted(stays)


def test_names_of_half_written_files_do_not_meet(tmp_path: Path) -> None:
    folders = [FileFolder(str(tmp_path)) for _ in range(2)]
    opened = [folder.new("0") for folder in folders for _ in range(3)]
    for new in opened:
        new.__enter__()
    assert len(list(tmp_path.iterdir())) == 6
    for number, new in enumerate(opened):
        new.append(b"%d" % number)
        new.__exit__(None, None, None)
    assert [p.name for p in tmp_path.iterdir()] == ["0"]
    assert (tmp_path / "0").read_bytes() == b"5"


@pytest.mark.parametrize("kind", ["v2", "v3", "hdf5"])
@pytest.mark.parametrize("codec", ["none", "zstd", "gzip", "lz4", "bitshuffle"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_codec_that_keeps_chunks(tmp_path: Path, kind: str, codec: str, zarr_format: int) -> None:
    if kind == "hdf5" and codec not in ("none", "gzip"):
        pytest.skip("another library is needed to write it")
    source: Source = store(tmp_path / "a", Storing(kind, codec), textured(SHAPE, "uint16"))
    stored = encoding_of(source)
    assert isinstance(stored, ChunkEncoding)
    kept = kept_codec(stored, zarr_format)
    assert kept is not None
    spec = ArraySpec(SHAPE, np.dtype("uint16"), (4, 5, 6), codec=kept, zarr_format=zarr_format)
    found = compare_encodings(stored, planned_encoding(family_of("zarr"), spec))
    assert (found.road, found.settings) == ("verbatim", ())
