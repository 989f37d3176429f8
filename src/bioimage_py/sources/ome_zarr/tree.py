"""Everything that the metadata of an OME-Zarr say: its images, the groups around them, and what cannot be read or is not known."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bioimage_py.errors import SourceNotFoundError, StorageError
from bioimage_py.metadata import is_collection, ome_of, well_paths
from bioimage_py.sources.location import locate
from bioimage_py.sources.ome_zarr.listing import OmeZarrImage, joined_key, listed_images, read_image
from bioimage_py.sources.ome_zarr.nodes import Nodes
from bioimage_py.sources.ome_zarr.writing import GROUP_FILES, OME_XML
from bioimage_py.sources.stores import Node
from bioimage_py.sources.zarr import read_node, zarr_format_of
from bioimage_py.storage import StoreFolder


@dataclass(frozen=True)
class OmeZarrTree:
    """An OME-Zarr image, or a group of images, with all that goes with it."""

    root: StoreFolder
    key: str  # of the group in the container, empty for the container itself
    kind: str  # `"image"`, `"plate"`, `"well"`, `"labels"` or `"container"`
    images: tuple[OmeZarrImage, ...]  # in the order that it lists them
    nodes: Nodes = field(repr=False)
    # Attributes of all groups on the way to the arrays, as stored, by their keys below the group; `""` is the group.
    groups: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)  # what else belongs to the format, by key
    left_out: tuple[str, ...] = ()  # what is not part of an image, as far as that can be listed
    missing: tuple[str, ...] = ()  # images and wells that it lists, and that are not there
    damaged: Mapping[str, str] = field(
        default_factory=dict
    )  # why images of several, and wells, cannot be read
    consolidated: tuple[str, ...] = ()  # keys of its groups that have consolidated metadata

    @property
    def name(self) -> str:
        return f"{self.root.path}:{self.key}" if self.key else self.root.path

    @property
    def version(self) -> str:
        """The version of OME-NGFF that the first image says, or `""`."""
        return self.images[0].version

    @property
    def zarr_format(self) -> int:
        return zarr_format_of(self.array(self.images[0].levels[0]))

    def with_labels(self) -> Iterator[OmeZarrImage]:
        """Yield each image, and after it its labels."""
        for image in self.images:
            yield image
            yield from image.labels

    def below(self, key: str) -> str:
        """Return a key of the container as one below the group."""
        return key.removeprefix(self.key).strip("/")

    def array(self, key: str) -> Node:
        """Return the array at a key of the container, as it was read."""
        node = self.nodes.array(self.root.child(key))
        assert node is not None
        assert node.array is not None
        return node

    def without(self, damaged: Mapping[str, str]) -> OmeZarrTree:
        """Return the tree without some of its images, by their keys below the group, with why they are damaged."""
        kept = tuple(image for image in self.images if self.below(image.key) not in damaged)
        groups = {
            key: said
            for key, said in self.groups.items()
            if not any(key == one or key.startswith(f"{one}/") for one in damaged)
        }
        return replace(self, images=kept, groups=groups, damaged={**self.damaged, **damaged})

    def check_present(self) -> None:
        """Raise StorageError if an array in a local folder has been removed meanwhile: its chunks were then read as empty."""
        for image in self.with_labels() if self.root.is_local else ():
            for level in image.levels:
                node = self.array(level)
                name = "zarr.json" if zarr_format_of(node) == 3 else ".zarray"
                if not os.path.exists(f"{node.folder.path}/{name}"):  # noqa: PTH110 - called for each array of a plate
                    raise StorageError(f"{self.root.path}:{level} no longer exists")


def read_tree(path: str | os.PathLike[str], key: str | None = None, **options: Any) -> OmeZarrTree:
    """Read all metadata of an OME-Zarr image or group of images, each file once.

    Images of several that cannot be read are `damaged`; StorageError if all are, or the only one is.
    """
    location, nodes = locate(path, key), Nodes()
    root = StoreFolder.at(location.path, options)
    first = read_node(root.child(location.key))
    shown = f"{root.path}{':' + location.key if location.key else ''}"
    if first is None or first.array is not None:
        raise SourceNotFoundError(f"there is no OME-Zarr image at {shown}")
    top = nodes.group(root.child(location.key)) or first

    keys, unreadable = listed_images(top, location.key, nodes)
    images = []
    for name in keys:
        try:
            images.append(read_image(root, name, nodes))
        except StorageError as error:
            if len(keys) == 1:
                raise
            unreadable[name] = error
    prefix = location.key or ""
    damaged = {name.removeprefix(prefix).strip("/"): error.message for name, error in unreadable.items()}
    if damaged and not images:
        raise StorageError(f"{shown} has no image that can be read. {next(iter(damaged.values()))}")
    if not images:
        raise SourceNotFoundError(f"there is no OME-Zarr image at {shown}")
    tree = OmeZarrTree(root, location.key or "", _kind(top), tuple(images), nodes)
    folder = top.folder
    groups = {"": top.attributes, **_groups_around(tree, folder)}
    files = {}
    if is_collection(top.attributes) and (series := nodes.attributes(folder.child("OME"))):
        groups["OME"] = series
    if (xml := None if top.names and "OME" not in top.names else folder.read(OME_XML)) is not None:
        groups.setdefault("OME", {})
        files[OME_XML] = xml
    known = {tree.below(level) for image in tree.with_labels() for level in image.levels} | {*files, *damaged}
    in_groups = ((key, nodes.group(folder.child(key))) for key in groups)
    return replace(
        tree,
        groups=groups,
        files=files,
        left_out=tuple(_unknown(tree, folder, groups, known)),
        missing=tuple(_not_there(top, groups, damaged)),
        damaged=damaged,
        consolidated=tuple(key for key, node in in_groups if node is not None and node.consolidated),
    )


def _kind(top: Node) -> str:
    if top.first is not None:
        return "image"
    ome = ome_of(top.attributes)
    found = next((name for name in ("plate", "well", "labels") if name in ome), None)
    return found or "container"


def _groups_around(tree: OmeZarrTree, folder: StoreFolder) -> dict[str, Mapping[str, Any]]:
    """Return the attributes of all groups between the top and the arrays."""
    found: dict[str, Mapping[str, Any]] = {}
    for image in tree.with_labels():
        for level in image.levels:
            parts = tree.below(level).split("/")
            for n in range(1, len(parts)):
                key = "/".join(parts[:n])
                if key not in found:
                    found[key] = tree.nodes.attributes(folder.child(key))
    for image in tree.images:
        # A group of labels may be there, and list none yet.
        key = joined_key(tree.below(image.key), "labels")
        if key not in found and (listing := tree.nodes.attributes(folder.child(key))):
            found[key] = listing
    return found


def _unknown(
    tree: OmeZarrTree, folder: StoreFolder, groups: Mapping[str, object], known: set[str]
) -> Iterator[str]:
    """Yield the keys of what lies in the groups and is neither a group, nor an array, nor a file that is known."""
    for group in groups:
        node = tree.nodes.group(folder.child(group))
        for name in sorted((node.names if node is not None else None) or ()):
            key = joined_key(group, name)
            if key not in groups and key not in known and name not in GROUP_FILES:
                yield key


def _not_there(
    top: Node, groups: Mapping[str, Mapping[str, Any]], damaged: Mapping[str, str]
) -> Iterator[str]:
    """Yield the images, wells and fields that are listed without being there."""
    there = {*groups, *damaged, *(key.rpartition("/")[0] for key in damaged)}
    for name in top.images:
        if name not in there:
            yield name
        for field_name in well_paths(groups.get(name, {})):
            if joined_key(name, field_name) not in there:
                yield joined_key(name, field_name)
