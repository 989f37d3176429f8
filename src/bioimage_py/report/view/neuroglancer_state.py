"""What Neuroglancer shows at first: layers, colours, contrast, scale, and a view that holds the whole image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bioimage_py.metadata import ImageMetadata
from bioimage_py.report.proportions import METERS
from bioimage_py.report.view.viewed_layers import ViewedLayer

SECONDS: Mapping[str, float] = {
    "nanosecond": 1e-9, "microsecond": 1e-6, "millisecond": 1e-3, "second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0,
}  # fmt: skip
_PANEL_PIXELS = 400
_SHADER = """#uicontrol invlerp contrast
#uicontrol vec3 color color(default="#{color}")
void main() {{
  emitRGB(color * contrast());
}}
"""


def viewer_state(layers: Sequence[ViewedLayer], urls: Sequence[str]) -> dict[str, Any]:
    """Return the state of a viewer as Neuroglancer's JSON has it.

    Parameters
    ----------
    layers
        The lowest first.
    urls
        Where the image of each layer is served.
    """
    first = layers[0].image
    axes = first.metadata.axes or ()
    space = [axis for axis in ("x", "y", "z") if axis in axes]
    shown = [*space, *(axis for axis in axes if axis not in space)]
    dimensions = {axis: _scale(first.metadata, axes.index(axis)) for axis in shown}
    whole = dict(zip(axes, first.levels[0].shape, strict=True))
    finest = dimensions[space[0]][0]
    longest = max(whole[axis] * dimensions[axis][0] / finest for axis in space)
    names = _distinct([layer.image.name for layer in layers])
    return {
        "dimensions": dimensions,
        "displayDimensions": space,
        "position": [_middle(first.metadata, axes.index(axis), whole[axis]) for axis in shown],
        "crossSectionScale": longest / _PANEL_PIXELS,
        "projectionScale": 1.6 * longest,
        "layers": [_layer(layer, name, url) for layer, name, url in zip(layers, names, urls, strict=True)],
        "layout": "4panel" if len(space) == 3 and whole["z"] > 1 else "xy",
        "showScaleBar": True,
        "showAxisLines": False,
    }


def _layer(layer: ViewedLayer, name: str, url: str) -> dict[str, Any]:
    common = {"name": name, "source": f"zarr2://{url}", "visible": layer.shown}
    if layer.are_labels:
        return {**common, "type": "segmentation", "selectedAlpha": 0.4, "notSelectedAlpha": 0.4}
    return {
        **common,
        "type": "image",
        "blend": "additive",
        "opacity": 1,
        "shader": _SHADER.format(color=layer.color.lower()),
        "shaderControls": {"contrast": {"range": list(layer.limits)}},
    }


def _scale(metadata: ImageMetadata, axis: int) -> list[Any]:
    """Return the extent of a voxel in metres or seconds, with that unit, or without where it has none."""
    size = metadata.voxel_size[axis] if metadata.voxel_size else 1.0
    unit = metadata.units[axis] if metadata.units else None
    if unit is not None and unit in METERS:
        return [size * METERS[unit], "m"]
    if unit is not None and unit in SECONDS:
        return [size * SECONDS[unit], "s"]
    return [size, ""]


def _middle(metadata: ImageMetadata, axis: int, extent: int) -> float:
    """Return the middle of an axis of space and the beginning of others, in voxels from the zero of the coordinates."""
    size = metadata.voxel_size[axis] if metadata.voxel_size else 1.0
    begin = metadata.origin[axis] / size if metadata.origin else 0.0
    in_space = (metadata.axes or ())[axis] in "zyx"
    return begin + (extent // 2 if in_space else 0) + 0.5


def _distinct(names: Sequence[str]) -> list[str]:
    """Return names of which no two are equal."""
    found: list[str] = []
    for name in names:
        number, distinct = 1, name
        while distinct in found:
            number += 1
            distinct = f"{name} ({number})"
        found.append(distinct)
    return found
