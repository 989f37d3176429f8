"""Which blocks of a run need not be done again: those that are recorded, with what they returned where that is wanted."""

from __future__ import annotations

from dataclasses import replace

from bioimage_py.geometry import IdSet
from bioimage_py.runner.account import Account, read_account
from bioimage_py.runner.run import RunFolder, read_block_logs, valued_blocks
from bioimage_py.runner.work import PortableWork


def read_finished(folder: RunFolder, work: PortableWork, *, errors: bool = True) -> Account:
    """Read how far the run is; a block counts as done only if its value can be had, in a run that returns values.

    A crash of the machine, or a damaged disk, can take the end of a log of values and leave that of the blocks.
    """
    account = read_account(folder, errors=errors)
    if not getattr(work, "keep_results", False):
        return account
    runs: list[tuple[int, int]] = []
    for attempt in folder.attempts():
        if attempt.values.exists() and attempt.blocks.exists():
            runs += (read_block_logs([attempt.blocks]) & valued_blocks(attempt.values)).runs
    return replace(account, done=IdSet(runs))
