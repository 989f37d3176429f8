"""How it is known that the outputs of a run are still the arrays that it began to write.

Each output holds a mark with the token of the run; once the run has succeeded, the folder holds stamps of their metadata.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from bioimage_py.errors import InvalidArgumentError, StorageError
from bioimage_py.sources.stores import metadata_stamp, read_run_mark, remove_run_mark, write_run_mark
from bioimage_py.storage import StoreFolder, seen_in_time

if TYPE_CHECKING:
    from bioimage_py.runner.run.run_folder import RunFolder
    from bioimage_py.runner.work import Work


def mark_outputs(work: Work, run_folder: str) -> dict[str, Any]:
    """Mark the outputs of a new run and return, as JSON, what `check_outputs` knows them by."""
    token = os.urandom(8).hex()
    places = {place.path: place for place in work.marked_places()}
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
            same = metadata_stamp(place) == stamps[n]
        if not same:
            raise InvalidArgumentError(
                f"the run {str(folder.path)!r} cannot be continued: its output {place.path!r} was removed, replaced or overwritten "
                "since, so what the run has written is not there. Copy again, and remove the run folder"
            )


def finish_outputs(folder: RunFolder, patience: float = 0.0) -> None:
    """Take the marks of a run that has succeeded from its outputs; raises StorageError if one has been replaced under the run.

    For the seconds of `patience` a mark may not be seen.
    """
    run = folder.read_run()
    token, places = run["outputs"]["token"], _stored_places(run)
    if folder.read_finished() is None:
        for place in places:
            if place.is_local:
                seen_in_time(partial(_check_mark, place, token), patience)
        # A crash from here on finds a run that has finished.
        folder.write_finished([metadata_stamp(place) for place in places])
    for place in places:
        remove_run_mark(place, token)


def _check_mark(place: StoreFolder, token: str) -> None:
    if read_run_mark(place, token) is None:
        raise StorageError(
            f"the output {place.path!r} was removed, replaced or overwritten while the run wrote into it: copy again"
        )


def unmark_outputs(run: Mapping[str, Any]) -> None:
    """Take the marks of a run that did not begin from its outputs."""
    for place in _stored_places(run):
        remove_run_mark(place, run["outputs"]["token"])


def _stored_places(run: Mapping[str, Any]) -> list[StoreFolder]:
    return [StoreFolder.at(path, options) for path, options in run.get("outputs", {"places": ()})["places"]]
