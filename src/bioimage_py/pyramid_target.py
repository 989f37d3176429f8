"""Where the levels of a pyramid go, before anything is made: a new OME-Zarr image, or one that is there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from bioimage_py.copy_target import NewPathTarget, find_target
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.metadata.ome_ngff import Level
from bioimage_py.planning import ArrayLayout
from bioimage_py.sources import Codec, Source
from bioimage_py.sources.encoding import ChunkEncoding, UnknownEncoding

__all__ = ["NewPyramid", "PyramidTarget"]


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

    def check(self, source: Source, job_type: str | None) -> None:
        """Raise InvalidArgumentError if the levels could touch what `source` reads, or cannot be written by this backend."""
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

    def check(self, source: Source, job_type: str | None) -> None:
        """Refuse a path that is the input, or around it, or in it."""
        self._target.check_apart(source)
        if job_type is not None:
            self._target.check_shared(job_type)
            source.to_spec()

    def open(self, coarser: Sequence[Level], *, overwrite: bool, resume: bool) -> list[Source]:
        """Make the image with all its levels, or open it."""
        return self._target.open_levels(coarser, overwrite=overwrite, resume=resume)

    def discard(self) -> None:
        """Remove the image, if it holds metadata only."""
        self._target.discard()
