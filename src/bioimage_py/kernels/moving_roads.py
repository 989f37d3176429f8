"""Which kernel goes which road."""

from __future__ import annotations

from dataclasses import replace

from bioimage_py.chunks import StoredChunks
from bioimage_py.kernels.copy_blocks import CopyKernel
from bioimage_py.kernels.copy_objects import CopyObjectsKernel, store_copies
from bioimage_py.kernels.move_chunks import MoveKernel
from bioimage_py.kernels.moving import BothSides, MoveOptions, MovingKernel
from bioimage_py.kernels.pack_shards import PackKernel
from bioimage_py.kernels.stored_parts import moving_origin


def kernel_for_road(
    fallback: CopyKernel, road: str, *, verify_encoded: bool, output_is_new: bool
) -> CopyKernel | MovingKernel:
    """Return the kernel of a copy that goes a road: the one given for `"recode"`, else one that moves encoded chunks."""
    origin = None if road == "recode" else moving_origin(fallback.input)
    if origin is None:
        return replace(fallback, output_is_new=output_is_new)
    stored = None if origin.offset is None else origin.source
    return moving_kernel(fallback, MoveOptions(verify_encoded, output_is_new, stored, origin.offset))


def moving_kernel(fallback: CopyKernel, options: MoveOptions | None = None) -> MovingKernel:
    """Return the kernel that moves encoded chunks; UnsupportedFormatError says why they cannot be moved."""
    options = options or MoveOptions()
    sides = BothSides.of(fallback, options)
    if store_copies(fallback, options, sides):
        return CopyObjectsKernel(fallback, options, sides)
    # A source does not say that it has shards of one chunk each, but they are stored as shards.
    packs = isinstance(sides.made, StoredChunks) and sides.made.encoding.shards is not None
    return (PackKernel if packs else MoveKernel)(fallback, options, sides)
