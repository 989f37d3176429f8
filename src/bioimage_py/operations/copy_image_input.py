"""Whether an OME-Zarr is copied whole, and what is said where parts of it are left out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from bioimage_py.errors import BioimagePyWarning, StorageError
from bioimage_py.metadata import label_names
from bioimage_py.operations.options import CopyOptions
from bioimage_py.sources import locate
from bioimage_py.sources.new import writable_family
from bioimage_py.sources.ome_zarr import ImageGroup, OmeZarrTree, ome_zarr_group
from bioimage_py.sources.stores import Node, group_attributes, level_paths
from bioimage_py.sources.zarr import read_node

_FOR_ONE_ARRAY = ("mask", "dtype", "axes", "voxel_size", "units")
"""What can be said of one array, and not of levels that were made from each other, nor of labels."""
_MOST_NAMED = 10


def is_image_copy(input: Any, output: Any, said: CopyOptions) -> bool:
    """Whether an OME-Zarr is to be copied whole; a BioimagePyWarning says what is left out where something forbids it.

    Parameters
    ----------
    input, output
        As for `copy`: both have to be paths, that of the output one of a Zarr container, or of labels in an image.
    said
        The other arguments of `copy`.
    """
    if not isinstance(input, (str, os.PathLike)) or not isinstance(output, (str, os.PathLike)):
        return False
    place = locate(output)
    node = ome_zarr_group(input)
    if node is None:
        return False
    if ImageGroup.for_copy(place.path, place.key) is None:
        writable_family(place)  # an error that is no later than the warning
        if node.first is not None:
            _warn_of_levels(node, f"{output} takes the full-size array only")
        return False
    given = [name for name in _FOR_ONE_ARRAY if getattr(said, name) is not None]
    if "dtype" in given and _is_dtype_of(node, said.dtype):
        given.remove("dtype")
    if given:
        _warn_of_levels(node, f"{'=, '.join(given)}= can be applied to the full-size array only")
    return not given


def _is_dtype_of(node: Node, dtype: Any) -> bool:
    full = None if node.first is None else read_node(node.folder.child(node.first))
    try:
        return full is not None and np.dtype(dtype).name == full.dtype
    except TypeError:
        return False  # what is no dtype is refused where the output is planned


def _warn_of_levels(node: Node, why: str) -> None:
    levels = level_paths(node.attributes)[1:]
    labels = label_names(group_attributes(node.folder.child("labels")))
    rest = [f"level(s) {', '.join(levels)}"] if levels else []
    rest += [f"labels {', '.join(labels)}"] if labels else []
    if not rest:
        return
    warnings.warn(
        f"{why}: {' and '.join(rest)} of {node.folder.path} are left out. "
        "Make levels again with pyramid(), and copy labels by themselves",
        BioimagePyWarning,
        stacklevel=6,
    )


def warn_of_rest(tree: OmeZarrTree) -> None:
    """Warn once of all that is in an OME-Zarr, or listed there, and is no part of an image."""
    said = []
    if tree.left_out:
        said.append(
            f"{_named(tree.left_out)} in it are no images, and are left out: copy them by other means"
        )
    if tree.missing:
        said.append(f"it lists {_named(tree.missing)}, and nothing is there")
    if said:
        warnings.warn(f"{tree.name}: {'; '.join(said)}", BioimagePyWarning, stacklevel=4)


def _named(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _MOST_NAMED} more" if len(keys) > _MOST_NAMED else ""
    return ", ".join(keys[:_MOST_NAMED]) + more


def what_is_copied(tree: OmeZarrTree) -> str:
    """Return what is in an OME-Zarr in words, such as `"1 image, 3 levels, 1 label image"`."""
    levels = sum(len(image.levels) for image in tree.images)
    labels = sum(len(image.labels) for image in tree.images)
    kind = "" if tree.kind == "image" else f"{tree.kind} with "
    counts = [(len(tree.images), "image"), (levels, "level"), (labels, "label image")]
    said = ", ".join(f"{n:,} {what}{'' if n == 1 else 's'}" for n, what in counts if n)
    return f"{kind}{said}"


def check_present(tree: OmeZarrTree) -> None:
    """Raise StorageError if an array has gone meanwhile: its chunks would have been taken for empty ones."""
    if not tree.root.is_local:
        return
    for image in tree.with_labels():
        for level in image.levels:
            if read_node(tree.root.child(level)) is None:
                raise StorageError(f"{tree.root.path}:{level} is not there any more")
