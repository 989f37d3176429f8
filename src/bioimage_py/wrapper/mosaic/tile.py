"""Stored arrays that are opened when they are read, of which few are open at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import BioimagePyError, StorageError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources import FileSource, Source, SourceSpec, from_spec, open_source
from bioimage_py.storage import Recent

_MOST_READ = 16
_MOST_OPEN = 128


class OpenTiles:
    """The tiles that were read last; whoever reads one goes on where it is dropped meanwhile."""

    def __init__(self, around: OpenTiles | None = None, threads: int = 1, cache_bytes: int = 2**26) -> None:
        self.kept: Recent[int, Source] = Recent[int, Source](_MOST_OPEN) if around is None else around.kept
        # Only these keep decoded chunks.
        self._read = Recent[int, Source](_MOST_READ)
        self._tuning = threads, cache_bytes // _MOST_READ
        self.closed = False

    def keep(self, number: int, source: Source | None) -> None:
        if source is not None:
            self.kept.get(number, lambda _: source)

    def get(self, tile: Tile) -> Source:
        if self.closed:
            raise StorageError(f"{tile.name} is closed; open the mosaic again to read")

        def tuned(number: int) -> Source:
            return self.kept.get(number, lambda _: tile.reopened()).for_run(*self._tuning)

        return self._read.get(tile.number, tuned)

    def close(self) -> None:
        self.closed = True
        self.kept, self._read = Recent(_MOST_OPEN), Recent(_MOST_READ)


class Tile(FileSource):
    """A stored array that is opened when it is read."""

    reads_others = True

    def __init__(self, spec: SourceSpec, source: Source | None = None, **about: Any) -> None:
        self.spec = {**spec, "mode": "r"} if "mode" in spec else spec
        self.kind, self.path, self.key = spec["kind"], str(spec.get("path", "")), spec.get("key")
        self.shape, self.dtype = tuple(about["shape"]), np.dtype(about["dtype"])
        self.chunks = about["chunks"] and tuple(about["chunks"])
        self.format, self.codec = about["format"], about["codec"]
        # None where only the spec is known.
        self._metadata = None if source is None else source.metadata
        self._identities = None if source is None else source.identities()
        self.number, self.open_tiles = 0, OpenTiles()

    @classmethod
    def at(cls, path: str, key: str | None, told: str, *, keep: bool) -> Self:
        """Open what is stored at a path; an error begins as told."""
        try:
            source = open_source(path, key)
        except BioimagePyError as error:
            raise type(error)(f"{told}{error.message}", hints=error.hints) from error
        about = {name: getattr(source, name) for name in ("shape", "chunks", "format", "codec")}
        tile = cls(source.to_spec(), source, dtype=source.dtype.str, **about)
        tile.path = tile.path or path
        if keep:
            tile.open_tiles.keep(0, source)
        else:
            source.close()
        return tile

    @classmethod
    def all_at(cls, places: Sequence[tuple[str, str | None]], told: Sequence[str] = ()) -> list[Tile]:
        def opened(n: int) -> Tile:
            return cls.at(*places[n], told[n] if told else "", keep=n < _MOST_OPEN)

        with ThreadPoolExecutor(8, thread_name_prefix="bioimage-tiles") as pool:
            return list(pool.map(opened, range(len(places))))

    def opened_by(self, tiles: OpenTiles, number: int) -> Self:
        twin = self.__copy__()
        twin.number, twin.open_tiles = number, tiles
        tiles.keep(number, self.open_tiles.kept.if_kept(self.number))
        return twin

    def reopened(self) -> Source:
        source = from_spec(self.spec)
        if source.shape != self.shape or source.dtype != self.dtype:
            raise StorageError(
                f"tile {self.name} has changed: it had shape {self.shape} and dtype {self.dtype} when it was opened first, now it has "
                f"{source.shape} and {source.dtype}"
            )
        return source

    @property
    def metadata(self) -> ImageMetadata:
        return self.open_tiles.get(self).metadata if self._metadata is None else self._metadata

    def identities(self) -> frozenset[tuple[Any, ...]]:
        return self.open_tiles.get(self).identities() if self._identities is None else self._identities

    def scratch_bytes(self, shape: tuple[int, ...]) -> int:
        return self.open_tiles.get(self).scratch_bytes(shape)

    def to_spec(self) -> SourceSpec:
        about = {
            "shape": list(self.shape),
            "dtype": self.dtype.str,
            "chunks": self.chunks and list(self.chunks),
        }
        return {"kind": "mosaic", "path": self.path, "input": self.spec, **about, "format": self.format, "codec": self.codec}  # fmt: skip

    def read(self, box: Box, buffer: AnyArray | None = None) -> AnyArray:
        return self.open_tiles.get(self).read(box, buffer)

    def _read(self, box: Box) -> AnyArray:
        return self.read(box)


def tiles_of(given: Sequence[Any]) -> list[Any]:
    """Return sources as they are, and tiles for paths."""
    paths = [(os.fspath(one), None) for one in given if isinstance(one, (str, os.PathLike))]
    opened = iter(Tile.all_at(paths))
    return [next(opened) if isinstance(one, (str, os.PathLike)) else one for one in given]
