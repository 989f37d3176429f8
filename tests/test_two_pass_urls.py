"""Copies in two passes into object stores: the bytes of one pass, and no object of the temporary store is left."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import bioimage_py as bp
from bioimage_py.errors import BioimagePyWarning, InvalidArgumentError, RunnerError
from bioimage_py.geometry import Box, IdSet
from bioimage_py.operations import room_beside_path
from bioimage_py.runner import RunnerConfig
from bioimage_py.runner.run import RunFolder, read_block_logs, read_recorded
from bioimage_py.runner.work import TemporaryPlace
from bioimage_py.storage import this_process, url_options
from bioimage_py.wrapper import SimpleTransformationSource
from tests.counting import CountingSource
from tests.test_two_pass_copy import Once
from tests.waiting import eventually

# Eight blocks in either pass, and 32 objects between them: each request takes its time.
SHAPE, PAGE, CUBE = (16, 32, 32), (1, 32, 32), (8, 16, 16)
LIMIT, WRAPPED_LIMIT, MASKED_LIMIT = 22 * 2**10, 30 * 2**10, 36 * 2**10
HOW: dict[str, Any] = {"chunks": CUBE, "memory_limit": LIMIT}
WRAPPED: dict[str, Any] = {"chunks": CUBE, "memory_limit": WRAPPED_LIMIT}


class Lab:
    """What is in the bucket 'lab' below the folder of a test."""

    def __init__(self, endpoint: str, folder: str) -> None:
        import boto3

        self.endpoint, self.folder = endpoint, folder
        self.url = f"s3://lab/{folder}"
        self.client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")

    def objects(self, below: str = "") -> dict[str, bytes]:
        beginning = f"{self.folder}/{below}"
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket="lab", Prefix=beginning)
        keys = [found["Key"] for page in pages for found in page.get("Contents", ())]
        return {
            key.removeprefix(beginning): self.client.get_object(Bucket="lab", Key=key)["Body"].read()
            for key in keys
            if "/.bioimage-py/copied" not in key  # it tells when
        }

    def folders(self) -> list[str]:
        return sorted({name.split("/")[0] for name in self.objects()})

    def temporary(self) -> list[str]:
        return [name for name in self.folders() if ".rechunk-" in name]

    def put(self, name: str, data: bytes) -> None:
        self.client.put_object(Bucket="lab", Key=f"{self.folder}/{name}", Body=data)


@pytest.fixture
def lab(bucket: str, tmp_path: Path) -> Iterator[Lab]:
    found = Lab(bucket, f"two-passes/{tmp_path.name}")
    yield found
    found.client.close()


@pytest.fixture
def image() -> np.ndarray:
    made = np.random.default_rng(0).integers(0, 60_000, SHAPE).astype("uint16")
    made[:, 0, 0] = np.arange(SHAPE[0])
    return made


@pytest.fixture
def stored(tmp_path: Path, image: np.ndarray) -> bp.Source:
    found: bp.Source = bp.copy(image, tmp_path / "in.zarr", chunks=PAGE)
    return found


def config(tmp_path: Path, **more: Any) -> RunnerConfig:
    return RunnerConfig(tmp_root=tmp_path / "runs", retries=0, poll_interval=0.1, **more)


def test_every_page_is_decoded_once_and_the_objects_are_those_of_one_pass(
    lab: Lab, image: np.ndarray
) -> None:
    source = CountingSource(image, chunks=PAGE)
    plan = bp.plan(source, f"{lab.url}/twice.zarr", **HOW)
    assert plan.passes is not None
    assert plan.passes.place == f"{lab.url}/twice.zarr.rechunk-XXXXXXXX"
    assert not lab.objects()
    bp.copy(source, f"{lab.url}/twice.zarr", **HOW)
    assert Counter(z for box in source.reads for z in range(box.begin[0], box.end[0])) == Counter(range(16))
    bp.copy(image, f"{lab.url}/once.zarr", chunks=CUBE)
    assert lab.objects("twice.zarr/") == lab.objects("once.zarr/")
    assert lab.folders() == ["once.zarr", "twice.zarr"]


@pytest.mark.parametrize("name", ["out.n5/deep/raw", "out.precomputed"])
def test_other_formats_will_do(lab: Lab, stored: bp.Source, image: np.ndarray, name: str) -> None:
    out = bp.copy(stored, f"{lab.url}/{name}", **HOW)
    np.testing.assert_array_equal(out[...], image)
    assert len(lab.folders()) == 1


def test_worker_processes_give_the_same_objects(lab: Lab, stored: bp.Source, tmp_path: Path) -> None:
    how = {**HOW, "job_type": "subprocess", "job_config": config(tmp_path), "num_workers": 2}
    assert bp.plan(stored, f"{lab.url}/twice.zarr", **how).passes is not None
    bp.copy(stored, f"{lab.url}/twice.zarr", **how)
    bp.copy(stored, f"{lab.url}/once.zarr", chunks=CUBE)
    assert lab.objects("twice.zarr/") == lab.objects("once.zarr/")
    assert lab.folders() == ["once.zarr", "twice.zarr"]
    assert not list((tmp_path / "runs").iterdir())


def test_the_temporary_store_is_reached_as_the_output_is(
    lab: Lab, stored: bp.Source, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    bp.create_output(f"{lab.url}/a.zarr", like=stored, chunks=CUBE)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    out = bp.open_source(f"{lab.url}/a.zarr", mode="r+", endpoint=lab.endpoint, region="us-east-1")
    plan = bp.plan(stored, out, memory_limit=LIMIT)
    assert plan.passes is not None
    assert plan.passes.options == url_options({"endpoint": lab.endpoint, "region": "us-east-1"})
    bp.copy(stored, out, memory_limit=LIMIT)
    np.testing.assert_array_equal(out[...], image)
    assert lab.folders() == ["a.zarr"]


def test_where_there_is_no_place_beside_it(lab: Lab, stored: bp.Source) -> None:
    import tensorstore as ts

    assert room_beside_path("s3://lab/a.zarr", {}).place == "s3://lab/a.zarr.rechunk-XXXXXXXX"
    whole = room_beside_path("s3://lab", {})
    assert whole.place is None
    assert whole.why_not == "the output takes all of s3://lab: there is no place beside it"
    bp.create_output(f"{lab.url}/a.zarr", like=stored, chunks=CUBE)
    kvstore = {"driver": "s3", "bucket": "lab", "path": f"{lab.folder}/a.zarr/", "endpoint": lab.endpoint, "aws_region": "us-east-1"}  # fmt: skip
    live = bp.plan(stored, ts.open({"driver": "zarr3", "kvstore": kvstore}).result(), memory_limit=LIMIT)
    assert live.passes is None
    assert "a live handle on a URL" in str(live.hints[-1])


@pytest.mark.parametrize("fails_in", [1, 2])
def test_a_run_that_fails_without_a_folder_leaves_the_output_alone(
    lab: Lab, image: np.ndarray, fails_in: int
) -> None:
    reads = {1: (10,), 2: (8, 16, 16)}[fails_in]

    def fails(box: Box) -> BaseException | None:
        return OSError("bad page") if reads in (box.begin[:1], box.shape) else None

    source = CountingSource(image, chunks=PAGE)
    mask = CountingSource(np.ones(SHAPE, bool), chunks=PAGE, fails=fails)
    out = bp.create_output(f"{lab.url}/a.zarr", like=image, chunks=CUBE)
    plan = bp.plan(source, out, mask=mask, memory_limit=MASKED_LIMIT)
    assert plan.passes is not None
    with pytest.raises(RunnerError, match="bad page") as caught:
        bp.copy(source, out, mask=mask, memory_limit=MASKED_LIMIT)
    assert list(caught.value.failed_block_ids) == list(range(8))
    assert ("in the first of two passes" in str(caught.value)) == (fails_in == 1)
    assert lab.folders() == ["a.zarr"]


def test_a_run_folder_keeps_the_temporary_store_until_the_run_is_finished(
    lab: Lab, stored: bp.Source, tmp_path: Path, image: np.ndarray
) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    source = SimpleTransformationSource(stored, Once(flag, 10))
    said: dict[str, Any] = {**WRAPPED, "job_type": "subprocess", "job_config": config(tmp_path)}
    with pytest.raises(RunnerError, match="not yet") as caught:
        bp.copy(source, f"{lab.url}/a.zarr", **said)
    (kept,) = lab.temporary()
    assert f"the temporary store '{lab.url}/{kept}' is kept for that" in str(caught.value)
    flag.unlink()
    bp.copy(source, f"{lab.url}/a.zarr", **said, resume_from=caught.value.tmp_folder)
    np.testing.assert_array_equal(bp.open_source(f"{lab.url}/a.zarr")[...], image)
    assert lab.folders() == ["a.zarr"]
    assert not list((tmp_path / "runs").iterdir())


def test_a_run_whose_temporary_store_is_gone_is_not_continued(
    lab: Lab, stored: bp.Source, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    source = SimpleTransformationSource(stored, Once(flag, 10))
    with pytest.raises(RunnerError) as caught:
        bp.copy(source, f"{lab.url}/a.zarr", **WRAPPED, job_config=config(tmp_path))
    (kept,) = lab.temporary()
    TemporaryPlace(f"{lab.url}/{kept}").remove()
    assert not lab.temporary()
    with pytest.raises(InvalidArgumentError, match="is gone"):
        bp.resume(caught.value.tmp_folder)


PROGRAM = """
import sys, time, bioimage_py as bp
from bioimage_py.operations import room_beside_path
from bioimage_py.wrapper import SimpleTransformationSource
def slow(voxels):
    time.sleep(0.1)
    return voxels
stored, mask, out, job_type, runs = sys.argv[1:]
keeps = {"tmp_root": runs, "keep_run_folder": True} if runs else {}
try:
    bp.copy(
        bp.open_source(stored), out, mask=SimpleTransformationSource(bp.open_source(mask), slow), chunks=(8, 16, 16),
        memory_limit=36864, job_type=job_type, num_workers=2 if job_type == "subprocess" else 1,
        job_config=bp.RunnerConfig(**keeps, poll_interval=0.05, retries=0),
    )
except KeyboardInterrupt as error:
    print(error)
"""


class Started:
    """A copy with a slow mask in a process of its own."""

    def __init__(self, stored: bp.Source, out: str, job_type: str, runs: Path | None) -> None:
        folder = Path(stored.path).parent
        bp.copy(np.ones(SHAPE, bool), folder / "mask.zarr", chunks=PAGE)
        self.runs = runs
        words = (stored.path, folder / "mask.zarr", out, job_type, runs or "")
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *map(str, words)], stdout=subprocess.PIPE, text=True
        )

    def done(self) -> IdSet:
        folders = [] if self.runs is None else list(self.runs.glob("*/run.json"))
        return read_recorded(RunFolder.open(folders[0].parent)).done if folders else IdSet()

    def wait_until(self, true: Any) -> None:
        eventually(lambda: self.process.poll() is not None or true(), pause=0.005)
        assert self.process.poll() is None

    def kill(self) -> None:
        root = psutil.Process(self.process.pid)
        for one in [*root.children(recursive=True), root]:
            one.kill()
        self.process.communicate()


@pytest.mark.parametrize(("job_type", "in_pass"), [("local", 1), ("subprocess", 2)])
def test_what_is_killed_is_resumed_and_nothing_is_done_twice(
    lab: Lab, stored: bp.Source, tmp_path: Path, job_type: str, in_pass: int
) -> None:
    out, runs = f"{lab.url}/out.zarr", tmp_path / "runs"
    mask = CountingSource(np.ones(SHAPE, bool), chunks=PAGE)
    plan = bp.plan(stored, out, mask=mask, chunks=CUBE, memory_limit=MASKED_LIMIT)
    assert plan.passes is not None
    n, m = plan.n_blocks, plan.passes.n_blocks
    started = Started(stored, out, job_type, runs)
    started.wait_until(lambda: len(started.done()) >= (3 if in_pass == 1 else m + 3))
    started.kill()
    first, second = IdSet.from_range(n + m, n), IdSet.from_range(n)
    done = started.done()
    if in_pass == 1:
        assert not done & second
    else:
        assert done & first == first
        assert 0 < len(done & second) < n
    assert len(lab.temporary()) == 1
    (folder,) = runs.iterdir()
    bp.resume(folder)
    assert lab.folders() == ["out.zarr"]
    logs = [read_block_logs([a.blocks]) for a in RunFolder.open(folder).attempts() if a.blocks.exists()]
    assert sum(map(len, logs)) == n + m, "a block that was recorded was done again"
    bp.copy(stored, f"{lab.url}/once.zarr", chunks=CUBE)
    assert lab.objects("out.zarr/") == lab.objects("once.zarr/")
    # The run died between the removal of the temporary store and that of its folder: there is nothing left to do.
    bp.resume(folder)
    assert not folder.exists()


@pytest.mark.parametrize("keeps_folder", [False, True])
def test_ctrl_c(lab: Lab, stored: bp.Source, tmp_path: Path, image: np.ndarray, keeps_folder: bool) -> None:
    runs = tmp_path / "runs" if keeps_folder else None
    started = Started(stored, f"{lab.url}/a.zarr", "local", runs)
    started.wait_until(lambda: [name for name in lab.objects() if ".rechunk-" in name and "/c/" in name])
    started.process.send_signal(signal.SIGINT)
    assert "interrupted: 0 of" in started.process.communicate()[0]
    if runs is None:
        assert lab.folders() == ["a.zarr"]
        return
    assert len(lab.temporary()) == 1
    (folder,) = runs.iterdir()
    bp.resume(folder)
    np.testing.assert_array_equal(bp.open_source(f"{lab.url}/a.zarr")[...], image)
    assert lab.folders() == ["a.zarr"]


def test_what_a_killed_copy_left_is_removed_by_the_next_and_nothing_else(
    lab: Lab, stored: bp.Source, image: np.ndarray
) -> None:
    started = Started(stored, f"{lab.url}/a.zarr", "local", None)
    started.wait_until(lambda: [name for name in lab.objects() if ".rechunk-" in name and "/c/" in name])
    started.kill()
    (dead,) = lab.temporary()
    maker = json.loads(lab.objects(f"{dead}/")["zarr.json"])
    others = {
        "a.zarr.rechunk-alive": {**this_process(), "resumable": False},
        "a.zarr.rechunk-resumable": {**this_process(), "pid": 2**22 + 1, "resumable": True},
    }
    for name, said in others.items():
        maker["attributes"] = {"bioimage_py temporary store": said}
        lab.put(f"{name}/zarr.json", json.dumps(maker).encode())
    lab.put("a.zarr.rechunk-of-mine/notes.txt", b"mine")
    lab.put("a.zarr.rechunked/notes.txt", b"mine")
    out = bp.copy(stored, f"{lab.url}/a.zarr", **HOW, overwrite=True)
    np.testing.assert_array_equal(out[...], image)
    left = ["a.zarr", *others, "a.zarr.rechunk-of-mine", "a.zarr.rechunked"]
    assert lab.folders() == sorted(left)


def test_a_store_that_does_not_let_go_of_it_is_said_in_a_warning() -> None:
    with pytest.warns(
        BioimagePyWarning, match=r"the temporary store .http.* cannot be removed: .* Remove it by hand"
    ):
        TemporaryPlace("http://127.0.0.1:1/a.zarr.rechunk-12345678").remove()
    with pytest.raises(ValueError, match="is not a temporary store"):
        TemporaryPlace("s3://lab/a.rechunk-1/a.zarr").remove()
