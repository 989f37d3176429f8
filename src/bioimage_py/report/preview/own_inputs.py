"""Whether a file that is to be written belongs to what is read."""

from __future__ import annotations

import os
from fnmatch import fnmatch
from pathlib import Path

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.sources import FileSource, Source, is_file_of, leaves
from bioimage_py.storage import is_url


def check_not_an_input(path: str, source: Source) -> None:
    """Raise InvalidArgumentError if a picture at a path would replace an input, or become a part of one."""
    for leaf in leaves(source):
        own = is_file_of(path, leaf)
        if isinstance(leaf, FileSource) and not is_url(leaf.path):
            own = own or _is_within(path, leaf)
        if own:
            raise InvalidArgumentError(
                f"{path!r} belongs to the input {leaf.name}, which is never written to: give the picture another name"
            )


def _is_within(path: str, source: FileSource) -> bool:
    output, place = Path(path), Path(source.path)
    try:
        same = os.path.lexists(path) and output.samefile(place)
    except OSError:  # a link that leads nowhere is no input
        same = False
    if same or not place.is_dir():
        return same
    if source.kind == "stack":  # the folder of slices may be one that people work in
        here = output.parent.resolve() == place.resolve()
        return here and fnmatch(output.name, source.key or "*")
    return output.parent.resolve().is_relative_to(place.resolve())
