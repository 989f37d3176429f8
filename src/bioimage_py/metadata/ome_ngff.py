"""OME-NGFF 0.4, 0.5 and 0.6: what an OME-Zarr group says about its arrays, as plain dicts, made from `ImageMetadata`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bioimage_py.errors import Hint, InvalidArgumentError
from bioimage_py.metadata.attributes import without_nan
from bioimage_py.metadata.model import ImageMetadata
from bioimage_py.metadata.units import SPACE_UNITS, TIME_UNITS

VERSIONS: Mapping[int, str] = {2: "0.4", 3: "0.5"}
"""The version of OME-NGFF that goes with each version of Zarr, if no other is asked for."""
WRITTEN_VERSIONS: Mapping[str, int] = {"0.4": 2, "0.5": 3, "0.6": 3}
"""The versions of OME-NGFF that are written, and the version of Zarr that each needs."""
PROVISIONAL = "provisional"
"""Entry of a window of contrast that nobody has chosen: it is the whole range of the dtype until the voxels are known."""
RESERVED = (
    "ome", "multiscales", "omero", "labels", "image-label", "plate", "well", "bioformats2raw.layout", "series", "scene",
    "_creator", "version",
)  # fmt: skip
"""Names in the attributes of a group that are the specification's, and no user's."""

_PHYSICAL = "physical"
"""The coordinate system that the levels of an image are placed in, from version 0.6 on."""
_TYPES = {**dict.fromkeys("xyz", "space"), "t": "time", "time": "time", "c": "channel", "channel": "channel"}
_ORDER = {"time": 0, "channel": 1, None: 1, "space": 2}
_COLORS = ("FFFFFF",), ("00FF00", "FF00FF"), ("FF0000", "00FF00", "0000FF"), (
    "0000FF", "00FF00", "FF0000", "FFFFFF", "00FFFF", "FF00FF", "FFFF00",
)  # fmt: skip


@dataclass(frozen=True)
class Level:
    """One array of a multiscale image."""

    path: str  # its key below the group
    factors: tuple[float, ...]  # how much larger its voxels are than those of the full-size array
    # Centre of its first voxel, in voxels of the full-size array. None: of whole windows, `(factor - 1) / 2`.
    offset: tuple[float, ...] | None = None

    def placed(
        self, sizes: Sequence[float] | None, origin: Sequence[float] | None
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return size and place of its voxels, from those of full-size voxels; 1 and 0 where these are not known."""
        sizes = sizes or (1.0,) * len(self.factors)
        origin = origin or (0.0,) * len(self.factors)
        offset = self.offset or tuple((factor - 1) / 2 for factor in self.factors)
        place = tuple(float(o + n * size) for o, n, size in zip(origin, offset, sizes, strict=True))
        return tuple(float(size * f) for size, f in zip(sizes, self.factors, strict=True)), place


def zarr_format_for(version: str | None, zarr_format: int | None) -> int | None:
    """Return the version of Zarr that is asked for; InvalidArgumentError for a version of OME-Zarr that is not written, or with another one."""
    if version is None:
        return zarr_format
    if version not in WRITTEN_VERSIONS:
        raise InvalidArgumentError(
            f"ome_zarr_version must be one of {', '.join(WRITTEN_VERSIONS)}, got {version!r}"
        )
    if zarr_format not in (None, WRITTEN_VERSIONS[version]):
        raise InvalidArgumentError(
            f"OME-Zarr {version} is stored as Zarr v{WRITTEN_VERSIONS[version]}, got zarr_format={zarr_format}",
            hints=[Hint.of("leave out {}", zarr_format=...)],
        )
    return WRITTEN_VERSIONS[version]


def has_systems(version: str) -> bool:
    """Whether a version of OME-NGFF has coordinate systems: 0.6, of which there are drafts such as `"0.6rc0"`."""
    return version.startswith("0.6")


def axis_type(name: str) -> str | None:
    """Return `"space"`, `"time"` or `"channel"`, or None for an axis that the specification has no word for."""
    return _TYPES.get(name.lower())


def ngff_order(axes: Sequence[str]) -> tuple[int, ...] | None:
    """Return the positions of axes in the order of OME-NGFF: time, channels, then z, y, x; None if they have it."""
    order = sorted(range(len(axes)), key=lambda n: (_ORDER[axis_type(axes[n])], "zyx".find(axes[n].lower())))
    return None if order == sorted(order) else tuple(order)


def axes_for_ngff(axes: Sequence[str] | None, ndim: int, name: str) -> tuple[str, ...]:
    """Return axis names as OME-NGFF has them; unnamed axes are the last ones of t, c, z, y, x.

    Raises InvalidArgumentError if it cannot describe such an array.
    """
    if axes is None:
        if 2 <= ndim <= 5:
            return tuple("tczyx"[-ndim:])
        raise InvalidArgumentError(
            f"{name}: OME-Zarr describes arrays of 2 to 5 axes, and this one has {ndim}"
        )
    names = tuple(axis.lower() if axis_type(axis) else axis for axis in axes)
    types = [axis_type(axis) for axis in names]
    fits = 2 <= ndim <= 5 and 2 <= types.count("space") <= 3 and types.count("time") <= 1
    if not fits or types.count("channel") + types.count(None) > 1 or len(set(names)) != ndim:
        raise InvalidArgumentError(
            f"{name}: OME-Zarr cannot describe the axes {', '.join(axes)}: it has two or three of x, y, z, and may have t, and c "
            "or one other",
            hints=[
                Hint.of("if these names are wrong, give others, such as {}", axes="czyx"),
                Hint("or select or project one of the axes"),
            ],
        )
    # That space is z, y, x is a recommendation: an image that is there may have it otherwise.
    if [_ORDER[kind] for kind in types] != sorted(_ORDER[kind] for kind in types):
        wanted = tuple(names[n] for n in ngff_order(names) or ())
        raise InvalidArgumentError(
            f"{name}: OME-Zarr wants axes in the order {', '.join(wanted)}, and these are {', '.join(names)}: "
            f"give TransposeSource(source, {wanted!r})"
        )
    return names


def channel_count(axes: Sequence[str] | None, shape: Sequence[int]) -> int:
    """Return the number of channels of an array: 1 where no axis is called "c"."""
    lowered = [axis.lower() for axis in axes or ()]
    return shape[lowered.index("c")] if "c" in lowered and len(lowered) == len(shape) else 1


def image_attributes(
    metadata: ImageMetadata,
    shape: Sequence[int],
    dtype: np.dtype[Any],
    levels: Sequence[Level],
    *,
    version: str,
    name: str,
    labels_of: str | None = None,
) -> dict[str, Any]:
    """Return the attributes of an OME-Zarr image group; `axes` are as `axes_for_ngff` returned them.

    With `labels_of`, the relative path of an image, it is a label image of it.
    """
    axes = metadata.axes
    assert axes is not None
    placed = (
        (level.path, level_transformations(level, metadata.voxel_size, metadata.origin)) for level in levels
    )
    image = {"name": name, **axes_and_datasets(_axis_entries(axes, metadata), placed, version)}
    described: dict[str, Any] = {"multiscales": [image]}
    kept = metadata.attributes
    fitting = metadata.for_channels(channel_count(axes, shape))
    # Without any of these viewers find out by themselves, which is better than limits that nobody chose.
    looks = fitting.channel_names or fitting.channel_colors or fitting.contrast_limits
    if labels_of is None and dtype.kind in "biuf" and looks:
        described["omero"] = _omero(fitting, channel_count(axes, shape), dtype)
    label = kept.get("image-label")
    if labels_of is not None:
        described["image-label"] = {
            **(label if isinstance(label, Mapping) else {}),
            "source": {"image": labels_of},
        }
    elif isinstance(label, Mapping):
        described["image-label"] = {key: value for key, value in label.items() if key != "source"}
    own = without_nan({key: value for key, value in kept.items() if key not in RESERVED})
    if WRITTEN_VERSIONS[version] == 3:
        return {**own, "ome": {"version": version, **described}}
    image["version"] = version
    if "image-label" in described:
        described["image-label"] = {"version": version, **described["image-label"]}
    return {**own, **described}


def axes_and_datasets(
    axes: list[dict[str, Any]], placed: Iterable[tuple[str, list[dict[str, Any]]]], version: str
) -> dict[str, Any]:
    """Return what an entry of `multiscales` says of its axes and levels, which are given by their paths and transformations."""
    if not has_systems(version):
        datasets = [{"path": path, "coordinateTransformations": steps} for path, steps in placed]
        return {"axes": axes, "datasets": datasets}
    output = {"name": _PHYSICAL}
    datasets = [
        {
            "path": path,
            "coordinateTransformations": [
                {**one_transformation(steps), "input": {"path": path}, "output": output}
            ],
        }
        for path, steps in placed
    ]
    return {"coordinateSystems": [{**output, "axes": axes}], "datasets": datasets}


def one_transformation(steps: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the transformations of a level as version 0.6 has them: as one."""
    return steps[0] if len(steps) == 1 else {"type": "sequence", "transformations": steps}


def _axis_entries(axes: Sequence[str], metadata: ImageMetadata) -> list[dict[str, Any]]:
    nothing = (None,) * len(axes)
    units, orientations = metadata.units or nothing, metadata.orientations or nothing
    entries = []
    for axis, unit, orientation in zip(axes, units, orientations, strict=True):
        kind = axis_type(axis)
        entry: dict[str, Any] = {"name": axis, **({"type": kind} if kind else {})}
        if orientation is not None and kind == "space":
            entry["orientation"] = dict(orientation)
        if unit is not None and unit in {"space": SPACE_UNITS, "time": TIME_UNITS}.get(kind or "", ()):
            entry["unit"] = unit
        entries.append(entry)
    return entries


def level_transformations(
    level: Level, sizes: Sequence[float] | None, origin: Sequence[float] | None
) -> list[dict[str, Any]]:
    """Return what places a level, by size and place of full-size voxels; 1 and 0 where these are not known."""
    scale, place = map(list, level.placed(sizes, origin))
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    if any(place):
        steps.append({"type": "translation", "translation": place})
    return steps


def _omero(metadata: ImageMetadata, count: int, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return how channels are shown; colours and limits that nobody gave are made up, as the specification wants them."""
    old = _old_omero(metadata, count)
    palette = next((some for some in _COLORS if len(some) >= count), _COLORS[-1])
    low, high = {"f": (0.0, 1.0), "b": (0, 1)}.get(dtype.kind) or (
        int(np.iinfo(dtype).min),
        int(np.iinfo(dtype).max),
    )
    # A picture in colour is shown as it is: limits of their own would change its colours.
    is_picture = metadata.channel_colors == _COLORS[2] and dtype == np.uint8
    channels = []
    for n, was in enumerate(old["channels"]):
        start, end = metadata.contrast_limits[n] if metadata.contrast_limits else (low, high)
        channel = {"active": True, **was}
        if metadata.channel_names:
            channel["label"] = metadata.channel_names[n]
        given = metadata.channel_colors[n] if metadata.channel_colors else was.get("color")
        channel["color"] = given or palette[n % len(palette)]
        channel["window"] = {"min": min(low, start), "max": max(high, end), "start": start, "end": end}
        if metadata.contrast_limits is None and not is_picture and dtype.kind != "b":
            channel["window"][PROVISIONAL] = True
        channels.append(channel)
    return {**old, "channels": channels}


def _old_omero(metadata: ImageMetadata, count: int) -> dict[str, Any]:
    """Return what the input said about its channels, if they are still the same ones."""
    old = metadata.attributes.get("omero")
    channels = listed_channels(old)
    names = tuple(channel.get("label") for channel in channels)
    if not isinstance(old, Mapping) or len(channels) != count or metadata.channel_names not in (None, names):
        return {"channels": [{} for _ in range(count)]}
    return {**old, "channels": [dict(channel) for channel in channels]}


def listed_channels(omero: Any) -> list[Mapping[str, Any]]:
    """Return the channels in what a group says of how they are shown; none unless all can be used."""
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    if isinstance(channels, list) and all(isinstance(channel, Mapping) for channel in channels):
        return channels
    return []
