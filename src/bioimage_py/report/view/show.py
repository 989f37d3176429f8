"""`view`: images in Neuroglancer, in the browser of this computer, read as far as they are looked at."""

from __future__ import annotations

import os
import threading
import webbrowser
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from bioimage_py.errors import InvalidArgumentError, MissingDependencyError
from bioimage_py.metadata import ImageMetadata, unit_ratio
from bioimage_py.report.layers import Layer, image_layers
from bioimage_py.report.view.served_image import ServedImage
from bioimage_py.sources import Source

if TYPE_CHECKING:
    from bioimage_py.report.view.neuroglancer_server import NeuroglancerServer

_PANEL_PIXELS = 400
_SHADER = """#uicontrol invlerp contrast
#uicontrol vec3 color color(default="#{color}")
void main() {{
  emitRGB(color * contrast());
}}
"""


class View:
    """Images that are being served to a browser, until it is closed.

    Attributes
    ----------
    url
        Where they are seen.
    layers
        Names of the layers, the lowest first.
    """

    def __init__(self, server: NeuroglancerServer, layers: Sequence[str], opened: ExitStack) -> None:
        self.url = server.url
        self.layers = tuple(layers)
        self._server = server
        self._opened = opened
        self._ended = threading.Event()

    def state(self) -> dict[str, Any]:
        """Return what is shown now, as Neuroglancer's JSON has it, with what was changed in the browser."""
        return self._server.state()

    def wait(self) -> None:
        """Return when another thread closes the view; Ctrl-C ends the waiting."""
        self._ended.wait()

    def close(self) -> None:
        """Stop serving, and close what was opened for it."""
        if not self._ended.is_set():
            self._ended.set()
            self._server.close()
            self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<View of {', '.join(self.layers)} at {self.url}>"

    def _repr_html_(self) -> str:
        return f'<a href="{self.url}" target="_blank">{self.url}</a>'


def view(
    *sources: Any,
    labels: Sequence[Any] = (),
    port: int = 0,
    open_browser: bool = False,
) -> View:
    """Serve images on loopback and show them in Neuroglancer, with their scale, channels, colours and contrast.

    Nothing is copied or written: chunks are read when the browser asks for them. Of an image with levels (OME-Zarr and
    others, see `preview`) those are shown; of others smaller copies are made while looking, of as much as is looked at.

    Parameters
    ----------
    *sources
        Sources, arrays, handles, paths or URLs, the lowest layer first. Each channel is a layer. Labels, as `downsample` tells
        them, and the labels in an OME-Zarr, are segmentations.
    labels
        Further ones, which are shown as labels whatever their dtype says.
    port
        Of the server; 0 takes one that is free.
    open_browser
        Whether the page is opened too.

    Returns
    -------
    View
        With the `url`. It serves until it is closed, or the process ends.

    Raises
    ------
    MissingDependencyError
        If `neuroglancer` is not installed.
    InvalidArgumentError
        If there is nothing to show, an array has fewer than two or more than five axes or axes that a viewer cannot show,
        labels are not integers, or the port is in use.
    SourceNotFoundError
        If a path leads to nothing.
    """
    if isinstance(labels, (str, os.PathLike, Source)) or hasattr(labels, "dtype"):
        labels = (labels,)
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port < 2**16:
        raise InvalidArgumentError(f"port must be a number from 0 to 65535, got {port!r}")
    given = [*((one, None) for one in sources), *((one, True) for one in labels)]
    if not given:
        raise InvalidArgumentError("view needs at least one source to show")
    try:
        from bioimage_py.report.view.neuroglancer_server import NeuroglancerServer
    except ImportError as error:
        raise MissingDependencyError.of(
            f"viewing needs Neuroglancer's Python package ({error})", "neuroglancer"
        ) from error
    with ExitStack() as opening:
        images = [ServedImage(layer) for layer in image_layers(given, opening)]
        server = NeuroglancerServer(images, port)
        opened = opening.pop_all()
    state = _viewer_state(images, server.image_urls)
    server.show(state)
    shown = View(server, [layer["name"] for layer in state["layers"]], opened)
    if open_browser:
        webbrowser.open(shown.url)
    return shown


def _viewer_state(images: Sequence[ServedImage], urls: Sequence[str]) -> dict[str, Any]:
    """Return what Neuroglancer shows at first, as its JSON has it: the whole image, with the lowest layer first."""
    layers, whole_shape = [image.layer for image in images], images[0].levels[0].shape
    first = layers[0]
    axes = first.metadata.axes or ()
    space = [axis for axis in ("x", "y", "z") if axis in axes]
    shown = [*space, *(axis for axis in axes if axis not in space)]
    dimensions = {axis: _scale(first.metadata, axes.index(axis)) for axis in shown}
    whole = dict(zip(axes, whole_shape, strict=True))
    finest = dimensions[space[0]][0]
    longest = max(whole[axis] * dimensions[axis][0] / finest for axis in space)
    return {
        "dimensions": dimensions,
        "displayDimensions": space,
        "position": [_middle(first.metadata, axes.index(axis), whole[axis]) for axis in shown],
        "crossSectionScale": longest / _PANEL_PIXELS,
        "projectionScale": 1.6 * longest,
        "layers": [
            {"name": name, "source": f"zarr2://{url}", "visible": layer.shown, **_appearance(layer)}
            for layer, name, url in zip(layers, _distinct(layers), urls, strict=True)
        ],
        "layout": "4panel" if len(space) == 3 and whole["z"] > 1 else "xy",
        "showScaleBar": True,
        "showAxisLines": False,
    }


def _appearance(layer: Layer) -> dict[str, Any]:
    if layer.are_labels:
        return {"type": "segmentation", "selectedAlpha": 0.4, "notSelectedAlpha": 0.4}
    return {
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
    for base, symbol in (("meter", "m"), ("second", "s")):
        if (ratio := unit_ratio(unit, base)) is not None:
            return [size * ratio, symbol]
    return [size, ""]


def _middle(metadata: ImageMetadata, axis: int, extent: int) -> float:
    """Return the middle of an axis of space and the beginning of others, in voxels from the zero of the coordinates."""
    size = metadata.voxel_size[axis] if metadata.voxel_size else 1.0
    begin = metadata.origin[axis] / size if metadata.origin else 0.0
    in_space = (metadata.axes or ())[axis] in "zyx"
    return begin + (extent // 2 if in_space else 0) + 0.5


def _distinct(layers: Sequence[Layer]) -> list[str]:
    """Return the layers' names, numbered where they are equal."""
    found: list[str] = []
    for layer in layers:
        number, distinct = 1, layer.name
        while distinct in found:
            number += 1
            distinct = f"{layer.name} ({number})"
        found.append(distinct)
    return found
