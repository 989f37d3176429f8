"""The label images that an OME-Zarr holds of its image."""

from __future__ import annotations

from bioimage_py.errors import SourceNotFoundError
from bioimage_py.sources.base import FileSource, Source
from bioimage_py.sources.ome_zarr.listing import list_ome_zarr
from bioimage_py.sources.opening import open_source
from bioimage_py.storage import url_options


def labels_beside(source: FileSource) -> list[Source]:
    """Open the full-size arrays of the labels in the OME-Zarr image that an array is a level of; none where there are none.

    They are opened for reading, and closed by whoever asked.
    """
    if source.kind != "zarr" or not source.key or "labels" in source.key.split("/"):
        return []
    spec = source.to_spec()
    options = url_options(spec)
    group = source.key.rpartition("/")[0] or None
    try:
        images = list_ome_zarr(source.path, group, **options)
    except SourceNotFoundError:
        return []
    found: list[Source] = []
    for image in images:
        if source.key in image.levels:
            found += [open_source(source.path, label.levels[0], **options) for label in image.labels]
    return found
