"""The command as a process of its own: terminals, pipes, signals, start-up."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import shlex
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bioimage_py.sources import create_output, open_source
from tests.cli.conftest import Call
from tests.cli.runs import COMMAND, long_copy
from tests.waiting import PATIENCE, eventually, workers_of

_LIBRARIES = {
    "zarr",
    "h5py",
    "dask",
    "fsspec",
    "obstore",
    "nibabel",
    "mrcfile",
    "scipy",
    "blake3",
    "rocrate",
}


@pytest.mark.parametrize(
    ("words", "without"),
    [
        ("copy --help", {"numpy", "tensorstore", "tifffile", "http"}),
        (
            "info a.tif",
            {
                "tensorstore",
                "asyncio",
                "ssl",
                "subprocess",
                "http",
                "importlib.metadata",
                "runner.run",
                "planning.copy_plan",
                "wrapper.base",
            }
            | {"sources.zarr", "sources.ome_zarr.listing", "kernels.stored_parts", "operations.job"},
        ),
        (
            "copy a.tif b.zarr",
            {"http", "importlib.metadata", "runner.dask.config", "report.page.show", "report.preview.show"},
        ),
        ("copy a.zarr b.zarr", {"tifffile", "http", "importlib.metadata", "report.page.show"}),
    ],
)
def test_start_is_quick_because_what_is_not_needed_is_not_loaded(
    tmp_path: Path, words: str, without: set[str]
) -> None:
    """Names without a dot are those of other packages, others are below ours or in the standard library."""
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 8, 8), "uint16"))
    create_output(tmp_path / "a.zarr", shape=(4, 8, 8), dtype="uint16")
    program = (
        "import sys; from bioimage_py.cli import main; code = main(sys.argv[1:]); "
        "print('loaded:', *(name.removeprefix('bioimage_py.') for name in sys.modules)); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.rpartition("loaded:")[2].split())
    assert "errors" in loaded
    assert (_LIBRARIES | without) & loaded == set()


def test_the_installed_command_and_the_module_are_the_same() -> None:
    script = Path(sys.executable).with_name("bioimage-py")
    if not script.exists():
        pytest.skip("the package is not installed beside this Python")
    versions = {subprocess.check_output([*how, "--version"]) for how in (COMMAND, [str(script)])}
    assert len(versions) == 1


def test_a_reader_that_goes_away_is_no_error() -> None:
    with subprocess.Popen([*COMMAND, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode in (0, 2, 141)


def test_a_closed_pipe_under_a_result(npy: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*COMMAND, "info", npy], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="it needs a disk that is always full")
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_full_disk_under_a_result_is_one_clear_error(npy: Path, options: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COMMAND, "info", npy, *options], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 4
    assert done.stderr.splitlines()[0].endswith("standard output cannot be written: No space left on device")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("stream", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_streams_that_the_caller_closed_change_nothing(npy: Path, tmp_path: Path, stream: str) -> None:
    words = shlex.join([*COMMAND, "copy", str(npy), str(tmp_path / "a.zarr")])
    done = subprocess.run(["sh", "-c", f"{words} {stream}"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    np.testing.assert_array_equal(open_source(tmp_path / "a.zarr")[...], np.load(npy))
    words = shlex.join([*COMMAND, "verify", str(npy), str(tmp_path / "a.zarr")])
    assert subprocess.run(["sh", "-c", f"{words} {stream}"], capture_output=True, check=False).returncode == 0


def test_output_survives_a_locale_without_letters(zarr: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [*COMMAND, "info", zarr], capture_output=True, text=True, env=environment, check=True
    )
    assert "40 x 50 x 60" in done.stdout
    assert "2 x 0.5 x 0.5 um" in done.stdout


@pytest.fixture
def many_blocks(tmp_path: Path) -> Path:
    """An image whose copy in blocks of 8³ takes several seconds: 32,768 of them."""
    path = tmp_path / "many.zarr"
    with create_output(path, shape=(256, 256, 256), dtype="uint8", chunks=(64, 64, 64)) as output:
        output[:64] = np.random.default_rng(0).integers(1, 255, (64, 256, 256), np.uint8)
    return path


def test_ctrl_c_stops_at_once_and_tells_how_to_finish(many_blocks: Path, tmp_path: Path) -> None:
    """Started on a terminal, so that the progress line is seen; stopped as soon as it shows a block."""
    out = tmp_path / "out.zarr"
    master, slave = pty.openpty()
    words = ["copy", many_blocks, out, "--chunks", "8", "--block-shape", "8", "--workers", "2"]
    process = subprocess.Popen([*COMMAND, *map(str, words)], stdout=subprocess.PIPE, stderr=slave, text=True)
    os.close(slave)
    drawn = _read_until(master, b"left")
    assert b"\rcopying " in drawn
    assert b"of 32,768 blocks" in drawn
    assert b"MB/s" in drawn
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=PATIENCE)
    said = _read_until(master, b"out.zarr\r\n").decode()
    os.close(master)
    assert process.returncode == 130
    assert stdout == ""
    assert "bioimage-py: interrupted: " in said
    assert "of 32,768 blocks are done and stay written" in said
    assert "--into-existing --block-ids " in said


def test_what_ctrl_c_left_out_is_what_the_told_command_copies(many_blocks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    source = tmp_path / "part.npy"
    with open_source(many_blocks) as whole:
        np.save(source, whole[:128, :128])
    words = ["copy", source, out, "--chunks", "8", "--block-shape", "8", "--workers", "1", "--json"]
    process = subprocess.Popen(
        [*COMMAND, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    eventually(lambda: list(out.glob("c/*/*/*")))
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    error = json.loads(stdout)["error"]
    assert (process.returncode, stderr, error["type"]) == (130, "", "RunInterrupted")
    assert error["finish_command"][:2] == ["bioimage-py", "copy"]
    subprocess.run([*COMMAND, *error["finish_command"][1:], "--quiet"], check=True)
    with open_source(source) as a, open_source(out) as b:
        assert np.array_equal(a[...], b[...])


@pytest.mark.parametrize("job_type", ["local", "subprocess"])
def test_sigterm_ends_as_ctrl_c_does_and_the_told_command_finishes(job_type: str, tmp_path: Path) -> None:
    root = tmp_path / "Dr. Smith's 3. Versuch"
    root.mkdir()
    with long_copy(root, "--job-type", job_type) as (process, folder, _):
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout) == (143, "")
    said, told = stderr.splitlines()
    assert said.startswith("bioimage-py: ended by SIGTERM: ")
    assert told == f"  to finish: bioimage-py resume {shlex.quote(str(folder))}"
    eventually(lambda: not workers_of(folder))
    subprocess.run([*COMMAND, *shlex.split(told.partition(": bioimage-py ")[2]), "--quiet"], check=True)
    assert not folder.exists()
    with open_source(root / "many.zarr") as a, open_source(root / "copied.zarr") as b:
        assert np.array_equal(a[...], b[...])


def test_sigterm_before_there_is_anything_to_finish() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/image.zarr"
        process = subprocess.Popen([*COMMAND, "info", url], stderr=subprocess.PIPE)
        asking, _ = server.accept()  # it is never answered
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=PATIENCE)
        asking.close()
    assert stderr == b"bioimage-py: ended by SIGTERM: stopped before it was done\n"
    assert process.returncode == 143


def test_a_run_is_cancelled_from_another_terminal(tmp_path: Path) -> None:
    with long_copy(tmp_path, "--job-type", "subprocess") as (process, folder, _):
        second = subprocess.run([*COMMAND, "resume", folder], capture_output=True, text=True, check=False)
        assert second.returncode == 2
        assert f"is being run by process {process.pid}" in second.stderr
        done = subprocess.run([*COMMAND, "cancel", folder], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"told process {process.pid} to stop" in done.stdout
        assert f"to do the rest: bioimage-py resume {folder}\n" in done.stdout
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "bioimage-py: interrupted: " in stderr
    eventually(lambda: not workers_of(folder))


def test_a_run_in_the_background_of_a_script_is_cancelled_too(call: Call, tmp_path: Path) -> None:
    with long_copy(tmp_path, "--resumable", background=True) as (process, folder, _):
        done = call("cancel", folder)
        assert process.wait(PATIENCE) == 143
    assert (done.code, done.err) == (0, "")
    assert f"told process {process.pid} to stop" in done.out


def test_a_run_is_watched_to_its_end_in_lines(tmp_path: Path) -> None:
    with long_copy(tmp_path, "--resumable") as (process, folder, go):
        words = ["status", folder, "--watch", "--interval", "0.1s"]
        with subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, text=True) as watching:
            assert watching.stdout is not None
            look = watching.stdout.readline()
            go.touch()
            *_, last = watching.stdout.read().splitlines()
        assert process.wait(PATIENCE) == 0
    assert watching.returncode == 0
    assert look.startswith("running · ")
    assert "of 1,024 (" in look
    assert last == f"the run has ended, and its folder {folder} is removed, as it is when all blocks are done"


def test_a_run_whose_process_is_killed_is_seen_to_have_stopped(tmp_path: Path) -> None:
    with long_copy(tmp_path, "--resumable") as (process, folder, _):
        words = ["status", folder, "--watch", "--interval", "0.1s"]
        with subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, text=True) as watching:
            assert watching.stdout is not None
            assert watching.stdout.readline().startswith("running")
            process.kill()
            process.wait()
            seen = watching.stdout.read()
    assert watching.returncode == 3
    assert "state:      stopped\n" in seen
    assert f"to finish:  bioimage-py resume {folder}\n" in seen
    assert "1 died" in seen


def test_a_run_is_watched_in_place_and_ctrl_c_ends_only_the_watching(tmp_path: Path) -> None:
    with long_copy(tmp_path, "--resumable") as (process, folder, _):
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 60, 0, 0))
        words = [*COMMAND, "status", str(folder), "--watch", "--interval", "0.1s"]
        with subprocess.Popen(words, stdout=slave, stderr=slave) as watching:
            os.close(slave)
            drawn = _read_until(master, b"\x1b[J")
            watching.send_signal(signal.SIGINT)
            drawn += _read_until(master, b"the run goes on")
        os.close(master)
        assert watching.returncode == 0, drawn
        assert process.poll() is None
    lines = drawn.decode().split("\r\n")
    assert lines[0].startswith("run:        ")
    assert "Ctrl-C stops watching, not the run" in lines
    assert max(len(line) for line in lines[: lines.index("Ctrl-C stops watching, not the run")]) == 59
    assert drawn.count(b"\x1b[J") >= 2


def _read_until(terminal: int, words: bytes) -> bytes:
    data, end = b"", time.monotonic() + PATIENCE
    while words not in data and time.monotonic() < end and select.select([terminal], [], [], PATIENCE)[0]:
        try:
            data += os.read(terminal, 65536)
        except OSError:  # the other side is closed
            break
    return data
