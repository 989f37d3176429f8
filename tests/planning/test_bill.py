"""What plans say of files, operations, requests and their price, and that runs ask for no more."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.planning import ArrayLayout, CopyPlan, PlanOptions, plan_copy
from tests.s3_lab import s3_lab


def huge(store: str = "disk", **how: object) -> CopyPlan:
    """A copy of 2 TB in chunks of 64³, of which there are 4,096,000."""
    shape, chunks = (10_240, 10_240, 10_000), (64, 64, 64)
    source = ArrayLayout("a", "zarr v3", shape, np.dtype("uint16"), chunks, store=store)
    output = ArrayLayout("b", "zarr v3", shape, np.dtype("uint16"), chunks, store=store, **how)  # type: ignore[arg-type]
    return plan_copy(source, output, None, PlanOptions())


def test_a_disk_is_asked_for_names_and_its_inodes_are_counted() -> None:
    plan = huge(metadata_files=("zarr.json",), can_shard=True)
    n = 160 * 160 * 157
    bill = plan.to_json()["bill"]
    assert bill["files"] == plan.n_files == n
    assert bill["inodes"] == n + 160 + 160 * 160 + 2 + 1
    assert 9 * n < bill["metadata_operations"] < 9.1 * n
    assert bill["hours"] == pytest.approx(10, rel=0.01)
    text = str(plan)
    assert "bill:    at most 4,044,963 inodes, zarr.json among them; about 36," in text
    assert " h 5 min at 1,000 per second" in text
    assert (
        "hint:    4,019,200 files are many for most file systems; shards=(512, 512, 256) would make 16,000"
        in text
    )
    assert "<th" in plan._repr_html_()
    assert "inodes" in plan._repr_html_()


def test_an_object_store_is_asked_for_requests_which_cost_money() -> None:
    plan = huge("s3")
    n = 160 * 160 * 157
    assert (plan.bill.put_requests, plan.bill.get_requests, plan.bill.inodes) == (n, n, 0)
    assert plan.bill.dollars == pytest.approx(n * 5.4e-6)
    said = "about $22 at $0.005 per 1,000 PUT, $0.0004 per 1,000 GET, as Amazon lists them"
    assert f"bill:    at most 4,019,200 PUT and 4,019,200 GET requests: {said}" in str(plan)
    assert "$" not in str(huge("gs"))


def test_small_copies_say_nothing_of_it(tmp_path: Path) -> None:
    bp.copy(np.zeros((64, 64, 64), "uint8"), tmp_path / "a.zarr", chunks=(16, 16, 16))
    plan = bp.plan(tmp_path / "a.zarr", tmp_path / "b.zarr", zarr_format=2)
    assert plan.bill.metadata_files == {".zarray": 1, ".zattrs": 1}
    assert "bill" not in str(plan)
    assert bp.plan(np.zeros((8, 8))).bill.files == 0


def test_the_files_of_all_arrays_count(tmp_path: Path) -> None:
    bp.pyramid(np.zeros((64, 64, 64), "uint8"), tmp_path / "a.ome.zarr", chunks=(16, 16, 16), levels=2)
    plan = bp.pyramid_plan(tmp_path / "a.ome.zarr", tmp_path / "b.ome.zarr", chunks=(16, 16, 16), levels=2)
    whole = bp.plan(tmp_path / "a.ome.zarr", tmp_path / "c.ome.zarr")
    assert plan.bill.files == whole.bill.files == plan.n_files == 64 + 8
    assert whole.bill.metadata_files == {"zarr.json": 2}


@pytest.mark.parametrize("name", ["a.zarr", "a.n5"])
def test_files_and_folders_are_those_that_a_copy_makes(tmp_path: Path, name: str) -> None:
    image = np.ones((16, 32, 64), "uint8")
    plan = bp.plan(image, tmp_path / name, chunks=(8, 8, 8))
    bp.copy(image, tmp_path / name, chunks=(8, 8, 8))
    found = [tmp_path / name, *(tmp_path / name).rglob("*")]
    folders = sum(path.is_dir() for path in found)
    unnamed = 1 if name == "a.n5" else 0  # positions in N5 share no folder
    assert plan.bill.folders - unnamed == folders
    assert plan.bill.inodes - unnamed == len(found)


def test_s3_gets_no_more_requests_than_the_plan_says() -> None:
    image = np.random.default_rng(0).integers(0, 2000, (64, 64, 64)).astype("uint16")
    with s3_lab() as lab:
        bp.copy(image, "s3://lab/bill/in.zarr", chunks=(16, 16, 16), codec="zstd:1")
        for how in ({}, {"codec": "zstd:5"}, {"shards": (32, 32, 32)}):
            plan = bp.plan("s3://lab/bill/in.zarr", "s3://lab/bill/out.zarr", overwrite=True, **how)
            lab.asked.clear()
            bp.copy("s3://lab/bill/in.zarr", "s3://lab/bill/out.zarr", overwrite=True, **how)
            put = [key for key in lab.of("PUT", "bill/out.zarr") if "/.bioimage-py/" not in key]
            assert len(put) == plan.bill.put_requests == plan.n_files + 1
            assert len(lab.of("GET", "bill/in.zarr/c/")) == plan.bill.get_requests == 64


def test_operations_on_files_are_about_as_many_as_the_plan_says(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    image = np.random.default_rng(0).integers(0, 2000, (64, 64, 64)).astype("uint16")
    bp.copy(image, tmp_path / "in.zarr", chunks=(8, 16, 16), codec="zstd:1")
    options = {"codec": "zstd:5", "chunks": (8, 16, 16)}
    plan = bp.plan(tmp_path / "in.zarr", tmp_path / "out.zarr", **options)
    program = f"import bioimage_py as bp; bp.copy('in.zarr', 'out.zarr', **{options!r})"
    # The account lists the folders of a small array, and looks at each file by its path: neither counts here.
    calls = "trace=open,openat,creat,close,rename,renameat,renameat2,mkdir,mkdirat,fstat"
    command = [strace, "-f", "-y", "-e", calls, "-o", "log", sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    if "ptrace" in done.stderr.lower():
        pytest.skip(f"strace cannot be used here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "log").read_text(encoding="utf-8", errors="replace").splitlines()
    begun = [
        line for line in lines if re.search(r"(in|out)\.zarr/c(/|\"|>)", line) and "resumed>" not in line
    ]
    asked = len(begun) - 2 * sum("O_NONBLOCK" in line for line in begun)
    # Threads that make the same folder at once ask a little more.
    assert 0.7 < asked / plan.bill.metadata_operations < 1.5
