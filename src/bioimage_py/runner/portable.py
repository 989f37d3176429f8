"""Work as plain JSON, so that another process can make it again.

Built-in kernels travel by name. Only a function that the user handed in is pickled, into the run folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from bioimage_py.errors import InvalidArgumentError, MissingDependencyError, NotPortableError, StorageError
from bioimage_py.geometry import Blocking, Box, IdSet
from bioimage_py.kernels import CopyKernel, MovingKernel, kernel_for_road
from bioimage_py.runner.copy_work import CopyWork
from bioimage_py.runner.function_work import BlockFunctionWork, ItemFunctionWork
from bioimage_py.runner.run_folder import RunFolder
from bioimage_py.runner.work import PortableWork
from bioimage_py.sources import Source, SourceSpec, from_spec
from bioimage_py.sources.location import is_url

__all__ = ["load_work", "store_work"]


def store_work(work: PortableWork, folder: RunFolder) -> dict[str, Any]:
    """Return the work as plain JSON; a user's function goes into a file of the folder.

    Raises
    ------
    NotPortableError
        If an input, an output, the mask or the function exists in this process only.
    """
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
    if isinstance(work, BlockFunctionWork):
        return {
            "kind": "function",
            "function_check": _pickle(work.function, folder),
            "inputs": [_input(source) for source in work.inputs],
            "outputs": [_output(source) for source in work.outputs],
            "mask": None if work.mask is None else _input(work.mask),
            "halo": None if work.halo is None else list(work.halo),
            "keep_results": work.keep_results,
            **_blocks(work.blocking, work.group_shape, work.block_ids),
        }
    if isinstance(work, ItemFunctionWork):
        return {
            "kind": "map",
            "function_check": _pickle(work.function, folder),
            "keep_results": work.keep_results,
            "block_ids": work.block_ids.to_json(),
        }
    raise NotPortableError(f"{type(work).__name__} can be run locally only")


def load_work(stored: dict[str, Any], folder: RunFolder, threads: int, cache_bytes: int) -> PortableWork:
    """Make the work again from what `store_work` returned; inputs are opened for reading only."""
    ids = IdSet.from_json(stored["block_ids"])
    if stored["kind"] == "map":
        return ItemFunctionWork(_unpickle(stored, folder), ids, stored["keep_results"])
    inputs = [from_spec(spec).for_run(threads, cache_bytes) for spec in stored["inputs"]]
    outputs = [from_spec(spec).for_run(threads, 0) for spec in stored["outputs"]]
    mask = None if stored["mask"] is None else from_spec(stored["mask"]).for_run(threads, 0)
    roi = None if stored["roi"] is None else Box(tuple(stored["roi"][0]), tuple(stored["roi"][1]))
    blocking = Blocking(tuple(stored["shape"]), tuple(stored["block_shape"]), roi=roi)
    group_shape = tuple(stored["group_shape"])
    if stored["kind"] == "copy":
        kernel = CopyKernel(inputs[0], outputs[0], mask, stored["casting"])
        return CopyWork(_kernel(kernel, stored["moving"]), blocking, group_shape, ids)
    halo = None if stored["halo"] is None else tuple(stored["halo"])
    return BlockFunctionWork(
        _unpickle(stored, folder),
        inputs,
        outputs,
        mask,
        blocking,
        group_shape,
        halo,
        ids,
        stored["keep_results"],
    )


def _moving(kernel: CopyKernel | MovingKernel) -> dict[str, Any] | None:
    if isinstance(kernel, CopyKernel):
        return None
    options = kernel.options
    return {
        "road": kernel.match.road,
        "verify_encoded": options.verify_encoded,
        "output_is_new": options.output_is_new,
    }


def _kernel(fallback: CopyKernel, moving: dict[str, Any] | None) -> CopyKernel | MovingKernel:
    return fallback if moving is None else kernel_for_road(fallback, **moving)


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
            + (" (HDF5 files take one writer)" if "hdf5" in source.format.lower() else "")
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


def _pickle(function: Any, folder: RunFolder) -> str:
    """Write a function into the run folder and return the checksum of its pickle."""
    try:
        import cloudpickle
    except ImportError as error:
        raise MissingDependencyError(
            "sending a function to other processes needs cloudpickle: pip install cloudpickle"
        ) from error
    try:
        pickled = cloudpickle.dumps(function)
    except Exception as error:  # whatever the objects that the function holds raise
        raise NotPortableError(
            f"the function {getattr(function, '__name__', function)!r} cannot be sent to other processes: {error}. Make what it "
            "needs inside of it, or hand it over as files"
        ) from error
    folder.write_function(pickled)
    return hashlib.sha256(pickled).hexdigest()


def _unpickle(stored: dict[str, Any], folder: RunFolder) -> Any:
    import pickle

    pickled = folder.read_function()
    if hashlib.sha256(pickled).hexdigest() != stored["function_check"]:
        raise StorageError(f"{folder.function_file} is not as the run wrote it: it is damaged, or another's")
    # It is this user's own, nobody else can write into it, and it is what the run's plan says: all of that was checked.
    return pickle.loads(pickled)  # noqa: S301
