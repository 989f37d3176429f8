"""How long glibc keeps the memory of chunks that are done with, before the system has to empty each page of it again."""

from __future__ import annotations

import ctypes
import functools
import os

__all__ = ["keep_memory_of_chunks"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""The numbers of glibc's parameters, from its malloc.h."""
_OF_OWN = 2**22
_KEPT = 2**26
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_")


@functools.cache
def keep_memory_of_chunks() -> bool:
    """Have up to 64 MiB of freed memory kept for the next chunks; return whether that could be said.

    glibc sets itself to that much when an array of 32 MiB is freed; engines that free chunks of half a mebibyte get one mebibyte.
    What is larger than 4 MiB, such as blocks, is given back at once, so that memory stays as planned. Whoever has set this in the
    environment is left alone, and so are other C libraries.
    """
    chosen = any(name in os.environ for name in _SETTINGS) or "malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if chosen or not _is_glibc():
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _OF_OWN)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT))


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):
        return False  # another system, or another C library
