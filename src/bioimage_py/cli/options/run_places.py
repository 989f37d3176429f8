"""Finding the run that a user names, and where to look for runs."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from bioimage_py.errors import BioimagePyError, BioimagePyWarning, SourceNotFoundError
from bioimage_py.runner import restored_runner
from bioimage_py.runner.run import RunFolder, RunStatus, StatusReader
from bioimage_py.runner.slurm import SlurmConfig
from bioimage_py.storage import absolute_path


def usual_places() -> list[Path]:
    """Return the folders in which runs are looked for: the working directory, and the one that is configured."""
    places = [absolute_path(".")]
    try:
        configured = SlurmConfig.load().tmp_root
    except BioimagePyError as error:
        warnings.warn(
            f"cannot tell which folder is configured for runs: {error}", BioimagePyWarning, stacklevel=2
        )
        return places
    if configured is not None:
        folder = Path(configured).expanduser()
        if folder.is_dir():
            places.append(folder)
    return places


def named_run(name: str) -> RunFolder:
    """Open the run folder that was named: by its path, or by its bare name where that is in one of the usual places.

    Raises
    ------
    SourceNotFoundError, InvalidArgumentError
        If there is none, or it cannot be trusted.
    """
    path = Path(name).expanduser()
    if not path.exists() and os.path.basename(name) == name:  # noqa: PTH119 - no separator in it at all
        for place in usual_places():
            if (place / name).is_dir():
                return RunFolder.open(place / name)
    if not path.exists():
        raise SourceNotFoundError(
            f"there is no run folder {name!r}: it is removed when all blocks are done. 'bioimage-py runs' lists those that "
            "exist"
        )
    return RunFolder.open(path)


def shown_path(path: Path) -> str:
    """Return a path as short as it can be typed: relative where it is below the working directory."""
    here = absolute_path(".")
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def look_at(reader: StatusReader, folder: RunFolder) -> RunStatus:
    """Return how far a run is; where nobody waits for it, its backend is asked whether tasks run all the same."""
    status = reader.look()
    if status.state != "unfinished" or not status.rounds:
        return status
    try:
        run = folder.read_run()
        held = restored_runner(run["job_type"], run["config"]).is_active(folder)
    except BioimagePyError as error:
        warnings.warn(
            f"cannot tell whether its tasks are still running: {error}", BioimagePyWarning, stacklevel=2
        )
        return status
    return reader.look(is_active=True) if held else status
