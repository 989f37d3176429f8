"""What a copy has done, kept beside its output as an RO-Crate: https://www.researchobject.org/ro-crate."""

from __future__ import annotations

import getpass
import os
import platform
import posixpath
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields
from datetime import datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from bioimage_py.errors import BioimagePyError, InvalidArgumentError, MissingDependencyError
from bioimage_py.kernels import TileDigest
from bioimage_py.sources import FileSource, Source, may_be_zarr
from bioimage_py.sources.stores import RECORD_FILE, RECORD_MAKER
from bioimage_py.storage import StoreFolder

if TYPE_CHECKING:
    from bioimage_py.operations.options import CopyOptions
    from bioimage_py.planning import CopyPlan, ImagePlan
    from bioimage_py.runner import Journal

_VERSION, _ACTION = "1.1", "#copy"
_KEY = re.compile(r"(?<!^[A-Za-z]):(?!//)")
"""What stands before the key of an array in a name, and not in a URL or behind the letter of a drive."""
_LIBRARIES = ("numpy", "tensorstore", "zarr", "imagecodecs", "tifffile", "h5py")
_SECRET = ("mask", "block_ids", "progress", "job_config", "resume_from", "record", "profile", "endpoint")
"""Options that name places, or are not text."""


def check_record(output: Any, options: CopyOptions) -> None:
    """Raise InvalidArgumentError for a record beside an output that has no place for one, and MissingDependencyError without what writes it."""
    if options.record is False:
        return
    if options.record not in (True, "full"):
        raise InvalidArgumentError(f"record must be True, False or 'full', got {options.record!r}")
    if not isinstance(output, (str, os.PathLike, FileSource)):
        raise InvalidArgumentError(
            "record needs an output on a disk or in a bucket, beside which it can be written"
        )
    if find_spec("rocrate") is None:
        raise MissingDependencyError.of("a record is written by the package rocrate", "rocrate")


def write_record(
    source: Source,
    output: Source,
    names: tuple[str, str],
    plan: CopyPlan | ImagePlan,
    options: CopyOptions,
    began: datetime,
    journal: Journal,
) -> None:
    """Write the record of a copy between what has these names; of whole images `source` and `output` are the first arrays."""
    from importlib.metadata import version

    from rocrate.model.contextentity import ContextEntity
    from rocrate.rocrate import ROCrate

    place = _place_of(output)
    if place is None:
        raise InvalidArgumentError(f"no record can be kept beside {output.name}")
    folder, name, data = place
    full = options.record == "full"
    shown: Callable[[str], str] = str if full else _last_name
    given, made = map(shown, names)
    crate = ROCrate(version=_VERSION)
    crate.name = made
    crate.description = f"{_last_name(names[1])}, copied from {_last_name(names[0])} by bioimage_py"
    crate.datePublished = datetime.now(began.tzinfo).replace(microsecond=0)

    def added(identifier: str, kind: str, **properties: Any) -> Any:
        return crate.add(ContextEntity(crate, identifier, {"@type": kind, **properties}))

    tool = added(
        RECORD_MAKER,
        "SoftwareApplication",
        name="bioimage_py",
        version=version("bioimage-py"),
        softwareRequirements=[f"Python {platform.python_version()}", *_libraries()],
    )
    read = added("#input", "CreativeWork", name=given, **_identified(source))
    result = crate.root_dataset if data == "./" else crate.add_file(dest_path=data, properties={"name": data})
    for key, value in _identified(output).items():
        result[key] = value
    values = {
        "call": _call(given, made, options),
        "road": plan.road,
        "blocks": f"{len(journal.done_ids()):,} of {plan.n_blocks:,}",
        "account": "" if journal.account is None else str(journal.account),
        "update": plan.update,
        **({"command": " ".join(sys.argv), "host": platform.node()} if full else {}),
    }
    action = added(
        _ACTION,
        "CreateAction",
        name=f"copy {given} to {made}",
        startTime=began.isoformat(timespec="seconds"),
        endTime=datetime.now(began.tzinfo).isoformat(timespec="seconds"),
    )
    action["instrument"], action["object"], action["result"] = tool, read, result
    action["additionalProperty"] = [
        added(f"{_ACTION}-{key}", "PropertyValue", name=key, value=value)
        for key, value in values.items()
        if value
    ]
    if full:
        action["agent"] = added("#user", "Person", name=getpass.getuser())
    crate.root_dataset["mentions"] = action
    folder.write_json(name, crate.metadata.generate())


def record_text(source: Source) -> str:
    """Return in a line what the record beside an array says of its copy; empty where there is none."""
    place = _place_of(source)
    try:
        found = None if place is None else place[0].read_json(place[1])
        graph = {one["@id"]: one for one in (found or {}).get("@graph", ())}
        action, tool = graph[_ACTION], graph[RECORD_MAKER]
        blocks = graph[f"{_ACTION}-blocks"]["value"]
        return f"{action['name']} by bioimage_py {tool['version']}, {action['startTime']} to {action['endTime']}, {blocks} blocks"
    except (BioimagePyError, KeyError, TypeError, OSError):
        return ""  # somebody else's crate, or none


def _place_of(output: Source) -> tuple[StoreFolder, str, str] | None:
    """Return the folder of the record of an array, its name in there, and what the data are called in the record."""
    if not isinstance(output, FileSource):
        return None
    folder = output.mark_place()
    with suppress(BioimagePyError):
        if may_be_zarr(output.path):
            from bioimage_py.sources.ome_zarr import GrowingImage  # not for `info` of other formats

            image = GrowingImage.around(output)
            folder = image.root.child(image.key)
    if folder is not None and not folder.file:
        return folder, RECORD_FILE, "./"
    if "://" in output.path or not os.path.isfile(output.path):  # noqa: PTH113 - a text stays a text
        return None
    above, name = os.path.split(os.path.abspath(output.path))  # noqa: PTH100 - a text stays a text
    return StoreFolder(above), f"{name}-{RECORD_FILE}", name


def _call(source: str, output: str, options: CopyOptions) -> str:
    """Return the call with the options that are not the usual ones."""
    given = [
        f"{one.name}={value!r}"
        for one in fields(options)
        if (value := getattr(options, one.name)) != one.default and one.name not in _SECRET
    ]
    return f"copy({', '.join([repr(source), repr(output), *given])})"


def _libraries() -> Iterator[str]:
    from importlib.metadata import PackageNotFoundError, version

    for name in _LIBRARIES:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            continue


def _identified(source: Source) -> dict[str, str]:
    """Return the digest that is kept for an array, as a property of an entity."""
    try:
        kept = TileDigest.stored(source)
    except BioimagePyError:  # of another version, or damaged
        return {}
    return {} if kept is None else {"identifier": kept.root}


def _last_name(name: str) -> str:
    """Return a name without the folders above a file; the key of an array in it stays."""
    path, *key = _KEY.split(name.replace("\\", "/"), maxsplit=1)
    return ":".join([posixpath.basename(path.rstrip("/")), *key])
