"""Blocks that are left in the middle: the next attempt goes on where the last one stopped, and writes nothing again."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bioimage_py.geometry import Box, IdSet
from bioimage_py.kernels import BlockUnits, CopyKernel, MoveOptions, moving_kernel, write_units
from bioimage_py.sources import open_source
from tests.kernels.stored import Storing, files_below, make, store
from tests.sources.contract import textured

SHAPE = (18, 11, 13)
SOME = [(slice(0, 10), slice(0, 5), slice(0, 13)), (slice(12, 16), slice(5, 11), slice(6, 12))]
FLAT = Storing("v3")
SHARDS = replace(FLAT, shards=(8, 10, 6))
WAYS = {
    "chunks": (FLAT, replace(FLAT, kind="v2")),
    "into shards": (FLAT, SHARDS),
    "shards as they are": (SHARDS, SHARDS),
    "out of shards": (SHARDS, FLAT),
    "missing chunks are written": (FLAT, replace(FLAT, kind="v2", fill=7)),
    "missing shards are written": (FLAT, replace(SHARDS, fill=7)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("replaces", [False, True])
def test_a_block_that_is_stopped_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, replaces: bool
) -> None:
    chance = random.Random(f"{way} {replaces}")
    first, second = WAYS[way]
    source = store(tmp_path / "in", first, textured(SHAPE, "uint16"), SOME)
    paths = [tmp_path / "out", tmp_path / "at once"]
    for path in paths:
        if replaces:
            store(path, second, textured(SHAPE, "uint16") + 1)
        else:
            make(path, second, SHAPE, "uint16")
    kernel, at_once = (
        moving_kernel(
            CopyKernel(source, open_source(path, mode="r+")), MoveOptions(output_is_new=not replaces)
        )
        for path in paths
    )
    box = Box((0, 0, 0), (16, 11, 13))
    at_once.copy_box(box)
    for seconds, most_cells in ((1.0, 4096), (0.0, 4096), (1.0, 12)):
        monkeypatch.setattr(write_units, "_RUN_SECONDS", seconds)
        monkeypatch.setattr(write_units, "_MOST_CELLS", most_cells)
        done, n_bytes, whole, attempts = IdSet(), 0, False, 0
        written: dict[str, int] = {}
        while not whole:
            looks, recorded = itertools.count(-(chance.randrange(2, 50) if attempts else 3)), list[IdSet]()
            known = BlockUnits(done, recorded.append, lambda looks=looks: next(looks) >= 0)  # type: ignore[misc]
            more, whole = kernel.copy_units(box, known)
            done, n_bytes, attempts = (
                IdSet(run for ids in [done, *recorded] for run in ids.runs),
                n_bytes + more,
                attempts + 1,
            )
            now = {name: (paths[0] / name).stat().st_mtime_ns for name in files_below(paths[0])}
            if seconds == 1.0 and most_cells == 4096 and not replaces:
                assert all(now[name] == at for name, at in written.items())
                written = now
        assert attempts > 1
        assert n_bytes == box.size * 2
        assert files_below(paths[0]) == files_below(paths[1])
    np.testing.assert_array_equal(open_source(paths[0])[...], open_source(paths[1])[...])


def test_what_is_finished_is_recorded_also_where_a_chunk_is_damaged(tmp_path: Path) -> None:
    from bioimage_py.errors import StorageError

    source = store(tmp_path / "in", FLAT, textured(SHAPE, "uint16"))
    (tmp_path / "in" / "c" / "2" / "0" / "1").write_bytes(b"x")
    output = open_source(make(tmp_path / "out", FLAT, SHAPE, "uint16"), mode="r+")
    recorded = list[IdSet]()
    with pytest.raises(StorageError, match="cannot be copied"):
        moving_kernel(CopyKernel(source, output)).copy_units(
            Box.whole(SHAPE), BlockUnits(record=recorded.append)
        )
    assert recorded == [IdSet.from_range(2 * 9 + 1)]
    assert recorded[0].runs[-1][1] == len(files_below(tmp_path / "out"))


@pytest.mark.parametrize("shape", [(1, 1), (4, 100, 100), (70, 70, 1, 3), (5000,), ()])
def test_a_slab_is_a_run_of_numbers(shape: tuple[int, ...]) -> None:
    units = write_units.UnitsOfBox(shape, (1,) * len(shape), Box.whole(shape), BlockUnits())
    at = 0
    for slab in units.slabs():
        numbers = [units._number(position) for position in itertools.product(*map(range, *slab))]
        assert numbers == list(range(at, at + slab.size))
        assert slab.size <= 4096
        at += slab.size
    assert at == max(1, int(np.prod(shape)))
