"""The storage families: a line each, in strings only, so that naming a format loads nothing of it.

Other distributions add a family by an entry point of the group `bioimage_py.sources` that leads to a `FamilyEntry`.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from bioimage_py.errors import (
    BioimagePyError,
    BioimagePyWarning,
    InvalidArgumentError,
    UnsupportedFormatError,
)

if TYPE_CHECKING:
    from bioimage_py.sources.base import Source
    from bioimage_py.sources.family import Family

GROUP = "bioimage_py.sources"


@dataclass(frozen=True)
class FamilyEntry:
    """What tells a storage family from the others, and where it is implemented.

    Attributes
    ----------
    kind
        Its name in specs.
    implementation
        Its `Family`, as `"package.module:Class"`; imported when a path, a handle or a spec leads to it.
    title
        Its name for people.
    suffixes
        Lower-case path endings that name it.
    magic
        (offset, bytes) of which one must stand in the first 1 KiB of its files.
    markers
        File names of which one stands in its folders.
    metadata_files
        Further names of files in its folders that hold no voxels.
    container
        Whether one path can hold several arrays, chosen by a key.
    handles
        Top-level packages whose live objects it wraps.
    patterns
        Whether a key of it is a pattern of file names.
    slices
        Whether its files can be the slices of a folder.
    writes
        Whether new arrays can be created.
    zipped
        Whether its files are read also where they are compressed as a whole.
    gzips
        Whether new files can be compressed as a whole, under names that end in `.gz`.
    chosen_by
        An option of `open_source` that leads to it, whatever is at the path.
    """

    kind: str
    implementation: str
    title: str
    suffixes: tuple[str, ...] = ()
    magic: tuple[tuple[int, bytes], ...] = ()
    markers: tuple[str, ...] = ()
    metadata_files: tuple[str, ...] = ()
    container: bool = False
    handles: tuple[str, ...] = ()
    patterns: bool = False
    slices: bool = False
    writes: bool = False
    zipped: bool = False
    gzips: bool = False
    chosen_by: str = ""

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(one.default, tuple) and not isinstance(value, tuple):
                raise TypeError(f"{one.name} of a FamilyEntry is a tuple, got {value!r}")

    @property
    def in_folders(self) -> bool:
        """Whether its arrays are folders, not files."""
        return bool(self.markers)

    def load(self) -> Family:
        """Import the family; raises UnsupportedFormatError if that of another distribution cannot be."""
        return _loaded(self)


_S = "bioimage_py.sources."
OWN_FAMILIES = (
    FamilyEntry(
        "zarr", _S + "zarr:ZarrFamily", "Zarr v2 and v3", (".zarr", ".ozx", ".zarr.zip"), markers=("zarr.json", ".zarray", ".zgroup"),
        metadata_files=(".zattrs", ".zmetadata", "METADATA.ome.xml"), container=True, handles=("zarr", "tensorstore"), writes=True,
    ),
    FamilyEntry("n5", _S + "n5:N5Family", "N5", (".n5",), markers=("attributes.json",), container=True, handles=("z5py",), writes=True),
    FamilyEntry(
        "precomputed", _S + "precomputed:PrecomputedFamily", "neuroglancer precomputed", (".precomputed",), markers=("info",), metadata_files=("provenance",), writes=True
    ),
    FamilyEntry(
        "hdf5", _S + "hdf5:Hdf5Family", "HDF5", (".h5", ".hdf5", ".hdf", ".he5"), ((0, b"\x89HDF\r\n\x1a\n"),),
        container=True, handles=("h5py",), writes=True,
    ),
    FamilyEntry("imaris", _S + "hdf5:ImarisFamily", "Imaris", (".ims",), ((0, b"\x89HDF\r\n\x1a\n"),), container=True),
    FamilyEntry("bdv", _S + "hdf5:BdvFamily", "BigDataViewer", (".xml",), container=True),
    FamilyEntry(
        "tiff", _S + "tiff:TiffFamily", "TIFF", (".tif", ".tiff", ".btf", ".tf8", ".tf2"),
        ((0, b"II*\0"), (0, b"MM\0*"), (0, b"II+\0"), (0, b"MM\0+")), writes=True, slices=True,
    ),
    FamilyEntry(
        "stack", _S + "slices:StackFamily", "folder of slices", (".png", ".jpg", ".jpeg"),
        ((0, b"\x89PNG\r\n\x1a\n"), (0, b"\xff\xd8\xff")), patterns=True, writes=True, slices=True,
    ),
    FamilyEntry(
        "mrc", _S + "raw.mrc:MrcFamily", "MRC", (".mrc", ".rec", ".map", ".st", ".ali", ".mrcs"), ((208, b"MAP "), (208, b"MAP\0")),
        writes=True, zipped=True, gzips=True,
    ),
    FamilyEntry("nifti", _S + "raw.nifti:NiftiFamily", "NIfTI", (".nii",), ((344, b"n+1\0"), (4, b"n+2\0")), writes=True, zipped=True, gzips=True),
    FamilyEntry("npy", _S + "raw.npy:NpyFamily", "NumPy .npy", (".npy",), ((0, b"\x93NUMPY"),), writes=True, zipped=True),
    FamilyEntry(
        "vendor", _S + "vendor:VendorFamily", "microscope vendors' files, through bioio",
        (".czi", ".lif", ".nd2", ".dv", ".r3d", ".sldy", ".oib", ".oif", ".vsi"),
        ((0, b"ZISRAWFILE"), (0, b"\xda\xce\xbe\x0a")), container=True,
    ),
    FamilyEntry("mosaic", "bioimage_py.wrapper.mosaic:MosaicFamily", "table of tiles", (".csv", ".tsv"), chosen_by="grid"),
    FamilyEntry("wrapper", "bioimage_py.wrapper.spec:WrapperFamily", "wrapper"),
    FamilyEntry("described", _S + "opening:OverrideFamily", "array with other metadata"),
    FamilyEntry("memory", _S + "memory:MemoryFamily", "array in memory", handles=("numpy",)),
)  # fmt: skip


def families() -> Iterator[FamilyEntry]:
    """Yield the families of this package, then those of other distributions, which are looked for when they are asked for."""
    yield from OWN_FAMILIES
    yield from _installed_families()


def family_entry(kind: str) -> FamilyEntry:
    """Return the entry of a spec's kind; raises UnsupportedFormatError that lists them."""
    for found in families():
        if found.kind == kind:
            return found
    known = ", ".join(found.kind for found in families())
    raise UnsupportedFormatError(f"no storage family is called {kind!r}; there are {known}")


def family_of(kind: str) -> Family:
    """Import the family of a spec's kind; raises UnsupportedFormatError that lists them."""
    return family_entry(kind).load()


def from_spec(spec: Mapping[str, Any]) -> Source:
    """Reopen a source from the plain JSON that its `to_spec` returned, in any process that sees the same files.

    Raises
    ------
    InvalidArgumentError
        If the spec names no known family.
    SourceNotFoundError
        If what it leads to is gone.
    """
    if not isinstance(spec, Mapping) or "kind" not in spec:
        raise InvalidArgumentError(f"a source spec is a dict with 'kind', got {spec!r}")
    found = family_of(spec["kind"])
    try:
        return found.open_spec(dict(spec))
    except KeyError as error:
        raise InvalidArgumentError(f"the source spec {spec!r} is incomplete: it has no {error}") from error


@functools.cache
def _loaded(entry: FamilyEntry) -> Family:
    module, _, name = entry.implementation.partition(":")
    try:
        found: Family = getattr(importlib.import_module(module), name)(entry)
    except Exception as error:
        if entry in OWN_FAMILIES or isinstance(error, BioimagePyError):
            raise
        raise UnsupportedFormatError(
            f"{entry.title} files cannot be opened: {entry.implementation!r} of {_installed_families()[entry]} fails with {error!r}"
        ) from error
    return found


@functools.cache
def _installed_families() -> dict[FamilyEntry, str]:
    """Return the families of other distributions, and the names of these."""
    from importlib.metadata import entry_points  # slow to load

    found: dict[FamilyEntry, str] = {}
    for point in entry_points(group=GROUP):
        try:
            entry = point.load()
        except Exception as error:  # noqa: BLE001 - another distribution must not keep other formats from being opened
            entry = error
        maker = point.dist.name if point.dist else "an unknown distribution"
        why = "" if isinstance(entry, FamilyEntry) else f"leads to {entry!r}, not to a FamilyEntry"
        if not why and entry.kind in {one.kind for one in (*OWN_FAMILIES, *found)}:
            why = f"has the kind {entry.kind!r} of another format"
        if why:
            text = f"the format {point.name!r} is left out: the entry point {point.value!r} of {maker} {why}"
            warnings.warn(text, BioimagePyWarning, stacklevel=2)
        else:
            found[entry] = maker
    return found
