"""Finishing a run from its folder, on whichever backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bioimage_py.runner.base import Runner, check_num_workers, raise_failures, results_in
from bioimage_py.runner.environment import extend_import_path
from bioimage_py.runner.journal import Progress
from bioimage_py.runner.run import RunFolder, check_outputs, driving, log_account
from bioimage_py.runner.work import (
    TwoPassWork,
    asked_of,
    check_fingerprint,
    ended_without_folder,
    fingerprint_of,
    load_work,
    place_of_run,
)
from bioimage_py.sources import from_spec
from bioimage_py.sources.new import finish_images


def finish_run(
    runner: Runner,
    folder: RunFolder,
    num_workers: int | None,
    progress: Callable[[Progress], None] | None,
) -> list[Any] | None:
    """Run what is missing of a run, and return all results where it returns any.

    Raises
    ------
    InvalidArgumentError
        If a source is not stored any more as it was; the message says what differs.
    RunnerError
        If blocks failed; the folder stays.
    """
    if num_workers is not None:
        check_num_workers(num_workers)
    run = folder.read_run()
    temporary = place_of_run(run["work"])
    if temporary is not None and ended_without_folder(folder, run["work"]):
        with driving(folder):
            temporary.remove()
            folder.remove()
        return None
    workers = num_workers or run["num_workers"]
    # Where other processes do the work, this one only looks.
    threads, cache_bytes = (workers, run["cache_bytes"]) if runner.in_process else (1, 0)
    extend_import_path(run.get("import_path", ()))
    work = load_work(run["work"], folder, threads, cache_bytes)
    check_fingerprint(run["work"], fingerprint_of(work))
    check_outputs(folder, run)
    journal = runner.drive(folder, work, workers, progress=progress)
    log_account(journal.account)
    if journal.has_failures:
        raise_failures(
            journal,
            asked_of(work, work.block_ids),
            f"resumed run {folder.path.name}",
            kept_too=work.temporary.path if isinstance(work, TwoPassWork) else "",
        )
    finish_images([from_spec(spec) for spec in _outputs_of_image(run["work"])])
    if not getattr(work, "keep_results", False):
        return None
    return results_in(getattr(work, "order", None) or work.block_ids, journal)


def _outputs_of_image(work: Mapping[str, Any]) -> list[Any]:
    """Return the specs of what is written of one new image; an OME-Zarr that is copied whole has its metadata from the input."""
    if work["kind"] == "copy":
        return list(work["outputs"])
    parts = work.get("parts", ())
    if work.get("temporary") is not None:
        parts = parts[:1] if work["n_asked"] == 1 else ()
    elif not parts or parts[0]["kind"] != "pyramid":
        parts = ()
    return [spec for part in parts for spec in part["outputs"]]
