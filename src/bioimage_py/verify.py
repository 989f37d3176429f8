"""`verify`: whether two arrays hold the same voxels, and where they do not."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NoReturn

from bioimage_py.errors import (
    BioimagePyWarning,
    Hint,
    InvalidArgumentError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.geometry import Blocking, IdSet
from bioimage_py.kernels import CompareKernel, Difference, TileDigest
from bioimage_py.operations import RunOptions, StoreAccess, digest_of, reading_plan, warn_caller
from bioimage_py.planning import ArrayLayout, PlanOptions
from bioimage_py.runner import (
    BlockJournal,
    LocalRunner,
    Progress,
    checked_workers,
    raise_failures,
    reporting,
    run_twin,
)
from bioimage_py.runner.work import Work
from bioimage_py.sources import Source, as_source, may_be_zarr, open_source
from bioimage_py.text import Rows, counted
from bioimage_py.wrapper.shape import turned_like

__all__ = ["VerifyResult", "verify"]

_MOST_NAMED = 10


@dataclass(frozen=True)
class VerifyResult(Rows):
    """The result of a comparison: true if all voxels are equal; `str(result)` explains it.

    Attributes
    ----------
    equal
        Whether every voxel has the same value in both; NaN equals NaN.
    different
        Number of voxels, or tiles, that differ.
    first_difference, first_values
        Index of the first voxel that differs, in C order, and its two values; None if all are equal. By digest, where the first tile
        begins that differs, and None.
    compared
        Number of voxels, or tiles, compared.
    shape, dtypes
        Shape of both arrays and dtype of each; voxels are compared by value, so dtypes may differ. For two whole OME-Zarrs, those
        of the first array.
    arrays
        Number of arrays compared, 1 unless two OME-Zarrs were compared whole.
    differing
        Of two whole OME-Zarrs: the key of each array that differs, and how it differs.
    digests
        Those that were compared; empty where voxels were. They are also different where only data types are.
    compared_encoded
        Number of chunks that were not decoded, because both store the same bytes for them.
    """

    equal: bool
    different: int
    first_difference: tuple[int, ...] | None
    first_values: tuple[Any, Any] | None
    compared: int
    shape: tuple[int, ...]
    dtypes: tuple[str, str]
    arrays: int = 1
    differing: tuple[tuple[str, str], ...] = ()
    digests: tuple[str, ...] = ()
    compared_encoded: int = 0

    @property
    def _unit(self) -> str:
        return "tile" if self.digests else "voxel"

    def __bool__(self) -> bool:
        return self.equal

    def __str__(self) -> str:
        note = "" if self.dtypes[0] == self.dtypes[1] else f" (dtypes {self.dtypes[0]} and {self.dtypes[1]})"
        if self.equal:
            of_all = f" of {self.arrays:,} arrays" if self.arrays > 1 else ""
            return f"equal: all {self.compared:,} {self._unit}s{of_all}{self._encoded}{note}"
        if self.differing:
            more = len(self.differing) - _MOST_NAMED
            named = [f"{key}: {words}" for key, words in self.differing[:_MOST_NAMED]]
            return (
                f"different: {len(self.differing):,} of {self.arrays:,} arrays; {'; '.join(named)}"
                f"{f'; and {more:,} more' if more > 0 else ''}"
            )
        if not self.different:
            return f"different: {self.digests[0]} and {self.digests[1]}{note}"
        share = 100 * self.different / self.compared
        values = "" if self.first_values is None else f": {self.first_values[0]} and {self.first_values[1]}"
        return (
            f"different: {self.different:,} of {self.compared:,} {self._unit}s ({share:.3g} %), the first at {self.first_difference}"
            f"{values}{self._encoded}{note}"
        )

    @property
    def _encoded(self) -> str:
        return (
            f", {counted(self.compared_encoded, 'chunk')} by their stored bytes"
            if self.compared_encoded
            else ""
        )

    def _rows(self) -> Iterator[tuple[str, str]]:
        yield "result", "equal" if self.equal else "different"
        yield (
            "compared",
            f"{counted(self.compared, self._unit)}"
            + (f" of {self.arrays:,} arrays" if self.arrays > 1 else "")
            + self._encoded,
        )
        yield "data types", " and ".join(dict.fromkeys(self.dtypes))
        if self.different:
            yield (
                "different",
                f"{counted(self.different, self._unit)} ({100 * self.different / self.compared:.3g} %)",
            )
        if self.first_values is not None:
            yield "first", f"{self.first_difference}: {self.first_values[0]} and {self.first_values[1]}"
        elif self.first_difference is not None:
            yield "first", f"the tile at {self.first_difference}"
        if self.digests:
            yield "digest", " and ".join(dict.fromkeys(self.digests))
        yield from self.differing[:_MOST_NAMED]

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        first = self.first_difference
        whole = {"arrays": self.arrays, "differing": [list(one) for one in self.differing]}
        return {
            **(whole if self.arrays > 1 or self.differing else {}),
            **({"digests": list(self.digests)} if self.digests else {}),
            "equal": self.equal,
            "different": self.different,
            "first_difference": None if first is None else list(first),
            "first_values": None if self.first_values is None else [_plain(v) for v in self.first_values],
            "compared": self.compared,
            "compared_encoded": self.compared_encoded,
            "shape": list(self.shape),
            "dtypes": list(self.dtypes),
        }


def verify(
    a: Any,
    b: Any = None,
    *,
    by_digest: bool = False,
    decode: bool = False,
    num_workers: int | None = 1,
    memory_limit: int | str | None = None,
    endpoint: str | None = None,
    region: str | None = None,
    anonymous: bool = False,
    profile: str | None = None,
    progress: Callable[[Progress], None] | bool | None = None,
) -> VerifyResult:
    """Compare two arrays voxel by voxel, block by block, or all arrays of two whole OME-Zarrs; or prove one by the digest that is kept for it.

    Parameters
    ----------
    a, b
        Arrays, handles, paths or sources of one shape; formats, chunks and dtypes may differ. Axes that both name are matched by
        name, for example those of a NIfTI (x, y, z) and of an OME-Zarr copy of it (z, y, x). If both are paths of an OME-Zarr image,
        container, plate or well, everything that `copy` would copy is compared: all images, levels and labels; one that only
        one of them has counts as different. A key, or the path of a level, is one array.
    decode
        Whether to decode all chunks that are stored. Otherwise those of two arrays on local disks that encode their chunks alike are taken
        as equal where their stored bytes are, and their lengths, headers and checksums are right; what is corrupt alike in both is
        only found by decoding it.
    num_workers
        Threads; None for all cores that this process may use.
    memory_limit
        Most bytes that the comparison may hold, or a text such as `"512MiB"`.
    endpoint, region, anonymous, profile
        As for `copy`.
    progress
        A function that is called with a `Progress` a few times a second and at the end; True for a bar, False for nothing. Default: a
        bar in notebooks and on terminals, unless `BIOIMAGE_PY_PROGRESS=0` or `progress = false` in the configuration file turns it off.

    Returns
    -------
    VerifyResult
        `equal`, `different` (count of voxels), `first_difference` (index or None).

    Raises
    ------
    InvalidArgumentError
        If the shapes differ, or without `b` if no digest is kept; a warning names arrays of an OME-Zarr that have none beside others that do.
    RunnerError
        If blocks could not be read.

    Examples
    --------
    >>> import numpy as np
    >>> a = np.zeros((4, 5)); b = a.copy(); b[2, 3] = 1
    >>> result = verify(a, b)
    >>> result.equal, result.different, result.first_difference
    (False, 1, (2, 3))
    """
    access = StoreAccess(endpoint, region, anonymous, profile)
    with access.reaching(a, b), reporting(progress, "comparing") as report:
        given = {
            "num_workers": checked_workers(num_workers),
            "memory_limit": memory_limit,
            "progress": progress,
        }
        options = replace(RunOptions.of(given), progress=report)
        if b is None:
            return _verified(a, a, options, _proved)
        compare = partial(_verify_one, decode=decode)
        return _verified(a, b, options, _compared_by_digest if by_digest else compare)


_Compare = Callable[[Source, Source, RunOptions], VerifyResult | None]


def _verified(a: Any, b: Any, options: RunOptions, compare: _Compare) -> VerifyResult:
    if all(isinstance(one, (str, os.PathLike)) and may_be_zarr(one) for one in (a, b)):
        # It needs the libraries of Zarr, which other comparisons can do without.
        from bioimage_py.sources.ome_zarr import ome_zarr_group, paired_arrays

        if ome_zarr_group(a) is not None and ome_zarr_group(b) is not None:
            return _verify_all(paired_arrays(a, b), options, compare)
    first = as_source(a)
    result = compare(first, as_source(b), options)
    return _no_digest([first.name]) if result is None else result


def _no_digest(names: Sequence[str]) -> NoReturn:
    raise InvalidArgumentError(
        f"no digest is kept for {', '.join(names[:5])}, so there is nothing to compare it with",
        hints=[Hint.of("give a second image, or copy with {}", digest=True)],
    )


def _verify_all(
    pairs: Iterable[tuple[str, tuple[str, str] | None, tuple[str, str] | None]],
    options: RunOptions,
    compare: _Compare,
) -> VerifyResult:
    """Compare the arrays of two OME-Zarrs one after the other, so that each has the whole of the memory limit."""
    results: list[VerifyResult] = []
    differing, without = [], []
    count = 0
    for count, (key, *places) in enumerate(pairs, 1):  # noqa: B007 - it is how many there are
        with ExitStack() as stack:
            try:
                first, second = (_opened(place, stack) for place in places)
            except (StorageError, UnsupportedFormatError) as error:
                differing.append((key, f"cannot be read: {error.message}"))
                continue
            if first is None or second is None:
                where = "both" if first is second else "the first" if first is None else "the second"
                differing.append((key, f"is not in {where}"))
            elif first.shape != turned_like(first, second).shape:
                differing.append((key, f"has shape {first.shape} and {second.shape}"))
            elif (result := compare(first, second, options)) is None:
                without.append(first.name)
            else:
                results.append(result)
                if not result.equal:
                    differing.append((key, str(result)))
    if without and not results:
        _no_digest(without)
    if without:
        text = f"no digest is kept for {', '.join(without[:5])}{' and others' if without[5:] else ''}: not compared"
        warn_caller(BioimagePyWarning(text))
    # The first that differs; a result is false where it does.
    nothing = VerifyResult(True, 0, None, None, 0, (), ("", ""))
    shown = min(results, key=lambda result: result.equal, default=nothing)
    return replace(
        shown,
        equal=not differing,
        different=sum(result.different for result in results),
        compared=sum(result.compared for result in results),
        compared_encoded=sum(result.compared_encoded for result in results),
        shape=results[0].shape if results else (),
        dtypes=results[0].dtypes if results else ("", ""),
        arrays=count - len(without),
        differing=tuple(differing),
    )


def _opened(place: tuple[str, str] | None, stack: ExitStack) -> Source | None:
    """Open an array of an OME-Zarr; None if it does not exist, although its group may list it."""
    try:
        return None if place is None else stack.enter_context(open_source(*place))
    except SourceNotFoundError:
        return None


def _alike(first: Source, second: Source) -> Source:
    second = turned_like(first, second)
    if first.shape != second.shape:
        raise InvalidArgumentError(
            f"cannot compare voxel by voxel: {first.name} has shape {first.shape}, {second.name} has {second.shape}"
        )
    return second


def _proved(first: Source, second: Source, options: RunOptions) -> VerifyResult | None:
    """Compare an array with the digest that is kept for it; None if there is none."""
    del second
    kept = TileDigest.stored(first)
    return None if kept is None else _digests_compared(digest_of(first, options), kept)


def _compared_by_digest(first: Source, second: Source, options: RunOptions) -> VerifyResult:
    both = first, _alike(first, second)
    return _digests_compared(*(TileDigest.stored(one) or digest_of(one, options) for one in both))


def _digests_compared(first: TileDigest, second: TileDigest) -> VerifyResult:
    if first.shape != second.shape:
        raise InvalidArgumentError(
            f"the digest is of an array of shape {second.shape}, and this one has {first.shape}"
        )
    count, begin = first.differing(second)
    digests, dtypes = (first.root, second.root), (first.dtype, second.dtype)
    return VerifyResult(
        first.root == second.root, count, begin, None, first.n_tiles, first.shape, dtypes, digests=digests
    )


def _verify_one(first: Source, second: Source, options: RunOptions, *, decode: bool) -> VerifyResult:
    second = _alike(first, second)
    # Shards are read chunk by chunk.
    layouts = ArrayLayout.of(first), replace(ArrayLayout.of(second), shards=None)
    asked = PlanOptions(memory_limit=options.memory_bytes, num_workers=options.num_workers, compares=True)
    planned = reading_plan(layouts, asked)
    with (
        run_twin(first, planned.threads, planned.cache_bytes) as one,
        run_twin(second, planned.threads) as other,
    ):
        work = _VerifyWork(CompareKernel(one, other, decode), planned.blocking)
        journal = LocalRunner().execute(
            work,
            planned.in_flight,
            n_bytes=planned.bytes_in,
            progress=options.progress if callable(options.progress) else None,
        )
    if journal.has_failures:
        raise_failures(journal, work.block_ids, f"comparison of {first.name} and {second.name}")
    found = work.found
    return VerifyResult(
        equal=found is None,
        different=0 if found is None else found.count,
        first_difference=None if found is None else found.first,
        first_values=None if found is None else found.values,
        compared=first.size,
        shape=first.shape,
        dtypes=(str(first.dtype), str(second.dtype)),
        compared_encoded=work.n_encoded,
    )


@dataclass
class _VerifyWork(Work):
    kernel: CompareKernel
    blocking: Blocking
    found: Difference | None = None
    n_encoded: int = 0
    outputs = ()
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def block_ids(self) -> IdSet:
        return IdSet.from_range(self.blocking.n_blocks)

    def process(self, blocks: tuple[int, ...], journal: BlockJournal) -> None:
        block = self.blocking[blocks[0]]
        difference, n_encoded = self.kernel.compare(block)
        with self._lock:
            self.n_encoded += n_encoded
            if difference is not None:
                found = [difference] if self.found is None else [self.found, difference]
                first = min(found, key=lambda one: one.first)
                self.found = Difference(sum(one.count for one in found), first.first, first.values)
        journal.done(blocks, block.size * self.kernel.a.dtype.itemsize)


def _plain(value: Any) -> Any:
    """Return a number as JSON has it; NaN, infinity and complex numbers as texts, for JSON has none."""
    return value if isinstance(value, (int, float)) and math.isfinite(value) else str(value)
