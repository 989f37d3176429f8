"""Metadata of chunked stores that are damaged, or written by nobody sane: right voxels or our errors, never anything else."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import random
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import bioimage_py as bp
from bioimage_py.errors import (
    AmbiguousSourceError,
    BioimagePyError,
    InvalidArgumentError,
    SourceNotFoundError,
    StorageError,
)
from bioimage_py.storage import MOST_JSON
from tests.sources.contract import textured

KINDS = {
    "v2": ("a.zarr", ".zarray", {"zarr_format": 2}),
    "v3": ("a.zarr", "zarr.json", {}),
    "sharded": ("a.zarr", "zarr.json", {"shards": (8, 8, 8)}),
    "n5": ("a.n5", "attributes.json", {}),
    "precomputed": ("a.precomputed", "info", {}),
}
ARRAY = textured((8, 9, 10), "uint16") % 251 + 1
ODD: list[Any] = [
    None, True, -1, 0, 1, 2**31, 2**62, 2**63, 2**64, 2**70, -(2**63), 1e400, float("nan"), 1.5, -0.0, "", "x", "NaN", ">u2", "|S3", [], {},
    [0], [1, 2, 3], [[1]], {"name": "x"}, [None], "../..", "/", "\ud800", "a" * 10_000, [1] * 40, [[[[[]]]]], "compressed_segmentation",
]  # fmt: skip


def stored(kind: str, folder: Path) -> tuple[Path, Path]:
    """Make an array, and return its path and its metadata file."""
    name, file, options = KINDS[kind]
    bp.copy(ARRAY, folder / name, chunks=(4, 4, 4), axes="zyx", voxel_size=2, units="um", **options)
    return folder / name, folder / name / file


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the ways to all values in a JSON value."""
    yield at
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*at, key))


def changed(chance: random.Random, text: bytes) -> bytes:
    """Return the text of a metadata file with one or two changes."""
    if chance.random() < 0.12:
        data = bytearray(text)
        for _ in range(chance.choice([1, 3])):
            data[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(data if chance.random() < 0.7 else data[: chance.randrange(len(data))])
    found = json.loads(text)
    for _ in range(chance.choice([1, 1, 1, 2])):
        ways = list(places(found))[1:]
        if not ways:
            break
        *way, last = chance.choice(ways)
        parent = found
        for key in way:
            parent = parent[key]
        what = chance.random()
        number = isinstance(parent[last], (int, float)) and not isinstance(parent[last], bool)
        if what < 0.15:
            del parent[last]
        elif what < 0.25 and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[last]))
        elif what < 0.35 and number:
            parent[last] *= chance.choice([-1, 2, 3, 1000, 2**40, 0.5])
        else:
            parent[last] = chance.choice(ODD)
    return json.dumps(found).encode()


@pytest.mark.parametrize("kind", KINDS)
def test_changed_metadata_give_our_errors_only(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path, file = stored(kind, Path())
    text = file.read_bytes()
    for n in range(80):
        file.write_bytes(changed(random.Random(f"{kind} {n}"), text))
        try:
            check(path)
        except BioimagePyError as error:
            assert len(str(error)) < 3000, (n, str(error)[:300])  # noqa: PT017
        except Exception as error:
            raise AssertionError(f"change {n}: {error!r}") from error


def check(path: Path) -> None:
    """Read and copy what is left of an array, as far as that is small."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = bp.open_source(path)
        assert repr(source)
        assert source.metadata is not None
        source.stored_size()
        unit = math.prod(source.write_unit or (1,))
        with contextlib.suppress(BioimagePyError):
            str(bp.plan(source, "other.n5"))
        if unit > 10**6:
            return
        first = source[tuple(slice(min(3, n)) for n in source.shape)]
        str(bp.plan(source, "new.zarr"))
        if source.size < 10**5:
            made = bp.copy(source, "new.zarr", overwrite=True)
            assert made[...].tobytes() == source[...].tobytes()
            assert np.array_equal(made[...][tuple(map(slice, first.shape))], first, equal_nan=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deep"),
        (b'{"a":', "is not JSON"),
        (b"\0\xff", "is not JSON"),
        (b"[]", "JSON list"),
        (b'{"a":"' + b"x" * MOST_JSON + b'"}', "too many for metadata"),
    ],
    ids=["deep", "deep objects", "cut", "binary", "list", "huge"],
)
def test_what_is_no_metadata(tmp_path: Path, kind: str, text: bytes, words: str) -> None:
    path, file = stored(kind, tmp_path)
    file.write_bytes(text)
    with pytest.raises(StorageError, match=words):
        bp.open_source(path)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("shape", "chunks", "words"),
    [
        ([2**63, 4, 4], [2, 2, 2], "no axis can be longer"),
        ([2**70, 4, 4], [2, 2, 2], "'shape' holds an integer of 71 bits"),
        ([2**62] * 3, [2, 2, 2], "no axis can be longer"),
        ([2**40] * 3, [1, 1, 1], "more than 2"),
        ([2**33] * 3, [2**20] * 3, "takes 2.31e[+]18 bytes of memory"),
        ([4, 4, 4], [2**40, 2, 2], "bytes of memory"),
        ([4, 4, 4], [0, 2, 2], "chunk"),
        ([4, 4, 4], [2, 2], "chunk"),
        ([4, -4, 4], [2, 2, 2], "shape"),
    ],
)  # fmt: skip
def test_numbers_that_no_array_has(
    tmp_path: Path, zarr_format: int, shape: list[int], chunks: list[int], words: str
) -> None:
    path, file = stored(f"v{zarr_format}", tmp_path)
    metadata = json.loads(file.read_text())
    metadata["shape"] = shape
    if zarr_format == 2:
        metadata["chunks"] = chunks
    else:
        metadata["chunk_grid"]["configuration"]["chunk_shape"] = chunks
    file.write_text(json.dumps(metadata))
    with pytest.raises(BioimagePyError, match=words):
        bp.plan(path, tmp_path / "new.zarr")


@pytest.mark.parametrize("path", ["a.zarr", "a.n5", "a.h5", "a.npy", "a.precomputed"])
def test_new_arrays_of_more_voxels_than_can_be_counted(tmp_path: Path, path: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"more than 2\*\*63"):
        bp.create_output(tmp_path / path, shape=(2**30,) * 3, dtype="uint8")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["v3", "sharded", "v2", "n5", "precomputed"])
def test_flipped_bits_in_chunks(tmp_path: Path, kind: str) -> None:
    path, metadata = stored(kind, tmp_path)
    files = sorted(p for p in path.rglob("*") if p.is_file() and p != metadata and p.name[0] != ".")
    chance = random.Random(kind)
    checked = kind in ("v3", "sharded", "n5")  # by crc32c, and by gzip
    for _ in range(60):
        file = chance.choice(files)
        whole = file.read_bytes()
        data = bytearray(whole)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        file.write_bytes(data)
        with contextlib.suppress(StorageError):
            found = bp.open_source(path)[...]
            assert not checked or np.array_equal(found, ARRAY)
        file.write_bytes(whole)
    np.testing.assert_array_equal(bp.open_source(path)[...], ARRAY)


class TestZip:
    def zipped(self, tmp_path: Path, outer: str, n_arrays: int = 1) -> Path:
        group = zarr.open_group(tmp_path / "z.zarr", mode="w")
        for name in "ab"[:n_arrays]:
            group.create_array(name, data=ARRAY)
        path = tmp_path / "z.zarr.zip"
        with zipfile.ZipFile(path, "w") as file:
            for place in (tmp_path / "z.zarr").rglob("*"):
                if place.is_file():
                    file.write(place, f"{outer}{place.relative_to(tmp_path / 'z.zarr')}")
            if outer:
                file.writestr(f"__MACOSX/{outer}._zarr.json", b"")
        return path

    @pytest.mark.parametrize("outer", ["", "z.zarr/", "data/mine/z.zarr/"])
    @pytest.mark.parametrize("n_arrays", [1, 2])
    def test_a_folder_around_all_is_gone_through(self, tmp_path: Path, outer: str, n_arrays: int) -> None:
        path = self.zipped(tmp_path, outer, n_arrays)
        np.testing.assert_array_equal(bp.open_source(path, "a")[...], ARRAY)
        if n_arrays == 1:
            np.testing.assert_array_equal(bp.copy(path), ARRAY)
        else:
            with pytest.raises(AmbiguousSourceError, match="holds 2 arrays"):
                bp.open_source(path)
        with pytest.raises(SourceNotFoundError, match="'c'"):
            bp.open_source(path, "c")

    @pytest.mark.parametrize("part", [0, 0.1, 0.5, 0.99])
    def test_a_cut_one_is_our_error(self, tmp_path: Path, part: float) -> None:
        path = self.zipped(tmp_path, "")
        data = path.read_bytes()
        path.write_bytes(data[: int(part * len(data))])
        with pytest.raises(StorageError, match=r"z\.zarr\.zip cannot be read as a zip file"):
            bp.open_source(path)


def test_files_of_no_zarr_in_a_zip_are_not_spoken_of(tmp_path: Path) -> None:
    bp.copy(np.ones((8, 8), "u1"), tmp_path / "in.zarr" / "a")
    path = tmp_path / "a.zarr.zip"
    with zipfile.ZipFile(path, "w") as file:
        for found in sorted((tmp_path / "in.zarr").rglob("*")):
            if found.is_file():
                file.write(found, found.relative_to(tmp_path / "in.zarr"))
        file.writestr(".DS_Store", "x")
        file.writestr("__MACOSX/._a", "x")
    with warnings.catch_warnings(record=True, action="always") as told:
        source = bp.open_source(path)
        np.testing.assert_array_equal(source[...], np.ones((8, 8)))
    assert told == []
    source.close()
