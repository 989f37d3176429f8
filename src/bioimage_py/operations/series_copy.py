"""The copy of the images of a file with their levels into one OME-Zarr: an image, several as bioformats2raw lays them out, or a plate."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bioimage_py.errors import BioimagePyWarning, Hint
from bioimage_py.geometry import check_block_shape
from bioimage_py.metadata import (
    VERSIONS,
    Level,
    Plate,
    image_attributes,
    plate_of,
    zarr_format_for,
)
from bioimage_py.operations.array_copy import check_portable, plan_array
from bioimage_py.operations.job import in_archive, input_identity, warn_caller, warn_of_assumed
from bioimage_py.operations.options import CopyOptions
from bioimage_py.operations.target import NewPathTarget, Target
from bioimage_py.operations.two_passes import room_beside_path
from bioimage_py.operations.whole_copy import WholeCopy
from bioimage_py.planning import ImagePlan, PlannedArray, PlanOptions, image_in_passes
from bioimage_py.sources import (
    Family,
    Source,
    coarser_levels,
    family_by_content,
    finish_images,
    locate,
    open_source,
    wanted_order,
)
from bioimage_py.sources.ome_zarr import (
    FULL_SIZE,
    OME_XML,
    ImageGroup,
    NewImage,
    NewLevel,
    in_version,
    joined_key,
)
from bioimage_py.storage import is_url
from bioimage_py.text import counted
from bioimage_py.wrapper import TransposeSource

_FOR_ONE_ARRAY = ("mask", "dtype", "axes", "voxel_size", "units")
"""Options that cannot be applied to several images, or to levels."""


def images_to_copy(
    input: Any, output: Any, options: CopyOptions, key: str | None = None, *, with_levels: bool = False
) -> list[tuple[str, str]]:
    """Return key and name of each image of a file that is copied with all its images and levels; none where one array is meant.

    That is a file of several images, none of which is the main one, or an image whose family copies its levels, whose copy is to be an
    OME-Zarr by its name. With `with_levels`, only such families are asked.
    """
    if not isinstance(input, (str, os.PathLike)) or not isinstance(output, (str, os.PathLike)):
        return []
    place, new = locate(input, key), locate(output)
    if new.key is not None or ImageGroup.at(new.path, None) is None:
        return []
    if is_url(place.path) or not os.path.isfile(place.path):  # noqa: PTH113 - a text stays a text
        return []
    family = _family_at(place.path)
    if family is None or (with_levels and not family.copies_levels):
        return []
    found = [] if place.key is not None else family.images_in(place.path)
    given = [name for name in _FOR_ONE_ARRAY if getattr(options, name) is not None]
    if not found and family.copies_levels:
        levels = family.list_coarser({"kind": family.entry.kind, "path": place.path, "key": place.key})
        found = [(place.key or "", "")] if levels else []
        if levels and given:
            text = f"{', '.join(given)} can be applied to the full-size array only: {counted(len(levels), 'level')} of {place.path} are left out"
            warn_caller(BioimagePyWarning(f"{text}. Make levels again with pyramid()"))
    return [] if given else found


def _family_at(path: str) -> Family | None:
    found = family_by_content(path) or locate(path).family
    return None if found is None else found.load()


class SeriesCopy(WholeCopy):
    """The copies of all images of a file, with the levels that are stored with them, as one run."""

    def __init__(
        self,
        input: str | os.PathLike[str],
        images: list[tuple[str, str]],
        output: Any,
        options: CopyOptions,
        *,
        quiet: bool = False,
    ) -> None:
        self._given = input, images, output
        output, options, self.archive = in_archive(input, output, options)
        self.options, self._in_process = options, options.runner.in_process
        place = locate(input)
        self._path, self.group = place.path, ImageGroup(locate(output).path)
        self._keys: list[tuple[str, str]] = []
        self._zarr_format = zarr_format_for(options.ome_zarr_version, options.zarr_format) or 3
        self._version = options.ome_zarr_version or VERSIONS[self._zarr_format]
        family = _family_at(self._path)
        self._xml = None if family is None or len(images) == 1 else family.ome_xml_of(self._path)
        self._plate: Plate | None = plate_of(self._xml, len(images))
        self._sources: list[Source] = []
        self._levels: list[NewLevel] = []
        self._attributes: dict[str, Mapping[str, Any]] = {}
        self._assumed: list[tuple[Source, Hint]] = []
        self._begun = self._find_begun(options.layout)
        self.plan = self._planned(images, output)
        self._is_fresh = options.folder is None and not self._begun
        if self._assumed and self._is_fresh and not quiet:
            warn_of_assumed(self._assumed[0][0], [hint for _, hint in self._assumed])

    def _planned(self, images: list[tuple[str, str]], output: Any) -> ImagePlan:
        options = self.options
        arrays: list[PlannedArray] = []
        asked: list[PlanOptions] = []
        places = [""] if len(images) == 1 else [str(n) for n in range(len(images))]
        for place, (key, name) in zip(
            places if self._plate is None else self._plate.places, images, strict=True
        ):
            stored = open_source(self._path, key or None)
            levels = [stored, *coarser_levels(stored)]
            if (order := wanted_order(output, stored)) is not None:
                levels = [TransposeSource(level, order) for level in levels]
            for n, source in enumerate(levels):
                new_key, options = joined_key(place, str(n)), self.options
                self._keys.append((key, new_key))
                if self._begun:
                    target, options = self._begun_target(new_key, source)
                else:
                    target = self._target(place, name, n, levels, output)
                target.check_apart(source)
                if options.in_other_processes:
                    check_portable(source, options.runner)
                shape = options.block_shape
                shape = None if shape is None else check_block_shape(tuple(shape), source.shape)
                plan, wanted = plan_array(source, target, options, shape, alone=False)
                self._sources.append(source)
                arrays.append(PlannedArray(new_key, plan, (source.name, f"{self.group.path}:{new_key}")))
                asked.append(wanted)
        alone = len(arrays) == len(images)
        what = f"{counted(len(images), 'image')}, {'each with its full-size array' if alone else counted(len(arrays), 'level')}"
        if len(images) > 1:
            what += (
                ", in the layout of bioformats2raw" if self._plate is None else ", in the wells of a plate"
            )
        names = self._path, self.group.path if self.archive is None else self.archive.path
        whole = ImagePlan.of(names, what, arrays, self._asked_ids(arrays), options.threads)
        whole = replace(whole, update=self._update_text(len(whole.block_ids), whole.n_blocks))
        if options.folder is not None:
            return whole
        return image_in_passes(whole, asked, options.casting, room_beside_path(self.group.path, {}))

    def _target(self, place: str, name: str, number: int, levels: Sequence[Source], output: Any) -> Target:
        """Return what a level of an image is copied into, and note how it is made."""
        options, source = self.options, levels[number]
        target = NewPathTarget.plan(output, source, options, keep_values=options.block_ids is not None)
        spec = target.planned.spec
        self._levels.append(NewLevel.planned(joined_key(place, str(number)), spec))
        if number:
            return target
        self._attributes[place] = image_attributes(
            spec.metadata,
            spec.shape,
            spec.dtype,
            [Level(str(n), _factors(level, source)) for n, level in enumerate(levels)],
            version=self._version,
            name=name or place or self.group.name,
        )
        known = [hint for _, hint in self._assumed]
        self._assumed += [(source, hint) for hint in target.assumed(source) if hint not in known]
        return target

    def again(self, **changes: Any) -> SeriesCopy:
        return SeriesCopy(*self._given, replace(self.options, **changes), quiet=True)

    def input(self) -> Any:
        return input_identity(**{f"array {n}": source for n, source in enumerate(self._sources)})

    def _new(self) -> NewImage:
        version = self._version
        groups = self._attributes
        if "" not in groups:
            said = {} if self._plate is None else self._plate.attributes
            around = {"": {}, **said, "OME": {"series": list(groups)}}
            around[""] = {"bioformats2raw.layout": 3, **around[""]}
            groups = {**{key: in_version(one, version) for key, one in around.items()}, **groups}
        files = {} if self._xml is None else {OME_XML: self._xml.encode()}
        return NewImage(self.group, self._zarr_format, groups, self._levels, files, in_free_place=True)

    def _source(self, number: int) -> Source:
        return self._sources[number]

    def finish(self, *, complete: bool) -> None:
        super().finish(complete=complete)
        if complete:
            for _, key in self._keys:
                if key.rpartition("/")[2] == FULL_SIZE:
                    with open_source(self.group.path, key, mode="r+") as written:
                        finish_images([written])

    def told(self) -> dict[str, Any]:
        return {"path": self._path, "key": None, "images": len(self._given[1])}


def _factors(level: Source, full: Source) -> tuple[float, ...]:
    """Return by how much the voxels of a level are larger, as the file says it, else by its shape."""
    own, whole = level.metadata.voxel_size, full.metadata.voxel_size
    pairs = (
        zip(full.shape, level.shape, strict=True)
        if own is None or whole is None
        else zip(own, whole, strict=True)
    )
    return tuple(max(1.0, float(f"{a / b:.12g}")) for a, b in pairs)
