"""Several sources, one behind the other, as one."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, Self

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources import Source
from bioimage_py.wrapper.arguments import checked_sources
from bioimage_py.wrapper.base import WrapperSource
from bioimage_py.wrapper.shape.axes import axis_number
from bioimage_py.wrapper.spec import register_wrapper


@register_wrapper("concatenate")
class ConcatenateSource(WrapperSource):
    """Sources joined along an axis, as `numpy.concatenate(sources, axis)` does: a list of files as one volume.

    Parameters
    ----------
    sources
        Sources, arrays, handles or paths; at least one. All have the same shape except along the axis.
    axis
        Number of the axis or, where the metadata of the first source name it, its name.

    Raises
    ------
    InvalidArgumentError
        If no source is given, their shapes do not fit (the message says which), or no dtype holds the values of all.

    Notes
    -----
    The dtype is the one that numpy promotes to. Chunks are those of the first source, metadata too; channel names are
    joined. Sources joined along the same axis before are read directly. A region reads only the sources that it meets.

    For files with one axis less, wrap each in `ExpandDimsSource` first.

    Examples
    --------
    >>> upper, lower = np.zeros((1, 3), "uint8"), np.ones((2, 3), "uint8")
    >>> ConcatenateSource([upper, lower])[:, 0].tolist()
    [0, 1, 1]
    """

    axis: int

    def __init__(self, sources: Sequence[Any], axis: int | str = 0) -> None:
        super().__init__(*checked_sources(sources, type(self)))
        with self.closing_on_error():
            self.axis = axis_number(axis, self.inputs[0])
            self.inputs = tuple(part for source in self.inputs for part in self._joined_in(source))
            self._check_shapes()
            self.dtype = self._common_dtype()
        self._ends = tuple(accumulate(source.shape[self.axis] for source in self.inputs))
        self.shape = (*self.shape[: self.axis], self._ends[-1], *self.shape[self.axis + 1 :])

    @classmethod
    def from_parameters(cls, inputs: Sequence[Source], parameters: Mapping[str, Any]) -> Self:
        return cls(inputs, **parameters)

    @property
    def name(self) -> str:
        more = f" and {len(self.inputs) - 1} more" if len(self.inputs) > 1 else ""
        return f"{type(self).__name__}({self.inputs[0].name}{more})"

    @property
    def metadata(self) -> ImageMetadata:
        """Metadata of the first source, with what is known of all channels where they are joined."""
        metadata = super().metadata
        if metadata.axes is None or metadata.axes[self.axis] != "c":
            return metadata
        each = [source.metadata.for_channels(source.shape[self.axis]) for source in self.inputs]
        return replace(
            metadata,
            channel_names=_joined([some.channel_names for some in each]),
            channel_colors=_joined([some.channel_colors for some in each]),
            contrast_limits=_joined([some.contrast_limits for some in each]),
        )

    def _joined_in(self, source: Source) -> tuple[Source, ...]:
        if isinstance(source, ConcatenateSource) and source.axis == self.axis:
            return source.inputs
        return (source,)

    def _check_shapes(self) -> None:
        def across(source: Source) -> tuple[Any, ...]:
            return source.ndim, source.shape[: self.axis], source.shape[self.axis + 1 :]

        first = self.inputs[0]
        for source in self.inputs:
            if across(source) != across(first):
                raise InvalidArgumentError(
                    f"the sources must have the same shape except along axis {self.axis}: {first.name} has {first.shape}, "
                    f"{source.name} has {source.shape}"
                )

    def _common_dtype(self) -> np.dtype[Any]:
        dtypes = sorted({source.dtype.newbyteorder("=") for source in self.inputs}, key=str)
        common = np.result_type(*dtypes)
        for dtype in dtypes:
            # numpy promotes 64-bit integers of both kinds to float64, which rounds them.
            rounds = dtype.kind in "iu" and dtype.itemsize == 8 and common.kind not in "iu"
            if rounds or not np.can_cast(dtype, common, "safe"):
                raise InvalidArgumentError(
                    f"no dtype holds the voxels of all sources, which are {', '.join(map(str, dtypes))}: "
                    "wrap them in CastSource"
                )
        return common

    def scratch_bytes(self, shape: tuple[int, ...]) -> int:
        itemsize = max(source.dtype.itemsize for source in self.inputs)
        parts = zip(self.inputs, self.read_shapes(shape), strict=True)
        return math.prod(shape) * itemsize + max(source.scratch_bytes(part) for source, part in parts)

    def _read(self, box: Box) -> AnyArray:
        first = bisect_right(self._ends, box.begin[self.axis])
        last = bisect_right(self._ends, box.end[self.axis] - 1)
        blocks = [self._from(position, box) for position in range(first, last + 1)]
        joined = blocks[0] if len(blocks) == 1 else np.concatenate(blocks, self.axis)
        return joined.astype(self.dtype, copy=False)

    def _from(self, position: int, box: Box) -> AnyArray:
        """Return what one source has of a region."""
        start = self._ends[position - 1] if position else 0
        begin, end = max(start, box.begin[self.axis]), min(self._ends[position], box.end[self.axis])
        part = box.with_axis(self.axis, begin - start, end - start)
        return np.empty(part.shape, self.dtype) if part.is_empty() else self.read_input(part, position)


def _joined(each: list[tuple[Any, ...] | None]) -> Any:
    """Return what is known of the channels of all sources, None if of some nothing is."""
    if any(some is None for some in each):
        return None
    return tuple(value for some in each if some is not None for value in some)
