"""What a user could do to make a copy better."""

from __future__ import annotations

import math
from dataclasses import replace

from bioimage_py.chunks import ChunkEncoding, EncodingMatch, UnknownEncoding, compare_encodings
from bioimage_py.planning.layout import ArrayLayout
from bioimage_py.sources import Codec

MANY_FILES = 100_000


def copy_hints(output_layout: ArrayLayout, amplification: float, limit: int | None) -> tuple[str, ...]:
    """Return what would make a copy better, in sentences."""
    hints = []
    if (
        output_layout.n_files > MANY_FILES
        and output_layout.shards is None
        and output_layout.chunks is not None
    ):
        shards = _suggested_shards(output_layout)
        files = math.prod(-(-n // s) for n, s in zip(output_layout.shape, shards, strict=True))
        hints.append(
            f"{output_layout.n_files:,} files are many for most file systems; Zarr v3 with "
            f"shards={shards} would make {files:,}"
        )
    if amplification > 1.5:
        raise_it = "a larger memory_limit or " if limit is not None else ""
        hints.append(
            f"each input chunk is decoded {amplification:.2g} times; {raise_it}a larger block_shape would help"
        )
    return tuple(hints)


def _suggested_shards(layout: ArrayLayout) -> tuple[int, ...]:
    """Return shards of about 128 MiB: the chunks, doubled on the axis that is shortest in voxels and not yet whole."""
    chunks = layout.chunks or layout.shape
    shards = list(chunks)
    while math.prod(shards) * layout.itemsize < 2**27:
        growable = [d for d, n in enumerate(layout.shape) if shards[d] < n]
        if not growable:
            break
        d = min(growable, key=lambda d: shards[d])
        shards[d] *= 2
    return tuple(shards)


def choose_road(
    input: ChunkEncoding | UnknownEncoding,
    output: ChunkEncoding | UnknownEncoding,
    offset: tuple[int, ...] | None,
    *,
    codec: Codec | None,
    is_new: bool,
) -> EncodingMatch:
    """Return how the chunks of two arrays match; `"recode"` also where they would keep a setting that is not the one asked for.

    `codec` is what the user asked for. An output that is not new has the settings that its owner chose.
    """
    match = compare_encodings(input, output, offset)
    if match.road == "recode" or not match.settings:
        return match
    wanted = match.settings
    if is_new:
        # Settings that nobody named are those of the input: they are what moving it is about.
        named = set() if codec is None else {*codec.options, *(["level"] if codec.level is not None else [])}
        wanted = tuple(setting for setting in match.settings if setting.split()[1] in named)
    if not wanted:
        return match
    return replace(
        match, kind="different", road="recode", whole_files=False, why=tuple(f"codec {s}" for s in wanted)
    )
