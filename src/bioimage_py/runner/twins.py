"""Twins of sources that are tuned for one run and closed after it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from bioimage_py.sources import Source, leaves


@contextlib.contextmanager
def run_twin(source: Source, threads: int, cache_bytes: int = 0) -> Iterator[Source]:
    """Give a twin of a source for a run, and close it afterwards; the source itself stays as it is.

    Parameters
    ----------
    source
        The source.
    threads, cache_bytes
        As for `Source.for_run`.
    """
    _check_present(source)
    twin = source.for_run(threads, cache_bytes)
    try:
        yield twin
        _check_present(source)
    except KeyboardInterrupt:
        # Threads that are in the middle of a block go on using it; it is closed when they have let go of it.
        raise
    except BaseException:
        _close(twin, source)
        raise
    _close(twin, source)


def _check_present(source: Source) -> None:
    for leaf in leaves(source):
        leaf.check_present()


def _close(twin: Source, source: Source) -> None:
    if twin is not source:
        twin.close()
