"""Where the levels of a pyramid go, before anything is made: a new OME-Zarr image, or one that is there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from bioimage_py.chunks import ChunkEncoding, UnknownEncoding
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.metadata import Level, axes_for_ngff
from bioimage_py.operations.copy_target import NewPathTarget, find_target
from bioimage_py.planning import ArrayLayout
from bioimage_py.sources import Codec, Source, as_source
from bioimage_py.sources.ome_zarr import GrowingImage, levels_for_labels, steps_between
from bioimage_py.storage import StoreFolder


class PyramidTarget(Protocol):
    """The image that the levels belong to."""

    @property
    def layout(self) -> ArrayLayout:
        """How the full-size level is stored."""
        ...

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of its axes, as OME-Zarr has them."""
        ...

    @property
    def voxel_size(self) -> tuple[float, ...] | None:
        """Of full-size voxels."""
        ...

    @property
    def in_place(self) -> bool:
        """Whether the full-size level is there already, and stays as it is."""
        ...

    @property
    def is_labels(self) -> bool:
        """Whether it is a label image."""
        ...

    def steps_of_image(self) -> list[tuple[int, ...]] | None:
        """Return how labels are reduced to have the levels of their image; None where it is none, or they cannot have them."""
        ...

    def path_of(self, number: int) -> str:
        """Return the path of a level in the image."""
        ...

    def check(self, source: Source, job_type: str | None) -> None:
        """Raise InvalidArgumentError if the levels could touch what `source` reads, or cannot be written by this backend."""
        ...

    def check_free(self, coarser: Sequence[Level], *, overwrite: bool) -> None:
        """Raise what `open` would raise before it makes anything."""
        ...

    def open(self, coarser: Sequence[Level], *, overwrite: bool, resume: bool) -> list[Source]:
        """Make the levels, and return all opened, full size first."""
        ...

    def discard(self) -> None:
        """Remove what `open` made, if nothing was written into it."""
        ...


class NewPyramid:
    """A new OME-Zarr image.

    Parameters
    ----------
    output
        Its path.
    source
        The input, for shape, dtype and metadata.
    new_array
        Options for `create_output`.
    """

    in_place = False

    def __init__(self, output: Any, source: Source, new_array: Mapping[str, Any]) -> None:
        if not isinstance(output, (str, os.PathLike)):
            raise InvalidArgumentError(
                f"a pyramid is written to a path that ends in .ome.zarr, got {type(output).__name__}"
            )
        target = find_target(output, source, new_array, keep_values=False)
        assert isinstance(target, NewPathTarget)
        planned = target.planned
        if planned.image_key is None:
            raise InvalidArgumentError(
                f"output {planned.name!r} is no place for a pyramid: give a path that ends in .ome.zarr, such as 'out.ome.zarr', or "
                "the labels in one, 'out.ome.zarr/labels/cells'"
            )
        self._target = target
        self.layout = target.layout
        self.axes = planned.spec.metadata.axes or ()
        self.voxel_size = planned.spec.metadata.voxel_size
        self.is_labels = planned.image_key.startswith("labels/")

    @property
    def codec(self) -> Codec | None:
        """The codec that the caller asked for."""
        return self._target.codec

    def encoding(self) -> ChunkEncoding | UnknownEncoding:
        """Return how the full-size level will encode its chunks."""
        return self._target.encoding()

    def steps_of_image(self) -> list[tuple[int, ...]] | None:
        """Return how labels are reduced to have the levels of their image."""
        if not self.is_labels:
            return None
        return _steps_from(StoreFolder.at(self._target.path), self.axes, self.layout.shape)

    def path_of(self, number: int) -> str:
        """Return the number."""
        return str(number)

    def check(self, source: Source, job_type: str | None) -> None:
        """Refuse a path that is the input, or around it, or in it."""
        self._target.check_apart(source)
        if job_type is not None:
            self._target.check_shared(job_type)
            source.to_spec()

    def check_free(self, coarser: Sequence[Level], *, overwrite: bool) -> None:
        """Raise what `open` would raise before it makes anything."""
        self._target.check_free(coarser, overwrite=overwrite)

    def open(self, coarser: Sequence[Level], *, overwrite: bool, resume: bool) -> list[Source]:
        """Make the image with all its levels, or open it."""
        return self._target.open_levels(coarser, overwrite=overwrite, resume=resume)

    def discard(self) -> None:
        """Remove the image, if it holds metadata only."""
        self._target.discard()


class AddedLevels:
    """An OME-Zarr image that is there, and gets smaller levels; its full-size one stays as it is.

    Parameters
    ----------
    input
        The image, or its full-size level.
    for_new
        What the user says that only a new output can have.
    """

    in_place = True

    def __init__(self, input: Any, for_new: Mapping[str, Any]) -> None:
        given = [name for name, value in for_new.items() if value is not None and name != "zarr_format"]
        if given:
            raise InvalidArgumentError(
                f"{', '.join(given)} can be given for a new output only: without an output levels are added to the image that is "
                "there, and are stored as its full-size level"
            )
        self.source = as_source(input)
        self._image = GrowingImage.around(self.source)
        self._added: list[Level] = []
        self.layout = ArrayLayout.of(self.source)
        metadata = self.source.metadata
        self.axes = axes_for_ngff(metadata.axes, self.source.ndim, self.source.name)
        self.voxel_size = metadata.voxel_size
        attributes = metadata.attributes
        self.is_labels = "image-label" in attributes or "labels" in (self._image.key or "").split("/")

    def steps_of_image(self) -> list[tuple[int, ...]] | None:
        """Return how labels are reduced to have the levels of their image."""
        above, _, labels = (self._image.key or "").rpartition("/")[0].rpartition("/")
        if labels != "labels":
            return None
        return _steps_from(self._image.root.child(above or None), self.axes, self.layout.shape)

    def path_of(self, number: int) -> str:
        """Return the path of a level, named as the full-size one is."""
        return self._image.path_of(number)

    def check(self, source: Source, job_type: str | None) -> None:
        """Accept every Zarr: its levels are written beside the one that is read."""
        if job_type is not None:
            source.to_spec()

    def check_free(self, coarser: Sequence[Level], *, overwrite: bool) -> None:
        """Raise what `open` would raise before it makes anything."""
        self._image.check_free([level.path for level in coarser], overwrite=overwrite)

    def open(self, coarser: Sequence[Level], *, overwrite: bool, resume: bool) -> list[Source]:
        """Add the levels to the image, or open them, and return them after the full-size one."""
        if resume:
            return [self.source, *self._image.opened(coarser)]
        made = self._image.add(coarser, overwrite=overwrite)
        self._added = list(coarser)
        return [self.source, *made]

    def discard(self) -> None:
        """Take the levels out again: nothing has been written into them."""
        if self._added:
            self._image.remove(self._added)


def _steps_from(
    image: StoreFolder, axes: Sequence[str], shape: tuple[int, ...]
) -> list[tuple[int, ...]] | None:
    """Return the steps from a shape on through the levels of an image that has a level of that shape."""
    levels = levels_for_labels(image, axes)
    first = next((n for n, (found, _) in enumerate(levels) if found == shape), None)
    return None if first is None else steps_between(levels[first:])
