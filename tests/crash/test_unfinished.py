"""What a copy leaves that did not come to its end: a mark, a run that knows its input and output, and nothing that cannot be removed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import BioimagePyWarning, InvalidArgumentError, OutputExistsError, RunnerError
from bioimage_py.runner import RunnerConfig
from bioimage_py.runner.run import RunFolder
from bioimage_py.sources import create_output, open_source
from bioimage_py.sources.stores import MARK_FOLDER, unfinished_text
from bioimage_py.wrapper import SimpleTransformationSource

IMAGE = np.arange(1, 8 * 8 * 8 + 1, dtype="uint16").reshape(8, 8, 8)
CALL: dict[str, Any] = {"block_shape": (4, 8, 8), "chunks": (4, 8, 8)}
OUTPUTS = {
    "zarr v3": ("out.zarr", {}),
    "zarr v2": ("out.zarr", {"zarr_format": 2}),
    "an array in a group": ("group.zarr/a/b", {}),
    "n5": ("out.n5/raw", {}),
    "precomputed": ("out.precomputed", {}),
    "ome-zarr": ("out.ome.zarr", {}),
}


class Torn:
    """An input whose second block cannot be read until it is mended."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "in.zarr"
        bp.copy(IMAGE, self.path, chunks=(4, 8, 8))
        self._chunk = self.path / "c" / "1" / "0" / "0"
        self._good = self._chunk.read_bytes()
        self._chunk.write_bytes(b"torn")

    def mend(self) -> None:
        self._chunk.write_bytes(self._good)


@pytest.fixture
def torn(tmp_path: Path) -> Torn:
    return Torn(tmp_path)


def failed_run(torn: Torn, output: Any, tmp_path: Path, **call: Any) -> str:
    with pytest.raises(RunnerError) as caught:
        bp.copy(torn.path, output, job_config=RunnerConfig(tmp_root=tmp_path / "runs"), **{**CALL, **call})
    torn.mend()
    return str(caught.value.tmp_folder)


def marks_below(folder: Path) -> list[str]:
    """The folders of marks that hold anything but what the array was copied from."""
    kept = {p: [f.name for f in p.rglob("*") if f.is_file()] for p in folder.rglob(f"{MARK_FOLDER}*")}
    return sorted(str(p.relative_to(folder)) for p, names in kept.items() if names != ["copied.json"])


def array_folder(output: Path, name: str) -> Path:
    return output / "0" if name == "ome-zarr" else output


# -- the output is the one it was


@pytest.mark.parametrize("how", ["removed", "made again", "overwritten", "written over"])
@pytest.mark.parametrize("name", OUTPUTS)
def test_a_run_is_not_resumed_into_another_output(tmp_path: Path, torn: Torn, name: str, how: str) -> None:
    path, options = OUTPUTS[name]
    output = tmp_path / path
    folder = failed_run(torn, output, tmp_path, **options)
    other = IMAGE + 1000
    if how == "removed":
        shutil.rmtree(output)
    elif how == "made again":
        shutil.rmtree(output)
        create_output(output, like=IMAGE, chunks=(4, 8, 8), **options)
    elif how == "overwritten":
        bp.copy(other, output, overwrite=True, chunks=(4, 8, 8), **options)
    else:
        bp.copy(other, open_source(output, mode="r+"))
    before = {p: p.read_bytes() for p in output.rglob("*") if p.is_file()}
    with pytest.raises((InvalidArgumentError, bp.errors.SourceNotFoundError)):
        bp.resume(folder)
    with pytest.raises((InvalidArgumentError, bp.errors.SourceNotFoundError)):
        bp.copy(torn.path, output, resume_from=folder, **CALL, **options)
    assert {p: p.read_bytes() for p in output.rglob("*") if p.is_file()} == before


@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
@pytest.mark.parametrize("name", OUTPUTS)
def test_what_others_add_does_not_matter(tmp_path: Path, torn: Torn, name: str) -> None:
    zarr = pytest.importorskip("zarr")
    path, options = OUTPUTS[name]
    output = tmp_path / path
    folder = failed_run(torn, output, tmp_path, **options)
    array = open_source(output, mode="r+")
    if array.kind == "zarr":
        version = 2 if options.get("zarr_format") == 2 else 3
        handle = zarr.open_array(array_folder(output, name), zarr_format=version, mode="r+")
        handle.attrs["somebody"] = {"contrast": [0, 9]}
    if name in ("an array in a group", "ome-zarr"):
        top = tmp_path / path.split("/")[0]
        bp.copy(IMAGE, top / "another")
        zarr.consolidate_metadata(top)
    bp.resume(folder)
    np.testing.assert_array_equal(open_source(output)[...], IMAGE)
    assert marks_below(output) == []


def test_a_run_into_an_array_that_was_there_knows_it(tmp_path: Path, torn: Torn) -> None:
    output = create_output(tmp_path / "out.zarr", like=IMAGE, chunks=(4, 8, 8))
    folder = failed_run(torn, output, tmp_path, chunks=None)
    assert marks_below(tmp_path / "out.zarr") == [MARK_FOLDER]
    # What another run writes beside it is its own affair.
    bp.copy(IMAGE, output, block_shape=(4, 8, 8), block_ids=[0])
    bp.resume(folder)
    np.testing.assert_array_equal(output[...], IMAGE)
    assert marks_below(tmp_path / "out.zarr") == []


def test_a_finished_run_whose_folder_was_kept_knows_its_output(tmp_path: Path) -> None:
    bp.copy(IMAGE, tmp_path / "in.zarr", chunks=(4, 8, 8))
    config = RunnerConfig(tmp_root=tmp_path / "runs", keep_run_folder=True)
    bp.copy(tmp_path / "in.zarr", tmp_path / "out.zarr", job_config=config, **CALL)
    (folder,) = (tmp_path / "runs").iterdir()
    assert marks_below(tmp_path / "out.zarr") == []
    assert bp.resume(folder) is None
    bp.copy(IMAGE + 1, tmp_path / "out.zarr", overwrite=True, **CALL)
    with pytest.raises(InvalidArgumentError, match="removed, replaced or overwritten"):
        bp.resume(folder)


def test_an_output_that_is_replaced_under_the_run_is_told(tmp_path: Path) -> None:
    bp.copy(IMAGE, tmp_path / "in.zarr", chunks=(4, 8, 8))
    out = tmp_path / "out.zarr"

    def replace(values: Any) -> Any:
        if not (tmp_path / "old.zarr").exists():
            out.rename(tmp_path / "old.zarr")
            create_output(out, like=IMAGE, chunks=(4, 8, 8))
        return values

    source = SimpleTransformationSource(open_source(tmp_path / "in.zarr"), replace, dtype="uint16")
    with pytest.raises((bp.errors.StorageError, RunnerError)):
        bp.copy(source, out, job_config=RunnerConfig(tmp_root=tmp_path / "runs"), **CALL)


def test_an_object_store_knows_its_output(bucket: str, tmp_path: Path, torn: Torn) -> None:
    del bucket
    folder = failed_run(torn, "s3://lab/known/out.zarr", tmp_path)
    bp.copy(IMAGE + 1, "s3://lab/known/out.zarr", overwrite=True, **CALL)
    with pytest.raises(InvalidArgumentError, match="removed, replaced or overwritten"):
        bp.resume(folder)
    torn = Torn(tmp_path / "again")
    bp.resume(failed_run(torn, "s3://lab/known/two.zarr", tmp_path))
    np.testing.assert_array_equal(open_source("s3://lab/known/two.zarr")[...], IMAGE)


def test_an_object_store_says_what_is_not_finished(bucket: str, tmp_path: Path, torn: Torn) -> None:
    del bucket
    url = "s3://lab/unfinished/out.zarr"
    with pytest.raises(RunnerError):
        bp.copy(torn.path, url, **CALL)
    torn.mend()
    with pytest.warns(BioimagePyWarning, match="is not finished: 1 of 2 blocks; the same call begins anew"):
        open_source(url)
    with pytest.warns(BioimagePyWarning, match="begins anew: "):
        bp.copy(torn.path, url, **CALL)
    np.testing.assert_array_equal(open_source(url)[...], IMAGE)


# -- the input is the one it was


def _rewrite_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", IMAGE + 1)
    os.utime(tmp_path / "in.npy", (1, 1))


def _rewrite_zarr(tmp_path: Path) -> None:
    bp.copy(IMAGE + 1, tmp_path / "in.zarr", overwrite=True, chunks=(4, 8, 8))
    os.utime(tmp_path / "in.zarr" / "zarr.json", (1, 1))


def _touch_a_slice(tmp_path: Path) -> None:
    os.utime(tmp_path / "slices" / "3.tif", (1, 1))


@pytest.mark.parametrize(
    ("name", "change"),
    [("in.npy", _rewrite_npy), ("in.zarr", _rewrite_zarr), ("slices", _touch_a_slice)],
)
def test_a_run_is_not_resumed_on_another_input(
    tmp_path: Path, name: str, change: Callable[[Path], None]
) -> None:
    tifffile = pytest.importorskip("tifffile")
    np.save(tmp_path / "in.npy", IMAGE)
    bp.copy(IMAGE, tmp_path / "in.zarr", chunks=(4, 8, 8))
    (tmp_path / "slices").mkdir()
    for n, plane in enumerate(IMAGE):
        tifffile.imwrite(tmp_path / "slices" / f"{n}.tif", plane)
    works = tmp_path / "works"

    def second(values: Any) -> Any:
        if values.max() > 300 and not works.exists():
            raise ValueError("not yet")
        return values

    source = SimpleTransformationSource(open_source(tmp_path / name), second, dtype="uint16")
    with pytest.raises(RunnerError) as caught:
        bp.copy(source, tmp_path / "out.zarr", job_config=RunnerConfig(tmp_root=tmp_path / "runs"), **CALL)
    works.touch()
    before = {p: p.read_bytes() for p in (tmp_path / "out.zarr").rglob("*") if p.is_file()}
    change(tmp_path)
    with pytest.raises(
        InvalidArgumentError, match=r"(?s)cannot be continued.*voxels stored in .* UTC|names, sizes"
    ):
        bp.resume(str(caught.value.tmp_folder))
    assert {p: p.read_bytes() for p in (tmp_path / "out.zarr").rglob("*") if p.is_file()} == before


# -- marks of what is not finished


@pytest.mark.parametrize("name", OUTPUTS)
def test_what_is_not_finished_says_so_until_it_is(tmp_path: Path, torn: Torn, name: str) -> None:
    path, options = OUTPUTS[name]
    output = tmp_path / path
    with pytest.raises(RunnerError, match="call again"):
        bp.copy(torn.path, output, **CALL, **options)
    said = "not finished: 1 of 2 blocks; the same call continues"
    with pytest.warns(BioimagePyWarning, match=said):
        assert unfinished_text(open_source(output)) == said
    with pytest.raises(
        OutputExistsError, match="another call has begun it: options casting was unsafe and is check"
    ):
        bp.copy(torn.path, output, casting="check", **CALL, **options)
    torn.mend()
    bp.copy(torn.path, open_source(output, mode="r+"), block_shape=(4, 8, 8), block_ids=[0])
    assert unfinished_text(open_source(output, mode="r+")) == said
    seen: list[bp.Progress] = []
    bp.copy(torn.path, output, progress=seen.append, **CALL, **options)
    assert seen[-1].account is not None
    assert (seen[-1].account.blocks_before, seen[-1].account.blocks) == (1, 2)
    assert marks_below(tmp_path) == []
    np.testing.assert_array_equal(open_source(output)[...], IMAGE)
    with pytest.raises(OutputExistsError):
        bp.copy(torn.path, output, **CALL, **options)


def test_missing_blocks_that_are_named_finish_an_output_too(tmp_path: Path, torn: Torn) -> None:
    output = tmp_path / "out.zarr"
    with pytest.raises(RunnerError) as caught:
        bp.copy(torn.path, output, **CALL)
    torn.mend()
    ids = list(caught.value.failed_block_ids)
    bp.copy(torn.path, open_source(output, mode="r+"), block_shape=(4, 8, 8), block_ids=ids)
    np.testing.assert_array_equal(open_source(output)[...], IMAGE)
    with pytest.raises(OutputExistsError):
        bp.copy(torn.path, output, **CALL)
    assert marks_below(tmp_path) == []


def test_a_copy_of_everything_finishes_whatever_was_missing(tmp_path: Path, torn: Torn) -> None:
    output = tmp_path / "out.zarr"
    with pytest.raises(RunnerError):
        bp.copy(torn.path, output, **CALL)
    bp.copy(IMAGE, open_source(output, mode="r+"))
    assert marks_below(output) == []


@pytest.mark.parametrize("name", OUTPUTS)
def test_others_read_what_is_being_written(tmp_path: Path, name: str) -> None:
    zarr = pytest.importorskip("zarr")
    path, options = OUTPUTS[name]
    bp.copy(IMAGE, tmp_path / "in.zarr", chunks=(4, 8, 8))
    seen = []

    def look(values: Any) -> Any:
        seen.append(marks_below(tmp_path / path) != [])
        if open_source(tmp_path / path, mode="r+").kind == "zarr":
            top = tmp_path / path.split("/")[0]
            if "/" in path or name == "ome-zarr":
                seen.append(len([*zarr.open_group(top, mode="r").members(max_depth=None)]) > 0)
            else:
                seen.append(zarr.open_array(top, mode="r").shape == IMAGE.shape)
        return values

    source = SimpleTransformationSource(open_source(tmp_path / "in.zarr"), look, dtype="uint16")
    bp.copy(source, tmp_path / path, **CALL, **options)
    assert seen
    assert all(seen)
    assert marks_below(tmp_path) == []


def test_all_arrays_of_an_image_are_marked(tmp_path: Path) -> None:
    bp.pyramid(IMAGE, tmp_path / "in.ome.zarr", levels=2, chunks=(4, 4, 4))
    assert marks_below(tmp_path) == []
    (tmp_path / "in.ome.zarr/1/c/0/0/0").write_bytes(b"torn")
    with pytest.raises(RunnerError) as caught:
        bp.copy(tmp_path / "in.ome.zarr", tmp_path / "out.ome.zarr", codec="gzip", block_shape=(4, 4, 4))
    assert marks_below(tmp_path) == [f"out.ome.zarr/{n}/{MARK_FOLDER}" for n in (0, 1)]
    bp.pyramid(IMAGE, tmp_path / "good.ome.zarr", levels=2, chunks=(4, 4, 4))
    shutil.copy(tmp_path / "good.ome.zarr/1/c/0/0/0", tmp_path / "in.ome.zarr/1/c/0/0/0")
    ids = list(caught.value.failed_block_ids)
    bp.copy(tmp_path / "in.ome.zarr", tmp_path / "out.ome.zarr", block_shape=(4, 4, 4), block_ids=ids)
    assert marks_below(tmp_path) == []


@pytest.mark.parametrize("output", ["out.zarr", "out.ome.zarr", "out.n5/raw"])
def test_what_a_dead_process_only_began_is_made_again(tmp_path: Path, output: str) -> None:
    code = """
    import os, sys
    import numpy as np
    import bioimage_py as bp
    from bioimage_py.operations import Job
    Job.run = lambda *_: os._exit(9)
    bp.copy(np.ones((8, 8, 8), "uint16"), sys.argv[1])
    """
    ended = subprocess.run([sys.executable, "-c", "if True:" + code, str(tmp_path / output)], check=False)
    assert ended.returncode == 9
    assert "not finished" in unfinished_text(open_source(tmp_path / output, mode="r+"))
    made = bp.copy(IMAGE, tmp_path / output)
    np.testing.assert_array_equal(made[...], IMAGE)
    assert marks_below(tmp_path) == []


def test_what_a_dead_process_has_written_into_is_not(tmp_path: Path) -> None:
    output = create_output(tmp_path / "out.zarr", like=IMAGE)
    dead = {"host": os.uname().nodename, "pid": 2**22 + 1, "born": 1, "grid": None, "missing": None}
    (tmp_path / "out.zarr" / MARK_FOLDER).mkdir()
    (tmp_path / "out.zarr" / MARK_FOLDER / "unfinished.json").write_text(json.dumps(dead))
    output[...] = IMAGE
    with pytest.raises(OutputExistsError, match="not finished"):
        bp.copy(IMAGE, tmp_path / "out.zarr")
    bp.copy(IMAGE + 1, tmp_path / "out.zarr", overwrite=True)
    assert marks_below(tmp_path) == []


# -- what killed processes had begun


def test_run_folders_that_dead_processes_began_go(tmp_path: Path) -> None:
    code = """
    import os, sys
    from pathlib import Path
    from bioimage_py.runner.run import RunFolder
    RunFolder.make(Path(sys.argv[1]))
    os._exit(9)
    """
    subprocess.run([sys.executable, "-c", "if True:" + code, str(tmp_path)], check=False)
    assert len([*tmp_path.iterdir()]) == 1
    mine = RunFolder.make(tmp_path)
    assert [*tmp_path.iterdir()] == [mine.path]
    mine.appear()
    assert [path.name for path in tmp_path.iterdir()] == [mine.path.name]
    assert mine.path.name.startswith("bioimage-run-")


def test_what_a_dead_process_had_set_aside_goes_with_the_next_replacement(tmp_path: Path) -> None:
    bp.copy(IMAGE, tmp_path / "out.zarr")
    aside = tmp_path / f".out.zarr.replaced-{2**22 + 1}"
    shutil.copytree(tmp_path / "out.zarr", aside)
    stays = tmp_path / ".out.zarr.replaced-by-me"
    stays.mkdir()
    bp.copy(IMAGE + 1, tmp_path / "out.zarr", overwrite=True)
    assert (aside.exists(), stays.exists()) == (False, True)


def test_what_a_dead_process_had_set_aside_goes_where_nothing_took_its_place_yet(tmp_path: Path) -> None:
    aside = tmp_path / f".out.zarr.replaced-{2**22 + 1}"
    bp.copy(IMAGE, aside / "a.zarr")
    bp.copy(IMAGE + 1, tmp_path / "out.zarr")
    assert aside.exists()  # nobody said that the old one may go
    shutil.rmtree(tmp_path / "out.zarr")
    bp.copy(IMAGE + 1, tmp_path / "out.zarr", overwrite=True)
    assert not aside.exists()


@pytest.mark.parametrize("verb", ["pyramid", "copy"])
@pytest.mark.parametrize("both", [False, True])
def test_levels_that_a_dead_process_had_set_aside_are_not_in_the_way(
    tmp_path: Path, verb: str, both: bool
) -> None:
    source, output = tmp_path / "in.ome.zarr", tmp_path / "out.ome.zarr"
    bp.pyramid(IMAGE, source, levels=2, chunks=(4, 4, 4))
    bp.pyramid(IMAGE + 1, output, levels=2, chunks=(4, 4, 4))
    for level in ("0", "1") if both else ("0",):
        (output / level).rename(output / f".{level}.replaced-{2**22 + 1}")
    if verb == "pyramid":
        bp.pyramid(IMAGE, output, levels=2, chunks=(4, 4, 4), overwrite=True)
    else:
        bp.copy(source, output, overwrite=True)
    assert sorted(path.name for path in output.iterdir()) == ["0", "1", "zarr.json"]
    np.testing.assert_array_equal(open_source(output)[...], IMAGE)


# -- the end of a run


class Died(BaseException):
    """Stands for the end of a process: nothing catches it."""


def run_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, function: str) -> Path:
    """Run a copy until it calls a function for the first time, and return its run folder."""

    def die(*_: Any) -> None:
        raise Died

    bp.copy(IMAGE, tmp_path / "in.zarr", chunks=(4, 8, 8))
    with monkeypatch.context() as patched:
        patched.setattr(where + "." + function, die)
        with pytest.raises(Died):
            bp.copy(
                tmp_path / "in.zarr",
                tmp_path / "out.zarr",
                job_config=RunnerConfig(tmp_root=tmp_path / "runs"),
                **CALL,
            )
    (folder,) = (tmp_path / "runs").iterdir()
    return folder


@pytest.mark.parametrize(
    ("where", "function"),
    [
        ("bioimage_py.runner.base", "finish_outputs"),
        ("bioimage_py.runner.run.output_marks", "remove_run_mark"),
        ("bioimage_py.runner.run.run_folder.RunFolder", "remove"),
    ],
)
def test_a_run_that_dies_after_its_last_block_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, function: str
) -> None:
    folder = run_that_dies(tmp_path, monkeypatch, where, function)
    assert bp.resume(folder) is None
    assert [*(tmp_path / "runs").iterdir()] == []
    assert marks_below(tmp_path) == []
    np.testing.assert_array_equal(open_source(tmp_path / "out.zarr")[...], IMAGE)


def test_a_run_that_dies_anywhere_in_the_removal_of_its_folder_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run_that_dies(tmp_path, monkeypatch, "bioimage_py.runner.run.run_folder.RunFolder", "remove")
    folder = tmp_path / made.name
    for last in range(100):
        shutil.copytree(made, folder)
        left = [last]

        def until_it_dies(call: Callable[..., None], left: list[int] = left) -> Callable[..., None]:
            def counted(*args: Any, **options: Any) -> None:
                if not left[0]:
                    raise Died
                left[0] -= 1
                call(*args, **options)

            return counted

        with monkeypatch.context() as patched:
            for name in ("unlink", "rmdir"):
                patched.setattr(os, name, until_it_dies(getattr(os, name)))
            try:
                RunFolder.open(folder).remove()
            except Died:
                pass
            else:
                break
        assert folder.exists()
        assert bp.resume(folder) is None
        assert not folder.exists()
    assert 5 < last < 99
    assert not folder.exists()


def test_a_folder_that_is_not_the_rest_of_a_run_is_not_removed(tmp_path: Path) -> None:
    for name, files in (("bioimage-run-1", ["notes"]), ("other", ["finished.json"]), ("empty", [])):
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).touch()
        with pytest.raises(InvalidArgumentError, match=r"holds no run\.json"):
            bp.resume(tmp_path / name)
        assert (tmp_path / name).exists()


DIES_AT_THE_LAST_LOOK = """
import os, signal, sys
import numpy as np
import bioimage_py as bp
def look(progress):
    if progress.blocks_done == progress.blocks_total:
        os.kill(os.getpid(), signal.SIGKILL)
workers, out = int(sys.argv[1]), sys.argv[2]
bp.copy(np.ones((64, 64), "u2"), out, chunks=(16, 16), num_workers=workers, progress=look)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_copy_that_dies_in_the_last_call_of_progress_does_not_look_finished(
    tmp_path: Path, workers: int
) -> None:
    out = tmp_path / "out.zarr"
    words = [sys.executable, "-c", DIES_AT_THE_LAST_LOOK, str(workers), str(out)]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    assert unfinished_text(bp.open_source(out, mode="r+")).startswith("not finished")


def test_what_the_running_process_of_another_user_has_set_aside_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bp.copy(IMAGE, tmp_path / "out.zarr")
    aside = tmp_path / f".out.zarr.replaced-{2**22 + 1}"
    shutil.copytree(tmp_path / "out.zarr", aside)

    asked = os.kill

    def refused(pid: int, signal: int) -> None:
        if pid != os.getpid():
            raise PermissionError(pid, signal)
        asked(pid, signal)

    monkeypatch.setattr(os, "kill", refused)
    bp.copy(IMAGE, tmp_path / "out.zarr", overwrite=True)
    assert aside.exists()
