"""What a storage family answers for its format, so that nobody else has to know it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from bioimage_py.chunks import ChunkEncoding, EncodedReader, StoredChunks
from bioimage_py.errors import (
    AmbiguousSourceError,
    Hint,
    InvalidArgumentError,
    SourceNotFoundError,
    UnsupportedFormatError,
)
from bioimage_py.metadata import ngff_order
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.base import FileSource, Source, SourceSpec
from bioimage_py.sources.registry import FamilyEntry, families
from bioimage_py.storage import ChunkKeys, Identity, StoreFolder, file_identity

if TYPE_CHECKING:
    from bioimage_py.sources.ome_zarr import ImageGroup

ALL_IMAGES = Hint("or copy all of them into a path that ends in .ome.zarr")
"""For files of several images, see `Family.images_in`."""


def chosen_image(path: str, images: Mapping[str, str], key: str | None, what: str) -> str:
    """Return which image of a file a key means, from their keys and other names, or the only one."""
    if key is None and len(images) == 1:
        return next(iter(images))
    shown = ", ".join(images)
    if key is None:
        hints = [
            Hint.of("name one, for example with {}", "open_source", path, next(iter(images), "0")),
            ALL_IMAGES,
        ]
        raise AmbiguousSourceError(f"{path} holds {len(images)} {what}s: {shown}", hints=hints)
    named = [key] if key in images else [one for one, name in images.items() if name == key]
    if len(named) != 1:
        raise SourceNotFoundError(f"there is no {what} {key!r} in {path!r}; there is {shown}")
    return named[0]


class Family:
    """The answers of a format that is only read, by its path. A subclass says what is otherwise.

    Attributes
    ----------
    entry
        Its line in the registry.
    chunked
        Whether its arrays are stored in chunks.
    several_writers
        Whether several processes may write different chunks of a new array at once.
    only_zero_fill
        Whether voxels that were never written read as 0, and can read as nothing else.
    fastest_first
        Whether the names of chunk files begin with their positions on the last axis.
    time_first
        Whether new arrays want their axes in the order time, channel, z, y, x.
    storage_order
        `"F"` where the first axis of new arrays is contiguous in the store.
    states_size
        Whether new arrays always say the size of a voxel, with its unit.
    level_axes
        The axes, the last ones, along which the smaller levels of a new file or volume may be reduced; empty where it holds none.
    drops_axes
        Whether a file is read without axes of extent 1, except for the last two.
    continues
        Whether a copy into a new file can go on after a kill, by `reopen_unfinished`.
    copies_levels
        Whether a copy of an image into an OME-Zarr takes the smaller levels that are stored with it.
    """

    chunked = False
    several_writers = False
    only_zero_fill = False
    fastest_first = False
    time_first = False
    storage_order = "C"
    states_size = False
    level_axes = ""
    drops_axes = False
    continues = False
    copies_levels = False

    def __init__(self, entry: FamilyEntry) -> None:
        self.entry = entry

    @property
    def title(self) -> str:
        """Its name for people."""
        return self.entry.title

    # Reading

    def open_path(self, path: str, key: str | None, mode: str, *args: Any, **options: Any) -> Source:
        """Open what is stored at a path or URL. Subclasses name their options, as keywords after `mode`."""
        del path, key, mode, args, options
        self._refuse("being opened by a path")

    def open_spec(self, spec: SourceSpec) -> Source:
        """Reopen a source from plain JSON; what is in it besides path, key and mode are options of `open_path`."""
        options = {name: value for name, value in spec.items() if name not in ("kind", "path", "key", "mode")}
        return self.open_path(spec["path"], spec.get("key"), spec.get("mode", "r"), **options)

    def from_handle(self, handle: Any) -> Source | None:
        """Wrap a live object of a library in `entry.handles`; None if it is not one of the family's."""
        del handle
        return None

    def list_arrays(self, path: str, **options: Any) -> list[str]:
        """Return the keys of the arrays in a container."""
        del path, options
        self._refuse("listing arrays")

    def images_in(self, path: str) -> list[tuple[str, str]]:
        """Return key and name of each image of a file that holds several, none of which is the main one; else none."""
        del path
        return []

    def ome_xml_of(self, path: str) -> str | None:
        """Return the OME-XML of all images in a file, without where their voxels are stored; None where there is none."""
        del path
        return None

    def list_coarser(self, spec: SourceSpec) -> list[SourceSpec]:
        """Return the specs of the smaller copies that are stored beside an array, finest first."""
        del spec
        return []

    def folder_of(self, spec: SourceSpec) -> StoreFolder | None:
        """Return the folder that marks can be put into of the array that a spec leads to, without opening it; None if there is none."""
        del spec
        return None

    def unfinished(self, source: Source) -> str:
        """Return what is missing of an array that a copy has not finished, and what to do; empty for others."""
        del source
        return ""

    # Encoded chunks

    def stored_chunks(self, source: FileSource) -> StoredChunks:
        """Return where and how a source stores its chunks; UnsupportedFormatError if that is not known."""
        raise UnsupportedFormatError(
            f"the voxels of {source.format} are not stored as encoded chunks that can be moved"
        )

    def encoded_reader(self, source: FileSource) -> EncodedReader:
        """Return access to encoded chunks that are not files or objects of their own."""
        raise UnsupportedFormatError(f"the chunks of {source.name} are not files of their own")

    def chunk_names(self, source: FileSource) -> ChunkKeys | None:
        """Return what the files of the chunks are called where `stored_chunks` does not tell; None where they have no names."""
        del source
        return None

    def planned_encoding(self, spec: ArraySpec) -> ChunkEncoding:
        """Return how a new array will encode its chunks; UnsupportedFormatError if that is not known."""
        del spec
        raise UnsupportedFormatError(f"{self.entry.kind} files are not written as encoded chunks")

    # New arrays

    def check_create(self, path: str, key: str | None, spec: ArraySpec, overwrite: bool = False) -> None:
        """Raise what `create` would raise before it makes anything."""
        del path, key, spec, overwrite
        self._refuse("new arrays")

    def create(
        self, path: str, key: str | None, spec: ArraySpec, overwrite: bool = False, *args: Any, **options: Any
    ) -> Source:
        """Make a new array, opened for writing."""
        del path, key, spec, overwrite, args, options
        self._refuse("new arrays")

    def create_unfinished(
        self, path: str, key: str | None, spec: ArraySpec, overwrite: bool = False
    ) -> Source:
        """Make a new array as `create` does, if possible in a file that gets its name by the source's `finish`."""
        return self.create(path, key, spec, overwrite)

    def reopen_unfinished(self, path: str, key: str | None, spec: ArraySpec) -> Source:
        """Open the file that a call was making which ended early, whatever its name is now; SourceNotFoundError if it is gone."""
        del path, key, spec
        self._refuse("files that are continued")

    def create_levels(
        self,
        path: str,
        key: str | None,
        spec: ArraySpec,
        coarser: Sequence[ArraySpec],
        overwrite: bool = False,
    ) -> Sequence[Source]:
        """Make an image with smaller levels in one file or volume, full size first; that one's `finish` finishes all."""
        del path, key, spec, coarser, overwrite
        self._refuse("levels")

    def format_of(self, spec: ArraySpec) -> str:
        """Return what the `format` of a new array will be."""
        del spec
        return self.entry.kind

    def metadata_files(self, spec: ArraySpec) -> tuple[str, ...]:
        """Return the names of the files that a new array has beside those of its chunks."""
        del spec
        return self.entry.markers[:1]

    def has_shards(self, zarr_format: int) -> bool:
        """Whether new arrays can have shards."""
        del zarr_format
        return False

    def format_around(self, path: str, key: str | None) -> int | None:
        """Return the version of Zarr that a place asks for; None if it leaves the choice."""
        del path, key
        return None

    def image_group(self, path: str, key: str | None) -> ImageGroup | None:
        """Return the OME-Zarr image that a new array at this place is the full-size level of."""
        del path, key
        return None

    def following(self, spec: ArraySpec, like: Source) -> ArraySpec:
        """Return a new array with what only this format can keep of the source that it is made like."""
        del like
        return spec

    def wanted_order(self, axes: Sequence[str]) -> tuple[int, ...] | None:
        """Return the order in which new arrays want axes, as numbers; None for the one they have."""
        return ngff_order(axes) if self.time_first else None

    def settled(self, spec: ArraySpec, path: str, *, grid: bool) -> ArraySpec:
        """Return a new array at a path as this format has it, or raise why it cannot; `grid` says whether its chunks were asked for."""
        del path, grid
        own = {"imagej": ("TIFF", ".tif"), "skip_zeros": ("precomputed volumes", ".precomputed")}
        for name, (title, ending) in own.items():
            if getattr(spec, name) and ending not in self.entry.suffixes:
                raise InvalidArgumentError(
                    f"{name} is for {title}, and the output would be {self.title}",
                    hints=[
                        Hint.of("leave out {}", **{name: ...}),
                        Hint(f"or write to a path that ends in {ending}"),
                    ],
                )
        return spec

    def keeping(self, spec: ArraySpec, encoding: ChunkEncoding, *, grid: bool, codec: bool) -> ArraySpec:
        """Return a new array that holds chunks of an encoding as they are, if it can.

        `grid` and `codec` say whether its chunks, and its codec, may be changed for that.
        """
        del encoding, grid, codec
        return spec

    def identities_at(self, path: str, key: str | None) -> frozenset[Identity]:
        """Return the identities of what a new array at this place would replace."""
        return frozenset({file_identity(path, key), file_identity(path, key, key_is_folder=True)})

    def finish_image(self, arrays: Sequence[FileSource]) -> None:
        """Complete the metadata of an image, all of whose arrays have been written."""

    def removed(self, folder: StoreFolder) -> None:
        """Bring up to date what lists the arrays of a folder that has been removed."""

    def _refuse(self, what: str) -> NoReturn:
        can = ", ".join(found.title for found in families() if found.writes)
        hint = f"; formats that can be written: {can}" if what == "new arrays" else ""
        raise InvalidArgumentError(f"{self.title} does not support {what}{hint}")
