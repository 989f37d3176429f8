"""`check`: whether all that is stored below a path can be read and fits together."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bioimage_py.errors import InvalidArgumentError, SourceNotFoundError
from bioimage_py.operations import ArrayCheck, CheckWork, Finding, RunOptions, StoreAccess, StoreCheck
from bioimage_py.planning import default_memory_limit, format_bytes
from bioimage_py.runner import LocalRunner, Progress, checked_workers, raise_failures, reporting
from bioimage_py.sources import family_by_content, locate, open_source
from bioimage_py.storage import StoreFolder, is_url, path_text
from bioimage_py.text import Rows, counted

__all__ = ["CheckResult", "Finding", "check"]

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
    """

    path: str
    findings: tuple[Finding, ...]
    counts: Mapping[str, int]
    arrays: int
    share: float = 1.0

    def __bool__(self) -> bool:
        return all(finding.kind in _HARMLESS for finding in self.findings)

    def __str__(self) -> str:
        return "\n".join(f"{label}: {text}" if label else f"  {text}" for label, text in self._rows())

    def _rows(self) -> Iterator[tuple[str, str]]:
        wrong = sum(finding.kind not in _HARMLESS for finding in self.findings)
        yield "result", f"{counted(wrong, 'problem')} found" if wrong else "nothing wrong"
        chunks = ", ".join(f"{n:,} {name}" for name, n in self.counts.items() if n)
        yield "checked", f"{counted(self.arrays, 'array')}; chunks: {chunks or 'none'}"
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
            "findings": [
                {**asdict(f), "chunk": None if f.chunk is None else list(f.chunk)} for f in self.findings
            ],
        }


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

    def result(self) -> CheckResult:
        place = locate(self.path)
        if is_url(place.path) or os.path.isdir(place.path):  # noqa: PTH112 - a text stays a text
            store = StoreCheck(StoreFolder.at(place.path), place.key)
            self._check(store.arrays())
            self.findings += store.findings
        if not self.n_arrays and not self.findings:
            self._check(self._arrays_in_file())
        return CheckResult(self.path, tuple(self.findings), dict(self.counts), self.n_arrays, self.share)

    def _arrays_in_file(self) -> Iterator[ArrayCheck]:
        """Yield the arrays of a file, or of a folder of slices; raises as `open_source` does."""
        place = locate(self.path)
        found = None if os.path.isdir(place.path) else family_by_content(place.path)  # noqa: PTH112
        keys: list[str] = [place.key or ""]
        if found is not None and found.container and not found.in_folders and place.key is None:
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
                journal = LocalRunner().execute(
                    work,
                    self._threads(batch),
                    n_bytes=work.n_bytes,
                    progress=self.options.progress if callable(self.options.progress) else None,
                )
                if journal.has_failures:
                    raise_failures(journal, work.block_ids, f"check of {self.path}")
                for array in batch:
                    self.counts.update(array.counts())
                    self.findings += array.findings
            self.n_arrays += len(batch)

    def _threads(self, batch: list[ArrayCheck]) -> int:
        largest = max(batch, key=lambda array: array.bytes_at_once)
        limit = self.options.memory_bytes or default_memory_limit()
        if largest.bytes_at_once > limit:
            raise InvalidArgumentError(
                f"to decode a chunk of {largest.source.name} takes {format_bytes(largest.bytes_at_once)} of memory, and the limit is "
                f"{format_bytes(limit)}: give a higher memory_limit"
            )
        return min(self.options.num_workers, limit // max(1, largest.bytes_at_once))
