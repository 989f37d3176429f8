"""How many encoded bytes a run has read and written, as far as that can be told without a walk over many files."""

from __future__ import annotations

from typing import Any

from bioimage_py.kernels import Tally
from bioimage_py.planning import ArrayLayout
from bioimage_py.runner.work.copying import CopyWork
from bioimage_py.sources import Source

_MOST_FILES = 2000
"""Files that are asked for their size at the end of a run; on a network disk each takes a millisecond."""


def encoded_sizes(work: Any, tally: Tally) -> tuple[int | None, int | None]:
    """Return the encoded bytes that a run has read, and written; None for what is not known.

    Those of chunks that were moved are counted. An array that was read, or written, once and as a whole tells its own size.
    """
    if tally.chunks_moved and not tally.chunks_recoded:
        return tally.encoded_in, tally.encoded_out
    if not isinstance(work, CopyWork):
        return None, None
    source, output = work.kernel.input, work.kernel.output
    once = tally.bytes_in == source.nbytes and _keeps_chunks_whole(source, work.blocking.block_shape)
    return (
        _stored(source) if once else None,
        # What takes one writer only may keep back what it has written until it is closed.
        _stored(output) if tally.bytes_out == output.nbytes and output.concurrent_writes else None,
    )


def _keeps_chunks_whole(source: Source, block_shape: tuple[int, ...]) -> bool:
    """Whether no chunk lies in two blocks, and would be decoded for each of them."""
    if source.chunks is None:
        return True
    sides = zip(block_shape, source.chunks, source.shape, strict=True)
    return all(b % c == 0 or b >= n for b, c, n in sides)


def _stored(source: Source) -> int | None:
    if ArrayLayout.of(source).n_files > _MOST_FILES:
        return None
    try:
        found = source.stored_size()
    except OSError:
        return None  # what cannot be asked for is not known; a store that fails is reported by the run
    return None if found is None else found.n_bytes
