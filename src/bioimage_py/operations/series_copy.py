"""The copy of a file with several images into one OME-Zarr, laid out as bioformats2raw does: a group of images and their order."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bioimage_py.errors import Hint
from bioimage_py.geometry import check_block_shape
from bioimage_py.metadata import VERSIONS, Level, image_attributes
from bioimage_py.operations.array_copy import check_portable, plan_array
from bioimage_py.operations.job import input_identity, warn_of_assumed
from bioimage_py.operations.options import CopyOptions
from bioimage_py.operations.target import NewPathTarget, Target
from bioimage_py.operations.two_passes import room_beside_path
from bioimage_py.operations.whole_copy import WholeCopy
from bioimage_py.planning import ImagePlan, PlannedArray, PlanOptions, image_in_passes
from bioimage_py.sources import (
    Family,
    Source,
    family_by_content,
    finish_images,
    locate,
    open_source,
    wanted_order,
)
from bioimage_py.sources.ome_zarr import FULL_SIZE, OME_XML, ImageGroup, NewImage, NewLevel, in_version
from bioimage_py.storage import is_url
from bioimage_py.text import counted
from bioimage_py.wrapper import TransposeSource

_FOR_ONE_ARRAY = ("mask", "dtype", "axes", "voxel_size", "units")
"""Options that cannot be applied to several images."""


def images_to_copy(input: Any, output: Any, options: CopyOptions) -> list[tuple[str, str]]:
    """Return key and name of each image of a file that is copied with all its images; none where one array is meant.

    That is a file of several images, none of which is the main one, whose copy is to be an OME-Zarr by its name.
    """
    if not isinstance(input, (str, os.PathLike)) or not isinstance(output, (str, os.PathLike)):
        return []
    place, new = locate(input), locate(output)
    if place.key is not None or new.key is not None or ImageGroup.at(new.path, None) is None:
        return []
    if is_url(place.path) or not os.path.isfile(place.path):  # noqa: PTH113 - a text stays a text
        return []
    if any(getattr(options, name) is not None for name in _FOR_ONE_ARRAY):
        return []
    family = _family_at(place.path)
    return [] if family is None else family.images_in(place.path)


def _family_at(path: str) -> Family | None:
    found = family_by_content(path) or locate(path).family
    return None if found is None else found.load()


class SeriesCopy(WholeCopy):
    """The copies of all images of a file as one run; each becomes the full-size array of an image."""

    def __init__(
        self,
        input: str | os.PathLike[str],
        images: list[tuple[str, str]],
        output: Any,
        options: CopyOptions,
        *,
        quiet: bool = False,
    ) -> None:
        self.options, self._in_process = options, options.runner.in_process
        self._given = input, images, output
        place = locate(input)
        self._path, self.group = place.path, ImageGroup(locate(output).path)
        self._keys = [(key, f"{n}/{FULL_SIZE}") for n, (key, _) in enumerate(images)]
        self._zarr_format = options.layout.get("zarr_format") or 3
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
        for n, ((key, name), (_, new_key)) in enumerate(zip(images, self._keys, strict=True)):
            source = open_source(self._path, key)
            if (order := wanted_order(output, source)) is not None:
                source = TransposeSource(source, order)
            options = self.options
            if self._begun:
                target, options = self._begun_target(new_key, source)
            else:
                target = self._target(n, name or str(n), source, output)
            target.check_apart(source)
            if options.in_other_processes:
                check_portable(source, options.runner)
            shape = options.block_shape
            shape = None if shape is None else check_block_shape(tuple(shape), source.shape)
            plan, wanted = plan_array(source, target, options, shape, alone=False)
            self._sources.append(source)
            arrays.append(PlannedArray(new_key, plan, (source.name, f"{self.group.path}:{new_key}")))
            asked.append(wanted)
        what = (
            f"{counted(len(images), 'image')}, each with its full-size array, in the layout of bioformats2raw"
        )
        names = self._path, self.group.path
        whole = ImagePlan.of(names, what, arrays, self._asked_ids(arrays), options.threads)
        whole = replace(whole, update=self._update_text(len(whole.block_ids), whole.n_blocks))
        if options.folder is not None:
            return whole
        return image_in_passes(whole, asked, options.casting, room_beside_path(self.group.path, {}))

    def _target(self, number: int, name: str, source: Source, output: Any) -> Target:
        """Return what an image is copied into, and note how it is made."""
        options, key = self.options, self._keys[number][1]
        target = NewPathTarget.plan(output, source, options, keep_values=options.block_ids is not None)
        spec = target.planned.spec
        self._levels.append(NewLevel.planned(key, spec))
        self._attributes[str(number)] = image_attributes(
            spec.metadata,
            spec.shape,
            spec.dtype,
            [Level(FULL_SIZE, (1.0,) * len(spec.shape))],
            version=VERSIONS[self._zarr_format],
            name=name,
        )
        known = [hint for _, hint in self._assumed]
        self._assumed += [(source, hint) for hint in target.assumed(source) if hint not in known]
        return target

    def again(self, **changes: Any) -> SeriesCopy:
        return SeriesCopy(*self._given, replace(self.options, **changes), quiet=True)

    def input(self) -> Any:
        return input_identity(**{f"image {n}": source for n, source in enumerate(self._sources)})

    def _new(self) -> NewImage:
        version = VERSIONS[self._zarr_format]
        order = {"series": list(self._attributes)}
        groups = {
            "": in_version({"bioformats2raw.layout": 3}, version),
            "OME": in_version(order, version),
            **self._attributes,
        }
        family = _family_at(self._path)
        xml = None if family is None else family.ome_xml_of(self._path)
        files = {} if xml is None else {OME_XML: xml.encode()}
        return NewImage(self.group, self._zarr_format, groups, self._levels, files, in_free_place=True)

    def _source(self, number: int) -> Source:
        return self._sources[number]

    def finish(self, *, complete: bool) -> None:
        super().finish(complete=complete)
        if complete:
            for _, key in self._keys:
                with open_source(self.group.path, key, mode="r+") as written:
                    finish_images([written])

    def told(self) -> dict[str, Any]:
        return {"path": self._path, "key": None, "images": len(self._keys)}
