"""Ctrl-C in a run that keeps a folder, or the loss of that folder: the message says what is done, and how to go on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

from bioimage_py.errors import Hint, RunInterrupted, RunnerError
from bioimage_py.runner.finished import read_finished
from bioimage_py.runner.run import RunFolder
from bioimage_py.runner.work import PortableWork, asked_of


@contextlib.contextmanager
def explained_interrupt(
    folder: RunFolder, work: PortableWork, hints: Callable[[RunFolder], Iterable[Hint]]
) -> Iterator[None]:
    """Turn a KeyboardInterrupt into a RunInterrupted that lists what is done, and what a missing folder causes into a RunnerError.

    Parameters
    ----------
    folder, work
        The run.
    hints
        Says how to go on.
    """
    try:
        yield
    except RunInterrupted:
        raise
    except KeyboardInterrupt as error:
        if not folder.exists():
            raise  # it was removed after the last block
        finished = read_finished(folder, work, errors=False).done & work.block_ids
        every, done = (asked_of(work, ids) for ids in (work.block_ids, finished))
        raise RunInterrupted(
            f"interrupted: {len(done)} of {len(every)} blocks are done and stay written",
            done,
            every - done,
            folder.path,
            hints=hints(folder),
        ) from error
    except OSError as error:
        if folder.exists():
            raise
        every = asked_of(work, work.block_ids)
        raise RunnerError(
            f"the run folder {str(folder.path)!r} was removed while it was needed, so which of {len(every)} blocks are done is not "
            "known",
            every,
            hints=[Hint.of("copy again; where the output is there, with {}", overwrite=True)],
        ) from error
