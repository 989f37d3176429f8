"""What follows from measured rates: how fast a copy can be, what limits it, and what would help."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bioimage_py.operations.bench_stages import StageRate
from bioimage_py.planning import CopyPlan, format_bytes

_MOVING = ("read", "write")
_GROWS = 1.3
"""Gain with all workers over one from which on more workers are worth a try."""
_SMALL_FILE = 2**17


def bottleneck(rates: Iterable[StageRate], road: str) -> str:
    """Return the slowest stage, with all workers, of those that a road needs."""
    return min(_needed(rates, road), key=lambda rate: rate.bytes_per_second).stage


def copy_rate(rates: Iterable[StageRate], road: str) -> float:
    """Return the bytes of voxels per second of workers that go through all stages of a road one after the other."""
    return 1 / sum(1 / rate.bytes_per_second for rate in _needed(rates, road))


def hints_for(rates: tuple[StageRate, ...], plan: CopyPlan, codec: str) -> tuple[str, ...]:
    """Return what would make a copy faster that is planned so and encodes with that codec."""
    return tuple(_hints(rates, plan, codec))


def _needed(rates: Iterable[StageRate], road: str) -> list[StageRate]:
    found = list(rates)
    most = max(rate.workers for rate in found)
    last = [rate for rate in found if rate.workers == most]
    if road == "recode":
        return last
    # Where neither could be measured nothing is stored but background.
    return [rate for rate in last if rate.stage in _MOVING] or last


def _hints(rates: tuple[StageRate, ...], plan: CopyPlan, codec: str) -> Iterator[str]:
    stage = bottleneck(rates, plan.road)
    rows = sorted((rate for rate in rates if rate.stage == stage), key=lambda rate: rate.workers)
    first, last = rows[0], rows[-1]
    gain = last.bytes_per_second / first.bytes_per_second
    grows = last.workers > first.workers and gain >= _GROWS
    if grows:
        yield f"{last.workers} workers {stage} {gain:.1f} times as fast as one: with more cores, or nodes, more of them help"
    elif last.workers > first.workers:
        yield f"{last.workers} workers {stage} hardly faster than one: more of them do not help"
    if stage == "encode":
        yield f"a lighter codec than {codec or 'that'} encodes faster, such as zstd:1 or blosc with lz4"
    if stage in ("encode", "decode"):
        yield plan.reason
        return
    per_chunk = _per_chunk(plan, last)
    if per_chunk is not None and per_chunk < _SMALL_FILE and plan.output.shards is None:
        yield f"a chunk takes {format_bytes(per_chunk)} stored: larger chunks, or shards, make fewer and larger files"
    elif not grows:
        place = "read from" if stage == "read" else "written to"
        yield f"the place that is {place} is the limit: a faster one, or a codec that makes fewer bytes, helps"


def _per_chunk(plan: CopyPlan, rate: StageRate) -> float | None:
    """Return the stored bytes of a chunk of the output, as the measured ones are compressed; None if that is not known."""
    chunks = plan.output.chunks
    if rate.stored_bytes is None or chunks is None or not rate.voxel_bytes:
        return None
    n_bytes = plan.output.dtype.itemsize
    for extent in chunks:
        n_bytes *= extent
    return n_bytes * rate.stored_bytes / rate.voxel_bytes
