"""How chunks are encoded, as each family says it, and what the comparison makes of it."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import h5py
import numcodecs
import numpy as np
import pytest
import zarr
import zarr.codecs
from hypothesis import given, strategies as st

from bioimage_py.chunks import ChunkEncoding, ShardIndexEncoding, UnknownEncoding, compare_encodings
from bioimage_py.errors import StorageError
from bioimage_py.geometry import Box
from bioimage_py.sources import (
    ArraySpec,
    Codec,
    as_source,
    create_output,
    encoding_of,
    family_of,
    open_source,
    planned_encoding,
)
from bioimage_py.sources.zarr import encoding_from_metadata
from bioimage_py.storage import ChunkKeys
from bioimage_py.wrapper.shape import RoiSource
from tests.kernels.stored import Storing, make, store

PLAIN = ChunkEncoding(
    "zarr v3", (10, 12), "uint16", "little", (4, 5), axis_order=(0, 1), codecs=(("zstd",),), settings=(("zstd", ("level", 3)),), fill=b"\0\0"
)  # fmt: skip


def known(source: Any) -> ChunkEncoding:
    found = encoding_of(source)
    assert isinstance(found, ChunkEncoding), found
    return found


@pytest.mark.parametrize(("kind", "keys"), [("v2", "."), ("v2", "/"), ("v3", "/"), ("v3", ".")])
def test_zarr(tmp_path: Path, kind: str, keys: str) -> None:
    path = make(
        tmp_path / "a", Storing(kind, "lz4", big=True, fortran=True, keys=keys, fill=3), (9, 11, 13), "uint16"
    )
    found = known(open_source(path))
    assert found.shape == (9, 11, 13)
    assert (found.dtype, found.byte_order, found.chunks, found.axis_order) == (
        "uint16",
        "big",
        (4, 5, 6),
        (2, 1, 0),
    )
    assert (found.codecs, found.fill, found.edge, found.wrapping) == (
        (("blosc",),),
        b"\3\0",
        "padded",
        "bare",
    )
    assert dict(found.settings[0][1:])["cname"] == "lz4"
    assert found.grid == (3, 3, 3)
    assert found.chunk_bytes == 240


def test_shards(tmp_path: Path) -> None:
    how = Storing("v3", "crc32c", shards=(8, 10, 6), index_at="start")
    found = known(open_source(make(tmp_path / "a", how, (9, 11, 13), "uint8")))
    assert (found.chunks, found.shards) == ((4, 5, 6), (8, 10, 6))
    assert found.index == ShardIndexEncoding("start", "little", checksum=True)
    assert (found.byte_order, found.codecs) == ("", (("zstd",), ("crc32c",)))


def test_n5(tmp_path: Path) -> None:
    found = known(store(tmp_path / "a.n5", Storing("n5", "gzip"), np.zeros((9, 11, 13), "float32")))
    assert (found.shape, found.chunks, found.byte_order) == ((9, 11, 13), (4, 5, 6), "big")
    assert (found.codecs, found.edge, found.wrapping) == ((("gzip",),), "truncated", "n5")


def test_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, options in {
            "plain": {}, "gzip": {"compression": 4, "shuffle": True, "fletcher32": True}, "lzf": {"compression": "lzf"},
        }.items():  # fmt: skip
            file.create_dataset(name, (9, 11, 13), ">i4", chunks=(4, 5, 6), fillvalue=2, **options)
        file["contiguous"] = np.zeros((3, 4))
        file.create_dataset("bool", (4, 4), bool, chunks=(2, 2))
    found = known(open_source(tmp_path / "a.h5", "gzip"))
    assert (found.dtype, found.byte_order, found.fill) == ("int32", "big", b"\2\0\0\0")
    assert found.codecs == (("shuffle", 4), ("zlib",), ("fletcher32",))
    assert known(open_source(tmp_path / "a.h5", "plain")).codecs == ()
    assert known(open_source(tmp_path / "a.h5", "lzf")).codecs[0][0].startswith("hdf5 ")
    for key in ("contiguous", "bool"):
        assert isinstance(encoding_of(open_source(tmp_path / "a.h5", key)), UnknownEncoding)
    with open_source(tmp_path / "a.h5", "gzip", mode="r+") as live:
        assert isinstance(encoding_of(live), UnknownEncoding)


def test_twins_of_filters_in_both_versions(tmp_path: Path) -> None:
    shape, chunks = (8, 10), (4, 5)
    old = zarr.create_array(
        tmp_path / "v2", shape=shape, chunks=chunks, dtype="u2", zarr_format=2, filters=[numcodecs.Shuffle(2)],
        compressors=numcodecs.Zlib(2),
    )  # fmt: skip
    metadata = json.loads((tmp_path / "v2/.zarray").read_text())
    twin = {
        "zarr_format": 3, "shape": shape, "data_type": "uint16", "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4, 5]}},
        "codecs": ["bytes", {"name": "numcodecs.shuffle", "configuration": {"elementsize": 2}},
                   {"name": "numcodecs.zlib", "configuration": {"level": 9}}],
    }  # fmt: skip
    found = compare_encodings(encoding_from_metadata(metadata, 0), encoding_from_metadata(twin, 0))
    assert (found.kind, found.road) == ("payload", "verbatim")
    assert found.settings == ("zlib level 2 vs 9",)
    assert old.shape == shape


@pytest.mark.parametrize(
    "codecs",
    [
        [{"name": "sharding_indexed", "configuration": {"chunk_shape": [2, 5], "codecs": [
            {"name": "sharding_indexed", "configuration": {"chunk_shape": [1, 5], "codecs": ["bytes"], "index_codecs": ["bytes"]}}],
            "index_codecs": ["bytes"]}}],
        [{"name": "sharding_indexed", "configuration": {"chunk_shape": [2, 5], "codecs": ["bytes"], "index_codecs": ["bytes", "gzip"]}}],
        [{"name": "sharding_indexed", "configuration": {"chunk_shape": [2, 5], "codecs": ["bytes"], "index_codecs": ["bytes"]}}, "crc32c"],
        [{"name": "vlen-utf8"}],
    ],
)  # fmt: skip
def test_what_is_not_known_is_said(codecs: list[Any]) -> None:
    spec = {
        "zarr_format": 3,
        "shape": [8, 10],
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4, 5]}},
    }
    with pytest.raises(ValueError, match="its "):
        encoding_from_metadata({**spec, "codecs": codecs}, 0)


def test_sources_without_chunks_of_their_own(tmp_path: Path) -> None:
    source = store(tmp_path / "a", Storing("v3"), np.zeros((9, 11, 13), "uint8"))
    for other in (as_source(np.zeros(3)), RoiSource(source, (slice(0, 4),) * 3)):
        found = compare_encodings(encoding_of(other), encoding_of(source))
        assert (found.kind, found.road) == ("different", "recode")
        assert "not stored as encoded chunks" in found.why[0]
    handle = zarr.open_array(tmp_path / "a")
    assert known(as_source(handle)) == known(source)


def test_metadata_that_only_an_engine_understands(tmp_path: Path) -> None:
    source = store(tmp_path / "a", Storing("v3"), np.zeros((9, 11, 13), "uint8"))
    text = (tmp_path / "a/zarr.json").read_text()
    (tmp_path / "a/zarr.json").write_text(text.replace('"codecs"', '"encoders"'))
    found = encoding_of(source)
    assert isinstance(found, UnknownEncoding)
    assert "not understood" in found.why


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(folder: str) -> list[str]:
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr("os.listdir", forbidden)
    with pytest.raises(StorageError, match=r"listing .* permission denied"):
        list(ChunkKeys("c", "/", False, (2, 2)).candidates(str(tmp_path), Box((0, 0), (2, 2))))


def test_live_tensorstores(tmp_path: Path) -> None:
    import tensorstore as ts

    source = store(tmp_path / "a", Storing("v3"), np.zeros((9, 11, 13), "uint8"))
    handle = ts.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{tmp_path}/a/"}}).result()
    assert known(as_source(handle)) == known(source)
    for view in (handle[4:], handle.T, handle[:, ::2]):
        assert isinstance(encoding_of(as_source(view)), UnknownEncoding)


@pytest.mark.parametrize("name", ["a.zarr", "a.n5"])
@pytest.mark.parametrize("codec", ["none", "zstd:3", "gzip", "blosc"])
def test_a_planned_array_is_encoded_as_it_will_be(tmp_path: Path, name: str, codec: str) -> None:
    made = create_output(
        tmp_path / name, shape=(9, 11), dtype="uint16", chunks=(4, 5), codec=codec, fill_value=0
    )
    spec = ArraySpec((9, 11), np.dtype("uint16"), (4, 5), codec=Codec.parse(codec), fill_value=0)
    assert planned_encoding(family_of(name[2:]), spec) == known(made)
    assert isinstance(planned_encoding(family_of("hdf5"), spec), UnknownEncoding)
    assert isinstance(planned_encoding(family_of("npy"), spec), UnknownEncoding)


DIFFERENT: dict[str, tuple[dict[str, Any], str]] = {
    "dtype": ({"dtype": "int16"}, "dtype uint16 vs int16"),
    "byte order": ({"byte_order": "big"}, "byte order little vs big"),
    "grid": ({"chunks": (4, 6)}, "chunk grid 4×5 vs 4×6"),
    "axes": ({"axis_order": (1, 0)}, "order of axes"),
    "codec": ({"codecs": (("blosc",),)}, "codec zstd vs blosc"),
    "shape": ({"shape": (10, 13)}, "shape"),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_differs_is_named(what: str) -> None:
    change, text = DIFFERENT[what]
    found = compare_encodings(PLAIN, replace(PLAIN, **change))
    assert (found.kind, found.road) == ("different", "recode")
    assert len(found.why) == 1
    assert text in found.why[0]
    assert text in str(found)


def test_what_is_recoded_chunk_by_chunk_is_named() -> None:
    n5 = replace(PLAIN, edge="truncated", wrapping="n5")
    found = compare_encodings(n5, replace(PLAIN, fill=b"\1\0"))
    assert (found.kind, found.road, found.unwrap, found.wrap) == ("header", "verbatim", ("n5",), ())
    assert found.recoded == ("edge chunks that are truncated", "missing chunks (fill value 0 vs 1)")
    assert found.recodes_missing
    assert compare_encodings(replace(n5, shape=(8, 10)), replace(PLAIN, shape=(8, 10))).recoded == ()


def test_shards_decide_the_road() -> None:
    index = ShardIndexEncoding()
    packed = replace(PLAIN, shards=(8, 10), index=index)
    roads = [
        (PLAIN, packed, "repack"), (packed, PLAIN, "repack"), (packed, packed, "verbatim"),
        (packed, replace(packed, shards=(4, 10)), "repack"),
        (packed, replace(packed, index=replace(index, location="start")), "repack"),
    ]  # fmt: skip
    for first, second, road in roads:
        found = compare_encodings(first, second)
        assert (found.kind, found.road) == ("payload", road)
    assert compare_encodings(packed, packed, offset=(8, 10)).road == "repack"
    assert compare_encodings(PLAIN, replace(PLAIN, shape=(2, 2)), offset=(8, 10)).road == "verbatim"


def test_which_files_stay_as_they_are() -> None:
    packed = replace(PLAIN, shards=(8, 10), index=ShardIndexEncoding())
    region = replace(PLAIN, shape=(8, 10))
    assert compare_encodings(PLAIN, PLAIN).whole_files
    assert compare_encodings(PLAIN, region, offset=(4, 5)).whole_files
    assert compare_encodings(PLAIN, replace(PLAIN, fill=b"\1\0")).whole_files
    assert compare_encodings(packed, packed).whole_files
    for other in (
        replace(packed, fill=b"\1\0"),  # missing chunks inside of a shard are written
        replace(packed, shards=(4, 10)),
        PLAIN,
    ):
        assert not compare_encodings(packed, other).whole_files
    # The shard at its end holds more.
    assert not compare_encodings(packed, replace(packed, shape=(8, 10)), offset=(0, 0)).whole_files
    assert not compare_encodings(PLAIN, replace(PLAIN, codecs=(*PLAIN.codecs, ("crc32c",)))).whole_files
    assert not compare_encodings(replace(PLAIN, edge="truncated"), PLAIN).whole_files
    assert not compare_encodings(UnknownEncoding("why"), PLAIN).whole_files


CHAINS = st.lists(
    st.sampled_from(
        [("zstd",), ("gzip",), ("zlib",), ("blosc",), ("crc32c",), ("shuffle", 2), ("delta", "{}")]
    ),
    max_size=3,
).map(tuple)
ENCODINGS = st.builds(
    replace,
    st.just(PLAIN),
    dtype=st.sampled_from(["uint16", "int16"]),
    byte_order=st.sampled_from(["little", "big"]),
    chunks=st.sampled_from([(4, 5), (5, 4)]),
    shards=st.none() | st.just((20, 20)),
    axis_order=st.sampled_from([(0, 1), (1, 0)]),
    codecs=CHAINS,
    fill=st.sampled_from([b"\0\0", b"\1\0"]),
    edge=st.sampled_from(["padded", "truncated"]),
    wrapping=st.sampled_from(["bare", "n5"]),
).map(lambda e: replace(e, index=ShardIndexEncoding() if e.shards else None))


@given(ENCODINGS, ENCODINGS)
def test_the_comparison_holds_together(a: ChunkEncoding, b: ChunkEncoding) -> None:
    found, back = compare_encodings(a, b), compare_encodings(b, a)
    same = compare_encodings(a, a)
    assert (same.kind, same.road, same.why, same.recoded) == ("payload", "verbatim", (), ())
    assert (found.kind == "different") == (found.road == "recode") == (back.kind == "different")
    assert (found.kind == "header") == bool(found.unwrap or found.wrap)
    # What is taken off one way is put on the other way.
    assert found.unwrap == back.wrap[::-1]
    assert found.recodes_missing == (a.fill != b.fill and found.road != "recode")
    decisive = [f.name for f in fields(a) if f.name not in ("format", "settings", "fill", "edge")]
    if found.kind == "payload" and found.road == "verbatim":
        assert all(getattr(a, name) == getattr(b, name) for name in decisive)
    if all(getattr(a, name) == getattr(b, name) for name in decisive):
        assert (found.kind, found.road) == ("payload", "verbatim")
    if found.kind == "different":
        assert found.why
    assert same.whole_files
    if found.whole_files:
        assert (found.kind, found.road, a.edge) == ("payload", "verbatim", b.edge)


@given(st.data())
def test_every_file_has_a_key_of_its_own_and_is_found_by_listing(data: st.DataObject) -> None:
    import tempfile

    grid = tuple(data.draw(st.lists(st.integers(1, 4), max_size=3)))
    keys = ChunkKeys(
        data.draw(st.sampled_from(["", "c"])),
        data.draw(st.sampled_from("./")),
        data.draw(st.booleans()),
        grid,
    )
    every = list(np.ndindex(*grid))
    assert len({keys.key(position) for position in every}) == len(every)
    some = set(data.draw(st.lists(st.sampled_from(every), unique=True)))
    begin = tuple(data.draw(st.integers(0, n - 1)) for n in grid)
    cells = Box(begin, tuple(data.draw(st.integers(b + 1, n)) for b, n in zip(begin, grid, strict=True)))
    with tempfile.TemporaryDirectory() as folder:
        for position in some:
            path = Path(folder, keys.key(position))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        found = list(keys.candidates(folder, cells))
    inside = {p for p in every if all(b <= i < e for b, i, e in zip(cells.begin, p, cells.end, strict=True))}
    assert some & inside <= set(found) <= inside
    assert len(set(found)) == len(found)
