"""Images of BigDataViewer: an XML file that describes setups and time points, whose volumes are in an HDF5 file or an N5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bioimage_py.errors import StorageError, UnsupportedFormatError
from bioimage_py.metadata import ImageMetadata, placed, read_bdv
from bioimage_py.sources.base import FileSource
from bioimage_py.sources.family import chosen_image
from bioimage_py.sources.hdf5.attributes import bdv_factors, checked_factors
from bioimage_py.sources.hdf5.files import hdf5_errors, reading
from bioimage_py.sources.hdf5.links import OtherFiles, companion
from bioimage_py.sources.hdf5.volumes import AXES, Volumes, VolumesFamily, check_level, hdf5_volumes
from bioimage_py.sources.registry import family_of
from bioimage_py.storage import StoreFolder


class BdvFamily(VolumesFamily):
    """BigDataViewer: each setup is an image, chosen by its number or name."""

    def list_arrays(self, path: str, **options: Any) -> list[str]:
        del options
        return [str(number) for number in read_bdv(path).setups]

    def images_in(self, path: str) -> list[tuple[str, str]]:
        setups = read_bdv(path).setups
        return [(str(number), one.name) for number, one in setups.items()] if len(setups) > 1 else []

    def volumes(self, path: str, key: str | None, level: int, others: OtherFiles) -> Volumes:
        about = read_bdv(path)
        names = {str(number): one.name for number, one in about.setups.items()}
        number = int(chosen_image(path, names, key, "setup"))
        setup, kind = about.setups[number], about.format.partition(".")[2]
        if about.format not in ("bdv.hdf5", "bdv.n5"):
            raise UnsupportedFormatError(
                f"{path!r} describes voxels of the format {about.format!r}, and of those of BigDataViewer bdv.hdf5 and bdv.n5 are read"
            )
        shown = f"{path!r} says that its voxels are in {about.container!r}"
        container = companion(path, about.container or "(no name)", others, shown)
        of = _in_hdf5 if kind == "hdf5" else _in_n5
        opened, factors, unsigned, name = of(container, number, others)
        if not factors:
            raise StorageError(
                f"{container!r} does not say by how much the levels of setup {number} are reduced"
            )
        check_level(f"{path}:{number}", level, len(factors))
        there = [time for time in about.times if (time, number) not in about.missing]
        keys = [name.format(time=time, level=level) if time in there else None for time in about.times]
        if not there:
            raise StorageError(f"setup {number} of {path!r} has no time point")
        space = placed(setup, factors[level])
        return Volumes(
            format=about.format,
            container=container,
            outer=(len(keys), 1),
            keys=tuple(keys),
            open=opened,
            full=opened(name.format(time=there[0], level=0)).shape,
            shape=None,
            metadata=_with_time(space, {"bdv": setup.attributes} if setup.attributes else {}),
            n_levels=len(factors),
            unsigned=unsigned,
        )


def _with_time(space: ImageMetadata, attributes: dict[str, Any]) -> ImageMetadata:
    return replace(
        space,
        axes=AXES,
        voxel_size=(1.0, 1.0, *(space.voxel_size or ())),
        units=(None, None, *(space.units or ())),
        origin=None if space.origin is None else (0.0, 0.0, *space.origin),
        attributes=attributes,
    )


_Found = tuple[Callable[[str], FileSource], list[tuple[float, ...]], bool, str]
"""What opens volumes, by how much the levels of a setup are reduced, whether 16 bits are unsigned, and the names of its volumes."""


def _in_hdf5(path: str, setup: int, others: OtherFiles) -> _Found:
    with reading(path) as file, hdf5_errors(f"reading what {path!r} says of setup {setup} failed"):
        factors, said = bdv_factors(file, setup), file.get(f"s{setup:02d}")
        # Without a type it is by convention 16 bits without a sign, which are stored as if they had one.
        unsigned = said is None or str(said.attrs.get("dataType", "uint16")) == "uint16"
    return hdf5_volumes(path, others), factors, unsigned, f"t{{time:05d}}/s{setup:02d}/{{level}}/cells"


def _in_n5(path: str, setup: int, others: OtherFiles) -> _Found:
    del others
    said = (StoreFolder(path).child(f"setup{setup}").read_json("attributes.json") or {}).get(
        "downsamplingFactors"
    )
    n5: Any = family_of("n5")

    def opened(key: str) -> FileSource:
        found: FileSource = n5.open_path(path, key, "r")
        return found

    return opened, checked_factors(said), False, f"setup{setup}/timepoint{{time}}/s{{level}}"
