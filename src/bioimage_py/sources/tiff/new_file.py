"""What a new TIFF looks like: which axes, tiles and codec it has, and its pages, which tifffile writes without voxels."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import tifffile

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import BioimagePyWarning, Hint, InvalidArgumentError, UnsupportedFormatError
from bioimage_py.metadata import ImageMetadata, normalise_unit, short_unit, unit_ratio, unit_symbol
from bioimage_py.sources.array_spec import ArraySpec, Codec
from bioimage_py.sources.tiff.ome import with_rest

SOFTWARE = "bioimage_py"
_TILE = 512
_AXES = "tczyx"
_DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64")
_IMAGEJ_DTYPES = ("uint8", "uint16", "float32")
_DEFLATE, _LZW, _ZSTD = 8, 5, 50000
_COMPRESSIONS = {
    "none": 1,
    "deflate": _DEFLATE,
    "zlib": _DEFLATE,
    "gzip": _DEFLATE,
    "lzw": _LZW,
    "zstd": _ZSTD,
}
_LEVELS = {_DEFLATE: (0, 9, 1), _ZSTD: (1, 22, 3)}
"""Lowest and highest level, and the one where none is given."""
_CLASSIC = 2**32 - 2**26
"""Bytes up to which a file is not a BigTIFF: what does not compress grows a little."""


def settled(spec: ArraySpec, *, grid: bool) -> ArraySpec:
    """Return a new array with the axes and tiles that a TIFF has; InvalidArgumentError where it cannot hold it."""
    ndim = len(spec.shape)
    axes = tuple(axis.lower() for axis in spec.metadata.axes or _AXES[-ndim:])
    if not 2 <= ndim <= 5 or axes[-2:] != ("y", "x") or not set(axes) <= set(_AXES) or len(set(axes)) != ndim:
        raise InvalidArgumentError(
            f"a TIFF has the axes t, c, z, of which some may be left out, and y, x at the end; this array has {ndim}: {', '.join(axes)}",
            hints=[
                Hint.of("if these names are wrong, give others, such as {}", axes="zyx"),
                Hint("or select or project one of the axes"),
            ],
        )
    if 0 in spec.shape:
        raise InvalidArgumentError(
            f"a TIFF cannot hold an array without voxels, and this one has shape {spec.shape}"
        )
    known = _IMAGEJ_DTYPES if spec.imagej else _DTYPES
    if spec.dtype.name not in known:
        what = "an ImageJ hyperstack" if spec.imagej else "an OME-TIFF"
        near = (
            "uint8"
            if spec.dtype.kind == "b"
            else "float32"
            if spec.dtype.kind in "fc" or spec.imagej
            else "uint32"
        )
        raise UnsupportedFormatError(
            f"{what} cannot hold dtype {spec.dtype}: it has {', '.join(known)}",
            hints=[Hint.of("give {}", dtype=near), Hint("or write OME-Zarr")],
        )
    if spec.shards is not None:
        raise InvalidArgumentError(
            f"a TIFF has no shards, got shards={spec.shards}", hints=[Hint.of("leave out {}", shards=...)]
        )
    spec = replace(spec, metadata=replace(spec.metadata, axes=axes))
    codec = _checked_codec(spec)
    if not spec.imagej:
        spec = replace(spec, codec=codec)
        return replace(spec, chunks=_tiles(spec, grid=grid))
    if grid or codec.name != "none":
        raise InvalidArgumentError(
            "an ImageJ hyperstack has neither tiles nor compression, which ImageJ reads itself",
            hints=[
                Hint.of("leave out {}", chunks=...),
                Hint.of("and {}", codec=...),
                Hint.of("or {}, for an OME-TIFF", imagej=...),
            ],
        )
    return replace(spec, codec=codec, chunks=None)


def compression_level(name: str, level: int | None) -> int:
    return _LEVELS[_COMPRESSIONS[name]][2] if level is None else level


def _tiles(spec: ArraySpec, *, grid: bool) -> tuple[int, ...]:
    ones, plane = (1,) * (len(spec.shape) - 2), spec.shape[-2:]
    if not grid or spec.chunks is None:
        tile = [min(n, _TILE) for n in plane]
        if _is_plane(tile, spec) and tile[0] > 16:
            tile[0] = -(-tile[0] // 32) * 16
        return (*ones, *tile)
    given = spec.chunks
    fits = all(c % 16 == 0 or c >= n for c, n in zip(given[-2:], plane, strict=True))
    if given[:-2] != ones or not fits:
        raise InvalidArgumentError(
            f"chunks {given} cannot be tiles of a TIFF: they are one plane deep, and multiples of 16 voxels, or all, along y and x",
            hints=[Hint.of("give {}, for example", chunks=(*ones, _TILE, _TILE))],
        )
    return (*ones, *map(min, given[-2:], plane))


def _is_plane(tile: Sequence[int], spec: ArraySpec) -> bool:
    """Whether tifffile would take tiles for planes that are written one after the other."""
    assert spec.codec is not None
    return spec.codec.name == "none" and tuple(tile) == spec.shape[-2:] and not any(n % 16 for n in tile)


def _checked_codec(spec: ArraySpec) -> Codec:
    codec = spec.codec or Codec("none" if spec.imagej else "deflate")
    options = dict(codec.options)
    predictor = options.pop("predictor", spec.dtype.kind in "iu")
    compression = _COMPRESSIONS.get(codec.name)
    if compression is None:
        raise InvalidArgumentError(
            f"a TIFF is not compressed with {codec.name!r} here; choose one of deflate, zstd, lzw, none"
        )
    if options or not isinstance(predictor, bool):
        raise InvalidArgumentError(
            f"the codec of a TIFF has the option predictor, True or False, only; got {codec.options}"
        )
    least, most, _ = _LEVELS.get(compression, (0, -1, 0))
    if codec.level is not None and not least <= codec.level <= most:
        has = f"is {least} to {most}" if compression in _LEVELS else "cannot be given"
        raise InvalidArgumentError(f"the level of codec {codec.name!r} {has} in a TIFF, got {codec.level}")
    return Codec(codec.name, codec.level, {"predictor": predictor and compression != 1})


def make_pages(place: str, path: str, spec: ArraySpec, shapes: Sequence[tuple[int, ...]]) -> int:
    """Write a file with all pages and levels of an image, without voxels; return where those of an ImageJ hyperstack are, else 0.

    `shapes` are those of the levels below full size.
    """
    tile = None if spec.chunks is None else _tile(spec)
    letters = "".join(spec.metadata.axes or ()).upper()
    resolution = _resolution(spec.metadata)
    said: dict[str, Any] = {"description": _ome_xml(path, spec, letters), "metadata": None}
    shape = spec.shape
    if spec.imagej:
        stack = hyperstack(spec)
        letters, shape = (
            "".join(letter for letter, _ in stack).upper() + "YX",
            (*(n for _, n in stack), *shape[-2:]),
        )
        described, resolution = _imagej(spec.metadata, letters)
        said = {"metadata": {**described, "axes": letters}}
    alike: dict[str, Any] = {
        "dtype": spec.dtype,
        "tile": tile,
        "photometric": "minisblack",
        **_compression(spec),
    }
    n_bytes = sum(math.prod(_padded(one, tile or one[-2:])) for one in (shape, *shapes)) * spec.dtype.itemsize
    with (
        warnings.catch_warnings(),
        tifffile.TiffWriter(
            place,
            bigtiff=n_bytes > _CLASSIC and not spec.imagej,
            imagej=spec.imagej,
            byteorder="<",
        ) as writer,
    ):
        warnings.filterwarnings(
            "ignore", message=".*truncating ImageJ file"
        )  # ImageJ finds the planes behind 4 GiB by itself
        at = writer.write(
            _empty_tiles(shape, tile), shape=shape, subifds=len(shapes) or None, software=SOFTWARE, **said,
            resolution=resolution, resolutionunit=None if spec.imagej else "CENTIMETER", returnoffset=spec.imagej, **alike,
        )  # fmt: skip
        for below in shapes:
            writer.write(_empty_tiles(below, tile), shape=below, subfiletype=1, metadata=None, **alike)
    return at[0] if at is not None else 0


def encoded_plane(spec: ArraySpec) -> Callable[[AnyArray], bytes]:
    """Return what makes a file of one plane of an array."""
    coded, resolution = _compression(spec), _resolution(spec.metadata)

    def encode(plane: AnyArray) -> bytes:
        file = BytesIO()
        tifffile.imwrite(
            file, plane, metadata=None, photometric="minisblack", software=SOFTWARE, byteorder="<", maxworkers=1, resolution=resolution,
            resolutionunit="CENTIMETER", **coded,
        )  # fmt: skip
        return file.getvalue()

    return encode


def _compression(spec: ArraySpec) -> dict[str, Any]:
    codec = spec.codec or Codec("none")
    if codec.name == "none":
        return {}
    level = (
        {"level": compression_level(codec.name, codec.level)} if _COMPRESSIONS[codec.name] in _LEVELS else {}
    )
    predictor = (3 if spec.dtype.kind == "f" else 2) if codec.options.get("predictor") else None
    return {"compression": _COMPRESSIONS[codec.name], "predictor": predictor, "compressionargs": level}


def _tile(spec: ArraySpec) -> tuple[int, int]:
    assert spec.chunks is not None
    height, width = (-(-c // 16) * 16 for c in spec.chunks[-2:])
    return height + 16 * _is_plane((height, width), spec), width


def _padded(shape: tuple[int, ...], tile: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:-2], *(-(-n // t) * t for n, t in zip(shape[-2:], tile, strict=True)))


def _empty_tiles(shape: tuple[int, ...], tile: tuple[int, int] | None) -> Iterator[bytes] | None:
    if tile is None:
        return None
    padded = _padded(shape, tile)
    return itertools.repeat(b"", math.prod(padded) // math.prod(tile))


def hyperstack(spec: ArraySpec) -> list[tuple[str, int]]:
    """Return the axes of pages in the order that ImageJ has, with their extents."""
    axes = spec.metadata.axes or ()
    return [(axis, spec.shape[axes.index(axis)]) for axis in "tzc" if axis in axes]


def hyperstack_order(spec: ArraySpec) -> tuple[int, ...]:
    names = [axis for axis, _ in hyperstack(spec)]
    return tuple(names.index(axis) for axis in (spec.metadata.axes or ())[:-2])


def _sizes(metadata: ImageMetadata) -> dict[str, tuple[float, str | None]]:
    """Return size and unit of a voxel by axis, where they say anything."""
    axes, sizes = metadata.axes or (), metadata.voxel_size or ()
    units = metadata.units or (None,) * len(sizes)
    each = zip(axes, sizes, units, strict=False)
    return {axis: (size, normalise_unit(unit)) for axis, size, unit in each if size != 1 or unit}


def _ome_xml(path: str, spec: ArraySpec, letters: str) -> bytes:
    metadata = spec.metadata
    said: dict[str, Any] = {"Name": Path(path).name.partition(".")[0]}
    place = ""
    for axis, (size, unit) in _sizes(metadata).items():
        symbol, factor = (short_unit(unit), 1.0) if unit else ("pixel", 1.0)
        if unit and symbol == unit:
            symbol, factor = unit_symbol(unit)
        if axis == "t" and unit:
            said |= {"TimeIncrement": size * factor, "TimeIncrementUnit": symbol}
        elif axis in "xyz":
            name = axis.upper()
            said |= {f"PhysicalSize{name}": size * factor, f"PhysicalSize{name}Unit": symbol}
            if metadata.origin is not None and any(metadata.origin) and unit:
                at = metadata.origin[(metadata.axes or ()).index(axis)] * factor
                place += f' Position{name}="{at!r}" Position{name}Unit="{symbol}"'
    channels: dict[str, Any] = {}
    if metadata.channel_names:
        channels["Name"] = list(metadata.channel_names)
    if metadata.channel_colors:
        colors = (int(color + "FF", 16) for color in metadata.channel_colors)
        channels["Color"] = [n - 2**32 if n >= 2**31 else n for n in colors]
    ome = tifffile.OmeXml(UUID=str(uuid4()), Creator=SOFTWARE)
    stored = (math.prod(spec.shape[:-2]), 1, 1, *spec.shape[-2:], 1)
    ome.addimage(spec.dtype, spec.shape, stored, axes=letters, **said, Channel=channels)
    if place:  # of the first plane alone: there can be many
        plane = f'<Plane TheC="0" TheZ="0" TheT="0"{place}/></Pixels>'
        ome.images[0] = ome.images[0].replace("</Pixels>", plane)
    return with_rest(
        ome.tostring(declaration=True), None if spec.ome_xml is None else spec.ome_xml()
    ).encode()


def _resolution(metadata: ImageMetadata) -> tuple[float, float] | None:
    """Return voxels per centimetre along x and y."""
    sizes = _sizes(metadata)
    per = [unit_ratio("centimeter", sizes[axis][1]) if axis in sizes else None for axis in "xy"]
    if per[0] is None or per[1] is None:
        return None
    return per[0] / sizes["x"][0], per[1] / sizes["y"][0]


def _imagej(metadata: ImageMetadata, letters: str) -> tuple[dict[str, Any], tuple[float, float] | None]:
    """Return what ImageJ's description says of an image, and its resolution in voxels per unit."""
    sizes = _sizes(metadata)
    unit = next((sizes[axis][1] for axis in "xyz" if axis in sizes and sizes[axis][1]), None)
    in_unit = {
        axis: size * (unit_ratio(own, unit) or 1.0) for axis, (size, own) in sizes.items() if axis in "xyz"
    }
    said: dict[str, Any] = {} if unit is None else {"unit": short_unit(unit).replace("µ", "u")}
    if "z" in in_unit:
        said["spacing"] = in_unit["z"]
    if "t" in sizes and (seconds := unit_ratio(sizes["t"][1], "second")):
        said["finterval"] = sizes["t"][0] * seconds
    if metadata.origin is not None and metadata.voxel_size is not None:
        each = zip(metadata.axes or (), metadata.origin, metadata.voxel_size, strict=True)
        said |= {f"{axis}origin": -at / size for axis, at, size in each if axis in "xyz" and at}
    if metadata.contrast_limits:
        (said["min"], said["max"]), *_ = metadata.contrast_limits
        said["Ranges"] = tuple(itertools.chain(*metadata.contrast_limits))
    if metadata.channel_colors:
        ramp = np.arange(256)
        tables = [[ramp * n // 255 for n in bytes.fromhex(color)] for color in metadata.channel_colors]
        said["LUTs"] = [np.array(table, np.uint8) for table in tables]
    if "C" in letters:
        said["mode"] = "composite"
    return said, (1 / in_unit["x"], 1 / in_unit["y"]) if "x" in in_unit and "y" in in_unit else None


def warn_of_lost(path: str, spec: ArraySpec) -> None:
    """Warn of metadata that the file will not have."""
    metadata = spec.metadata
    lost = sorted(set(metadata.attributes) - {"tiff_description"})
    lost += ["orientations"] if metadata.orientations else []
    lost += ["channel_names"] if spec.imagej and metadata.channel_names else []
    lost += ["contrast_limits"] if not spec.imagej and metadata.contrast_limits else []
    if lost:
        warnings.warn(
            BioimagePyWarning(
                f"a TIFF has no place for {', '.join(lost)} of the input: they will not be in {path!r}"
            ),
            stacklevel=4,
        )
