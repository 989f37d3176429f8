"""How long a thread has been reading stored voxels: what tells the time of a store from that of a wrapper above it."""

from __future__ import annotations

import threading

__all__ = ["READ"]


class _ReadClock(threading.local):
    """Of the calling thread.

    Attributes
    ----------
    seconds
        Spent in `Source.read`, of sources that read no other ones.
    n_bytes
        Of the voxels that were read, decoded.
    """

    seconds = 0.0
    n_bytes = 0


READ = _ReadClock()
