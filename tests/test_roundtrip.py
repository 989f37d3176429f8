"""Random copies, compared bit for bit with numpy's answer as other libraries read it back.

Nothing here reads an output through the package itself: zarr-python, h5py, z5py and numpy do.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import z5py
import zarr
from hypothesis import HealthCheck, given, settings, strategies as st

import bioimage_py as bp

REAL = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")
EVERY = (*REAL, "bool", "float16", "complex64", "complex128")
SPECIAL = (np.nan, -0.0, 0.0, np.inf, -np.inf)


def voxels(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    """Values from the whole range of a dtype, with many that are special."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.integers(0, 2, shape).astype(kind)
    if kind.kind in "iu":
        low, high = np.iinfo(kind).min, np.iinfo(kind).max
        found = rng.integers(low, high, shape, dtype=kind, endpoint=True)
        return np.where(
            rng.random(shape) < 0.3, np.array([0, low, high, 1], kind)[rng.integers(0, 4, shape)], found
        )

    def real() -> np.ndarray:
        drawn = rng.normal(size=shape)
        return np.where(
            rng.random(shape) < 0.3, np.array(SPECIAL)[rng.integers(0, len(SPECIAL), shape)], drawn
        )

    if kind.kind == "f":
        return real().astype(kind)
    found = np.empty(shape, kind)
    found.real, found.imag = real(), real()
    return found


def bits(array: Any) -> bytes:
    """The voxels as bytes, so that -0.0 is not 0.0 and NaN is NaN."""
    found = np.asarray(array)
    return np.ascontiguousarray(found.astype(found.dtype.newbyteorder("<"), copy=False)).tobytes()


def extents(draw: st.DrawFn, ndim: int) -> tuple[int, ...]:
    most = {1: 40, 2: 12, 3: 9, 4: 5, 5: 4}[ndim]
    return tuple(draw(st.integers(1, most)) for _ in range(ndim))


@dataclass
class Case:
    """One random copy."""

    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...]
    block_shape: tuple[int, ...] | None
    mask: np.ndarray | None
    workers: int
    input_kind: str
    input_chunks: tuple[int, ...]
    big_endian: bool
    seed: int
    some_blocks: bool


INPUTS = ("numpy", "fortran", "view", "big-endian", "zarr2", "zarr3", "sharded", "npy", "hdf5", "n5")


@st.composite
def cases(draw: st.DrawFn, dtypes: tuple[str, ...] = EVERY, input_kinds: tuple[str, ...] = INPUTS) -> Case:
    shape = extents(draw, draw(st.integers(1, 5)))
    dtype = draw(st.sampled_from(dtypes))
    chunks = tuple(draw(st.integers(1, n + 1)) for n in shape)
    factors = [draw(st.integers(1, 3)) for _ in shape]
    shards = tuple(c * f for c, f in zip(chunks, factors, strict=True))
    block = None
    if draw(st.booleans()):
        # Whole chunks, or the whole axis, which needs not be whole chunks.
        block = tuple(
            n if draw(st.integers(0, 5)) == 0 else c * draw(st.integers(1, 4))
            for n, c in zip(shape, chunks, strict=True)
        )
    seed = draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed + 1)
    how = draw(st.sampled_from(("none", "none", "random", "sparse", "full", "empty")))
    density = {"random": 0.5, "sparse": 0.03, "full": 1.1, "empty": -1.0}.get(how)
    mask_dtype = draw(st.sampled_from(("bool", "uint8", "int16", "float32")))
    mask = None if density is None else (rng.random(shape) < density).astype(mask_dtype) * 3
    kind = draw(st.sampled_from(input_kinds))
    if (kind == "n5" and dtype not in REAL) or (kind == "n5" and len(shape) == 5):
        kind = "numpy"
    return Case(
        shape,
        dtype,
        chunks,
        shards,
        block,
        mask,
        draw(st.integers(1, 4)),
        kind,
        tuple(draw(st.integers(1, n)) for n in shape),
        draw(st.booleans()),
        seed,
        draw(st.booleans()),
    )


@contextmanager
def stored_input(case: Case, array: np.ndarray, folder: Path) -> Iterator[Any]:
    """The array as the input kind has it, made by the library of that format."""
    path = folder / "input"
    match case.input_kind:
        case "numpy":
            yield array
        case "fortran":
            yield np.asfortranarray(array)
        case "view":
            held = np.zeros(tuple(2 * n + 1 for n in array.shape), array.dtype)
            view = held[tuple(slice(2 * n - 1, None, -2) for n in array.shape)]
            view[...] = array
            yield view
        case "big-endian":
            yield array.astype(array.dtype.newbyteorder(">"))
        case "zarr2" | "zarr3" | "sharded":
            version = 2 if case.input_kind == "zarr2" else 3
            shards = tuple(2 * c for c in case.input_chunks) if case.input_kind == "sharded" else None
            stored = zarr.create_array(
                path,
                shape=array.shape,
                dtype=array.dtype,
                chunks=case.input_chunks,
                shards=shards,
                zarr_format=version,
            )
            stored[...] = array
            array[...] = stored[...]  # it does not store a chunk of -0.0
            yield stored if case.seed % 2 else path
        case "npy":
            place = folder / "input.npy"
            np.save(place, np.asfortranarray(array) if case.big_endian else array)
            yield np.load(place, mmap_mode="r") if case.seed % 2 else place
        case "hdf5":
            with h5py.File(folder / "input.h5", "w") as file:
                file.create_dataset(
                    "a", data=array, chunks=case.input_chunks, compression="gzip" if case.big_endian else None
                )
            if case.seed % 2:
                with h5py.File(folder / "input.h5", "r") as file:
                    yield file["a"]
            else:
                yield folder / "input.h5"
        case "n5":
            with z5py.File(str(folder / "input.n5"), "w") as file:
                file.create_dataset(
                    "a", shape=array.shape, dtype=array.dtype, chunks=case.input_chunks, compression="raw"
                )[...] = array
                array[...] = file["a"][...]  # it does not store a chunk of -0.0
            yield folder / "input.n5" / "a"
        case other:
            raise AssertionError(other)


def blocks_of(shape: tuple[int, ...], block_shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """All blocks in C order."""
    grids = [range(0, n, b) for n, b in zip(shape, block_shape, strict=True)]
    return [
        tuple(slice(a, min(a + b, n)) for a, b, n in zip(begin, block_shape, shape, strict=True))
        for begin in itertools.product(*grids)
    ]


def run(case: Case, output: Any, before: np.ndarray, folder: Path) -> np.ndarray:
    """Copy into an output that holds `before`; return what numpy would have made of it."""
    array = voxels(case.shape, case.dtype, case.seed)
    options: dict[str, Any] = {
        "block_shape": case.block_shape,
        "num_workers": case.workers,
        "mask": case.mask,
    }
    with stored_input(case, array, folder) as source:
        selected = np.ones(case.shape, bool)
        if case.some_blocks:
            planned = bp.plan(source, output, **options)
            blocks = blocks_of(case.shape, planned.block_shape)
            assert len(blocks) == planned.n_blocks
            rng = np.random.default_rng(case.seed + 2)
            chosen = rng.permutation(len(blocks))[: rng.integers(0, len(blocks) + 1)].tolist()
            options["block_ids"] = chosen
            options["block_shape"] = planned.block_shape
            selected[...] = False
            for block_id in chosen:
                selected[blocks[block_id]] = True
        if case.mask is not None:
            selected &= case.mask != 0
        assert bp.copy(source, output, **options) is output
    return np.where(selected, array, before)


def check(
    case: Case,
    make: Callable[[Path, np.ndarray], Any],
    read: Callable[[Path, Any], Any],
    close: Callable[[Any], None],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before = voxels(case.shape, case.dtype, case.seed + 3)
        output = make(folder, before)
        before = np.array(read(folder, output))  # some libraries do not store a chunk of -0.0
        try:
            expected = run(case, output, before, folder)
        finally:
            close(output)
        got = read(folder, output)
        assert got.shape == expected.shape
        assert got.dtype.newbyteorder("=") == expected.dtype
        assert bits(got) == bits(expected), f"{np.count_nonzero(got != expected)} voxels differ"


def nothing(_: Any) -> None:
    """Leave it open."""


def with_examples(n: int) -> Any:
    return settings(
        max_examples=n,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@with_examples(120)
@given(cases(), st.sampled_from(["C", "F", "big-endian", "view"]))
def test_into_numpy(case: Case, layout: str) -> None:
    def make(_: Path, before: np.ndarray) -> np.ndarray:
        if layout == "view":
            held = np.zeros(tuple(2 * n for n in before.shape), before.dtype)
            view = held[tuple(slice(None, None, -2) for _ in before.shape)]
            view[...] = before
            return view
        if layout == "big-endian":
            return before.astype(before.dtype.newbyteorder(">"))
        return np.array(before, order=layout)  # type: ignore[call-overload]

    # Without chunks in the output any block shape is allowed.
    check(case, make, lambda _, output: output, nothing)


@with_examples(110)
@given(cases(), st.sampled_from([None, "zlib", "blosc", "gzip"]), st.booleans())
def test_into_zarr_v2(case: Case, codec: str | None, as_handle: bool) -> None:
    import numcodecs

    compressor = {
        None: None,
        "zlib": numcodecs.Zlib(1),
        "blosc": numcodecs.Blosc("lz4", 1),
        "gzip": numcodecs.GZip(1),
    }[codec]

    def make(folder: Path, before: np.ndarray) -> Any:
        order = ">" if case.big_endian else "<"
        array = zarr.create_array(
            folder / "out.zarr",
            shape=before.shape,
            dtype=before.dtype.newbyteorder(order),
            chunks=case.chunks,
            compressors=compressor,
            order="F" if case.seed % 3 == 0 else "C",
            zarr_format=2,
        )
        array[...] = before
        return array if as_handle else bp.open_source(folder / "out.zarr", mode="r+")

    check(case, make, lambda folder, _: zarr.open_array(folder / "out.zarr", mode="r")[...], nothing)


@with_examples(110)
@given(cases(), st.sampled_from(["none", "zstd", "gzip", "blosc"]), st.booleans())
def test_into_zarr_v3(case: Case, codec: str, as_handle: bool) -> None:
    into_v3(case, None, codec, as_handle)


@with_examples(120)
@given(cases(), st.sampled_from(["none", "zstd", "blosc"]), st.booleans())
def test_into_shards(case: Case, codec: str, as_handle: bool) -> None:
    into_v3(case, case.shards, codec, as_handle)


def into_v3(case: Case, shards: tuple[int, ...] | None, codec: str, as_handle: bool) -> None:
    from zarr.codecs import BloscCodec, BytesCodec, GzipCodec, ZstdCodec

    compressor = {
        "none": None,
        "zstd": ZstdCodec(level=1),
        "gzip": GzipCodec(level=1),
        "blosc": BloscCodec(clevel=1),
    }[codec]

    def make(folder: Path, before: np.ndarray) -> Any:
        array = zarr.create_array(
            folder / "out.zarr",
            shape=before.shape,
            dtype=before.dtype,
            chunks=case.chunks,
            shards=shards,
            compressors=compressor,
            serializer=BytesCodec(endian="big" if case.big_endian else "little"),
            zarr_format=3,
        )
        array[...] = before
        return array if as_handle else bp.open_source(folder / "out.zarr", mode="r+")

    check(case, make, lambda folder, _: zarr.open_array(folder / "out.zarr", mode="r")[...], nothing)


@with_examples(60)
@given(cases(dtypes=REAL), st.sampled_from(["none", "gzip", "bz2"]))
def test_into_n5(case: Case, codec: str) -> None:
    def make(folder: Path, before: np.ndarray) -> Any:
        output = bp.create_output(
            folder / "out.n5" / "a", shape=before.shape, dtype=before.dtype, chunks=case.chunks, codec=codec
        )
        with z5py.File(str(folder / "out.n5"), "r+") as file:
            file["a"][...] = before
        return output

    def read(folder: Path, _: Any) -> np.ndarray:
        with z5py.File(str(folder / "out.n5"), "r") as file:
            return np.asarray(file["a"][...])

    check(case, make, read, lambda output: output.close())


@with_examples(80)
@given(cases(), st.sampled_from(["none", "gzip", "lzf", "shuffle"]), st.booleans())
def test_into_hdf5(case: Case, codec: str, as_handle: bool) -> None:
    filters: dict[str, Any] = {
        "none": {},
        "gzip": {"compression": "gzip"},
        "lzf": {"compression": "lzf"},
        "shuffle": {"compression": "gzip", "shuffle": True},
    }[codec]

    def make(folder: Path, before: np.ndarray) -> Any:
        file = h5py.File(folder / "out.h5", "w")
        chunks = tuple(map(min, case.chunks, before.shape))
        order = ">" if case.big_endian and before.dtype.kind != "b" else "<"
        dataset = file.create_dataset(
            "a", data=before.astype(before.dtype.newbyteorder(order)), chunks=chunks, **filters
        )
        if as_handle:
            return dataset
        file.close()
        return bp.open_source(folder / "out.h5", mode="r+")

    def close(output: Any) -> None:
        (output.file if as_handle else output).close()

    def read(folder: Path, _: Any) -> np.ndarray:
        with h5py.File(folder / "out.h5", "r") as file:
            return np.asarray(file["a"][...])

    check(case, make, read, close)


@with_examples(40)
@given(cases())
def test_into_npy(case: Case) -> None:
    def make(folder: Path, before: np.ndarray) -> Any:
        if case.seed % 2:
            np.save(folder / "out.npy", np.asfortranarray(before) if case.big_endian else before)
            return bp.open_source(folder / "out.npy", mode="r+")
        output = bp.create_output(folder / "out.npy", shape=before.shape, dtype=before.dtype)
        output[...] = before
        return output

    check(case, make, lambda folder, _: np.load(folder / "out.npy"), lambda output: output.close())


@with_examples(60)
@given(cases(), st.sampled_from([2, 3]), st.booleans())
def test_into_a_new_path(case: Case, zarr_format: int, sharded: bool) -> None:
    """A new array holds zeros where nothing was copied."""
    array = voxels(case.shape, case.dtype, case.seed)
    shards = case.shards if sharded and zarr_format == 3 else None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with stored_input(case, array, folder) as source:
            out = bp.copy(
                source,
                folder / "out.zarr",
                block_shape=case.block_shape,
                mask=case.mask,
                num_workers=case.workers,
                chunks=case.chunks,
                shards=shards,
                zarr_format=zarr_format,
            )
        out.close()
        stored = zarr.open_array(folder / "out.zarr", mode="r")
        assert (stored.chunks, stored.shards, stored.metadata.zarr_format) == (
            case.chunks,
            shards,
            zarr_format,
        )
        zero = np.zeros((), array.dtype)
        expected = array if case.mask is None else np.where(case.mask != 0, array, zero)
        assert bits(stored[...]) == bits(expected)


@pytest.mark.filterwarnings("ignore:.*cannot hold all their values:bioimage_py.errors.BioimagePyWarning")
@with_examples(80)
@given(cases(dtypes=REAL), st.sampled_from(EVERY), st.booleans())
def test_casts_as_numpy_assignment_does(case: Case, target: str, stored: bool) -> None:
    array = voxels(case.shape, case.dtype, case.seed)
    if array.dtype.kind == "f" and np.dtype(target).kind in "iu":
        # What C makes of a float out of range is not defined, and differs between numpy's own loops.
        array = (np.nan_to_num(array, posinf=1, neginf=1) * 30 % 100).astype(case.dtype)
    expected = voxels(case.shape, target, case.seed + 3)
    with tempfile.TemporaryDirectory() as name:
        output: Any = np.array(expected)
        if stored:
            output = zarr.create_array(
                Path(name) / "o.zarr", shape=case.shape, dtype=target, chunks=case.chunks
            )
            output[...] = expected
        with np.errstate(all="ignore"):
            expected[...] = np.where(
                True if case.mask is None else case.mask != 0, array.astype(target), expected
            )
        bp.copy(array, output, block_shape=case.block_shape, mask=case.mask, num_workers=case.workers)
        assert bits(output[...]) == bits(expected)
