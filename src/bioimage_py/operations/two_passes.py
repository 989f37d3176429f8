"""A run in two passes, into a temporary store and from it into the outputs: making, keeping and removing the store."""

from __future__ import annotations

import atexit
import contextlib
import glob
import itertools
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit, urlunsplit

from bioimage_py.errors import (
    BioimagePyError,
    InvalidArgumentError,
    MissingDependencyError,
    RunInterrupted,
    RunnerError,
)
from bioimage_py.geometry import Blocking, IdSet
from bioimage_py.metadata import ImageMetadata
from bioimage_py.operations.options import RunOptions
from bioimage_py.operations.target import Target
from bioimage_py.planning import TEMPORARY_CODEC, CopyPlan, RoomBeside, TwoPasses
from bioimage_py.runner import Resources
from bioimage_py.runner.run import RunFolder
from bioimage_py.runner.work import (
    TEMPORARY_MARK,
    TemporaryPlace,
    ended_without_folder,
    place_of_run,
    stored_blocks,
)
from bioimage_py.sources import ArraySpec, Codec, FileSource, family_of, open_source
from bioimage_py.storage import absolute_path, folder_above, is_alive, is_url, this_process

_MAKER = "bioimage_py temporary store"
_UNIQUE = "XXXXXXXX"
_IN_MEMORY = "the output is held in memory: there is no place beside it"


class FirstPass(NamedTuple):
    """The copy of one array into the temporary store."""

    key: str | None
    blocks: tuple[Blocking, tuple[int, ...], IdSet]
    """Blocking, shape of the groups and blocks, as a work takes them."""
    n_bytes: int


@dataclass(frozen=True)
class TwoPassRun:
    """A run in two passes whose temporary store exists."""

    place: TemporaryPlace
    first: Mapping[int, FirstPass]
    """The first pass of each array that has two, by the number of the array in the plan."""
    resources: Resources

    @classmethod
    def begin(
        cls, arrays: Iterable[tuple[str | None, CopyPlan]], output: str, options: RunOptions, resources: Resources, *,
        replaces: bool, goes_on: bool,
    ) -> Self | None:  # fmt: skip
        """Make the temporary store, or find the one of the run to resume; None if all arrays are copied in one pass.

        Arrays have a key, or None if they are the whole output. A resumed run keeps its number of passes, whatever space is free
        now; `goes_on` says that the same call goes on after a kill, `replaces` that the whole output is rewritten, so that earlier
        runs into it cannot be finished any more.
        """
        if options.folder is not None:
            return cls._begun(RunFolder.open(options.folder))
        planned = {n: (key, plan.passes) for n, (key, plan) in enumerate(arrays) if plan.passes is not None}
        if not planned:
            return None
        passes = dict(planned.values())
        _remove_abandoned(next(iter(passes.values())), output, replaces=replaces)
        maker = {**this_process(), "output": output, "resumable": goes_on or options.keeps_folder}
        place = _make_store(passes, maker)
        first = {
            n: FirstPass(
                key, (Blocking(one.shape, one.block_shape), one.block_shape, one.block_ids), one.n_bytes
            )
            for n, (key, one) in planned.items()
        }
        return cls(place, first, resources)

    @classmethod
    def _begun(cls, folder: RunFolder) -> Self | None:
        run = folder.read_run()
        work = run["work"]
        place = place_of_run(work)
        if place is None:
            return None
        if ended_without_folder(folder, work):
            raise InvalidArgumentError(
                f"the run {str(folder.path)!r} has done all its blocks: remove the folder, or call bioimage_py.resume on it"
            )
        first = {}
        for n, part in zip(work["waves"][-1], work["parts"][work["n_asked"] :], strict=True):
            key, blocks = part["outputs"][0].get("key"), stored_blocks(part, folder)
            blocking, _, ids = blocks
            n_bytes = _array_at(place, key).nbytes * len(ids) // max(1, blocking.n_blocks)
            first[n] = FirstPass(key, blocks, n_bytes)
        return cls(place, first, Resources(run["threads"], run["cache_bytes"]))

    @property
    def n_bytes(self) -> int:
        """Bytes that are written into the temporary store."""
        return sum(one.n_bytes for one in self.first.values())

    def array(self, number: int) -> FileSource:
        """Open the array of the temporary store for an array of the plan, for writing."""
        return _array_at(self.place, self.first[number].key)

    def key_of(self, block_id: int) -> str | None:
        """Return the key of the array of a block of the first passes, whose blocks are numbered from 0 through all arrays."""
        ends = itertools.accumulate(one.blocks[0].n_blocks for one in self.first.values())
        return next(one.key for one, end in zip(self.first.values(), ends, strict=True) if block_id < end)

    @contextlib.contextmanager
    def kept_where_needed(self, options: RunOptions) -> Iterator[None]:
        """Remove the temporary store after an error, unless a run folder is left from which the run can be finished."""
        try:
            yield
        except BaseException as error:
            if isinstance(error, (RunnerError, RunInterrupted)):
                is_needed = error.tmp_folder is not None
            else:
                # These say that the backend refuses the run; after any other error its folder may be there.
                refused = isinstance(error, (InvalidArgumentError, MissingDependencyError))
                is_needed = options.keeps_folder and not refused
            if options.folder is None and not is_needed:
                self.place.remove()
                if isinstance(error, KeyboardInterrupt):
                    # Threads that were interrupted within a block may still write for a moment.
                    atexit.register(self.place.remove)
            raise


def _array_at(place: TemporaryPlace, key: str | None) -> FileSource:
    found = open_source(place.path, key, mode="r+", **place.options)
    assert isinstance(found, FileSource)
    return found


def room_beside(target: Target) -> RoomBeside:
    """Return where a temporary store can be: beside the output, where all workers can reach it."""
    if target.path is None:
        return RoomBeside(None, why_not=_IN_MEMORY)
    options = target.url_options
    if options is None:
        return RoomBeside(
            None, why_not="the output is a live handle on a URL: how others reach that is not known"
        )
    return room_beside_path(target.path, options)


def room_beside_path(path: str, options: Mapping[str, Any]) -> RoomBeside:
    """Return where a temporary store can be beside a path, or a URL that is opened with these options."""
    if path.startswith("memory:"):
        return RoomBeside(None, why_not=_IN_MEMORY)
    if is_url(path):
        parts = urlsplit(path)
        inside = parts.path.rstrip("/")
        if not inside:
            return RoomBeside(None, why_not=f"the output takes all of {path}: there is no place beside it")
        place = urlunsplit((parts.scheme, parts.netloc, f"{inside}{TEMPORARY_MARK}{_UNIQUE}", "", ""))
        from bioimage_py.storage import StoreFolder, url_options

        return RoomBeside(place, None, options=url_options(StoreFolder.at(path, options).options))
    output = absolute_path(path)
    above = folder_above(output)
    if not os.access(above, os.W_OK | os.X_OK):
        return RoomBeside(None, why_not=f"nothing can be written into {str(above)!r}")
    try:
        free = shutil.disk_usage(above).free
    except OSError as error:
        return RoomBeside(
            None, why_not=f"the file system of {str(above)!r} does not say what is free ({error.strerror})"
        )
    return RoomBeside(f"{output}{TEMPORARY_MARK}{_UNIQUE}", free)


def _make_store(passes: Mapping[str | None, TwoPasses], maker: Mapping[str, Any]) -> TemporaryPlace:
    """Make the temporary store: one array, or a group of several; if one cannot be made, none stays."""
    from bioimage_py.storage import StoreFolder

    one = next(iter(passes.values()))
    place = TemporaryPlace(one.place.removesuffix(_UNIQUE) + os.urandom(4).hex(), one.options)
    if None in passes:
        _make_array(one, place, None, {_MAKER: maker})
        return place
    group = {"zarr_format": 3, "node_type": "group", "attributes": {_MAKER: maker}}
    try:
        StoreFolder.at(place.path, place.options).write_json("zarr.json", group)
        for key, one in passes.items():
            _make_array(one, place, key, {})
    except BaseException:
        place.remove()
        raise
    return place


def _make_array(
    passes: TwoPasses, place: TemporaryPlace, key: str | None, attributes: Mapping[str, Any]
) -> None:
    spec = ArraySpec(
        shape=passes.shape,
        dtype=passes.dtype,
        chunks=passes.chunks,
        shards=passes.shards,
        codec=Codec.parse(TEMPORARY_CODEC),
        metadata=ImageMetadata(attributes=dict(attributes)),
    )
    family_of("zarr").create(place.path, key, spec, how={"listed": False}, **place.options)


def _remove_abandoned(passes: TwoPasses, output: str, *, replaces: bool) -> None:
    """Remove temporary stores beside an output whose processes were killed and whose runs cannot be finished."""
    for place in _places_beside(passes):
        with contextlib.suppress(BioimagePyError):  # not known to be ours
            attributes = (place.metadata() or {}).get("attributes")
            maker = attributes.get(_MAKER) if isinstance(attributes, dict) else None
            if not isinstance(maker, dict) or is_alive(maker) is not False:
                continue
            if not maker["resumable"] or (replaces and maker.get("output") == output):
                place.remove()


def _places_beside(passes: TwoPasses) -> list[TemporaryPlace]:
    beginning = passes.place.removesuffix(_UNIQUE)
    if not is_url(beginning):
        pattern = Path(beginning)
        found = sorted(pattern.parent.glob(f"{glob.escape(pattern.name)}*"))
        return [TemporaryPlace(str(path)) for path in found]
    from bioimage_py.storage import StoreFolder

    urls = StoreFolder.at(beginning, passes.options).folders_beginning()
    return [TemporaryPlace(url, passes.options) for url in urls]
