"""Objects that their store copies by itself: a real server that says what it was asked, and the same bytes on both sides."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest

import bioimage_py as bp
from bioimage_py.chunks import crc32c_bytes
from bioimage_py.errors import RunnerError, StorageError
from bioimage_py.geometry import Box, IdSet
from bioimage_py.kernels import BlockUnits, CopyObjectsKernel, write_units
from bioimage_py.operations import NewPathTarget
from bioimage_py.sources import open_source
from bioimage_py.wrapper.shape import RoiSource
from tests.kernels.stored import Storing, counts, files_below, make, store
from tests.kernels.test_moving_urls import download, kernel, key_of, kv, upload
from tests.s3_lab import SECRET, S3Lab, s3_lab
from tests.sources.contract import textured

SHAPE = (9, 11, 13)
CHUNKS = Storing("v3", "lz4")
SHARDED = replace(CHUNKS, shards=(8, 10, 6))
WAYS = [
    Storing("v2", "gzip"),
    CHUNKS,
    Storing("v3", "none", big=True, fill=7),
    SHARDED,
    replace(SHARDED, index_at="start"),
    Storing("n5", "gzip"),
]
SOME = [(slice(4, 8), slice(0, 5), slice(6, 12)), (slice(8, 9), slice(10, 11), slice(0, 6))]


@pytest.fixture(scope="module")
def server() -> Iterator[S3Lab]:
    with s3_lab() as lab:
        yield lab


@pytest.fixture
def lab(server: S3Lab) -> Iterator[S3Lab]:
    server.asked.clear()
    yield server
    server.refused = lambda asked: False


@pytest.fixture
def place(lab: S3Lab, request: pytest.FixtureRequest) -> str:
    return f"s3://lab/{re.sub(r'[^a-z0-9]+', '-', request.node.name.lower())[:60]}"


def stored_at(place: str, tmp_path: Path, how: Storing, array: np.ndarray, boxes: Any = None) -> bp.Source:
    """Store an array in a folder of its own and upload that, and open what is there."""
    store(tmp_path / "in", how, array, boxes)
    url = f"{place}/in{'.n5' if how.kind == 'n5' else ''}"
    upload(tmp_path / "in", url)
    return open_source(url, key_of(how))


def empty_at(place: str, tmp_path: Path, how: Storing, shape: tuple[int, ...] = SHAPE) -> str:
    upload(make(tmp_path / "out", how, shape, "uint16"), f"{place}/out")
    return f"{place}/out"


def name(url: str) -> str:
    return url.removeprefix("s3://lab/")


def n_asked(bytes_range: str) -> int:
    """Return how many bytes a request asked for."""
    begin, end = bytes_range.removeprefix("bytes=").split("-")
    return int(end) - int(begin) + 1


def chunks_at(url: str, tmp_path: Path) -> dict[str, bytes]:
    return files_below(download(url, tmp_path / "found"))


@pytest.mark.parametrize("how", WAYS, ids=lambda how: f"{how.kind}-{how.codec}-{how.shards and how.index_at}")
def test_no_chunk_is_fetched(lab: S3Lab, place: str, tmp_path: Path, how: Storing) -> None:
    """The store copies each object that there is, byte for byte; only its header and tables of shards are read."""
    source = stored_at(place, tmp_path, how, textured(SHAPE, "uint16"), SOME)
    suffix = "new.n5/raw" if how.kind == "n5" else "new.zarr"
    options: dict[str, Any] = (
        {} if how.kind == "n5" else {"zarr_format": int(how.kind[1]), "shards": how.shards}
    )
    if how.index_at == "start":  # a new array has it at the end
        suffix, options = "out", {}
        output: Any = open_source(empty_at(place, tmp_path, how), mode="r+")
    else:
        output = f"{place}/{suffix}"
    planned = bp.plan(source, output, **options)
    assert planned.road == "verbatim"
    assert planned.reason.endswith(
        "; the store copies them by itself, after each was checked by its length and header"
    )
    assert not planned.hints
    lab.asked.clear()
    seen: list[Any] = []
    bp.copy(source, output, num_workers=2, progress=seen.append, **options)

    first = {
        n.removeprefix("raw/"): data for n, data in files_below(tmp_path / "in").items() if "attr" not in n
    }
    assert len(first) == 2
    assert {n: d for n, d in chunks_at(f"{place}/{suffix}", tmp_path).items() if "attr" not in n} == first
    chunks = [f"{source.path}/{source.key or ''}".rstrip("/") + f"/{n}" for n in first]
    fetched = [a for a in lab.asked if a.method == "GET" and any(c.endswith("/" + a.key) for c in chunks)]
    n_bytes = 16 * 4 + 4
    table = f"bytes=0-{n_bytes - 1}" if how.index_at == "start" else f"bytes=-{n_bytes}"
    tables = [table] * 2 if how.shards else []
    # A gzip stream ends with its length, and short ones come whole.
    heads = {"none": 0, "lz4": 2, "gzip": 2 + sum(len(data) > 64 for data in first.values())}[how.codec]
    ranges = [str(a.range) for a in fetched]
    assert [r for r in ranges if r == table] == tables
    assert len(ranges) == heads + len(tables)
    assert all(n_asked(r) <= 64 for r in ranges if r != table)
    assert lab.of("COPY") == sorted(f"{name(place)}/{suffix}/{n}" for n in first)
    assert not [
        key
        for key in lab.of("PUT")
        if not key.endswith((".zarray", ".zattrs", "zarr.json", "attributes.json"))
        and "/.bioimage-py/" not in key
    ]
    assert not [
        key for key in lab.of("HEAD") if "json" not in key and "/.z" not in key
    ]  # lists tell the lengths and tags of many at once

    account = seen[-1].account
    assert (account.chunks_moved, account.chunks_by_store, account.chunks_recoded) == (2, 2, 0)
    assert account.encoded_in == account.encoded_out == sum(map(len, first.values()))
    assert account.bytes_in == account.bytes_out == source.nbytes
    assert account.stages["moving_out"] > account.stages["moving_in"]
    assert "2 chunks moved (2 by the store itself), 0 recoded" in str(account)
    assert account.to_json()["chunks_by_store"] == 2


@pytest.mark.parametrize(
    ("without", "why"),
    [
        ("module", "because obstore is not installed"),
        ("environment", "because BIOIMAGE_PY_NO_STORE_COPY is set"),
    ],
)
def test_fetched_and_put(
    lab: S3Lab, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without: str, why: str
) -> None:
    """Without obstore, or where nobody wants it, chunks come through this machine, and the plan says so."""
    if without == "module":
        monkeypatch.setitem(sys.modules, "obstore", None)
    else:
        monkeypatch.setenv("BIOIMAGE_PY_NO_STORE_COPY", "1")
    source = stored_at(place, tmp_path, CHUNKS, textured(SHAPE, "uint16"), SOME)
    planned = bp.plan(source, f"{place}/new.zarr")
    assert planned.reason.endswith(f"they are fetched and put, {why}")
    assert ("pip install obstore" in str(planned)) == (without == "module")
    seen: list[Any] = []
    bp.copy(source, f"{place}/new.zarr", progress=seen.append)
    assert chunks_at(f"{place}/new.zarr", tmp_path) == files_below(tmp_path / "in")
    assert not lab.of("COPY")
    assert len(lab.of("GET", f"{name(place)}/in/c/")) == 2
    account = seen[-1].account
    assert (account.chunks_moved, account.chunks_by_store) == (2, 0)
    assert "by the store" not in str(account)


@pytest.mark.parametrize(
    ("into", "options", "why"),
    [
        ("s3://other/{}.zarr", {}, r"fetched and put, because their bucket is not the same \(lab and other\)"),
        ("s3://lab/{}/a//b.zarr", {}, "because obstore takes no names like"),
        ("s3://lab/{}/b.zarr", {"shards": (8, 10, 12)}, "because they do not stay objects of their own"),
        ("gs://lab/{}/b.zarr", {}, "at s3:// only"),
    ],
)  # fmt: skip
def test_the_plan_says_why_not(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, into: str, options: dict[str, Any], why: str
) -> None:
    monkeypatch.setattr(NewPathTarget, "check_free", lambda *_, **__: None)  # Google's store is out of reach
    source = stored_at(place, tmp_path, CHUNKS, textured(SHAPE, "uint16"), SOME)
    planned = bp.plan(source, into.format("why"), **options)
    assert planned.road in ("verbatim", "repack")
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(planned.reason)
    assert not planned.hints


def test_into_another_bucket(lab: S3Lab, place: str, tmp_path: Path) -> None:
    source = stored_at(place, tmp_path, CHUNKS, textured(SHAPE, "uint16"), SOME)
    out = bp.copy(source, f"s3://other/{name(place)}/new.zarr")
    np.testing.assert_array_equal(out[...], source[...])
    assert not lab.of("COPY")


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_verified_chunks_are_copied_by_the_store(lab: S3Lab, place: str, tmp_path: Path, codec: str) -> None:
    source = stored_at(place, tmp_path, Storing("v3", codec), textured(SHAPE, "uint16"))
    plan = bp.plan(source, f"{place}/new.zarr", verify_encoded=True)
    assert plan.reason.endswith("the store copies them by itself, after each was fetched and decoded")
    bp.copy(source, f"{place}/new.zarr", verify_encoded=True)
    begin = f"{name(place)}/in/c/"
    asked = [a for a in lab.asked if a.method == "GET" and a.key.startswith(begin) and a.range != "bytes=0-0"]
    chunks = [f"{name(place)}/in/{n}" for n in sorted(files_below(tmp_path / "in"))]
    assert sorted(a.key for a in asked if a.range is None) == chunks
    assert sorted(a.key for a in asked if a.range is not None) == chunks  # checked before
    assert len(lab.of("COPY")) == 27


@pytest.mark.parametrize(
    ("how", "damage"),
    [(Storing("v3"), lambda data: data + b"abc"), (Storing("v2", "zlib"), lambda data: data[:-3]), (Storing("v3", "zstd"), lambda data: data[:-3])],
)  # fmt: skip
def test_verifying_finds_what_decoding_does_not(
    place: str, tmp_path: Path, how: Storing, damage: Any
) -> None:
    """TensorStore decodes a zlib stream without its checksum, and one of zstd that something follows."""
    store(tmp_path / "in", how, textured(SHAPE, "uint16"))
    chunk = tmp_path / "in" / ("c/1/0/1" if how.kind == "v3" else "1/0/1")
    chunk.write_bytes(damage(chunk.read_bytes()))
    upload(tmp_path / "in", f"{place}/in")
    with pytest.raises(RunnerError, match=r"chunk \(1, 0, 1\) of s3://.*/in cannot be copied \(s3://"):
        bp.copy(f"{place}/in", f"{place}/new.zarr", verify_encoded=True, zarr_format=int(how.kind[1]))
    assert not [n for n in kv(f"{place}/new.zarr").list().result() if n.endswith(b"1/0/1")]


@pytest.mark.parametrize("how", [CHUNKS, Storing("v2", "gzip"), Storing("n5", "gzip"), SHARDED])
def test_a_corrupt_chunk_is_found_by_verifying(place: str, tmp_path: Path, how: Storing) -> None:
    store(tmp_path / "in", how, textured(SHAPE, "uint16"))
    chunk = tmp_path / "in" / {"v3": "c/1/0/1", "v2": "1/0/1", "n5": "raw/1/0/1"}[how.kind]
    if how.shards:
        chunk = tmp_path / "in/c/0/0/1"
    data = bytearray(chunk.read_bytes())
    data[:8] = b"\xff" * 8
    chunk.write_bytes(data)
    url = f"{place}/in{'.n5' if how.kind == 'n5' else ''}"
    upload(tmp_path / "in", url)
    options = {"zarr_format": 2 if how.kind == "v2" else 3, "shards": how.shards} if how.kind != "n5" else {}
    into = f"{place}/new.{'n5/raw' if how.kind == 'n5' else 'zarr'}"
    with pytest.raises(
        RunnerError, match=r"chunk \(\d, \d, \d\) of s3://.*/in.* cannot be copied \(s3://"
    ) as raised:
        bp.copy(open_source(url, key_of(how)), into, verify_encoded=True, **options)  # type: ignore[arg-type]
    assert str(raised.value).count("cannot be copied (") == 1
    key = "c/0/0/1" if how.shards else str(chunk.relative_to(tmp_path / "in")).removeprefix("raw/")
    assert key.encode() not in kv(into).list().result()


@pytest.mark.parametrize(
    ("how", "damage", "said"),
    [
        (Storing("v3", "none"), lambda data: data[:-1], "it has 239 bytes where 240 are expected"),
        (CHUNKS, lambda data: b"", "it has 0 bytes, which is too few for blosc"),
        (CHUNKS, lambda data: data[:-3], r"it has \d+ bytes, but its blosc header says \d+"),
        (
            CHUNKS,
            lambda data: data[:4] + b"\xf1" + data[5:],
            "its blosc header says 241 bytes decoded where 240",
        ),
        (Storing("v3", "gzip"), lambda data: b"no" + data[2:], "it is not a gzip stream"),
        (Storing("v3", "gzip"), lambda data: data[:-3], ""),
        (
            SHARDED,
            lambda data: data[:4] + b"\xf1" + data[5:],
            "its blosc header says 241 bytes decoded where 240",
        ),
        (SHARDED, lambda data: data[:-1], "the crc32c of its index"),
        (SHARDED, lambda data: data[-140:], "its index leads out of its 140 bytes"),
        (SHARDED, lambda data: data[:20], "it has 20 bytes, but its index alone has 68"),
    ],
)
def test_lengths_headers_and_tables_are_checked(
    lab: S3Lab, place: str, tmp_path: Path, how: Storing, damage: Any, said: str
) -> None:
    store(tmp_path / "in", how, textured(SHAPE, "uint16"))
    chunk = tmp_path / "in/c/1/0/1"
    chunk.write_bytes(damage(chunk.read_bytes()))
    upload(tmp_path / "in", f"{place}/in")
    named = r"chunk \(1, 0, 1\)" if how.shards is None else r"chunk \(2, 0, 1\)"
    with pytest.raises(RunnerError, match=rf"{named} of s3://.*/in cannot be copied .*/c/1/0/1\): {said}"):
        bp.copy(f"{place}/in", f"{place}/new.zarr", shards=how.shards)
    assert b"c/1/0/1" not in kv(f"{place}/new.zarr").list().result()
    assert not lab.of("COPY")


def test_a_corrupt_chunk_in_the_middle_of_a_shard(place: str, tmp_path: Path) -> None:
    store(tmp_path / "in", SHARDED, textured(SHAPE, "uint16"))
    chunk = tmp_path / "in/c/0/0/1"
    data = bytearray(chunk.read_bytes())
    begin = int.from_bytes(data[-20:-12], "little")  # of the last chunk in it
    data[begin + 4] ^= 1
    chunk.write_bytes(data)
    upload(tmp_path / "in", f"{place}/in")
    with pytest.raises(
        RunnerError, match=r"chunk \(1, 1, 1\) of s3://.*c/0/0/1\): its blosc header says 241"
    ):
        bp.copy(f"{place}/in", f"{place}/new.zarr", shards=SHARDED.shards)
    assert b"c/0/0/1" not in kv(f"{place}/new.zarr").list().result()


@pytest.mark.parametrize("shards", [None, (8, 10, 6)])
def test_what_follows_a_gzip_stream_is_recoded(
    lab: S3Lab, place: str, tmp_path: Path, shards: tuple[int, ...] | None
) -> None:
    array, how = textured(SHAPE, "uint16"), Storing("v3", "gzip", shards=shards)
    store(tmp_path / "in", how, array)
    chunk = tmp_path / "in" / ("c/1/0/1" if shards is None else "c/0/0/0")
    whole = chunk.read_bytes()
    if shards is None:
        chunk.write_bytes(whole + b"abc")
    else:
        # The last of the four is longer by what precedes the table.
        table = np.frombuffer(whole[-68:-4], "<u8").reshape(4, 2).copy()
        table[table[:, 0].argmax(), 1] += 3
        index = table.tobytes()
        chunk.write_bytes(whole[:-68] + b"abc" + index + crc32c_bytes(index))
    upload(tmp_path / "in", f"{place}/in")
    moving = kernel(open_source(f"{place}/in"), empty_at(place, tmp_path, how))
    assert isinstance(moving, CopyObjectsKernel)
    moving.copy_box(Box.whole(SHAPE))
    np.testing.assert_array_equal(open_source(f"{place}/out")[...], array)
    n_recoded, n_copied = (1, 26) if shards is None else (4, 11)
    assert counts(moving)[:2] == (27 - n_recoded, n_recoded)
    assert len(lab.of("COPY")) == n_copied


@pytest.mark.parametrize(
    ("how", "codecs"),
    [(Storing("v3"), "zstd"), (Storing("v2", "zlib"), "zlib"), (replace(SHARDED, codec="zstd"), "zstd")],
)  # fmt: skip
def test_what_only_all_bytes_tell_is_fetched_and_put(
    lab: S3Lab, place: str, tmp_path: Path, how: Storing, codecs: str
) -> None:
    source = stored_at(place, tmp_path, how, textured(SHAPE, "uint16"), SOME)
    options: dict[str, Any] = {"zarr_format": int(how.kind[1]), "shards": how.shards}
    planned = bp.plan(source, f"{place}/new.zarr", **options)
    why = f"because only all bytes of a chunk of {codecs} tell whether it is whole"
    assert planned.reason.endswith(f"; they are fetched and put, {why}")
    lab.asked.clear()
    bp.copy(source, f"{place}/new.zarr", **options)
    assert not lab.of("COPY")
    chunks = {n: data for n, data in files_below(tmp_path / "in").items() if n != ".zattrs"}
    assert {n: d for n, d in chunks_at(f"{place}/new.zarr", tmp_path).items() if n in chunks} == chunks
    assert {f"{name(place)}/new.zarr/{n}" for n in chunks} <= set(lab.of("PUT"))


def test_copies_are_checked_also_where_another_failed(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = stored_at(place, tmp_path, CHUNKS, textured(SHAPE, "uint16"), SOME)
    out = empty_at(place, tmp_path, CHUNKS)
    moving = kernel(source, out)

    def change(key: str) -> None:
        if not key.endswith("1/0/1"):
            raise ValueError("not this one")
        kv(f"{place}/in").write("c/1/0/1", b"something else").result()

    moved_meanwhile(monkeypatch, change)
    with pytest.raises(StorageError, match="c/1/0/1 was written while it was copied") as raised:
        moving.copy_box(Box.whole(SHAPE))
    assert not chunks_at(out, tmp_path)
    earlier = []
    error: BaseException | None = raised.value
    while error is not None:
        earlier.append(str(error))
        error = error.__context__
    assert any("not this one" in text for text in earlier)


def moved_meanwhile(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Do something to the input after an object of it was looked at, and before it is copied."""
    real = obstore.copy

    def copied(store: Any, begin: str, into: str, **options: Any) -> None:
        change(begin)
        real(store, begin, into, **options)

    monkeypatch.setattr(obstore, "copy", copied)


@pytest.mark.parametrize("how", [CHUNKS, SHARDED], ids=["chunks", "shards"])
@pytest.mark.parametrize("change", ["written", "removed", "of another length"])
def test_an_object_that_changes_under_way(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Storing, change: str
) -> None:
    source = stored_at(place, tmp_path, how, textured(SHAPE, "uint16"), SOME[:1])
    out = empty_at(place, tmp_path, how)
    moving = kernel(source, out)
    assert isinstance(moving, CopyObjectsKernel)
    (chunk,) = files_below(tmp_path / "in").values()
    data = {"written": chunk[:-1] + b"!", "removed": None, "of another length": chunk + b"!"}[change]
    moved_meanwhile(monkeypatch, lambda key: kv(f"{place}/in").write(key.partition("/in/")[2], data).result())
    verb = "removed" if data is None else "written"
    with pytest.raises(StorageError, match=rf"chunk \(\d, 0, 1\) of s3://.* was {verb} while it was copied"):
        moving.copy_box(Box.whole(SHAPE))
    assert not chunks_at(out, tmp_path)


def test_objects_whose_copies_have_another_tag(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was uploaded in parts is told from what was written meanwhile."""
    import os

    import boto3

    source = stored_at(place, tmp_path, CHUNKS, textured(SHAPE, "uint16"), SOME[:1])
    ((key, data),) = files_below(tmp_path / "in").items()
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1")
    at = {"Bucket": "lab", "Key": f"{name(place)}/in/{key}"}

    def in_parts(body: bytes) -> None:
        number = client.create_multipart_upload(**at)["UploadId"]
        part = client.upload_part(**at, UploadId=number, PartNumber=1, Body=body)
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        client.complete_multipart_upload(**at, UploadId=number, MultipartUpload=parts)

    in_parts(data)
    moving = kernel(source, empty_at(place, tmp_path, CHUNKS))
    moving.copy_box(Box.whole(SHAPE))
    assert counts(moving) == (1, 0, len(data))
    assert kv(f"{place}/out").read(key).result().value == data
    moved_meanwhile(monkeypatch, lambda _: in_parts(data[:-1] + b"!"))
    with pytest.raises(StorageError, match="was written while it was copied"):
        moving.copy_box(Box.whole(SHAPE))
    assert kv(f"{place}/out").read(key).result().state == "missing"
    client.close()


@pytest.mark.parametrize(
    ("method", "said"),
    [("COPY", "the store did not copy s3://lab/.*/in/c/1/0/1 to s3://lab/.*/new.zarr/c/1/0/1: .*not for you"), ("HEAD", "in/c/1/0/1 cannot be looked at")],
)  # fmt: skip
def test_a_store_that_refuses(lab: S3Lab, place: str, tmp_path: Path, method: str, said: str) -> None:
    source = stored_at(place, tmp_path, CHUNKS, textured(SHAPE, "uint16"))
    lab.refused = lambda asked: (
        asked.method == method and asked.key.endswith("in/c/1/0/1" if method == "HEAD" else "c/1/0/1")
    )
    with pytest.raises(RunnerError, match=said) as raised:
        bp.copy(source, f"{place}/new.zarr", block_shape=(4, 5, 6))  # one object is not worth a list
    text = str(raised.value)
    assert "chunk (1, 0, 1) of s3://" in text
    assert "BIOIMAGE_PY_NO_STORE_COPY=1" in text
    assert "Debug source" not in text
    assert SECRET not in text


def test_a_list_that_fails(lab: S3Lab, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moving = kernel(
        stored_at(place, tmp_path, CHUNKS, textured(SHAPE, "uint16")),
        empty_at(place, tmp_path, CHUNKS),
    )
    lab.refused = lambda asked: asked.method == "GET" and not asked.key
    with pytest.raises(StorageError, match=r"/in/c/\* cannot be listed: .*not for you"):
        moving.copy_box(Box.whole(SHAPE))


def test_names_with_dots_are_looked_at_one_by_one(lab: S3Lab, place: str, tmp_path: Path) -> None:
    """A list cannot be asked for names that begin with a part of one."""
    how = Storing("v2", "lz4", chunks=(1, 5, 6), keys=".")
    source = stored_at(place, tmp_path, how, textured(SHAPE, "uint16"), SOME)
    moving = kernel(source, empty_at(place, tmp_path, how))
    lab.asked.clear()
    moving.copy_box(Box((4, 0, 0), (5, 11, 13)))
    (chunk,) = [n for n in files_below(tmp_path / "in") if n.startswith("4.")]
    assert chunks_at(f"{place}/out", tmp_path) == {chunk: files_below(tmp_path / "in")[chunk]}
    assert lab.of("HEAD") == [f"{name(place)}/in/{chunk}", f"{name(place)}/out/{chunk}"]


def test_what_the_input_lacks_goes_from_the_output(lab: S3Lab, place: str, tmp_path: Path) -> None:
    array = textured(SHAPE, "uint16")
    source = stored_at(place, tmp_path, CHUNKS, array, SOME)
    store(tmp_path / "out", CHUNKS, array + 1)
    upload(tmp_path / "out", f"{place}/out")
    bp.copy(source, open_source(f"{place}/out", mode="r+"))
    assert files_below(download(f"{place}/out", tmp_path / "found")) == files_below(tmp_path / "in")
    assert len(lab.of("COPY")) == 2


def test_another_fill_value_is_written(lab: S3Lab, place: str, tmp_path: Path) -> None:
    array = textured(SHAPE, "uint16")
    source = stored_at(place, tmp_path, CHUNKS, array, SOME)
    out = open_source(empty_at(place, tmp_path, replace(CHUNKS, fill=7)), mode="r+")
    bp.copy(source, out)
    np.testing.assert_array_equal(out[...], source[...])
    assert len(lab.of("COPY")) == 2


@pytest.mark.parametrize("shards", [None, (8, 10, 12)])
def test_a_region_and_a_mask(lab: S3Lab, place: str, tmp_path: Path, shards: Any) -> None:
    """Chunks of a region are whole objects, shards of it are not."""
    array = textured((12, 15, 18), "uint16")
    source = stored_at(place, tmp_path, replace(CHUNKS, shards=shards), array)
    region = RoiSource(source, (slice(4, 11), slice(5, 15), slice(0, 18)))
    mask = np.zeros(region.shape, "uint8")
    mask[:5, :5] = 1
    out = bp.copy(region, f"{place}/new.zarr", mask=mask, shards=None, chunks=(4, 5, 6), num_workers=2)
    np.testing.assert_array_equal(out[...], array[4:11, 5:15] * mask)
    assert len(lab.of("COPY")) == (3 if shards is None else 0)


def test_names_that_have_to_be_escaped(lab: S3Lab, place: str, tmp_path: Path) -> None:
    source = stored_at(f"{place}/ä b+", tmp_path, CHUNKS, textured(SHAPE, "uint16"), SOME)
    out = bp.copy(source, f"{place}/ö &=100%25/new.zarr")
    np.testing.assert_array_equal(out[...], source[...])
    assert len(lab.of("COPY")) == 2


def test_a_whole_ome_zarr_and_a_pyramid(lab: S3Lab, place: str, tmp_path: Path) -> None:
    from tests.sources.ome_trees import image_with_labels

    path = tmp_path / "in.ome.zarr"
    image_with_labels(path)
    bp.copy(path, f"{place}/in.ome.zarr", codec="blosc")
    assert "the store copies them by itself" in str(bp.plan(f"{place}/in.ome.zarr", f"{place}/new.ome.zarr"))
    lab.asked.clear()
    bp.copy(f"{place}/in.ome.zarr", f"{place}/new.ome.zarr", num_workers=2)
    copied = lab.of("COPY")
    assert len(copied) > 5
    fetched = {a.key for a in lab.asked if a.method == "GET" and a.range is None}
    assert not fetched & {key.replace("/new.", "/in.") for key in copied}
    new, old = (
        download(f"{place}/new.ome.zarr", tmp_path / "new"),
        download(f"{place}/in.ome.zarr", tmp_path / "old"),
    )
    assert files_below(new) == files_below(old)
    lab.asked.clear()
    made = bp.pyramid(f"{place}/in.ome.zarr/0", f"{place}/levels.ome.zarr")
    np.testing.assert_array_equal(made[0][...], open_source(path)[...])
    assert lab.of("COPY")


def test_worker_processes(lab: S3Lab, place: str, tmp_path: Path) -> None:
    """They find credentials as the caller does: the run folder, which is kept after a failure, holds none."""
    array = textured(SHAPE, "uint16")
    source = stored_at(place, tmp_path, CHUNKS, array)
    config = bp.RunnerConfig(tmp_root=str(tmp_path / "runs"), retries=0)
    how: dict[str, Any] = {
        "job_type": "subprocess",
        "job_config": config,
        "num_workers": 2,
        "block_shape": (4, 11, 13),
    }
    lab.refused = lambda asked: asked.method == "COPY" and asked.key.endswith("c/1/0/1")
    with pytest.raises(RunnerError, match=r"chunk \(1, 0, 1\)") as raised:
        bp.copy(source, f"{place}/new.zarr", **how)
    folder = Path(str(raised.value.tmp_folder))
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files
    assert not [file for file in files if SECRET.encode() in file.read_bytes()]
    lab.refused = lambda asked: False
    seen: list[Any] = []
    bp.resume(folder, progress=seen.append)
    assert files_below(download(f"{place}/new.zarr", tmp_path / "new")) == files_below(tmp_path / "in")
    assert not [
        a
        for a in lab.asked
        if a.method == "GET" and a.range is None and a.key.startswith(f"{name(place)}/in/c/")
    ]
    assert seen[-1].account.chunks_by_store >= 27


def test_a_stop_is_looked_at_between_few_objects(
    lab: S3Lab, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_units, "_MOST_CELLS", 16 * 6)
    source = stored_at(place, tmp_path, CHUNKS, textured(SHAPE, "uint16"))
    moving = kernel(source, empty_at(place, tmp_path, CHUNKS))
    done, whole, n_bytes = IdSet(), False, 0
    while not whole:
        recorded, looks = list[IdSet](), itertools.count(-9)
        known = BlockUnits(done, recorded.append, lambda looks=looks: next(looks) >= 0)  # type: ignore[misc]
        more, whole = moving.copy_units(Box.whole(SHAPE), known)
        done, n_bytes = IdSet(run for ids in [done, *recorded] for run in ids.runs), n_bytes + more
    assert n_bytes == source.nbytes
    assert chunks_at(f"{place}/out", tmp_path) == files_below(tmp_path / "in")
    copied = lab.of("COPY")
    assert len(copied) == len(set(copied)) == 27
