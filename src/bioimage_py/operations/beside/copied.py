"""What an output was copied from, kept beside it, so that an update finds what has changed since.

    .bioimage-py/copied.json     the input as it was before its first voxel was read, in words that name no folder
    .bioimage-py/copied-0.parts  stamps of its stored parts, where they were asked for or cost little; compressed

Without stamps, files that are younger than the beginning of the copy have changed. That relies on the change time of files, which programs
cannot set, and on the times of folders, which tell of files that were removed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from bioimage_py.errors import InvalidArgumentError, StorageError
from bioimage_py.operations.options import CopyOptions
from bioimage_py.runner.work import input_spec
from bioimage_py.sources import Codec, FileSource, Source, family_entry, leaves
from bioimage_py.storage import SIDE_FOLDER, PartStamps
from bioimage_py.system import CHANGE_TIMES, is_local_disk

if TYPE_CHECKING:
    from bioimage_py.storage import StoreFolder

COPIED = "copied.json"
UNKNOWN = 2**64 - 1
"""The stamp of a part that an update is about to copy: no part has it."""
_VERSION, _MOST_PARTS = 1, 2**27
_OTHER_DISK, _OTHER_CLOCK = 2 * 10**9, 3600 * 10**9
"""How much, in nanoseconds, the times of another local disk, or of another machine, may lie behind."""
_Stamps = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Copied:
    """What the output with a side folder was copied from; `tables` are the stamps of each stored input, None where there are none."""

    side: StoreFolder
    about: Mapping[str, Any]
    tables: Sequence[_Stamps | None] = ()
    waits: bool = False  # nothing is written before the end of the copy
    output: Source | None = None  # a single file, which others may replace

    @classmethod
    def read(cls, side: StoreFolder | None) -> Self | None:
        """Return what is kept in a side folder; None if that is nothing, damaged, or of another version."""
        try:
            about = None if side is None else side.read_json(COPIED)
        except StorageError:
            return None
        if side is None or about is None or not _is_ours(about):
            return None
        return cls(side, about, [_read_table(side, n, one) for n, one in enumerate(about["parts"])])

    @classmethod
    def begin(cls, source: Source, output: Source, options: CopyOptions, *, is_new: bool) -> Self | None:
        """Note the input of a copy that is about to begin, before a voxel is read; None where there is nothing to go by later.

        What an earlier call noted of the same input, and did not finish, stays: its blocks were read then.
        """
        side, in_store, notes = output.side_folder(), is_in_store(output), notes_of(output)
        if side is None:
            return None
        before = None if is_new and options.folder is None else cls.read(side)
        about = _told(source, options)
        partial = options.mask is not None or options.block_ids is not None
        if before is not None and about is not None and before.is_of(about):
            if partial:
                return None  # these blocks are younger than what is noted, which does no harm
            if before.about["finished"] is not True:
                return before
        if not is_new or not in_store:
            side.delete(COPIED)
        kept = in_store or options.update
        if about is None or partial or options.folder is not None or not (kept or notes):
            return None
        clock = side if in_store else notes
        moment, device = (time.time_ns(), None) if clock is None else _moment(clock)
        parts = [one.part_stamps(cheap=not options.update) for one in leaves(source)]
        about["parts"] = [
            {**_part_json(one), **_place(leaf, moment, device)}
            for one, leaf in zip(parts, leaves(source), strict=True)
        ]
        # The mark of a new array says that it is not finished.
        about["finished"] = None if is_new and in_store and side.is_local else False
        # Each request to a bucket takes its time, and a file is not there yet.
        resumes = not options.runner.in_process or options.runner.config.asks_for_folder
        waits = not in_store or (is_new and not side.is_local and not resumes)
        tables = [None if one is None else one.stamps for one in parts]
        found = cls(side, about, tables, waits, None if in_store else output)
        if not waits:
            found.write()
        if notes is not None:
            replace(found, side=notes).write()
        return found if kept else None

    def is_of(self, about: Mapping[str, Any]) -> bool:
        """Whether this is about the same input in the same state of its metadata."""
        return all(self.about.get(name) == about[name] for name in ("input", "shape", "dtype"))

    def is_from(self, source: Source) -> bool:
        return bool(self.about["input"] == _hash(_input_text(source) or ""))

    def write(self) -> None:
        for n, table in enumerate(self.tables):
            if table is not None:
                self.side.write(_table(n), zlib.compress(table.astype("<u8").tobytes(), 1))
        self.side.write(COPIED, json.dumps(self.about).encode())

    def finish(self) -> None:
        if self.about["finished"] is False:
            found = self.with_stamp(self.output)
            tables = self.tables if self.waits else ()
            replace(found, about={**found.about, "finished": True}, tables=tables).write()

    def with_stamp(self, output: Source | None) -> Self:
        """Return this with the size and time of the file that was written, if the output is one."""
        if output is None or is_in_store(output):
            return self
        return replace(self, about={**self.about, "output": output_stamp(output)})

    @classmethod
    def of(
        cls, source: Source, side: StoreFolder, options: CopyOptions, parts: Sequence[PartStamps | None]
    ) -> Self | None:
        """Return what is kept of an update from an input whose parts had these stamps; None for one that another process could not open."""
        about = _told(source, options)
        if about is None:
            return None
        about |= {
            "finished": True,
            "parts": [
                {**_part_json(one), **_place(leaf, None, None)}
                for one, leaf in zip(parts, leaves(source), strict=True)
            ],
        }
        return cls(side, about, [None if one is None else one.stamps for one in parts])


def is_in_store(output: Source) -> bool:
    """Whether an array has a folder of its own."""
    place = output.mark_place()
    return place is not None and not place.file


def notes_of(output: Source) -> StoreFolder | None:
    """Return where it is noted, until a new file has its name, what it is copied from; None for others."""
    place = output.mark_place()
    return place.child(SIDE_FOLDER) if place is not None and place.file else None


def _is_ours(about: Mapping[str, Any]) -> bool:
    """Whether a file that may come from anybody holds what this version writes."""
    kinds = {
        "input": str,
        "name": str,
        "dtype": str,
        "began": str,
        "shape": list,
        "parts": list,
        "options": dict,
    }
    if about.get("version") != _VERSION or not all(
        isinstance(about.get(n), kind) for n, kind in kinds.items()
    ):
        return False
    if re.fullmatch(r"[<>|=][a-z]\d+", about["dtype"]) is None:
        return False
    extents = [about["shape"], *(one.get(n, []) for one in about["parts"] for n in ("grid", "extents"))]
    return all(isinstance(n, int) and 0 <= n < 2**62 for one in extents for n in one)


def options_told(options: CopyOptions) -> dict[str, str]:
    """Return the options that decide how an output looks, as text."""
    return {name: _option_text(name, value) for name, value in {**options.layout, **options.said}.items()}


def _option_text(name: str, value: Any) -> str:
    if name == "dtype":
        return str(np.dtype(value))
    if name == "codec":
        return str(Codec.parse(value))
    if name == "units" and isinstance(value, str):
        return value
    return ",".join(map(str, value)) if isinstance(value, Sequence) else str(value)


def _told(source: Source, options: CopyOptions) -> dict[str, Any] | None:
    """Return what identifies the input; None for one that another process could not open."""
    text = _input_text(source)
    if text is None:
        return None
    return {
        "version": _VERSION,
        "name": source.name.rstrip("/").rpartition("/")[2],
        "input": _hash(text),
        "computed": "$pickle" in text,
        "shape": list(source.shape),
        "dtype": source.dtype.str,
        "metadata": _hash(repr(source.metadata)),
        "options": options_told(options),
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _input_text(source: Source) -> str | None:
    try:
        return json.dumps(_stripped(input_spec(source)), sort_keys=True)
    except InvalidArgumentError:  # it exists in this process only, or its URL holds a secret
        return None


def _stripped(spec: Any) -> Any:
    """Return a spec without what differs from one call to the next, or when slices come to a stack."""
    if isinstance(spec, Mapping):
        left_out = ("mode", "slices")
        return {k: True if k == "$pickle" else _stripped(v) for k, v in spec.items() if k not in left_out}
    return [_stripped(one) for one in spec] if isinstance(spec, (list, tuple)) else spec


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _moment(side: StoreFolder) -> tuple[int, int | None]:
    """Return the time by the clock of the disk of a side folder, and the number of its device; by that of this machine, and None, behind a URL."""
    if not side.is_local:
        return time.time_ns(), None
    try:
        found = os.stat(f"{side.path}/unfinished.json")  # noqa: PTH116 - for each of many arrays
    except FileNotFoundError:
        side.write_json(COPIED, {"version": _VERSION})
        found = os.stat(f"{side.path}/{COPIED}")  # noqa: PTH116
    return found.st_mtime_ns, found.st_dev


def output_stamp(output: Source) -> str | None:
    """Return what tells that a single file is another one than was written; of a container its inode only, as it holds other arrays too."""
    if not isinstance(output, FileSource) or not os.path.isfile(output.path):  # noqa: PTH113 - a text
        return None
    container = family_entry(output.kind).container
    return f"{os.stat(output.path).st_ino} {'' if container else output.stored_stamp()}"  # noqa: PTH116


def layout_told(leaf: Source) -> str:
    """Return what has to be the same for the bytes of a chunk to mean the same voxels."""
    return _hash(repr([leaf.chunks, leaf.shards, leaf.codec, str(leaf.fill_value)]))


def folder_number(leaf: Source) -> int | None:
    """Return the number of the local folder that holds the chunks of an input: another one when it was replaced as a whole."""
    folder = leaf.mark_place()
    return None if folder is None or not folder.is_local else os.stat(folder.path).st_ino  # noqa: PTH116 - a text


def _place(leaf: Source, moment: int | None, device: int | None) -> dict[str, Any]:
    """Return which folder holds the chunk files of an input, how they are encoded, and since when files in it would have changed."""
    folder = leaf.mark_place()
    place: dict[str, Any] = {"layout": layout_told(leaf)}
    if folder is None or not folder.is_local:
        return place
    found = os.stat(folder.path)  # noqa: PTH116 - a text
    place["folder"] = found.st_ino
    if moment is None or not CHANGE_TIMES:
        return place
    if found.st_dev != device:
        moment = time.time_ns() - (_OTHER_DISK if is_local_disk(found.st_dev) else _OTHER_CLOCK)
    return {**place, "since": moment}


def _part_json(one: PartStamps | None) -> dict[str, Any]:
    return {} if one is None else {"grid": list(one.stamps.shape), "extents": list(one.extents)}


def _table(number: int) -> str:
    return f"copied-{number}.parts"


def _read_table(side: StoreFolder, number: int, part: Mapping[str, Any]) -> _Stamps | None:
    """Return the stamps of an input; None where there are none, or not all."""
    data, n_parts = side.read(_table(number)) if "grid" in part else None, math.prod(part.get("grid", ()))
    if data is None or n_parts > _MOST_PARTS:
        return None
    try:
        found = np.frombuffer(zlib.decompressobj().decompress(data, 8 * n_parts + 1), "<u8")
    except (zlib.error, ValueError):
        return None
    return found.reshape(part["grid"]).astype(np.uint64) if found.size == n_parts else None
