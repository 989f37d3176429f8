"""`downsample`: a copy of an array that is resampled to fewer voxels when it is read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bioimage_py.copy import copy_as
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.kernels import Casting
from bioimage_py.operations import CopyOptions
from bioimage_py.runner import Progress, RunnerConfig
from bioimage_py.sources import Codec, Source, as_source, with_metadata
from bioimage_py.wrapper import ThresholdSource
from bioimage_py.wrapper.resampling import (
    KINDS,
    ReducedSource,
    ResizedSource,
    checked_factors,
    chosen_method,
    warn_if_labels_are_mixed,
)

__all__ = ["downsample"]


def downsample(
    input: Any,
    scale_factor: int | Sequence[int],
    output: Any = None,
    *,
    order: int = 0,
    anti_aliasing: bool = False,
    block_shape: Sequence[int] | None = None,
    job_type: str = "local",
    job_config: RunnerConfig | None = None,
    num_workers: int | None = 1,
    mask: Any = None,
    block_ids: Sequence[int] | None = None,
    resume_from: str | os.PathLike[str] | None = None,
    method: str | None = None,
    kind: str | None = None,
    casting: Casting = "unsafe",
    memory_limit: int | str | None = None,
    verify_encoded: bool = False,
    digest: bool = False,
    overwrite: bool = False,
    dtype: npt.DTypeLike | None = None,
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | Literal["auto"] | None = None,
    codec: str | Mapping[str, Any] | Codec | None = None,
    zarr_format: int | None = None,
    ome_zarr_version: str | None = None,
    imagej: bool | None = None,
    skip_zeros: bool | None = None,
    fill_value: float | None = None,
    axes: Sequence[str] | None = None,
    voxel_size: float | Sequence[float] | None = None,
    units: str | Sequence[str | None] | None = None,
    endpoint: str | None = None,
    region: str | None = None,
    anonymous: bool = False,
    profile: str | None = None,
    page: str | os.PathLike[str] | None = None,
    progress: Callable[[Progress], None] | bool | None = None,
) -> Any:
    """Reduce an array by whole factors, block by block.

    The new shape is the ceiling of the division. Without `method` the array is interpolated as `order` and `anti_aliasing` say,
    see `ResizedSource`; the default takes the nearest voxel, so that no label is invented. With `method` each voxel is computed
    from a window of `scale_factor` voxels, see `ReducedSource`.

    Parameters
    ----------
    input
        An array, a handle, a path or URL, or any `Source`, wrappers included.
    scale_factor
        How many voxels become one: an integer per axis, or one for all axes but those that the metadata call "c" or "t".
    output
        As for `copy`, of the smaller shape. Default: a new numpy array.
    order
        Of the interpolation, 0 to 5: nearest voxel, linear, …; without `method`.
    anti_aliasing
        Whether to smooth by a Gaussian of `(factor - 1) / 2` voxels standard deviation before interpolating.
    block_shape
        Shape of a block in voxels of the output, a multiple of its chunks.
    mask
        A source of the output's shape: only voxels where it is not zero are written. Or of the input's shape: voxels are
        written if it is not zero somewhere in their window.
    method
        `"mean"`, `"median"`, `"mode"`, `"min"`, `"max"`, `"stride"`, or `"auto"`: mode for labels, mean for images.
    kind
        `"labels"` or `"image"`. Default: labels are booleans, integers of 32 or 64 bits, and what the metadata or the name of
        its group say.
    axes, voxel_size, units
        Of the input, where its metadata lack them or are wrong; see `with_metadata`.
    job_type, job_config, num_workers, block_ids, resume_from, casting, memory_limit, verify_encoded, digest, overwrite
        As for `copy`.
    dtype, chunks, shards, codec, zarr_format, ome_zarr_version, imagej, skip_zeros, fill_value, endpoint, region, anonymous, profile, page, progress
        As for `copy`.

    Returns
    -------
    array
        The object given as `output`, or the array or `Source` that was made, with the voxel size and origin of the larger voxels.

    Raises
    ------
    InvalidArgumentError
        If a factor is below 1 or larger than its axis, their number is wrong, `order` or `anti_aliasing` is given together with
        `method`, or the arguments do not fit together; nothing has been written.
    RunnerError
        If blocks failed; `failed_block_ids` lists them, all others are written.

    Warns
    -----
    BioimagePyWarning
        If labels are averaged: by mean, median, an order of 1 or more, or anti-aliasing.

    Examples
    --------
    >>> image = np.array([[0, 2, 4], [2, 4, 9]], "uint8")
    >>> downsample(image, 2).tolist(), downsample(image, (1, 3), method="mean").tolist()
    ([[2, 9]], [[2], [5]])
    """
    options = CopyOptions.of(locals())
    with options.reaching(input, output, mask), ExitStack() as opened:
        source = _opened(input, opened)
        if options.said:
            source = with_metadata(source, **options.said)
        smaller = _smaller(source, scale_factor, (order, anti_aliasing), method, kind)
        if mask is not None and (full := _opened(mask, opened)).shape == source.shape != smaller.shape:
            mask = ReducedSource(
                ThresholdSource(full, 0, np.not_equal), _factors(scale_factor, source), "max"
            )
        # What was said of the input and of stores is in force already.
        said: dict[str, Any] = dict.fromkeys((*options.said, "endpoint", "region", "profile"))
        return copy_as(smaller, output, replace(options, mask=mask, anonymous=False, **said))


def _opened(given: Any, opened: ExitStack) -> Source:
    """Return what was given as a source, to be closed with the stack if it was opened here."""
    source = as_source(given)
    if source is not given:
        opened.callback(source.close)
    return source


def _smaller(
    source: Source,
    scale_factor: Any,
    interpolation: tuple[int, bool],
    method: str | None,
    kind: str | None,
) -> Source:
    """Return the wrapper that is copied."""
    if kind is not None and kind not in KINDS:
        raise InvalidArgumentError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    factors = _factors(scale_factor, source)
    order, anti_aliasing = interpolation
    if method is None:
        shape = tuple(-(-n // f) for n, f in zip(source.shape, factors, strict=True))
        resized = ResizedSource(source, shape, order, anti_aliasing)
        if resized.order or resized.anti_aliasing:
            warn_if_labels_are_mixed(source, kind, "anti_aliasing" if anti_aliasing else f"order={order}")
        return resized
    if order != 0 or anti_aliasing:
        raise InvalidArgumentError(
            f"order={order!r} and anti_aliasing={anti_aliasing!r} belong to interpolation: leave them out with "
            f"method={method!r}, or leave out the method"
        )
    reduced = ReducedSource(source, factors, chosen_method(source, kind) if method == "auto" else method)
    if method in ("mean", "median"):
        warn_if_labels_are_mixed(source, kind, f"method={method!r}")
    return reduced


def _factors(scale_factor: Any, source: Source) -> tuple[int, ...]:
    if not isinstance(scale_factor, (list, tuple)) and np.ndim(scale_factor) == 0:
        axes = source.metadata.fitting(source.ndim).axes or (None,) * source.ndim
        scale_factor = tuple(1 if axis in ("c", "t") else scale_factor for axis in axes)
    return checked_factors(scale_factor, source.shape)
