"""What a whole OME-Zarr is copied into: arrays that are not made yet, or those of a copy that was begun."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bioimage_py.chunks import ChunkEncoding, UnknownEncoding
from bioimage_py.errors import InvalidArgumentError, SourceNotFoundError, UnsupportedFormatError
from bioimage_py.operations.array_place import place_parts
from bioimage_py.operations.copy_target import ExistingTarget, Target
from bioimage_py.planning import ArrayLayout
from bioimage_py.sources import Codec, Source, open_source
from bioimage_py.sources.ome_zarr import ImageGroup, Mirror, MirroredLevel, OmeZarrTree
from bioimage_py.sources.stores import holds_metadata_only, update_consolidated
from bioimage_py.sources.zarr import encoding_from_metadata, read_node
from bioimage_py.storage import StoreFolder, StorePlace, file_identity, is_url


class NewLevelTarget(Target):
    """An array of an OME-Zarr that is made with all others of it."""

    def __init__(self, group: ImageGroup, level: MirroredLevel, codec: Any = None) -> None:
        self._root = group.path
        self._in_memory = group.path.startswith("memory:")
        self._codec = None if codec is None else Codec.parse(codec)
        self.level = level
        self.layout = ArrayLayout.of_spec(
            f"{group.path}:{level.key}", f"zarr v{level.spec.zarr_format}", level.spec
        )

    def encoding(self) -> ChunkEncoding | UnknownEncoding:
        """Return how it will encode its chunks."""
        if self._in_memory:
            return UnknownEncoding("chunks that are held in memory are not moved")
        metadata = {"zarr_format": self.level.spec.zarr_format, **self.level.making["metadata"]}
        try:
            return encoding_from_metadata(metadata, self.level.spec.fill_value)
        except UnsupportedFormatError as error:
            return UnknownEncoding(str(error))

    @property
    def place(self) -> StorePlace | None:
        """Where in an object store it will be."""
        return StoreFolder.at(self._root).child(self.level.key).place if is_url(self._root) else None

    @property
    def codec(self) -> Codec | None:
        """The codec that the caller asked for."""
        return self._codec

    def check_shared(self, job_type: str) -> None:
        """Accept every backend: Zarr takes many writers."""

    def check_apart(self, source: Source) -> None:
        """Accept every input: that of the whole was checked."""

    def check_mask_apart(self, mask: Source) -> None:
        """Accept every mask: there is none."""


def opened_pairs(
    mirror: Mirror, place: str, given: Mapping[str, Any], *, begun: bool
) -> Iterator[tuple[str, Source, Source, Target]]:
    """Yield for each array its key in the new container, itself, the full-size one of its image, and what it is copied into.

    Parameters
    ----------
    mirror
        What will be made.
    place
        Path or URL of the input's container.
    given
        Chunks, shards and codec, as far as the user said them.
    begun
        Whether the new arrays are there already.
    """
    group = mirror.group
    full: Source | None = None
    for image, _, source_key, key in mirror.arrays():
        source = open_source(place, source_key)
        if full is None or source_key == image.levels[0]:
            full = source
        if begun:
            yield key, source, full, begun_target(group, key, source)
        else:
            level = mirror.level(source, full, (source_key, key), given)
            yield key, source, full, NewLevelTarget(group, level, given.get("codec"))


def begun_target(group: ImageGroup, key: str, source: Source) -> Target:
    """Return the array of a copy that was begun, for the rest of its blocks.

    Raises
    ------
    InvalidArgumentError
        If there is none like the input's.
    """
    try:
        sink = open_source(group.path, key, mode="r+")
    except SourceNotFoundError as error:
        raise InvalidArgumentError(
            f"block_ids are written into the copy that is there, but {group.path} has no array {key!r}: {error}"
        ) from error
    if (sink.shape, sink.dtype) != (source.shape, source.dtype):
        raise InvalidArgumentError(
            f"block_ids are written into the copy that is there, but {sink.name} has shape {sink.shape} and dtype {sink.dtype}, and "
            f"{source.name} has {source.shape} and {source.dtype}: choose another path, or give overwrite=True"
        )
    return ExistingTarget(sink, {})


def is_there(group: ImageGroup) -> bool:
    """Whether something is stored where a new OME-Zarr would be."""
    return read_node(StoreFolder.at(group.path).child(group.key)) is not None


def check_apart(tree: OmeZarrTree, group: ImageGroup) -> None:
    """Raise InvalidArgumentError if one of the two is the other, or lies in it."""
    shown = f"{group.path}{'/' + group.key if group.key else ''}"
    stored, target = place_parts(tree.root.path, tree.key), place_parts(group.path, group.key)
    ours = file_identity(group.path, group.key, key_is_folder=True)
    if stored == target or ours == file_identity(tree.root.path, tree.key, key_is_folder=True):
        raise InvalidArgumentError(
            f"copy needs 'output' to differ from 'input': {shown!r} and {tree.name!r} are the same OME-Zarr"
        )
    if target[: len(stored)] == stored:
        raise InvalidArgumentError(
            f"output {shown!r} lies inside the input {tree.name!r}; choose a place beside it"
        )
    if stored[: len(target)] == target:
        raise InvalidArgumentError(
            f"input {tree.name!r} lies inside the output {shown!r}; choose another place"
        )


def discard(made: Path | None) -> None:
    """Remove a folder that was made for a copy that could not begin, as long as it holds metadata only."""
    if made is None or not made.is_dir():
        return
    if holds_metadata_only(str(made)):
        shutil.rmtree(made)
        update_consolidated([StoreFolder(str(made))])
