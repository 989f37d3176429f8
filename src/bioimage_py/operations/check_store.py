"""What is below a path: its groups, images and arrays, held against what their metadata say, and the files that belong to none."""

from __future__ import annotations

import bisect
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

from bioimage_py.errors import BioimagePyError, BioimagePyWarning, StorageError, UnsupportedFormatError
from bioimage_py.metadata import images_of
from bioimage_py.operations.check_array import ArrayCheck, Finding
from bioimage_py.sources import Family, FamilyEntry, Source, families
from bioimage_py.sources.ome_zarr import check_levels, wrong_scales
from bioimage_py.sources.stores import MARK_FOLDER, Node, StoreFamily, stale_entries, unfinished_text
from bioimage_py.storage import StoreFolder, files_below, is_leftover, natural_key

_PASSED_BY = re.compile(
    r"\.DS_Store|Thumbs\.db|desktop\.ini|\._.*|ro-crate-metadata\.json|(README|LICENSE)(\..*)?", re.IGNORECASE
)
"""Files that people and systems put beside data."""


def _loaded(entry: FamilyEntry) -> Family | None:
    try:
        return entry.load()
    except UnsupportedFormatError as error:
        warnings.warn(str(error), BioimagePyWarning, stacklevel=2)  # another distribution's
        return None


class _Files(ABC):
    """The files below a place, by their names below it."""

    @abstractmethod
    def in_folder(self, key: str) -> tuple[set[str], list[str]]:
        """Return the names of the files and of the folders in a folder."""

    @abstractmethod
    def below(self, key: str) -> Iterable[str]:
        """Return the names of all files below a folder, below that folder."""


class _LocalFiles(_Files):
    def __init__(self, root: StoreFolder) -> None:
        self._root = root

    def in_folder(self, key: str) -> tuple[set[str], list[str]]:
        folder = self._root.child(key)
        folders = [entry.name for entry in folder.folders()]
        return {entry.name for entry in folder.entries()}.difference(folders), folders

    def below(self, key: str) -> Iterable[str]:
        folder = self._root.child(key).path.rstrip("/")
        return (entry.path[len(folder) + 1 :].replace("\\", "/") for entry in files_below(folder))


class _Objects(_Files):
    """The objects below a URL, listed once."""

    def __init__(self, names: list[str]) -> None:
        self._names = sorted(names)

    def in_folder(self, key: str) -> tuple[set[str], list[str]]:
        begin, files, folders = f"{key}/" if key else "", set(), []
        at = bisect.bisect_left(self._names, begin)
        while at < len(self._names) and self._names[at].startswith(begin):
            name, slash, _ = self._names[at][len(begin) :].partition("/")
            if slash:
                folders.append(name)
                at = bisect.bisect_left(self._names, f"{begin}{name}0")  # the letter behind the slash
            else:
                files.add(name)
                at += 1
        return files, folders

    def below(self, key: str) -> Iterable[str]:
        begin = f"{key}/" if key else ""
        first, last = (
            bisect.bisect_left(self._names, text) for text in (begin, f"{key}0" if key else "\U0010ffff")
        )
        return (name[len(begin) :] for name in self._names[first:last])


class StoreCheck:
    """All that is below a folder or URL of a store; `findings` are those that are about no chunk."""

    def __init__(self, root: StoreFolder, key: str | None) -> None:
        self._root, self._key = root, key or ""
        self.findings: list[Finding] = []
        self.images: list[list[str]] = []  # the keys of the levels of each, below the path
        self.lost_levels: dict[
            str, Node
        ] = {}  # of images, by their keys below the path, and another level of each
        self._nodes: dict[str, Node] = {}  # by their keys
        self._families = [
            family
            for entry in families()
            if entry.markers and isinstance(family := _loaded(entry), StoreFamily)
        ]
        self._files: _Files | None = None
        if root.is_local:
            self._files = _LocalFiles(root)
        elif not root.read_only and (objects := root.objects()) is not None:
            below = f"{self._key}/" if self._key else ""
            self._files = _Objects(objects.names(below))

    def arrays(self) -> Iterator[ArrayCheck]:
        """Yield the arrays, opened; when all have been, the groups around them have been checked too."""
        found = self._listed() if self._files is None else self._walk(self._files)
        for family, key, node in found:
            self._nodes[key] = node
            for problem in family.problems(node) if node.array is not None else ():
                self._tell("metadata", key, node.folder, problem)
            for inner in family.arrays_of(node):
                array = self._opened(family, key, node, inner)
                if array is not None:
                    yield array
        for key, node in self._nodes.items():
            if node.array is None:
                self._check_group(key, node)

    def _walk(self, files: _Files) -> Iterator[tuple[StoreFamily, str, Node]]:
        waiting: list[tuple[str, StoreFamily | None]] = [(self._key, None)]
        while waiting:
            key, around = waiting.pop()
            names, folders = files.in_folder(key)
            family = next((one for one in self._families if not names.isdisjoint(one.entry.markers)), around)
            if family is not None:
                try:
                    node = family.rules(3).read_node(self._root.child(key))
                except StorageError as error:
                    self._tell("metadata", key, self._root.child(key), error.message)
                    continue
                if node is not None:
                    yield family, key, node
                if node is not None and family.arrays_of(node) == (None,):
                    continue  # all below are its chunks
                self._tell_foreign(family, key, names)
                if node is not None and node.array is not None:
                    folders = []  # of its arrays, and what other programs know of
            waiting += [
                (_joined(key, name), family)
                for name in sorted(folders, key=natural_key, reverse=True)
                if not name.startswith(".")
            ]

    def _listed(self) -> Iterator[tuple[StoreFamily, str, Node]]:
        """Yield what metadata name below a URL that lists no names."""
        for family in self._families:
            read_node = family.rules(3).read_node
            node = read_node(self._root.child(self._key))
            if node is None:
                continue
            yield family, self._key, node
            if node.array is None:
                keys = node.listing or [
                    d.path for image in images_of(node.attributes) for d in image.datasets
                ]
                for name in keys:
                    found = read_node(self._root.child(_joined(self._key, name)))
                    if found is not None and found.array is not None:
                        yield family, _joined(self._key, name), found
            return

    def _opened(self, family: StoreFamily, key: str, node: Node, inner: str | None) -> ArrayCheck | None:
        shown, folder = _joined(key, inner or ""), node.folder
        try:
            if inner is None:
                source: Source = family.open_path(self._root.path, key or None, "r", **self._root.options)
            else:
                source = family.open_path(node.folder.path, inner, "r", **self._root.options)
        except BioimagePyError as error:
            known = self._is_told(shown)
            kind = "not checked" if isinstance(error, UnsupportedFormatError) and not known else "metadata"
            self._tell(kind, shown, folder, error.message)
            return None
        unfinished = unfinished_text(source)
        if unfinished:
            self._tell("unfinished", shown, folder, unfinished)
        array = ArrayCheck(
            self._shown(shown), source, None if self._files is None else self._files.below(shown), unfinished
        )
        self._tell_foreign(family, shown, array.others)
        return array

    def _tell_foreign(self, family: Family, key: str, names: Iterable[str]) -> None:
        own = {*family.entry.markers, *family.entry.metadata_files}
        for name in sorted(names, key=natural_key):
            first, _, last = name.rpartition("/")
            if (name in own or first.split("/")[0] == MARK_FOLDER) or _PASSED_BY.fullmatch(last):
                continue
            text = (
                "left by a writer that was killed"
                if is_leftover(last)
                else "belongs to nothing that the metadata name"
            )
            self.findings.append(
                Finding("foreign", self._shown(key), None, f"{self._root.child(key).path}/{name}", text)
            )

    def _check_group(self, key: str, node: Node) -> None:
        for image in images_of(node.attributes):
            shapes: dict[str, Node] = {}
            for dataset in image.datasets:
                level = self._nodes.get(_joined(key, dataset.path))
                if level is None or level.array is None:
                    if not self._is_told(_joined(key, dataset.path)):
                        text = f"the metadata of the image list level {dataset.path!r}, but that array does not exist"
                        self._tell(
                            "missing", _joined(key, dataset.path), node.folder.child(dataset.path), text
                        )
                else:
                    shapes[dataset.path] = level
                for problem in dataset.problems:
                    self._tell("metadata", _joined(key, dataset.path), node.folder, problem)
            if len(shapes) < len(image.datasets):
                self.lost_levels |= {
                    self._shown(_joined(key, dataset.path)): next(iter(shapes.values()))
                    for dataset in image.datasets
                    if shapes and dataset.path not in shapes
                }
                continue
            self.images.append([self._shown(_joined(key, dataset.path)) for dataset in image.datasets])
            try:
                check_levels(image, shapes, node.folder.path)
            except StorageError as error:
                self._tell("metadata", key, node.folder, error.message)
                continue
            for path, text in wrong_scales(image, {path: level.shape for path, level in shapes.items()}):
                self._tell("scale", _joined(key, path), node.folder, text)
        for name in node.images:
            if _joined(key, name) not in self._nodes and not self._is_told(_joined(key, name)):
                self._tell(
                    "missing",
                    _joined(key, name),
                    node.folder.child(name),
                    "its group lists it, but it is not there",
                )
        below = [
            self._below(name, key)
            for name in self._nodes
            if name != key and (not key or name.startswith(f"{key}/"))
        ]
        for name, text in stale_entries(node.folder, below):
            where = f"the consolidated metadata of {self._shown(key) or 'the container'}"
            self._tell("consolidated", _joined(key, name), node.folder, f"{where} {text}")

    def make_level(self, array: str, shape: tuple[int, ...], dtype: str) -> Source | None:
        """Make a level that is missing, encoded as another one; None if that cannot be done."""
        like, folder = self.lost_levels[array], self.folder_of(array)
        family = next(one for one in self._families if one.rules(3).read_node(like.folder) is not None)
        if dtype != like.dtype or not family.make_level(like, folder, shape):
            return None
        source: Source = family.open_path(
            self._root.path, _joined(self._key, array), "r", **self._root.options
        )
        return source

    def folder_of(self, array: str) -> StoreFolder:
        """Return the folder of what a finding names."""
        return self._root.child(_joined(self._key, array))

    def _is_told(self, key: str) -> bool:
        return any(
            finding.array == self._shown(key) and finding.kind != "foreign" for finding in self.findings
        )

    def _tell(self, kind: str, key: str, folder: StoreFolder, text: str) -> None:
        self.findings.append(Finding(kind, self._shown(key), None, folder.path, text))

    def _shown(self, key: str) -> str:
        return self._below(key, self._key)

    @staticmethod
    def _below(name: str, key: str) -> str:
        return name.removeprefix(key).strip("/") if key else name


def _joined(key: str, name: str) -> str:
    return "/".join(part for part in (key, name.strip("/")) if part)
