"""The temporary store of a copy in two passes: where it can be, how it is made, who needs it, and whose is left behind."""

from __future__ import annotations

import atexit
import contextlib
import glob
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from bioimage_py.errors import BioimagePyError, InvalidArgumentError, RunnerError, SourceNotFoundError
from bioimage_py.metadata import ImageMetadata
from bioimage_py.planning import TEMPORARY_CODEC, RoomBeside, TwoPasses
from bioimage_py.runner import Runner
from bioimage_py.runner.run import RunFolder, default_root, find_runs
from bioimage_py.runner.work import TEMPORARY_MARK, TemporaryPlace, ended_without_folder, place_of_run
from bioimage_py.sources import ArraySpec, Codec, FileSource, family_of, open_source
from bioimage_py.storage import absolute_path, folder_above, is_alive, is_url, this_process

if TYPE_CHECKING:
    from bioimage_py.operations.copy_target import Target

_MAKER = "bioimage_py temporary store"
_UNIQUE = "XXXXXXXX"
_IN_MEMORY = "the output is held in memory: there is no place beside it"


def room_beside(target: Target) -> RoomBeside:
    """Return where a temporary store can be: in the folder that the output is in, or behind the same URL, which all workers see."""
    path, options = target.path, target.url_options
    if path is None:
        return RoomBeside(None, why_not=_IN_MEMORY)
    if options is None:
        return RoomBeside(
            None, why_not="the output is a live handle on a URL: how others reach that is not known"
        )
    return room_beside_path(path, options)


def room_beside_path(path: str, options: Mapping[str, Any]) -> RoomBeside:
    """Return where a temporary store can be beside a path, or a URL that is reached with these options."""
    if path.startswith("memory:"):
        return RoomBeside(None, why_not=_IN_MEMORY)
    if is_url(path):
        parts = urlsplit(path)
        inside = parts.path.rstrip("/")
        if not inside:
            return RoomBeside(None, why_not=f"the output takes all of {path}: there is no place beside it")
        place = urlunsplit((parts.scheme, parts.netloc, f"{inside}{TEMPORARY_MARK}{_UNIQUE}", "", ""))
        return RoomBeside(place, None, options=options)
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


def make_temporary_store(passes: TwoPasses, output: str, *, resumable: bool) -> FileSource:
    """Make the temporary store of one array and return it opened for writing.

    Parameters
    ----------
    passes
        How it shall look, and where.
    output
        Name of the array that is copied into.
    resumable
        Whether a run folder may be left from which its run can be finished.
    """
    place = _new_place(passes)
    return _make(passes, place, None, ImageMetadata(attributes={_MAKER: _maker(output, resumable)}))


def make_temporary_stores(passes: Mapping[str, TwoPasses], output: str, *, resumable: bool) -> TemporaryPlace:
    """Make one temporary store for several arrays, all of them or none, and return where it is.

    Parameters
    ----------
    passes
        How they shall look, and where, by their keys.
    output, resumable
        As for `make_temporary_store`.
    """
    from bioimage_py.storage import StoreFolder

    place = _new_place(next(iter(passes.values())))
    group = {"zarr_format": 3, "node_type": "group", "attributes": {_MAKER: _maker(output, resumable)}}
    try:
        StoreFolder.at(place.path, place.options).write_json("zarr.json", group)
        for key, one in passes.items():
            _make(one, place, key, ImageMetadata())
    except BaseException:
        place.remove()
        raise
    return place


def temporary_array(place: TemporaryPlace, key: str | None) -> FileSource:
    """Return an array of a temporary store, opened for writing."""
    found = open_source(place.path, key, mode="r+", **place.options)
    assert isinstance(found, FileSource)
    return found


def begun_place(folder: RunFolder) -> TemporaryPlace | None:
    """Return where the temporary store of a run to resume is; None if the run goes in one pass.

    Raises
    ------
    InvalidArgumentError
        If the run has done all its blocks, or its temporary store is gone.
    """
    stored = folder.read_run()["work"]
    place = place_of_run(stored)
    if place is not None and ended_without_folder(folder, stored):
        raise InvalidArgumentError(
            f"the run {str(folder.path)!r} has done all its blocks: remove the folder, or call bioimage_py.resume on it"
        )
    return place


@contextlib.contextmanager
def kept_where_needed(place: TemporaryPlace, runner: Runner, *, resumes: bool) -> Iterator[None]:
    """Remove a temporary store after an error, unless a run folder is left from which the run can be finished.

    Parameters
    ----------
    place
        Where it is.
    runner
        The backend.
    resumes
        Whether the run was begun by an earlier call, whose folder stays.
    """
    try:
        yield
    except BaseException as error:
        has_folder = isinstance(error, RunnerError) and error.tmp_folder is not None
        if not resumes and not has_folder and not _is_needed(place, runner):
            place.remove()
            if isinstance(error, KeyboardInterrupt):
                # Threads that it has found in mid-block may write for a moment yet.
                atexit.register(place.remove)
        raise


def remove_abandoned_stores(passes: TwoPasses, output: str, *, replaces: bool) -> None:
    """Remove temporary stores beside an output whose makers were killed, where no run folder can be left to finish their runs.

    Parameters
    ----------
    passes, output
        Those of a copy into the same output, and its name.
    replaces
        Whether that copy writes all of the output anew, so that no earlier run into it can be finished any more.
    """
    for place in _places_beside(passes):
        with contextlib.suppress(BioimagePyError):  # what cannot be read is not known to be ours
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
    from bioimage_py.storage import StoreFolder, folders_beginning

    urls = folders_beginning(StoreFolder.at(beginning, passes.options))
    return [TemporaryPlace(url, passes.options) for url in urls]


def _new_place(passes: TwoPasses) -> TemporaryPlace:
    return TemporaryPlace(passes.place.removesuffix(_UNIQUE) + os.urandom(4).hex(), passes.options)


def _maker(output: str, resumable: bool) -> dict[str, Any]:
    return {**this_process(), "output": output, "resumable": resumable}


def _make(passes: TwoPasses, place: TemporaryPlace, key: str | None, metadata: ImageMetadata) -> FileSource:
    spec = ArraySpec(
        shape=passes.shape,
        dtype=passes.dtype,
        chunks=passes.chunks,
        shards=passes.shards,
        codec=Codec.parse(TEMPORARY_CODEC),
        metadata=metadata,
    )
    made = family_of("zarr").create(place.path, key, spec, how={"listed": False}, **place.options)
    assert isinstance(made, FileSource)
    return made


def _is_needed(place: TemporaryPlace, runner: Runner) -> bool:
    """Whether a run folder is left whose run goes through a temporary store."""
    with contextlib.suppress(SourceNotFoundError), warnings.catch_warnings(action="ignore"):
        for found in find_runs([default_root(runner.config.tmp_root)]):
            with contextlib.suppress(BioimagePyError):  # a run folder that cannot be read is not this run's
                if place_of_run(RunFolder.open(found).read_run()["work"]) == place:
                    return True
    return False
