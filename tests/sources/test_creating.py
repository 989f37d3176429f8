"""What `create_output` decides: chunks, shards, fill value and dtype of a new array."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from bioimage_py.errors import BioimagePyWarning, InvalidArgumentError, UnsupportedFormatError
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources import NumpySource, create_output, plan_output


@pytest.mark.parametrize("path", ["a.n5", "a.precomputed"])
def test_a_fill_value_that_the_store_cannot_have_is_not_taken_over(path: str, tmp_path: Path) -> None:
    with create_output(
        tmp_path / "like.zarr", shape=(6, 7, 8), dtype="uint16", chunks=(4, 4, 4), fill_value=7
    ) as like:
        with create_output(tmp_path / path, like=like) as made:
            assert made.fill_value == 0
        with pytest.raises(InvalidArgumentError, match="no fill value but 0"):
            create_output(tmp_path / "given" / path, like=like, fill_value=7)


@pytest.mark.parametrize(
    ("fill", "dtype", "kept"),
    [(7, "uint8", 7), (-1, "uint8", 0), (2 + 0j, "float32", 2), (2 + 1j, "float32", 0), (np.nan, "int16", 0)],
)
def test_a_fill_value_is_taken_over_where_the_dtype_holds_it(
    fill: complex, dtype: str, kept: complex, tmp_path: Path
) -> None:
    stored = np.asarray(fill).dtype
    with (
        create_output(tmp_path / "like.zarr", shape=(3, 4), dtype=stored, fill_value=fill) as like,
        create_output(tmp_path / "made.zarr", like=like, dtype=dtype) as made,
    ):
        assert made.fill_value == kept
        assert made.dtype == dtype


@given(st.lists(st.integers(1, 300), min_size=1, max_size=3))
def test_default_chunks_divide_the_shards_that_are_given(shards: list[int]) -> None:
    spec = plan_output("a.zarr", shape=[500] * len(shards), dtype="uint8", shards=shards).spec
    assert spec.chunks is not None
    assert spec.shards == tuple(shards)
    assert all(s % c == 0 for s, c in zip(shards, spec.chunks, strict=True))


def test_default_chunks_in_shards_are_no_crumbs() -> None:
    for extent in (100, 101, 250, 256):
        spec = plan_output("a.zarr", shape=(500, 500, 500), dtype="uint8", shards=(extent,) * 3).spec
        assert spec.chunks is not None
        assert math.prod(spec.chunks) >= 2**15, extent


def test_chunks_and_metadata_come_from_the_input_and_what_is_given_wins() -> None:
    metadata = ImageMetadata(axes=("z", "y", "x"), voxel_size=(2.0, 1.0, 1.0), attributes={"a": 1, "b": 2})
    like = NumpySource(np.zeros((70, 80, 90), ">u2"), metadata)
    like.chunks = (32, 64, 64)
    spec = plan_output("a.zarr", like=like, attributes={"b": 3}).spec
    assert (spec.shape, spec.dtype, spec.chunks) == ((70, 80, 90), np.dtype("uint16"), (32, 64, 64))
    assert spec.metadata.voxel_size == (2.0, 1.0, 1.0)
    assert spec.metadata.attributes == {"a": 1, "b": 3}
    like.chunks = (1, 80, 90)
    assert plan_output("a.zarr", like=like).spec.chunks == (64, 64, 64)
    assert plan_output("a.zarr", like=like, chunks=(8, 8, 8)).spec.chunks == (8, 8, 8)


@pytest.mark.parametrize(
    ("chunks", "shards"),
    [((1, 128, 128), (64, 128, 128)), ((16, 16, 16), (128, 128, 128)), ((4, 4, 4), (4, 8, 8))],
)
def test_shards_of_the_input_are_kept_with_their_chunks(
    chunks: tuple[int, ...], shards: tuple[int, ...], tmp_path: Path
) -> None:
    like = create_output(
        tmp_path / "in.zarr", shape=(128, 128, 128), dtype="u1", chunks=chunks, shards=shards
    )
    for options in ({}, {"dtype": "f4"}, {"codec": "gzip"}):
        spec = plan_output("a.zarr", like=like, **options).spec
        assert (spec.chunks, spec.shards) == (chunks, shards)
    # Each would be a file of its own.
    assert plan_output("a.n5", like=like).spec.chunks != chunks
    assert plan_output("a.zarr", like=like, zarr_format=2).spec.chunks != chunks
    spec = plan_output("a.zarr", like=like, chunks=(32, 32, 32)).spec
    assert (spec.chunks, spec.shards) == ((32, 32, 32), None)


@pytest.mark.parametrize("dtype", [str, "S", "S3", "V", "V4", "U5", object, "M8[s]", [("a", "u1")]])
@pytest.mark.parametrize("path", ["a.zarr", "a.n5", "a.h5", "a.npy", "a.precomputed"])
def test_dtypes_that_voxels_cannot_have(path: str, dtype: Any, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormatError, match=r"the new array has dtype .* but voxels are bool"):
        create_output(tmp_path / path, shape=(3, 4, 5), dtype=dtype)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["a.zarr", "v2.zarr", "a.n5", "a.h5", "a.precomputed"])
def test_attributes_that_json_has_no_word_for_are_stored_nonetheless(path: str, tmp_path: Path) -> None:
    attributes = {"nodata": np.float32("nan"), "range": np.array([0, np.inf])}
    warned = nullcontext() if path == "a.h5" else pytest.warns(BioimagePyWarning, match="written as text")
    how = {"shape": (4, 5, 6), "dtype": "u1", "zarr_format": 2 if path.startswith("v2") else 3}
    with warned, create_output(tmp_path / path, attributes=attributes, **how) as made:
        found = made.metadata.attributes
    if path == "a.h5":
        assert np.isnan(found["nodata"])
        assert found["range"] == [0, np.inf]
    else:
        assert found["nodata"] == "NaN"
        assert found["range"] == [0, "Infinity"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs shape and dtype"),
        ({"shape": (3, -1), "dtype": "u1"}, "shape must be"),
        ({"shape": (3, 4), "dtype": "u1", "chunks": (2,)}, "1 axes, but the array has 2"),
        ({"shape": (3, 4), "dtype": "u1", "chunks": (0, 2)}, "chunks must be"),
        ({"shape": (3, 4), "dtype": "u1", "chunks": (2, 2), "shards": (3, 2)}, "multiple of the chunks"),
        ({"shape": (3, 4), "dtype": "voxel"}, "is not a numpy dtype"),
        ({"shape": (3, 4), "dtype": "u1", "attributes": {"a": object()}}, "cannot be stored as an attribute"),
        ({"shape": (3, 4), "dtype": "u1", "zarr_format": 4}, "must be 2 or 3"),
    ],
)
def test_what_does_not_fit_is_named(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        create_output(tmp_path / "a.zarr", **options)
    assert not list(tmp_path.iterdir())


def test_a_format_that_is_only_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormatError, match=r"microscope vendors.*, which cannot be written.*Zarr"):
        create_output(tmp_path / "a.czi", shape=(3,), dtype="u1")


@pytest.mark.parametrize("name", ["a.xyz", "a.czi"])
def test_formats_that_can_be_written_are_listed_without_endings_that_cannot(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedFormatError) as caught:
        create_output(tmp_path / name, shape=(3,), dtype="u1")
    assert "(.zarr .ozx)" in str(caught.value)
    assert ".zarr.zip" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.npy", "none+crc32c"),
        ("a.npy", "none+fletcher32"),
        ("a.precomputed", "none+crc32c"),
        ("a.precomputed", "png+checksum"),
        ("a.precomputed", "compressed_segmentation+crc32c"),
        ("a.n5", "gzip+fletcher32"),
        ("a.zarr", "zstd+fletcher32"),
        ("a.zarr", "none+checksum"),
        ("a.h5", "gzip+crc32c"),
    ],
)
def test_a_checksum_that_a_format_does_not_have_is_not_left_out_silently(
    name: str, codec: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgumentError, match=codec.partition("+")[2]):
        create_output(tmp_path / name, shape=(4, 8, 8), dtype="u4", codec=codec)
    assert not list(tmp_path.iterdir())
