"""Run folders that others could have put something into, secrets, and names that a shell would trip over."""

from __future__ import annotations

import functools
import os
import pickle
import shutil
import stat
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import (
    BioimagePyError,
    BioimagePyWarning,
    NotPortableError,
    RunnerError,
)
from bioimage_py.runner import LocalRunner, RunnerConfig, SubprocessRunner
from bioimage_py.runner.run import ValueLog
from tests.sources.test_urls import Handler, Server

SECRET = "correct-horse-battery"
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
STRANGER = 54321


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.canary,)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a run that failed in one of its items."""

    def unreliable(item: int) -> int:
        if item == 2:
            raise ValueError("no")
        return item

    with pytest.raises(RunnerError) as caught:
        LocalRunner(RunnerConfig(tmp_root=tmp_path / "runs")).map(unreliable, 4)
    return Path(str(caught.value.tmp_folder))


def refusal_of_resume(folder: Path) -> str:
    with pytest.raises(BioimagePyError) as caught:
        bp.resume(folder)
    return str(caught.value)


def refusal_of_worker(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "bioimage_py.runner.worker", "--", str(folder), "0", "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 70
    assert "Traceback" not in done.stderr
    return done.stderr


def give_away(path: Path) -> None:
    os.chown(path, STRANGER, -1)


def open_to_group(path: Path) -> None:
    path.chmod(stat.S_IMODE(path.stat().st_mode) | 0o020)


def open_to_all(path: Path) -> None:
    path.chmod(stat.S_IMODE(path.stat().st_mode) | 0o002)


def replace_by_link(path: Path) -> None:
    aside = path.parent.parent / f"aside-{path.name}"
    shutil.move(path, aside)
    path.symlink_to(aside)


@pytest.mark.parametrize(
    "name", ["", "run.json", "function.pkl", "rounds", "attempts", "logs", "rounds/00000.json"]
)
@pytest.mark.parametrize(
    "spoil", [pytest.param(give_away, marks=AS_ROOT), open_to_group, open_to_all, replace_by_link]
)
def test_what_others_can_write_is_refused(folder: Path, name: str, spoil: Callable[[Path], None]) -> None:
    if spoil is replace_by_link and name in ("", "rounds/00000.json"):
        pytest.skip("a link to the folder is looked through, and the round is data")
    spoil(folder / name)
    expected = {give_away: f"belongs to user {STRANGER}", replace_by_link: "is a link"}.get(
        spoil, "can be written by others"
    )
    said = refusal_of_worker(folder)
    assert expected in said
    assert str(folder / name) in said
    if name != "rounds/00000.json":  # a resume of a local run begins a round of its own
        said = refusal_of_resume(folder)
        assert expected in said
        assert str(folder / name) in said
    assert folder.exists()


@AS_ROOT
def test_a_link_to_the_folder_of_another_user(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder)
    give_away(folder)
    assert "belongs to user" in refusal_of_resume(link)
    assert "belongs to user" in refusal_of_worker(link)


def test_a_link_to_the_users_own_folder(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(RunnerError) as caught:
        bp.resume(link)
    assert str(caught.value.tmp_folder) == str(folder)


def test_links_that_lead_nowhere_or_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for name in ("broken", "circle"):
        assert "there is no run folder" in refusal_of_resume(tmp_path / name)


@pytest.mark.parametrize("stranger", [pytest.param(True, marks=AS_ROOT), False])
def test_another_function_is_never_unpickled(folder: Path, tmp_path: Path, stranger: bool) -> None:
    canary = tmp_path / "canary"
    (folder / "function.pkl").write_bytes(pickle.dumps(Trap(canary)))
    if stranger:
        give_away(folder / "function.pkl")
    for said in (refusal_of_resume(folder), refusal_of_worker(folder)):
        assert "function.pkl" in said
        assert ("belongs to user" if stranger else "not as the run wrote it") in said
    assert not canary.exists()


@AS_ROOT
def test_values_of_strangers_are_never_unpickled(folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (values,) = folder.glob("attempts/*.values")
    values.unlink()
    log = ValueLog(values)
    log.add(0, Trap(canary))
    log.close()
    give_away(values)
    assert str(values) in refusal_of_resume(folder)
    assert not canary.exists()


def test_everything_in_a_run_folder_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with pytest.raises(RunnerError) as caught:
            SubprocessRunner(RunnerConfig(tmp_root=tmp_path / "runs", retries=0)).map(
                lambda item: 1 // item, 3
            )
        folder = Path(str(caught.value.tmp_folder))
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert "ZeroDivisionError" in refusal_of_resume(folder)
    finally:
        os.umask(before)


# -- secrets


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The endpoint of an S3 server with a bucket called 'lab'; the credentials are in the environment."""
    pytest.importorskip("moto.server")
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        host, port = server.get_host_and_port()
        patch.setenv("AWS_ACCESS_KEY_ID", SECRET + "-id")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_SESSION_TOKEN", SECRET + "-token")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
        client.create_bucket(Bucket="lab")
        yield f"http://{host}:{port}"
        client.close()
    server.stop()


class Private(Handler):
    """Serves files to those who know the password only."""

    def do_GET(self) -> None:
        import base64

        wanted = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
        if self.headers.get("Authorization") != wanted:
            self.send_error(401)
            return
        super().do_GET()

    do_HEAD = do_GET


@pytest.fixture
def private_web(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server that wants a password, and the folder that it serves."""
    served = tmp_path / "served"
    served.mkdir()
    server = Server(("127.0.0.1", 0), functools.partial(Private, directory=str(served)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}", served
    server.shutdown()
    thread.join()
    server.server_close()


def assert_no_secret(place: Path, *texts: str) -> None:
    looked_at = [p for p in place.rglob("*") if p.is_file()]
    assert looked_at
    for path in looked_at:
        assert SECRET.encode() not in path.read_bytes(), path
    for text in texts:
        assert SECRET not in text


def whole_text(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def test_no_secret_of_the_environment_is_written(
    bucket: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    image = np.arange(64, dtype="uint16").reshape(8, 8)
    source = bp.create_output("s3://lab/in.zarr", shape=(8, 8), dtype="uint16", chunks=(4, 4))
    source[...] = image
    config = RunnerConfig(tmp_root=tmp_path / "runs", keep_run_folder=True, retries=0)
    run: dict[str, Any] = {
        "job_type": "subprocess",
        "job_config": config,
        "block_shape": (4, 4),
        "chunks": (4, 4),
    }
    bp.copy("s3://lab/in.zarr", "s3://lab/out.zarr", **run)
    np.testing.assert_array_equal(bp.open_source("s3://lab/out.zarr")[...], image)

    def fail(block: Any, inputs: Any, outputs: Any, mask: Any) -> None:
        raise ValueError(f"cannot read {inputs[0]}")

    with pytest.raises(RunnerError) as caught:
        SubprocessRunner(config).run(fail, [source], [bp.open_source("s3://lab/out.zarr", mode="r+")])
    with pytest.raises(RunnerError) as again:
        bp.resume(str(caught.value.tmp_folder))
    printed = capfd.readouterr()
    assert_no_secret(
        tmp_path / "runs", whole_text(caught.value), whole_text(again.value), printed.out, printed.err
    )


def test_credentials_of_a_url_come_from_the_environment_of_the_workers(
    private_web: tuple[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    host, served = private_web
    image = np.arange(64, dtype="uint16").reshape(8, 8)
    bp.copy(image, served / "in.zarr", chunks=(4, 4))
    source = bp.open_source(f"http://me:{SECRET}@{host}/in.zarr")
    np.testing.assert_array_equal(source[...], image)
    config = RunnerConfig(tmp_root=tmp_path / "runs", keep_run_folder=True, retries=0)
    with pytest.raises(RunnerError) as caught:
        bp.copy(source, tmp_path / "out.zarr", job_type="subprocess", job_config=config)
    assert "401" in str(caught.value)
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login me password {SECRET}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    bp.resume(str(caught.value.tmp_folder))
    np.testing.assert_array_equal(bp.open_source(tmp_path / "out.zarr")[...], image)
    printed = capfd.readouterr()
    assert_no_secret(tmp_path / "runs", whole_text(caught.value), printed.out, printed.err)


@pytest.mark.parametrize("job_type", ["local", "subprocess"])
def test_urls_with_tokens_are_not_written_into_run_folders(
    private_web: tuple[str, Path], tmp_path: Path, job_type: str, caplog: pytest.LogCaptureFixture
) -> None:
    host, served = private_web
    bp.copy(np.zeros((8, 8), "uint16"), served / "in.zarr", chunks=(4, 4))
    config = RunnerConfig(tmp_root=tmp_path / "runs", keep_run_folder=True)
    caplog.set_level(0)
    source = bp.open_source(f"http://me:{SECRET}@{host}/in.zarr?X-Amz-Signature={SECRET}")
    run = functools.partial(
        bp.copy, source, tmp_path / "out.zarr", job_type=job_type, job_config=config, block_shape=(8, 8)
    )
    if job_type == "local":
        with pytest.warns(BioimagePyWarning, match="no run folder is kept") as warned:
            run()  # nobody else has to open it: it goes without a run folder
        assert not any(SECRET in str(each.message) for each in warned)
    else:
        with pytest.raises(NotPortableError, match="environment") as caught:
            run()
        assert SECRET not in whole_text(caught.value)
    assert SECRET not in caplog.text
    assert not (tmp_path / "runs").exists() or list((tmp_path / "runs").iterdir()) == []


# -- names


NAMES = (
    "-rf --help",
    'a folder\'s "name" `',
    "$(touch canary); touch canary & `touch canary` | touch canary > x ${HOME} *?[a]",
    "two\nlines\tand a tab",
    "größe 画像 \U0001f52c",
    "100%s %d %A",
    " ~ #!",
)
STRANGER_NAMES = ("back\\slash \\", os.fsdecode(b"latin-\xe9"))
"""Names that TensorStore takes in no path; a run folder has no such limit."""


@pytest.mark.parametrize("job_type", ["local", "subprocess"])
def test_any_name_of_folders_and_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job_type: str
) -> None:
    monkeypatch.chdir(tmp_path)
    place = Path(*NAMES)
    runs = place.joinpath(*STRANGER_NAMES)
    runs.mkdir(parents=True)
    python = tmp_path / place / f"{NAMES[2]} python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o700)
    image = np.arange(64, dtype="uint16").reshape(8, 8)
    bp.create_output(place / "in.zarr", shape=(8, 8), dtype="uint16", chunks=(4, 4))[...] = image
    bad = place / "in.zarr" / "c" / "1" / "0"
    good = bad.read_bytes()
    bad.write_bytes(b"torn")
    config = RunnerConfig(tmp_root=runs, retries=0, python_executable=str(python))
    run: dict[str, Any] = {
        "job_type": job_type,
        "job_config": config,
        "block_shape": (4, 4),
        "chunks": (4, 4),
    }
    with pytest.raises(RunnerError) as caught:
        bp.copy(place / "in.zarr", place / "out.zarr", **run)
    assert list(caught.value.failed_block_ids) == [2]
    bad.write_bytes(good)
    bp.resume(str(caught.value.tmp_folder))
    np.testing.assert_array_equal(bp.open_source(place / "out.zarr")[...], image)
    made = {place / "in.zarr", place / "out.zarr", place / STRANGER_NAMES[0], place / python.name}
    assert set(place.iterdir()) == made
    assert [p for p in Path().rglob("*canary*") if p not in (*place.parents, place)] == [place / python.name]
