"""Tasks that were submitted again, and that an attempt which was believed dead has finished after all."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from bioimage_py.runner.slurm.commands import Slurm, SlurmRefusalError, SlurmSilenceError
from bioimage_py.runner.slurm.jobs import ArrayJob
from bioimage_py.runner.slurm.states import has_ended

_log = logging.getLogger(__name__)

_PATIENCE = 40.0
"""Seconds that they get to end; Slurm kills what does not after 30 by default."""


def end_doubles(slurm: Slurm, doubles: Sequence[tuple[ArrayJob, int]]) -> None:
    """Cancel tasks that nobody needs any more and wait for their end, so that nothing is written after the run's end.

    Parameters
    ----------
    slurm
        The commands.
    doubles
        The array of each task, and its number.
    """
    places = {(job.number or "", task - job.offset, job.name) for job, task in doubles}
    numbers = dict.fromkeys(number for number, _, _ in places)
    end = time.monotonic() + _PATIENCE
    told = False
    try:
        while time.monotonic() < end:
            alive = [
                f"{row.job}_{row.index}"
                for row in slurm.queue(jobs=numbers)
                if (row.job, row.index, row.name) in places and not has_ended(row)
            ]
            if not alive:
                return
            if not told:
                slurm.cancel(alive)
                told = True
            time.sleep(0.2)
        _log.warning("tasks %s were cancelled, as another attempt has done them, and have not ended", alive)
    except (SlurmSilenceError, SlurmRefusalError) as error:
        _log.warning("tasks that another attempt has done may still run: %s", error)
