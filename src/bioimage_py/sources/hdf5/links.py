"""Names in an HDF5 file that lead to other files: external links, external storage, and the parts of virtual datasets.

One rule holds for all of them. A file beside the one that names it, or in a folder below, is what the format means and is read.
What lies elsewhere is read only with `external_files`, since whoever made the file chose the name. Nothing is written through
such a name: the user has named another file as the output.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py

from bioimage_py.errors import (
    BioimagePyError,
    BioimagePyWarning,
    Hint,
    InvalidArgumentError,
    ReadOnlyError,
    SourceNotFoundError,
    StorageError,
)
from bioimage_py.sources.hdf5.dataset import DatasetDescription, describe
from bioimage_py.sources.hdf5.files import FOREIGN_ERRORS, file_key, hdf5_errors, reading
from bioimage_py.storage import Identity

_MOST_LINKS = 50
_SHOWN = 5


@dataclass(frozen=True)
class OtherFiles:
    """Which of the files that a file names may be read, see `Hdf5Family.open_path`."""

    external_files: bool = False
    missing_files: str = "error"

    def __post_init__(self) -> None:
        if not isinstance(self.external_files, bool):
            raise InvalidArgumentError(f"external_files must be True or False, got {self.external_files!r}")
        if self.missing_files not in ("error", "fill"):
            raise InvalidArgumentError(f"missing_files must be 'error' or 'fill', got {self.missing_files!r}")

    def spec(self) -> dict[str, Any]:
        """Return what is not the default, for a source's spec."""
        return {name: value for name, value in asdict(self).items() if value not in (False, "error")}


class _Leaving(NamedTuple):
    """An external link on the path to a key: where it is, its target file, and the rest of the key in that file."""

    at: str
    file_name: str
    key: str


def follow(
    path: str, key: str | None, others: OtherFiles, file: h5py.File | None = None
) -> tuple[str, str | None]:
    """Return the file and the key in it that a key leads to, external links followed; `file` is the first one where it is open."""
    for _ in range(_MOST_LINKS):
        if not key:
            return path, key
        with reading(path) if file is None else nullcontext(file) as there:
            link, file = _leaving_link(there, key), None
        if link is None:
            return path, key
        shown = f"'{path}:{link.at}' is an external link to '{link.file_name}:{link.key}'"
        found = companion(path, link.file_name, others, shown)
        if not os.path.isfile(found):  # noqa: PTH113 - a text stays a text
            raise SourceNotFoundError(f"{shown}, and there is no file {found!r}")
        path, key = found, link.key
    raise StorageError(
        f"'{path}:{key}' is reached by more than {_MOST_LINKS} external links, perhaps in a circle"
    )


def _leaving_link(file: h5py.File, key: str) -> _Leaving | None:
    """Return the first external link on the path to a key, soft links followed; None if the path stays in the file."""
    todo = [part for part in key.split("/") if part][::-1]
    done: list[str] = []
    n_soft = 0
    while todo:
        part = todo.pop()
        try:
            group = file["/" + "/".join(done)] if done else file
            if not isinstance(group, h5py.Group):
                return None
            link = group.get(part.encode("utf-8", "surrogateescape"), getlink=True)
        except FOREIGN_ERRORS:
            return None  # whoever opens the key says what is wrong with it
        if isinstance(link, h5py.ExternalLink):
            behind = "/".join([str(link.path).strip("/"), *todo[::-1]])
            return _Leaving("/".join([*done, part]), str(link.filename), behind)
        if isinstance(link, h5py.SoftLink):
            n_soft += 1
            target = str(link.path)
            if n_soft > _MOST_LINKS:
                return None
            if target.startswith("/"):
                done = []
            todo += [step for step in target.split("/") if step not in ("", ".")][::-1]
        else:
            done.append(part)
    return None


def refuse_leaving(file: h5py.File, path: str, key: str) -> None:
    """Raise ReadOnlyError if the path to a key leads to another file."""
    if (link := _leaving_link(file, key)) is not None:
        raise ReadOnlyError(
            f"'{path}:{link.at}' is an external link to '{link.file_name}:{link.key}', and nothing is written through links to "
            "other files: name that file itself"
        )


def companion(path: str, name: str, others: OtherFiles, shown: str) -> str:
    """Return the path of a file that another file names, by the rule of this module."""
    if name in ("", "."):
        return path
    folders = _folders(path)
    given = Path(name)
    places = [Path(os.path.normpath(f / given)) for f in folders]
    if given.is_absolute() and not given.exists():
        # As HDF5 does: a folder that was moved keeps its files together.
        places = [f / given.name for f in folders]
    inside = [p for p, f in zip(places, folders, strict=True) if p.is_relative_to(f)]
    if not inside and given.is_absolute():
        inside = [p for p in places if any(p.resolve().is_relative_to(f.resolve()) for f in folders)]
    if not inside and not others.external_files:
        raise StorageError(
            f"{shown}, which is outside of the folder {str(folders[0])!r}",
            hints=[Hint.of(f"if you trust who made {path!r}, open it with {{}}", external_files=True)],
        )
    wanted = inside or places
    return str(next((p for p in wanted if p.exists()), wanted[0]))


def _folders(path: str) -> list[Path]:
    """Return the folders in which the companions of a file are: that of the file, and that of a link to it."""
    return list(dict.fromkeys([Path(path).absolute().parent, Path(path).resolve().parent]))


@dataclass(frozen=True)
class Companions:
    """The other files and datasets whose voxels a dataset shows."""

    identities: frozenset[Identity] = frozenset()  # of what is shown
    folder: str | None = None  # where HDF5 has to look for external storage, None if the names say it
    files: tuple[str, ...] = ()  # the paths of other files


def companions(dataset: h5py.Dataset, described: DatasetDescription, others: OtherFiles) -> Companions:
    """Find all that an open dataset shows of other files, or of other datasets in its own."""
    if described.layout == "virtual":
        return _VirtualParts(others).of(dataset, described)
    if described.layout == "external":
        return _external_storage(dataset, described, others)
    return Companions()


def _external_storage(dataset: h5py.Dataset, described: DatasetDescription, others: OtherFiles) -> Companions:
    created = dataset.id.get_create_plist()
    left = math.prod(described.shape) * described.stored_dtype.itemsize
    paths, folders = [], set()
    for n in range(created.get_external_count()):
        raw, offset, size = created.get_external(n)
        name = raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else str(raw)
        shown = f"{described.name!r} keeps its voxels in {name!r}"
        path = companion(described.path, name, others, shown)
        if not Path(path).exists() and others.external_files and Path(name).exists():
            path = str(Path(name).absolute())  # where HDF5 itself looks
        needed = offset + min(left, size)
        found = Path(path).stat().st_size if Path(path).is_file() else -1
        if found < needed:
            what = "there is no such file" if found < 0 else f"of {needed} bytes it has {found}"
            raise StorageError(f"{shown}, and {what} at {path!r}")
        left -= min(left, size)
        paths.append(path)
        if not Path(name).is_absolute():
            near = (*_folders(described.path), Path.cwd())
            folders.add(next(str(f) for f in near if os.path.normpath(f / name) == path))
    if len(folders) > 1:
        raise StorageError(
            f"{described.name!r} keeps its voxels in files of several folders: {', '.join(sorted(folders))}"
        )
    tokens = frozenset(("file", *file_key(path), None) for path in paths)
    return Companions(tokens, next(iter(folders), None), tuple(paths))


def _check_reach(parts: Iterable[Any], shape: tuple[int, ...]) -> None:
    """Raise StorageError if mappings of a virtual dataset show more of a dataset than it has."""
    for part in parts:
        try:
            if part.src_space.get_select_type() == h5py.h5s.SEL_ALL:
                exceeds = math.prod(shape) < int(part.vspace.get_select_npoints()) < h5py.h5s.UNLIMITED
            else:
                last = part.src_space.get_select_bounds()[1]
                exceeds = any(int(n) >= extent for n, extent in zip(last, shape, strict=False))
        except FOREIGN_ERRORS:
            continue  # it has no end
        if exceeds:
            raise StorageError(f"its shape {shape} is smaller than what is shown of it")


class _VirtualParts:
    """The parts of a virtual dataset, and of those that are virtual themselves."""

    def __init__(self, others: OtherFiles) -> None:
        self._others = others
        self._identities: set[Identity] = set()
        self._seen: set[Identity] = set()
        self._files: set[str] = set()
        self._missing: list[str] = []
        self._gaps: list[str] = []

    def of(self, dataset: h5py.Dataset, described: DatasetDescription) -> Companions:
        if described.file is not None:
            self._seen.add(("file", *described.file, described.address))
        self._add(dataset, described)
        if self._missing and self._others.missing_files == "error":
            raise StorageError(
                f"{described.name!r} is a virtual dataset, and {len(self._missing)} of its parts cannot be read: "
                f"{_first_of(self._missing)}",
                hints=[
                    Hint("bring them back"),
                    Hint.of(
                        f"or, to read their voxels as {described.fill_value!r}, open it with {{}}",
                        missing_files="fill",
                    ),
                ],
            )
        if self._gaps:
            warnings.warn(
                f"{described.name!r} shows numbered files, and between those that are there are missing: "
                f"{_first_of(self._gaps)}; it ends before them, or reads as {described.fill_value!r} there",
                BioimagePyWarning,
                stacklevel=6,
            )
        return Companions(frozenset(self._identities), None, tuple(sorted(self._files)))

    def _add(self, dataset: h5py.Dataset, described: DatasetDescription) -> None:
        with hdf5_errors(f"asking {described.name!r} for its parts failed"):
            parts: dict[tuple[str, str], list[Any]] = {}
            for part in dataset.virtual_sources():
                parts.setdefault((part.file_name, part.dset_name), []).append(part)
        for (file_name, key), shown in parts.items():
            for name, inner in self._numbered(described, file_name, key):
                what = f"part '{name}:{inner}'"
                path = companion(described.path, name, self._others, f"{described.name!r} shows {what}")
                try:
                    path, at = follow(path, inner, self._others)
                    # The file itself may be in memory, or open in another mode.
                    with nullcontext(dataset.file) if path == described.path else reading(path) as file:
                        self._add_part(file, path, at or "", [] if "%b" in file_name + key else shown)
                    if path != described.path:
                        self._files.add(path)
                except BioimagePyError as error:
                    self._missing.append(f"{what} ({error})")

    def _add_part(self, file: h5py.File, path: str, key: str, shown: list[Any]) -> None:
        try:
            part = file[key.encode("utf-8", "surrogateescape") or b"/"]
        except FOREIGN_ERRORS:
            raise SourceNotFoundError(f"{path!r} has no {key!r}") from None
        if not isinstance(part, h5py.Dataset):
            raise SourceNotFoundError(f"{key!r} in {path!r} is not a dataset")
        described = describe(part, attributes=False, path=path)
        token = (*(("file", *file_key(path)) if described.file else ("hdf5 object", path)), described.address)
        _check_reach(shown, described.shape)
        self._identities.add(token)
        if described.layout == "virtual" and token not in self._seen:
            self._seen.add(token)
            self._add(part, described)

    def _numbered(self, described: DatasetDescription, name: str, key: str) -> Iterator[tuple[str, str]]:
        """Yield file and key of a part; for a name with the counter `%b`, those that exist."""
        if "%b" not in name and "%b" not in key:
            yield name.replace("%%", "%"), key.replace("%%", "%")
            return
        found_at = companion(described.path, name, self._others, f"{described.name!r} shows {name!r}")
        if "%b" not in name:
            # Datasets of one file that are numbered: those that exist are what the layout shows.
            numbers: list[int] = []
            with reading(found_at) as file:
                while key.replace("%b", str(len(numbers))) in file:
                    numbers.append(len(numbers))
        else:
            numbers = sorted(_numbers_of(found_at))
            last = max(numbers, default=0)
            self._gaps += [name.replace("%b", str(n)) for n in range(last + 1) if n not in numbers]
        for n in numbers:
            yield name.replace("%b", str(n)), key.replace("%b", str(n))


def _first_of(texts: list[str]) -> str:
    return "; ".join([*texts[:_SHOWN], *(["and more"] if len(texts) > _SHOWN else [])])


def _numbers_of(pattern: str) -> set[int]:
    place = Path(pattern)
    expected = re.compile(re.escape(place.name).replace("%b", "(0|[1-9][0-9]*)"))
    if not place.parent.is_dir():
        return set()
    with os.scandir(place.parent) as entries:
        return {int(found[1]) for entry in entries if (found := expected.fullmatch(entry.name))}
