"""New arrays that encode their chunks as another one does, so that a copy can move them without decoding."""

from __future__ import annotations

from dataclasses import replace

from bioimage_py.sources.array_spec import ArraySpec, Codec
from bioimage_py.sources.encoding import ChunkEncoding, UnknownEncoding, planned_encoding
from bioimage_py.sources.encoding_match import compare_encodings
from bioimage_py.sources.kept_codec import kept_codec

__all__ = ["keeping"]


def keeping(
    encoding: ChunkEncoding | UnknownEncoding | None, kind: str, spec: ArraySpec, *, grid: bool, codec: bool
) -> ArraySpec:
    """Return what a new array shall look like to hold chunks of that encoding; unchanged where its family cannot.

    Parameters
    ----------
    encoding
        How the chunks are encoded that will be copied into it.
    kind
        Storage family of the new array.
    spec
        What it shall look like so far.
    grid, codec
        Whether the user left the chunks, and the codec, to us.
    """
    if not isinstance(encoding, ChunkEncoding):
        return spec
    if kind == "hdf5" and codec and ("fletcher32",) in encoding.codecs:
        return replace(spec, codec=Codec("gzip", options={"fletcher32": True}))
    if encoding.dtype != spec.dtype.name:
        return spec
    wanted = spec
    if grid and (spec.shards is None or _divides(encoding.chunks, spec.shards)):
        wanted = replace(wanted, chunks=encoding.chunks)
    if codec:
        kept = kept_codec(encoding, kind, spec.zarr_format)
        # HDF5 files are uncompressed more often by habit than by choice.
        if kept is None or (kept.name == "none" and encoding.format == "hdf5"):
            return spec
        wanted = replace(wanted, codec=kept)
    if kind == "zarr" and encoding.byte_order:
        wanted = replace(wanted, byte_order=encoding.byte_order)
    made = planned_encoding(kind, wanted)
    # A region of the array has another shape, and begins where the planner looks whether that fits.
    shape = made.shape if isinstance(made, ChunkEncoding) else encoding.shape
    match = compare_encodings(replace(encoding, shape=shape), made)
    return spec if match.road == "recode" else wanted


def _divides(chunks: tuple[int, ...], shards: tuple[int, ...]) -> bool:
    return all(s % c == 0 for c, s in zip(chunks, shards, strict=True))
