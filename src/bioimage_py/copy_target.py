"""What a copy writes into: an array that is there, a path that is not yet, or a new numpy array."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bioimage_py.errors import InvalidArgumentError, ReadOnlyError
from bioimage_py.planning import ArrayLayout
from bioimage_py.sources import FileSource, Source, as_source
from bioimage_py.sources.creating import PlannedOutput, plan_output
from bioimage_py.sources.identity import leaves, same_voxels
from bioimage_py.sources.location import is_url

__all__ = ["Target", "find_target"]


class Target(ABC):
    """The output of a copy before anything is made or touched.

    Attributes
    ----------
    layout
        How it stores, or will store, its voxels.
    """

    layout: ArrayLayout

    @abstractmethod
    def open(self, *, overwrite: bool) -> tuple[Any, Source]:
        """Return what the caller gets back, and the source to write into."""

    @abstractmethod
    def check_apart(self, source: Source) -> None:
        """Raise InvalidArgumentError if writing here could touch what `source` reads."""


class ExistingTarget(Target):
    """An array, a handle or a source that the caller gave: returned as it is."""

    def __init__(self, given: Any, new_array: Mapping[str, Any]) -> None:
        options = [name for name, value in new_array.items() if value is not None and name != "zarr_format"]
        if options:
            raise InvalidArgumentError(
                f"{', '.join(options)} can be given for a new output only; this output exists already"
            )
        self._given = given
        self._sink = as_source(given)
        if not self._sink.writable:
            raise ReadOnlyError(
                f"output {self._sink.name} is read-only; open it for writing, for example with open_source(path, mode='r+')"
            )
        self.layout = ArrayLayout.of(self._sink)

    def open(self, *, overwrite: bool) -> tuple[Any, Source]:
        """Return the caller's object and its source."""
        del overwrite
        return self._given, self._sink

    def check_apart(self, source: Source) -> None:
        """Refuse an output that leads to the stored array, or the memory, that the input reads."""
        if same_voxels(source, self._sink):
            raise InvalidArgumentError(
                f"copy needs 'output' to differ from 'input': {source.name} and {self._sink.name} lead to the same voxels"
            )


class NewArrayTarget(Target):
    """A numpy array to be allocated."""

    def __init__(self, source: Source, *, keep_values: bool) -> None:
        self._source = source
        self._zeros = keep_values
        self.layout = ArrayLayout("new array", "numpy", source.shape, source.dtype, in_memory=True)

    def open(self, *, overwrite: bool) -> tuple[Any, Source]:
        """Allocate it; voxels that will not be copied are zero."""
        del overwrite
        make = np.zeros if self._zeros else np.empty
        array = make(self._source.shape, self._source.dtype)
        return array, as_source(array)

    def check_apart(self, source: Source) -> None:
        """Accept every input: a new array is apart from all."""


class NewPathTarget(Target):
    """A stored array to be made."""

    def __init__(self, planned: PlannedOutput) -> None:
        self._planned = planned
        self.layout = ArrayLayout.of_spec(planned.name, planned.kind, planned.spec)

    def open(self, *, overwrite: bool) -> tuple[Any, Source]:
        """Make it and return it opened."""
        sink = self._planned.create(overwrite=overwrite)
        return sink, sink

    def check_apart(self, source: Source) -> None:
        """Refuse a path that is the input, lies in the input's folder, or has the input in it."""
        path, key = self._planned.location.path, self._planned.location.key
        if is_url(path):
            return
        for leaf in leaves(source):
            if isinstance(leaf, FileSource) and not is_url(leaf.path):
                _check_paths(leaf, Path(path), key)


def _check_paths(leaf: FileSource, path: Path, key: str | None) -> None:
    container = Path(leaf.path).resolve()
    target = path.resolve()
    if container.is_file():
        if target == container and (key is None or key.strip("/") == (leaf.key or "").strip("/")):
            raise InvalidArgumentError(f"copy needs 'output' to differ from 'input': both are {leaf.name}")
        if target in container.parents and target.is_dir() and any(target.iterdir()):
            raise InvalidArgumentError(f"input {leaf.name} lies inside the output {str(path)!r}")
        return
    stored = container / leaf.key.strip("/") if leaf.key and leaf.kind != "stack" else container
    wanted = target / key.strip("/") if key else target
    if wanted == stored:
        raise InvalidArgumentError(f"copy needs 'output' to differ from 'input': both are {leaf.name}")
    if stored in wanted.parents:
        raise InvalidArgumentError(
            f"output {str(wanted)!r} lies inside the input {str(stored)!r}; choose a place beside it"
        )
    if wanted in stored.parents:
        raise InvalidArgumentError(
            f"input {leaf.name} lies inside the output {str(wanted)!r}; choose another place, or name an array in it, "
            f"for example {os.path.join(str(path), 'copy')!r}"  # noqa: PTH118 - a text to type, not a path to use
        )


def find_target(output: Any, source: Source, new_array: Mapping[str, Any], *, keep_values: bool) -> Target:
    """Return the target that `output` names; nothing is made.

    Parameters
    ----------
    output
        None, a path, or anything that `as_source` takes.
    source
        The input, for the shape, dtype and metadata of a new array.
    new_array
        Options for `create_output`.
    keep_values
        Whether voxels that are not copied matter, so that a new numpy array is zeroed.
    """
    if output is None:
        return NewArrayTarget(source, keep_values=keep_values)
    if isinstance(output, (str, os.PathLike)):
        return NewPathTarget(plan_output(output, like=source, **new_array))
    return ExistingTarget(output, new_array)
