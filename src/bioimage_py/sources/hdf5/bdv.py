"""Images of BigDataViewer: an XML file that describes setups and time points, whose volumes are in an HDF5 file or an N5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from bioimage_py.errors import StorageError, UnsupportedFormatError
from bioimage_py.metadata import placed, read_bdv
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
        setup, found_in = about.setups[number], {"bdv.hdf5": _in_hdf5, "bdv.n5": _in_n5}.get(about.format)
        if found_in is None:
            raise UnsupportedFormatError(
                f"{path!r} describes voxels of the format {about.format!r}, and of those of BigDataViewer bdv.hdf5 and bdv.n5 are read"
            )
        shown = f"{path!r} says that its voxels are in {about.container!r}"
        container = companion(path, about.container or "(no name)", others, shown)
        opened, factors, unsigned, name = found_in(container, number, others)
        if not factors:
            raise StorageError(f"{container!r} does not say by how much levels of setup {number} are reduced")
        check_level(f"{path}:{number}", level, len(factors))
        there = [None if (time, number) in about.missing else time for time in about.times]
        keys = [None if time is None else name.format(time=time, level=level) for time in there]
        if not any(keys):
            raise StorageError(f"setup {number} of {path!r} has no time point")
        whole = placed(setup, factors[level]).with_axes_selected((None, None, 0, 1, 2))
        return Volumes(
            format=about.format,
            container=container,
            outer=(len(keys), 1),
            keys=tuple(keys),
            open=opened,
            full=opened(name.format(time=next(t for t in there if t is not None), level=0)).shape,
            shape=None,
            metadata=replace(whole, axes=AXES, attributes={"bdv": setup.attributes}),
            n_levels=len(factors),
            unsigned=unsigned,
        )


_Found = tuple[Callable[[str], FileSource], list[tuple[float, ...]], bool, str]
"""What opens volumes, by how much the levels of a setup are reduced, whether 16 bits are unsigned, and the names of its volumes."""


def _in_hdf5(path: str, setup: int, others: OtherFiles) -> _Found:
    with reading(path) as file, hdf5_errors(f"reading what {path!r} says of setup {setup} failed"):
        factors, said = bdv_factors(file, setup), file.get(f"s{setup:02d}")
        # By convention 16 bits are without a sign, and stored as if they had one, unless the setup says otherwise.
        unsigned = said is None or said.attrs.get("dataType") not in ("int16", b"int16")
    return hdf5_volumes(path, others), factors, unsigned, f"t{{time:05d}}/s{setup:02d}/{{level}}/cells"


def _in_n5(path: str, setup: int, others: OtherFiles) -> _Found:
    del others
    said = StoreFolder(path).child(f"setup{setup}").read_json("attributes.json") or {}
    opened: Any = partial(family_of("n5").open_path, path, mode="r")
    return (
        opened,
        checked_factors(said.get("downsamplingFactors")),
        False,
        f"setup{setup}/timepoint{{time}}/s{{level}}",
    )
