"""A run that keeps a folder: how it is begun, checked when it is resumed, interrupted, and cleaned up after."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from bioimage_py.errors import Hint, NotPortableError, RunInterrupted, RunnerError
from bioimage_py.geometry import IdSet
from bioimage_py.runner.config import Resources, RunnerConfig
from bioimage_py.runner.environment import describe_environment, import_path
from bioimage_py.runner.run import (
    RunFolder,
    check_outputs,
    default_root,
    mark_outputs,
    read_recorded,
    unmark_outputs,
)
from bioimage_py.runner.work import Work
from bioimage_py.storage import seen_in_time

_PATIENCE = 30.0
_log = logging.getLogger(__name__)
_FUNCTIONS = ("function_check", "$pickle")
"""Where stored work holds a function of the user, which its fingerprint knows nothing of."""


def new_run_folder(
    work: Work,
    job_type: str,
    config: RunnerConfig,
    num_workers: int,
    resources: Resources,
    n_bytes: int,
    beside: str | None = None,
) -> RunFolder:
    """Make a run folder that holds all that another process needs to do the work; after an error nothing of it is left.

    It is made in the folder `beside` the voxels, if one is given: then the same call does the rest, which knows itself what its work is where that
    would take long to write down.
    """
    folder, outputs = RunFolder.make(default_root(beside or config.tmp_root)), dict[str, Any]()
    try:
        stored = _stored(work, folder, beside)
        # Before the run can be found: what is found can be resumed.
        outputs = mark_outputs(work, str(folder.lasting_path))
        folder.write_run(
            {
                "created": time.time(),
                "job_type": job_type,
                "num_workers": num_workers,
                "threads": resources.threads,
                "cache_bytes": resources.cache_bytes,
                "durable": config.durable,
                "bytes": n_bytes,
                "environment": describe_environment(),
                "import_path": import_path(),
                "config": json.loads(json.dumps(config.given(), default=str)),
                "work": stored,
                "outputs": outputs,
            }
        )
        folder.appear()
        # What is in a folder that was renamed is new on a network disk, also here.
        seen_in_time(folder.read_run, _PATIENCE)
    except BaseException:
        if outputs:
            unmark_outputs({"outputs": outputs})
        folder.discard()
        raise
    return folder


def _stored(work: Work, folder: RunFolder, beside: str | None) -> dict[str, Any]:
    if beside and (outline := work.outline(folder)) is not None:
        return outline
    stored = work.to_json(folder)
    if not beside or work.concurrent_writes:
        stored["fingerprint"] = work.fingerprint()  # else only the same call goes on
    if beside and _has_functions(stored):
        raise NotPortableError("it is not known whether a function is still the same")
    return stored


def check_same_run(folder: RunFolder, run: Mapping[str, Any], work: Work) -> None:
    """Raise InvalidArgumentError unless work, data and outputs are those that the run was begun with."""
    if (fingerprint := run["work"].get("fingerprint")) is not None:
        work.check_fingerprint(fingerprint)
    check_outputs(folder, run)


def take_given_functions(folder: RunFolder, work: Work) -> None:
    """Replace the functions of a run that is resumed by those that are given now; everything else stays as it was."""
    run = folder.read_run()
    if _has_functions(run["work"]):
        renewed = _with_functions_of(run["work"], work.to_json(folder))
        folder.write_run({**run, "work": renewed, "import_path": import_path()})


def _has_functions(stored: Any) -> bool:
    if isinstance(stored, Mapping):
        return any(key in _FUNCTIONS or _has_functions(value) for key, value in stored.items())
    return isinstance(stored, list) and any(map(_has_functions, stored))


def _with_functions_of(stored: Any, given: Any) -> Any:
    """Return stored work with the functions of another that is the same otherwise."""
    if isinstance(stored, Mapping) and isinstance(given, Mapping):
        return {
            key: given[key]
            if key in _FUNCTIONS and key in given
            else _with_functions_of(value, given.get(key))
            for key, value in stored.items()
        }
    if isinstance(stored, list) and isinstance(given, list) and len(stored) == len(given):
        return [_with_functions_of(*pair) for pair in zip(stored, given, strict=True)]
    return stored


@contextlib.contextmanager
def explained_interrupt(
    folder: RunFolder, work: Work, hints: Callable[[RunFolder], Iterable[Hint]]
) -> Iterator[None]:
    """Turn a KeyboardInterrupt into a RunInterrupted that lists what is done, and what a missing folder causes into a RunnerError."""
    try:
        yield
    except RunInterrupted:
        raise
    except KeyboardInterrupt as error:
        if not folder.exists():
            raise  # it was removed after the last block
        done = read_recorded(folder, with_values=work.keep_results).done
        raise interrupted(work, done, hints(folder), folder) from error
    except OSError as error:
        if folder.exists():
            raise
        every = work.asked(work.block_ids)
        raise RunnerError(
            f"the run folder {str(folder.path)!r} was removed while it was needed, so which of {len(every)} blocks are done is not "
            "known",
            every,
            hints=[Hint.of("copy again; where the output is there, with {}", overwrite=True)],
        ) from error


def interrupted(
    work: Work, done: IdSet, hints: Iterable[Hint], folder: RunFolder | None = None
) -> RunInterrupted:
    """Return the exception for Ctrl-C, which lists what is done and says how to resume."""
    every, written = work.asked(work.block_ids), work.asked(done & work.block_ids)
    return RunInterrupted(
        f"interrupted: {len(written)} of {len(every)} blocks are done and stay written",
        written,
        every - written,
        None if folder is None else folder.path,
        hints=hints,
    )


def remove_leftovers(folder: RunFolder, work: Work) -> None:
    """Remove half-written files from the outputs of a run, if one of its attempts never came to its end."""
    if all(folder.read_state(attempt)["reason"] is not None for attempt in folder.attempts()):
        return
    for leaf in work.output_leaves():
        removed = leaf.remove_leftovers()
        if removed:
            _log.info("removed %d half-written files of killed writers from %s", removed, leaf.name)
