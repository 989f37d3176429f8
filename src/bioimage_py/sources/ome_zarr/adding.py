"""Adding levels to an OME-Zarr image that is there; its full-size level is never touched."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from bioimage_py.errors import Hint, InvalidArgumentError, OutputExistsError
from bioimage_py.metadata import (
    Level,
    NgffDataset,
    images_of,
    level_transformations,
    ome_of,
    one_transformation,
)
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.base import FileSource, Source
from bioimage_py.sources.creating import checked_overwrite
from bioimage_py.sources.ome_zarr.listing import joined_key
from bioimage_py.sources.ome_zarr.writing import NewLevel, level_spec, make_in_rooms, write_attributes
from bioimage_py.sources.registry import family_of
from bioimage_py.sources.stores import (
    group_attributes,
    removable_array,
    remove_array,
    update_consolidated,
)
from bioimage_py.sources.zarr import read_node, store_rules, zarr_format_of
from bioimage_py.storage import StoreFolder

_LAST_NUMBER = re.compile(r"\d+(?=\D*$)")
_NOT_OF_A_LEVEL = ("attributes", "consolidated_metadata")


@dataclass(frozen=True)
class GrowingImage:
    """An OME-Zarr image whose full-size level is there."""

    root: StoreFolder
    key: str | None  # of the image's group in the container, None for the container itself
    full: str  # path of the full-size level below the group
    source: FileSource  # the full-size level, opened for reading
    attributes: Mapping[str, Any]  # of the group, as they are now
    number: int  # which of the group's `multiscales` it is

    @classmethod
    def around(cls, source: Source) -> GrowingImage:
        """Return the image that an array is the full-size level of."""
        if isinstance(source, FileSource) and source.kind == "zarr":
            root = StoreFolder.of_spec({**source.to_spec(), "key": None})
            parts = (source.key or "").split("/")
            for n in range(len(parts)):
                key, path = "/".join(parts[:n]) or None, "/".join(parts[n:])
                attributes = group_attributes(root.child(key))
                images = ome_of(attributes).get("multiscales")
                for number, image in enumerate(images if isinstance(images, list) else ()):
                    paths = _paths(image)
                    if path == next(iter(paths), None):
                        return cls(root, key, path, source, attributes, number)
                    if path in paths:
                        raise InvalidArgumentError(
                            f"{source.name} is level {paths.index(path)} of its image: levels are made from the full-size one, "
                            f"{paths[0]!r}"
                        )
        raise InvalidArgumentError(
            f"{source.name} is not the full-size level of an OME-Zarr image, to which levels could be added: give an output, such as "
            "'out.ome.zarr'"
        )

    @property
    def others(self) -> list[str]:
        """Paths of the levels that are there below the full-size one."""
        return _paths(self._images(self.attributes)[self.number])[1:]

    def path_of(self, number: int) -> str:
        """Return the path of a level that is added, named as the full-size one is: `"1"` beside `"0"`, `"s1"` beside `"s0"`."""
        if _LAST_NUMBER.search(self.full) is None:
            return f"{self.full}_{number}"
        return _LAST_NUMBER.sub(str(number), self.full, count=1)

    def folder(self, path: str) -> StoreFolder:
        """Return the folder of a level."""
        return self.root.child(joined_key(self.key, path))

    def opened(self, levels: Sequence[Level]) -> list[Source]:
        zarr, options = family_of("zarr"), self.root.options
        keys = [joined_key(self.key, one.path) for one in levels]
        return [zarr.open_path(self.root.path, key, "r+", **options) for key in keys]

    def check_free(self, new: Sequence[str], *, overwrite: bool) -> None:
        """Raise what `add` would raise before it makes or removes anything."""
        overwrite = checked_overwrite(overwrite)
        if self.root.read_only:
            self.root.check_writable(self.key)
        if self.others and not overwrite:
            raise OutputExistsError(
                f"{self._group.path} has {len(self.others)} smaller levels already",
                hints=[
                    Hint.of("to make them again, give {}", overwrite=True),
                    Hint("the full-size one stays as it is"),
                ],
            )
        if self.others and not self.root.is_local:
            raise OutputExistsError(
                f"{self._group.path} has levels that cannot be removed from here ({', '.join(self.others)}): remove them first"
            )
        self._check_alone(new)
        self._removable()

    def add(self, levels: Sequence[Level], *, overwrite: bool) -> list[Source]:
        """Make the arrays of levels, name them in the image, and return them opened for writing."""
        self.check_free([level.path for level in levels], overwrite=overwrite)
        old = self._removable()
        node = read_node(self._group.child(self.full))
        assert node is not None
        assert node.array is not None
        stored = {name: value for name, value in node.array.items() if name not in _NOT_OF_A_LEVEL}
        zarr_format = zarr_format_of(node)
        source = self.source
        spec = ArraySpec(
            source.shape,
            source.dtype,
            source.chunks,
            source.shards,
            None,
            zarr_format,
            source.fill_value,
            metadata=source.metadata,
        )
        names = node.attributes.get("_ARRAY_DIMENSIONS")
        own_names = {} if names is None else {"_ARRAY_DIMENSIONS": names}
        making = []
        for level in levels:
            smaller = level_spec(spec, level)
            wanted = {**stored, "shape": list(smaller.shape)}
            making.append(NewLevel.planned(joined_key(self.key, level.path), smaller, wanted, own_names))
        self._write([])
        for array in old:
            remove_array(array)
        update_consolidated([self._group, *old])
        with ExitStack() as rooms:  # a crash can leave arrays that the image does not name yet
            make_in_rooms(rooms, self.root, making, overwrite=overwrite)
        self._write(levels)
        update_consolidated([self._group, *(self._group.child(level.path) for level in levels)])
        return self.opened(levels)

    def remove(self, levels: Sequence[Level]) -> None:
        """Take levels out of the image again, and remove their arrays: nothing has been written into them."""
        self._write([])
        arrays = [self._group.child(level.path) for level in levels]
        for folder in arrays:
            if folder.is_local:
                remove_array(folder)
        update_consolidated([self._group, *arrays])

    def _removable(self) -> list[StoreFolder]:
        """Return the arrays of the smaller levels, after checking that the full-size one is none of them, nor in one, nor around one."""
        rules = store_rules(3)
        for path in self.others:
            if not path or f"{self.full}/".startswith(f"{path}/") or f"{path}/".startswith(f"{self.full}/"):
                raise InvalidArgumentError(
                    f"{self._group.path} names {path!r} as a smaller level of {self.full!r}, which it is, or holds, or lies in: correct its "
                    "metadata, or give an output"
                )
        found = [removable_array(self._group, path, rules) for path in dict.fromkeys(self.others)]
        return [level for level in found if level is not None]

    def _check_alone(self, new: Sequence[str]) -> None:
        """Refuse to write or remove what another image of the group is made of."""
        images = self._images(self.attributes)
        shared = {path for n, image in enumerate(images) if n != self.number for path in _paths(image)}
        clash = sorted(shared & {*new, *self.others})
        if clash:
            raise InvalidArgumentError(
                f"{self._group.path} has {len(images)} images, and {', '.join(clash)} would be part of two of them: give an output"
            )

    @property
    def _group(self) -> StoreFolder:
        return self.root.inside(self.key)

    def _write(self, levels: Sequence[Level]) -> None:
        changed = copy.deepcopy(dict(self.attributes))
        image = self._images(changed)[self.number]
        full = image["datasets"][0]
        described = list(images_of(changed))[self.number].datasets[0]
        image["datasets"] = [full, *(_dataset(full, described, level) for level in levels)]
        node = read_node(self._group.child(self.full))
        assert node is not None
        write_attributes(self._group, changed, zarr_format_of(node), fresh=False)

    @staticmethod
    def _images(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ome_of(attributes)["multiscales"]
        return found


def _paths(image: Any) -> list[str]:
    datasets = image.get("datasets") if isinstance(image, Mapping) else None
    return [
        str(entry["path"]).strip("/")
        for entry in (datasets if isinstance(datasets, list) else ())
        if isinstance(entry, Mapping) and "path" in entry
    ]


def _dataset(full: Mapping[str, Any], placed: NgffDataset, level: Level) -> dict[str, Any]:
    """Return the entry of a level: what places the full-size one among others, such as an image's own scale, goes for it too."""
    steps = full.get("coordinateTransformations")
    listed = [step for step in steps if isinstance(step, Mapping)] if isinstance(steps, list) else []
    ends = next(({"input": step["input"], "output": step["output"]} for step in listed if "output" in step), None)  # fmt: skip
    said = {step.get("type"): step.get(step.get("type")) for step in listed}
    sizes, origin = said.get("scale"), said.get("translation")
    if ends is not None:
        # Version 0.6 says what a transformation leads from and to, and has one for each level.
        sizes, origin = placed.scale, placed.translation
        ends["input"] = {"path": level.path} if isinstance(ends["input"], Mapping) else level.path
    found = level_transformations(level, sizes, origin)
    if ends is not None:
        found = [{**ends, **one_transformation(found)}]
    return {"path": level.path, "coordinateTransformations": found}
