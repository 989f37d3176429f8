"""Copies in two passes: the voxels of one pass, every page decoded once, and no temporary store where nobody needs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import bioimage_py as bp
from bioimage_py.errors import InvalidArgumentError, RunnerError
from bioimage_py.operations import room_beside_path
from bioimage_py.runner import RunnerConfig
from bioimage_py.storage import this_process
from bioimage_py.wrapper import SimpleTransformationSource
from tests.counting import CountingSource
from tests.waiting import eventually

SHAPE, PAGE, CUBE = (32, 64, 64), (1, 64, 64), (8, 16, 16)
LIMIT = 48 * 2**10
HOW: dict[str, Any] = {"chunks": CUBE, "memory_limit": LIMIT}


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 60_000, SHAPE).astype("uint16")


@pytest.fixture
def pages(tmp_path: Path, image: np.ndarray) -> str:
    path = tmp_path / "in" / "pages.tif"
    path.parent.mkdir()
    tifffile.imwrite(path, image, compression="zlib", rowsperstrip=64)
    return str(path)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where outputs go: what is left behind is seen here."""
    found = tmp_path / "out"
    found.mkdir()
    return found


def left_in(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def temporary(place: Path) -> Path:
    (found,) = place.glob("*.rechunk-*")
    return found


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and "copied" not in p.name
    }


def config(place: Path, **more: Any) -> RunnerConfig:
    return RunnerConfig(tmp_root=place / "runs", retries=0, poll_interval=0.1, **more)


def decoded(counting: CountingSource) -> Counter[int]:
    """How often each page was touched."""
    return Counter(z for box in counting.reads for z in range(box.begin[0], box.end[0]))


@pytest.mark.parametrize("workers", [1, 2])
def test_every_page_is_decoded_once(place: Path, image: np.ndarray, workers: int) -> None:
    source = CountingSource(image, chunks=PAGE)
    limit = workers * LIMIT
    plan = bp.plan(source, place / "a.zarr", chunks=CUBE, memory_limit=limit, num_workers=workers)
    assert plan.passes is not None
    assert plan.passes.one_pass_reads > 3
    assert plan.peak_memory <= limit
    assert left_in(place) == []
    said: list[Any] = []
    out = bp.copy(
        source,
        place / "a.zarr",
        chunks=CUBE,
        memory_limit=limit,
        num_workers=workers,
        progress=said.append,
    )
    np.testing.assert_array_equal(out[...], image)
    assert set(decoded(source).values()) == {1}
    assert set(decoded(source)) == set(range(32))
    assert left_in(place) == ["a.zarr"]
    last = said[-1]
    assert last.blocks_done == last.blocks_total == plan.n_blocks + plan.passes.n_blocks
    assert last.bytes_done == last.bytes_total == 2 * image.nbytes
    assert (last.account.bytes_in, last.account.bytes_out) == (image.nbytes, image.nbytes)
    assert last.account.stages["writing"] > 0


def test_local_and_subprocess_and_one_pass_give_the_same_bytes(
    place: Path, pages: str, image: np.ndarray
) -> None:
    assert bp.plan(pages, place / "x.zarr", **HOW).passes is not None
    said: list[Any] = []
    bp.copy(pages, place / "local.zarr", **HOW)
    bp.copy(
        pages,
        place / "subprocess.zarr",
        **HOW,
        job_type="subprocess",
        job_config=config(place),
        num_workers=2,
        progress=said.append,
    )
    once = bp.copy(pages, place / "once.zarr", chunks=CUBE)
    np.testing.assert_array_equal(once[...], image)
    assert files_in(place / "local.zarr") == files_in(place / "once.zarr")
    assert files_in(place / "subprocess.zarr") == files_in(place / "once.zarr")
    assert left_in(place) == ["local.zarr", "once.zarr", "runs", "subprocess.zarr"]
    assert left_in(place / "runs") == []
    # Each worker decodes the pages of its own blocks, once.
    assert said[-1].account.bytes_in == image.nbytes


@pytest.mark.parametrize("name", ["out.n5", "out.zarr/deep/raw", "out.h5:/raw", "out.precomputed"])
def test_any_stored_output_will_do(place: Path, pages: str, image: np.ndarray, name: str) -> None:
    plan = bp.plan(pages, place / name, **HOW)
    assert plan.passes is not None
    out = bp.copy(pages, place / name, **HOW)
    np.testing.assert_array_equal(out[...], image)
    assert len(left_in(place)) == 1


def test_an_array_that_is_there_will_do_and_one_in_memory_will_not(
    place: Path, pages: str, image: np.ndarray
) -> None:
    there = bp.create_output(place / "there.zarr", like=image, chunks=CUBE)
    assert bp.plan(pages, there, memory_limit=LIMIT).passes is not None
    assert bp.copy(pages, there, memory_limit=LIMIT) is there
    np.testing.assert_array_equal(there[...], image)
    assert left_in(place) == ["there.zarr"]
    held = CountingSource(np.zeros_like(image), chunks=CUBE)
    plan = bp.plan(pages, held, memory_limit=LIMIT)
    assert plan.passes is None
    assert "no place beside it" in str(plan.hints[-1])
    away = bp.plan(pages, "memory://room/out.zarr", **HOW)
    assert away.passes is None
    assert "held in memory" in str(away.hints[-1])


@pytest.mark.parametrize("dtype", ["bool", "float16", "float64", "complex64", ">u2", "int64"])
def test_values_come_through_bit_by_bit(place: Path, image: np.ndarray, dtype: str) -> None:
    values = (image % 3).astype(dtype) if dtype == "bool" else image.astype(dtype)
    if values.dtype.kind in "fc":
        values[:8, :32] = -0.0
        values[8:] *= -1
        values[0, 0, 0] = np.nan
    size = values.dtype.itemsize
    source = CountingSource(values, chunks=PAGE)
    how = {"chunks": CUBE, "memory_limit": LIMIT * size // 2}
    assert bp.plan(source, place / "a.zarr", **how).passes is not None
    out = bp.copy(source, place / "a.zarr", **how)
    assert out[...].astype(dtype).tobytes() == values.tobytes()


def test_voxels_are_cast_as_in_one_pass(place: Path, image: np.ndarray) -> None:
    values = image / 7 - 3000
    source = CountingSource(values, chunks=PAGE)
    plan = bp.plan(source, place / "a.zarr", chunks=CUBE, dtype="uint8", memory_limit=3 * LIMIT)
    assert plan.passes is not None
    assert plan.passes.dtype == "uint8"
    with pytest.warns(UserWarning, match="cannot hold"):
        out = bp.copy(source, place / "a.zarr", chunks=CUBE, dtype="uint8", memory_limit=3 * LIMIT)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(out[...], values.astype("uint8"))


def test_a_voxel_that_does_not_fit_is_named_and_ends_the_run(place: Path, image: np.ndarray) -> None:
    values = np.full(SHAPE, 7, "uint16")
    values[19, 33, 50] = 300
    source = CountingSource(values, chunks=PAGE)
    how: dict[str, Any] = {**HOW, "dtype": "uint8", "casting": "check"}
    plan = bp.plan(source, place / "a.zarr", **how)
    assert plan.passes is not None
    with pytest.raises(RunnerError, match=r"voxel \(19, 33, 50\) is 300") as caught:
        bp.copy(source, place / "a.zarr", **how)
    found = re.search(r"In block (\d+)", str(caught.value))
    assert found
    block = int(found[1])
    assert block in caught.value.failed_block_ids
    assert all(b <= v < e for b, v, e in zip(*_span(plan.blocking[block]), strict=True)), (
        "the block does not hold the voxel"
    )
    assert left_in(place) == ["a.zarr"]


def _span(box: Any) -> tuple[Any, tuple[int, int, int], Any]:
    return box.begin, (19, 33, 50), box.end


def test_masked_blocks_go_through_neither_pass(place: Path, image: np.ndarray) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[9:11, 3:40, 5:50] = True
    source = CountingSource(image, chunks=PAGE)
    out = bp.create_output(place / "a.zarr", like=np.full(SHAPE, 9, "uint16"), chunks=CUBE)
    out[...] = 9
    plan = bp.plan(source, out, mask=mask, memory_limit=2 * LIMIT)
    assert plan.passes is not None
    bp.copy(source, out, mask=mask, memory_limit=2 * LIMIT)
    np.testing.assert_array_equal(out[...], np.where(mask, image, 9))
    assert set(decoded(source)) <= set(range(8, 12))
    assert max(decoded(source).values()) == 1


def test_some_blocks_take_the_pages_that_they_need(place: Path, image: np.ndarray) -> None:
    source = CountingSource(image, chunks=PAGE)
    plan = bp.plan(source, place / "a.zarr", **HOW)
    per_layer = plan.n_blocks // 4
    ids = range(per_layer, 2 * per_layer)
    out = bp.copy(source, place / "a.zarr", **HOW, block_ids=list(ids))
    np.testing.assert_array_equal(out[8:16], image[8:16])
    assert not out[:8].any()
    assert decoded(source) == Counter(range(8, 16))
    assert left_in(place) == ["a.zarr"]


def test_a_block_that_fails_in_the_first_pass_leaves_nothing_but_the_output(
    place: Path, image: np.ndarray
) -> None:
    broken = CountingSource(
        image, chunks=PAGE, fails=lambda box: OSError("bad page") if box.begin[0] == 20 else None
    )
    plan = bp.plan(broken, place / "a.zarr", **HOW)
    with pytest.raises(RunnerError, match=r"in the first of two passes: OSError: bad page") as caught:
        bp.copy(broken, place / "a.zarr", **HOW)
    assert list(caught.value.failed_block_ids) == list(range(plan.n_blocks))
    assert caught.value.tmp_folder is None
    assert left_in(place) == ["a.zarr"]
    broken.fails = lambda _: None
    out = bp.open_source(place / "a.zarr", mode="r+")
    bp.copy(broken, out, memory_limit=LIMIT, block_ids=caught.value.failed_block_ids)
    np.testing.assert_array_equal(out[...], image)


def test_a_refused_run_leaves_nothing(place: Path, pages: str) -> None:
    (place / "file").touch()
    refused = RunnerConfig(tmp_root=place / "file" / "below")
    with pytest.raises(InvalidArgumentError, match="no run folder can be made"):
        bp.copy(pages, place / "a.zarr", **HOW, job_type="subprocess", job_config=refused)
    assert left_in(place) == ["file"]


class Once:
    """Fails for one page as long as a file is there."""

    def __init__(self, flag: Path, number: int) -> None:
        self.flag, self.number = str(flag), number

    def __call__(self, voxels: np.ndarray) -> np.ndarray:
        if os.path.exists(self.flag) and (voxels[:, 0, 0] == self.number).any():  # noqa: PTH110
            raise ValueError("not yet")
        return voxels


@pytest.mark.parametrize(
    ("job_type", "how_to_finish"),
    [("local", "resume"), ("subprocess", "resume_from")],
)
def test_a_run_folder_keeps_the_temporary_store_until_the_run_is_finished(
    tmp_path: Path, place: Path, image: np.ndarray, job_type: str, how_to_finish: str
) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    image[:, 0, 0] = np.arange(32)
    stored = bp.copy(image, tmp_path / "in.zarr", chunks=PAGE)
    source = SimpleTransformationSource(stored, Once(flag, 20))
    said: dict[str, Any] = {**HOW, "job_type": job_type, "job_config": config(place)}
    plan = bp.plan(source, place / "a.zarr", **said)
    assert plan.passes is not None
    with pytest.raises(RunnerError, match="not yet") as caught:
        bp.copy(source, place / "a.zarr", **said)
    error = caught.value
    kept = temporary(place)
    assert f"the temporary store {str(kept)!r} is kept for that" in str(error)
    assert list(error.failed_block_ids) == list(range(plan.n_blocks))
    with pytest.raises(RunnerError, match="in the first of two passes") as again:
        bp.resume(error.tmp_folder)
    assert again.value.failed_block_ids == error.failed_block_ids
    assert temporary(place) == kept
    flag.unlink()
    if how_to_finish == "resume":
        bp.resume(error.tmp_folder)
    else:
        bp.copy(source, place / "a.zarr", **said, resume_from=error.tmp_folder)
    np.testing.assert_array_equal(bp.open_source(place / "a.zarr")[...], image)
    assert left_in(place) == ["a.zarr", "runs"]
    assert left_in(place / "runs") == []


def test_a_run_whose_temporary_store_is_gone_is_not_continued(
    tmp_path: Path, place: Path, image: np.ndarray
) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    image[:, 0, 0] = np.arange(32)
    source = SimpleTransformationSource(bp.copy(image, tmp_path / "in.zarr", chunks=PAGE), Once(flag, 20))
    with pytest.raises(RunnerError) as caught:
        bp.copy(source, place / "a.zarr", **HOW, job_config=config(place))
    temporary(place).rename(place / "elsewhere")
    folder = caught.value.tmp_folder
    with pytest.raises(InvalidArgumentError, match="is gone"):
        bp.resume(folder)
    with pytest.raises(InvalidArgumentError, match="is gone"):
        bp.copy(source, place / "a.zarr", **HOW, job_config=config(place), resume_from=folder)


def test_what_a_killed_copy_left_is_removed_by_the_next_and_nothing_else(
    place: Path, pages: str, image: np.ndarray
) -> None:
    program = (
        "import os, sys, bioimage_py as bp\n"
        f"bp.copy({pages!r}, {str(place / 'a.zarr')!r}, chunks={CUBE}, memory_limit={LIMIT}, "
        "progress=lambda p: p.blocks_done > 1 and os.kill(os.getpid(), 9))\n"
    )
    killed = subprocess.run([sys.executable, "-c", program], check=False)
    assert killed.returncode == -signal.SIGKILL
    dead = temporary(place)
    maker = json.loads((dead / "zarr.json").read_text())
    others = {
        "a.zarr.rechunk-alive": {**this_process(), "resumable": False},
        "a.zarr.rechunk-resumable": {**this_process(), "pid": 2**22 + 1, "resumable": True},
    }
    # Of a run into the same output that was killed before it had a run folder, or cannot be finished any more.
    dead_run = {**this_process(), "pid": 2**22 + 1, "resumable": True, "output": str(place / "a.zarr")}
    elsewhere = {**dead_run, "output": str(place / "a.zarr") + ":other"}
    others["a.zarr.rechunk-elsewhere"] = elsewhere
    for name, said in {**others, "a.zarr.rechunk-dead": dead_run}.items():
        (place / name).mkdir()
        maker["attributes"] = {"bioimage_py temporary store": said}
        (place / name / "zarr.json").write_text(json.dumps(maker))
    (place / "a.zarr.rechunk-of-mine").mkdir()
    out = bp.copy(pages, place / "a.zarr", **HOW, overwrite=True)
    np.testing.assert_array_equal(out[...], image)
    assert left_in(place) == ["a.zarr", *sorted([*others, "a.zarr.rechunk-of-mine"])]


PROGRAM = """
import sys, time, numpy as np, bioimage_py as bp
from bioimage_py.wrapper import SimpleTransformationSource
def slow(voxels):
    time.sleep(0.05)
    return voxels
stored, out, folder = sys.argv[1:]
config = bp.RunnerConfig(tmp_root=folder or None)
source = SimpleTransformationSource(bp.open_source(stored), slow)
how = {"chunks": (8, 16, 16), "memory_limit": 65536, "job_config": config}
print(bp.plan(source, out, **how).n_blocks, flush=True)
try:
    bp.copy(source, out, **how)
except KeyboardInterrupt as error:
    print(len(error.done_block_ids), len(error.failed_block_ids), error.tmp_folder, error, flush=True)
"""


@pytest.mark.parametrize("keeps_folder", [False, True])
def test_ctrl_c(tmp_path: Path, place: Path, image: np.ndarray, keeps_folder: bool) -> None:
    bp.copy(image, tmp_path / "in.zarr", chunks=PAGE)
    folder = str(place / "runs") if keeps_folder else ""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "in.zarr"), str(place / "a.zarr"), folder],
        stdout=subprocess.PIPE,
        text=True,
    )
    eventually(lambda: list(place.glob("*.rechunk-*/c/*")))
    process.send_signal(signal.SIGINT)
    n_blocks, done, failed, tmp_folder, *words = process.communicate()[0].split()
    assert (done, failed) == ("0", n_blocks)
    assert f"interrupted: 0 of {n_blocks} blocks are done" in " ".join(words)
    if keeps_folder:
        assert temporary(place).is_dir()
        bp.resume(tmp_folder)
        np.testing.assert_array_equal(bp.open_source(place / "a.zarr")[...], image)
        assert left_in(place) == ["a.zarr", "runs"]
    else:
        assert "call again with block_ids=error.failed_block_ids" in " ".join(words)
        assert left_in(place) == ["a.zarr"]


def test_the_dry_run_says_so(place: Path, pages: str, capsys: pytest.CaptureFixture[str]) -> None:
    from bioimage_py.cli import main

    options = ["--chunks", "8,16,16", "--memory-limit", "48KiB", "--workers", "1", "--dry-run"]
    assert main(["copy", pages, str(place / "a.zarr"), *options]) == 0
    text = capsys.readouterr().out
    assert "passes:  2, because one would decode each chunk of the input" in text
    assert f"temp:    {place / 'a.zarr'}.rechunk-XXXXXXXX: at most 256 KiB" in text
    assert left_in(place) == []


def test_a_place_that_cannot_be_written_is_no_room(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bioimage_py.operations.two_passes.os.access", lambda *_: False)
    room = room_beside_path(str(place / "a.zarr"), {})
    assert room.place is None
    assert "nothing can be written" in room.why_not
