"""A copy in two passes: into a temporary store, and from there into the output."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bioimage_py.errors import BioimagePyWarning, InvalidArgumentError, StorageError
from bioimage_py.geometry import IdSet
from bioimage_py.runner.account import read_account
from bioimage_py.runner.composite_work import CompositeWork

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bioimage_py.kernels.tally import Tally
    from bioimage_py.runner.copy_work import CopyWork
    from bioimage_py.runner.run_folder import RunFolder

__all__ = [
    "TEMPORARY_MARK",
    "TwoPassWork",
    "asked_of",
    "close_temporary_store",
    "ended_without_folder",
    "remove_temporary_store",
    "two_pass_waves",
]

TEMPORARY_MARK = ".rechunk-"
"""In the name of every temporary store: nothing else is removed as one."""

_OUT, _IN = 0, 1


def two_pass_waves() -> tuple[tuple[int, ...], ...]:
    """Return the order of the passes: the blocks of the output have the first numbers, and come last."""
    return ((_IN,), (_OUT,))


@dataclass(frozen=True)
class TwoPassWork(CompositeWork):
    """The copy into the output, whose blocks have the numbers that the caller knows, after the copy into a temporary store.

    Attributes
    ----------
    parts, waves
        The copy out of the temporary store, and the one into it; see `two_pass_waves`.
    temporary
        Folder of the temporary store, which is removed when all is done.
    """

    temporary: str = ""

    def narrowed(self, block_ids: IdSet) -> TwoPassWork:
        """Return the same work on fewer blocks."""
        return cast("TwoPassWork", super().narrowed(block_ids))

    def tally(self) -> Tally:
        """Return what was done so far: what came from the input and went into the output, and the time of both passes."""
        out, into = (cast("CopyWork", self.parts[n]).tally() for n in (_OUT, _IN))
        return replace(out + into, bytes_in=into.bytes_in, bytes_out=out.bytes_out)


def asked_of(work: Any, block_ids: IdSet) -> IdSet:
    """Return those of the blocks that the caller has numbers for: in two passes those of the output."""
    if not isinstance(work, TwoPassWork):
        return block_ids
    return work.split(block_ids)[_OUT]


def close_temporary_store(work: Any) -> None:
    """Remove the temporary store of a run that has succeeded, if it has one.

    Raises
    ------
    StorageError
        If it is not there any more: its voxels would have been read as the fill value.
    """
    if not isinstance(work, TwoPassWork):
        return
    if not Path(work.temporary, "zarr.json").exists():
        raise StorageError(
            f"the temporary store {work.temporary!r} has gone while it was read: voxels written since are wrong. Copy again"
        )
    remove_temporary_store(work.temporary)


def ended_without_folder(folder: RunFolder, stored: Mapping[str, Any]) -> bool:
    """Whether a stored run has done all and died while it removed its temporary store, or before it removed its run folder.

    Raises
    ------
    InvalidArgumentError
        If the temporary store is gone and blocks are missing.
    """
    temporary = stored.get("temporary")
    if temporary is None or Path(temporary, "zarr.json").exists():
        return False
    if not IdSet.from_json(stored["block_ids"]) - read_account(folder, errors=False).done:
        return True
    raise InvalidArgumentError(
        f"this run cannot be continued: its temporary store {temporary!r} is gone. Copy again, and remove {str(folder.path)!r}"
    )


def remove_temporary_store(path: str) -> None:
    """Remove a temporary store, if it is there; what cannot be removed is said in a warning."""
    if TEMPORARY_MARK not in os.path.basename(path):  # noqa: PTH119 - a text stays a text
        raise ValueError(f"{path!r} is no temporary store")
    for wait in (0.1, 0.4, None):
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            if not os.path.lexists(path):
                return
        except OSError as error:
            if wait is None:
                warnings.warn(
                    f"the temporary store {path!r} cannot be removed: {error.strerror}. Remove it by hand",
                    BioimagePyWarning,
                    stacklevel=3,
                )
                return
            time.sleep(wait)  # a writer that was believed dead has just made a file
        else:
            return
