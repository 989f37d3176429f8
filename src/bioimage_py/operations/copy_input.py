"""What a copy reads: opened, described as its user knows it, and with its axes in the order that the output wants."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.sources import FileSource, Source, as_source, with_metadata
from bioimage_py.sources.new import wanted_order
from bioimage_py.wrapper.shape import TransposeSource


def find_input(input: Any, mask: Any, output: Any, said: Mapping[str, Any]) -> tuple[Source, Source | None]:
    """Return the input and the mask of a copy as sources.

    Parameters
    ----------
    input, mask, output
        As for `copy`.
    said
        What the user says of the input: `axes`, `voxel_size`, `units`; None for what the input says itself.

    Raises
    ------
    InvalidArgumentError
        If something is said that does not fit the input, or an output that is there would not hear of it.
    """
    source = as_source(input)
    masked = None if mask is None else as_source(mask)
    given = {name: value for name, value in said.items() if value is not None}
    to_path = isinstance(output, (str, os.PathLike))
    if given and not to_path:
        raise InvalidArgumentError(
            f"{', '.join(given)} can be given for a new output only: an array that is there keeps its metadata"
        )
    if given:
        source = with_metadata(source, **given)
    order = None
    if to_path:
        order = wanted_order(output, source)
    elif isinstance(output, FileSource):
        # The rest of an unfinished copy goes into the array that the first part has made.
        order = wanted_order(output.path, source)
        if order is not None and not _is_turned(source, order, output):
            order = None
    if order is None:
        return source, masked
    # Readers of these formats expect time, channels and space in this order.
    turned = TransposeSource(source, order)
    return turned, None if masked is None else TransposeSource(masked, order)


def _is_turned(source: Source, order: tuple[int, ...], output: Source) -> bool:
    """Whether an array that is there has the axes of the input in another order, by their names, or by its shape."""
    if output.shape != tuple(source.shape[n] for n in order):
        return False
    axes = source.metadata.axes or ()
    named = output.metadata.axes
    return output.shape != source.shape or (named is not None and named == tuple(axes[n] for n in order))
