"""`bench`: how fast an array can be read, decoded, encoded and written here, and which of these is the bottleneck."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bioimage_py.copy import plan
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.operations import (
    StageRate,
    bottleneck,
    choose_read_sample,
    choose_write_sample,
    copy_rate,
    decoding,
    encoding,
    find_target,
    hints_for,
    reading,
    writing,
)
from bioimage_py.planning import CopyPlan, default_memory_limit, format_bytes, parse_bytes
from bioimage_py.runner import check_num_workers, run_twin
from bioimage_py.sources import Codec, Source, as_source

__all__ = ["BenchResult", "bench"]

_SECONDS = 1.2
"""About how long each of the eight measurements may take."""
_ING = {"read": "reading", "decode": "decoding", "encode": "encoding", "write": "writing"}


@dataclass(frozen=True)
class BenchResult:
    """What was measured; `str(result)` is a table with what follows from it.

    Attributes
    ----------
    name
        What was read.
    plan
        The copy that was measured in parts.
    rates
        The measurements, of one worker and of all.
    folder
        Where was written.
    codec
        How what was written was encoded.
    read_with_decode
        Whether reading could not be measured apart, so that decoding includes it.
    """

    name: str
    plan: CopyPlan
    rates: tuple[StageRate, ...]
    folder: str
    codec: str
    read_with_decode: bool

    @property
    def num_workers(self) -> int:
        """The larger of the two numbers of workers."""
        return max(rate.workers for rate in self.rates)

    @property
    def bottleneck(self) -> str:
        """The stage, of those that the plan's road needs, that is the slowest with all workers."""
        return bottleneck(self.rates, self.plan.road)

    @property
    def bytes_per_second(self) -> float:
        """What such a copy can reach with all workers, in bytes of voxels: they go through the stages one after the other."""
        return copy_rate(self.rates, self.plan.road)

    @property
    def hints(self) -> tuple[str, ...]:
        """What would help."""
        return hints_for(self.rates, self.plan, self.codec)

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {
            "name": self.name,
            "output_folder": self.folder,
            "road": self.plan.road,
            "reason": self.plan.reason,
            "chunks": self.plan.output.chunks,
            "shards": self.plan.output.shards,
            "codec": self.codec,
            "num_workers": self.num_workers,
            "read_with_decode": self.read_with_decode,
            "rates": [
                {
                    "stage": rate.stage,
                    "workers": rate.workers,
                    "mb_per_second": rate.bytes_per_second / 1e6,
                    "voxel_bytes": rate.voxel_bytes,
                    "stored_bytes": rate.stored_bytes,
                    "seconds": rate.seconds,
                }
                for rate in self.rates
            ],
            "bottleneck": self.bottleneck,
            "mb_per_second": self.bytes_per_second / 1e6,
            "hints": list(self.hints),
        }

    def __str__(self) -> str:
        counts = sorted({rate.workers for rate in self.rates})
        lines = [
            f"MB/s of voxels of {self.name}",
            f"{'':8}" + "".join(f"{_workers(n):>14}" for n in counts),
        ]
        for stage in _ING:
            row = {rate.workers: rate for rate in self.rates if rate.stage == stage}
            cells = "".join(
                f"{row[n].bytes_per_second / 1e6:14,.0f}" if n in row else f"{'-':>14}" for n in counts
            )
            lines.append(f"{stage:8}{cells}{self._remark(stage, row.get(counts[-1]))}")
        lines.append(
            f"road of a copy: {self.plan.road}, about {self.bytes_per_second / 1e6:,.0f} MB/s with {_workers(counts[-1])}; "
            f"the bottleneck is {_ING[self.bottleneck]}"
        )
        return "\n".join([*lines, *(f"hint: {hint}" for hint in self.hints)])

    def _remark(self, stage: str, rate: StageRate | None) -> str:
        if rate is None:
            return "  " + (
                "not to be had apart from decoding"
                if stage == "read"
                else "nothing but the fill value is stored"
            )
        if rate.stored_bytes is None:
            return "  reading included" if stage == "decode" and self.read_with_decode else ""
        return f"  {rate.stored_bytes / max(rate.seconds, 1e-9) / 1e6:,.0f} MB/s of {format_bytes(rate.stored_bytes)} stored"


def bench(
    input: Any,
    output: str | os.PathLike[str] = ".",
    *,
    num_workers: int | None = None,
    sample: int | str = "256MiB",
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | None = None,
    codec: str | Mapping[str, Any] | Codec | None = None,
) -> BenchResult:
    """Measure on a sample of an array how fast it can be read, decoded, encoded and written here.

    It takes about ten seconds, and longer where single chunks are large. Stored bytes are read after the system was asked to
    forget them; on file systems that do not forget, and for what others hold in memory, that measures memory and not the disk.

    Parameters
    ----------
    input
        An array, a path or URL, or any `Source`.
    output
        A folder on the file system that a copy would write to. What is written there is removed, also after Ctrl-C.
    num_workers
        Threads of the second measurement of each stage; the first one has one. Default: all cores.
    sample
        Bytes of voxels to measure with, or a text such as `"256MiB"`; at least one chunk is taken.
    chunks, shards, codec
        How the output would be stored, as for `copy`; the default keeps those of the input where it can.

    Raises
    ------
    InvalidArgumentError
        If the folder is not there or cannot be written, the array is empty, or the arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> result = bench(np.zeros((64, 64, 64), "uint8"), num_workers=2)
    >>> result.bottleneck in ("decode", "encode", "write")
    True
    """
    workers = _cores() if num_workers is None else num_workers
    check_num_workers(workers)
    n_bytes = parse_bytes(sample, "sample")
    with ExitStack() as stack:
        source = as_source(input)
        if source is not input:
            stack.enter_context(source)
        if source.size == 0 or source.ndim == 0:
            raise InvalidArgumentError(
                f"{source.name} has shape {source.shape}: there is nothing to measure. Give an image with voxels"
            )
        folder = stack.enter_context(_scratch_folder(Path(output)))
        layout = {"dtype": None, "chunks": chunks, "shards": shards, "codec": codec, "zarr_format": 3}
        planned = plan(
            source,
            folder / "array.zarr",
            chunks=chunks,
            shards=shards,
            codec=codec,
            num_workers=workers,
            memory_limit=default_memory_limit(),
        )
        assert isinstance(planned, CopyPlan)  # whole images are copied from a path to a path only
        rates, made = _measured(source, folder, layout, n_bytes, workers)
    known = any(rate.stage == "read" for rate in rates)
    return BenchResult(source.name, planned, tuple(rates), os.fspath(output), made, not known)


def _measured(
    source: Source, folder: Path, layout: Mapping[str, Any], n_bytes: int, workers: int
) -> tuple[list[StageRate], str]:
    counts = sorted({1, workers})
    found = choose_read_sample(source, n_bytes)
    rates = [reading(found, source.dtype.itemsize, n, _SECONDS) for n in counts]
    rates += [decoding(source, found, n, _SECONDS) for n in counts]
    with _new_array(source, str(folder / "array.zarr"), layout) as output:
        with run_twin(source, workers, n_bytes) as twin:
            voxels = choose_write_sample(twin, output, found, n_bytes // 2)
        codec = output.codec
        # Its files are written again below, without encoding.
        n_written = encoding(output, voxels, workers, 2 * _SECONDS).voxel_bytes
    # An array in memory, of a name that no other process or thread has.
    with _new_array(source, f"memory://{folder.name}/array.zarr", layout) as output:
        rates += [encoding(output, voxels, n, _SECONDS) for n in counts]
    with _new_array(source, f"memory://{folder.name}/array.zarr", layout):
        pass  # made anew without chunks, it takes no memory
    for n in counts:
        rates.append(writing(folder / f"written-{n}", folder / "array.zarr", n_written, n, _SECONDS))
    return [rate for rate in rates if rate is not None], codec


@contextmanager
def _new_array(source: Source, path: str, layout: Mapping[str, Any]) -> Iterator[Source]:
    _, output = find_target(path, source, dict(layout), keep_values=False).open(overwrite=True, resume=False)
    with output:
        yield output


@contextmanager
def _scratch_folder(parent: Path) -> Iterator[Path]:
    """Make a folder and remove it with all that is in it."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=".bioimage-bench-", dir=parent.expanduser()))
    except OSError as error:
        raise InvalidArgumentError(
            f"nothing can be written into the folder {str(parent)!r}: {error.strerror}. Give as output a folder that is there, "
            "on the file system that a copy would write to"
        ) from error
    try:
        yield folder.resolve()
    finally:
        shutil.rmtree(folder)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _workers(n: int) -> str:
    return f"{n} worker{'' if n == 1 else 's'}"
