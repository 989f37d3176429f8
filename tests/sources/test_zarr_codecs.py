"""Codecs of new Zarr arrays beyond those that TensorStore has: by the names of zarr-python's registries."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import tensorstore as ts
import z5py
import zarr

import bioimage_py as bp
from bioimage_py.errors import InvalidArgumentError, UnsupportedFormatError
from bioimage_py.sources.zarr import registered_names
from tests.sources.contract import textured

SHAPE = (9, 8, 10)
FLOATS = np.random.default_rng(0).normal(size=SHAPE).astype("float32")
WORDS = textured(SHAPE, "uint16")
HAS_PCODEC = "pcodec" in numcodecs.registry.codec_registry
PAGE = Path(__file__).parents[2] / "docs" / "codecs.md"
# A codec as the page names it, the voxels, and how the metadata of Zarr v3 and v2 name it.
CHAINS: list[tuple[Any, np.ndarray, list[str], list[str]]] = [
    ("bitround:10", FLOATS, ["numcodecs.bitround", "bytes", "blosc", "crc32c"], ["bitround", "blosc"]),
    ("bitround:10+none", FLOATS, ["numcodecs.bitround", "bytes"], ["bitround"]),
    ("delta+zstd:3", WORDS, ["numcodecs.delta", "bytes", "zstd"], ["delta", "zstd"]),
    ("shuffle+lzma:1", WORDS, ["bytes", "numcodecs.shuffle", "numcodecs.lzma"], ["shuffle", "lzma"]),
    ("packbits+numcodecs.lz4", WORDS > 9, ["numcodecs.packbits", "bytes", "numcodecs.lz4"], ["packbits", "lz4"]),
    pytest.param(
        "pcodec:5", FLOATS, ["numcodecs.pcodec"], ["pcodec"], marks=pytest.mark.skipif(not HAS_PCODEC, reason="no pcodec")
    ),
]  # fmt: skip


def stored(path: Path) -> list[dict[str, Any]]:
    """The codecs in the metadata of an array."""
    if (path / "zarr.json").exists():
        return json.loads((path / "zarr.json").read_text())["codecs"]
    array = json.loads((path / ".zarray").read_text())
    return [*(array["filters"] or ()), *filter(None, [array["compressor"]])]


def read_by_zarr(path: Path) -> np.ndarray:
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # that others may lack the codec
        return zarr.open_array(path, mode="r")[...]


@pytest.mark.parametrize("zarr_format", [3, 2])
@pytest.mark.parametrize(("codec", "voxels", "v3", "v2"), CHAINS)
def test_chains(
    tmp_path: Path, codec: Any, voxels: np.ndarray, v3: list[str], v2: list[str], zarr_format: int
) -> None:
    path = tmp_path / "a.zarr"
    bp.copy(voxels, path, codec=codec, zarr_format=zarr_format, chunks=(4, 5, 6), num_workers=2)
    assert [step.get("id") or step["name"] for step in stored(path)] == (v3 if zarr_format == 3 else v2)
    expected = numcodecs.BitRound(10).encode(FLOATS).view("f4") if "bitround" in codec else voxels
    np.testing.assert_array_equal(read_by_zarr(path), expected)
    source = bp.open_source(path)
    assert source.engine == ("tensorstore" if "bitround" in codec else "zarr-python")
    np.testing.assert_array_equal(source[...], expected)
    assert bp.verify(path, bp.copy(path, tmp_path / "b.n5/a") if voxels.dtype != bool else path)


def test_rounding_in_shards_by_other_processes(tmp_path: Path) -> None:
    """The kept bits are in the metadata; NaN stays NaN, whatever its bits."""
    voxels = FLOATS.copy()
    voxels[0, 0, :2] = np.array([-1, 0x7FFFFFFF], "i4").view("f4")
    bp.copy(voxels, tmp_path / "a.npy")
    plan = bp.plan(tmp_path / "a.npy", tmp_path / "a.zarr", codec="bitround:7+zstd", digest=True)
    assert "bitround+zstd may change voxels" in str(plan)
    layout = {"chunks": (3, 4, 5), "shards": (9, 8, 5), "codec": "bitround:7+blosc:5+crc32c"}
    bp.copy(tmp_path / "a.npy", tmp_path / "a.zarr", job_type="subprocess", num_workers=2, **layout)
    [sharding] = stored(tmp_path / "a.zarr")
    first, *_, last = sharding["configuration"]["codecs"]
    assert (first, last) == (
        {"name": "numcodecs.bitround", "configuration": {"keepbits": 7}},
        {"name": "crc32c"},
    )
    source = bp.open_source(tmp_path / "a.zarr")
    assert (source.engine, source.codec) == (
        "tensorstore",
        "numcodecs.bitround:7 blosc zstd:5 shuffle crc32c",
    )
    for found in (source[...], read_by_zarr(tmp_path / "a.zarr")):
        assert np.isnan(found[0, 0, :2]).all()
        np.testing.assert_allclose(found, voxels, rtol=2**-8)
    # Written into again, it is rounded too.
    target = bp.open_source(tmp_path / "a.zarr", mode="r+")
    target[0, 0, 0] = np.float32(1) / 3
    assert target[0, 0, 0] == numcodecs.BitRound(7).encode(np.float32([1 / 3])).view("f4")[0]


ERRORS: list[tuple[Any, str, dict[str, Any], list[str]]] = [
    ("lzna", "a.zarr", {}, ["does not have the codec 'lzna'", "did you mean 'lzma'", "choose one of none, zstd"]),
    ("bitruond:3+zstd", "a.zarr", {"zarr_format": 2}, ["Zarr v2 does not have", "did you mean 'bitround'"]),
    ("pickle", "a.zarr", {"zarr_format": 2}, ["does not have the codec 'pickle'"]),
    ("sharding_indexed", "a.zarr", {}, ["does not have the codec 'sharding_indexed'"]),
    ("bitround:3", "a.zarr", {"dtype": "uint16"}, ["uint16", "'bitround'", "Only float arrays"]),
    ("bitround:3", "a.ome.zarr", {"dtype": "uint16"}, ["uint16", "Only float arrays"]),
    ("bitround:24+zstd", "a.zarr", {}, ["float32", "'bitround+zstd'", "too large"]),
    ("bitround:0+zstd", "a.zarr", {}, ["at least 1 bit"]),
    ("bitround+zstd", "a.zarr", {}, ["bitround", "keepbits"]),
    ("packbits:3+zstd", "a.zarr", {}, ["has no level, got 3"]),
    ("bitround:x+zstd", "a.zarr", {}, ["level of codec 'bitround'", "'x'"]),
    ({"name": "lzma", "speed": 3}, "a.zarr", {}, ["'lzma' takes format, check, preset, filters", "'speed'"]),
    ("zstd+bitround:3", "a.zarr", {}, ["'zstd+bitround'", "order"]),
    ("bitround:3+gzip", "a.n5/a", {}, ["N5", "no option filters"]),
    ("bitround:3+gzip", "a.h5:/a", {}, ["HDF5", "filters"]),
    ("bitround:3+zstd", "s3://lab/a.zarr", {}, ["'bitround+zstd'", "local folders and at az:// only"]),
    pytest.param(
        "pcodec", "a.zarr", {}, ["'numcodecs[pcodec]'"], marks=pytest.mark.skipif(HAS_PCODEC, reason="there is pcodec")
    ),
    pytest.param(
        "pcodec", "a.zarr", {"dtype": "uint8"}, ["uint8", "pcodec"], marks=pytest.mark.skipif(not HAS_PCODEC, reason="no pcodec")
    ),
]  # fmt: skip


@pytest.mark.parametrize(("codec", "name", "how", "words"), ERRORS)
def test_what_cannot_be_made_is_told_before_anything_is_made(
    tmp_path: Path, codec: Any, name: str, how: dict[str, Any], words: list[str]
) -> None:
    path = name if "//" in name else f"{tmp_path}/{name}"
    with pytest.raises((InvalidArgumentError, UnsupportedFormatError)) as caught:
        bp.copy(FLOATS.astype(how.pop("dtype", "float32")), path, codec=codec, **how)
    for word in words:
        assert word in str(caught.value), str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_codec_of_another_distribution_has_its_name(tmp_path: Path) -> None:
    class Twice(numcodecs.abc.Codec):
        codec_id = "twice_toy"

        def encode(self, buf: Any) -> bytes:
            return bytes(memoryview(buf).cast("B")) * 2

        def decode(self, buf: Any, out: Any = None) -> Any:
            data = bytes(buf)
            return numcodecs.compat.ndarray_copy(data[: len(data) // 2], out)

    numcodecs.registry.register_codec(Twice)
    try:
        assert "twice_toy" in registered_names(2)
        bp.copy(WORDS, tmp_path / "a.zarr", codec="delta+twice_toy", zarr_format=2)
        np.testing.assert_array_equal(bp.open_source(tmp_path / "a.zarr")[...], WORDS)
    finally:
        del numcodecs.registry.codec_registry["twice_toy"]
    assert {"bitround", "lz4", "zlib"} <= set(registered_names(3))


def test_a_file_cannot_have_code_run(tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        made = zarr.create_array(
            tmp_path / "a.zarr", shape=(4,), dtype="u1", zarr_format=2, compressors=[numcodecs.Pickle()]
        )
    made[...] = 1
    with pytest.raises(UnsupportedFormatError, match="pickle"):
        bp.open_source(tmp_path / "a.zarr")


def by_tensorstore(path: Path) -> Any:
    driver = "zarr3" if (path / "zarr.json").exists() else "zarr"
    return ts.open({"driver": driver, "kvstore": f"file://{path}/"}).result().read().result()


def by_zarrs(path: Path) -> Any:
    pytest.importorskip("zarrs")
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "codec_pipeline.strict": True}):
        return read_by_zarr(path)


READERS = {
    "zarr-python": read_by_zarr,
    "TensorStore": by_tensorstore,
    "zarrs": by_zarrs,
    "z5py": lambda path: z5py.File(path.parent, "r")[path.name][...],
}


def rows() -> list[tuple[int, str, dict[str, str]]]:
    """Of the tables of the page: the version of Zarr, a codec, and who reads it."""
    found = []
    for version, table in re.findall(
        r"^## In Zarr v(\d)$.*?^(\|.*?)\n\n", PAGE.read_text(), re.MULTILINE | re.DOTALL
    ):
        lines = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in table.splitlines()]
        found += [(int(version), line[0], dict(zip(lines[0], line, strict=True))) for line in lines[2:]]
    return found


@pytest.mark.parametrize(("zarr_format", "codec", "read"), rows())
def test_who_reads_what_is_as_the_page_says(
    tmp_path: Path, zarr_format: int, codec: str, read: dict[str, str]
) -> None:
    if "pcodec" in codec and not HAS_PCODEC:
        pytest.skip("no pcodec")
    voxels = (
        WORDS > 9 if "packbits" in codec else FLOATS if "bitround" in codec or "quantize" in codec else WORDS
    )
    path = tmp_path / "a.zarr" / "x"
    bp.copy(voxels, path, codec=codec, zarr_format=zarr_format)
    expected = bp.open_source(path)[...]
    for name, reader in READERS.items():
        try:
            says = "yes" if np.array_equal(np.asarray(reader(path)), expected) else "wrong"
        except Exception:
            says = "no"
        assert read[name] == says, name
