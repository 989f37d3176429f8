"""Making work again, in the process that does it, from what `portable` stored.

What a kind of work needs is imported when there is such work: twenty workers that start at once share the processors, and
to import numpy alone takes longer than many a task.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

from bioimage_py.geometry import IdSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from bioimage_py.geometry import Blocking
    from bioimage_py.runner.run import RunFolder
    from bioimage_py.runner.work.copying import CopyWork
    from bioimage_py.runner.work.temporary_place import TemporaryPlace
    from bioimage_py.runner.work.work import PortableWork
    from bioimage_py.storage import StoreFolder


def load_work(stored: dict[str, Any], folder: RunFolder, threads: int, cache_bytes: int) -> PortableWork:
    """Make the work again from what `store_work` returned; inputs are opened for reading only."""
    kind, ids = stored["kind"], IdSet.from_json(stored["block_ids"])
    if kind == "map":
        from bioimage_py.runner.work.items import ItemFunctionWork
        from bioimage_py.runner.work.pickled_function import load_function

        function = load_function(stored["function_check"], folder)
        return ItemFunctionWork(function, ids, stored["keep_results"], _order(stored))

    if kind == "composite":
        from bioimage_py.runner.work.composite import CompositeWork

        parts = _load_parts(stored["parts"], folder, threads, cache_bytes)
        waves = tuple(tuple(wave) for wave in stored["waves"])
        if stored.get("temporary") is None:
            return CompositeWork(parts, waves)
        from bioimage_py.runner.work.two_passes import TwoPassWork, place_of_run

        return TwoPassWork(parts, waves, cast("TemporaryPlace", place_of_run(stored)), stored["n_asked"])

    from bioimage_py.sources import from_spec

    inputs = [from_spec(spec).for_run(threads, cache_bytes) for spec in stored["inputs"]]
    outputs = [from_spec(spec).for_run(threads, 0) for spec in stored["outputs"]]
    mask = None if stored["mask"] is None else from_spec(stored["mask"]).for_run(threads, 0)
    blocking = _blocking(stored)
    group_shape = tuple(stored["group_shape"])
    if kind == "copy":
        from bioimage_py.kernels import CopyKernel, kernel_for_road
        from bioimage_py.runner.work.copying import CopyWork

        kernel = CopyKernel(inputs[0], outputs[0], mask, stored["casting"])
        moving = stored["moving"]
        return CopyWork(
            kernel if moving is None else kernel_for_road(kernel, **moving), blocking, group_shape, ids
        )

    if kind == "pyramid":
        from bioimage_py.kernels import PyramidKernel, mover_for
        from bioimage_py.runner.work.pyramid import PyramidWork

        maker = PyramidKernel(
            inputs[0],
            tuple(outputs),
            tuple(map(tuple, stored["steps"])),
            stored["method"],
            tuple(stored["tile_shape"]),
            stored["casting"],
            None if stored["moving"] is None else mover_for(inputs[0], outputs[0], **stored["moving"]),
        )
        return PyramidWork(maker, blocking, ids)

    from bioimage_py.runner.work.functions import BlockFunctionWork
    from bioimage_py.runner.work.pickled_function import load_function

    halo = None if stored["halo"] is None else tuple(stored["halo"])
    function = load_function(stored["function_check"], folder)
    keep = stored["keep_results"]
    order = _order(stored)
    return BlockFunctionWork(function, inputs, outputs, mask, blocking, group_shape, halo, ids, keep, order)


def _order(stored: dict[str, Any]) -> tuple[int, ...] | None:
    return None if stored["order"] is None else tuple(stored["order"])


def _load_parts(
    stored: list[dict[str, Any]], folder: RunFolder, threads: int, cache_bytes: int
) -> tuple[Any, ...]:
    """Make the parts of a run again: where they are many, each when its first block is due."""
    from bioimage_py.runner.work.deferred import MOST_OPEN, DeferredWork, WorkShelf

    if len(stored) <= MOST_OPEN or any(part["kind"] != "copy" for part in stored):
        return tuple(load_work(part, folder, threads, cache_bytes) for part in stored)
    shelf = WorkShelf()
    return tuple(
        DeferredWork(
            _blocking(part),
            tuple(part["group_shape"]),
            IdSet.from_json(part["block_ids"]),
            cast("Callable[[], CopyWork]", partial(load_work, part, folder, threads, cache_bytes)),
            shelf,
            _place(part["outputs"][0]),
        )
        for part in stored
    )


def _place(spec: dict[str, Any]) -> StoreFolder | None:
    """Return the folder of an output of a whole OME-Zarr."""
    from bioimage_py.sources import family_of

    return family_of(spec["kind"]).folder_of(spec)


def _blocking(stored: dict[str, Any]) -> Blocking:
    from bioimage_py.geometry import Blocking, Box

    roi = None if stored["roi"] is None else Box(tuple(stored["roi"][0]), tuple(stored["roi"][1]))
    return Blocking(tuple(stored["shape"]), tuple(stored["block_shape"]), roi=roi)
