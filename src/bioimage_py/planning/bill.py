"""What a run asks of its stores: files and operations on their names, or objects, requests and what these cost. From integers alone.

All numbers are the most there can be: blocks that are empty, or that a mask leaves out, cost less.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from bioimage_py.planning.block_shape import pieces
from bioimage_py.planning.byte_size import Reported
from bioimage_py.planning.layout import ArrayLayout, n_cells
from bioimage_py.text import duration

OPERATIONS_PER_SECOND = 1000
"""What a network file system answers to one client, or a busy server to all: opens, looks, renames, closes."""

PRICE_OF_PUT, PRICE_OF_GET = 0.005, 0.0004
"""Dollars for 1,000 requests: list prices of Amazon S3 Standard in us-east-1, November 2026. A copy by the store counts as a PUT."""

# Operations on names and metadata for each file, as strace counts them on all roads.
_TO_READ = 3  # open, look, close
_TO_WRITE = 6  # by TensorStore: open and close its folder; create, look, rename, close
_TO_MOVE = 3  # by our own steps: create, close, rename
_TO_MAKE_FOLDER = 5

_WORTH_TELLING = 10_000
"""Operations, or requests, from which on plans print them: ten seconds, or five cents."""

MANY_FILES = 100_000
"""From here on plans propose shards."""

_MOST_FILES = 1_000_000
_SHARD_BYTES, _LARGEST_SHARD_BYTES = 2**27, 2**30


@dataclass(frozen=True)
class Bill(Reported):
    """Files and requests of a run, at most; several add up."""

    _told = (
        "files", "folders", "metadata_files", "inodes", "metadata_operations", "operations_per_second", "hours", "put_requests",
        "get_requests", "dollars",
    )  # fmt: skip

    files: int = 0  # of the output, or objects: chunks or shards
    folders: int = 0
    # How many of each name; groups around arrays have more.
    metadata_files: Counter[str] = field(default_factory=Counter)
    # On a disk: opens, creates, looks, renames, closes, of reading and of writing.
    metadata_operations: int = 0
    put_requests: int = 0  # to object stores
    get_requests: int = 0
    dollars: float = 0.0  # for the requests to S3

    operations_per_second = OPERATIONS_PER_SECOND

    def __add__(self, other: Bill) -> Bill:
        return Bill(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    def part(self, n: int, total: int) -> Bill:
        """Return what n of so many blocks cost."""
        if n == total:
            return self

        def some(amount: int) -> int:
            return -(-amount * n // total)

        return Bill(
            some(self.files),
            min(self.folders, some(self.folders)),
            self.metadata_files,
            some(self.metadata_operations),
            some(self.put_requests),
            some(self.get_requests),
            self.dollars * n / total,
        )

    @property
    def inodes(self) -> int:
        """What the output takes of a file system, however large its files are; 0 in an object store."""
        return self.files + self.folders + sum(self.metadata_files.values()) if self.folders else 0

    @property
    def hours(self) -> float:
        """How long the operations take one after the other."""
        return self.metadata_operations / OPERATIONS_PER_SECOND / 3600

    def __str__(self) -> str:
        """Return what there is to tell; nothing where the numbers are small."""
        said = []
        if self.metadata_operations >= _WORTH_TELLING:
            names = f", {', '.join(self.metadata_files)} among them" if self.metadata_files else ""
            said += [f"at most {self.inodes:,} inodes{names}"] if self.inodes else []
            said.append(
                f"about {self.metadata_operations:,} operations on names and metadata of files, "
                f"{duration(3600 * self.hours)} at {OPERATIONS_PER_SECOND:,} per second"
            )
        requests = {"PUT": self.put_requests, "GET": self.get_requests}
        if sum(requests.values()) >= _WORTH_TELLING:
            prices = {"PUT": PRICE_OF_PUT, "GET": PRICE_OF_GET}
            asked = {name: n for name, n in requests.items() if n}
            text = f"at most {' and '.join(f'{n:,} {name}' for name, n in asked.items())} requests"
            if self.dollars:
                each = ", ".join(f"${prices[name]} per 1,000 {name}" for name in asked)
                text += f": about ${self.dollars:,.{0 if self.dollars >= 10 else 2}f} at {each}, as Amazon lists them"
            said.append(text)
        return "; ".join(said)


def reading(layout: ArrayLayout, block: Sequence[int], *, moved: bool = False) -> Bill:
    """Return what reading an array in blocks costs; chunks that are moved are read with the shard that they are in."""
    if layout.chunks is None or not layout.is_stored:
        return Bill()
    n = _pieces(layout, block, layout.write_unit)
    if layout.store == "disk":
        return Bill(metadata_operations=0 if layout.one_file else n * _TO_READ)
    if layout.shards is not None and not moved:
        n += _pieces(layout, block, layout.chunks)  # and those above are for the tables of shards
    return _requests(layout.store, gets=n)


def writing(layout: ArrayLayout, *, moved: bool = False, removed: bool = False) -> Bill:
    """Return what writing an array costs; `removed` if it is a temporary one, which is not a part of the output."""
    if not layout.is_stored:
        return Bill()
    files, beside = layout.n_files, Counter(layout.metadata_files)
    if layout.store != "disk":
        cost, folders = _requests(layout.store, puts=files + beside.total()), 0
    elif layout.one_file or layout.chunks is None:
        cost, folders = Bill(), 0
    else:
        each = (_TO_MOVE if moved else _TO_WRITE) + removed
        folders = _n_folders(layout)
        cost = Bill(metadata_operations=each * files + _TO_MAKE_FOLDER * folders)
    return cost if removed else cost + Bill(files, folders, beside)


def _requests(store: str, *, puts: int = 0, gets: int = 0) -> Bill:
    dollars = (puts * PRICE_OF_PUT + gets * PRICE_OF_GET) / 1000 if store == "s3" else 0.0
    return Bill(put_requests=puts, get_requests=gets, dollars=dollars)


def _pieces(layout: ArrayLayout, block: Sequence[int], unit: Sequence[int]) -> int:
    return math.prod(pieces(n, b, u) for n, b, u in zip(layout.shape, block, unit, strict=True))


def _n_folders(layout: ArrayLayout) -> int:
    """Return how many folders the files of a grid are in at most: one for each beginning of a position."""
    grid = [-(-n // u) for n, u in zip(layout.shape, layout.write_unit, strict=True)]
    named = grid[:0:-1] if layout.fastest_first else grid[:-1]
    below: int = sum(itertools.accumulate(named, operator.mul))
    return 2 + below  # that of the array, and one that all positions share


def proposed_shards(layout: ArrayLayout) -> tuple[int, ...]:
    """Return shards of about 128 MiB, or larger ones up to 1 GiB where there would still be a million.

    They are the chunks, doubled on the axis that is shortest in voxels and not yet whole.
    """
    shards = list(layout.chunks or layout.shape)
    while True:
        n_bytes = math.prod(shards) * layout.itemsize
        growable = [d for d, n in enumerate(layout.shape) if shards[d] < n]
        enough = n_bytes >= _SHARD_BYTES and n_cells(layout.shape, shards) < _MOST_FILES
        if enough or not growable or n_bytes >= _LARGEST_SHARD_BYTES:
            return tuple(shards)
        shards[min(growable, key=lambda d: shards[d])] *= 2
