"""Whether voxels are labels or an image, and which way of making them fewer fits."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import PurePosixPath

from bioimage_py.errors import BioimagePyWarning, Hint, InvalidArgumentError
from bioimage_py.sources import FileSource, Source, leaves

KINDS = ("labels", "image")

_FOLDERS = {"labels", "label"}


def looks_like_labels(source: Source) -> bool:
    """Whether the voxels of a source are labels: numbers of objects, not intensities.

    These are labels: booleans; integers of 32 or 64 bits; and smaller ones whose metadata have the `image-label` of OME-Zarr,
    that are a precomputed segmentation, or in a group, or in a file, called `labels` or `label`. Floats and complex numbers never are.
    """
    if source.dtype.kind not in "biu":
        return False
    if source.dtype.kind == "b" or source.dtype.itemsize >= 4 or are_said_labels(source):
        return True
    attributes = source.metadata.attributes
    ome = attributes.get("ome")
    if "image-label" in attributes or (isinstance(ome, Mapping) and "image-label" in ome):
        return True
    return any(_FOLDERS & set(_names(leaf)) for leaf in leaves(source))


def are_said_labels(source: Source) -> bool:
    """Whether all stores of a source say that their voxels are labels."""
    return all(leaf.shows_labels for leaf in leaves(source))


def _names(source: Source) -> list[str]:
    """Return the names of the groups that an array is in, and of its file without the ending; not of folders around it."""
    if not isinstance(source, FileSource):
        return []
    return [
        part.lower() for part in (PurePosixPath(source.path).stem, *PurePosixPath(source.key or "").parts)
    ]


def chosen_method(source: Source, kind: str | None) -> str:
    """Return `"mode"` for labels and `"mean"` for images, of the given kind or found by `looks_like_labels`."""
    if kind is not None and kind not in KINDS:
        raise InvalidArgumentError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    labels = looks_like_labels(source) if kind is None else kind == "labels"
    return "mode" if labels else "mean"


def warn_if_labels_are_mixed(source: Source, kind: str | None, how: str) -> None:
    """Issue a BioimagePyWarning if labels are to be averaged, which invents labels.

    Not for booleans, whose mean is what most voxels are.
    """
    if source.dtype.kind != "b" and chosen_method(source, kind) == "mode":
        why = "" if kind == "labels" else f" look like labels ({source.dtype} voxels)"
        warnings.warn(
            BioimagePyWarning(
                f"{how} mixes the numbers of labels: {source.name}{why or ' are labels'}",
                hints=[
                    Hint.of("use {}", method="mode"),
                    Hint.of("or, if it is an image, give {}", kind="image"),
                ],
            ),
            stacklevel=4,
        )
