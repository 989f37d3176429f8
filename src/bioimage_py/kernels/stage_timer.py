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
    """What was done so far, and the seconds that threads spent in each stage."""

    # Decoded bytes read and written; of chunks that were moved, what they decode to.
    bytes_in: int = 0
    bytes_out: int = 0
    # Bytes of the chunks that were moved, as they are stored on either side.
    encoded_in: int = 0
    encoded_out: int = 0
    chunks_moved: int = 0
    chunks_recoded: int = 0
    chunks_by_store: int = 0  # of those moved: copied by an object store itself
    reading: float = 0.0  # seconds: voxels, also of a mask, are fetched and decoded
    computing: float = 0.0  # wrappers, casts and masks
    writing: float = 0.0  # voxels are encoded and stored
    moving_in: float = 0.0  # encoded chunks are looked up, read and checked
    moving_out: float = 0.0  # they are stored; where the system or a store copies by itself, read too

    @property
    def busy(self) -> float:
        return self.reading + self.computing + self.writing + self.moving_in + self.moving_out

    def __add__(self, other: Tally) -> Tally:
        both: dict[str, Any] = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Tally)}
        return Tally(**both)

    def rest(self, stage: str) -> Rest:
        """Return a `with` block whose time belongs to a stage, but for what is counted inside of it."""
        return Rest(self, stage)

    def to_json(self) -> dict[str, Any]:
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
        try:
            return self._own.tally  # type: ignore[no-any-return]
        except AttributeError:
            self._own.tally = tally = Tally()
            self._all.append(tally)
            return tally

    def read(self, source: Source, box: Box, buffer: AnyArray | None = None) -> AnyArray:
        """Read a box; the time that its stores take counts as reading."""
        seconds = READ.seconds
        values = source.read(box) if buffer is None else source.read(box, buffer)
        self.mine.reading += READ.seconds - seconds
        return values

    def read_in(self, source: Source, box: Box, buffer: AnyArray | None = None) -> AnyArray:
        """Read a box of an input, whose bytes count too, also where a wrapper reads them of stores."""
        n_bytes = READ.n_bytes
        values = self.read(source, box, buffer)
        self.mine.bytes_in += READ.n_bytes - n_bytes
        return values

    def write(self, output: Source, box: Box, values: AnyArray) -> int:
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
        """Return the sum over all threads, those at work included."""
        return sum(list(self._all), Tally())
