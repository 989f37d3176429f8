"""Calls that cannot be right: each is told in a line that says what to do, and writes nothing."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import BioimagePyError
from tests.cli.conftest import Call

_COMMANDS = """\
copi a.npy x.zarr                               did you mean copy?
copy                                            required: INPUT, OUTPUT
copy a.npy                                      required: OUTPUT
copy nope.tif x.zarr                            there is no file or folder 'nope.tif'
copy a.npy a.zarr                               to replace it, give --overwrite
copy a.npy x.czi                                formats that can be written: Zarr
copy a.npy x                                    formats that can be written: Zarr
copy a.npy x.zarr --chunks 3,a                  such as 64,64,64
copy a.npy x.zarr --chunks 4,4                  has 2 axes, but the array has 3
copy a.npy x.zarr --chunks 4 --shards 5         must be a multiple of the chunks
copy a.npy x.zarr --codec zstandard             choose one of none, zstd
copy a.npy x.zarr --codec zstd:99               must be from -131072 to 22
copy a.npy x.zarr --dtype uint7                 those for voxels are bool, uint8
copy a.npy x.zarr --memory-limit lots           such as '512MiB'
copy a.npy x.zarr --memory-limit 1              give a larger --memory-limit
copy a.npy x.zarr --voxel-size 1 0.3 0.3        as one word: --voxel-size 1,0.3,0.3
copy a.npy x.zarr --voxel-size 1,0.3            must have 3 entries, one per axis
copy a.npy x.zarr --axes zy                     must name each of the 3 axes, such as 'zyx'
copy a.npy x.zarr --units parsnip               there are angstrom
copy 1.tif 2.tif 3.tif x.zarr                   quote it: bioimage-py copy ./ --pattern '*.tif' x.zarr
copy a.npy x.zarr -j 0                          give a number of 1 or more
copy a.npy x.zarr --job-type slrm               did you mean slurm?
copy a.npy x.zarr --partition cpu               needs --job-type slurm
copy a.npy x.zarr --block-ids 9-1               write 1-9
copy a.npy x.zarr --block-ids 99                is not in 0
copy a.npy x.zarr --mask b.npy                  must have the input's shape
copy a.npy x.zarr --levels 3                    needs --pyramid
copy a.npy a.zarr --overwrite --into-existing   not allowed with
copy b.npy a.zarr --into-existing               must have one shape
copy a.zarr a.zarr --overwrite                  choose another path
copy bad.tif x.zarr                             is truncated
copy empty x.zarr                               name a file or a folder in it
pyramid a.npy x.zarr --method avg               choose from
pyramid a.npy x.n5                              such as 'out.ome.zarr'
verify a.npy b.npy                              a.npy has shape
status nothing                                  'bioimage-py runs' lists those that exist
cancel nothing                                  'bioimage-py runs' lists those that exist
config set                                      such as 'bioimage-py config set partition cpu'
config get partion                              did you mean 'partition'?
completion tcsh                                 choose from
preview a.npy                                   required: -o/--output
preview a.npy -o p.xyz                          choose one of
preview a.npy -o p.png --position 99,0,0        from 0 to 7
view a.npy --port x                             give a number of 0 or more"""

_CALLS = """\
bp.copy('nope', 'x.zarr')                          there is no file or folder
bp.copy(3, 'x.zarr')                               give an array, a path
bp.copy('a.npy', progress='yes')                   must be True, False or a function
bp.copy('a.npy', 'x.zarr', num_workers=0)          or None for all cores
bp.copy('a.npy', 'x.zarr', chunks=(3,))            has 1 axes, but the array has 3
bp.copy('a.npy', 'x.zarr', job_type='slrm')        must be one of 'local'
bp.copy('a.npy', job_type='subprocess')            such as Zarr or N5
bp.copy('a.npy', 'x.zarr', job_config=dict())      must be a RunnerConfig
bp.verify('a.npy', 'b.npy')                        a.npy has shape
bp.resume('nope')                                  there is no run folder
bp.status('nope')                                  there is no run folder
bp.pyramid('a.npy')                                give an output
bp.downsample('a.npy', 0)                          must be 1 or more
bp.create_output('x.zarr')                         needs shape and dtype"""


def _table(text: str) -> list[tuple[str, str]]:
    pairs = [line.partition("   ") for line in text.splitlines()]
    return [(call, words.strip()) for call, _, words in pairs]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    np.save(tmp_path / "a.npy", np.ones((8, 8, 8), "uint8"))
    np.save(tmp_path / "b.npy", np.ones((4, 8, 8), "uint8"))
    bp.create_output(tmp_path / "a.zarr", shape=(8, 8, 8), dtype="uint8", chunks=(8, 8, 8)).close()
    (tmp_path / "bad.tif").write_text("x")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_bad_command_says_what_to_do(folder: Path, call: Call) -> None:
    before = sorted(folder.rglob("*"))
    for command, words in _table(_COMMANDS):
        outcome = call(*command.split())
        first, *more = outcome.err.splitlines()
        assert outcome.code in (2, 4), command
        assert outcome.out == "", command
        assert first.startswith("bioimage-py: error: "), command
        assert words in outcome.err, (command, outcome.err)
        assert all(line.startswith("  ") for line in more), command
        assert len(more) <= 2, command
    assert sorted(folder.rglob("*")) == before


def test_each_bad_call_says_what_to_do(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    for call, words in _table(_CALLS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(BioimagePyError) as raised:
                eval(call, {"bp": bp})  # the calls are above
        assert words in str(raised.value), call
        assert "\n" not in str(raised.value), call
    assert sorted(folder.rglob("*")) == before
