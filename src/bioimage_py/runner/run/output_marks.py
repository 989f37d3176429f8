"""What the outputs of a run are known by: that each is the array it was, and which of its blocks are missing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bioimage_py.errors import InvalidArgumentError, StorageError
from bioimage_py.runner.work import CompositeWork, CopyWork, DeferredWork, PyramidWork, TwoPassWork
from bioimage_py.sources import leaves
from bioimage_py.sources.stores import (
    read_mark,
    read_run_mark,
    remove_run_mark,
    settle_mark,
    write_run_mark,
)

if TYPE_CHECKING:
    from bioimage_py.geometry import IdSet
    from bioimage_py.runner.run.run_folder import RunFolder
    from bioimage_py.storage import StoreFolder


def mark_outputs(work: Any, run_folder: str) -> dict[str, Any]:
    """Mark the outputs of a new run and return, as JSON, what `check_outputs` knows them by."""
    token = os.urandom(8).hex()
    places = {place.path: place for _, _, place in _places(work, work.block_ids)}
    for place in places.values():
        write_run_mark(place, token, run_folder)
    return {"token": token, "places": [[place.path, dict(place.options)] for place in places.values()]}


def check_outputs(folder: RunFolder, run: Mapping[str, Any]) -> None:
    """Raise InvalidArgumentError if an output is not the array any more that the run has written into."""
    stamps = folder.read_finished()
    for n, place in enumerate(_stored_places(run)):
        if stamps is None:
            same = read_run_mark(place, run["outputs"]["token"]) is not None
        else:
            same = _stamp(place) == stamps[n]
        if not same:
            raise InvalidArgumentError(
                f"the run {str(folder.path)!r} cannot be continued: its output {place.path!r} was removed, replaced or overwritten "
                "since, so what the run has written is not there. Copy again, and remove the run folder"
            )


def finish_outputs(folder: RunFolder) -> None:
    """Take the marks of a run that has succeeded from its outputs; what is known of these is then in the run folder.

    Raises
    ------
    StorageError
        If an output has been replaced under the run.
    """
    run = folder.read_run()
    token, places = run["outputs"]["token"], list(_stored_places(run))
    if folder.read_finished() is None:
        for place in places:
            if place.is_local and read_run_mark(place, token) is None:
                raise StorageError(
                    f"the output {place.path!r} was removed, replaced or overwritten while the run wrote into it: copy again"
                )
        # A crash from here on finds a run that has finished.
        folder.write_finished([_stamp(place) for place in places])
    for place in places:
        remove_run_mark(place, token)


def unmark_outputs(run: Mapping[str, Any]) -> None:
    """Take the marks of a run that did not begin from its outputs."""
    for place in _stored_places(run):
        remove_run_mark(place, run["outputs"]["token"])


def settle_outputs(work: Any, done: IdSet) -> None:
    """Take the blocks that are done off the marks of outputs that are not finished, and the marks away with the last of them."""
    for part, ids, place in _places(work, done):
        if not place.is_local or read_mark(place.path) is None:
            continue
        if isinstance(part, (CopyWork, DeferredWork)):
            settle_mark(place.path, part.blocking, ids)
        elif isinstance(part, PyramidWork) and not part.block_ids - ids:
            settle_mark(place.path, part.blocking, part.block_ids)


def _places(work: Any, ids: IdSet) -> Iterator[tuple[Any, IdSet, StoreFolder]]:
    """Yield what is written for the caller: the part of the work, those of the ids that it has, and where it writes."""
    if isinstance(work, CompositeWork):
        n_asked = work.n_asked if isinstance(work, TwoPassWork) else len(work.parts)
        for part, part_ids in zip(work.parts[:n_asked], work.split(ids)[:n_asked], strict=True):
            yield from _places(part, part_ids)
        return
    if isinstance(work, DeferredWork):
        if work.place is not None:
            yield work, ids, work.place
        return
    for output in getattr(work, "outputs", ()):
        for leaf in leaves(output):
            place = leaf.mark_place()
            if place is not None:
                yield work, ids, place


def _stored_places(run: Mapping[str, Any]) -> Iterator[StoreFolder]:
    from bioimage_py.storage import StoreFolder

    for path, options in run.get("outputs", {"places": ()})["places"]:
        yield StoreFolder.at(path, options)


def _stamp(place: StoreFolder) -> str | None:
    from bioimage_py.sources.stores import metadata_stamp

    return metadata_stamp(place)
