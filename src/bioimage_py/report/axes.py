"""Which axes of an array are shown, which one holds the channels, and where the others are cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from bioimage_py.errors import Hint, InvalidArgumentError
from bioimage_py.report.look import Look
from bioimage_py.sources import OverriddenSource, Source, coarser_levels

_TIME = ("t", "time")
_CHANNEL = ("c", "channel", "channels")
_SAMPLES = "s"
_UNNAMED = {2: "yx", 3: "zyx", 4: "czyx", 5: "tczyx"}
_MOST_CHANNELS = 6


@dataclass(frozen=True)
class ShownAxes:
    """The part that each axis of an array plays in a picture."""

    names: tuple[str, ...]
    space: tuple[int, ...]  # the axes that are shown, slowest first
    at: Mapping[int, int]  # for every axis but that of channels the index where it is cut
    channel_axis: int | None
    channels: tuple[int, ...]  # those shown; (0,) where there is no such axis
    n_channels: int
    is_rgb: bool  # whether the channels are red, green and blue, and perhaps opacity


def shown_axes(source: Source, look: Look) -> ShownAxes:
    """Return what is shown of a source, or raise InvalidArgumentError if that is less than a plane, or not in the array."""
    names = axis_names(source)
    channel = channel_axis(source, names)
    lowered = [name.lower() for name in names]
    time = next((n for n, name in enumerate(lowered) if name in _TIME), None)
    space = tuple(lowered.index(name) for name in "zyx" if name in lowered)
    if len(space) < 2:
        samples = lowered.index(_SAMPLES) if _SAMPLES in lowered else None
        space = tuple(axis for axis in range(source.ndim) if axis not in {channel, time, samples})[-3:]
    listed = f" (its axes are {', '.join(names)})" if names else ""
    if len(space) < 2:
        raise InvalidArgumentError(
            f"a picture shows two axes of space or more, and {source.name} has {len(space)}{listed}",
            hints=[Hint.of("if its axes are others, name them with {}", axes=...)],
        )
    if not source.size:
        raise InvalidArgumentError(f"there is nothing to show: {source.name} holds no voxel")
    at = {axis: 0 for axis in range(source.ndim) if axis != channel}
    at.update({axis: source.shape[axis] // 2 for axis in space})
    for axis, index in _wanted(source, names, space, at, look.position).items():
        at[axis] = _inside(index, source.shape[axis], f"position {index!r} along {names[axis]}", source)
    if look.time is not None:
        if time is None:
            raise InvalidArgumentError(
                f"{source.name} has no axis of time{listed}", hints=[Hint.of("leave out {}", time=...)]
            )
        at[time] = _inside(look.time, source.shape[time], f"time={look.time!r}", source)
    if channel is None:
        if look.channels is not None:
            raise InvalidArgumentError(
                f"{source.name} has no axis of channels{listed}",
                hints=[Hint.of("leave out {}", channels=...)],
            )
        return ShownAxes(names, space, at, None, (0,), 1, False)
    n_channels, is_rgb = source.shape[channel], False
    if look.channels is None:
        is_rgb = is_color(source, channel)
        channels = tuple(range(min(n_channels, _MOST_CHANNELS)))
    else:
        channels = _chosen(source, channel, look.channels)
    return ShownAxes(names, space, at, channel, channels, n_channels, is_rgb)


def axis_names(source: Source) -> tuple[str, ...]:
    """Return the names of the axes as the metadata have them, or those that arrays of so many axes usually have."""
    known = source.metadata.fitting(source.ndim).axes
    if known is not None:
        return known
    shape = source.shape
    like_color = (
        source.ndim >= 3 and shape[-1] in (3, 4) and min(shape[-3:-1]) > 4 and source.dtype.itemsize <= 2
    )
    n_axes = source.ndim - like_color
    if like_color and n_axes < 4:
        return (*_UNNAMED[n_axes], "c")
    if n_axes in _UNNAMED and not like_color:
        return tuple(_UNNAMED[n_axes])
    named = _UNNAMED[5][max(0, 5 - source.ndim) :]
    return (*(f"axis {n}" for n in range(source.ndim - len(named))), *named)


def channel_axis(source: Source, names: Sequence[str]) -> int | None:
    """Return which axis holds the channels: that of samples if they are colours or no other exists."""
    lowered = [name.lower() for name in names]
    channel = next((n for n, name in enumerate(lowered) if name in _CHANNEL), None)
    samples = lowered.index(_SAMPLES) if _SAMPLES in lowered else None
    return samples if samples is not None and (channel is None or is_color(source, samples)) else channel


def is_color(source: Source, axis: int) -> bool:
    """Whether an axis holds red, green and blue: the last one, of three or four, of bytes or pairs of bytes."""
    return (
        axis == source.ndim - 1
        and source.shape[axis] in (3, 4)
        and source.dtype.kind == "u"
        and source.dtype.itemsize <= 2
        and source.metadata.channel_colors is None
    )


def stored_source(source: Source) -> Source:
    """Return the source whose metadata a user has overridden, or the source itself."""
    while isinstance(source, OverriddenSource):
        source = source.inputs[0]
    return source


def open_levels(source: Source, opened: ExitStack) -> list[Source]:
    """Return the coarser levels that are stored with a source, the finest first; `opened` closes them."""
    return [opened.enter_context(level) for level in coarser_levels(stored_source(source))]


def _wanted(
    source: Source,
    names: tuple[str, ...],
    space: tuple[int, ...],
    at: Mapping[int, int],
    position: Sequence[int] | Mapping[str, int] | None,
) -> dict[int, int]:
    """Return at which index which axis is to be cut."""
    if position is None:
        return {}
    if isinstance(position, Mapping):
        for name in position:
            if name not in names or names.index(name) not in at:
                raise InvalidArgumentError(
                    f"position names the axis {name!r}, and {source.name} can be cut along {', '.join(names[a] for a in at)}"
                )
        return {names.index(name): index for name, index in position.items()}
    if not isinstance(position, Sequence) or isinstance(position, str) or len(position) != len(space):
        raise InvalidArgumentError(
            f"position has one index per axis shown ({', '.join(names[a] for a in space)}), got {position!r}"
        )
    return dict(zip(space, position, strict=True))


def _chosen(source: Source, axis: int, wanted: int | Sequence[int]) -> tuple[int, ...]:
    several = list(wanted) if isinstance(wanted, Sequence) and not isinstance(wanted, str) else [wanted]
    if not several or len(set(map(str, several))) != len(several):
        raise InvalidArgumentError(f"channels names one channel or several, each once, got {wanted!r}")
    return tuple(_inside(n, source.shape[axis], f"channel {n!r}", source) for n in several)


def _inside(index: Any, extent: int, what: str, source: Source) -> int:
    """Return an index as an int, or raise InvalidArgumentError if it is not an integer or outside."""
    whole = hasattr(index, "__index__") and not isinstance(index, bool)
    if not whole or not 0 <= int(index) < extent:
        raise InvalidArgumentError(
            f"{what} is outside of {source.name}: valid indices are from 0 to {extent - 1}"
        )
    return int(index)
