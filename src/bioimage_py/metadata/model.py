"""One model of what an image says about its axes, whatever format it came from."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

from bioimage_py.errors import Hint

_PER_AXIS = {"axes": "", "voxel_size": 1.0, "units": None, "origin": 0.0, "orientations": None}
"""Fields with an entry per axis, and what it is for a new axis."""
PER_CHANNEL = ("channel_names", "channel_colors", "contrast_limits")


@dataclass(frozen=True)
class ImageMetadata:
    """Axes, voxel size, units and attributes of an array; what is unknown is None.

    Attributes
    ----------
    axes
        One short name per array axis, slowest first, such as `("z", "y", "x")`.
    voxel_size
        Physical extent of a voxel per array axis, in `units`; 1.0 on axes that have none.
    units
        Unit per array axis as OME-NGFF names them (`"micrometer"`), None where unknown.
    origin
        Position of the centre of the first voxel per array axis, in `units`.
    channel_names
        Names of the channels, along the axis "c"; one name where there is no such axis.
    channel_colors
        Colour per channel as six hexadecimal digits, `"00FF00"`.
    contrast_limits
        The values per channel that are shown as black and as full colour.
    attributes
        Everything else that the source carries, plain JSON values.
    assumed
        What the reader of the file took for granted, with the option that states it; see `assumptions`.
    stated
        Names of the options with which the user has said otherwise.
    orientations
        Which way each axis goes in a body, as RFC-4 of OME-NGFF has it (`{"type": "anatomical", "value": "left-to-right"}`), None
        where unknown.
    """

    axes: tuple[str, ...] | None = None
    voxel_size: tuple[float, ...] | None = None
    units: tuple[str | None, ...] | None = None
    origin: tuple[float, ...] | None = None
    channel_names: tuple[str, ...] | None = None
    channel_colors: tuple[str, ...] | None = None
    contrast_limits: tuple[tuple[float, float], ...] | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    orientations: tuple[Mapping[str, Any] | None, ...] | None = None
    assumed: tuple[Hint, ...] = field(default=(), compare=False, repr=False)
    stated: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def with_axes_selected(self, kept: Sequence[int | None]) -> ImageMetadata:
        """Return the metadata of an array whose axes are `kept`, None standing for a new axis, which has no name."""
        found: dict[str, Any] = {
            name: tuple(missing if axis is None else values[axis] for axis in kept)
            for name, missing in _PER_AXIS.items()
            if (values := getattr(self, name)) is not None
        }
        if None in kept:
            found["axes"] = None
        return replace(self, **found)

    def with_channels_selected(self, kept: Sequence[int] | None) -> ImageMetadata:
        """Return the metadata of an array of the channels `kept`, in that order; None drops what is known of channels."""

        def pick(values: tuple[Any, ...] | None) -> Any:
            if values is None or kept is None or any(not 0 <= n < len(values) for n in kept):
                return None
            return tuple(values[n] for n in kept)

        found: dict[str, Any] = {name: pick(getattr(self, name)) for name in PER_CHANNEL}
        return replace(self, **found)

    def as_rgb(self, dtype: Any) -> ImageMetadata:
        """Return the metadata of an image whose three channels are red, green and blue, where it does not say otherwise.

        Of 8 bits each, they are shown in full range, without which colours would be others.
        """
        limits = ((0.0, 255.0),) * 3 if dtype == "uint8" else None
        return replace(
            self,
            channel_colors=self.channel_colors or ("FF0000", "00FF00", "0000FF"),
            contrast_limits=self.contrast_limits or limits,
        )

    def for_channels(self, count: int) -> ImageMetadata:
        """Return the metadata without what is said of channels by a number of entries that is not `count`."""
        return self._of_length(PER_CHANNEL, count)

    def for_axes(self, ndim: int) -> ImageMetadata:
        """Return the metadata without what is said of axes by a number of entries that is not `ndim`."""
        return self._of_length(_PER_AXIS, ndim)

    def _of_length(self, names: Iterable[str], count: int) -> ImageMetadata:
        wrong: dict[str, Any] = {name: None for name in names if len(getattr(self, name) or ()) != count}
        return replace(self, **wrong) if wrong else self

    def with_axes_flipped(self, flipped: Collection[int]) -> ImageMetadata:
        """Return the metadata of the mirror image along some axes: it lies where the image was."""
        if self.orientations is None:
            return self
        each = enumerate(self.orientations)
        return replace(self, orientations=tuple(_mirrored(one) if n in flipped else one for n, one in each))

    def shifted(self, offset: Sequence[int]) -> ImageMetadata:
        """Return the metadata of a region that begins `offset` voxels into the array; a channel has no place."""
        if self.axes is not None and "c" in self.axes:
            offset = [0 if axis == "c" else n for axis, n in zip(self.axes, offset, strict=True)]
        if self.voxel_size is None or not any(offset):
            return self
        origin = self.origin or (0.0,) * len(self.voxel_size)
        return replace(
            self, origin=tuple(o + n * s for o, n, s in zip(origin, offset, self.voxel_size, strict=True))
        )

    def fitting(self, ndim: int) -> ImageMetadata:
        """Return the metadata with every per-axis field that does not have `ndim` entries, or is nonsense, dropped."""
        found = self.for_axes(ndim)
        if found.voxel_size is not None and not all(math.isfinite(s) and s > 0 for s in found.voxel_size):
            found = replace(found, voxel_size=None)
        if found.axes is not None and len(set(found.axes)) != len(found.axes):
            found = replace(found, axes=None)
        return found


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value of JSON is a number: True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _mirrored(orientation: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    first, to, last = str((orientation or {}).get("value", "")).partition("-to-")
    return {**orientation, "value": f"{last}{to}{first}"} if orientation is not None and to else None
