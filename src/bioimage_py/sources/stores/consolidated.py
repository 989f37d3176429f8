"""Consolidated metadata of Zarr groups: what a group repeats of everything below it, kept right when that changes.

Readers believe it without looking further, so what it does not list is not there, and what it lists wrongly is read wrongly.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bioimage_py.errors import StorageError
from bioimage_py.storage import StoreFolder

_log = logging.getLogger(__name__)
_V2 = ".zmetadata"
_V2_FILES = (".zgroup", ".zarray", ".zattrs")
_V3_FIELD = "consolidated_metadata"
_GAPS = 2
"""Local folders without metadata that may lie between a group and what it repeats."""


@dataclass
class _Group:
    """A group with the file that holds its consolidated metadata, and what changed below it, by key; no index where it has none.

    `index` is that file in version 2, and the field of `zarr.json` in version 3, whose other content is `document`.
    """

    folder: StoreFolder
    document: Mapping[str, Any] | None
    index: Mapping[str, Any] | None
    changed: dict[str, StoreFolder] = field(default_factory=dict)
    targets: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, folder: StoreFolder) -> _Group | None:
        try:
            document = folder.read_json("zarr.json")
            if document is not None:
                is_group, index = document.get("node_type") == "group", document.get(_V3_FIELD)
            else:
                is_group = folder.read(".zgroup") is not None
                index = folder.read_json(_V2) if is_group else None
        except OSError as error:
            # Folders around an array need not be readable, nor be Zarr at all.
            _log.debug("no consolidated metadata from %s: %s", folder.path, error)
            return None
        has_index = isinstance(index, Mapping) and isinstance(index.get("metadata"), Mapping)
        return cls(folder, document, index if has_index else None) if is_group else None

    def begin(self) -> None:
        """Give it an index, where it has none."""
        if self.index is None and self.document is None:
            self.index = {"zarr_consolidated_format": 1, "metadata": {}}
        elif self.index is None:
            self.index = _inline({})

    def write(self) -> None:
        assert self.index is not None
        entries = dict(self.index["metadata"])
        for key, place in self.changed.items():
            (self._change_v2 if self.document is None else self._change_v3)(entries, key, place)
        if entries == self.index["metadata"] and entries:
            return
        # Readers put the tree together from neighbours in this order.
        index = {**self.index, "metadata": {key: entries[key] for key in sorted(entries, key=_depth_first)}}
        if self.document is None:
            self.folder.write_json(_V2, index)
        else:
            self.folder.write_json("zarr.json", {**self.document, _V3_FIELD: index})

    def stale(self, keys: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield which entries do not repeat what is stored, by key, and how; `keys` are those of all nodes below."""
        assert self.index is not None
        entries = self.index["metadata"]
        v2 = self.document is None
        listed = {name.rpartition("/")[0] if v2 else name for name in entries}
        for key in sorted(listed.union(keys) - ({""} if not v2 else set()), key=_depth_first):
            for name in _V2_FILES if v2 else ("zarr.json",):
                try:
                    stored = self.folder.child(key).read_json(name)
                except StorageError:
                    continue  # whoever reads that node says so
                said = entries.get(f"{key}/{name}".lstrip("/") if v2 else key)
                # Some writers list the attributes of a node that has none.
                if (said is None and stored) or (stored is None and said):
                    yield (
                        key,
                        f"{'do not list' if said is None else 'list'} {name}, which is {'there' if stored else 'not there'}",
                    )
                elif said and stored and (names := _differing(name, said, stored)):
                    yield key, f"differ from {name} in {', '.join(names)}"

    def _change_v2(self, entries: dict[str, Any], key: str, place: StoreFolder) -> None:
        stored = {name: found for name in _V2_FILES if (found := place.read_json(name)) is not None}
        if ".zgroup" not in stored and (".zarray" in stored or key in self.targets):
            _remove_below(entries, key)
        for name in _V2_FILES:
            entries.pop(f"{key}/{name}".lstrip("/"), None)
        entries.update({f"{key}/{name}".lstrip("/"): found for name, found in stored.items()})

    def _change_v3(self, entries: dict[str, Any], key: str, place: StoreFolder) -> None:
        if not key:
            return
        stored = place.read_json("zarr.json")
        is_group = stored is not None and stored.get("node_type") == "group"
        if not is_group and (stored is not None or key in self.targets):
            _remove_below(entries, key)
        if stored is not None:
            entries[key] = {**stored, _V3_FIELD: _inline({})} if is_group else stored


def is_listed(folder: StoreFolder) -> bool:
    """Whether a group around a folder has consolidated metadata, which have to list what is in it."""
    place, gaps = folder.parent(), 0
    while place is not None and gaps <= (_GAPS if place.is_local else 0):
        group = _Group.read(place)
        if group is not None and group.index is not None:
            return True
        gaps = 0 if group is not None else gaps + 1
        place = place.parent()
    return False


def stale_entries(folder: StoreFolder, keys: Iterable[str]) -> list[tuple[str, str]]:
    """Return which entries of the consolidated metadata of a group do not repeat what is stored, by key, and how.

    `keys` are those of all groups and arrays below it.
    """
    group = _Group.read(folder)
    return [] if group is None or group.index is None else list(group.stale(keys))


def _differing(name: str, said: Any, stored: Mapping[str, Any]) -> list[str]:
    """Return the names of what differs between an entry and the metadata file of this name."""
    if not isinstance(said, Mapping):
        return ["its kind"]
    if name == ".zattrs":
        return sorted(key for key in {*said, *stored} if said.get(key) != stored.get(key))
    both = sorted({*said} & {*stored} - {_V3_FIELD, "attributes"})
    same = (said.get("attributes") or {}) == (stored.get("attributes") or {})
    return [key for key in both if not _alike(said[key], stored[key])] + ["attributes"] * (not same)


def _alike(one: Any, other: Any) -> bool:
    """Whether two values agree; writers may leave out, or add, what has a default."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return all(_alike(one[key], other[key]) for key in {*one} & {*other})
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    return bool(one == other)


def update_consolidated(changed: Iterable[StoreFolder], begin: Iterable[StoreFolder] = ()) -> None:
    """Bring the consolidated metadata of all groups around what changed up to date, where there is some, or shall begin to be some."""
    groups: dict[str, _Group | None] = {}

    def group_at(folder: StoreFolder) -> _Group | None:
        # The folder around a relative path is an absolute one: both names of a group have to lead to one entry.
        place = folder.spec()["path"] if folder.is_local else folder.path
        if place not in groups:
            groups[place] = _Group.read(folder)
        return groups[place]

    for folder in begin:
        if (group := group_at(folder)) is not None:
            group.begin()
            group.changed[""] = folder
    for target in changed:
        # Names from a group down to the target: "", "a", "image/a", …, and the folders that are passed on the way.
        passed: list[StoreFolder] = []
        place: StoreFolder | None = target
        gaps = 0
        while place is not None and gaps <= (_GAPS if place.is_local else 0):
            passed.append(place)
            group = group_at(place)
            if group is not None and group.index is not None:
                keys = _keys(passed)
                group.targets.add(keys[0])
                group.changed.update(zip(keys, passed, strict=True))
            gaps = 0 if group is not None or place is target else gaps + 1
            place = place.parent()
    for group in groups.values():
        if group is not None and group.index is not None and group.changed:
            group.write()


def _keys(passed: list[StoreFolder]) -> list[str]:
    """Return the keys of folders, from the innermost to the group itself, below that group."""
    names = [folder.name for folder in passed[:-1]][::-1]
    return ["/".join(names[:n]) for n in reversed(range(len(passed)))]


def _inline(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": "inline", "must_understand": False, "metadata": entries}


def _remove_below(entries: dict[str, Any], key: str) -> None:
    for name in [name for name in entries if name == key or name.startswith(f"{key}/")]:
        del entries[name]


def _depth_first(key: str) -> tuple[int, str]:
    return key.count("/"), key
