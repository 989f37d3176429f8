"""Making OME-Zarr images and label images: a group, its levels, and the metadata that viewers read."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from bioimage_py.errors import BioimagePyWarning, Hint, InvalidArgumentError, OutputExistsError
from bioimage_py.metadata import (
    RESERVED,
    VERSIONS,
    ImageMetadata,
    Level,
    image_attributes,
    images_of,
    label_names,
    ome_of,
)
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.base import Source
from bioimage_py.sources.ome_zarr.image_group import FULL_SIZE, ImageGroup
from bioimage_py.sources.registry import family_of
from bioimage_py.sources.stores import (
    Node,
    aside_of_the_dead,
    check_room,
    group_attributes,
    is_abandoned,
    level_paths,
    removable_array,
    remove_array,
    room_for_array,
    try_out,
    update_consolidated,
)
from bioimage_py.sources.zarr import (
    described_array,
    image_metadata,
    make_zarr_array,
    read_node,
    store_rules,
    tensorstore_spec,
)
from bioimage_py.storage import StoreFolder

_log = logging.getLogger(__name__)
GROUP_FILES = ("zarr.json", ".zgroup", ".zattrs", ".zmetadata", ".DS_Store")


@dataclass(frozen=True)
class NewLevel:
    """One array of an image to be made."""

    path: str  # its key below the image's group
    spec: ArraySpec
    stored: Mapping[str, Any] | None = None  # metadata that it shall be stored with, where Zarr can
    attributes: Mapping[str, Any] = field(default_factory=dict)  # of the array, beyond what the group says


def level_spec(spec: ArraySpec, level: Level) -> ArraySpec:
    shape = tuple(-int(-n // factor) for n, factor in zip(spec.shape, level.factors, strict=True))
    return replace(spec, shape=shape)


def make_image(
    group: ImageGroup, spec: ArraySpec, levels: Sequence[Level], *, overwrite: bool
) -> list[Source]:
    """Make the arrays of an image and its metadata, and open the arrays for writing, full size first.

    The metadata have axes as `axes_for_ngff` returns them. An image that is replaced keeps its labels; nothing that is not a level of it
    is ever removed.
    """
    metadata = spec.metadata
    if group.key is not None:
        image = read_node(StoreFolder.at(group.path))
        if image is not None and metadata.voxel_size is None:
            metadata = _placed_as_the_image(image, spec)
        if image is not None:
            shapes = [level_spec(spec, level).shape for level in levels]
            wanted = [shape for shape, _ in levels_for_labels(image.folder, metadata.axes or ())]
            _warn_of_other_levels(group, shapes, wanted)
    attributes = image_attributes(
        metadata,
        spec.shape,
        spec.dtype,
        levels,
        version=VERSIONS[spec.zarr_format],
        name=group.name,
        labels_of=None if group.key is None else "../../",
    )
    root, paths = StoreFolder.at(group.path), [level.path for level in levels]
    folder = root.inside(group.key)
    making = [
        (group.level_key(level.path), *described_level(NewLevel(level.path, level_spec(spec, level))))
        for level in levels
    ]
    there, old = _replaced_levels(folder, overwrite, paths)
    with ExitStack() as rooms:
        make_in_rooms(rooms, root, making, overwrite=overwrite)
        if group.key is not None:
            register_label(root.inside("labels"), group.name, spec.zarr_format)
        write_attributes(folder, attributes, spec.zarr_format, fresh=bool(there))
        update_consolidated([folder, *(root.child(key) for key, *_ in making), *old])
    for level in old:
        remove_array(level)
    return [family_of("zarr").open_path(group.path, key, "r+") for key, *_ in making]


def make_in_rooms(
    rooms: ExitStack,
    root: StoreFolder,
    making: Iterable[tuple[str, Mapping[str, Any], Mapping[str, Any]]],
    *,
    overwrite: bool,
) -> None:
    """Make arrays by their keys, as TensorStore takes them, with attributes; they go again if the stack ends with an error."""
    for key, described, attributes in making:
        rules = store_rules(3 if described["driver"] == "zarr3" else 2)
        room = rooms.enter_context(room_for_array(root, key, overwrite, rules))
        make_zarr_array(described, attributes, room, overwrite=overwrite)


def _warn_of_other_levels(
    group: ImageGroup, shapes: Sequence[tuple[int, ...]], wanted: Sequence[tuple[int, ...]]
) -> None:
    if not wanted or list(shapes) == list(wanted):
        return
    same = len(shapes) == len(wanted)
    said = f"has the shapes {', '.join(map(str, wanted))}" if same else f"has {len(wanted)}"
    warnings.warn(
        f"{group.path}/{group.key} gets {len(shapes)} level(s) of shape {', '.join(map(str, shapes))}, but the image {said}, and "
        "OME-Zarr wants the same for its labels: some viewers will not show them",
        BioimagePyWarning,
        stacklevel=4,
    )


def levels_for_labels(
    image: StoreFolder, axes: Sequence[str]
) -> list[tuple[tuple[int, ...], tuple[float, ...] | None]]:
    """Return shape and scale along some axes of the levels of an image, full size first; none where it has not all of the axes."""
    found = next(images_of(group_attributes(image)), None)
    names = [axis.lower() for axis in (found.axes if found is not None else None) or ()]
    if found is None or not set(axes) <= set(names):
        return []
    kept = [names.index(axis) for axis in axes]
    levels = []
    for dataset in found.datasets:
        node = read_node(image.child(dataset.path))
        if node is None or len(node.shape) != len(names):
            return []
        scale = dataset.scale if dataset.scale is not None and len(dataset.scale) == len(names) else None
        levels.append(
            (tuple(node.shape[n] for n in kept), None if scale is None else tuple(scale[n] for n in kept))
        )
    return levels


def steps_between(
    levels: Sequence[tuple[tuple[int, ...], tuple[float, ...] | None]],
) -> list[tuple[int, ...]] | None:
    """Return by how much each level is smaller than the one before, None where no whole windows of voxels give such shapes.

    Levels are shape and scale; the scale decides where several windows would give a shape.
    """
    steps = []
    for (larger, fine), (smaller, coarse) in itertools.pairwise(levels):
        step = []
        for axis, (n, m) in enumerate(zip(larger, smaller, strict=True)):
            near = round(n / m) if m else 0
            said = near if fine is None or coarse is None else round(coarse[axis] / fine[axis])
            fitting = (f for f in (said, near, near + 1, near - 1) if f >= 1 and -(-n // f) == m)
            step.append(next(fitting, 0))
        if 0 in step or set(step) == {1}:
            return None
        steps.append(tuple(step))
    return steps


def _placed_as_the_image(found: Node, spec: ArraySpec) -> ImageMetadata:
    """Return the metadata of labels that say nothing of voxels, with what the image says that has as many along each axis."""
    full = None if found.first is None else read_node(found.folder.child(found.first))
    if full is None:
        return spec.metadata
    image = image_metadata(full)
    axes, own = image.axes or (), spec.metadata.axes or ()
    kept = [axes.index(axis) for axis in own if axis in axes]
    if len(kept) != len(own) or tuple(full.shape[n] for n in kept) != spec.shape:
        return spec.metadata
    placed = image.with_axes_selected(kept)
    said = ("voxel_size", "units", "origin", "orientations")
    return replace(spec.metadata, **{name: getattr(placed, name) for name in said})


def check_image(group: ImageGroup, spec: ArraySpec, levels: Sequence[Level], *, overwrite: bool) -> None:
    """Raise what `make_image` would raise before it makes anything."""
    root = StoreFolder.at(group.path)
    _replaced_levels(root.inside(group.key), overwrite, [level.path for level in levels])
    rules = store_rules(spec.zarr_format)
    for level in levels:
        described_level(NewLevel(level.path, level_spec(spec, level)))
        check_room(root, group.level_key(level.path), overwrite, rules)


def described_level(level: NewLevel) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return an array as TensorStore takes it, and its attributes: what the group says is not said twice."""
    spec = level.spec
    if level.stored is not None:
        making = tensorstore_spec(level.stored)
        try:
            try_out(making)
        except InvalidArgumentError as error:
            _log.debug("%s is encoded again: %s", level.path, error)
        else:
            return making, dict(level.attributes)
    making, attributes = described_array(replace(spec, metadata=ImageMetadata(axes=spec.metadata.axes)))
    attributes.pop("axes", None)
    return making, {**attributes, **level.attributes}


def _replaced_levels(
    folder: StoreFolder, overwrite: bool, new: Sequence[str]
) -> tuple[list[str], list[StoreFolder]]:
    """Return the levels of an image that is there already, and the arrays of those to remove, after checking that they may be."""
    levels = level_paths(group_attributes(folder))
    if levels and not overwrite and not is_abandoned(folder):
        raise OutputExistsError(
            f"{folder.path} is an OME-Zarr image already",
            hints=[Hint.of("to replace it, give {}", overwrite=True), Hint("or choose another path")],
        )
    if not folder.is_local:
        stale = [path for path in levels if path != FULL_SIZE]
        if stale:
            raise OutputExistsError(
                f"{folder.path} has levels that cannot be removed from here ({', '.join(stale)}): remove the image first"
            )
        return levels, []
    # A crash can leave the new arrays without their metadata: whether those may be replaced is checked one by one.
    known = {path.split("/")[0] for path in (*levels, *new)} | {"labels", *GROUP_FILES}
    names = [entry.name for entry in folder.entries()]
    strange = [name for name in names if not {name, aside_of_the_dead(name)} & known]
    if strange and read_node(folder) is not None:
        raise OutputExistsError(
            f"{folder.path} also holds {', '.join(strange[:5])}, which is not a level of an OME-Zarr image: choose another path, or "
            "remove it yourself"
        )
    rules = store_rules(3)
    found = [removable_array(folder, path, rules) for path in dict.fromkeys(levels) if path not in new]
    return levels, [level for level in found if level is not None]


def register_label(labels: StoreFolder, name: str, zarr_format: int) -> None:
    """List a label image in the group `labels`, as viewers find it only there."""
    attributes = group_attributes(labels)
    names = label_names(attributes)
    if name in names:
        return
    listed: dict[str, Any] = {"labels": [*names, name]}
    if zarr_format == 3:
        known = ome_of(attributes) if "ome" in attributes else {}
        listed = {"ome": {**known, "version": VERSIONS[3], **listed}}
    write_attributes(labels, listed, zarr_format, fresh=False)


def write_attributes(
    folder: StoreFolder, attributes: Mapping[str, Any], zarr_format: int, *, fresh: bool
) -> None:
    """Write attributes of a group; those that are there and are not an image's stay, unless the image is a fresh one.

    Who calls it updates the consolidated metadata.
    """
    old = {} if fresh else group_attributes(folder)
    merged = {**{name: value for name, value in old.items() if name not in RESERVED}, **attributes}
    if zarr_format == 2:
        folder.write_json(".zattrs", merged)
        return
    written = folder.read_json("zarr.json") or {}
    folder.write_json("zarr.json", {**written, "attributes": merged})
