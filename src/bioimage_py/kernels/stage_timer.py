"""What a kernel did and how long each stage of it took, counted by each thread for itself."""

from __future__ import annotations

import math
import threading
from dataclasses import asdict, dataclass, fields
from time import perf_counter
from typing import Any

from bioimage_py.chunks import AnyArray
from bioimage_py.geometry import Box
from bioimage_py.sources import READ, Source

STAGES = ("reading", "computing", "writing", "moving_in", "moving_out")
"""What a thread spends its time with, in the order in which a voxel meets it."""


@dataclass(slots=True)
class Tally:
    """What was done so far, and the seconds that threads spent in each stage.

    Attributes
    ----------
    bytes_in, bytes_out
        Bytes of voxels taken from the input and put into the output, decoded; of chunks that were moved, what they decode to.
    encoded_in, encoded_out
        Bytes of the chunks that were moved, as they are stored on either side, whichever way they went.
    chunks_moved, chunks_recoded
        Chunks of the output that were moved as they are, and that were encoded.
    chunks_by_store
        Those moved that an object store copied by itself: their bytes did not come through this machine.
    reading
        Seconds in which voxels, also those of a mask, were fetched and decoded.
    computing
        Seconds of wrappers, casts and masks.
    writing
        Seconds in which voxels were encoded and stored.
    moving_in
        Seconds in which encoded chunks were looked up, read and checked.
    moving_out
        Seconds in which they were stored; where the system, or an object store, copies by itself, that they were looked up
        and read is in here too.
    """

    bytes_in: int = 0
    bytes_out: int = 0
    encoded_in: int = 0
    encoded_out: int = 0
    chunks_moved: int = 0
    chunks_recoded: int = 0
    chunks_by_store: int = 0
    reading: float = 0.0
    computing: float = 0.0
    writing: float = 0.0
    moving_in: float = 0.0
    moving_out: float = 0.0

    @property
    def busy(self) -> float:
        """Seconds of all stages together."""
        return self.reading + self.computing + self.writing + self.moving_in + self.moving_out

    def __add__(self, other: Tally) -> Tally:
        both: dict[str, Any] = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Tally)}
        return Tally(**both)

    def rest(self, stage: str) -> Rest:
        """Return a `with` block whose time belongs to a stage, but for what is counted inside of it."""
        return Rest(self, stage)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Tally:
        """Return what `to_json` gave; raises LookupError, TypeError or ValueError for anything else."""
        found: dict[str, Any] = {
            f.name: (int if f.type == "int" else float)(stored[f.name]) for f in fields(cls)
        }
        return cls(**found)


class Rest:
    """A span of time that belongs to one stage, but for what other stages count inside of it."""

    __slots__ = ("_before", "_began", "_stage", "_tally")

    def __init__(self, tally: Tally, stage: str) -> None:
        self._tally, self._stage = tally, stage

    def __enter__(self) -> None:
        self._before = self._tally.busy
        self._began = perf_counter()

    def __exit__(self, *_: object) -> None:
        tally, stage = self._tally, self._stage
        rest = perf_counter() - self._began - (tally.busy - self._before)
        setattr(tally, stage, getattr(tally, stage) + max(0.0, rest))


class Meter:
    """A tally for each thread that asks, so that none waits for another at a lock."""

    def __init__(self) -> None:
        self._own = threading.local()
        self._all: list[Tally] = []

    @property
    def mine(self) -> Tally:
        """The tally of the calling thread."""
        try:
            return self._own.tally  # type: ignore[no-any-return]
        except AttributeError:
            self._own.tally = tally = Tally()
            self._all.append(tally)
            return tally

    def read(self, source: Source, box: Box, buffer: AnyArray | None = None) -> AnyArray:
        """Return the voxels of a source in a box; the time that its stores take counts as reading."""
        seconds = READ.seconds
        values = source.read(box) if buffer is None else source.read(box, buffer)
        self.mine.reading += READ.seconds - seconds
        return values

    def read_in(self, source: Source, box: Box, buffer: AnyArray | None = None) -> AnyArray:
        """Do the same for an input, whose bytes count too: those that are read of stores, also for a wrapper above them."""
        n_bytes = READ.n_bytes
        values = self.read(source, box, buffer)
        self.mine.bytes_in += READ.n_bytes - n_bytes
        return values

    def write(self, output: Source, box: Box, values: AnyArray) -> int:
        """Write voxels of a box; return their bytes."""
        began = perf_counter()
        output.write(box, values)
        self.mine.writing += perf_counter() - began
        return self.wrote(output, box)

    def wrote(self, output: Source, box: Box) -> int:
        """Count a box as written, but not its time; return its bytes."""
        mine = self.mine
        n_bytes = box.size * output.dtype.itemsize
        mine.bytes_out += n_bytes
        if output.chunks is not None:
            sides = zip(box.begin, box.end, output.chunks, strict=True)
            mine.chunks_recoded += math.prod(-(-end // chunk) - begin // chunk for begin, end, chunk in sides)
        return n_bytes

    def total(self) -> Tally:
        """Return the sum over all threads; of those at work, what they have counted so far."""
        return sum(list(self._all), Tally())
