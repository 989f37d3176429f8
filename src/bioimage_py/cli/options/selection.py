"""The part of an input that is meant, and its values on another scale, as a wrapper around it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bioimage_py.cli.failure import UsageError
from bioimage_py.option import option

if TYPE_CHECKING:
    from bioimage_py.sources import Source

_PART = re.compile(r"(?:(\w+)=)?(?:(-?\d+)?(:)(-?\d+)?|(-?\d+))")
_SPACE = ("z", "y", "x")


@dataclass(frozen=True)
class Selection:
    """Which part of an input a command takes, and on which scale."""

    crop: str | None = option(
        "only this region: a range per axis, or per axis of space, such as 10:20,:,-512:, or by name, z=10:20",
        metavar="RANGES",
    )
    channel: str | None = option("only these channels, by number or name: 1 or 0,2 or DAPI", metavar="NAMES")
    time_points: str | None = option("only these time points: 0:10 or 5", metavar="RANGE")
    scale_to: str | None = option(
        "data type, such as uint8, over whose range the values are spread; integers are rounded",
        metavar="TYPE",
    )
    in_range: tuple[float | str, float | str] | None = option(
        "with --scale-to: the values that become the ends of its range, and what is beyond them too, or percentiles of a "
        "sample of 64 MiB: 100,4000 or 1%%,99%% (default: the range of the input's data type)",
        metavar="LOW,HIGH",
        read="limits",
        spelled="--range",
    )

    def applied(self, source: Source) -> Source:
        """Return the part of a source on its scale; closing it closes the source, and so does an error."""
        try:
            for step in (self._of_channels, self._of_times, self._cropped, self._scaled):
                found = step(source)
                if found is not source:
                    found.owned, source = (source,), found
        except BaseException:
            source.close()
            raise
        return source

    def _of_channels(self, source: Source) -> Any:
        if self.channel is None:
            return source
        from bioimage_py.wrapper import RoiSource, SelectSource
        from bioimage_py.wrapper.shape import axis_number

        names = source.metadata.channel_names or ()
        given = [part.strip() for part in self.channel.split(",")]
        numbers = [int(one) if one not in names and re.fullmatch(r"-?\d+", one) else one for one in given]
        axis = axis_number("c", source)
        extent = source.shape[axis]
        known = ", ".join(names) or f"numbers 0 to {extent - 1}"
        for one in numbers:
            if not (one in names if isinstance(one, str) else -extent <= one < extent):
                raise UsageError(f"{source.name} has no channel {one}; there are {known}")
        index = (found := SelectSource(source, numbers)).index
        if list(index) != list(range(index[0], index[-1] + 1)):
            return found
        # Encoded chunks of a region can be moved.
        return RoiSource(source, (slice(None),) * axis + (slice(index[0], index[-1] + 1),))

    def _of_times(self, source: Source) -> Any:
        return (
            source if self.time_points is None else _region("--time-points", f"t={self.time_points}", source)
        )

    def _cropped(self, source: Source) -> Any:
        if self.crop is None:
            return source
        for axis, one, value in (("c", "--channel", self.channel), ("t", "--time-points", self.time_points)):
            if value is not None and f"{axis}=" in self.crop:
                raise UsageError(f"--crop and {one} both choose along the axis {axis!r}: leave out one")
        return _region("--crop", self.crop, source)

    def _scaled(self, source: Source) -> Any:
        limits: Any = self.in_range
        if self.scale_to is None:
            if limits is not None:
                raise UsageError("--range needs --scale-to, such as --scale-to uint8")
            return source
        import numpy as np

        from bioimage_py.wrapper import RescaleSource

        if limits is None:
            if source.dtype.kind not in "biu":
                raise UsageError(
                    f"--scale-to of {source.dtype} voxels needs --range, such as --range 0%,100%"
                )
            info = None if source.dtype.kind == "b" else np.iinfo(source.dtype)
            limits = (0, 1) if info is None else (int(info.min), int(info.max))
        return RescaleSource(source, limits, dtype=self.scale_to)


def _region(name: str, text: str, source: Source) -> Source:
    """Return the region that ranges of all axes, of those of space, or of those that they name, leave of a source."""
    from bioimage_py.wrapper import RoiSource
    from bioimage_py.wrapper.shape import axis_number

    parts = [_PART.fullmatch(part.replace(" ", "")) for part in text.split(",")]
    named = [part is not None and part[1] is not None for part in parts]
    if None in parts or any(named) != all(named):
        raise UsageError(f"{name} takes ranges such as 10:20,:,-512: or z=10:20,x=:512, not {text!r}")
    axes = source.metadata.axes or ()
    numbers: Sequence[int] = range(source.ndim)
    if all(named):
        numbers = [axis_number(part[1], source) for part in parts if part is not None]
    elif len(parts) != source.ndim:
        numbers = [n for n, axis in enumerate(axes) if axis.lower() in ("z", "y", "x")]
    if len(set(numbers)) != len(parts):
        known = f" ({', '.join(axes)})" if axes else ""
        raise UsageError(
            f"{name} {text} does not fit {source.name}, which has {source.ndim} axes{known}: give one range for each, for each of space, "
            "or name axes, each once, as in z=10:20"
        )
    chosen = {axis: _slice(part) for axis, part in zip(numbers, parts, strict=True) if part is not None}
    for axis, one in chosen.items():
        extent = source.shape[axis]
        if any(end is not None and not -extent <= end <= extent for end in (one.start, one.stop)):
            what = repr(axes[axis]) if axes else axis
            raise UsageError(
                f"{name} {text} is outside of {source.name}, which has {extent:,} voxels along axis {what}"
            )
    found = RoiSource(source, tuple(chosen.get(axis, slice(None)) for axis in range(source.ndim)))
    if 0 in found.shape and 0 not in source.shape:
        raise UsageError(f"{name} {text} leaves no voxel of {source.name} of shape {source.shape}")
    return found


def _slice(part: re.Match[str]) -> slice:
    if part[3]:
        first, last = (None if end is None else int(end) for end in part.group(2, 4))
        return slice(first, last)
    return slice(int(part[5]), int(part[5]) + 1 or None)
