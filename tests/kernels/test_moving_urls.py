"""Chunks moved from, into and between stores behind URLs: real servers on this machine, through the public call."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts

import bioimage_py as bp
from bioimage_py.errors import RunnerError, StorageError
from bioimage_py.geometry import Box
from bioimage_py.kernels import CopyKernel, MoveOptions, MovingKernel, SideBySide, moving_kernel
from bioimage_py.sources import open_source
from bioimage_py.storage import ObjectFolder
from bioimage_py.wrapper.shape import RoiSource
from tests.kernels.stored import Storing, counts, files_below, make, read_by_others, store
from tests.kernels.test_move_chunks import CORRUPT
from tests.sources.contract import textured
from tests.sources.test_urls import web

__all__ = ["web"]

SHAPE = (9, 11, 13)
SHARDED = Storing("v3", shards=(8, 10, 6))
WAYS = [
    Storing("v2"),
    Storing("v2", "lz4", keys="."),
    Storing("v3", "gzip"),
    Storing("v3", "none", big=True, fill=7),
    SHARDED,
    replace(SHARDED, index_at="start"),
    Storing("n5", "gzip"),
]
SOME = [(slice(4, 8), slice(0, 5), slice(6, 12)), (slice(8, 9), slice(10, 11), slice(0, 6))]


@pytest.fixture
def lab(bucket: str, request: pytest.FixtureRequest) -> str:
    return f"s3://lab/{request.node.name.replace('[', '_').rstrip(']')}"


def kv(url: str) -> Any:
    import os

    name, _, path = url.removeprefix("s3://").partition("/")
    spec = {"driver": "s3", "bucket": name, "path": f"{path}/", "aws_region": "us-east-1"}
    return ts.KvStore.open({**spec, "endpoint": os.environ["AWS_ENDPOINT_URL"]}).result()


def upload(folder: Path, url: str) -> None:
    into = kv(url)
    names = [p for p in folder.rglob("*") if p.is_file()]
    for done in [into.write(str(p.relative_to(folder)), p.read_bytes()) for p in names]:
        done.result()


def download(url: str, folder: Path) -> Path:
    store_ = kv(url)
    for name in store_.list().result():
        place = folder / name.decode()
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(store_.read(name).result().value)
    return folder


def key_of(how: Storing) -> str | None:
    return "raw" if how.kind == "n5" else None


@pytest.mark.parametrize(
    "how", WAYS, ids=lambda how: f"{how.kind}-{how.codec}-{how.index_at if how.shards else ''}"
)
def test_there_and_back(lab: str, tmp_path: Path, how: Storing) -> None:
    """From a folder into a store, on to another place there, and back: the same bytes, and nothing decoded."""
    array = textured(SHAPE, "uint16")
    source = store(tmp_path / "in", how, array, SOME)
    expected = np.full_like(array, how.fill)
    for box in SOME:
        expected[box] = array[box]
    suffix = {"n5": "a.n5/raw"}.get(how.kind, "a.zarr")
    options: dict[str, Any] = (
        {} if how.kind == "n5" else {"zarr_format": int(how.kind[1]), "shards": how.shards}
    )
    places = [f"{lab}/1/{suffix}", f"{lab}/2/{suffix}", str(tmp_path / "back" / suffix)]
    for place in places:
        planned = bp.plan(source, place, **options)
        assert planned.road in ("verbatim", "repack"), planned
        bp.copy(source, place, **options)
        source = open_source(place)
        np.testing.assert_array_equal(source[...], expected)
    first, last = files_below(tmp_path / "in"), files_below(tmp_path / "back" / suffix)
    if how.kind == "n5":
        first = {name.removeprefix("raw/"): data for name, data in first.items() if name != "attributes.json"}
    if how.index_at == "end":  # where a new array has it
        assert sorted(first.values()) == sorted(last.values())
    assert 0 < len(last) == len(first) < 27
    for found in read_by_others(tmp_path / "back" / suffix, how):
        np.testing.assert_array_equal(found, expected)
    no_chunks = (b"json", b".z", b".bioimage-py")
    there = [name for name in kv(places[1]).list().result() if not any(part in name for part in no_chunks)]
    assert len(there) == len(last)


@pytest.mark.parametrize(
    ("how", "into"),
    [
        (Storing("v2", "zlib"), Storing("v3", "gzip")),
        (Storing("n5", "none"), Storing("v3", "none", big=True)),
        (Storing("v3"), SHARDED),
        (SHARDED, Storing("v3")),
        (SHARDED, replace(SHARDED, shards=(4, 10, 18))),
        (SHARDED, SHARDED),
    ],
)
def test_into_arrays_that_are_there(lab: str, tmp_path: Path, how: Storing, into: Storing) -> None:
    """Other headers, into shards and out of them; what the output held where the input holds nothing goes."""
    array = textured(SHAPE, "uint16")
    store(tmp_path / "in", how, array, SOME)
    store(tmp_path / "out", into, array + 1)
    upload(tmp_path / "in", f"{lab}/in{'.n5' if how.kind == 'n5' else ''}")
    upload(tmp_path / "out", f"{lab}/out")
    source = open_source(f"{lab}/in{'.n5' if how.kind == 'n5' else ''}", key_of(how))
    output = open_source(f"{lab}/out", mode="r+")
    assert bp.plan(source, output).road in ("verbatim", "repack")
    assert bp.copy(source, output) is output
    expected = np.zeros_like(array)
    for box in SOME:
        expected[box] = array[box]
    found = download(f"{lab}/out", tmp_path / "found")
    for voxels in read_by_others(found, into):
        np.testing.assert_array_equal(voxels, expected)
    assert len(files_below(found)) == 2


def kernel(source: Any, url: str, **options: Any) -> MovingKernel:
    return moving_kernel(CopyKernel(source, open_source(url, mode="r+")), MoveOptions(**options))


@pytest.mark.parametrize("damage", ["cut", "header"])
@pytest.mark.parametrize("how", [Storing("v3", "lz4"), Storing("v2", "zlib"), Storing("n5", "gzip"), SHARDED])
def test_a_corrupt_chunk_is_an_error_that_names_it(
    lab: str, tmp_path: Path, how: Storing, damage: str
) -> None:
    store(tmp_path / "in", how, textured(SHAPE, "uint16") // 999)
    key = {"v3": "c/1/0/1", "v2": "1/0/1", "n5": "raw/1/0/1"}[how.kind]
    chunk = tmp_path / "in" / (key if how.shards is None else "c/0/0/1")
    chunk.write_bytes(CORRUPT[damage](chunk.read_bytes()))
    place = f"{lab}/in{'.n5' if how.kind == 'n5' else ''}"
    upload(tmp_path / "in", place)
    source = open_source(place, key_of(how))
    options = {"zarr_format": 2 if how.kind == "v2" else 3, "shards": how.shards}
    assert bp.plan(source, f"{lab}/out.zarr", **options).road == "verbatim"  # type: ignore[arg-type]
    named = (
        r"chunk \([01], [01], [01]\) of s3://.*s3://" if how.shards else r"chunk \(1, 0, 1\) of s3://.*1/0/1"
    )
    with pytest.raises(RunnerError, match=named if how.kind != "n5" else r"1, 0, 1|\[4:8, 0:5, 6:12\]"):
        bp.copy(source, f"{lab}/out.zarr", **options)  # type: ignore[arg-type]
    there = kv(f"{lab}/out.zarr").list().result()
    assert not [name for name in there if name.endswith(b"1/0/1" if how.shards is None else b"0/0/1")]


@pytest.mark.parametrize("into", [Storing("v3"), SHARDED])
def test_a_shard_that_is_replaced_under_way(
    lab: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, into: Storing
) -> None:
    """Its table is of the past then: bytes found by it may be anything."""
    array = textured(SHAPE, "uint16")
    store(tmp_path / "in", replace(SHARDED, shards=(4, 10, 12)), array)
    upload(tmp_path / "in", f"{lab}/in")
    upload(make(tmp_path / "out", into, SHAPE, "uint16"), f"{lab}/out")
    moving = kernel(open_source(f"{lab}/in"), f"{lab}/out")
    real = ObjectFolder.read

    def meanwhile(self: ObjectFolder, key: str, *part: int | None) -> Any:
        found = real(self, key, *part)
        if part and part[0] is not None and part[0] < 0:
            inside = kv(f"{lab}/in")
            inside.write(key, inside.read(key).result().value + b"more").result()
        return found

    monkeypatch.setattr(ObjectFolder, "read", meanwhile)
    with pytest.raises(StorageError, match=r"chunk \(\d, \d, \d\) of s3://.*was written while"):
        moving.copy_box(Box.whole(SHAPE))


@pytest.mark.parametrize("how", [Storing("v2", keys="."), Storing("v3"), SHARDED])
def test_from_a_web_server(web: tuple[str, Path], tmp_path: Path, how: Storing) -> None:
    url, folder = web
    array = textured(SHAPE, "uint16")
    name = f"{tmp_path.name}.zarr"
    store(folder / name, how, array, SOME)
    options = {"zarr_format": int(how.kind[1]), "shards": how.shards}
    assert bp.plan(f"{url}/{name}", tmp_path / "out.zarr", **options).road in ("verbatim", "repack")  # type: ignore[arg-type]
    bp.copy(f"{url}/{name}", tmp_path / "out.zarr", **options)  # type: ignore[arg-type]
    assert sorted(files_below(tmp_path / "out.zarr").values()) == sorted(files_below(folder / name).values())
    expected = np.zeros_like(array)
    for box in SOME:
        expected[box] = array[box]
    np.testing.assert_array_equal(read_by_others(tmp_path / "out.zarr", how)[0], expected)


def test_from_a_web_server_that_wants_a_password(web: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = web
    array = textured(SHAPE, "uint16")
    store(folder / "private/moved.zarr", Storing("v3"), array)
    source = open_source(url.replace("://", "://somebody:correct-horse@") + "/private/moved.zarr")
    assert bp.plan(source, tmp_path / "out.zarr").road == "verbatim"
    bp.copy(source, tmp_path / "out.zarr")
    assert files_below(tmp_path / "out.zarr") == files_below(folder / "private/moved.zarr")


def test_a_region_and_a_mask(lab: str, tmp_path: Path) -> None:
    array = textured((12, 15, 18), "uint16")
    store(tmp_path / "in", Storing("v3"), array)
    upload(tmp_path / "in", f"{lab}/in")
    region = RoiSource(open_source(f"{lab}/in"), (slice(4, 11), slice(5, 15), slice(0, 18)))
    mask = np.zeros(region.shape, "uint8")
    mask[:5, :5] = 1
    assert bp.plan(region, f"{lab}/out.zarr", mask=mask).road == "verbatim"
    out = bp.copy(region, f"{lab}/out.zarr", mask=mask, block_shape=(4, 5, 6), num_workers=2)
    np.testing.assert_array_equal(out[...], array[4:11, 5:15] * mask)


def test_a_copy_by_worker_processes(lab: str, tmp_path: Path) -> None:
    array = textured(SHAPE, "uint16")
    source = store(tmp_path / "in", Storing("v3"), array)
    config = bp.RunnerConfig(tmp_root=str(tmp_path))
    out = bp.copy(
        source, f"{lab}/a.zarr", job_type="subprocess", job_config=config, num_workers=2, shards=(8, 10, 12)
    )
    np.testing.assert_array_equal(out[...], array)


def requests(folder: ObjectFolder) -> list[str]:
    """What is listed from now on."""
    asked: list[str] = []
    real = folder.names

    def recorded(begin: str) -> list[str]:
        asked.append(begin)
        return real(begin)

    folder.names = recorded  # type: ignore[method-assign]
    return asked


@pytest.mark.parametrize("how", [Storing("v3", chunks=(1, 1, 1)), Storing("v2", chunks=(1, 1, 1), keys=".")])
def test_sparse_arrays_are_listed_and_not_asked_for_each_chunk(
    lab: str, tmp_path: Path, how: Storing
) -> None:
    array = textured((40, 40, 40), "uint16")
    source = store(tmp_path / "in", how, array, [(3, 4, 5), (3, 4, 6), (30, 39, 0), (31, 2, 2)])
    upload(tmp_path / "in", f"{lab}/in")
    source = open_source(f"{lab}/in")
    upload(make(tmp_path / "out", how, array.shape, "uint16"), f"{lab}/out")
    moving = kernel(source, f"{lab}/out", output_is_new=True)
    reader: Any = moving._reader
    asked = requests(reader.files)
    moving.copy_box(Box.whole(array.shape))
    assert counts(moving)[:2] == (4, 0)
    assert len(asked) <= 40
    assert files_below(download(f"{lab}/out", tmp_path / "found")) == files_below(tmp_path / "in")
    asked.clear()
    assert list(reader.candidates(Box((3, 4, 5), (4, 5, 7)))) == [(3, 4, 5), (3, 4, 6)]
    assert list(reader.candidates(Box((30, 30, 0), (32, 40, 40)))) == [(30, 39, 0)]
    assert len(asked) == 2


def test_side_by_side_keeps_the_order_and_ends_with_the_first_error() -> None:
    begun: list[int] = []

    def fails(number: int) -> int:
        begun.append(number)
        if number == 5:
            raise StorageError("five")
        return number

    assert list(SideBySide(4, 4).map(str, range(40))) == [str(n) for n in range(40)]
    with pytest.raises(StorageError, match="five"):
        list(SideBySide(4, 4).map(fails, itertools.count()))
    assert max(begun) < 5 + 4


@pytest.mark.parametrize(("many_at_once", "expected"), [(4, 8), (1000, 64)])
def test_more_calls_are_under_way_as_long_as_that_makes_them_faster(
    many_at_once: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("bioimage_py.kernels.moving.perf_counter", lambda: now)
    calls = SideBySide(64, 2)
    for _ in calls.map(str, range(4000)):
        now += 1 / min(calls.at_once, many_at_once)  # a server that answers so many at once
    assert calls.at_once == expected
