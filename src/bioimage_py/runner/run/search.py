"""Finding run folders."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from pathlib import Path

from bioimage_py.errors import BioimagePyError, BioimagePyWarning, SourceNotFoundError, StorageError
from bioimage_py.runner.run.run_folder import RunFolder


def find_runs(roots: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Return the run folders directly in some folders, or those folders themselves, the oldest first.

    Those that cannot be trusted, because they are another user's or others can write into them, are left out with a
    warning that says so.

    Parameters
    ----------
    roots
        Where to look.

    Raises
    ------
    SourceNotFoundError
        If a root is no folder.
    StorageError
        If a root cannot be listed.
    """
    found: dict[Path, None] = {}
    for root in roots:
        for path in _candidates(Path(root).expanduser()):
            try:
                found[RunFolder.open(path).path] = None
            except SourceNotFoundError:
                continue  # it has been removed since it was listed, as it is when its run ends
            except BioimagePyError as error:
                warnings.warn(f"left out: {error}", BioimagePyWarning, stacklevel=2)
    return sorted(found, key=lambda path: (path.name, path))


def _candidates(root: Path) -> list[Path]:
    if _looks_like_one(root):
        return [root]
    try:
        with os.scandir(root) as entries:
            # Hidden ones are about to be made.
            folders = [root / entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SourceNotFoundError(f"there is no folder {str(root)!r} ({error.strerror})") from error
    except OSError as error:
        raise StorageError(f"{str(root)!r} cannot be listed: {error.strerror}") from error
    return [folder for folder in folders if _looks_like_one(folder)]


def _looks_like_one(folder: Path) -> bool:
    try:
        return (folder / "run.json").is_file() and (folder / "attempts").is_dir()
    except PermissionError:
        return False  # closed to us: if it is a run's, it is another user's
