"""`durable=True`: a block is recorded only after its voxels were forced to the disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import RunnerError, StorageError
from bioimage_py.geometry import IdSet
from bioimage_py.runner import RunnerConfig
from bioimage_py.runner.run import AttemptJournal, RunFolder, read_block_logs
from bioimage_py.sources import base
from bioimage_py.storage import remove_leftovers
from bioimage_py.system import sync_file_system
from tests.runner.test_subprocess import stored


def recorded(folder: Path) -> IdSet:
    return read_block_logs(sorted(folder.glob("**/attempts/*.blocks")))


def test_nothing_is_recorded_before_it_is_on_the_disk(tmp_path: Path) -> None:
    folder = RunFolder.make(tmp_path)
    seen: list[IdSet] = []
    with AttemptJournal(folder, 0, 0, settle=lambda: seen.append(recorded(tmp_path))) as journal:
        for block_id in range(5):
            journal.done_with(block_id, block_id)
        assert not recorded(tmp_path)
    assert [list(ids) for ids in seen] == [[]]
    assert list(recorded(tmp_path)) == [0, 1, 2, 3, 4]


def test_what_the_disk_refuses_is_not_recorded(tmp_path: Path) -> None:
    def refuse() -> None:
        raise OSError(5, "Input/output error")

    folder = RunFolder.make(tmp_path)
    with (
        pytest.raises(StorageError, match="Input/output"),
        AttemptJournal(folder, 0, 0, settle=refuse) as journal,
    ):
        journal.done([1, 2])
    assert not recorded(tmp_path)


def test_a_durable_copy_forces_the_file_system_of_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced: list[str] = []

    def force(path: str) -> None:
        forced.append(path)
        sync_file_system(path)

    monkeypatch.setattr(base, "sync_file_system", force)
    image = np.arange(4096, dtype="uint16").reshape(64, 64)
    source = stored(tmp_path, "in.zarr", image, chunks=(16, 16))
    for config in (RunnerConfig(durable=True), RunnerConfig(durable=True, tmp_root=tmp_path / "runs")):
        forced.clear()
        out = bp.copy(source, tmp_path / "out.zarr", overwrite=True, job_config=config, num_workers=2)
        np.testing.assert_array_equal(out[...], image)
        assert set(forced) == {str(tmp_path / "out.zarr")}
    forced.clear()
    bp.copy(source, tmp_path / "fast.zarr", num_workers=2)
    assert not forced


def test_a_disk_that_refuses_fails_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise OSError(5, "Input/output error", path)

    monkeypatch.setattr(base, "sync_file_system", refuse)
    source = stored(tmp_path, "in.zarr", np.ones((8, 8), "uint8"), chunks=(4, 4))
    for where in (None, tmp_path / "runs"):
        config = RunnerConfig(durable=True, tmp_root=where)
        with pytest.raises(RunnerError, match="Input/output") as caught:
            bp.copy(source, tmp_path / "out.zarr", overwrite=True, job_config=config)
        assert list(caught.value.failed_block_ids) == [0]
        assert caught.value.tmp_folder is not None


def test_half_written_files_are_known_by_their_names(tmp_path: Path) -> None:
    kept = ["zarr.json", "c/0/0", "c/0/1.partial", "c/0/x.__lock", "c/0/12.5.7"]
    gone = [
        "c/0/3_98877fe66808764c.__lock",
        "c/0/3.d3c7bcefa7694464bb95c7333e3279c1.partial",
        "zarr_98877fe66808764c.__lock",
    ]
    for name in (*kept, *gone):
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    assert remove_leftovers(str(tmp_path)) == len(gone)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == sorted(kept)
