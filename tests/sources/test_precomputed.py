"""Neuroglancer precomputed: contracts, volumes of and for TensorStore, offsets, scales, what it cannot hold."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tensorstore as ts

from bioimage_py import copy
from bioimage_py.errors import (
    BioimagePyWarning,
    InvalidArgumentError,
    OutputExistsError,
    ReadOnlyError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources import ArraySpec, Codec, Source, as_source, family_of, from_spec, open_source
from bioimage_py.wrapper.shape import RoiSource
from tests.sources.contract import WritableSourceContract, textured

create, list_arrays = family_of("precomputed").create, family_of("precomputed").list_arrays

OFFSET = [5, -3, 100]  # x, y, z


def spec_of(shape: tuple[int, ...], dtype: Any = "uint16", **how: Any) -> ArraySpec:
    return ArraySpec(shape, np.dtype(dtype), **how)


def make_with_tensorstore(array: np.ndarray, path: Path, key: str = "8_8_8", **scale: Any) -> None:
    """Store an array of axes (c,) z, y, x."""
    channels = array if array.ndim == 4 else array[None]
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{path}/"},
        "multiscale_metadata": {
            "type": scale.pop("type", "image"),
            "data_type": array.dtype.name,
            "num_channels": channels.shape[0],
        },
        "scale_metadata": {
            "key": key,
            "size": list(channels.shape[:0:-1]),
            "chunk_size": [5, 4, 3],
            "voxel_offset": OFFSET,
            "resolution": [4, 4, 40],
            "encoding": "raw",
            **scale,
        },
    }
    ts.open(spec, open=True, create=True).result()[...] = channels.T


SHARDING = {
    "@type": "neuroglancer_uint64_sharded_v1",
    "preshift_bits": 3,
    "minishard_bits": 0,
    "shard_bits": 6,
    "hash": "identity",
    "data_encoding": "gzip",
    "minishard_index_encoding": "gzip",
}


class TestPrecomputed(WritableSourceContract):
    def make(self, array: np.ndarray, folder: Path) -> Source:
        make_with_tensorstore(array, folder / "a.precomputed")
        return open_source(folder / "a.precomputed")

    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        spec = spec_of(shape, dtype, chunks=(3, 4, 5))
        return create(str(folder / "b.precomputed"), None, spec, overwrite=False)


class TestChannels(WritableSourceContract):
    shape = (3, 6, 7, 8)
    dtype = "uint8"

    def make(self, array: np.ndarray, folder: Path) -> Source:
        make_with_tensorstore(array, folder / "a.precomputed")
        return open_source(folder / "a.precomputed")

    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        spec = spec_of(shape, dtype, chunks=(3, 2, 4, 5))
        return create(str(folder / "b.precomputed"), None, spec, overwrite=False)

    def test_axes(self, source: Source) -> None:
        assert source.metadata.axes == ("c", "z", "y", "x")
        assert source.metadata.voxel_size == (1, 40, 4, 4)
        assert source.chunks == (3, 3, 4, 5)


class TestSharded(WritableSourceContract):
    """Shards as neuroglancer's: TensorStore writes whole ones."""

    def make(self, array: np.ndarray, folder: Path) -> Source:
        make_with_tensorstore(array, folder / "a.precomputed", sharding=SHARDING)
        return open_source(folder / "a.precomputed")

    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        make_with_tensorstore(np.zeros(shape, dtype), folder / "a.precomputed", sharding=SHARDING)
        return open_source(folder / "a.precomputed", mode="r+")

    def test_grids(self, source: Source) -> None:
        assert (source.chunks, source.shards) == ((3, 4, 5), (6, 8, 10))


def test_offset_and_resolution_are_metadata(tmp_path: Path) -> None:
    expected = textured((6, 7, 8), "uint16")
    make_with_tensorstore(expected, tmp_path / "a.precomputed")
    source = open_source(tmp_path / "a.precomputed")
    np.testing.assert_array_equal(source[1:4, 2:, 3:5], expected[1:4, 2:, 3:5])
    assert source.metadata == ImageMetadata(
        axes=("z", "y", "x"),
        voxel_size=(40, 4, 4),
        units=("nanometer",) * 3,
        origin=(4000, -12, 20),
    )


def test_scales(tmp_path: Path) -> None:
    path = tmp_path / "a.precomputed"
    make_with_tensorstore(textured((6, 8, 8), "uint16"), path)
    make_with_tensorstore(textured((6, 4, 4), "uint16"), path, "16_16_8", resolution=[8, 8, 40])
    assert list_arrays(str(path)) == ["8_8_8", "16_16_8"]
    assert open_source(path).shape == (6, 8, 8)
    assert open_source(path).identities() == open_source(path, "8_8_8").identities()
    half = open_source(path, "16_16_8")
    assert half.shape == (6, 4, 4)
    assert half.metadata.voxel_size == (40, 8, 8)
    np.testing.assert_array_equal(half.for_run(1, 0)[...], textured((6, 4, 4), "uint16"))
    assert half.identities().isdisjoint(open_source(path).identities())
    with pytest.raises(SourceNotFoundError, match="8_8_8, 16_16_8"):
        open_source(path, "s1")


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "float32", ">u2"]
)
@pytest.mark.parametrize("shape", [(6, 7, 8), (2, 6, 7, 8), (0, 4, 5)])
def test_others_read_what_was_made(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    expected = textured(shape, dtype)
    made = create(str(tmp_path / "a.precomputed"), None, spec_of(shape, dtype), overwrite=False)
    made[...] = expected
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{tmp_path}/a.precomputed/"},
    }
    found = ts.open(spec).result().read().result()
    np.testing.assert_array_equal(found.T[0] if len(shape) == 3 else found.T, expected)


def test_voxels_keep_their_bits(tmp_path: Path) -> None:
    values = np.array([[[0.0, 0.0, -0.0, -0.0, np.nan, -np.nan]]], "float32")
    create(
        str(tmp_path / "a.precomputed"),
        None,
        spec_of((1, 1, 6), "float32", chunks=(1, 1, 2)),
        overwrite=False,
    )[...] = values
    assert open_source(tmp_path / "a.precomputed")[...].tobytes() == values.tobytes()


def test_metadata(tmp_path: Path) -> None:
    metadata = ImageMetadata(
        axes=("z", "y", "x"),
        voxel_size=(2.0, 0.5, 0.25),
        units=("micrometer",) * 3,
        origin=(4.0, -1.0, 0.0),
        attributes={"sample": 3},
    )
    path = tmp_path / "a.precomputed"
    made = create(str(path), None, spec_of((6, 7, 8), metadata=metadata), overwrite=False)
    assert made.metadata == metadata
    scale = json.loads((path / "info").read_text())["scales"][0]
    assert scale["resolution"] == [250, 500, 2000]
    assert scale["voxel_offset"] == [0, -2, 2]
    made[...] = 3
    np.testing.assert_array_equal(open_source(path)[...], np.full((6, 7, 8), 3))


def test_what_neuroglancer_cannot_see_is_named_once(tmp_path: Path) -> None:
    metadata = ImageMetadata(
        axes=("t", "y", "x"), voxel_size=(2.0, 0.5, 0.25), origin=(1.0, 0.0, 0.0), channel_names=("dna",)
    )
    path = tmp_path / "a.precomputed"
    with pytest.warns(BioimagePyWarning) as caught:
        made = create(str(path), None, spec_of((6, 7, 8), metadata=metadata), overwrite=False)
    (warning,) = caught
    for words in ("axes t, y, x", "voxel size (2.0", "origin (1.0", "channel names"):
        assert words in str(warning.message)
    assert made.metadata == metadata


def test_jpeg(tmp_path: Path) -> None:
    spec = spec_of((8, 8, 8), "uint8", codec=Codec("jpeg", 90))
    made = create(str(tmp_path / "a.precomputed"), None, spec, overwrite=False)
    made[...] = 100
    assert made.codec == "jpeg"
    assert np.all(np.abs(made[...].astype(int) - 100) < 3)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"codec": Codec("zstd")}, "zstd"),
        ({"codec": Codec("jpeg")}, "cannot be made"),
        ({"chunks": (2, 2, 2), "shards": (8, 2, 2)}, r"Morton.*shards=\(2, 4, 4\)"),
        ({"fill_value": 3}, "fill value"),
        ({"chunks": (8, 8)}, "chunks"),
        ({"dtype": "float64"}, "precomputed cannot hold float64.*uint64"),
        ({"dtype": "bool"}, "bool"),
        ({"shape": (8, 8)}, "3 axes"),
        ({"shape": (2, 2, 8, 8, 8)}, "3 axes"),
        ({"shape": (1, 8, 8, 8)}, "one channel .* 3 axes.*SelectSource"),
        ({"key": "raw"}, "leave out the key"),
    ],
)
def test_what_cannot_be_made_leaves_nothing(tmp_path: Path, how: dict[str, Any], words: str) -> None:
    shape, dtype, key = how.pop("shape", (8, 8, 8)), how.pop("dtype", "uint16"), how.pop("key", None)
    with pytest.raises(InvalidArgumentError, match=words) as raised:
        create(str(tmp_path / "a.precomputed"), key, spec_of(shape, dtype, **how), overwrite=False)
    assert isinstance(raised.value, UnsupportedFormatError) == (
        "axes (z" in str(raised.value) or "cannot hold" in str(raised.value)
    )
    assert not list(tmp_path.rglob("*"))


def test_overwriting(tmp_path: Path) -> None:
    path = tmp_path / "a.precomputed"
    make_with_tensorstore(textured((6, 7, 8), "uint16"), path)
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        create(str(path), None, spec_of((4, 4, 4)), overwrite=False)
    made = create(str(path), None, spec_of((4, 4, 4)), overwrite=True)
    assert not made[...].any()
    assert sorted(p.name for p in path.iterdir()) == ["info"]
    (path / "mesh").mkdir()
    with pytest.raises(OutputExistsError, match="mesh"):
        create(str(path), None, spec_of((4, 4, 4)), overwrite=True)


def test_damaged_chunks(tmp_path: Path) -> None:
    make_with_tensorstore(textured((6, 7, 8), "uint16"), tmp_path / "a.precomputed")
    chunk = next(iter(sorted((tmp_path / "a.precomputed/8_8_8").iterdir())))
    chunk.write_bytes(chunk.read_bytes()[:-3])
    with pytest.raises(StorageError) as raised:
        open_source(tmp_path / "a.precomputed")[...]
    for words in ("a.precomputed", "[0:6, 0:7, 0:8]", chunk.name):
        assert words in str(raised.value)


@pytest.mark.parametrize(
    "info", ["{", "[]", "{}", '{"scales": []}', '{"scales": [{"key": "a", "size": [1, 2, 3]}]}']
)
def test_nonsense_in_the_info_file(tmp_path: Path, info: str) -> None:
    (tmp_path / "a.precomputed").mkdir()
    (tmp_path / "a.precomputed/info").write_text(info)
    with pytest.raises((StorageError, UnsupportedFormatError), match=r"a\.precomputed"):
        open_source(tmp_path / "a.precomputed")


def test_handles_keep_the_order_of_their_axes(tmp_path: Path) -> None:
    make_with_tensorstore(textured((6, 7, 8), "uint16"), tmp_path / "a.precomputed")
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{tmp_path}/a.precomputed/"},
    }
    source = as_source(ts.open(spec).result())
    assert source.shape == (8, 7, 6, 1)
    np.testing.assert_array_equal(source[..., 0], textured((6, 7, 8), "uint16").T)


class TestCompressedFiles:
    """Chunk files that are compressed as a whole, as cloud-volume writes them into local folders."""

    def made(
        self, tmp_path: Path, ending: str, compress: Callable[[bytes], bytes], **scale: Any
    ) -> np.ndarray:
        channels = scale.pop("channels", None)
        shape = (7, 9, 11) if channels is None else (channels, 7, 9, 11)
        array = (textured(shape, "uint16") % 50 + 1).astype(scale.pop("dtype", "uint16"))
        make_with_tensorstore(array, tmp_path / "a", **scale)
        for n, file in enumerate(sorted((tmp_path / "a/8_8_8").iterdir())):
            if n % 5:
                Path(f"{file}{ending}").write_bytes(compress(file.read_bytes()))
                file.unlink()
        return array

    @pytest.mark.parametrize(
        ("ending", "compress"),
        [
            (".gz", gzip.compress), (".br", imagecodecs.brotli_encode), (".zstd", imagecodecs.zstd_encode),
            (".bz2", bz2.compress), (".xz", lzma.compress),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("channels", [None, 2])
    def test_are_read(
        self, tmp_path: Path, ending: str, compress: Callable[[bytes], bytes], channels: int | None
    ) -> None:
        array = self.made(tmp_path, ending, compress, channels=channels)
        for source in (open_source(tmp_path / "a"), open_source(tmp_path / "a").for_run(2, 0)):
            assert (source.dtype, source.fill_value, source.writable) == (np.dtype("uint16"), 0, False)
            np.testing.assert_array_equal(source[...], array)
            np.testing.assert_array_equal(source[..., 2:6, 3:8, 1:], array[..., 2:6, 3:8, 1:])
        assert source.metadata == from_spec(source.to_spec()).metadata
        np.testing.assert_array_equal(copy(tmp_path / "a", tmp_path / "out.zarr", num_workers=2)[...], array)
        with pytest.raises(ReadOnlyError, match="compressed as files"):
            open_source(tmp_path / "a", mode="r+")

    def test_are_decoded_like_others(self, tmp_path: Path) -> None:
        how = {"encoding": "compressed_segmentation", "compressed_segmentation_block_size": [2, 2, 2]}
        array = self.made(tmp_path, ".gz", gzip.compress, dtype="uint64", **how)
        np.testing.assert_array_equal(open_source(tmp_path / "a")[...], array)

    def test_missing_and_damaged_ones(self, tmp_path: Path) -> None:
        array = self.made(tmp_path, ".gz", gzip.compress)
        first, second, third = sorted((tmp_path / "a/8_8_8").glob("*.gz"))[:3]
        first.unlink()
        assert (np.asarray(open_source(tmp_path / "a")[...]) == 0).sum() > 0
        whole = second.read_bytes()
        for data in (whole[:-9], b"", b"nonsense", gzip.compress(gzip.decompress(whole)[:-1])):
            second.write_bytes(data)
            with pytest.raises(StorageError, match=second.name.removesuffix(".gz")):
                open_source(tmp_path / "a")[...]
        second.write_bytes(whole)
        third.with_suffix("").write_bytes(b"")
        with pytest.raises(StorageError, match="which of them is the chunk"):
            open_source(tmp_path / "a")[...]
        third.with_suffix("").unlink()
        assert open_source(tmp_path / "a")[...].max() == array.max()

    @pytest.mark.parametrize("change", ["chunk_sizes", "voxel_offset", "size", "sharding", "not sharding"])
    def test_names_of_another_grid_are_an_error(self, tmp_path: Path, change: str) -> None:
        array = textured((7, 9, 11), "uint16") + 1
        make_with_tensorstore(
            array, tmp_path / "a", **({"sharding": SHARDING} if change == "not sharding" else {})
        )
        info = json.loads((tmp_path / "a/info").read_text())
        scale = info["scales"][0]
        if change == "sharding":
            scale["sharding"] = SHARDING
        elif change == "not sharding":
            del scale["sharding"]
        else:
            scale[change] = {"chunk_sizes": [[6, 5, 7]], "voxel_offset": [1, 1, 1], "size": [3, 3, 2]}[change]
        (tmp_path / "a/info").write_text(json.dumps(info))
        with pytest.raises(StorageError, match="look like chunks"):
            open_source(tmp_path / "a")


class TestTypeAndEncoding:
    @pytest.mark.parametrize("kind", ["image", "segmentation"])
    @pytest.mark.parametrize("dtype", ["uint32", "uint64"])
    @pytest.mark.parametrize("encoding", ["raw", "compressed_segmentation"])
    @pytest.mark.parametrize("gzipped", [False, True])
    def test_are_kept(self, tmp_path: Path, kind: str, dtype: str, encoding: str, gzipped: bool) -> None:
        array = textured((7, 9, 11), dtype) % 9
        how = {"compressed_segmentation_block_size": [2, 4, 8]} if encoding != "raw" else {}
        make_with_tensorstore(array, tmp_path / "a", encoding=encoding, type=kind, **how)
        if gzipped:
            for file in (tmp_path / "a/8_8_8").iterdir():
                Path(f"{file}.gz").write_bytes(gzip.compress(file.read_bytes()))
                file.unlink()
        made = copy(tmp_path / "a", tmp_path / "b.precomputed")
        np.testing.assert_array_equal(made[...], array)
        info = json.loads((tmp_path / "b.precomputed/info").read_text())
        scale = info["scales"][0]
        assert (info["type"], scale["encoding"]) == (kind, encoding)
        assert scale.get("compressed_segmentation_block_size", [2, 4, 8]) == [2, 4, 8]
        part = copy(RoiSource(open_source(tmp_path / "a"), (slice(2, 7),)), tmp_path / "c.precomputed")
        assert part.described == made.described
        plain = copy(tmp_path / "a", tmp_path / "d.precomputed", codec="none")
        assert plain.described == (kind, None)
        other = copy(tmp_path / "a", tmp_path / "e.precomputed", dtype="float32", casting="same_kind")
        assert other.described == ("image", None)

    def test_of_new_volumes(self, tmp_path: Path) -> None:
        array = textured((7, 9, 11), "uint64")
        assert copy(array, tmp_path / "a.precomputed").described == ("segmentation", None)
        codec = {"name": "compressed_segmentation", "block_size": (4, 2, 1)}
        made = copy(array, tmp_path / "b.precomputed", codec=codec)
        assert made.codec == "compressed_segmentation"
        assert made.described[1] == Codec("compressed_segmentation", options={"block_size": [4, 2, 1]})
        np.testing.assert_array_equal(made[...], array)
        grey = copy((array % 251).astype("uint8"), tmp_path / "c.precomputed", codec="png")
        assert copy(grey, tmp_path / "d.precomputed").codec == "png"
        for wrong in ({"name": "compressed_segmentation", "block_size": (4, 2)}, "compressed_segmentation:3"):
            with pytest.raises(InvalidArgumentError):
                copy(array, tmp_path / "x.precomputed", codec=wrong)
        with pytest.raises(InvalidArgumentError, match="cannot be made"):
            copy(array.astype("uint8"), tmp_path / "x.precomputed", codec="compressed_segmentation")


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("num_workers", [1, 2])
def test_chunks_of_zeros_are_stored(tmp_path: Path, sparse: bool, num_workers: int) -> None:
    array = np.zeros((8, 8, 8), "uint8")
    array[5, 5, 5] = 3
    chunks = (2, 2, 2) if sparse else (8, 8, 8)
    source = copy(array, tmp_path / "in.zarr", chunks=chunks)
    assert len([p for p in (tmp_path / "in.zarr/c").rglob("*") if p.is_file()]) == 1
    for n, block_shape in enumerate((None, (4, 4, 4))):
        out = tmp_path / f"{n}.precomputed"
        copy(source, out, chunks=(4, 4, 4), num_workers=num_workers, block_shape=block_shape)
        assert len(list((out / "s0").iterdir())) == 8
        np.testing.assert_array_equal(open_source(out)[...], array)
