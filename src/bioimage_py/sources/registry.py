"""The lazy list of storage families: adding a format means one module and one line here.

A family's module is imported when a path, a handle or a spec leads to it. It may define

- `open_path(path, key, mode, **options) -> Source`: open what is stored there;
- `open_spec(spec) -> Source`: reopen from plain JSON (default: `open_path` with the spec's entries);
- `from_handle(handle) -> Source | None`: wrap a live object of the library in `handles`, None if it is none of ours;
- `create(path, key, spec, overwrite) -> Source`: make a new array (`ArraySpec`), opened for writing;
- `create_unfinished(path, key, spec, overwrite) -> Source`: the same, in a file that gets its name by the source's `finish`;
- `identities_at(path, key) -> frozenset`: of what is at a place that an output shall have, where its folder or file does not tell;
- `list_arrays(path) -> list[str]`: keys of the arrays in a container;
- `list_coarser(spec) -> list[SourceSpec]`: the smaller copies that are stored beside an array, finest first.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

from bioimage_py.errors import InvalidArgumentError, UnsupportedFormatError


@dataclass(frozen=True)
class Family:
    """One storage family, in strings only.

    Attributes
    ----------
    kind
        Its name in specs.
    module
        Where it is implemented.
    suffixes
        Lower-case path endings that name it.
    magic
        (offset, bytes) of which one must stand in the first 1 KiB of its files.
    markers
        File names of which one stands in its folders.
    container
        Whether one path can hold several arrays, chosen by a key.
    handles
        Top-level packages whose live objects it wraps.
    title
        Its name for people.
    writes
        Whether new arrays can be created.
    zipped
        Whether its files are read also where they are compressed as a whole.
    """

    kind: str
    module: str
    title: str
    suffixes: tuple[str, ...] = ()
    magic: tuple[tuple[int, bytes], ...] = ()
    markers: tuple[str, ...] = ()
    container: bool = False
    handles: tuple[str, ...] = ()
    writes: bool = False
    zipped: bool = False


_S = "bioimage_py.sources."
FAMILIES = (
    Family(
        "zarr", _S + "zarr", "Zarr v2 and v3", (".zarr", ".zarr.zip"), (), ("zarr.json", ".zarray", ".zgroup"),
        container=True, handles=("zarr", "tensorstore"), writes=True,
    ),
    Family("n5", _S + "n5", "N5", (".n5",), (), ("attributes.json",), container=True, handles=("z5py",), writes=True),
    Family(
        "precomputed", _S + "precomputed", "neuroglancer precomputed", (".precomputed",), (), ("info",), writes=True
    ),
    Family(
        "hdf5", _S + "hdf5", "HDF5", (".h5", ".hdf5", ".hdf", ".he5"), ((0, b"\x89HDF\r\n\x1a\n"),),
        container=True, handles=("h5py",), writes=True,
    ),
    Family(
        "tiff", _S + "tiff", "TIFF", (".tif", ".tiff", ".btf", ".tf8", ".tf2"),
        ((0, b"II*\0"), (0, b"MM\0*"), (0, b"II+\0"), (0, b"MM\0+")),
    ),
    Family(
        "stack", _S + "slices", "folder of slices", (".png", ".jpg", ".jpeg"),
        ((0, b"\x89PNG\r\n\x1a\n"), (0, b"\xff\xd8\xff")),
    ),
    Family("mrc", _S + "raw.mrc", "MRC", (".mrc", ".rec", ".map", ".st", ".ali", ".mrcs"), ((208, b"MAP "), (208, b"MAP\0")), zipped=True),
    Family("nifti", _S + "raw.nifti", "NIfTI", (".nii",), ((344, b"n+1\0"), (4, b"n+2\0")), zipped=True),
    Family("npy", _S + "raw.npy", "NumPy .npy", (".npy",), ((0, b"\x93NUMPY"),), writes=True, zipped=True),
    Family(
        "vendor", _S + "vendor", "microscope vendors' files, through bioio",
        (".czi", ".lif", ".nd2", ".dv", ".r3d", ".sldy", ".oib", ".oif", ".vsi"),
        ((0, b"ZISRAWFILE"), (0, b"\xda\xce\xbe\x0a")), container=True,
    ),
    Family("wrapper", "bioimage_py.wrapper.spec", "wrapper"),
    Family("described", _S + "metadata_override", "array with other metadata"),
    Family("memory", _S + "memory", "array in memory", handles=("numpy", "dask", "xarray")),
)  # fmt: skip
_BY_KIND: Mapping[str, Family] = {f.kind: f for f in FAMILIES}


def family(kind: str) -> Family:
    """Return the family of a spec's kind; raises UnsupportedFormatError that lists them."""
    try:
        return _BY_KIND[kind]
    except (KeyError, TypeError):
        raise UnsupportedFormatError(
            f"no storage family is called {kind!r}; there are {', '.join(_BY_KIND)}"
        ) from None


def family_module(kind: str, needs: str) -> ModuleType:
    """Import the module of a family, which must define the function `needs`.

    Raises
    ------
    InvalidArgumentError
        If the family cannot do that, such as creating a TIFF.
    """
    found = family(kind)
    module = importlib.import_module(found.module)
    if not hasattr(module, needs):
        can = ", ".join(f.title for f in FAMILIES if f.writes)
        hint = f"; formats that can be written: {can}" if needs == "create" else ""
        raise InvalidArgumentError(f"{found.title} does not support {needs!r} here{hint}")
    return module
