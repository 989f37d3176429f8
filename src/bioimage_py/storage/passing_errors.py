"""What network disks do for a while: fail for a moment, and show late what other machines wrote."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable
from typing import TypeVar

from bioimage_py.errors import BioimagePyError

_R = TypeVar("_R")

_PASSING = {
    getattr(errno, name) for name in ("EIO", "ESTALE", "ETIMEDOUT", "EREMOTEIO") if hasattr(errno, name)
}
_OS_ERROR = re.compile(r"\[os_error_code='(\d+)'\]")
_MOST_CAUSES = 8
_PAUSES = (0.05, 0.2, 0.8)
"""Seconds before what a network disk refused is tried again."""
_LOOK = 0.3
"""Seconds between two looks at what is not seen yet."""


def is_passing(error: BaseException | None) -> bool:
    """Whether an error is one of those that network disks answer for a moment, or was caused by one."""
    for _ in range(_MOST_CAUSES):  # they can go round in a circle
        said = _OS_ERROR.search(str(error))
        if (isinstance(error, OSError) and error.errno in _PASSING) or (said and int(said[1]) in _PASSING):
            return True
        error = None if error is None else error.__cause__
    return False


def tried_again(call: Callable[[], _R]) -> _R:
    """Make a call, again after a moment where a network disk failed under it; it must be one that can be made twice."""
    for pause in _PAUSES:
        try:
            return call()
        except Exception as error:
            if not is_passing(error):
                raise
        time.sleep(pause)
    return call()


def seen_in_time(call: Callable[[], _R], patience: float) -> _R:
    """Return what a call reads of what another machine wrote; for so many seconds it may not be seen yet."""
    end = time.monotonic() + patience
    while True:
        try:
            return call()
        except (OSError, BioimagePyError):
            if time.monotonic() >= end:
                raise
        time.sleep(_LOOK)
