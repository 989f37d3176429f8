"""The same call, again, continues where a local copy was killed: nothing that was recorded is done twice."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import BioimagePyWarning, OutputExistsError, RunnerError, SourceNotFoundError
from bioimage_py.sources.stores import unfinished_text
from bioimage_py.wrapper import SimpleTransformationSource

DIES = """
import json, os, sys
import bioimage_py as bp
from bioimage_py.runner.run import AttemptJournal
done, left = AttemptJournal.done, [int(sys.argv[1])]
def counted(self, ids, n_bytes=0):
    done(self, ids, n_bytes)
    left[0] -= 1
    if left[0] == 0:
        os._exit(9)
AttemptJournal.done = counted
verb, source, output, options = json.loads(sys.argv[2])
getattr(bp, verb)(source, output, **options)
"""
IMAGE = np.random.default_rng(0).integers(1, 4000, (16, 32, 32)).astype("uint16")
PYRAMID: dict[str, Any] = {"levels": 2, "scale_factors": [2], "method": "stride"}
# Verb, input, output, options, and how many blocks are recorded when the process dies.
CALLS: dict[str, tuple[str, str, str, dict[str, Any], int]] = {
    "recode": (
        "copy",
        "in.zarr",
        "out.zarr",
        {"codec": "gzip:1", "chunks": [4, 16, 16], "block_shape": [4, 32, 32]},
        3,
    ),
    "npy": ("copy", "in.zarr", "out.npy", {"block_shape": [4, 32, 32]}, 3),
    "gzip": ("copy", "in.zarr", "out.nii.gz", {"block_shape": [16, 32, 4]}, 3),
    "whole image": ("copy", "in.ome.zarr", "out.ome.zarr", {"block_shape": [4, 16, 16]}, 9),
    "pyramid": (
        "pyramid",
        "in.zarr",
        "out.ome.zarr",
        {**PYRAMID, "chunks": [4, 16, 16], "block_shape": [8, 32, 32]},
        2,
    ),
}


def killed(folder: Path, name: str) -> dict[str, Any]:
    """Make a call in a process that dies early; return its arguments."""
    verb, source, output, options, n_blocks = CALLS[name]
    bp.copy(IMAGE, folder / "in.zarr", chunks=(4, 16, 16))
    bp.pyramid(IMAGE, folder / "in.ome.zarr", chunks=(4, 16, 16), **PYRAMID)
    call = [verb, str(folder / source), str(folder / output), options]
    ended = subprocess.run(
        [sys.executable, "-c", DIES, str(n_blocks), json.dumps(call)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 9, ended.stderr
    return {"input": call[1], "output": call[2], **options}


def chunk_times(folder: Path) -> dict[Path, int]:
    files = (
        path
        for path in folder.rglob("*")
        if path.is_file() and path.parent.parent.name not in (folder.name, ".bioimage-py")
    )
    return {
        path: path.stat().st_mtime_ns
        for path in files
        if ".bioimage-py" not in path.parts and path.name != "zarr.json"
    }


@pytest.mark.parametrize("name", [name for name in CALLS if name not in ("npy", "gzip")])
def test_the_same_call_does_the_rest_of_a_copy_that_was_killed(tmp_path: Path, name: str) -> None:
    call, (verb, *_, n_blocks) = killed(tmp_path, name), CALLS[name]
    output = Path(call["output"])
    with pytest.warns(BioimagePyWarning, match="is not finished: .* of .* blocks; the same call continues"):
        bp.open_source(output)
    before, seen = chunk_times(output), list[bp.Progress]()
    with pytest.raises(
        OutputExistsError, match="another call has begun it: options casting was unsafe and is check"
    ):
        getattr(bp, verb)(**call, casting="check")
    getattr(bp, verb)(**call, num_workers=2, progress=seen.append)
    assert seen[-1].account is not None
    assert seen[-1].account.blocks_before == n_blocks
    assert before.items() <= chunk_times(output).items()
    np.testing.assert_array_equal(bp.open_source(output)[...], IMAGE)
    with pytest.raises(OutputExistsError, match="already"):
        getattr(bp, verb)(**call)
    assert (
        not list(tmp_path.rglob("unfinished.json"))
        + list(tmp_path.rglob("*-run-*"))
        + list(tmp_path.glob("*.rechunk-*"))
    )


@pytest.mark.parametrize("name", ["npy", "gzip"])
def test_a_file_goes_on_under_its_temporary_name(tmp_path: Path, name: str) -> None:
    call = killed(tmp_path, name)
    output = Path(call["output"])
    with pytest.raises(SourceNotFoundError, match=r"not finished: .* of . blocks; the same call continues"):
        bp.open_source(output)
    for other in ({**call, "casting": "check"}, {"input": IMAGE, "output": output}):
        with pytest.raises(OutputExistsError, match="another call has begun it: "):
            bp.copy(**other)
    seen = list[bp.Progress]()
    bp.copy(**call, num_workers=2, progress=seen.append).close()
    assert seen[-1].account is not None
    assert seen[-1].account.blocks_before == 3
    np.testing.assert_array_equal(bp.open_source(output)[...], IMAGE)
    with pytest.raises(OutputExistsError, match="already"):
        bp.copy(**call)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.ome.zarr", "in.zarr", output.name]


def test_a_file_that_cannot_go_on_begins_anew(tmp_path: Path) -> None:
    call = killed(tmp_path, "npy")
    output, partial = Path(call["output"]), tmp_path / ".out.npy.partial"
    partial.unlink()
    with pytest.warns(BioimagePyWarning, match="begins anew: what it has written is gone"):
        bp.copy(**call)
    output.unlink()
    call = killed(tmp_path / "more", "npy")
    output = Path(call["output"])
    chunk = Path(call["input"], "c/0/0/0")
    chunk.rename(chunk.with_name("away"))
    chunk.with_name("away").rename(chunk)
    with pytest.warns(BioimagePyWarning, match="begins anew: its input has changed since"):
        bp.copy(**call)
    # A file that came under the name meanwhile is not replaced, and what a killed call has kept is of no use then.
    call = killed(tmp_path / "taken", "npy")
    np.save(call["output"], IMAGE[:1])
    with pytest.raises(OutputExistsError, match="is there already"):
        bp.copy(**call)
    np.testing.assert_array_equal(np.load(call["output"]), IMAGE[:1])
    assert not Path(f"{call['output']}.bioimage-py").exists()


@pytest.mark.parametrize("name", ["npy", "gzip"])
def test_a_file_that_has_its_name_is_finished(tmp_path: Path, name: str) -> None:
    bp.copy(IMAGE, tmp_path / "in.zarr", chunks=(4, 16, 16))
    call = [str(tmp_path / "in.zarr"), str(tmp_path / CALLS[name][2])]
    options = {**CALLS[name][3], "block_shape": IMAGE.shape, "num_workers": 2, "digest": True}
    dies = f"""
import os, bioimage_py as bp
from bioimage_py.kernels import TileDigest
TileDigest.store = lambda *_: os._exit(9)
bp.copy(*{call}, **{options})
"""
    ended = subprocess.run([sys.executable, "-c", dies], check=False, timeout=120)
    assert ended.returncode == 9
    bp.copy(*call, **options).close()
    assert bp.verify(call[1])
    assert not list(tmp_path.glob("*/.bioimage-py/unfinished.json"))


def test_a_file_in_which_blocks_failed_has_no_name_until_they_are_done(tmp_path: Path) -> None:
    bp.copy(IMAGE, tmp_path / "in.zarr", chunks=(4, 16, 16))
    chunk, output = tmp_path / "in.zarr/c/2/0/0", tmp_path / "out.npy"
    call: dict[str, Any] = {"block_shape": (4, 32, 32), "num_workers": 2, "digest": True}
    good = chunk.read_bytes()
    chunk.write_bytes(b"damaged")
    for _ in range(2):
        with pytest.raises(RunnerError, match="call again: what is done is not done again"):
            bp.copy(tmp_path / "in.zarr", output, **call)
    assert not output.exists()
    chunk.write_bytes(good)
    bp.copy(tmp_path / "in.zarr", output, **call).close()
    assert bp.verify(output)
    np.testing.assert_array_equal(np.load(output), IMAGE)


def test_what_may_have_changed_is_not_continued(tmp_path: Path) -> None:
    call = killed(tmp_path, "recode")
    output, mark = call["output"], Path(call["output"], ".bioimage-py/unfinished.json")
    said = mark.read_text()
    # Another process writes it: this one's parent stands for that.
    mark.write_text(json.dumps({**json.loads(said), "pid": os.getppid(), "born": None}))
    with pytest.raises(OutputExistsError, match=f"process {os.getppid()} on .* is writing it"):
        bp.copy(**call)
    mark.write_text(said)
    metadata = Path(call["input"], "zarr.json")
    times = metadata.stat()
    os.utime(metadata, (1, 1))
    with pytest.raises(
        OutputExistsError, match=r"voxels stored in .* was zarr.json of .* and is zarr.json of"
    ):
        bp.copy(**call)
    os.utime(metadata, ns=(times.st_atime_ns, times.st_mtime_ns))
    Path(output).rename(tmp_path / "moved.zarr")
    with pytest.raises(OutputExistsError, match=r"output was .*out.zarr.* and is .*moved.zarr"):
        bp.copy(**{**call, "output": str(tmp_path / "moved.zarr")})
    shutil.copytree(tmp_path / "moved.zarr", output)
    for journal in Path(output, ".bioimage-py").glob("run-*.json"):
        journal.write_bytes(b"torn")
    with pytest.warns(BioimagePyWarning, match="begins anew: its journal is damaged: .*is not JSON"):
        bp.copy(**call)
    shutil.rmtree(output)
    (tmp_path / "moved.zarr").rename(output)
    mark.write_text(json.dumps({**json.loads(said), "boot": "before"}))
    assert (
        unfinished_text(bp.open_source(output, mode="r+"))
        == "not finished: 0 of 4 blocks; the same call continues"
    )
    with pytest.warns(BioimagePyWarning, match="begins anew: the computer was started anew since"):
        bp.copy(**call)
    np.testing.assert_array_equal(bp.open_source(output)[...], IMAGE)


def test_a_copy_that_dies_before_its_digest_is_kept_is_not_finished(tmp_path: Path) -> None:
    bp.copy(IMAGE, tmp_path / "in.zarr", chunks=(4, 16, 16))
    call = [str(tmp_path / "in.zarr"), str(tmp_path / "out.zarr")]
    options: dict[str, Any] = {"block_shape": (16, 32, 32), "codec": "gzip:1", "digest": True}
    dies = f"""
import os, bioimage_py as bp
from bioimage_py.kernels import TileDigest
TileDigest.store = lambda *_: os._exit(9)
bp.copy(*{call}, **{options})
"""
    ended = subprocess.run([sys.executable, "-c", dies], check=False, timeout=120)
    assert ended.returncode == 9
    assert unfinished_text(bp.open_source(call[1], mode="r+"))
    bp.copy(*call, **options).close()
    assert bp.verify(call[1])


def test_what_is_left_of_a_new_group_goes(tmp_path: Path) -> None:
    bp.copy(IMAGE, tmp_path / "in.zarr", chunks=(4, 16, 16))
    call = [str(tmp_path / "in.zarr"), str(tmp_path / "out.n5/raw")]
    dies = f"""
import os, bioimage_py as bp
from bioimage_py.storage import new_files
new_files.replace = lambda *_: os._exit(9)
bp.copy(*{call})
"""
    ended = subprocess.run([sys.executable, "-c", dies], check=False, timeout=120)
    assert ended.returncode == 9
    (left,) = (tmp_path / "out.n5").iterdir()
    host = int(left.name[-40:-36], 16) ^ 1
    others = left.with_name(left.name.replace(left.name[-40:-36], f"{host:04x}"))  # on another computer
    shutil.copy(left, others)
    bp.copy(*call)
    assert {path.name for path in (tmp_path / "out.n5").iterdir()} == {"attributes.json", "raw", others.name}


def test_a_copy_in_two_passes_goes_on_in_its_first(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(1, 4000, (24, 160, 160), "u2")
    bp.copy(image, tmp_path / "in.zarr", chunks=(1, 160, 160))
    options: dict[str, Any] = {"chunks": [24, 16, 16], "memory_limit": "400KiB"}
    call = ["copy", str(tmp_path / "in.zarr"), str(tmp_path / "out.zarr"), options]
    assert bp.plan(*call[1:3], **options).passes is not None
    ended = subprocess.run([sys.executable, "-c", DIES, "1", json.dumps(call)], check=False, timeout=120)
    assert ended.returncode == 9
    assert not (tmp_path / "out.zarr/c").exists()
    host = zlib.crc32(platform.node().encode()) & 0xFFFF
    # What was killed as it wrote the mark anew.
    left = (
        tmp_path / f"out.zarr/.bioimage-py/unfinished.json.{host:04x}{0:012x}{2**31 - 1:08x}{0:08x}.partial"
    )
    left.touch()
    seen = list[bp.Progress]()
    bp.copy(*call[1:3], **options, progress=seen.append).close()
    assert seen[-1].account is not None
    assert seen[-1].account.blocks_before == 1
    np.testing.assert_array_equal(bp.open_source(call[2])[...], image)
    assert not left.exists()


def test_a_copy_of_what_a_function_computes_begins_anew(tmp_path: Path) -> None:
    broken = [True]

    def fails_once(voxels: Any) -> Any:
        if broken:
            raise ValueError("not yet")
        return voxels

    source = SimpleTransformationSource(IMAGE, fails_once, dtype="uint16")
    with pytest.raises(RunnerError, match="not yet"):
        bp.copy(source, tmp_path / "out.zarr", chunks=(4, 16, 16), num_workers=2)
    broken.clear()
    with pytest.warns(BioimagePyWarning, match="begins anew: its input is in memory"):
        bp.copy(source, tmp_path / "out.zarr", chunks=(4, 16, 16), num_workers=2)
    np.testing.assert_array_equal(bp.open_source(tmp_path / "out.zarr")[...], IMAGE)
