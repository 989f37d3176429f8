"""Whole OME-Zarrs in two passes: each level that needs them, the bytes of one pass, and nothing left beside the output."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import BioimagePyWarning, RunInterrupted, RunnerError
from bioimage_py.geometry import IdSet
from bioimage_py.planning import ImagePlan
from bioimage_py.runner import RunnerConfig
from bioimage_py.runner.run import RunFolder, read_block_logs, read_recorded, what_is_run
from bioimage_py.sources.stores import TensorStoreSource
from tests.sources import ome_groups
from tests.sources.ome_trees import files_in
from tests.test_two_pass_copy import left_in, temporary

CUBE, LIMIT = (8, 16, 16), 44 * 2**10
HOW: dict[str, Any] = {"chunks": CUBE, "memory_limit": LIMIT}
SHAPES = ((32, 64, 64), (32, 32, 32), (32, 16, 16))
KEYS = ["0", "1", "2", "labels/cells/0", "labels/cells/1"]


def in_pages(path: Path) -> None:
    """An image of three levels and labels of two, all in chunks of one page."""
    draw = np.random.default_rng(0)
    for place, shapes, content in (
        (path, SHAPES, {}),
        (path / "labels/cells", SHAPES[:2], {"image-label": {"source": {"image": "../../"}}}),
    ):
        if content:
            ome_groups.group(path / "labels", "0.5", {"labels": ["cells"]})
        entry = {"name": "pages", "axes": ome_groups.AXES, "datasets": ome_groups.datasets(len(shapes))}
        made = ome_groups.group(place, "0.5", {"multiscales": [entry], **content})
        for n, shape in enumerate(shapes):
            made.create_array(
                str(n),
                data=draw.integers(0, 60_000, shape).astype("uint16"),
                chunks=(1, *shape[1:]),
                dimension_names=tuple("zyx"),
            )


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "in.ome.zarr"
    in_pages(path)
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where outputs go: what is left behind is seen here."""
    found = tmp_path / "out"
    found.mkdir()
    return found


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, int]]:
    """How often each page of each array of the input is read in this process."""
    read, found = TensorStoreSource.read, Counter[tuple[str, int]]()

    def counted(self: Any, box: Any, *buffer: Any) -> Any:
        if self.path.endswith("in.ome.zarr"):
            found.update((self.key, z) for z in range(box.begin[0], box.end[0]))
        return read(self, box, *buffer)

    monkeypatch.setattr(TensorStoreSource, "read", counted)
    return found


def planned(image: Path, out: Path, **how: Any) -> ImagePlan:
    found = bp.plan(image, out, **how)
    assert isinstance(found, ImagePlan)
    return found


def in_two_passes(plan: ImagePlan) -> list[str]:
    return [array.key for array in plan.arrays if array.plan.passes is not None]


def config(place: Path, **more: Any) -> RunnerConfig:
    return RunnerConfig(tmp_root=place / "runs", retries=0, poll_interval=0.1, **more)


def test_levels_that_would_be_read_again_and_again_take_two_passes_and_others_one(
    image: Path, place: Path, pages: Counter[tuple[str, int]]
) -> None:
    plan = planned(image, place / "twice.ome.zarr", **HOW)
    assert in_two_passes(plan) == ["0", "labels/cells/0"]
    assert plan.peak_memory <= LIMIT
    assert left_in(place) == []
    said: list[Any] = []
    made = bp.copy(image, place / "twice.ome.zarr", **HOW, progress=said.append)
    assert made.key == "0"
    assert {pages[key, z] for key in ("0", "labels/cells/0") for z in range(32)} == {1}
    assert left_in(place) == ["twice.ome.zarr"]
    first = sum(array.plan.passes.n_blocks for array in plan.arrays if array.plan.passes)
    last = said[-1]
    assert last.blocks_done == last.blocks_total == plan.n_blocks + first
    assert last.bytes_done == last.bytes_total == plan.bytes_out + 2 * 2 * 32 * 64 * 64
    assert (last.account.bytes_in, last.account.bytes_out) == (plan.bytes_in, plan.bytes_out)
    bp.copy(image, place / "once.ome.zarr", chunks=CUBE)
    assert files_in(place / "twice.ome.zarr") == files_in(place / "once.ome.zarr")


@pytest.mark.parametrize(
    ("workers", "limit"), [(1, 32), (1, 40), (1, 44), (1, 64), (2, 56), (2, 100), (2, 200)]
)
def test_the_limit_holds_for_all_arrays_together(image: Path, place: Path, workers: int, limit: int) -> None:
    plan = planned(image, place / "a.ome.zarr", chunks=CUBE, memory_limit=limit * 2**10, num_workers=workers)
    assert plan.peak_memory <= limit * 2**10


def test_the_plan_says_so_and_so_does_its_json(image: Path, place: Path) -> None:
    plan = planned(image, place / "a.ome.zarr", **HOW)
    text = str(plan)
    assert "passes:  2 for 0, labels/cells/0, because one would decode each chunk of the input" in text
    assert f"temp:    {place / 'a.ome.zarr'}.rechunk-XXXXXXXX: at most 512 KiB before compression, in" in text
    plain = json.loads(json.dumps(plan.to_json()))
    assert plain["passes"] == 2
    assert [array["passes"] for array in plain["arrays"]] == [2, 1, 1, 2, 1]
    assert planned(image, place / "a.ome.zarr", chunks=CUBE).to_json()["passes"] == 1


@pytest.mark.parametrize(("room", "expected"), [(10**9, 2), (940_000, 1), (930_000, 0)])
def test_all_arrays_share_what_the_disk_has_left(
    image: Path, place: Path, monkeypatch: pytest.MonkeyPatch, room: int, expected: int
) -> None:
    usage = type("Usage", (), {"free": room})
    monkeypatch.setattr("bioimage_py.operations.two_passes.shutil.disk_usage", lambda _: usage)
    plan = planned(image, place / "a.ome.zarr", **HOW)
    assert plan.bytes_out == 671_744
    assert in_two_passes(plan) == ["0", "labels/cells/0"][:expected]
    assert (expected == 2) == (
        not any("the file system of the output has" in str(hint) for hint in plan.hints)
    )


def test_worker_processes_give_the_same_files(image: Path, place: Path) -> None:
    how = {**HOW, "job_type": "subprocess", "job_config": config(place), "num_workers": 2}
    assert in_two_passes(planned(image, place / "twice.ome.zarr", **how))
    bp.copy(image, place / "twice.ome.zarr", **how)
    bp.copy(image, place / "once.ome.zarr", chunks=CUBE)
    assert files_in(place / "twice.ome.zarr") == files_in(place / "once.ome.zarr")
    assert left_in(place) == ["once.ome.zarr", "runs", "twice.ome.zarr"]
    assert left_in(place / "runs") == []


def test_some_blocks_take_the_pages_that_they_need(
    image: Path, place: Path, pages: Counter[tuple[str, int]]
) -> None:
    out = place / "a.ome.zarr"
    plan = planned(image, out, **HOW)
    per_layer = plan.arrays[0].plan.n_blocks // 4
    made = bp.copy(image, out, **HOW, block_ids=list(range(per_layer, 2 * per_layer)))
    assert pages == Counter({("0", z): 1 for z in range(8, 16)})
    np.testing.assert_array_equal(made[8:16], bp.open_source(image, "0")[8:16])
    assert not made[:8].any()
    assert not made[16:].any()
    rest = [block for block in range(plan.n_blocks) if not per_layer <= block < 2 * per_layer]
    bp.copy(image, out, block_ids=rest, memory_limit=LIMIT)
    bp.copy(image, place / "once.ome.zarr", chunks=CUBE)
    assert files_in(out) == files_in(place / "once.ome.zarr")
    assert left_in(place) == ["a.ome.zarr", "once.ome.zarr"]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, BaseException], Callable[[], None]]:
    """Makes the reading of an array fail, from its second block on, in this process; gives what makes it sound again."""

    def fails(suffix: str, error: BaseException) -> Callable[[], None]:
        read, seen = TensorStoreSource.read, list[str]()

        def broken(self: Any, box: Any, *buffer: Any) -> Any:
            if self.name.endswith(suffix) and "once" not in self.name:
                seen.append(self.name)
                if len(seen) > 1:
                    raise error
            return read(self, box, *buffer)

        monkeypatch.setattr(TensorStoreSource, "read", broken)
        return lambda: monkeypatch.setattr(TensorStoreSource, "read", read)

    return fails


@pytest.mark.parametrize("how_to_finish", ["resume", "resume_from"])
def test_a_run_that_fails_in_the_second_pass_does_not_do_the_first_again(
    image: Path, place: Path, how_to_finish: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, folder = place / "a.ome.zarr", ""
    said = {**HOW, "job_config": config(place, keep_run_folder=True)}
    plan = planned(image, out, **said)
    n = plan.n_blocks
    m = sum(array.plan.passes.n_blocks for array in plan.arrays if array.plan.passes)
    read = TensorStoreSource.read

    def broken(self: Any, box: Any, *buffer: Any) -> Any:
        if ".rechunk-" in self.path and self.key == "labels/cells/0" and box.begin[0] == 8:
            raise OSError("bad disk")
        return read(self, box, *buffer)

    with monkeypatch.context() as patch:
        patch.setattr(TensorStoreSource, "read", broken)
        with pytest.raises(RunnerError, match=r"first failure is in labels/cells/0.*bad disk") as caught:
            bp.copy(image, out, **said)
    folder = str(caught.value.tmp_folder)
    kept = temporary(place)
    assert f"the temporary store {str(kept)!r} is kept for that" in str(caught.value)
    first, offset = IdSet.from_range(n + m, n), plan.offsets[3]
    done = read_recorded(RunFolder.open(folder)).done
    assert done & first == first
    assert set(caught.value.failed_block_ids) == set(IdSet.from_range(n) - done)
    assert {offset <= block < plan.offsets[4] for block in caught.value.failed_block_ids} == {True}
    work = RunFolder.open(folder).read_run()["work"]
    assert what_is_run(work) == f"copy {image} (0) to {out} (0), and 4 more, in two passes"
    if how_to_finish == "resume":
        bp.resume(folder)
    else:
        # How much room there is by now does not matter.
        monkeypatch.setattr("bioimage_py.operations.two_passes.os.access", lambda *_: False)
        bp.copy(image, out, **said, resume_from=folder)
    logs = [read_block_logs([a.blocks]) for a in RunFolder.open(folder).attempts() if a.blocks.exists()]
    assert sum(map(len, logs)) == n + m, "a block that was recorded was done again"
    assert left_in(place) == ["a.ome.zarr", "runs"]
    bp.copy(image, place / "once.ome.zarr", chunks=CUBE)
    assert files_in(out) == files_in(place / "once.ome.zarr")


@pytest.mark.parametrize("gone", [False, True])
def test_the_same_call_finishes_a_run_that_failed_in_the_first_pass(
    image: Path, place: Path, failing: Callable[[str, BaseException], Callable[[], None]], gone: bool
) -> None:
    out = place / "a.ome.zarr"
    sound = failing("in.ome.zarr:labels/cells/0", OSError("bad page"))
    words = r"first failure is in labels/cells/0.*in the first of two passes: .*bad page.* call again"
    with pytest.raises(RunnerError, match=words):
        bp.copy(image, out, **HOW)
    sound()
    if gone:
        shutil.rmtree(*place.glob("*.rechunk-*"))
        with pytest.warns(BioimagePyWarning, match="begins anew: its temporary store is gone"):
            bp.copy(image, out, **HOW)
    else:
        bp.copy(image, out, **HOW)
    assert left_in(place) == ["a.ome.zarr"]
    bp.copy(image, place / "once.ome.zarr", chunks=CUBE)
    assert files_in(out) == files_in(place / "once.ome.zarr")


def test_the_same_call_finishes_what_ctrl_c_stopped(image: Path, place: Path) -> None:
    def pressed(_: Any) -> None:
        if list(place.glob("*.rechunk-*/0/c/*")):
            raise KeyboardInterrupt

    with pytest.raises(RunInterrupted, match="Call again"):
        bp.copy(image, place / "a.ome.zarr", **HOW, progress=pressed)
    bp.copy(image, place / "a.ome.zarr", **HOW)
    assert left_in(place) == ["a.ome.zarr"]


def test_behind_a_url(image: Path, place: Path, bucket: str, tmp_path: Path) -> None:
    url = f"s3://lab/image-passes/{tmp_path.name}"
    how: dict[str, Any] = {"chunks": (8, 32, 32), "memory_limit": "96KiB"}
    plan = bp.plan(image, f"{url}/a.ome.zarr", **how)
    assert isinstance(plan, ImagePlan)
    assert in_two_passes(plan) == ["0", "labels/cells/0"]
    bp.copy(image, f"{url}/a.ome.zarr", **how)
    bp.copy(f"{url}/a.ome.zarr", place / "back.ome.zarr")
    bp.copy(image, place / "once.ome.zarr", chunks=how["chunks"])
    assert files_in(place / "back.ome.zarr") == files_in(place / "once.ome.zarr")
    import boto3

    client = boto3.client("s3", endpoint_url=bucket, region_name="us-east-1")
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket="lab", Prefix=f"image-passes/{tmp_path.name}/"
    )
    keys = [found["Key"] for page in pages for found in page["Contents"]]
    client.close()
    assert {key.split("/")[2] for key in keys} == {"a.ome.zarr"}


def test_what_a_killed_copy_left_is_removed_by_the_next(image: Path, place: Path) -> None:
    program = (
        "import os, bioimage_py as bp\n"
        f"bp.copy({str(image)!r}, {str(place / 'a.ome.zarr')!r}, chunks={CUBE}, memory_limit={LIMIT}, "
        "progress=lambda p: p.blocks_done > 1 and os.kill(os.getpid(), 9))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    assert (temporary(place) / "0" / "zarr.json").is_file()
    bp.copy(image, place / "a.ome.zarr", **HOW, overwrite=True)
    assert left_in(place) == ["a.ome.zarr"]
