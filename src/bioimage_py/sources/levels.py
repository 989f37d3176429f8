"""The coarser copies that a store holds of an array: levels of an OME-Zarr image, scales of a volume, a pyramid in a TIFF."""

from __future__ import annotations

import importlib
import warnings

from bioimage_py.errors import BioimagePyError, BioimagePyWarning
from bioimage_py.sources.base import FileSource, Source
from bioimage_py.sources.opening import from_spec
from bioimage_py.sources.registry import family

__all__ = ["coarser_levels"]


def coarser_levels(source: Source) -> list[Source]:
    """Open the levels that are coarser than a stored array, finest first; none where there are none.

    They are opened for reading, and closed by whoever asked. A level that cannot be opened, or that is no smaller copy of the
    array, is left out with a BioimagePyWarning.
    """
    if not isinstance(source, FileSource):
        return []
    module = importlib.import_module(family(source.kind).module)
    if not hasattr(module, "list_coarser"):
        return []
    spec = source.to_spec()
    found: list[Source] = []
    try:
        for coarser in module.list_coarser({**spec, "mode": "r"}):
            level = _opened(coarser, source)
            if level is not None:
                found.append(level)
    except BaseException:
        for level in found:
            level.close()
        raise
    return found


def _opened(spec: dict[str, object], source: Source) -> Source | None:
    try:
        level = from_spec(spec)
    except BioimagePyError as error:
        _warn(f"a coarser level of {source.name} is left out, it cannot be opened: {error}")
        return None
    smaller = level.ndim == source.ndim and all(
        0 < n <= full for n, full in zip(level.shape, source.shape, strict=True)
    )
    if smaller and level.dtype == source.dtype:
        return level
    level.close()
    _warn(
        f"{level.name} is left out: with shape {level.shape} and dtype {level.dtype} it is no smaller copy of {source.name} "
        f"of shape {source.shape} and dtype {source.dtype}"
    )
    return None


def _warn(text: str) -> None:
    warnings.warn(text, BioimagePyWarning, stacklevel=4)
