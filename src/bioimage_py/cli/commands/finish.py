"""The command that copies what an earlier one left out."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator

from bioimage_py.cli.failure import PROGRAM, UnfinishedError, as_option, positional
from bioimage_py.cli.options import OPENING, Selection, given_values
from bioimage_py.errors import RunInterrupted, RunnerError
from bioimage_py.geometry import IdSet
from bioimage_py.operations import CopyOptions, InputMetadata, NewArray
from bioimage_py.runner.run import is_beside_data
from bioimage_py.text import ids_text


@contextlib.contextmanager
def telling_how_to_finish(
    rest: Callable[[IdSet], list[str]] | None = None, resume: list[str] | None = None
) -> Iterator[None]:
    """Raise UnfinishedError for a run that stops early, with the command that finishes it.

    `resume` is the command that goes on with the run folder; where none is left, `rest` gives that for the missing blocks.
    """
    try:
        yield
    except (RunnerError, RunInterrupted) as error:
        left, command = IdSet.from_ids(error.failed_block_ids), None
        if left or isinstance(error, RunInterrupted):
            by_itself = error.tmp_folder is not None and is_beside_data(error.tmp_folder)
            if error.tmp_folder is not None and (resume is not None or not by_itself):
                command = resume or [PROGRAM, "resume", error.tmp_folder]
            elif rest is not None:
                command = rest(left)
        raise UnfinishedError(error, command) from error


def copy_command(args: argparse.Namespace, missing: IdSet, *, whole: bool) -> list[str]:
    """Return the command that copies the missing blocks, or all if none is named, into the existing output.

    Options of a new output are left out. In a whole OME-Zarr, blocks are always written into the existing arrays.
    """
    again = bool(args.update)  # which finds by itself what is left
    words = [PROGRAM, "copy", *([] if whole or again else ["--into-existing"])]
    if missing and not again:
        words += as_option("block_ids", ids_text(missing.runs))
    places = {name: getattr(args, name) for name in ("key", "pattern", *OPENING, "output_key", "workers")}
    of_input = [] if given_values(args, Selection) else [InputMetadata]
    left_out = ("block_ids", *(() if again else given_values(args, NewArray, *of_input)))
    for name, value in (places | given_values(args, CopyOptions)).items():
        if value is not None and name not in left_out:
            words += as_option(name, value)
    return [*words, *positional(args.input, args.output)]
