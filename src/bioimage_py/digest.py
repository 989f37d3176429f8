"""`digest`: a hash of the voxels of an array that does not depend on how they are stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bioimage_py.operations import RunOptions, StoreAccess, digest_of
from bioimage_py.runner import Progress, checked_workers, reporting
from bioimage_py.sources import as_source

__all__ = ["digest"]


def digest(
    source: Any,
    *,
    num_workers: int | None = 1,
    memory_limit: int | str | None = None,
    endpoint: str | None = None,
    region: str | None = None,
    anonymous: bool = False,
    profile: str | None = None,
    progress: Callable[[Progress], None] | bool | None = None,
) -> str:
    """Return a hash of the shape, the data type and all voxels of an array; chunks, compression, byte order and format do not matter.

    Parameters
    ----------
    source
        An array, a handle, a path or URL, or any `Source`. Of an OME-Zarr image, its full-size array.
    num_workers
        Threads; None for all cores that this process may use.
    memory_limit
        Most bytes that may be held, or a text such as `"512MiB"`.
    endpoint, region, anonymous, profile
        As for `copy`.
    progress
        A function that is called with a `Progress` a few times a second and at the end; True for a bar, False for nothing. Default: a
        bar in notebooks and on terminals, unless `BIOIMAGE_PY_PROGRESS=0` or `progress = false` in the configuration file turns it off.

    Returns
    -------
    str
        `"b3t1:"` and 64 hexadecimal digits, as `docs/digest.md` specifies.

    Raises
    ------
    RunnerError
        If blocks could not be read.
    UnsupportedFormatError
        If voxels are of a type that has no digest, such as numpy's `longdouble`.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.arange(24, dtype="uint16").reshape(2, 3, 4)
    >>> digest(image)[:13], digest(image) == digest(image.astype(">u2"))
    ('b3t1:b64e28a7', True)
    """
    access = StoreAccess(endpoint, region, anonymous, profile)
    with access.reaching(source), reporting(progress, "hashing") as report:
        given = {"num_workers": checked_workers(num_workers), "memory_limit": memory_limit}
        return digest_of(as_source(source), replace(RunOptions.of(given), progress=report)).root
