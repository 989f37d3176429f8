"""Files of microscope vendors (CZI, LIF, ND2 and others), read through bioio and its plugins as T, C, Z, Y, X."""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import (
    BioimagePyError,
    Hint,
    InvalidArgumentError,
    MissingDependencyError,
    ReadOnlyError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata, without_nonsense
from bioimage_py.sources.family import Family, chosen_image
from bioimage_py.sources.raw import SingleFileSource, open_file
from bioimage_py.storage import Identity, file_identity, is_url

if TYPE_CHECKING:
    from bioio import BioImage

_AXES = ("t", "c", "z", "y", "x")
_PLUGINS = {
    ".czi": "bioio-czi",
    ".lif": "bioio-lif",
    ".nd2": "bioio-nd2",
    ".dv": "bioio-dv",
    ".r3d": "bioio-dv",
    ".sldy": "bioio-sldy",
    **dict.fromkeys((".oib", ".oif", ".vsi"), "bioio-bioformats"),
}


class VendorSource(SingleFileSource):
    """One scene of a file that a plugin of bioio reads, always with the axes t, c, z, y, x.

    The samples of colour pixels are channels: those of the first channel, then those of the next one. If the plugin can do so, planes
    are read when they are asked for.
    """

    kind = "vendor"

    def __init__(self, path: str, key: str | None, image: BioImage, reader: str | None) -> None:
        self.path = path
        self.key = key
        self.format = type(image.reader).__module__.partition(".")[0].replace("_", "-")
        self._reader = reader
        with _judged(path):
            n_samples = _samples(image, path)
            voxels = image.get_image_dask_data("TCSZYX" if n_samples > 1 else "TCZYX")
            if n_samples > 1:
                voxels = voxels.reshape((voxels.shape[0], -1, *voxels.shape[3:]))
            self._voxels = voxels
            self._metadata = _metadata(image, voxels.shape, path, n_samples)
        self.shape = tuple(int(n) for n in self._voxels.shape)
        self.dtype = np.dtype(self._voxels.dtype)
        self.chunks = tuple(max(1, int(max(sizes))) for sizes in self._voxels.chunks)

    @property
    def metadata(self) -> ImageMetadata:
        """Axes, voxel size, units and names of channels, as far as the plugin knows them."""
        return self._metadata

    def _read(self, box: Box) -> AnyArray:
        with _judged(self.path):
            # The caller has threads of its own.
            found = self._voxels[box.slices].compute(scheduler="synchronous")
        return np.asarray(found, self.dtype)

    def _spec_options(self) -> dict[str, Any]:
        return {} if self._reader is None else {"reader": self._reader}

    def part_stamps(self, *, cheap: bool = False) -> None:
        """Return None: which files a plugin reads is not known."""
        del cheap

    def identities(self) -> frozenset[Identity]:
        return frozenset({file_identity(self.path, self.key)})


class VendorFamily(Family):
    """Files of microscope vendors, with each scene an array; read only."""

    def open_path(
        self, path: str, key: str | None = None, mode: str = "r", *, reader: str | None = None
    ) -> VendorSource:
        """Open a scene, by name or number where there are several, with the plugin `reader` or that which bioio chooses."""
        if mode != "r":
            raise ReadOnlyError(
                f"files of microscope vendors can only be read: open {path!r} with mode='r', and copy it to change it"
            )
        image = _opened(path, reader)
        scenes = {str(scene): str(n) for n, scene in enumerate(image.scenes)}
        scene = chosen_image(path, scenes, key, "scene")
        image.set_scene(scene)
        if _is_czi(image) and "S" in image.dims.order:
            # bioio-czi 3.0 reads the first sample for each, unless the samples, which CZI calls A, are one chunk.
            image = type(image)(path, reader=type(image.reader), chunk_dims=["Y", "X", "S", "A"])
            image.set_scene(scene)
        return VendorSource(path, scene, image, reader)

    def list_arrays(self, path: str, **options: Any) -> list[str]:
        del options
        return [str(scene) for scene in _opened(path, None).scenes]

    def images_in(self, path: str) -> list[tuple[str, str]]:
        scenes = self.list_arrays(path)
        return [(str(n), scene) for n, scene in enumerate(scenes)] if len(scenes) > 1 else []


def _opened(path: str, reader: str | None) -> BioImage:
    if is_url(path):
        raise InvalidArgumentError(
            f"files of microscope vendors are read from local folders only, not from {path!r}"
        )
    open_file(path, "r")
    plugin = _PLUGINS.get("." + path.lower().rpartition(".")[2])
    packages = ("bioio",) if plugin is None else ("bioio", plugin)
    hints = [Hint("install the plugin of bioio for this format as well")] if plugin is None else []
    try:
        from bioio import BioImage
    except ImportError as error:
        raise MissingDependencyError.of(
            f"{path!r} is read through bioio, which is not installed ({error})", *packages, hints=hints
        ) from error
    given = {} if reader is None else {"reader": _reader_class(reader)}
    try:
        with _judged(path):
            return BioImage(path, **given)
    except UnsupportedFormatError as error:
        if plugin is None or _is_installed(plugin.replace("-", "_")):
            raise
        raise MissingDependencyError.of(f"no installed plugin of bioio reads {path!r}", plugin) from error


def _reader_class(name: str) -> Any:
    module = name.replace("-", "_")
    if not _is_installed(module):
        raise MissingDependencyError.of(
            f"the plugin {name!r} of bioio is not installed", name.replace("_", "-")
        )
    found = getattr(importlib.import_module(module), "Reader", None)
    if found is None:
        raise InvalidArgumentError(f"{name!r} is not a plugin of bioio: it has no class Reader")
    return found


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _samples(image: BioImage, path: str) -> int:
    """Return how many samples a pixel has; raises UnsupportedFormatError if an axis would be dropped."""
    # Tiles of a mosaic are an axis of the image unless the plugin can put them together.
    stored = dict(zip(image.reader.dims.order, image.reader.dims.shape, strict=True))
    stored.pop("M", None)
    shown = dict(zip(image.dims.order, image.dims.shape, strict=True))
    others = {axis: int(n) for axis, n in (stored | shown).items() if axis not in "TCZYXS" and n > 1}
    if others:
        extents = ", ".join(f"{axis} of {n}" for axis, n in others.items())
        raise UnsupportedFormatError(
            f"{path!r} has axes beside t, c, z, y, x and samples, which are not supported: {extents}. Export it as OME-TIFF "
            "or OME-Zarr, or read it with bioio and give copy the array of one of their indices"
        )
    return int(shown.get("S", 1))


def _metadata(image: BioImage, shape: tuple[int, ...], name: str, n_samples: int) -> ImageMetadata:
    sizes = image.physical_pixel_sizes
    space = [_positive(size) for size in (sizes.Z, sizes.Y, sizes.X)]
    interval = image.time_interval
    step = _positive(interval.total_seconds() if hasattr(interval, "total_seconds") else interval)
    names = image.channel_names
    # CZI stores blue first, and its plugin leaves the samples as they are.
    colors = ("FF0000", "00FF00", "0000FF")[:: -1 if _is_czi(image) else 1]
    said = ImageMetadata(
        axes=_AXES,
        voxel_size=(step or 1.0, 1.0, *(s or 1.0 for s in space)) if any(space) or step else None,
        # bioio's sizes are always in micrometres.
        units=("second" if step else None, None, *("micrometer" if s else None for s in space)),
        channel_names=tuple(str(n) for n in names) if names and len(names) == shape[1] else None,
        channel_colors=colors if n_samples == shape[1] == 3 else None,
    )
    return without_nonsense(said, len(shape), name)


def _is_czi(image: BioImage) -> bool:
    return type(image.reader).__module__.startswith("bioio_czi")


def _positive(value: Any) -> float | None:
    usable = isinstance(value, (int, float)) and math.isfinite(value) and value > 0
    return float(value) if usable else None


@contextmanager
def _judged(path: str) -> Iterator[None]:
    """Make errors of this package of what plugins raise, which is what their libraries raise."""
    try:
        yield
    except BioimagePyError:
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        if type(error).__name__ == "UnsupportedFileFormatError":
            raise UnsupportedFormatError(
                f"{path!r} cannot be read by the plugins of bioio that are installed: {text}"
            ) from error
        raise StorageError(f"reading {path!r} through bioio failed: {text}") from error
