"""The copy of a whole OME-Zarr: all levels and labels of an image, or of all images of a container, in one run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from bioimage_py.chunks import ChunkEncoding, UnknownEncoding
from bioimage_py.errors import (
    BioimagePyWarning,
    InvalidArgumentError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.geometry import check_block_shape
from bioimage_py.metadata import has_other_systems, label_names
from bioimage_py.operations.array_copy import plan_array
from bioimage_py.operations.job import in_archive, warn_caller
from bioimage_py.operations.options import CopyOptions
from bioimage_py.operations.target import (
    Target,
    check_outside,
    place_parts,
)
from bioimage_py.operations.two_passes import room_beside_path
from bioimage_py.operations.whole_copy import WholeCopy
from bioimage_py.planning import ArrayLayout, CopyPlan, ImagePlan, PlannedArray, PlanOptions, image_in_passes
from bioimage_py.runner import Journal, Resources
from bioimage_py.sources import (
    Codec,
    Source,
    family_of,
    locate,
    open_source,
    writable_family,
)
from bioimage_py.sources.ome_zarr import (
    ImageGroup,
    Mirror,
    NewImage,
    NewLevel,
    OmeZarrImage,
    OmeZarrTree,
    extents_for,
    ome_zarr_group,
    read_tree,
)
from bioimage_py.sources.stores import (
    NewMarks,
    Node,
    group_attributes,
    is_marked,
    level_paths,
    metadata_stamp,
)
from bioimage_py.sources.zarr import encoding_from_metadata, open_array, read_node
from bioimage_py.storage import StoreFolder, StorePlace, file_identity, is_url
from bioimage_py.text import counted

_LAYOUT = ("chunks", "shards", "codec", "zarr_format", "ome_zarr_version", "fill_value")
_FOR_ONE_ARRAY = ("mask", "imagej", "skip_zeros", "dtype", "axes", "voxel_size", "units")
"""Options that cannot be applied to levels and labels."""
_MOST_NAMED = 10


class _PlannedKind(NamedTuple):
    """What is planned for arrays that are stored alike; no level where they are there already."""

    plan: CopyPlan
    asked: PlanOptions
    level: NewLevel | None


class ImageCopy(WholeCopy):
    """The copy of a whole OME-Zarr: the copies of all its arrays as one run."""

    def __init__(self, input: Any, output: Any, options: CopyOptions) -> None:
        """Plan the copy; `input` may be the `OmeZarrTree` of one that was read already."""
        self._given = input, output
        output, options, self.archive = in_archive(
            input.root.path if isinstance(input, OmeZarrTree) else input, output, options
        )
        self.options, self._in_process = options, options.runner.in_process
        tree = input if isinstance(input, OmeZarrTree) else read_tree(input)
        place = locate(output)
        group = ImageGroup.for_copy(place, tree.root.path)
        assert group is not None
        _check_apart(tree, group)
        given = {name: value for name, value in options.layout.items() if name in _LAYOUT}
        self.group = group
        self._begun = self._find_begun(given)
        if options.block_ids is not None and not self._begun:
            # For voxels that no block writes, as in a copy of one array.
            given.setdefault("fill_value", 0)
        versions = given.pop("zarr_format", None), given.pop("ome_zarr_version", None)
        self.mirror = Mirror.plan(tree, group, *versions)
        self._input = tree.root.path
        self._keys: list[tuple[str, str]] = []
        self._levels: list[NewLevel] = []
        self.plan = self._planned(given)
        self._is_fresh = bool(self._levels) and options.folder is None

    def _planned(self, given: Mapping[str, Any]) -> ImagePlan:
        options, group, tree = self.options, self.mirror.group, self.mirror.tree
        arrays: list[PlannedArray] = []
        asked: list[PlanOptions] = []
        kinds: dict[Hashable, _PlannedKind] = {}
        damaged: dict[str, str] = {}
        for image in tree.images:
            try:
                planned = [
                    (source_key, key, self._of_kind(kinds, kind, image, (source_key, key), given))
                    for source_key, key, kind in self.mirror.arrays_of(image)
                ]
            except (StorageError, UnsupportedFormatError) as error:
                if len(tree.images) == 1:
                    raise
                damaged[tree.below(image.key)] = error.message
                continue
            for source_key, key, one in planned:
                names = f"{self._input}:{source_key}", f"{group.path}:{key}"
                arrays.append(PlannedArray(key, one.plan, names))
                asked.append(one.asked)
                self._keys.append((source_key, key))
                if one.level is not None:
                    self._levels.append(replace(one.level, key=key))
        if not arrays:
            raise StorageError(f"{tree.name} has no image that can be copied. {next(iter(damaged.values()))}")
        if damaged:
            tree = tree.without(damaged)
            self.mirror = replace(self.mirror, tree=tree)
        shown = f"{group.path}/{group.key}" if group.key else group.path
        shown = shown if self.archive is None else self.archive.path
        left_out = tree.left_out, [f"{key}: {why}" for key, why in tree.damaged.items()]
        whole = ImagePlan.of(
            (tree.name, shown),
            what_is_copied(tree),
            arrays,
            self._asked_ids(arrays),
            options.threads,
            *left_out,
        )
        whole = replace(whole, update=self._update_text(len(whole.block_ids), whole.n_blocks))
        if options.folder is not None:
            return whole
        return image_in_passes(whole, asked, options.casting, room_beside_path(group.path, {}))

    def _of_kind(
        self,
        kinds: dict[Hashable, _PlannedKind],
        kind: Hashable,
        image: OmeZarrImage,
        keys: tuple[str, str],
        given: Mapping[str, Any],
    ) -> _PlannedKind:
        """Return what is planned for all arrays of a kind; `keys` are those of one, and of its copy."""
        # Arrays that are there already are checked one by one.
        kind = keys if self._begun else kind
        if kind in kinds:
            if is_marked(self.mirror.tree.array(keys[0]).folder):
                open_source(self._input, keys[0])  # warns that it is not finished
            return kinds[kind]
        source = open_source(self._input, keys[0])
        full = source if keys[0] == image.levels[0] else open_source(self._input, image.levels[0])
        if not self._in_process:
            source.to_spec()
        options, group = self.options, self.mirror.group
        target: Target
        if self._begun:
            level, (target, options) = None, self._begun_target(keys[1], source)
        else:
            level = self.mirror.level(source, full, keys, given)
            target = NewLevelTarget(group, level, given.get("codec"))
        shape = options.block_shape
        if shape is not None:
            shape = check_block_shape(extents_for(source, full, shape, "block_shape"), source.shape)
        plan, asked = plan_array(source, target, options, shape, alone=False)
        # The sources are not kept open.
        plan = replace(plan, input=plan.input.alone(), output=plan.output.alone())
        kinds[kind] = _PlannedKind(plan, asked, level)
        return kinds[kind]

    def again(self, **changes: Any) -> ImageCopy:
        return ImageCopy(*self._given, replace(self.options, **changes))

    def input(self) -> Any:
        tree = self.mirror.tree
        stamps = [[key, metadata_stamp(tree.array(key).folder)] for key, _ in self._keys]
        found = hashlib.sha256(json.dumps(stamps).encode()).hexdigest()[:16]
        return {**self.told(), "hash of its metadata": found}

    def _new(self) -> NewImage:
        return self.mirror.new(self._levels)

    def open(self, marks: NewMarks) -> None:
        super().open(marks)
        if self._is_fresh:
            _warn_of_rest(self.mirror)

    def _source(self, number: int) -> Source:
        tree, key = self.mirror.tree, self._keys[number][0]
        return open_array(tree.root, key, tree.array(key))

    def execute(self, work: Any, resources: Resources, n_bytes: int) -> Journal:
        journal = super().execute(work, resources, n_bytes)
        self.mirror.tree.check_present()
        return journal

    def result(self) -> Source:
        """Return the full-size array of the first image; StorageError if there were damaged ones, when all others are copied."""
        if damaged := self.mirror.tree.damaged:
            more = (
                "" if len(damaged) == 1 else f" (and {len(damaged) - 1:,} more: {_named(list(damaged)[1:])})"
            )
            raise StorageError(
                f"{counted(len(damaged), 'image')} of {self.mirror.tree.name} cannot be read and {'is' if len(damaged) == 1 else 'are'} not copied, all "
                f"others are. {next(f'{key}: {why}' for key, why in damaged.items())}{more}",
            )
        return super().result()

    def told(self) -> dict[str, Any]:
        tree = self.mirror.tree
        return {"path": tree.root.path, "key": tree.key or None, "images": len(tree.images)}


class NewLevelTarget(Target):
    """An array of a new OME-Zarr; every backend can write it."""

    def __init__(self, group: ImageGroup, level: NewLevel, codec: Any = None) -> None:
        self._root = group.path
        self.codec = None if codec is None else Codec.parse(codec)
        self.level = level
        self.layout = ArrayLayout.of_spec(
            f"{group.path}:{level.key}", group.path, family_of("zarr"), level.spec
        )

    @property
    def keeps_digest(self) -> bool:
        return not self._root.startswith("memory:")

    def encoding(self) -> ChunkEncoding | UnknownEncoding:
        if self._root.startswith("memory:"):
            return UnknownEncoding("chunks that are held in memory are not moved")
        metadata = {"zarr_format": self.level.spec.zarr_format, **self.level.making["metadata"]}
        try:
            return encoding_from_metadata(metadata, self.level.spec.fill_value)
        except UnsupportedFormatError as error:
            return UnknownEncoding(str(error))

    @property
    def place(self) -> StorePlace | None:
        return StoreFolder.at(self._root).child(self.level.key).place if is_url(self._root) else None


def is_image_copy(input: Any, output: Any, options: CopyOptions) -> bool:
    """Whether a whole OME-Zarr is copied: both are paths, and no option is given that only fits one array.

    If such an option is given, a BioimagePyWarning says what is left out.
    """
    if not isinstance(input, (str, os.PathLike)) or not isinstance(output, (str, os.PathLike)):
        return False
    place = locate(output)
    node = ome_zarr_group(input)
    if node is None:
        return False
    if ImageGroup.for_copy(place, locate(input).path) is None:
        writable_family(place)  # an error comes before the warning
        if node.first is not None:
            _warn_of_levels(node, f"{output} takes the full-size array only")
        return False
    given = [name for name in _FOR_ONE_ARRAY if getattr(options, name) is not None]
    if "dtype" in given and _is_dtype_of(node, options.dtype):
        given.remove("dtype")
    if given:
        _warn_of_levels(node, f"{', '.join(given)} can be applied to the full-size array only")
    return not given


def _is_dtype_of(node: Node, dtype: Any) -> bool:
    full = None if node.first is None else read_node(node.folder.child(node.first))
    try:
        return full is not None and np.dtype(dtype).name == full.dtype
    except TypeError:
        return False  # refused when the output is planned


def _warn_of_levels(node: Node, why: str) -> None:
    levels = level_paths(node.attributes)[1:]
    labels = label_names(group_attributes(node.folder.child("labels")))
    rest = [f"level(s) {', '.join(levels)}"] if levels else []
    rest += [f"labels {', '.join(labels)}"] if labels else []
    if rest:
        warn_caller(
            BioimagePyWarning(
                f"{why}: {' and '.join(rest)} of {node.folder.path} are left out. "
                "Make levels again with pyramid(), and copy labels by themselves"
            )
        )


def _warn_of_rest(mirror: Mirror) -> None:
    """Warn of what an OME-Zarr contains or lists that is not part of an image, and of what its new version has no place for."""
    tree, said = mirror.tree, []
    others = [key or tree.name for key, attributes in tree.groups.items() if has_other_systems(attributes)]
    if others and not mirror.is_like:
        said.append(
            f"OME-Zarr {mirror.version} has one coordinate system for an image, and the others of {_named(others)} are left out"
        )
    if tree.left_out:
        said.append(
            f"{_named(tree.left_out)} in it are not images, and are left out: copy them by other means"
        )
    if tree.missing:
        said.append(f"it lists {_named(tree.missing)}, and nothing is there")
    if said:
        warn_caller(BioimagePyWarning(f"{tree.name}: {'; '.join(said)}"))


def _named(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _MOST_NAMED} more" if len(keys) > _MOST_NAMED else ""
    return ", ".join(keys[:_MOST_NAMED]) + more


def what_is_copied(tree: OmeZarrTree) -> str:
    """Return what is in an OME-Zarr in words, such as `"1 image, 3 levels, 1 label image"`."""
    levels = sum(len(image.levels) for image in tree.images)
    labels = sum(len(image.labels) for image in tree.images)
    kind = "" if tree.kind == "image" else f"{tree.kind} with "
    counts = [(len(tree.images), "image"), (levels, "level"), (labels, "label image")]
    return kind + ", ".join(f"{n:,} {what}{'' if n == 1 else 's'}" for n, what in counts if n)


def _check_apart(tree: OmeZarrTree, group: ImageGroup) -> None:
    """Raise InvalidArgumentError if input and output are the same, or one lies inside the other."""
    shown = f"{group.path}{'/' + group.key if group.key else ''}"
    stored, target = place_parts(tree.root.path, tree.key), place_parts(group.path, group.key)
    ours = file_identity(group.path, group.key, key_is_folder=True)
    if stored == target or ours == file_identity(tree.root.path, tree.key, key_is_folder=True):
        raise InvalidArgumentError(
            f"copy needs 'output' to differ from 'input': {shown!r} and {tree.name!r} are the same OME-Zarr"
        )
    check_outside(target, stored, shown, f"input {tree.name!r}")
