"""Making room for a new array in a container: never over anything unasked, and nothing left behind on failure."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorstore as ts

from bioimage_py.errors import (
    Hint,
    InvalidArgumentError,
    OutputExistsError,
    ReadOnlyError,
    UnsupportedFormatError,
)
from bioimage_py.geometry import checked_extents
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.stores.hierarchy import Node, arrays_below
from bioimage_py.sources.stores.unfinished import (
    MARK_FOLDER,
    RECORD_FILE,
    RECORD_MAKER,
    is_abandoned,
    mark_new,
    read_mark,
)
from bioimage_py.storage import (
    StoreFolder,
    check_writable,
    forget_reads,
    is_leftover,
    json_problem,
    remove_files_of_the_dead,
    storage_error,
    storage_errors,
    store_context,
    tried_again,
)
from bioimage_py.system import process_exists

_ASIDE = re.compile(r"\.(.+)\.replaced-(\d{1,9})", re.ASCII | re.DOTALL)


@dataclass(frozen=True)
class StoreRules:
    title: str
    read_node: Callable[[StoreFolder], Node | None]
    own_entry: re.Pattern[str]  # matches the names that an array has in its folder, and nothing else
    group_files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of an empty group, by name
    files: tuple[str, ...] = ()  # those that `read_node` may look at
    by_zarr_python: bool = False  # whether that reads and writes the arrays too


def try_out(spec: Mapping[str, Any]) -> None:
    """Let TensorStore make an array in memory, so that what it refuses is known before anything is touched."""
    try:
        _made_in_memory(spec)
    except (ValueError, NotImplementedError, OverflowError, RuntimeError) as error:
        raise InvalidArgumentError(
            f"such an array cannot be made: {storage_error(error, 'refused')}"
        ) from error


def _made_in_memory(spec: Mapping[str, Any]) -> Any:
    context = ts.Context({"memory_key_value_store": {}}, parent=store_context(1, 0))
    return ts.open({**spec, "kvstore": {"driver": "memory"}}, create=True, context=context).result()


def new_chunks(
    spec: ArraySpec, title: str, dtypes: Sequence[str], most: int | None = None
) -> tuple[int, ...]:
    """Return the chunks of a new array of a format without shards and fill values, by default of at most some extent."""
    if spec.dtype.name not in dtypes:
        raise UnsupportedFormatError(f"{title} cannot hold {spec.dtype}; it can hold {', '.join(dtypes)}")
    if spec.shards is not None:
        raise InvalidArgumentError(f"no shards can be given for {title} (got {spec.shards}): use Zarr v3")
    if spec.fill_value is not None and spec.fill_value != 0:
        raise InvalidArgumentError(f"{title} has no fill value but 0 (got {spec.fill_value!r}): use Zarr")
    usual = tuple(max(1, n if most is None else min(n, most)) for n in spec.shape)
    return checked_extents("chunks", spec.chunks or usual, least=1, ndim=len(spec.shape))


def make_array(
    spec: Mapping[str, Any],
    folder: StoreFolder,
    *,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Let TensorStore make an array in a folder that `room_for_array` gave; `attributes` are those of an array of Zarr v3."""
    # TensorStore reads units in their attribute, and refuses or drops those of other kinds.
    later = attributes is not None and ("dimension_units" in attributes or json_problem(attributes))
    if attributes and not later:
        spec = {**spec, "metadata": {**spec["metadata"], "attributes": attributes}}
    try:
        if folder.on_azure:
            made = _made_in_memory(spec).kvstore
            for name in made.list().result():
                folder.write(name.decode(), made[name])
        else:
            tried_again(
                lambda: ts.open(
                    {**spec, "kvstore": folder.spec()},
                    create=True,
                    context=store_context(1, 0),
                ).result()
            )
    except (ValueError, NotImplementedError, RuntimeError) as error:
        raise storage_error(error, f"{folder.path} cannot be made", writing=True) from error
    forget_reads(folder.path)
    if later:
        folder.write_json("zarr.json", {**(folder.read_json("zarr.json") or {}), "attributes": attributes})


@contextlib.contextmanager
def room_for_array(
    root: StoreFolder, key: str | None, overwrite: bool, rules: StoreRules
) -> Iterator[StoreFolder]:
    """Give a free folder for a new array, in groups that are made if need be.

    An array that is replaced is kept until the block is left without an error, and comes back otherwise; then folders
    and files made here are removed again. Behind a URL it is removed first, with all objects below it; what is not an array stays.
    """
    target = root.inside(key)
    with storage_errors(f"{target.path} cannot be made", writing=True):
        groups = _checked_groups(root, key, overwrite, rules)
        with _set_aside(target, overwrite), contextlib.ExitStack() as undo:
            for group in groups:
                if group.is_local:
                    _make_folder(Path(group.path), undo)
                for name, content in rules.group_files.items():
                    group.write_json(name, content)
                    undo.callback(group.delete, name)
                if group.is_local:
                    remove_files_of_the_dead(group.path)
            is_new = target.is_local and _make_folder(Path(target.path), undo)
            if overwrite and not target.is_local and any(map(target.read, _ARRAY_MARKERS)):
                target.delete_objects()
            mark_new(target)
            if is_new:
                # What the store made of the array before it failed; others may have put something beside it.
                undo.callback(_remove_files, Path(target.path))
            yield target
            undo.pop_all()


@contextlib.contextmanager
def new_container(root: StoreFolder, key: str, rules: StoreRules) -> Iterator[None]:
    """Make the folder of a container that is not there yet; after an error it is removed with all that was put into it.

    `key` is that of an array that will be in it.
    """
    with storage_errors(f"{root.path} cannot be made", writing=True), contextlib.ExitStack() as undo:
        _checked_groups(root, key, overwrite=False, rules=rules)
        place = Path(root.path)
        _make_folder(place.parent, undo)
        place.mkdir()
        undo.callback(shutil.rmtree, place)
        yield
        undo.pop_all()


def check_room(root: StoreFolder, key: str | None, overwrite: bool, rules: StoreRules) -> None:
    """Raise what `room_for_array` would raise; nothing is made."""
    target = root.inside(key)
    with storage_errors(f"{target.path} cannot be made", writing=True):
        _checked_groups(root, key, overwrite, rules)
        if target.is_local:
            check_writable(target.path)


def _checked_groups(
    root: StoreFolder, key: str | None, overwrite: bool, rules: StoreRules
) -> list[StoreFolder]:
    """Return the groups to make on the way to a new array, after checking that there may be one."""
    if root.read_only:
        raise ReadOnlyError(f"{root.path} cannot be written: http only reads. Write to a folder or to s3://")
    target = root.inside(key)
    if root.on_azure and not rules.by_zarr_python:
        root.spec()  # says why not
    for folder in (target, *_folders_above(root, key)):
        folder.ask_ahead(rules.files)
    target.check_bucket()
    groups = _groups_to_make(root, key, rules)
    _check_free(target, overwrite, rules)
    return groups


def _groups_to_make(root: StoreFolder, key: str | None, rules: StoreRules) -> list[StoreFolder]:
    """Return the folders from the container down to the new array that are not groups yet."""
    missing, outside = [], list(root.parents(3))
    for folder in _folders_above(root, key):
        node = rules.read_node(folder)
        if node is not None and node.array is not None:
            raise InvalidArgumentError(f"{root.child(key).path} would be inside the array {folder.path}")
        if folder in outside:
            continue
        if node is None and not all(is_leftover(entry.name) for entry in folder.entries_if_local()):
            raise OutputExistsError(
                f"{folder.path} is there already and is not a {rules.title} group: choose another path"
            )
        if not any(folder.read(name) is not None for name in _GROUP_MARKERS):
            missing.append(folder)
        elif not any(folder.read(name) is not None for name in rules.group_files):
            raise InvalidArgumentError(
                f"{folder.path} is a group of another version of {rules.title}",
                hints=[
                    Hint.of("give the {} that it has", zarr_format=...),
                    Hint("choose another path, or delete it first"),
                ],
            )
    return missing


def _folders_above(root: StoreFolder, key: str | None) -> list[StoreFolder]:
    parts = key.split("/") if key else []
    return [*root.parents(3), *(root.inside("/".join(parts[:n])) for n in range(len(parts)))]


_GROUP_MARKERS = ("zarr.json", ".zgroup", "attributes.json")
_ARRAY_MARKERS = ("zarr.json", ".zarray", "attributes.json", "info")


def _check_free(target: StoreFolder, overwrite: bool, rules: StoreRules) -> None:
    node = rules.read_node(target)
    if node is not None and node.array is not None:
        if not overwrite and not is_abandoned(target):
            unfinished = read_mark(target) is not None
            raise OutputExistsError(
                f"{target.path} is there already{', and not finished,' if unfinished else ''}",
                hints=[
                    Hint.of("to replace it, give {}", overwrite=True),
                    Hint.of("to write into it, use {}", "open_source", target.path, mode="r+"),
                ],
            )
        _check_own(target, rules)
        return
    if not target.is_local and node is not None:
        # Making an array over it would remove all objects below.
        raise OutputExistsError(
            f"{target.path} is a group: give a key for the new array, or another path. A group is never replaced"
        )
    if target.is_local and os.path.lexists(target.path) and not Path(target.path).is_dir():
        raise OutputExistsError(f"{target.path} is a file and not a {rules.title} array: choose another path")
    # A process that was killed can have left a mark without an array.
    entries = [entry.name for entry in target.entries_if_local() if entry.name != MARK_FOLDER]
    inside = [] if node is None else [key for key, _ in arrays_below(node, rules.read_node)]
    if inside:
        raise OutputExistsError(
            f"{target.path} is a group that holds {len(inside)} array(s), such as {inside[0]!r}: give a key for the new "
            "array, or another path. A group is never replaced"
        )
    if entries and not (overwrite and set(entries) <= set(_GROUP_MARKERS) | {".zattrs", ".zmetadata"}):
        raise OutputExistsError(
            f"{target.path} is a folder that is not a {rules.title} array (it holds {', '.join(entries[:5])}): choose another "
            "path, or remove it yourself"
        )


def own_record(folder: StoreFolder) -> set[str]:
    """Return the name of the record in a folder that a copy has made: it goes with what it is of. Empty where there is none, or another."""
    return {RECORD_FILE} if RECORD_MAKER.encode() in (folder.read(RECORD_FILE) or b"") else set()


def _check_own(target: StoreFolder, rules: StoreRules) -> None:
    objects = target.objects()
    names = [e.name for e in target.entries()] if objects is None else objects.names("")
    there = {name.partition("/")[0] for name in names} - {MARK_FOLDER}
    there -= own_record(target)
    strange = sorted(name for name in there if not rules.own_entry.fullmatch(name))
    if strange:
        raise OutputExistsError(
            f"{target.path} is not replaced: it also holds {', '.join(strange[:5])}, which no {rules.title} array has. "
            "Remove it yourself, or choose another path"
        )


def removable_array(root: StoreFolder, key: str, rules: StoreRules) -> StoreFolder | None:
    """Return the folder of an array that metadata name and that is to be removed; None if nothing is there.

    Nothing else is ever removed because of a name in metadata.
    """
    target = root.inside(key)
    if target.path == root.path or (target.is_local and not os.path.lexists(target.path)):
        return None
    node = rules.read_node(target)
    if node is None and not target.is_local:
        return None
    real = os.path.join(os.path.realpath(root.path), key)  # noqa: PTH118 - a text stays a text
    if node is None or node.array is None or (target.is_local and os.path.realpath(target.path) != real):
        raise OutputExistsError(
            f"the metadata of {root.path} name {key!r}, which is not a {rules.title} array, or a link to one: nothing is removed. Remove it yourself, or "
            "choose another path"
        )
    _check_own(target, rules)
    return target


def remove_array(target: StoreFolder) -> None:
    with storage_errors(f"{target.path} cannot be removed"), contextlib.suppress(FileNotFoundError):
        shutil.rmtree(target.path)


@contextlib.contextmanager
def _set_aside(target: StoreFolder, overwrite: bool) -> Iterator[None]:
    """Keep what is to be replaced until its successor is there."""
    # A link stays a link: what it leads to is replaced.
    place = Path(target.path).resolve() if target.is_local else None
    if place is None or not target.entries_if_local():
        yield
        if place is not None and overwrite:
            _remove_asides_of_the_dead(place)
        return
    aside = place.with_name(f".{place.name}.replaced-{os.getpid()}")
    _remove_asides_of_the_dead(place)
    place.rename(aside)
    try:
        place.mkdir()
        yield
    except BaseException:
        shutil.rmtree(place)
        aside.rename(place)
        raise
    shutil.rmtree(aside)


def _remove_asides_of_the_dead(place: Path) -> None:
    """Remove what processes had set aside which were then killed: they were to replace it, and now it is replaced."""
    for aside in place.parent.glob(f".{glob.escape(place.name)}.replaced-*"):
        if aside_of_the_dead(aside.name) == place.name and aside.is_dir() and not aside.is_symlink():
            shutil.rmtree(aside)


def aside_of_the_dead(name: str) -> str | None:
    """Return the name of an array that a killed process had set aside under a name; None if the name is not of that form."""
    found = _ASIDE.fullmatch(name)
    if found is None:
        return None
    return None if process_exists(int(found[2])) else found[1]


def _make_folder(place: Path, undo: contextlib.ExitStack) -> bool:
    """Make a folder and those above it that are missing; whether it was made here."""
    if place.exists():
        return False
    _make_folder(place.parent, undo)
    try:
        place.mkdir()
    except FileExistsError:
        return False  # somebody else made it in between: it is not ours to remove
    undo.callback(_remove_if_empty, place)
    return True


def _remove_if_empty(place: Path) -> None:
    with contextlib.suppress(OSError):
        place.rmdir()


def _remove_files(folder: Path) -> None:
    shutil.rmtree(folder / MARK_FOLDER, ignore_errors=True)
    for entry in folder.iterdir() if folder.exists() else ():
        if entry.is_file():
            entry.unlink()
