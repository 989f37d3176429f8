"""The temporary store of a copy in two passes: where it can be, how it is made, and whose is left behind."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
from pathlib import Path

from bioimage_py.copy_target import Target
from bioimage_py.errors import BioimagePyError
from bioimage_py.metadata import ImageMetadata
from bioimage_py.planning import RoomBeside
from bioimage_py.planning.two_pass import TEMPORARY_CODEC, TwoPasses
from bioimage_py.runner.driver import driver_alive, this_process
from bioimage_py.runner.two_pass_work import TEMPORARY_MARK, remove_temporary_store
from bioimage_py.sources import Codec, FileSource, open_source
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.creating import PlannedOutput
from bioimage_py.sources.location import Location, is_url

__all__ = ["make_temporary_store", "remove_abandoned_stores", "room_beside"]

_MAKER = "bioimage_py temporary store"


def room_beside(target: Target) -> RoomBeside:
    """Return where a temporary store can be: in the folder that the output is in, which all workers see."""
    path = target.path
    if path is None:
        return RoomBeside(None, why_not="the output is held in memory: there is no place beside it")
    if is_url(path):
        return RoomBeside(None, why_not="the output is behind a URL, where no temporary store is made")
    place = Path(path).absolute()
    above = place.parent
    while not above.exists() and above != above.parent:
        above = above.parent
    if not os.access(above, os.W_OK | os.X_OK):
        return RoomBeside(None, why_not=f"nothing can be written into {str(above)!r}")
    try:
        free = shutil.disk_usage(above).free
    except OSError as error:
        return RoomBeside(
            None, why_not=f"the file system of {str(above)!r} does not say what is free ({error.strerror})"
        )
    return RoomBeside(f"{place}{TEMPORARY_MARK}XXXXXXXX", free)


def make_temporary_store(passes: TwoPasses, *, resumable: bool) -> FileSource:
    """Make the temporary store and return it opened for writing.

    Parameters
    ----------
    passes
        How it shall look, and where.
    resumable
        Whether a run folder may be left from which its run can be finished.
    """
    path = passes.place.removesuffix("XXXXXXXX") + os.urandom(4).hex()
    maker = {**this_process(), "resumable": resumable}
    spec = ArraySpec(
        shape=passes.shape,
        dtype=passes.dtype,
        chunks=passes.chunks,
        shards=passes.shards,
        codec=Codec.parse(TEMPORARY_CODEC),
        metadata=ImageMetadata(attributes={_MAKER: maker}),
    )
    made = PlannedOutput(Location(path, None, None), "zarr", spec).create(overwrite=False)
    assert isinstance(made, FileSource)
    return made


def remove_abandoned_stores(place: str) -> None:
    """Remove temporary stores beside an output whose makers were killed, where no run folder can be left to finish their runs.

    Parameters
    ----------
    place
        Where a temporary store of this output would be, with a place-holder at its end.
    """
    pattern = Path(place.removesuffix("XXXXXXXX"))
    for found in sorted(pattern.parent.glob(f"{glob.escape(pattern.name)}*")):
        with contextlib.suppress(BioimagePyError):  # what cannot be read is not known to be ours
            maker = open_source(found).metadata.attributes.get(_MAKER)
            if isinstance(maker, dict) and not maker["resumable"] and driver_alive(maker) is False:
                remove_temporary_store(str(found))
