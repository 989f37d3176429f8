"""TIFF files: structure by tifffile, bytes by `pread`, decoding by imagecodecs outside any lock."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from bioimage_py.chunks import AnyArray, ArrayInFile, copy_rows, number_in, read_region
from bioimage_py.errors import Hint, StorageError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata, without_nonsense
from bioimage_py.sources.base import StoredSize
from bioimage_py.sources.chunked import ChunkedFileSource
from bioimage_py.sources.tiff.parsing import (
    ParsedTiff,
    image_xml,
)
from bioimage_py.storage import FileBytes, OpenFiles, file_identity, file_stamp, stamp_of_files

_WASTE = 64 * 2**10
"""Bytes between segments that are read and dropped rather than making another call."""


class TiffSource(ChunkedFileSource):
    """One series of a TIFF, in native byte order.

    Where voxels are not encoded `chunks` is None and a region is read straight from the file. Otherwise a chunk is a
    tile, or some strips together.
    """

    kind = "tiff"

    def __init__(
        self,
        path: str,
        parsed: ParsedTiff,
        *,
        missing_planes: str = "error",
        cache_bytes: int = 64 * 2**20,
        files: OpenFiles | None = None,
    ) -> None:
        super().__init__(cache_bytes=cache_bytes)
        layout = parsed.layout
        self.path = path
        self.key = str(parsed.series) if parsed.n_series > 1 else None
        self.shape = layout.shape
        self.dtype = layout.dtype
        self.chunks = layout.chunks  # type: ignore[assignment]  # None for raw, which never asks for chunks
        plain = "bigtiff" if parsed.big else "tiff"
        self.format = {"ome": "ome-tiff", "imagej": "imagej tiff"}.get(layout.kind, plain)
        self.codec = layout.coding.codec
        missing = layout.has_missing
        self.fill_value = layout.coding.fill if missing else None
        self._layout = layout
        self._parsed = parsed
        self._missing_planes = missing_planes
        self._files: OpenFiles | None = files or OpenFiles()  # slices share them
        if missing and missing_planes == "error":
            self._check_planes()

    @cached_property
    def metadata(self) -> ImageMetadata:
        """Axes, voxel size, units and channels from OME-XML, ImageJ's description or the resolution tags."""
        return without_nonsense(self._parsed.metadata, self.ndim, self.name)

    def ome_xml(self) -> str | None:
        parsed = self._parsed
        return image_xml(self.path, parsed.series) if self.format == "ome-tiff" and not parsed.level else None

    def _check_planes(self) -> None:
        layout, fill = self._layout, self._layout.coding.fill
        missing = np.flatnonzero(~layout.offsets.any(axis=1))
        if len(missing):
            absent = self._parsed.absent
            listed = ", ".join(absent[:5]) + (" …" if len(absent) > 5 else "")
            reason = f"it refers to {listed}" if listed else "files of the series may be missing"
            raise StorageError(
                f"{len(missing)} of {len(layout.offsets)} planes of {self.name} are not stored (the first is "
                f"{self._plane(int(missing[0]))}): {reason}",
                hints=[
                    Hint.of(
                        f"if they were never recorded, read them as {fill} with {{}}", missing_planes="fill"
                    )
                ],
            )

    def _plane(self, page: int) -> tuple[int, ...]:
        return tuple(int(i) for i in np.unravel_index(page, self.shape[: self._layout.split] or (1,)))

    def _spec_options(self) -> Mapping[str, Any]:
        options = {"level": self._parsed.level, "missing_planes": self._missing_planes}
        return {name: value for name, value in options.items() if value not in (0, "error")}

    def identities(self) -> frozenset[tuple[Any, ...]]:
        token = f"series {self._parsed.series} level {self._parsed.level}"
        paths = {self.path, *self._layout.paths}
        return frozenset(file_identity(path, token) for path in paths)

    def stored_stamp(self) -> str | None:
        paths = self._layout.paths
        return file_stamp(self.path) if len(paths) < 2 else stamp_of_files(paths)

    def stored_size(self) -> StoredSize:
        paths = self._layout.paths
        return StoredSize(sum(self._descriptor(n).size for n in range(len(paths))), len(paths))

    def close(self) -> None:
        super().close()
        self._files = None

    def _descriptor(self, number: int) -> FileBytes:
        files = self._files
        if files is None:
            raise StorageError(f"{self.name} is closed; open it again to read")
        return files.get(self._layout.paths[number])

    def _file_of(self, page: int) -> FileBytes:
        return self._descriptor(int(self._layout.page_file[page]))

    def _gathered(self, box: Box, buffer: AnyArray | None) -> AnyArray:
        if self._layout.raw_offsets is None:
            return super()._gathered(box, buffer)
        return self._read_raw(box, buffer, self._layout.raw_offsets)

    def _read_raw(self, box: Box, buffer: AnyArray | None, offsets: npt.NDArray[np.int64]) -> AnyArray:
        layout = self._layout
        stored = layout.coding.file_dtype
        out = np.empty(box.shape, stored) if buffer is None else buffer.view(stored)
        if len(offsets) == 1:
            in_file = ArrayInFile(int(offsets[0]), self.shape, stored)
            read_region(self._descriptor(0), in_file, box, out)
        else:
            split = layout.split
            inner = Box(box.begin[split:], box.end[split:])
            for place in product(*map(range, box.shape[:split])):
                page = self._page_number(tuple(b + p for b, p in zip(box.begin, place, strict=False)))
                in_file = ArrayInFile(int(offsets[page]), self.shape[split:], stored)
                read_region(self._file_of(page), in_file, inner, out[place])
        return out if stored == self.dtype else out.byteswap(inplace=True).view(self.dtype)

    def _page_number(self, at: tuple[int, ...]) -> int:
        return number_in(self.shape[: self._layout.split], at)

    def _decode_chunk(self, position: tuple[int, ...], box: Box) -> AnyArray | None:
        return self._decoded_in(position, box, None)

    def _decode_into(self, position: tuple[int, ...], box: Box, target: AnyArray) -> None:
        chunk = self._decoded_in(position, box, target)
        if chunk is None:
            target[...] = self._fill()
        elif chunk is not target:
            copy_rows(target, chunk)

    def _decoded_in(self, position: tuple[int, ...], box: Box, target: AnyArray | None) -> AnyArray | None:
        """Return a chunk, in the target if there is one and the chunk has several segments."""
        layout, coding = self._layout, self._layout.coding
        page = self._page_number(position[: layout.split])
        at, extent = [0] * 5, [1, 1, 1, 1, coding.shape[4]]
        for axis, cell, n in zip(
            layout.page_axes, position[layout.split :], box.shape[layout.split :], strict=True
        ):
            if axis is not None:
                at[axis], extent[axis] = cell, n
        sample, depth, rows, columns = at[0], at[1], at[2] * coding.group[0], at[3] * coding.group[1]
        _, n_depth, n_rows, n_columns = coding.grid
        parts = [
            (((sample * n_depth + depth) * n_rows + row) * n_columns + column, row - rows, column - columns)
            for row in range(rows, min(n_rows, rows + coding.group[0]))
            for column in range(columns, min(n_columns, columns + coding.group[1]))
        ]
        encoded = self._encoded(page, [segment for segment, _, _ in parts])
        if not encoded:
            return None
        shape = (extent[1], extent[2], extent[3], extent[4])
        if len(parts) == 1:
            return self._decode(page, parts[0][0], encoded[parts[0][0]], shape).reshape(box.shape)
        found = np.empty(box.shape, self.dtype) if target is None else target
        # Only axes of extent 1 are added or removed, so it is the same memory.
        chunk = found.reshape(shape)
        if len(encoded) < len(parts):
            chunk[...] = coding.fill
        for segment, row, column in parts:
            if segment in encoded:
                part = chunk[:, row * coding.segment[1] :, column * coding.segment[2] :]
                part = part[:, : coding.segment[1], : coding.segment[2]]
                part[...] = self._decode(page, segment, encoded[segment], part.shape)
        return found

    def _encoded(self, page: int, segments: list[int]) -> dict[int, bytes | memoryview]:
        """Return the bytes of the segments that are stored, in one read if they are close together."""
        layout = self._layout
        places = {s: (int(layout.offsets[page, s]), int(layout.byte_counts[page, s])) for s in segments}
        places = {s: (o, n) for s, (o, n) in places.items() if o > 0}
        if not places:
            return {}
        file = self._file_of(page)
        first = min(o for o, _ in places.values())
        last = max(o + n for o, n in places.values())
        if len(places) > 1 and last - first <= sum(n for _, n in places.values()) + _WASTE:
            view = memoryview(file.read(first, last - first))
            return {s: view[o - first : o - first + n] for s, (o, n) in places.items()}
        return {s: file.read(o, n) for s, (o, n) in places.items()}

    def _decode(self, page: int, segment: int, data: bytes | memoryview, shape: tuple[int, ...]) -> AnyArray:
        layout = self._layout
        coding = layout.other_codings.get(page, layout.coding) if layout.other_codings else layout.coding
        arguments = coding.arguments
        if page in layout.jpeg_tables:
            arguments = {**arguments, "jpegtables": layout.jpeg_tables[page]}
        try:
            decoded, _, _ = coding.decode(data, segment, **arguments)
            assert decoded is not None
            if layout.transform is not None:
                decoded = layout.transform(decoded)
            cut = decoded[tuple(slice(0, n) for n in shape)].reshape(shape)
        except Exception as error:  # damaged bytes make decoders raise anything, MemoryError too
            offset, count = int(layout.offsets[page, segment]), int(layout.byte_counts[page, segment])
            raise StorageError(
                f"{self.name} is corrupt: segment {segment} of plane {self._plane(page)} ({count} bytes at byte {offset}, "
                f"{coding.codec or 'not compressed'}) cannot be decoded: {error or type(error).__name__}"
            ) from error
        return cut.astype(self.dtype, copy=False)
