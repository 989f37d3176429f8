"""What identifies a call, so that a run is never continued with other arguments or on other data."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.runner.work.composite import CompositeWork
from bioimage_py.runner.work.copying import CopyWork
from bioimage_py.runner.work.deferred import DeferredWork
from bioimage_py.runner.work.functions import BlockFunctionWork
from bioimage_py.runner.work.pyramid import PyramidWork
from bioimage_py.sources import Source, leaves


def fingerprint_of(work: Any) -> dict[str, Any]:
    """Return everything of a call that must not change: sources as they are stored now, and parameters."""
    if isinstance(work, DeferredWork):
        return fingerprint_of(work.open())
    found: dict[str, Any] = {"kind": type(work).__name__}
    if isinstance(work, CompositeWork):
        found["waves"] = [list(wave) for wave in work.waves]
        found.update({f"part {n}": fingerprint_of(part) for n, part in enumerate(work.parts)})
    if isinstance(work, (CopyWork, BlockFunctionWork)):
        found.update(
            shape=list(work.blocking.shape),
            block_shape=list(work.blocking.block_shape),
            roi=[list(work.blocking.roi.begin), list(work.blocking.roi.end)],
            group_shape=list(work.group_shape),
        )
    if isinstance(work, CopyWork):
        kernel = work.kernel
        found.update(input=_input(kernel.input), output=_layout(kernel.output), casting=kernel.casting)
        found["mask"] = None if kernel.mask is None else _input(kernel.mask)
    if isinstance(work, PyramidWork):
        found.update(_of_pyramid(work))
    if isinstance(work, BlockFunctionWork):
        written = {
            identity for output in work.outputs for leaf in leaves(output) for identity in leaf.identities()
        }
        found.update({f"input {n}": _input(source, written) for n, source in enumerate(work.inputs)})
        found.update({f"output {n}": _layout(source) for n, source in enumerate(work.outputs)})
        found["mask"] = None if work.mask is None else _input(work.mask, written)
        found["halo"] = None if work.halo is None else list(work.halo)
    return found


def _of_pyramid(work: PyramidWork) -> dict[str, Any]:
    kernel = work.kernel
    return {
        "shape": list(work.blocking.shape),
        "block_shape": list(work.blocking.block_shape),
        "input": _input(kernel.input),
        **{f"output {n}": _layout(output) for n, output in enumerate(kernel.outputs)},
        "steps": [list(step) for step in kernel.steps],
        "method": kernel.method,
        "casting": kernel.casting,
    }


def _input(source: Source, written: Collection[Any] = ()) -> dict[str, Any]:
    """Return the layout of a source that is read, and what would tell that it was changed; not for what the run itself writes."""
    stamps = {
        os.path.abspath(leaf.name) if "://" not in leaf.name else leaf.name: leaf.stored_stamp()  # noqa: PTH100 - a text
        for leaf in leaves(source)
        if not leaf.identities().intersection(written)
    }
    return {**_layout(source), "voxels stored in": stamps}


def _layout(source: Source) -> dict[str, Any]:
    return {
        "stored": _without_pickles({k: v for k, v in source.to_spec().items() if k != "mode"}),
        "shape": list(source.shape),
        "dtype": source.dtype.str,
        "chunks": None if source.chunks is None else list(source.chunks),
        "shards": None if source.shards is None else list(source.shards),
        "codec": source.codec,
        "fill value": str(source.fill_value),
    }


def _without_pickles(spec: Any) -> Any:
    """Return a spec without its pickled functions: the same function's pickle differs from one process to the next."""
    if isinstance(spec, dict):
        return {k: "a function" if k == "$pickle" else _without_pickles(v) for k, v in spec.items()}
    if isinstance(spec, list):
        return [_without_pickles(item) for item in spec]
    return spec


def check_fingerprint(then: dict[str, Any], now: dict[str, Any]) -> None:
    """Compare the fingerprint in a run folder with that of a call.

    Raises
    ------
    InvalidArgumentError
        If they differ; the message says in what.
    """
    differences = list(_differences(then["fingerprint"], now, ""))
    if differences:
        raise InvalidArgumentError(
            "this run cannot be continued, because it is not the one that was begun: "
            + "; ".join(differences[:5])
            + ". Copy again, or put back what was there, with its times"
        )


def _differences(then: Any, now: Any, where: str) -> list[str]:
    if isinstance(then, dict) and isinstance(now, dict):
        found: list[str] = []
        for key in sorted({*then, *now}):
            found += _differences(then.get(key), now.get(key), f"{where} {key}".strip())
        return found
    return [] if then == now else [f"{where} was {then} and is {now}"]
