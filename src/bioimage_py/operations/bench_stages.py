"""How fast the stages of a copy are: stored bytes read, voxels decoded, voxels encoded, stored bytes written."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bioimage_py.chunks import FilePlace
from bioimage_py.errors import StorageError
from bioimage_py.operations.bench_sample import ReadSample, WriteSample
from bioimage_py.runner import run_twin
from bioimage_py.sources import Source
from bioimage_py.storage import FileBytes, FileFolder, file_error, files_below

_PIECE = 2**22
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class StageRate:
    """What a measurement has found.

    Attributes
    ----------
    stage
        `"read"`, `"decode"`, `"encode"` or `"write"`.
    workers
        Threads.
    voxel_bytes
        Bytes of voxels that went through, decoded.
    stored_bytes
        The same as they are stored; None where they were not at hand.
    seconds
        How long that took.
    """

    stage: str
    workers: int
    voxel_bytes: int
    stored_bytes: int | None
    seconds: float

    @property
    def bytes_per_second(self) -> float:
        """Bytes of voxels per second."""
        return self.voxel_bytes / max(self.seconds, 1e-9)


def reading(sample: ReadSample, itemsize: int, workers: int, seconds: float) -> StageRate | None:
    """Measure how fast stored bytes come from their files; None where they cannot be had.

    The system is asked to forget the files' bytes before, so that the disk is measured where it does.
    """
    if sample.places is None:
        return None
    items = list(zip(sample.boxes, sample.places, strict=True))
    for _, places in items:
        _forget(places)

    def read(item: tuple[object, Sequence[FilePlace]]) -> None:
        for place in item[1]:
            file = FileBytes.open(place.path)
            for begin in range(0, place.length, _PIECE):
                file.read(place.offset + begin, min(_PIECE, place.length - begin))

    done, took = _timed(items, read, workers, seconds)
    n_bytes = sum(box.size for box, _ in done) * itemsize
    stored = sum(place.length for _, places in done for place in places)
    return StageRate("read", workers, n_bytes, stored, took)


def decoding(source: Source, sample: ReadSample, workers: int, seconds: float) -> StageRate:
    """Measure how fast boxes are read and decoded; what `reading` has read before, the system still holds."""
    with run_twin(source, workers) as twin:
        done, took = _timed(sample.boxes, twin.read, workers, seconds)
    n_bytes = sum(box.size for box in done) * source.dtype.itemsize
    return StageRate("decode", workers, n_bytes, None, took)


def encoding(output: Source, sample: WriteSample, workers: int, seconds: float) -> StageRate:
    """Measure how fast voxels are encoded into an output that is held in memory."""
    with run_twin(output, workers) as twin:
        done, took = _timed(sample.items, lambda item: twin.write(*item), workers, seconds)
        twin.flush()
    n_bytes = sum(box.size for box, _ in done) * output.dtype.itemsize
    return StageRate("encode", workers, n_bytes, None, took)


def writing(folder: Path, written: Path, n_bytes: int, workers: int, seconds: float) -> StageRate | None:
    """Measure how fast the files of an array get to the disk; None where nothing was stored but its metadata.

    Parameters
    ----------
    folder
        Where to write; it is made.
    written
        The array that was written there before, and whose files are written again.
    n_bytes
        Bytes of voxels that are in it.
    workers, seconds
        Threads, and about how long to go on.
    """
    files = [Path(entry.path) for entry in files_below(str(written)) if entry.name != "zarr.json"]
    items = [(str(number), path.read_bytes()) for number, path in enumerate(files)]
    if not items:
        return None
    folder.mkdir()
    new = FileFolder(str(folder))

    def write(item: tuple[str, bytes]) -> None:
        key, data = item
        new.write(key, data)
        _force(new.path(key))

    done, took = _timed(items, write, workers, seconds)
    in_all, stored = sum(len(data) for _, data in items), sum(len(data) for _, data in done)
    return StageRate("write", workers, round(n_bytes * stored / max(1, in_all)), stored, took)


def _forget(places: Iterable[FilePlace]) -> None:
    """Ask the system to drop what it holds of files, where it can be asked."""
    if not hasattr(os, "posix_fadvise"):
        return
    for place in places:
        file = FileBytes.open(place.path)
        os.posix_fadvise(file.number, place.offset, place.length, os.POSIX_FADV_DONTNEED)


def _force(path: str) -> None:
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    except OSError as error:
        raise file_error(error, f"writing {path!r}") from error
    finally:
        os.close(number)


def _timed(
    items: Iterable[_Item], work: Callable[[_Item], object], workers: int, seconds: float
) -> tuple[list[_Item], float]:
    """Work through items on threads until time is up; return those that were done, at least one, and how long that took."""
    waiting = iter(list(items))
    done: list[_Item] = []
    errors: list[BaseException] = []
    lock, stop = threading.Lock(), threading.Event()
    began = time.perf_counter()

    def run() -> None:
        try:
            while not stop.is_set():
                with lock:
                    item = next(waiting, None)
                if item is None:
                    return
                work(item)
                done.append(item)
                if time.perf_counter() - began > seconds:
                    return
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            errors.append(error)
            stop.set()

    threads = [threading.Thread(target=run, name=f"bioimage-bench-{n}", daemon=True) for n in range(workers)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.1)
    finally:
        # After Ctrl-C too: what they write is removed next.
        stop.set()
        for thread in threads:
            thread.join()
    took = time.perf_counter() - began
    if errors:
        raise errors[0]
    if not done:
        raise StorageError("nothing could be measured: the sample is empty")
    return done, took
