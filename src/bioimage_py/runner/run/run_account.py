"""What a run did and what it spent its time with, all its workers and attempts together."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bioimage_py.kernels import STAGES, Tally
from bioimage_py.planning import format_bytes
from bioimage_py.text import Rows, rate

if TYPE_CHECKING:
    from bioimage_py.runner.work import Work

_log = logging.getLogger(__name__)

_WORDS = {"moving_in": "reading chunks", "moving_out": "storing chunks"}
_IDLE = "idle"
_LEAST_SHOWN = 0.005


@dataclass(frozen=True)
class RunAccount(Rows):
    """What a run did and what it spent its time with.

    Times of stages are summed over workers: two threads that read for a second each read for two. They tell what a worker waited
    for, whichever thread of a library did it.

    Attributes
    ----------
    seconds
        By the clock, while at least one worker ran; neither queues nor the time between two attempts count.
    worker_seconds
        Seconds that all workers were there, summed.
    bytes_in, bytes_out
        Bytes of voxels taken from the input and put into the output, decoded.
    encoded_in, encoded_out
        The same as they are stored; None where that is not known, or would take a walk over many files.
    chunks_moved, chunks_recoded
        Chunks of the output that were moved as they are, and that were encoded.
    chunks_by_store
        Those moved that an object store copied by itself: their bytes count above, but did not come through this machine.
    stages
        Seconds of `"reading"` (voxels fetched and decoded), `"computing"` (wrappers, casts, masks), `"writing"` (encoded and
        stored), `"moving_in"` (encoded chunks looked up, read and checked) and `"moving_out"` (they are stored; where the
        system, or an object store, copies by itself, it reads them here).
    blocks_before, blocks
        Where a run was continued, how many of its blocks were done before, and how many it has.
    """

    seconds: float = 0.0
    worker_seconds: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    encoded_in: int | None = None
    encoded_out: int | None = None
    chunks_moved: int = 0
    chunks_recoded: int = 0
    stages: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    chunks_by_store: int = 0
    blocks_before: int = 0
    blocks: int = 0

    @property
    def bytes_per_second(self) -> float | None:
        """Bytes of voxels put into the output per second by the clock."""
        return self.bytes_out / self.seconds if self.seconds > 0 else None

    @property
    def shares(self) -> dict[str, float]:
        """Part of the workers' time that each stage took, and that they were `"idle"`: they had no block, or waited for records."""
        busy = sum(self.stages.values())
        whole = max(self.worker_seconds, busy)
        if whole <= 0:
            return {}
        return {
            **{name: seconds / whole for name, seconds in self.stages.items()},
            _IDLE: (whole - busy) / whole,
        }

    @property
    def limit(self) -> str | None:
        """The stage, or `"idle"`, that took the largest part of the workers' time; None if nothing was done."""
        shares = self.shares
        return max(shares, key=shares.__getitem__) if shares else None

    def to_json(self) -> dict[str, Any]:
        rate = self.bytes_per_second
        return {
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "encoded_bytes_in": self.encoded_in,
            "encoded_bytes_out": self.encoded_out,
            "chunks_moved": self.chunks_moved,
            "chunks_recoded": self.chunks_recoded,
            "chunks_by_store": self.chunks_by_store,
            "seconds": self.seconds,
            "gb_per_second": None if rate is None else rate / 1e9,
            "worker_seconds": self.worker_seconds,
            "stages": dict(self.stages),
            "shares": self.shares,
            "limit": self.limit,
            "blocks_before": self.blocks_before,
        }

    def _rows(self) -> Iterator[tuple[str, str]]:
        if self.blocks_before:
            yield "continued", f"{self.blocks_before:,} of {self.blocks:,} blocks were done"
        by_store = f" ({self.chunks_by_store:,} by the store itself)" if self.chunks_by_store else ""
        moved = f"{self.chunks_moved:,} chunk{'' if self.chunks_moved == 1 else 's'} moved{by_store}"
        yield "chunks", f"{moved}, {self.chunks_recoded:,} recoded"
        yield "in", _sizes(self.bytes_in, self.encoded_in)
        yield "out", _sizes(self.bytes_out, self.encoded_out)
        if self.seconds > 0:
            yield "speed", rate(self.bytes_out, self.seconds)
        limit = self.limit
        if limit is not None:
            shares = self.shares.items()
            parts = [f"{_WORDS.get(n, n)} {100 * part:.0f} %" for n, part in shares if part >= _LEAST_SHOWN]
            most = (
                "most of it without work" if limit == _IDLE else f"the limit was {_WORDS.get(limit, limit)}"
            )
            yield "time of workers", f"{', '.join(parts)}; {most}"

    def __str__(self) -> str:
        rows = dict(self._rows())
        did = [
            *([f"continued: {rows['continued']}"] if "continued" in rows else []),
            rows["chunks"],
            f"{rows['in']} in",
            f"{rows['out']} out",
            *([rows["speed"]] if "speed" in rows else []),
        ]
        spent = rows.get("time of workers")
        return ", ".join(did) + (f"\ntime of workers: {spent}" if spent else "")


def log_account(account: RunAccount | None) -> None:
    if account is not None:
        _log.info("%s", str(account).replace("\n", "; "))


def _sizes(decoded: int, encoded: int | None) -> str:
    return format_bytes(decoded) + ("" if encoded is None else f" ({format_bytes(encoded)} encoded)")


def account_of_run(work: Work, seconds: float, n_threads: int) -> RunAccount | None:
    """Return the account of work that was done by threads of this process; None for work that does not count."""
    tally = work.tally()
    return None if tally is None else _account(work, tally, seconds, seconds * n_threads)


def account_of_attempts(work: Work | None, states: Iterable[Mapping[str, Any]]) -> RunAccount | None:
    """Return the account of work that attempts have done, from what they said of themselves last, as `AttemptJournal` writes it.

    One that was killed has said what it did until its last second. Without the work, encoded sizes are not known.
    """
    total, worker_seconds = Tally(), 0.0
    spans: list[tuple[float, float]] = []
    for state in states:
        try:
            tally = Tally.from_json(state["tally"])
            began, seen, threads = float(state["began"]), float(state["seen"]), int(state["threads"])
        except (LookupError, TypeError, ValueError):
            continue  # of a function of the user, of an earlier version, or torn
        total += tally
        worker_seconds += max(0.0, seen - began) * threads
        spans.append((began, max(began, seen)))
    return _account(work, total, _covered(spans), worker_seconds) if spans else None


def _covered(spans: list[tuple[float, float]]) -> float:
    """Return how many seconds are in at least one of the spans."""
    seconds, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        seconds += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return seconds


def _account(work: Work | None, tally: Tally, seconds: float, worker_seconds: float) -> RunAccount:
    return RunAccount(
        seconds,
        worker_seconds,
        tally.bytes_in,
        tally.bytes_out,
        *((None, None) if work is None else work.encoded_sizes(tally)),
        tally.chunks_moved,
        tally.chunks_recoded,
        {name: getattr(tally, name) for name in STAGES},
        tally.chunks_by_store,
    )
