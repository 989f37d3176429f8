"""`check`: whether all that is stored below a path can be read and fits together; `repair` writes again what is damaged."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bioimage_py.errors import AmbiguousSourceError, InvalidArgumentError, SourceNotFoundError
from bioimage_py.operations import (
    ArrayCheck,
    CheckWork,
    Damaged,
    Finding,
    Repair,
    RunOptions,
    StoreAccess,
    StoreCheck,
    threads_for,
)
from bioimage_py.runner import LocalRunner, Progress, checked_workers, raise_failures, reporting
from bioimage_py.sources import (
    FileSource,
    Source,
    as_source,
    family_by_content,
    from_spec,
    locate,
    may_be_zarr,
    open_source,
)
from bioimage_py.sources.stores import Node, marking_new, update_consolidated
from bioimage_py.storage import StoreFolder, is_url, path_text
from bioimage_py.text import Rows, counted
from bioimage_py.wrapper.shape import turned_like

__all__ = ["CheckResult", "Finding", "check", "repair"]

_HARMLESS = ("not stored", "not checked")
_AT_ONCE = 64
"""Arrays that are open at the same time."""
_MOST_NAMED = 10
"""Findings of a kind that are written out."""


@dataclass(frozen=True)
class CheckResult(Rows):
    """What a check has found: true if nothing is wrong; `str(result)` explains it.

    Attributes
    ----------
    path
        What was checked.
    findings
        All that was found: `kind`, `array`, `chunk`, `path` and `text` of each. Those of the kinds "not stored" and "not checked" do not
        make the result false.
    counts
        How many chunks are right, corrupt, missing, not stored though their neighbours are, empty (never written), and not looked at.
    arrays
        How many arrays were checked.
    share
        The share of the stored chunks that was looked at: 1 without `sample`.
    repaired
        Of `repair`: what was found before and is right now.
    """

    path: str
    findings: tuple[Finding, ...]
    counts: Mapping[str, int]
    arrays: int
    share: float = 1.0
    repaired: tuple[Finding, ...] = ()

    def __bool__(self) -> bool:
        return all(finding.kind in _HARMLESS for finding in self.findings)

    def __str__(self) -> str:
        return "\n".join(f"{label}: {text}" if label else f"  {text}" for label, text in self._rows())

    def _rows(self) -> Iterator[tuple[str, str]]:
        wrong = sum(finding.kind not in _HARMLESS for finding in self.findings)
        skipped = any(finding.kind == "not checked" for finding in self.findings)
        right = "nothing wrong in what was checked" if skipped else "nothing wrong"
        yield "result", f"{counted(wrong, 'problem')} found" if wrong else right
        chunks = ", ".join(f"{n:,} {name}" for name, n in self.counts.items() if n)
        yield "checked", f"{counted(self.arrays, 'array')}; chunks: {chunks or 'none'}"
        if self.repaired:
            yield "repaired", f"{counted(len(self.repaired), 'problem')}"
        if self.share < 1:
            yield (
                "sample",
                f"{100 * self.share:.3g} % of the stored chunks were looked at, so others may be corrupt",
            )
        kinds = Counter(finding.kind for finding in self.findings)
        for kind in sorted(kinds, key=_HARMLESS.__contains__):
            found = (finding for finding in self.findings if finding.kind == kind)
            for n, finding in enumerate(itertools.islice(found, _MOST_NAMED)):
                where = (
                    finding.array
                    if finding.chunk is None
                    else f"{finding.array} chunk {finding.chunk}".strip()
                )
                yield "" if n else kind, f"{where}: {finding.text} ({finding.path})".removeprefix(": ")
            if kinds[kind] > _MOST_NAMED:
                yield "", f"… and {kinds[kind] - _MOST_NAMED:,} more"

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {
            "path": self.path,
            "right": bool(self),
            "arrays": self.arrays,
            "counts": dict(self.counts),
            "share": self.share,
            "repaired": [_plain(finding) for finding in self.repaired],
            "findings": [_plain(finding) for finding in self.findings],
        }


def _plain(finding: Finding) -> dict[str, Any]:
    return {**asdict(finding), "chunk": None if finding.chunk is None else list(finding.chunk)}


def check(
    path: str | os.PathLike[str],
    *,
    sample: float | str | None = None,
    num_workers: int | None = 1,
    memory_limit: int | str | None = None,
    endpoint: str | None = None,
    region: str | None = None,
    anonymous: bool = False,
    profile: str | None = None,
    progress: Callable[[Progress], None] | bool | None = None,
) -> CheckResult:
    """Check everything that is stored below a path: each chunk is decoded, and metadata are held against the arrays.

    Parameters
    ----------
    path
        An image, an array, a container, a plate or a folder of these: Zarr, N5 and precomputed, on a disk or behind a URL; or a file, such as
        HDF5, TIFF or `.npy`.
    sample
        The share of the stored chunks that is decoded, such as 0.01 or `"1%"`; always the same ones. Names and metadata are all checked.
    num_workers
        Threads; None for all cores that this process may use.
    memory_limit
        Most bytes that the check may hold, or a text such as `"512MiB"`.
    endpoint, region, anonymous, profile
        As for `copy`.
    progress
        As for `verify`.

    Returns
    -------
    CheckResult
        True if nothing is wrong; `findings` has what is.

    Raises
    ------
    SourceNotFoundError
        If there is nothing at the path.
    UnsupportedFormatError
        If what is there is not an image.
    InvalidArgumentError
        If one chunk takes more memory than the limit.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from bioimage_py import check, copy
    >>> path = f"{tempfile.mkdtemp()}/image.zarr"
    >>> _ = copy(np.ones((4, 6), "uint8"), path, chunks=(2, 3))
    >>> bool(check(path))
    True
    >>> with open(f"{path}/c/1/0", "wb") as chunk:
    ...     _ = chunk.write(b"nothing")
    >>> [(one.kind, one.chunk) for one in check(path).findings]
    [('corrupt', (1, 0))]
    """
    access = StoreAccess(endpoint, region, anonymous, profile)
    with access.reaching(path), reporting(progress, "checking") as report:
        given = {
            "num_workers": checked_workers(num_workers),
            "memory_limit": memory_limit,
            "progress": progress,
        }
        options = replace(RunOptions.of(given), progress=report)
        return _Check(path_text(path), share_of(sample), options).result()


def repair(
    path: str | os.PathLike[str],
    source: Any,
    *,
    num_workers: int | None = 1,
    memory_limit: int | str | None = None,
    endpoint: str | None = None,
    region: str | None = None,
    anonymous: bool = False,
    profile: str | None = None,
    progress: Callable[[Progress], None] | bool | None = None,
) -> CheckResult:
    """Write what is corrupt or missing below a path again, from a source that holds the same voxels, and check again.

    Only the write units (chunks, or shards) that a check finds are written, encoded as their array says; all others keep their bytes and times.
    Consolidated metadata are brought up to date. What nobody but you can know, such as a wrong scale or a file that belongs to nothing, stays
    as it is, and in the findings.

    Parameters
    ----------
    path
        As for `check`.
    source
        What the array, or the full-size level of the image, was copied from: an array, handle, path or source. For several arrays a
        path of a container, or of an OME-Zarr, that has them at the same places.
    num_workers, memory_limit, endpoint, region, anonymous, profile
        As for `check`.
    progress
        As for `verify`.

    Returns
    -------
    CheckResult
        Of the check afterwards; `repaired` has what is right now.

    Raises
    ------
    InvalidArgumentError
        If the source has another shape or data type, or other voxels in chunks that are right: nothing is written then.
    ReadOnlyError
        If a damaged array cannot be written, as one in a TIFF file.

    Examples
    --------
    >>> import numpy as np, os, tempfile
    >>> from bioimage_py import copy, repair
    >>> voxels, path = np.ones((4, 6), "uint8"), f"{tempfile.mkdtemp()}/image.zarr"
    >>> _ = copy(voxels, path, chunks=(2, 3))
    >>> os.remove(f"{path}/c/1/0")
    >>> result = repair(path, voxels)
    >>> bool(result), result.repaired[0].chunk
    (True, (1, 0))
    """
    access, text = StoreAccess(endpoint, region, anonymous, profile), path_text(path)
    with access.reaching(path, source):
        given = {
            "num_workers": checked_workers(num_workers),
            "memory_limit": memory_limit,
            "progress": progress,
        }
        options = RunOptions.of(given)
        if isinstance(source, (str, os.PathLike)):
            with suppress(AmbiguousSourceError), as_source(source):
                pass  # found at the end of a check it would cost that
        with reporting(progress, "checking") as report:
            before = _Check(text, 1.0, replace(options, progress=report), arrays=[])
            first = before.result()
        if not first.findings:
            return first
        with reporting(progress, "repairing") as report, ExitStack() as stack:
            pairs = list(_with_sources(before, source, stack))
            repairs = [Repair(*one, stack) for one in pairs]
            stack.enter_context(marking_new())
            # Nothing is written before all sources are found to be the right ones.
            repairs += [Repair(*one, stack) for one in _lost_levels(before, source, stack)]
            for one in repairs:
                one.write(replace(options, progress=report))
        before.mend_consolidated()
        with reporting(progress, "checking") as report:
            again = _Check(text, 1.0, replace(options, progress=report))
            # What the source has as fill value is not stored, and not lost.
            again.whole = frozenset(one.key for one, _ in pairs)
            after = again.result()
    return replace(after, repaired=tuple(f for f in first.findings if f not in after.findings))


def _with_sources(checked: _Check, source: Any, stack: ExitStack) -> Iterator[tuple[Damaged, Source]]:
    """Yield the damaged arrays, and those beside levels that are missing, with the sources of their voxels, as far as there are any."""
    beside = {level.folder.path for level in checked.lost_levels.values()}
    damaged = [one for one in checked.arrays or () if one.numbers or one.folder in beside]
    found = {}
    if isinstance(source, (str, os.PathLike)):
        for key, place in _places(checked.path, path_text(source), {one.key for one in damaged}):
            with suppress(SourceNotFoundError):
                found[key] = stack.enter_context(open_source(*place))
    if damaged and not found:
        single = as_source(source)
        if isinstance(source, (str, os.PathLike)):  # else it is the caller's
            stack.enter_context(single)
        arrays = {one.key: stack.enter_context(from_spec(one.spec)) for one in damaged}
        found = {
            key: single for key, array in arrays.items() if turned_like(array, single).shape == array.shape
        }
        if not found:
            there = ", ".join(f"{array.shape} of {array.name}" for array in arrays.values())
            raise InvalidArgumentError(
                f"{single.name} cannot repair {checked.path}: its shape {single.shape} is not that of what is damaged, {there}"
            )
    yield from ((one, found[one.key]) for one in damaged if one.key in found)


def _lost_levels(checked: _Check, source: Any, stack: ExitStack) -> Iterator[tuple[Damaged, Source]]:
    """Make levels that are missing, where the source has them, and yield them with their sources."""
    if not isinstance(source, (str, os.PathLike)):
        return
    for key, place in _places(checked.path, path_text(source), set(checked.lost_levels)):
        with suppress(SourceNotFoundError):
            level = stack.enter_context(open_source(*place))
            assert checked.store is not None
            made = checked.store.make_level(key, level.shape, level.dtype.name)
            if made is not None:
                yield Damaged.all_of(ArrayCheck(key, stack.enter_context(made))), level


def _places(path: str, source: str, keys: set[str]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield where one container has the arrays with these keys in another one."""
    mine, other = locate(path), locate(source)
    if all(may_be_zarr(one) for one in (path, source)):
        from bioimage_py.sources.ome_zarr import ome_zarr_group, paired_arrays

        if ome_zarr_group(path) is not None and ome_zarr_group(source) is not None:
            for _, one, place in paired_arrays(path, source):
                key = "" if one is None else one[1].removeprefix(mine.key or "").strip("/")
                if place is not None and key in keys:
                    yield key, place
            return
    if other.family is not None and other.family.container:
        yield from ((key, (other.path, "/".join(filter(None, (other.key, key))))) for key in keys if key)


def share_of(sample: float | str | None) -> float:
    """Return a share from `0.01`, `"1%"` or None, which is all."""
    try:
        share = (
            float(sample[:-1]) / 100
            if isinstance(sample, str) and sample.endswith("%")
            else float(1 if sample is None else sample)
        )
    except (TypeError, ValueError):
        share = -1.0
    if isinstance(sample, bool) or not 0 < share <= 1:
        raise InvalidArgumentError(f"sample must be a share such as 0.01 or '1%', got {sample!r}")
    return share


@dataclass
class _Check:
    path: str
    share: float
    options: RunOptions
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    n_arrays: int = 0
    arrays: list[Damaged] | None = None  # where they are to be repaired
    whole: frozenset[str] = frozenset()  # keys of arrays of which no chunk is missing
    store: StoreCheck | None = None
    empty: dict[str, int] = field(
        default_factory=dict
    )  # chunks of arrays of which none is stored, by their keys

    def result(self) -> CheckResult:
        place = locate(self.path)
        if is_url(place.path) or os.path.isdir(place.path):  # noqa: PTH112 - a text stays a text
            self.store = store = StoreCheck(StoreFolder.at(place.path), place.key)
            self._check(store.arrays())
            self.findings += store.findings
            self._find_empty_levels(store)
        if not self.n_arrays and not self.findings:
            self._check(self._arrays_in_file())
        return CheckResult(self.path, tuple(self.findings), dict(self.counts), self.n_arrays, self.share)

    def _find_empty_levels(self, store: StoreCheck) -> None:
        """Tell of levels of which no chunk is stored, where others of their image have some."""
        for levels in store.images:
            filled = [n for n, level in enumerate(levels) if level not in self.empty]
            for n, level in enumerate(levels) if filled else ():
                if n in filled:
                    continue
                # A coarser level can be fill value only where this one is not; not the other way round.
                kind, path = "missing" if filled[-1] > n else "not stored", store.folder_of(level).path
                text = f"none of its chunks is stored, though those of level {levels[filled[-1]]} are"
                self.findings.append(Finding(kind, level, None, path, text))
                self.counts.update({kind: self.empty[level], "empty": -self.empty[level]})
                self.arrays = self.arrays and [
                    one.whole() if one.key == level else one for one in self.arrays
                ]

    def _arrays_in_file(self) -> Iterator[ArrayCheck]:
        """Yield the arrays of a file, or of a folder of slices; raises as `open_source` does."""
        place = locate(self.path)
        is_file = os.path.isfile(place.path)  # noqa: PTH113 - a text stays a text
        found = (family_by_content(place.path) or place.family) if is_file else None
        keys: list[str] = [place.key or ""]
        if found is not None and found.container and place.key is None:
            keys = found.load().list_arrays(place.path)
        for key in keys:
            yield ArrayCheck(key, open_source(place.path, key or None))
        if not keys:
            raise SourceNotFoundError(f"there is no array in {place.path}")

    def _check(self, arrays: Iterator[ArrayCheck]) -> None:
        while batch := list(itertools.islice(arrays, _AT_ONCE)):
            with ExitStack() as stack:
                for array in batch:
                    stack.callback(array.source.close)
                work = CheckWork(batch, self.share)
                largest = max(batch, key=lambda array: array.bytes_at_once)
                journal = LocalRunner().execute(
                    work,
                    threads_for(
                        largest.bytes_at_once, f"decoding a chunk of {largest.source.name}", self.options
                    ),
                    n_bytes=work.n_bytes,
                    progress=self.options.progress if callable(self.options.progress) else None,
                )
                if journal.has_failures:
                    raise_failures(journal, work.block_ids, f"check of {self.path}")
                for array in batch:
                    array.is_whole = array.key in self.whole
                    self.counts.update(array.counts())
                    if array.is_empty and not (array.is_whole or array.unfinished):
                        self.empty[array.key] = array.n_chunks
                    self.findings += array.findings
                    if self.arrays is not None and isinstance(array.source, FileSource):
                        self.arrays.append(Damaged.of(array))
            self.n_arrays += len(batch)

    @property
    def lost_levels(self) -> Mapping[str, Node]:
        return {} if self.store is None else self.store.lost_levels

    def mend_consolidated(self) -> None:
        """Bring consolidated metadata up to date that do not repeat what is below, unless that is wrong itself."""
        wrong = {finding.array for finding in self.findings if finding.kind == "metadata"}
        stale = [f.array for f in self.findings if f.kind == "consolidated" and f.array not in wrong]
        if self.store is not None and stale:
            update_consolidated(map(self.store.folder_of, stale))
