"""Work as plain JSON, so that another process can make it again: `reopening` does.

Built-in kernels travel by name. Only a function that the user handed in is pickled, into the run folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from bioimage_py.errors import InvalidArgumentError, NotPortableError
from bioimage_py.geometry import Blocking, Box, IdSet
from bioimage_py.kernels import CopyKernel, MovingKernel
from bioimage_py.runner.run import RunFolder
from bioimage_py.runner.work.composite import CompositeWork
from bioimage_py.runner.work.copying import CopyWork
from bioimage_py.runner.work.deferred import DeferredWork
from bioimage_py.runner.work.functions import BlockFunctionWork
from bioimage_py.runner.work.items import ItemFunctionWork
from bioimage_py.runner.work.pickled_function import store_function
from bioimage_py.runner.work.pyramid import PyramidWork
from bioimage_py.runner.work.two_passes import TwoPassWork
from bioimage_py.runner.work.work import PortableWork
from bioimage_py.sources import Source, SourceSpec
from bioimage_py.storage import is_url


def store_work(work: PortableWork, folder: RunFolder) -> dict[str, Any]:
    """Return the work as plain JSON; a user's function goes into a file of the folder.

    Raises
    ------
    NotPortableError
        If an input, an output, the mask or the function exists in this process only.
    """
    if isinstance(work, DeferredWork):
        return store_work(work.open(), folder)
    if isinstance(work, CompositeWork):
        two_passes = work if isinstance(work, TwoPassWork) else None
        return {
            "kind": "composite",
            "parts": [store_work(part, folder) for part in work.parts],
            "waves": [list(wave) for wave in work.waves],
            "temporary": None if two_passes is None else two_passes.temporary.to_json(),
            "n_asked": len(work.parts) if two_passes is None else two_passes.n_asked,
            "block_ids": work.block_ids.to_json(),
        }
    if isinstance(work, CopyWork):
        kernel = work.kernel
        return {
            "kind": "copy",
            "inputs": [_input(kernel.input)],
            "outputs": [_output(kernel.output)],
            "mask": None if kernel.mask is None else _input(kernel.mask),
            "casting": kernel.casting,
            "moving": _moving(kernel),
            **_blocks(work.blocking, work.group_shape, work.block_ids),
        }
    if isinstance(work, PyramidWork):
        return _pyramid(work)
    if isinstance(work, BlockFunctionWork):
        return {
            "kind": "function",
            "function_check": store_function(work.function, folder),
            "inputs": [_input(source) for source in work.inputs],
            "outputs": [_output(source) for source in work.outputs],
            "mask": None if work.mask is None else _input(work.mask),
            "halo": None if work.halo is None else list(work.halo),
            "keep_results": work.keep_results,
            "order": None if work.order is None else list(work.order),
            **_blocks(work.blocking, work.group_shape, work.block_ids),
        }
    if isinstance(work, ItemFunctionWork):
        return {
            "kind": "map",
            "function_check": store_function(work.function, folder),
            "keep_results": work.keep_results,
            "order": None if work.order is None else list(work.order),
            "block_ids": work.block_ids.to_json(),
        }
    raise NotPortableError(f"{type(work).__name__} can be run locally only")


_FUNCTIONS = ("function_check", "$pickle")


def has_functions(stored: Any) -> bool:
    """Whether stored work holds a function of the user, which its fingerprint knows nothing of."""
    if isinstance(stored, Mapping):
        return any(key in _FUNCTIONS or has_functions(value) for key, value in stored.items())
    return isinstance(stored, list) and any(map(has_functions, stored))


def with_functions_of(stored: Any, given: Any) -> Any:
    """Return stored work with the functions of another that is the same otherwise."""
    if isinstance(stored, Mapping) and isinstance(given, Mapping):
        return {
            key: value
            if key not in given
            else given[key]
            if key in _FUNCTIONS
            else with_functions_of(value, given[key])
            for key, value in stored.items()
        }
    if isinstance(stored, list) and isinstance(given, list) and len(stored) == len(given):
        return [with_functions_of(*pair) for pair in zip(stored, given, strict=True)]
    return stored


def _pyramid(work: PyramidWork) -> dict[str, Any]:
    kernel = work.kernel
    return {
        "kind": "pyramid",
        "inputs": [_input(kernel.input)],
        "outputs": [_output(output) for output in kernel.outputs],
        "mask": None,
        "steps": [list(step) for step in kernel.steps],
        "method": kernel.method,
        "tile_shape": list(kernel.tile_shape),
        "casting": kernel.casting,
        "moving": None if kernel.mover is None else _moving(kernel.mover),
        **_blocks(work.blocking, work.blocking.block_shape, work.block_ids),
    }


def _moving(kernel: CopyKernel | MovingKernel) -> dict[str, Any] | None:
    if isinstance(kernel, CopyKernel):
        return None
    options = kernel.options
    return {
        "road": kernel.match.road,
        "verify_encoded": options.verify_encoded,
        "output_is_new": options.output_is_new,
    }


def _blocks(blocking: Blocking, group_shape: tuple[int, ...], block_ids: IdSet) -> dict[str, Any]:
    whole = blocking.roi == Box.whole(blocking.shape)
    return {
        "shape": list(blocking.shape),
        "block_shape": list(blocking.block_shape),
        "roi": None if whole else [list(blocking.roi.begin), list(blocking.roi.end)],
        "group_shape": list(group_shape),
        "block_ids": block_ids.to_json(),
    }


def _input(source: Source) -> SourceSpec:
    return {**_spec(source), "mode": "r"}


def _output(source: Source) -> SourceSpec:
    if not source.concurrent_writes:
        raise NotPortableError(
            f"output {source.name} is {source.format}, which several processes cannot write at once: distributed runs need a "
            "chunked output such as Zarr or N5"
        )
    return {**_spec(source), "mode": "r+"}


def _spec(source: Source) -> SourceSpec:
    try:
        spec = source.to_spec()
    except InvalidArgumentError as error:
        raise NotPortableError(str(error)) from error
    _refuse_secrets(spec)
    return spec


def _refuse_secrets(spec: Any) -> None:
    """Raise NotPortableError for URLs that may hold a credential: what is in a run folder is written to a disk."""
    if isinstance(spec, Mapping):
        for value in spec.values():
            _refuse_secrets(value)
    elif isinstance(spec, (list, tuple)):
        for value in spec:
            _refuse_secrets(value)
    elif isinstance(spec, str) and is_url(spec):
        parts = urlsplit(spec)
        if parts.query or parts.fragment or "@" in parts.netloc:
            where = "a query ('?…')" if parts.query else "a user or a fragment"
            raise NotPortableError(
                f"the URL {urlunsplit((parts.scheme, parts.netloc.rpartition('@')[2], parts.path, '', ''))} has {where}, which can "
                "hold a credential, and credentials are not written into run folders: give it without, and the credential in the "
                "environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS, NETRC), or run it "
                "locally without a run folder"
            )
