"""`bench`: how fast an array can be read, decoded, encoded and written here, and which of these limits a copy."""

from __future__ import annotations

import itertools
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bioimage_py.chunks import AnyArray, FilePlace
from bioimage_py.copy import plan
from bioimage_py.errors import InvalidArgumentError, StorageError, UnsupportedFormatError
from bioimage_py.geometry import Blocking, Box
from bioimage_py.kernels import moving_origin
from bioimage_py.operations import NewArray, find_target
from bioimage_py.planning import CopyPlan, default_memory_limit, format_bytes, parse_bytes
from bioimage_py.runner import checked_workers, run_twin
from bioimage_py.sources import Codec, FileSource, Source, as_source, encoded_reader
from bioimage_py.storage import FileBytes, file_error, files_below
from bioimage_py.system import READS_AHEAD, forget_cached

_SECONDS = 1.2
"""About how long each of the eight measurements may take."""
_LEAST_READ = 2**20
"""Bytes of voxels that are read at a time at least: a copy reads no smaller blocks either."""
_PIECE = 2**22
_MOST_FILES = 10_000
_SMALL_FILE = 2**17
_GAIN = 1.3
"""How much faster all workers must be than one for more of them to be worth a try."""
_ING = {"read": "reading", "decode": "decoding", "encode": "encoding", "write": "writing"}
_NOT_MEASURED = {"read": "not measured apart from decoding", "write": "nothing but the fill value is stored"}
ReadSample = list[tuple[Box, list[FilePlace] | None]]
"""Boxes of whole chunks, each with the places of its stored bytes; None where these are unknown, as behind a URL."""
WriteSample = list[tuple[Box, AnyArray]]


@dataclass(frozen=True)
class StageRate:
    """One measurement: bytes of voxels, and the same bytes as stored (None if unknown), that went through a stage."""

    stage: str
    workers: int
    voxel_bytes: int
    stored_bytes: int | None
    seconds: float

    @property
    def bytes_per_second(self) -> float:
        """Bytes of voxels per second."""
        return self.voxel_bytes / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class BenchResult:
    """What was measured; `str(result)` is a table with what follows from it.

    Attributes
    ----------
    name
        The array that was read.
    plan
        The copy that was measured in parts.
    rates
        The measurements, with one worker and with all.
    folder
        The folder that was written to.
    codec
        How the written chunks were encoded.
    """

    name: str
    plan: CopyPlan
    rates: tuple[StageRate, ...]
    folder: str
    codec: str

    @property
    def read_with_decode(self) -> bool:
        """Whether reading could not be measured separately, so that decoding includes it."""
        return all(rate.stage != "read" for rate in self.rates)

    @property
    def num_workers(self) -> int:
        """The larger of the two numbers of workers."""
        return max(rate.workers for rate in self.rates)

    @property
    def bottleneck(self) -> str:
        """The slowest stage, with all workers, of those that the plan's road needs."""
        return min(self._needed(), key=lambda rate: rate.bytes_per_second).stage

    @property
    def bytes_per_second(self) -> float:
        """What such a copy can reach with all workers, in bytes of voxels: they pass the stages one after the other."""
        return 1 / sum(1 / rate.bytes_per_second for rate in self._needed())

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
            "rates": [{**asdict(rate), "mb_per_second": rate.bytes_per_second / 1e6} for rate in self.rates],
            "bottleneck": self.bottleneck,
            "mb_per_second": self.bytes_per_second / 1e6,
            "hints": list(self.hints),
        }

    def __str__(self) -> str:
        counts = sorted({rate.workers for rate in self.rates})
        columns = [f"{n} worker{'' if n == 1 else 's'}" for n in counts]
        lines = [f"MB/s of voxels of {self.name}", " " * 8 + "".join(f"{column:>14}" for column in columns)]
        for stage in _ING:
            row = {rate.workers: rate.bytes_per_second / 1e6 for rate in self.rates if rate.stage == stage}
            cells = "".join(f"{row[n]:14,.0f}" if n in row else f"{'-':>14}" for n in counts)
            lines.append(f"{stage:8}{cells}{self._remark(stage)}")
        lines.append(
            f"road of a copy: {self.plan.road}, about {self.bytes_per_second / 1e6:,.0f} MB/s with {columns[-1]}; "
            f"the bottleneck is {_ING[self.bottleneck]}"
        )
        return "\n".join([*lines, *(f"hint: {hint}" for hint in self.hints)])

    def _remark(self, stage: str) -> str:
        rate = next((r for r in self.rates if (r.stage, r.workers) == (stage, self.num_workers)), None)
        if rate is None:
            return f"  {_NOT_MEASURED[stage]}"
        if rate.stored_bytes is None:
            return "  reading included" if stage == "decode" and self.read_with_decode else ""
        per_second = rate.stored_bytes / max(rate.seconds, 1e-9) / 1e6
        return f"  {per_second:,.0f} MB/s of {format_bytes(rate.stored_bytes)} stored"

    def _needed(self) -> list[StageRate]:
        last = [rate for rate in self.rates if rate.workers == self.num_workers]
        moving = [rate for rate in last if rate.stage in ("read", "write")]
        # Where neither could be measured nothing is stored but background.
        return moving if moving and self.plan.road != "recode" else last

    @property
    def hints(self) -> tuple[str, ...]:
        """What would make the copy faster."""
        stage, output = self.bottleneck, self.plan.output
        rows = sorted((rate for rate in self.rates if rate.stage == stage), key=lambda rate: rate.workers)
        first, last = rows[0], rows[-1]
        gain = last.bytes_per_second / first.bytes_per_second
        found = []
        if gain >= _GAIN:
            found.append(
                f"{last.workers} workers {stage} {gain:.1f} times as fast as one: more cores, or nodes, help"
            )
        elif first is not last:
            found.append(f"{last.workers} workers {stage} hardly faster than one: more of them do not help")
        if stage == "encode":
            lighter = "encodes faster, such as zstd:1 or blosc with lz4"
            found.append(f"a lighter codec than {self.codec or 'that'} {lighter}")
        if stage in ("encode", "decode"):
            return (*found, self.plan.reason)
        if output.chunks is not None and output.shards is None and last.stored_bytes is not None:
            stored = last.stored_bytes / max(1, last.voxel_bytes)
            n_bytes = math.prod(output.chunks) * output.dtype.itemsize * stored
            if n_bytes < _SMALL_FILE:
                advice = "larger chunks, or shards, make fewer and larger files"
                return (*found, f"a chunk takes {format_bytes(n_bytes)} stored: {advice}")
        if gain < _GAIN:
            place = "read from" if stage == "read" else "written to"
            advice = "a faster one, or a codec that makes fewer bytes, helps"
            found.append(f"the place that is {place} is the limit: {advice}")
        return tuple(found)


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

    It takes about ten seconds, and longer where single chunks are large. The system is asked to forget the stored bytes
    before they are read; on file systems that do not, and for files cached elsewhere, memory is measured and not the disk.

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
        If the folder is missing or not writable, the array is empty, or the arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> result = bench(np.zeros((64, 64, 64), "uint8"), num_workers=2)
    >>> result.bottleneck in ("decode", "encode", "write")
    True
    """
    workers = checked_workers(num_workers)
    n_bytes = parse_bytes(sample, "sample")
    with ExitStack() as stack:
        source = as_source(input)
        if source is not input:
            stack.enter_context(source)
        if source.size == 0 or source.ndim == 0:
            raise InvalidArgumentError(
                f"{source.name} has shape {source.shape}: there is nothing to measure. Give an image with voxels"
            )
        try:
            scratch = tempfile.TemporaryDirectory(prefix=".bioimage-bench-", dir=Path(output).expanduser())
        except OSError as error:
            raise InvalidArgumentError(
                f"cannot write into the folder {str(output)!r}: {error.strerror}. Give as output a folder that exists, "
                "on the file system that a copy would write to"
            ) from error
        folder = Path(stack.enter_context(scratch)).resolve()
        given: dict[str, Any] = {"chunks": chunks, "shards": shards, "codec": codec}
        place, limit = folder / "array.zarr", default_memory_limit()
        planned = plan(source, place, num_workers=workers, memory_limit=limit, **given)
        assert isinstance(planned, CopyPlan)  # whole images are copied from a path to a path only
        rates, made = _measured(source, folder, NewArray(**given, zarr_format=3), n_bytes, workers)
    return BenchResult(source.name, planned, tuple(rates), os.fspath(output), made)


def _measured(
    source: Source, folder: Path, layout: NewArray, n_bytes: int, workers: int
) -> tuple[list[StageRate], str]:
    counts = sorted({1, workers})
    sample = choose_read_sample(source, n_bytes)
    rates = [reading(source, sample, n) for n in counts] + [decoding(source, sample, n) for n in counts]
    with _new_array(source, str(folder / "array.zarr"), layout) as output:
        with run_twin(source, workers, n_bytes) as twin:
            voxels = choose_write_sample(twin, output, [box for box, _ in sample], n_bytes // 2)
        codec = output.codec
        # Its files are written again below, without encoding.
        n_written = encoding(output, voxels, workers, 2 * _SECONDS).voxel_bytes
    # An array in memory, of a name that no other process or thread has.
    in_memory = f"memory://{folder.name}/array.zarr"
    with _new_array(source, in_memory, layout) as output:
        rates += [encoding(output, voxels, n) for n in counts]
    _new_array(source, in_memory, layout).close()  # without chunks, it takes no memory
    rates += [writing(folder / f"written-{n}", folder / "array.zarr", n_written, n) for n in counts]
    return [rate for rate in rates if rate is not None], codec


def _new_array(source: Source, path: str, layout: NewArray) -> Source:
    return find_target(path, source, layout, keep_values=False).open(overwrite=True, resume=False)[1]


def choose_read_sample(source: Source, n_bytes: int) -> ReadSample:
    """Choose boxes of whole chunks, evenly from all over an array, of that many bytes of voxels and at least one."""
    boxes = _spread(source, source.chunks or (1,) * source.ndim, n_bytes)
    nowhere: ReadSample = [(box, None) for box in boxes]
    origin = moving_origin(source)
    path = "" if origin is None or origin.offset is not None else str(getattr(origin.source, "path", ""))
    if origin is None or not path or "://" in path:
        return nowhere
    try:
        reader = encoded_reader(origin.source)
    except UnsupportedFormatError:
        return _shares(_files(origin.source, path), boxes, source.size) or nowhere
    assert source.chunks is not None
    found: ReadSample = []
    for box in boxes:
        cells = (range(b // c, -(-e // c)) for b, e, c in zip(box.begin, box.end, source.chunks, strict=True))
        places = [place for at in itertools.product(*cells) if (place := reader.file_of(at)) is not None]
        if places:  # where nothing is stored, nothing is read: boxes of background would tell nothing
            found.append((box, places))
    return found or nowhere


def _files(source: Source, path: str) -> list[str]:
    """Return the files that hold an array, or the first of very many."""
    known = source.files() if isinstance(source, FileSource) else []
    if known:
        return known[:_MOST_FILES]
    if Path(path).is_dir():
        return sorted(entry.path for entry in itertools.islice(files_below(path), _MOST_FILES))
    return [path]


def _shares(files: Sequence[str], boxes: Sequence[Box], n_voxels: int) -> ReadSample:
    """Return for each box as large a part of the files as it is of the array."""
    found: ReadSample = []
    for n, box in enumerate(boxes if files else ()):
        share = box.size / n_voxels * len(files)
        count = max(1, min(len(files), round(share)))
        first = n * (len(files) - count) // max(1, len(boxes) - 1)
        places = []
        for path in files[first : first + count]:
            size = Path(path).stat().st_size
            length = min(size, math.ceil(size * share / count))
            places.append(FilePlace(path, (size - length) * n // max(1, len(boxes) - 1), length))
        found.append((box, places))
    return found


def choose_write_sample(source: Source, output: Source, read: Sequence[Box], n_bytes: int) -> WriteSample:
    """Choose whole write units of an output, of that many bytes and at least one, with voxels for them.

    Where reading the voxels of these boxes would decode far more than is written, they come from the boxes to `read`.
    """
    boxes = _spread(output, output.write_unit or tuple(read[0].shape), n_bytes)
    chunks = source.chunks or (1,) * source.ndim
    to_decode = sum(box.snap(chunks, source.shape).size for box in boxes) * source.dtype.itemsize
    if to_decode <= 4 * n_bytes:
        return [(box, source.read(box)) for box in boxes]
    taken: list[AnyArray] = []
    for box in read:
        taken.append(source.read(box).ravel())
        if sum(one.nbytes for one in taken) >= n_bytes:
            break
    voxels = np.concatenate(taken)
    step = max(1, voxels.size // len(boxes))
    shifted = (np.roll(voxels, -step * n)[: box.size] for n, box in enumerate(boxes))
    return [(box, np.resize(values, box.shape)) for box, values in zip(boxes, shifted, strict=True)]


def _spread(array: Source, unit: tuple[int, ...], n_bytes: int) -> list[Box]:
    """Return boxes of whole units, not too small and evenly from all over the array, of that many bytes."""
    shape = [min(u, max(1, n)) for u, n in zip(unit, array.shape, strict=True)]
    for axis in reversed(range(len(shape))):
        times = -(-_LEAST_READ // array.dtype.itemsize // max(1, math.prod(shape)))
        if times <= 1:
            break
        shape[axis] = min(max(1, array.shape[axis]), shape[axis] * times)
    blocking = Blocking(array.shape, tuple(shape))
    n = max(1, min(blocking.n_blocks, n_bytes // (math.prod(shape) * array.dtype.itemsize)))
    # From the middle of each part: at the faces there is background more often than elsewhere.
    return [blocking[(2 * i + 1) * blocking.n_blocks // (2 * n)] for i in range(n)]


def reading(source: Source, sample: ReadSample, workers: int, seconds: float = _SECONDS) -> StageRate | None:
    """Measure how fast stored bytes come from their files; None where these are unknown."""
    items = []
    for box, places in sample:
        if places is None:
            return None
        for place in places if READS_AHEAD else ():
            # The system is asked to forget it, so that the disk is measured.
            file = FileBytes.open(place.path)
            forget_cached(file.number, place.offset, place.length)
        stored = sum(place.length for place in places)
        items.append((box.size * source.dtype.itemsize, stored, (places,)))

    def read(places: Sequence[FilePlace]) -> None:
        for place in places:
            file = FileBytes.open(place.path)
            for begin in range(0, place.length, _PIECE):
                file.read(place.offset + begin, min(_PIECE, place.length - begin))

    return _timed("read", items, read, workers, seconds)


def decoding(source: Source, sample: ReadSample, workers: int, seconds: float = _SECONDS) -> StageRate:
    """Measure how fast boxes are read and decoded; what `reading` has read before, the system still holds."""
    items = [(box.size * source.dtype.itemsize, None, (box,)) for box, _ in sample]
    with run_twin(source, workers) as twin:
        return _timed("decode", items, twin.read, workers, seconds)


def encoding(output: Source, sample: WriteSample, workers: int, seconds: float = _SECONDS) -> StageRate:
    """Measure how fast voxels are encoded into an output that is held in memory."""
    items = [(box.size * output.dtype.itemsize, None, (box, values)) for box, values in sample]
    with run_twin(output, workers) as twin:
        rate = _timed("encode", items, twin.write, workers, seconds)
        twin.flush()
    return rate


def writing(
    folder: Path, written: Path, n_bytes: int, workers: int, seconds: float = _SECONDS
) -> StageRate | None:
    """Measure how fast the files of an array of `n_bytes` get to the disk again; None if it has none but metadata."""
    paths = [Path(entry.path) for entry in files_below(str(written)) if entry.name != "zarr.json"]
    files = [path.read_bytes() for path in paths]
    if not files:
        return None
    folder.mkdir()

    def write(path: Path, data: bytes) -> None:
        try:
            with path.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise file_error(error, f"writing {str(path)!r}") from error

    share = n_bytes / max(1, sum(map(len, files)))
    items = [(share * len(data), len(data), (folder / str(n), data)) for n, data in enumerate(files)]
    return _timed("write", items, write, workers, seconds)


def _timed(
    stage: str,
    items: Iterable[tuple[float, int | None, tuple[Any, ...]]],
    work: Callable[..., object],
    workers: int,
    seconds: float,
) -> StageRate:
    """Work on threads through items (bytes of voxels, stored bytes, arguments), one at least, until time is up."""
    done: list[tuple[float, int | None]] = []
    began = time.perf_counter()

    def run(voxel_bytes: float, stored_bytes: int | None, arguments: tuple[Any, ...]) -> None:
        if not done or time.perf_counter() - began <= seconds:
            work(*arguments)
            done.append((voxel_bytes, stored_bytes))

    with ThreadPoolExecutor(workers, "bioimage-bench") as pool:
        running = [pool.submit(run, *item) for item in items]
        try:
            for one in running:
                one.result()
        finally:
            pool.shutdown(cancel_futures=True)  # after Ctrl-C too: what they write is removed next
    took = time.perf_counter() - began
    if not done:
        raise StorageError("nothing could be measured: the sample is empty")
    stored = [n for _, n in done if n is not None]
    return StageRate(stage, workers, round(sum(n for n, _ in done)), sum(stored) if stored else None, took)
