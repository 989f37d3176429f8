"""Tidying up the outputs after writers that were killed."""

from __future__ import annotations

import logging

from bioimage_py.runner.account import Account
from bioimage_py.runner.work import PortableWork
from bioimage_py.sources import leaves

_log = logging.getLogger(__name__)


def remove_leftovers(work: PortableWork, account: Account) -> None:
    """Remove half-written files from the outputs of a run, if one of its attempts never came to its end."""
    if all(state["reason"] is not None for _, state in account.states):
        return
    for source in work.outputs:
        for leaf in leaves(source):
            removed = leaf.remove_leftovers()
            if removed:
                _log.info("removed %d half-written files of killed writers from %s", removed, leaf.name)
