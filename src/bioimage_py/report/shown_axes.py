"""Which axes of an array a picture shows, and where the others are cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.sources import Source

_SPACE = ("z", "y", "x")
_TIME = ("t", "time")
_CHANNEL = ("c", "channel", "channels")
_SAMPLES = "s"
_UNNAMED = {2: "yx", 3: "zyx", 4: "czyx", 5: "tczyx"}
_MOST_CHANNELS = 6


@dataclass(frozen=True)
class Choice:
    """What a user asks to see.

    Attributes
    ----------
    position
        Index per axis of space, as a sequence or by name; None for the middle.
    time
        Index along the axis of time; None for the first.
    channels
        Which channels, one or several; None for all, of many the first.
    """

    position: Sequence[int] | Mapping[str, int] | None = None
    time: int | None = None
    channels: int | Sequence[int] | None = None


@dataclass(frozen=True)
class ShownAxes:
    """The part that each axis of an array plays in a picture.

    Attributes
    ----------
    names
        Name per array axis.
    space
        The two or three array axes that are shown, slowest first.
    at
        For every axis but that of channels the index where it is cut.
    channel_axis
        The array axis of the channels, or None.
    channels
        The channels shown; `(0,)` where there is no such axis.
    n_channels
        How many there are.
    is_rgb
        Whether the channels are red, green and blue, and perhaps opacity.
    """

    names: tuple[str, ...]
    space: tuple[int, ...]
    at: Mapping[int, int]
    channel_axis: int | None
    channels: tuple[int, ...]
    n_channels: int
    is_rgb: bool


def shown_axes(source: Source, choice: Choice) -> ShownAxes:
    """Return what is shown of a source.

    Raises
    ------
    InvalidArgumentError
        If the array has fewer than two axes of space, or none of its voxels; if a position, time or channel is outside, or
        belongs to an axis that is not there.
    """
    names = _names(source)
    lowered = [name.lower() for name in names]
    channel = next((n for n, name in enumerate(lowered) if name in _CHANNEL), None)
    samples = lowered.index(_SAMPLES) if _SAMPLES in lowered else None
    if channel is None or (samples is not None and _is_color(source, samples)):
        channel = samples if samples is not None else channel
    time = next((n for n, name in enumerate(lowered) if name in _TIME), None)
    space = _space(lowered, {channel, time, samples})
    if len(space) < 2:
        raise InvalidArgumentError(
            f"a picture shows two axes of space or more, and {source.name} has {len(space)}{_listed(names)}; "
            "if its axes are others, say so with axes="
        )
    if not source.size:
        raise InvalidArgumentError(f"there is nothing to show: {source.name} holds no voxel")
    is_rgb = channel is not None and choice.channels is None and _is_color(source, channel)
    at = {axis: 0 for axis in range(source.ndim) if axis != channel}
    at.update({axis: source.shape[axis] // 2 for axis in space})
    _place(source, names, space, at, choice.position)
    if choice.time is not None:
        if time is None:
            raise InvalidArgumentError(f"{source.name} has no axis of time{_listed(names)}: leave out time=")
        at[time] = _inside(choice.time, source.shape[time], f"time={choice.time!r}", source)
    channels = _channels(source, names, channel, choice.channels)
    if is_rgb and channel is not None:
        channels = tuple(range(source.shape[channel]))
    n_channels = 1 if channel is None else source.shape[channel]
    return ShownAxes(names, space, at, channel, channels, n_channels, is_rgb)


def _names(source: Source) -> tuple[str, ...]:
    """Return the names of the axes as the metadata have them, or those that arrays of so many axes usually have."""
    known = source.metadata.fitting(source.ndim).axes
    if known is not None:
        return known
    shape = source.shape
    like_color = (
        source.ndim >= 3 and shape[-1] in (3, 4) and min(shape[-3:-1]) > 4 and source.dtype.itemsize <= 2
    )
    n_axes = source.ndim - like_color
    usual = _UNNAMED.get(n_axes)
    if like_color and n_axes < 4:
        return (*(usual or ""), "c")
    if usual is not None and not like_color:
        return tuple(usual)
    letters = _UNNAMED[5]
    named = letters[max(0, 5 - source.ndim) :]
    return (*(f"axis {n}" for n in range(source.ndim - len(named))), *named)


def _is_color(source: Source, axis: int) -> bool:
    """Whether an axis holds red, green and blue: the last one, of three or four, of bytes or pairs of bytes."""
    return (
        axis == source.ndim - 1
        and source.shape[axis] in (3, 4)
        and source.dtype.kind == "u"
        and source.dtype.itemsize <= 2
        and source.metadata.channel_colors is None
    )


def _space(lowered: Sequence[str], others: set[int | None]) -> tuple[int, ...]:
    """Return the axes that are shown: those called z, y and x in this order, else the last ones that are no others."""
    named = [lowered.index(name) for name in _SPACE if name in lowered]
    if len(named) > 1:
        return tuple(named)
    return tuple(axis for axis in range(len(lowered)) if axis not in others)[-3:]


def _place(
    source: Source,
    names: tuple[str, ...],
    space: tuple[int, ...],
    at: dict[int, int],
    position: Sequence[int] | Mapping[str, int] | None,
) -> None:
    """Set where the axes are cut to what was asked for."""
    if position is None:
        return
    if isinstance(position, Mapping):
        unknown = [name for name in position if name not in names or names.index(name) not in at]
        if unknown:
            raise InvalidArgumentError(
                f"position names the axis {unknown[0]!r}, and {source.name} can be cut along {', '.join(names[a] for a in at)}"
            )
        wanted = {names.index(name): index for name, index in position.items()}
    else:
        given = list(position) if isinstance(position, Sequence) and not isinstance(position, str) else None
        if given is None or len(given) != len(space):
            raise InvalidArgumentError(
                f"position has one index per axis shown ({', '.join(names[a] for a in space)}), got {position!r}"
            )
        wanted = dict(zip(space, given, strict=True))
    for axis, index in wanted.items():
        at[axis] = _inside(index, source.shape[axis], f"position {index!r} along {names[axis]}", source)


def _channels(
    source: Source, names: tuple[str, ...], axis: int | None, wanted: int | Sequence[int] | None
) -> tuple[int, ...]:
    if axis is None:
        if wanted is not None:
            raise InvalidArgumentError(
                f"{source.name} has no axis of channels{_listed(names)}: leave out channels="
            )
        return (0,)
    if wanted is None:
        return tuple(range(min(source.shape[axis], _MOST_CHANNELS)))
    several = list(wanted) if isinstance(wanted, Sequence) and not isinstance(wanted, str) else [wanted]
    if not several or len(set(map(str, several))) != len(several):
        raise InvalidArgumentError(f"channels names one channel or several, each once, got {wanted!r}")
    return tuple(_inside(n, source.shape[axis], f"channel {n!r}", source) for n in several)


def _inside(index: Any, extent: int, what: str, source: Source) -> int:
    """Return an index as an int, or raise InvalidArgumentError if it is none or outside."""
    whole = hasattr(index, "__index__") and not isinstance(index, bool)
    if not whole or not 0 <= int(index) < extent:
        raise InvalidArgumentError(
            f"{what} is outside of {source.name}: there it goes from 0 to {extent - 1}"
        )
    return int(index)


def _listed(names: tuple[str, ...]) -> str:
    return f" (its axes are {', '.join(names)})" if names else ""
