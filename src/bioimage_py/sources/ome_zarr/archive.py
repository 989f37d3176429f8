"""Zipped OME-Zarr, `.ozx` (RFC-9): made as a folder beside its place, and packed when all voxels are there."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from bioimage_py.errors import Hint, InvalidArgumentError
from bioimage_py.sources.base import DIGEST_FILES
from bioimage_py.sources.location import locate
from bioimage_py.storage import (
    SIDE_FOLDER,
    UnfinishedFile,
    check_new_file,
    files_below,
    is_leftover,
    is_url,
)

ARCHIVE_SUFFIX = ".ozx"
_PIECE = 2**20
_ROOT = "zarr.json"


class Archive:
    """A new `.ozx` file; `folder` is the OME-Zarr that is made first, which a later call goes on with."""

    def __init__(self, path: str, *, replaces: bool) -> None:
        self._file = UnfinishedFile(path, replaces=replaces)
        self.path = self._file.path
        above, name = os.path.split(self.path)
        self.folder = f"{above}/.{name}.ome.zarr"
        self._beside = Path(f"{self.path}{SIDE_FOLDER}")
        self._emptied = f"{above}/.{name}.packed"

    @classmethod
    def at(cls, output: str | os.PathLike[str], *, overwrite: bool) -> Archive | None:
        """Return the archive that a path names, None for others; raise what making it would raise."""
        path, key, _ = locate(output)
        if not path.lower().endswith(ARCHIVE_SUFFIX):
            return None
        if key is not None:
            raise InvalidArgumentError(
                f"{path!r} is written as a whole, so that {key!r} cannot be added to it",
                hints=[Hint("write into a path that ends in .ome.zarr, and copy that into an .ozx")],
            )
        if is_url(path):
            raise InvalidArgumentError(
                f"{path!r} cannot be written: an .ozx is packed on a disk",
                hints=[
                    Hint("write it to a local path, and upload the file"),
                    Hint("or write .ome.zarr there"),
                ],
            )
        found = cls(path, replaces=overwrite)
        check_new_file(path, "zip", zipfile.is_zipfile, overwrite=overwrite, reopens=False)
        return found

    def pack(self, *, durable: bool) -> None:
        """Write the file, and give it its name when it is whole."""
        self._file.make_free()
        try:
            with self._file.errors(), Path(self._file.partial).open("xb") as into:
                self._file.lock(into.fileno())
                self._write(into)
                into.flush()
                if durable:
                    os.fsync(into.fileno())
        except BaseException:
            self._file.drop()
            raise
        shutil.rmtree(self._beside, ignore_errors=True)  # what is kept of a file that is replaced
        self._file.finish()

    def _write(self, into: BinaryIO) -> None:
        below = (Path(entry.path).relative_to(self.folder) for entry in files_below(self.folder))
        names = [
            path.as_posix() for path in below if SIDE_FOLDER not in path.parts and not is_leftover(path.name)
        ]
        # Readers find all groups and arrays in the first entries.
        names.sort(key=lambda name: (name.rpartition("/")[2] != _ROOT, name.count("/"), name))
        said = json.loads(Path(self.folder, _ROOT).read_bytes())["attributes"]["ome"]
        about = {"version": said["version"], "zipFile": {"centralDirectory": {"jsonFirst": True}}}
        with zipfile.ZipFile(into, "w") as packed:
            packed.comment = json.dumps({"ome": about}).encode()
            for name in names:
                entry = zipfile.ZipInfo(name)
                entry.external_attr = 0o644 << 16
                # TensorStore 0.1.86 reads no part of an entry that has sizes of 64 bits without need, as the RFC recommends.
                entry.file_size = os.stat(f"{self.folder}/{name}").st_size  # noqa: PTH116 - a text
                with (
                    Path(self.folder, name).open("rb") as file,
                    packed.open(entry, "w") as at,
                ):
                    shutil.copyfileobj(file, at, _PIECE)

    def remove_folder(self) -> None:
        """Remove the folder; the digests of its arrays go beside the file."""
        for entry in files_below(self.folder):
            side = Path(entry.path).parent
            if side.name == SIDE_FOLDER and entry.name in DIGEST_FILES:
                kept = self._beside / side.parent.relative_to(self.folder)
                kept.mkdir(parents=True, exist_ok=True)
                shutil.copy(entry.path, kept)
        self.clear()

    def clear(self) -> None:
        """Remove the folder, and what is left of one by a call that was killed when it had packed it."""
        shutil.rmtree(self._emptied, ignore_errors=True)
        with suppress(FileNotFoundError):
            Path(self.folder).rename(self._emptied)
            shutil.rmtree(self._emptied)
