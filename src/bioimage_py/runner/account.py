"""What a run folder says of its run: blocks done, values returned, errors, attempts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from bioimage_py.errors import CastingError
from bioimage_py.geometry import IdSet
from bioimage_py.runner.run import AttemptFiles, RunFolder, read_block_logs, read_value_log

_MOST_APART = 100
"""Failures of an attempt that are told apart; where there are more, the others are taken together."""


@dataclass(frozen=True)
class BlockError:
    """A failure that an attempt recorded.

    Attributes
    ----------
    block_ids
        Blocks that failed with it.
    type, text
        Name of the exception's class, and its message.
    traceback
        Where it was raised.
    """

    block_ids: IdSet
    type: str
    text: str
    traceback: str


@dataclass(frozen=True)
class Account:
    """How far a run is, read from its folder.

    Attributes
    ----------
    done
        Blocks that some attempt finished.
    errors
        Failures of blocks that no attempt finished, in the order of the attempts.
    states
        What each attempt said of itself last.
    n_bytes
        Bytes written by all attempts, decoded.
    """

    done: IdSet
    errors: list[BlockError] = field(default_factory=list)
    states: list[tuple[AttemptFiles, dict[str, Any]]] = field(default_factory=list)
    n_bytes: int = 0


def read_account(folder: RunFolder, *, errors: bool = True) -> Account:
    """Read all journals of a run; what is torn or half written is not trusted."""
    attempts = folder.attempts()
    done = read_block_logs([a.blocks for a in attempts if a.blocks.exists()])
    states = [(a, folder.read_state(a)) for a in attempts]
    found = []
    if errors:
        for attempt in attempts:
            found.extend(_errors(attempt, done))
    return Account(done, found, states, sum(int(s.get("bytes", 0)) for _, s in states))


def _errors(attempt: AttemptFiles, done: IdSet) -> list[BlockError]:
    if not attempt.errors.exists():
        return []
    found: list[BlockError] = []
    others: list[tuple[int, int]] = []
    with attempt.errors.open(errors="replace") as file:
        for line in file:
            try:
                entry = json.loads(line)
                ids = IdSet.from_json(entry["blocks"])
                kind, text, traceback = (str(entry[name]) for name in ("type", "text", "traceback"))
            except (ValueError, LookupError, TypeError):
                continue  # torn by a crash of its writer: the blocks are missing from the log of finished ones as well
            # Most failures are of one block, and a set of many runs is slow to subtract.
            alone = len(ids) == 1
            left = ids if alone else ids - done
            if not left or (alone and ids[0] in done):
                continue
            if len(found) < _MOST_APART or kind == CastingError.__name__:
                found.append(BlockError(left, kind, text, traceback))
            else:
                others += left.runs
    if others:
        found.append(replace(found[-1], block_ids=IdSet(others)))
    return found


def read_values(folder: RunFolder, block_ids: IdSet) -> dict[int, Any]:
    """Return what the function returned, once for each of these blocks that is done."""
    values: dict[int, Any] = {}
    for attempt in folder.attempts():
        if attempt.values.exists() and attempt.blocks.exists():
            done = read_block_logs([attempt.blocks])
            for block_id, value in read_value_log(attempt.values).items():
                # A value whose block was not recorded after it belongs to an attempt that died in between.
                if block_id in done and block_id in block_ids:
                    values.setdefault(block_id, value)
    return values
