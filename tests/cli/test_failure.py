"""From exceptions to exit codes, messages and advice."""

from __future__ import annotations

import ast
import errno
from pathlib import Path

import pytest

from bioimage_py import errors
from bioimage_py.cli import (
    EXIT_CODES,
    Terminated,
    UnfinishedError,
    UsageError,
    as_command,
    build_parser,
    failure_of,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("no"), 2),
        (errors.InvalidArgumentError("no"), 2),
        (errors.InvalidIndexError("no"), 2),
        (errors.AmbiguousSourceError("no"), 2),
        (errors.CastingError("no"), 2),
        (errors.UnsupportedFormatError("no"), 2),
        (errors.SourceNotFoundError("no"), 2),
        (errors.OutputExistsError("no"), 2),
        (FileNotFoundError("no"), 2),
        (errors.RunnerError("no", [1]), 3),
        (errors.ReadOnlyError("no"), 4),
        (errors.StorageError("no"), 4),
        (errors.MissingDependencyError("no"), 4),
        (PermissionError("no"), 4),
        (OSError(errno.ENOSPC, "no space left"), 4),
        (MemoryError(), 4),
        (ValueError("from the depths of a library"), 70),
        (ZeroDivisionError("a bug"), 70),
        (KeyboardInterrupt(), 130),
        (Terminated(), 143),
        (errors.RunInterrupted("no", [1]), 130),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: BaseException, code: int) -> None:
    failure = failure_of(error)
    assert failure.exit_code == code
    assert code in EXIT_CODES
    assert failure.message


def test_every_error_of_the_package_has_a_meaningful_exit_code() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BaseException)
    ]
    assert len(kinds) > 10
    for kind in kinds:
        if not issubclass(kind, Warning) and not kind.__name__.startswith("_"):
            assert failure_of(kind("what failed")).exit_code in (2, 3, 4, 130), kind


def test_hints_are_told_as_options_and_commands() -> None:
    error = errors.OutputExistsError(
        "out.zarr is there already",
        hints=[
            errors.Hint.of("to replace it, give {}", overwrite=True),
            errors.Hint.of("to write into it, use {}", "open_source", "out.zarr", mode="r+"),
        ],
    )
    failure = failure_of(error)
    assert failure.message == "out.zarr is there already"
    assert failure.advice == ("to replace it, give --overwrite", "to write into it, use --into-existing")
    assert str(error) == (
        "out.zarr is there already. To replace it, give overwrite=True; to write into it, use "
        "bioimage_py.open_source('out.zarr', mode='r+')"
    )


@pytest.mark.parametrize(
    ("call", "python", "command"),
    [
        (errors.Call("resume", ("/my runs/1",)), "bioimage_py.resume('/my runs/1')", "bioimage-py resume '/my runs/1'"),
        (errors.Call("open_source", ("a b.n5", "raw")), "bioimage_py.open_source('a b.n5', 'raw')", "--key raw"),
        (errors.Call("open_source", ("slices", "*.tif")), "bioimage_py.open_source('slices', '*.tif')", "--pattern '*.tif'"),
        (errors.Call(options={"overwrite": True}), "overwrite=True", "--overwrite"),
        (errors.Call(options={"shards": (64, 128)}), "shards=(64, 128)", "--shards 64,128"),
        (errors.Call(options={"chunks": ..., "shards": ...}), "chunks and shards", "--chunks and --shards"),
        (errors.Call(options={"num_workers": 2}), "num_workers=2", "--workers 2"),
        (errors.Call(options={"tmp_root": ...}), "tmp_root", "--run-folders"),
        (errors.Call(options={"fill_value": -1}), "fill_value=-1", "--fill-value=-1"),
        (errors.Call(options={"missing_planes": "fill"}), "missing_planes='fill'", "--missing-planes fill"),
    ],
)  # fmt: skip
def test_a_call_in_python_and_in_a_shell(call: errors.Call, python: str, command: str) -> None:
    assert str(call) == python
    assert as_command(call) == command


def test_a_full_disk_is_recognised_behind_the_error_of_the_package() -> None:
    error = errors.StorageError("cannot write")
    error.__cause__ = OSError(errno.ENOSPC, "no space left on device")
    assert "make room" in failure_of(error).advice[0]


def test_an_unfinished_copy_tells_the_command_that_finishes_it() -> None:
    cause = errors.RunnerError("2 blocks failed", [3, 4, 9], tmp_folder="/runs/1")
    command = ["bioimage-py", "copy", "--into-existing", "--block-ids", "3-4,9", "my stack.tif", "out.zarr"]
    failure = failure_of(UnfinishedError(cause, command))
    assert failure.exit_code == 3
    assert failure.kind == "RunnerError"
    assert "bioimage-py copy --into-existing --block-ids 3-4,9 'my stack.tif' out.zarr" in failure.advice[0]
    assert failure.to_json() == {
        "type": "RunnerError",
        "message": "2 blocks failed",
        "exit_code": 3,
        "hint": failure.advice[0],
        "failed_block_ids": [[3, 5], [9, 10]],
        "run_folder": "/runs/1",
        "finish_command": command,
    }


def test_an_interrupt_that_a_library_turned_into_another_error_is_one() -> None:
    error = ImportError("initialization failed")
    error.__cause__ = KeyboardInterrupt()
    assert failure_of(error).exit_code == 130


def test_jobs_that_go_on_are_told_with_how_to_wait_for_them_and_how_to_stop_them() -> None:
    folder = "/my runs/1"
    hints = [
        errors.Hint("Slurm job 7 goes on without this process"),
        errors.Hint.of("to wait for the rest: {}", "resume", folder),
        errors.Hint("to stop it: bioimage-py cancel '/my runs/1', or scancel 7"),
    ]
    said = "interrupted: 0 of 3 blocks are done and stay written"
    cause = errors.RunInterrupted(said, [], [0, 1, 2], folder, hints=hints)
    failure = failure_of(UnfinishedError(cause, ["bioimage-py", "resume", folder]))
    assert failure.message == "no block is done yet"
    assert failure.advice == (
        "Slurm job 7 goes on without this process",
        "to wait for the rest: bioimage-py resume '/my runs/1'",
        "to stop it: bioimage-py cancel '/my runs/1', or scancel 7",
    )


def test_a_run_without_a_folder_is_told_the_command_and_not_the_call_that_finishes_it() -> None:
    hints = [errors.Hint("to finish, call again with block_ids=error.failed_block_ids")]
    cause = errors.RunInterrupted("interrupted", [0], [1, 2], hints=hints)
    failure = failure_of(UnfinishedError(cause, ["bioimage-py", "copy", "a b", "c"]))
    assert failure.message == "1 of 3 blocks is done and stays written"
    assert failure.advice == ("copy the rest: bioimage-py copy 'a b' c",)


def test_every_option_that_a_hint_of_the_package_names_is_one_of_the_command() -> None:
    known = {option for verb in build_parser().verbs.values() for option in verb.options}
    named = set()
    for path in Path(str(errors.__file__)).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Hint.of" and len(node.args) == 1:
                named |= {keyword.arg for keyword in node.keywords if keyword.arg is not None}
    assert {"overwrite", "tmp_root", "memory_limit"} < named
    assert not {name for name in named if as_command(errors.Call(options={name: ...})) not in known}
