"""Marks in a stored array that is not whole yet, or that a run writes into; other readers pass them by.

They are files in a folder of their own in the folder of the array, as no reader of Zarr, N5 or precomputed looks for chunks there:

    .bioimage-py/unfinished.json    in an array that a copy makes, from before its metadata until its end: which call makes it, and what is missing
    .bioimage-py/run-<token>.json   in the outputs of a run that keeps a run folder, until its end: the array is the one it was
    .bioimage-py/bioimage-run-*/    the run folder that a local copy keeps by itself, in the first array that it makes

Of a file that is made under a temporary name, and that the same call can go on with, they are in a folder of that name in the folder beside it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bioimage_py.errors import OutputExistsError
from bioimage_py.geometry import Blocking, IdSet
from bioimage_py.sources.identity import leaves
from bioimage_py.sources.registry import families
from bioimage_py.storage import (
    SIDE_FOLDER,
    is_alive,
    is_url,
    remove_files_of_the_dead,
    remove_leftovers,
    this_process,
)

if TYPE_CHECKING:
    from bioimage_py.sources.base import Source
    from bioimage_py.storage import StoreFolder

_log = logging.getLogger(__name__)
MARK_FOLDER = SIDE_FOLDER
RECORD_FILE = "ro-crate-metadata.json"
"""In which an RO-Crate tells about the folder around it."""
RECORD_MAKER = "#bioimage_py"
"""The id, in a record of a copy, of what made it."""
_NEW = "unfinished.json"


class NewMarks:
    """Marks arrays that a call makes, each before its metadata are written."""

    def __init__(self, call: Mapping[str, Any] | None = None) -> None:
        self._content = {**this_process(), "grid": None, "missing": None, "call": call}
        self._known: dict[str, tuple[Blocking, IdSet]] = {}
        self.is_known = (call or {}).get("input") is not None

    def add(self, place: StoreFolder, **more: Any) -> None:
        if place.is_local:
            try:
                os.makedirs(place.path, exist_ok=True)  # noqa: PTH103 - a text stays a text
                os.mkdir(f"{place.path}/{MARK_FOLDER}")  # noqa: PTH102
            except FileExistsError as error:
                raise OutputExistsError(f"{place.path} is being made by another call") from error
        known = self._known.pop(place.path, None)
        _write(place, {**self._content, **more, **({} if known is None else _missing(*known))})

    def expect(self, folder: str, blocking: Blocking, block_ids: IdSet) -> None:
        """Have the missing blocks in the mark of an array that is still to be made."""
        self._known[folder] = blocking, block_ids

    def describe(self, blocking: Blocking, block_ids: IdSet) -> None:
        self._content.update(_missing(blocking, block_ids))


_marking: ContextVar[NewMarks | None] = ContextVar("bioimage_py_new_marks", default=None)


@contextlib.contextmanager
def marking_new(call: Mapping[str, Any] | None = None) -> Iterator[NewMarks]:
    marks = NewMarks(call)
    token = _marking.set(marks)
    try:
        yield marks
    finally:
        _marking.reset(token)


def mark_new(place: StoreFolder) -> None:
    """Mark an array whose metadata are about to be written, if its maker wants that."""
    marks = _marking.get()
    if marks is not None and not place.path.startswith("memory:"):
        marks.add(place)


def mark_file(file: str, partial: str) -> StoreFolder | None:
    """Forget what a killed call has left beside a new file, and mark it if the same call can go on; return where.

    `partial` is its temporary name: later it is known by its inode.
    """
    from bioimage_py.storage import StoreFolder

    marks, place = _marking.get(), StoreFolder.beside(file)
    if place is not None:
        remove_mark(place)
    if marks is None or place is None or not marks.is_known:
        return None
    marks.add(place, inode=os.stat(partial).st_ino)  # noqa: PTH116 - a text
    return place


def read_mark(place: StoreFolder) -> dict[str, Any] | None:
    """Return what the mark of an array that is not finished says, nothing if its writer died over it; None for others."""
    if place.is_local:
        return _read(Path(place.path, MARK_FOLDER, _NEW))
    return None if place.read_only else place.child(MARK_FOLDER).read_json(_NEW)


def remove_mark(place: StoreFolder) -> None:
    """Remove the mark of an array; beside a file, with all that was kept until it has its name."""
    if place.file:
        shutil.rmtree(f"{place.path}/{MARK_FOLDER}", ignore_errors=True)
        with contextlib.suppress(OSError):
            os.rmdir(place.path)  # noqa: PTH106 - a text
        return
    _remove(place, _NEW)


def renew_mark(place: StoreFolder, **said: Any) -> None:
    """Change what a mark says; one that cannot be written, on a full disk, still says that the array is not finished."""
    try:
        mark = read_mark(place)
        if mark is not None:
            _write(place, {**mark, **said})
    except OSError as error:
        _log.info("the mark in %s is not up to date: %s", place.path, error)


def is_marked(folder: StoreFolder) -> bool:
    """Whether a local array is marked as not finished."""
    return folder.is_local and os.path.exists(f"{folder.path}/{MARK_FOLDER}/{_NEW}")  # noqa: PTH110 - called for each array of a plate


def unfinished_text(source: Source) -> str:
    """Return what is missing of an array that a copy has not finished, and what to do; empty for others."""
    for leaf in leaves(source):
        place = leaf.mark_place()
        if place is not None and (text := unfinished_at(place)):
            return text
    return ""


def unfinished_at(place: StoreFolder) -> str:
    """Return what the mark of an array says that is missing, and what to do; empty where there is none."""
    mark = read_mark(place)
    if mark is None:
        return ""
    text = f"not finished{_how_far(mark)}"
    if not mark.get("ended") and is_alive(mark):
        return f"{text}; process {mark['pid']} is writing it"
    folder = kept_run(place)
    if folder is not None:
        return f"{text}; finish it with bioimage-py resume {folder}"
    goes_on = place.is_local and (mark.get("call") or {}).get("input") is not None
    return f"{text}; the same call {'continues' if goes_on else 'begins anew'}"


def _how_far(mark: Mapping[str, Any]) -> str:
    done, blocks = mark.get("run") or (None, mark.get("blocks"))
    if done is None and mark.get("missing") is not None and blocks:
        done = blocks - len(IdSet.from_json(mark["missing"]))
    return "" if done is None else f": {done:,} of {blocks:,} blocks"


def kept_run(place: StoreFolder) -> str | None:
    """Return the folder of a run into a local array, if that was kept elsewhere and may be there."""
    folders = [str(run.get("run_folder")) for _, run in _run_marks(place.path)] if place.is_local else []
    own = Path(place.path, MARK_FOLDER)
    return next((one for one in folders if Path(one).parent.name != own.name and _may_be_there(one)), None)


def settle_mark(place: StoreFolder, blocking: Blocking, done: IdSet, *, keep: bool = False) -> None:
    """Take the blocks that are done off the mark of an unfinished array, and unless `keep` the mark away with the last of them."""
    mark = read_mark(place)
    if mark is None:
        return
    every = IdSet.from_range(blocking.n_blocks)
    known = mark.get("missing") is not None and mark.get("grid") == _grid(blocking)
    missing = (IdSet.from_json(mark["missing"]) if known else every) - done
    if not missing and not keep:
        if mark.get("ended"):
            _forget_own_run(place)  # another call has done what that left
        _remove(place, _NEW)
        if mark.get("pid") != os.getpid() and place.is_local:
            remove_leftovers(place.path)  # of the call that was killed, or failed
    elif known or not missing:
        renew_mark(place, missing=missing.to_json(), run=None, ended=True)


def _forget_own_run(place: StoreFolder) -> None:
    """Remove the journal beside an array, and the marks of its run in all arrays."""
    from bioimage_py.storage import StoreFolder

    for folder in Path(place.path, MARK_FOLDER).glob("bioimage-run-*") if place.is_local else ():
        outputs = (_read(folder / "run.json") or {}).get("outputs", {"places": ()})
        for path, options in outputs["places"]:
            remove_run_mark(StoreFolder.at(path, options), outputs["token"])
        shutil.rmtree(folder, ignore_errors=True)


def is_abandoned(folder: StoreFolder) -> bool:
    """Whether a local folder holds nothing but empty arrays whose makers have died: whoever makes them again loses nothing."""
    return folder.is_local and holds_metadata_only(folder.path, marks_of_the_dead=True)


def holds_metadata_only(folder: str, *, marks_of_the_dead: bool = False) -> bool:
    """Whether there are no chunks below a folder, and if that is asked, marks of unfinished arrays of processes that have all died."""
    metadata_files = {name for one in families() for name in (*one.markers, *one.metadata_files)}
    marked = False
    for above, folders, names in os.walk(folder):
        if os.path.basename(above) == MARK_FOLDER:  # noqa: PTH119 - a text stays a text
            folders.clear()
            for name in names if marks_of_the_dead else ():
                if name != _NEW and not name.startswith("run-"):
                    continue
                mark = _read(Path(above, name)) or {}
                if is_alive(mark) is not False:
                    return False
                marked |= name == _NEW
        elif not metadata_files.issuperset(names):
            return False
    return marked or not marks_of_the_dead


def _may_be_there(run_folder: str) -> bool:
    """Whether a run folder is there; one in a bucket may be, as a mark on a disk is no reason to ask a server."""
    return is_url(run_folder) or os.path.exists(run_folder)  # noqa: PTH110 - a text


def write_run_mark(place: StoreFolder, token: str, run_folder: str) -> None:
    """Mark an array as an output of a run; marks of runs that never came to have a folder go."""
    if place.is_local:
        for name, mark in _run_marks(place.path):
            if is_alive(mark) is False and not _may_be_there(str(mark.get("run_folder"))):
                _remove(place, name)
    place.child(MARK_FOLDER).write_json(_run(token), {**this_process(), "run_folder": run_folder})


def read_run_mark(place: StoreFolder, token: str) -> dict[str, Any] | None:
    """Return the mark of a run in one of its outputs; None where the array has another in its place, or is gone."""
    return place.child(MARK_FOLDER).read_json(_run(token))


def remove_run_mark(place: StoreFolder, token: str) -> None:
    _remove(place, _run(token))


def forget_runs_into(output: Source) -> None:
    """Make earlier runs into an array unresumable: all of it is written again."""
    for leaf in leaves(output):
        place = leaf.mark_place()
        if place is not None and place.is_local:
            for name, _ in _run_marks(place.path):
                _remove(place, name)
        elif place is not None:
            side = place.child(MARK_FOLDER)
            objects = side.objects()
            for name in () if objects is None else objects.names("run-"):
                side.delete(name)


def _run_marks(folder: str) -> list[tuple[str, dict[str, Any]]]:
    paths = sorted(Path(folder, MARK_FOLDER).glob(_run("*")))
    return [(path.name, mark) for path in paths if (mark := _read(path)) is not None]


def _run(token: str) -> str:
    return f"run-{token}.json"


def _missing(blocking: Blocking, block_ids: IdSet) -> dict[str, Any]:
    return {"grid": _grid(blocking), "missing": block_ids.to_json(), "blocks": len(block_ids)}


def _grid(blocking: Blocking) -> dict[str, Any]:
    box = blocking.roi
    return {
        "shape": list(blocking.shape),
        "block_shape": list(blocking.block_shape),
        "roi": [list(box.begin), list(box.end)],
    }


def _read(path: Path) -> dict[str, Any] | None:
    """Return what is in a mark: nothing, if its writer died over it."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(place: StoreFolder, content: Mapping[str, Any]) -> None:
    place.child(MARK_FOLDER).write_json(_NEW, content)


def _remove(place: StoreFolder, name: str) -> None:
    if not place.is_local:
        place.child(MARK_FOLDER).delete(name)
        return
    folder = Path(place.path, MARK_FOLDER)
    with contextlib.suppress(FileNotFoundError):
        (folder / name).unlink()
    with contextlib.suppress(OSError):
        remove_files_of_the_dead(str(folder))
        folder.rmdir()  # and nothing that others have put there
