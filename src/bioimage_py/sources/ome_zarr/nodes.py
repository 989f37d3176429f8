"""The metadata files of an OME-Zarr, each read once: a plate has tens of thousands of them, and many are equal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from bioimage_py.sources.stores import Node, group_attributes
from bioimage_py.sources.zarr import read_node
from bioimage_py.storage import StoreFolder

_T = TypeVar("_T")
_ARRAY_V2 = frozenset({".zarray", ".zattrs"})


class Nodes:
    """The groups and arrays of a container as they were when they were first asked for.

    Groups in a local folder are listed: files that are not there are not asked for. Equal metadata are one object.
    """

    def __init__(self) -> None:
        self._found: dict[str, Node | None] = {}
        self._equal: dict[Any, Any] = {}

    def group(self, folder: StoreFolder) -> Node | None:
        """Return the group, or array, in a folder of which it is not known to be an array."""
        if folder.path not in self._found:
            node = None
            if self._is_there(folder):
                names = frozenset(entry.name for entry in folder.entries()) if folder.is_local else None
                node = self._shared(read_node(folder, self._one(names, names)))
            self._found[folder.path] = node
        return self._found[folder.path]

    def array(self, folder: StoreFolder) -> Node | None:
        """Return the array in a folder; the folder is not listed, as it can hold very many chunks."""
        if folder.path not in self._found:
            around, node = self._around(folder), None
            beside = frozenset[str]() if around is None else around.names or ()
            if self._is_there(folder):
                if ".zgroup" in beside and "zarr.json" not in beside:
                    node = read_node(folder, _ARRAY_V2)
                node = self._shared(node or read_node(folder))
            self._found[folder.path] = node
        return self._found[folder.path]

    def attributes(self, folder: StoreFolder) -> Mapping[str, Any]:
        """Return the attributes of a group, also of one that has nothing else."""
        node = self.group(folder)
        if node is not None and node.attributes:
            return node.attributes
        return group_attributes(folder) if self._is_there(folder) else {}

    def _around(self, folder: StoreFolder) -> Node | None:
        return self._found.get(folder.path.rpartition("/")[0])

    def _is_there(self, folder: StoreFolder) -> bool:
        around = self._around(folder)
        return around is None or around.names is None or folder.path.rpartition("/")[2] in around.names

    def _shared(self, node: Node | None) -> Node | None:
        if node is None:
            return None
        array = None if node.array is None else self._one(node.array, json.dumps(node.array))
        return replace(node, array=array, attributes=self._one(node.attributes, json.dumps(node.attributes)))

    def _one(self, value: _T, key: Any) -> _T:
        """Return the first of all values that have the same key."""
        found: _T = self._equal.setdefault(key, value)
        return found
