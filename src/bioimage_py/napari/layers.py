"""Any image as layers of napari, which are read as far as they are looked at."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from bioimage_py.errors import AmbiguousSourceError
from bioimage_py.metadata import normalise_unit
from bioimage_py.report import Layer, image_layers
from bioimage_py.sources import Source, family_by_content, locate, open_source
from bioimage_py.sources.ome_zarr import list_ome_zarr, ome_zarr_group
from bioimage_py.wrapper import CastSource

LayerData = tuple[Any, dict[str, Any], str]
"""What napari makes a layer of: voxels, how they look, and `"image"` or `"labels"`."""

GIVEN = "bioimage_py"
"""Where a layer's metadata keep what was opened."""

_MOST_IMAGES = 8


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """Return what opens a path for napari; None for several at once, which napari would stack."""
    return open_layers if isinstance(path, str) else None


def open_layers(image: Any) -> list[LayerData]:
    """Return an image as layers of napari: one per channel, and labels, each with all levels and nothing read yet.

    The layers have the voxel size with its units, the origin, and names, colours and contrast limits of channels; where there
    are no limits, they are percentiles of the coarsest level. Of an image that is stored without smaller levels these are made
    while looking.

    Parameters
    ----------
    image
        Source, array, handle, path or URL. Of a container all images are opened if they are eight or fewer.

    Returns
    -------
    list of tuple
        Arguments of `napari.layers.Layer.create`.

    Raises
    ------
    AmbiguousSourceError
        If there are more images than that; the message lists them.
    InvalidArgumentError
        If an image is empty, or has fewer than two or more than five axes or axes that a viewer cannot show.
    SourceNotFoundError
        If a path leads to nothing.
    UnsupportedFormatError
        If the voxels are complex or structured, or the file is of an unknown format.

    Examples
    --------
    >>> import numpy as np
    >>> from bioimage_py import with_metadata
    >>> image = with_metadata(np.zeros((5, 64, 64), "uint8"), voxel_size=(2, 0.5, 0.5), units="um")
    >>> [(voxels, look, kind)] = open_layers(image)
    >>> kind, look["scale"], look["units"]
    ('image', (2.0, 0.5, 0.5), ('micrometer', 'micrometer', 'micrometer'))
    """
    with ExitStack() as opened:
        images, given = _images(image, opened), image
        layers = image_layers([(one, None) for one in images], opened, split_colors=False)
        # napari has no way to say that a layer is gone: what is open is closed with the last reference to it.
        opened.pop_all()
    return [_layer_data(layer, given if len(images) == 1 else layer.source) for layer in layers]


def _images(image: Any, opened: ExitStack) -> list[Any]:
    """Return an image, or the few that a container holds, opened."""
    try:
        is_path = isinstance(image, (str, os.PathLike))
        return [opened.enter_context(open_source(image))] if is_path else [image]
    except AmbiguousSourceError:
        place = locate(image)
        if ome_zarr_group(place.path, place.key) is not None:
            keys = [found.levels[0] for found in list_ome_zarr(place.path, place.key)]
        else:
            family = family_by_content(place.path) or place.family
            below = f"{place.key.strip('/')}/" if place.key else ""
            listed = family.load().list_arrays(place.path) if family is not None and family.container else []
            keys = [key for key in listed if key.strip("/").startswith(below)]
        if not 0 < len(keys) <= _MOST_IMAGES:
            raise
    return [opened.enter_context(open_source(place.path, key)) for key in keys]


def _layer_data(layer: Layer, given: Any) -> LayerData:
    metadata, ndim = layer.metadata, len(layer.metadata.axes or ())
    levels = [_native(level) for level, _ in layer.levels]
    units = metadata.units or (None,) * ndim
    look = {
        "name": layer.name,
        "multiscale": len(levels) > 1,
        "scale": metadata.voxel_size or (1.0,) * ndim,
        "translate": metadata.origin or (0.0,) * ndim,
        "units": tuple(normalise_unit(unit) or "pixel" for unit in units),
        "axis_labels": metadata.axes,
        "visible": layer.shown,
        "metadata": {GIVEN: given},
    }
    voxels = levels if len(levels) > 1 else levels[0]
    if layer.are_labels:
        return voxels, look, "labels"
    look["contrast_limits"] = layer.limits
    if layer.is_rgb:
        return voxels, {**look, "rgb": True}, "image"
    return voxels, {**look, "rgb": False, "colormap": f"#{layer.color}", "blending": "additive"}, "image"


def _native(source: Source) -> Source:
    """Return voxels in the byte order of the machine, and booleans as numbers: napari shows no others."""
    dtype = np.dtype("uint8") if source.dtype.kind == "b" else source.dtype.newbyteorder("=")
    return source if dtype == source.dtype and source.dtype.isnative else CastSource(source, dtype)
