"""All of an OME-Zarr that is copied whole: an image, a container of several images, a plate or a well."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bioimage_py.errors import SourceNotFoundError
from bioimage_py.metadata import is_collection, ome_of, well_paths
from bioimage_py.sources.location import locate
from bioimage_py.sources.ome_zarr.listing import OmeZarrImage, image_keys, joined_key, read_image
from bioimage_py.sources.ome_zarr.writing import GROUP_FILES
from bioimage_py.sources.stores import Node, group_attributes, has_consolidated
from bioimage_py.sources.zarr import read_node
from bioimage_py.storage import StoreFolder

_OME_XML = "OME/METADATA.ome.xml"


@dataclass(frozen=True)
class OmeZarrTree:
    """An OME-Zarr image, or a group of images, with all that goes with it."""

    root: StoreFolder
    key: str  # of the group in the container, empty for the container itself
    kind: str  # `"image"`, `"plate"`, `"well"`, `"labels"` or `"container"`
    images: tuple[OmeZarrImage, ...]  # in the order that it lists them
    # Attributes of all groups on the way to the arrays, as stored, by their keys below the group; `""` is the group.
    groups: Mapping[str, Mapping[str, Any]]
    files: Mapping[str, bytes] = field(default_factory=dict)  # what else belongs to the format, by key
    left_out: tuple[str, ...] = ()  # what is not part of an image, as far as that can be listed
    missing: tuple[str, ...] = ()  # images and wells that it lists, and that are not there
    consolidated: tuple[str, ...] = ()  # keys of its groups that have consolidated metadata

    @property
    def name(self) -> str:
        return f"{self.root.path}:{self.key}" if self.key else self.root.path

    @property
    def version(self) -> str:
        """The version of OME-NGFF that the first image says, or `""`."""
        return self.images[0].version

    def with_labels(self) -> Iterator[OmeZarrImage]:
        """Yield each image, and after it its labels."""
        for image in self.images:
            yield image
            yield from image.labels

    def below(self, key: str) -> str:
        """Return a key of the container as one below the group."""
        return key.removeprefix(self.key).strip("/")


def read_tree(path: str | os.PathLike[str], key: str | None = None, **options: Any) -> OmeZarrTree:
    """Read all metadata of an OME-Zarr image or group of images."""
    location = locate(path, key)
    root = StoreFolder.at(location.path, options)
    top = read_node(root.child(location.key))
    keys = [] if top is None or top.array is not None else image_keys(top, location.key)
    if top is None or not keys:
        raise SourceNotFoundError(
            f"there is no OME-Zarr image at {root.path}{':' + location.key if location.key else ''}"
        )
    images = tuple(read_image(root, name) for name in keys)
    tree = OmeZarrTree(root, location.key or "", _kind(top), images, {})
    folder = top.folder
    groups = {"": top.attributes, **_groups_around(tree, folder)}
    files = {}
    if is_collection(top.attributes) and (series := group_attributes(folder.child("OME"))):
        groups["OME"] = series
    if (xml := folder.read(_OME_XML)) is not None:
        groups.setdefault("OME", {})
        files[_OME_XML] = xml
    levels = {tree.below(level) for image in tree.with_labels() for level in image.levels}
    left = tuple(_unknown(folder, groups, {*levels, *files})) if root.is_local else ()
    missing = tuple(_not_there(top, groups))
    consolidated = tuple(key for key in groups if has_consolidated(folder.child(key)))
    return OmeZarrTree(root, tree.key, tree.kind, images, groups, files, left, missing, consolidated)


def _kind(top: Node) -> str:
    if top.first is not None:
        return "image"
    ome = ome_of(top.attributes)
    found = next((name for name in ("plate", "well", "labels") if name in ome), None)
    return found or "container"


def _groups_around(tree: OmeZarrTree, folder: StoreFolder) -> dict[str, Mapping[str, Any]]:
    """Return the attributes of all groups between the top and the arrays; those of images are known already."""
    known = {tree.below(image.key): image.attributes for image in tree.with_labels()}
    found: dict[str, Mapping[str, Any]] = {}
    for image in tree.with_labels():
        for level in image.levels:
            parts = tree.below(level).split("/")
            for n in range(1, len(parts)):
                key = "/".join(parts[:n])
                if key not in found:
                    found[key] = known[key] if key in known else group_attributes(folder.child(key))
    for image in tree.images:
        # A group of labels may be there, and list none yet.
        key = joined_key(tree.below(image.key), "labels")
        if key not in found and (listing := group_attributes(folder.child(key))):
            found[key] = listing
    return found


def _unknown(folder: StoreFolder, groups: Mapping[str, Any], known: set[str]) -> Iterator[str]:
    """Yield the keys of what lies in the groups and is neither a group, nor an array, nor a file that is known."""
    for group in groups:
        for entry in folder.child(group).entries():
            key = joined_key(group, entry.name)
            if key not in groups and key not in known and entry.name not in GROUP_FILES:
                yield key


def _not_there(top: Node, groups: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the images, wells and fields that are listed without being there."""
    for name in top.images:
        if name not in groups:
            yield name
            continue
        for field_name in well_paths(groups[name]):
            if joined_key(name, field_name) not in groups:
                yield joined_key(name, field_name)
