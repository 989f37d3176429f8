"""The arguments of `pyramid`, checked before anything is made."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bioimage_py.errors import BioimagePyWarning, InvalidArgumentError
from bioimage_py.geometry import check_block_shape
from bioimage_py.kernels import can_hold, check_casting, encoding_to_move, moving_origin
from bioimage_py.metadata import Level
from bioimage_py.operations.copy_input import find_input
from bioimage_py.operations.copy_request import check_portable
from bioimage_py.operations.pyramid_target import AddedLevels, NewPyramid, PyramidTarget
from bioimage_py.planning import (
    ArrayLayout,
    PyramidPlan,
    choose_levels,
    choose_road,
    parse_bytes,
    plan_pyramid,
)
from bioimage_py.runner import Runner, check_num_workers, get_runner
from bioimage_py.sources import Source
from bioimage_py.wrapper.resampling import KINDS, check_method, chosen_method, warn_if_labels_are_mixed


@dataclass(frozen=True)
class PyramidRequest:
    """What `pyramid` was asked to do.

    Attributes
    ----------
    source
        The input.
    target
        Where the levels go.
    method
        How voxels are reduced.
    runner, num_workers, resume_from
        The backend, and what it is given.
    casting, verify_encoded
        As for `copy`.
    plan
        What would be done.
    road
        How the full-size level travels.
    """

    source: Source
    target: PyramidTarget
    method: str
    runner: Runner
    num_workers: int
    resume_from: str | None
    casting: str
    verify_encoded: bool
    plan: PyramidPlan
    road: str

    @classmethod
    def check(
        cls,
        input: Any,
        output: Any,
        shape_of_it: Mapping[str, Any],
        how: Mapping[str, Any],
        new_array: Mapping[str, Any],
        said: Mapping[str, Any],
        *,
        quiet: bool = False,
    ) -> PyramidRequest:
        """Take the arguments of `pyramid`, or raise InvalidArgumentError that says what is wrong with them.

        Parameters
        ----------
        input, output
            As for `pyramid`.
        shape_of_it
            `levels`, `scale_factors`, `method`, `kind`.
        how
            `block_shape`, `job_type`, `job_config`, `num_workers`, `resume_from`, `casting`, `memory_limit`, `verify_encoded`.
        new_array
            Options for a new output.
        said
            What the user says of the input.
        quiet
            Whether to give no warnings.
        """
        check_num_workers(how["num_workers"])
        runner = get_runner(how["job_type"], how["job_config"])
        runner.check_resume(how["resume_from"], None)
        limit = (
            runner.config.memory_limit_bytes
            if how["memory_limit"] is None
            else parse_bytes(how["memory_limit"])
        )
        target: PyramidTarget
        if output is None:
            target = added = AddedLevels(input, {**new_array, **said})
            source = added.source
        else:
            source, _ = find_input(input, None, output, said)
            target = NewPyramid(output, source, new_array)
        others = not runner.in_process or runner.config.resumable
        if others:
            check_portable(source, runner)
        target.check(source, runner.job_type if others else None)
        _check_casting(source, target.layout, how["casting"], quiet=quiet)
        method = _method(source, target, shape_of_it["method"], shape_of_it["kind"], quiet=quiet)
        layout = target.layout
        count, factors = shape_of_it["levels"], shape_of_it["scale_factors"]
        like_image = target.steps_of_image() if factors is None else None
        if like_image is not None and count in (None, *range(1, len(like_image) + 2)):
            factors = like_image if count is None else like_image[: count - 1]
        levels = choose_levels(
            layout.shape,
            layout.chunks or layout.shape,
            target.axes,
            target.voxel_size,
            levels=count,
            scale_factors=factors,
        )
        block = how["block_shape"]
        plan = plan_pyramid(
            ArrayLayout.of(source),
            layout,
            levels,
            method,
            num_workers=how["num_workers"] if runner.in_process else runner.config.threads_per_worker,
            memory_limit=limit,
            block_shape=None if block is None else check_block_shape(block, source.shape),
            in_place=target.in_place,
        )
        resume_from = how["resume_from"]
        return cls(
            source=source,
            target=target,
            method=method,
            runner=runner,
            num_workers=how["num_workers"],
            resume_from=None if resume_from is None else os.fspath(resume_from),
            casting=how["casting"],
            verify_encoded=bool(how["verify_encoded"]),
            plan=plan,
            road=_road(source, target),
        )

    def coarser(self) -> list[Level]:
        """Return the levels below the full-size one as OME-Zarr describes them."""
        stride = self.method == "stride"
        return [
            Level(
                self.target.path_of(level.number),
                tuple(map(float, level.factors)),
                (0.0,) * len(level.factors) if stride else None,
            )
            for level in self.plan.levels[1:]
        ]


def _check_casting(source: Source, layout: ArrayLayout, casting: str, *, quiet: bool) -> None:
    check_casting(casting, source.dtype, layout.dtype)
    if casting == "unsafe" and not quiet and not can_hold(source.dtype, layout.dtype):
        warnings.warn(
            f"{source.dtype} voxels are cast to {layout.dtype}, which cannot hold all their values; "
            "casting='check' stops at the first voxel that would change",
            BioimagePyWarning,
            stacklevel=4,
        )


def _method(source: Source, target: PyramidTarget, method: Any, kind: str | None, *, quiet: bool) -> str:
    """Return how voxels are reduced; labels are recognised by the input, and by where they go."""
    if kind is not None and kind not in KINDS:
        raise InvalidArgumentError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if kind is None and target.is_labels:
        kind = "labels"
    found = chosen_method(source, kind) if method == "auto" else method
    check_method(found, target.layout.dtype)
    if found in ("mean", "median") and not quiet:
        warn_if_labels_are_mixed(source, kind, f"method={found!r}")
    return str(found)


def _road(source: Source, target: PyramidTarget) -> str:
    """Return how the full-size level travels: as encoded chunks where both sides encode them alike."""
    origin = moving_origin(source)
    if origin is None or not isinstance(target, NewPyramid):
        return "recode"
    match = choose_road(
        encoding_to_move(origin.source), target.encoding(), origin.offset, codec=target.codec, is_new=True
    )
    return match.road
