"""Dask: the contract of every backend on a real scheduler with separate worker processes, and what happens when they die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import BioimagePyWarning, InvalidArgumentError, MissingDependencyError, RunnerError
from bioimage_py.runner import RunnerConfig
from bioimage_py.runner.dask import DaskConfig, DaskRunner, run_dask_task
from bioimage_py.runner.run import RunFolder
from bioimage_py.wrapper import SimpleTransformationSource
from tests.runner.contract import RunnerContract
from tests.runner.dask_lab import ROOT, DaskLab
from tests.waiting import eventually

distributed = pytest.importorskip("distributed", reason="distributed is not installed")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[DaskLab]:
    """A scheduler with one worker that a test may kill."""
    lab = DaskLab(tmp_path / "lab")
    try:
        lab.start_scheduler()
        lab.start_workers(1)
        yield lab
    finally:
        lab.close()


@pytest.fixture
def client(scheduler: str) -> Iterator[Any]:
    with distributed.Client(scheduler, set_as_default=False) as client:
        yield client


@pytest.fixture
def config(scheduler: str, tmp_path: Path) -> DaskConfig:
    return DaskConfig(address=scheduler, tmp_root=tmp_path / "runs", retries=0, tasks_per_worker=2)


def stored(folder: Path, name: str, array: np.ndarray, **options: object) -> bp.Source:
    source = bp.create_output(folder / name, shape=array.shape, dtype=array.dtype, **options)
    source[...] = array
    return source


def chunk_files(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and "copied" not in p.name
    }


def states_in(folder: str | Path) -> list[dict[str, Any]]:
    run = RunFolder.open(folder)
    return [run.read_state(attempt) for attempt in run.attempts()]


def slowly(block: np.ndarray) -> np.ndarray:
    time.sleep(0.1)
    return block + 1


def test_the_account_is_the_sum_of_all_workers(tmp_path: Path, config: DaskConfig) -> None:
    image = np.random.default_rng(0).integers(0, 9999, (64, 64)).astype("uint16")
    source = stored(tmp_path, "in.zarr", image, chunks=(8, 8))
    seen: list[bp.Progress] = []
    layout: dict[str, Any] = {"chunks": (8, 8), "block_shape": (8, 8), "codec": "gzip:2"}
    bp.copy(
        source,
        tmp_path / "out.zarr",
        job_type="dask",
        job_config=config,
        num_workers=2,
        progress=seen.append,
        **layout,
    )
    account = seen[-1].account
    assert account is not None
    assert (account.chunks_moved, account.chunks_recoded) == (0, 64)
    assert account.bytes_in == account.bytes_out == image.nbytes
    assert account.stages["writing"] > 0


class Slow:
    """A copy of 64 blocks of 0.1 s each, and the same done locally."""

    def __init__(self, folder: Path) -> None:
        self.layout: dict[str, Any] = {"chunks": (8, 8), "block_shape": (8, 8)}
        self.runs = folder / "runs"
        self.out = folder / "out.zarr"
        image = np.random.default_rng(0).integers(0, 9999, (64, 64)).astype("uint16")
        self.image = stored(folder, "in.zarr", image, chunks=(8, 8))
        bp.copy(image + 1, folder / "want.zarr", **self.layout)
        self._want = chunk_files(folder / "want.zarr")

    def run(self, config: DaskConfig) -> None:
        source = SimpleTransformationSource(self.image, slowly, dtype="uint16")
        bp.copy(source, self.out, job_type="dask", job_config=config, num_workers=2, **self.layout)

    def script(self, address: str) -> str:
        stored_at = str(self.out.parent / "in.zarr")
        return f"""
import json
import bioimage_py as bp
from bioimage_py.runner.dask import DaskConfig
from bioimage_py.wrapper import SimpleTransformationSource
from tests.runner.test_dask import slowly
source = SimpleTransformationSource(bp.open_source({stored_at!r}), slowly, dtype="uint16")
try:
    bp.copy(source, {str(self.out)!r}, chunks=(8, 8), block_shape=(8, 8), job_type="dask", num_workers=2,
            job_config=DaskConfig(address={address!r}, tmp_root={str(self.runs)!r}))
except KeyboardInterrupt as error:
    print(json.dumps([str(error), error.tmp_folder, len(error.done_block_ids)]))
"""

    def some_done(self) -> bool:
        return any(path.stat().st_size for path in self.runs.glob("*/attempts/*.blocks"))

    def check(self) -> None:
        assert chunk_files(self.out) == self._want

    def meanwhile(self, action: Callable[[], object]) -> threading.Thread:
        """Do something in a thread when some blocks are done."""

        def wait_and_act() -> None:
            eventually(self.some_done, "no block done")
            action()

        thread = threading.Thread(target=wait_and_act)
        thread.start()
        return thread


@pytest.fixture
def slow(tmp_path: Path) -> Slow:
    return Slow(tmp_path)


class TestDaskRunner(RunnerContract):
    @pytest.fixture(autouse=True)
    def _config(self, scheduler: str, tmp_path: Path) -> None:
        self.config = DaskConfig(address=scheduler, tmp_root=tmp_path / "runs", retries=1)

    def make(self) -> DaskRunner:
        return DaskRunner(self.config)


def test_same_bytes_as_local(tmp_path: Path, client: Any) -> None:
    image = np.random.default_rng(0).integers(0, 9999, (70, 50, 60)).astype("uint16")
    source = stored(tmp_path, "in.zarr", image, chunks=(16, 16, 16))
    mask = stored(tmp_path, "mask.zarr", (image % 5 > 0).astype("uint8"), chunks=(20, 20, 20))
    config = DaskConfig(client=client, tmp_root=tmp_path / "runs")
    for options in ({}, {"mask": mask}, {"block_shape": (32, 16, 16)}):
        layout = {"chunks": (16, 16, 16), "shards": (32, 32, 32), "overwrite": True, "num_workers": 2}
        bp.copy(source, tmp_path / "local.zarr", **layout, **options)
        out = bp.copy(source, tmp_path / "dask.zarr", job_type="dask", job_config=config, **layout, **options)
        assert out.shape == image.shape
        assert chunk_files(tmp_path / "local.zarr") == chunk_files(tmp_path / "dask.zarr")
    assert not list((tmp_path / "runs").iterdir())
    assert client.submit(sum, [1, 2]).result() == 3  # it is the user's own, and left open


def test_workers_of_its_own_from_a_script_without_a_guard(tmp_path: Path) -> None:
    stored(tmp_path, "in.zarr", np.arange(64, dtype="uint8").reshape(8, 8), chunks=(4, 4))
    script = tmp_path / "script.py"
    script.write_text(f"""
import os, bioimage_py as bp
folder = {str(tmp_path)!r}
config = bp.RunnerConfig(tmp_root=folder + "/runs", tasks_per_worker=1)
bp.copy(folder + "/in.zarr", folder + "/out.zarr", job_type="dask", job_config=config, num_workers=1)
print(bp.get_runner("dask", config).map(lambda item: os.getpid() != {os.getpid()}, 2, num_workers=2))
""")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[True, True]\n", "")
    assert bp.verify(tmp_path / "in.zarr", tmp_path / "out.zarr").equal
    assert not list((tmp_path / "runs").iterdir())
    assert not list(temporary.iterdir())


def test_workers_of_its_own_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    script = f"""
import os, pathlib, time
import bioimage_py as bp
def stay(item):
    pathlib.Path({str(marks)!r}, str(os.getpid())).touch()
    time.sleep(600)
bp.get_runner("dask", bp.RunnerConfig(tmp_root={str(tmp_path / "runs")!r})).map(stay, 2, num_workers=2)
"""
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        eventually(lambda: len(list(marks.iterdir())) == 2, "no task began")
        process.kill()
    pids = [int(path.name) for path in marks.iterdir()]
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "a worker is still there")


def test_a_block_that_kills_its_worker_takes_no_other_with_it(tmp_path: Path, scheduler: str) -> None:
    def deadly(block, inputs, outputs, mask):
        if block.begin == (4, 4):
            os.kill(os.getpid(), signal.SIGKILL)
        return block.begin

    source = stored(tmp_path, "in.zarr", np.ones((16, 16), "uint8"), chunks=(4, 4))
    config = DaskConfig(address=scheduler, tmp_root=tmp_path / "runs", retries=2, tasks_per_worker=1)
    with pytest.raises(RunnerError, match="killed: its worker, process") as caught:
        DaskRunner(config).run(deadly, [source], block_shape=(4, 4), num_workers=2, has_return_val=True)
    assert list(caught.value.failed_block_ids) == [5]


def test_a_worker_dies_and_no_block_is_done_twice(tmp_path: Path, scheduler: str) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()

    def deadly_once(item):
        with (marks / str(item)).open("a") as file:
            file.write("x")
        if item == 6 and (marks / "6").read_text() == "x":
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    config = DaskConfig(address=scheduler, tmp_root=tmp_path / "runs", tasks_per_worker=1)
    assert DaskRunner(config).map(deadly_once, 16, num_workers=2) == list(range(16))
    calls = {int(path.name): len(path.read_text()) for path in marks.iterdir()}
    assert calls == {item: 2 if item == 6 else 1 for item in range(16)}
    assert not list((tmp_path / "runs").iterdir())


def test_a_worker_that_is_sent_home_finishes_its_block(tmp_path: Path, lab: DaskLab, slow: Slow) -> None:
    lab.start_workers(1)
    with distributed.Client(lab.address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)

        def send_home() -> None:
            (first, *_) = [worker for worker, keys in client.processing().items() if keys]
            client.retire_workers([first], close_workers=True)

        sender = slow.meanwhile(send_home)
        slow.run(DaskConfig(client=client, tmp_root=slow.runs, keep_run_folder=True))
        sender.join()
    slow.check()
    (folder,) = slow.runs.iterdir()
    reasons = [state["reason"] for state in states_in(folder)]
    assert "stopped" in reasons
    assert set(reasons) <= {"stopped", "finished"}


def test_the_scheduler_dies_and_resume_finishes(tmp_path: Path, lab: DaskLab, slow: Slow) -> None:
    killer = slow.meanwhile(lab.kill_scheduler)
    with pytest.raises(RunnerError, match=rf"no Dask scheduler answered at '{lab.address}'") as caught:
        slow.run(DaskConfig(address=lab.address, tmp_root=slow.runs, connect_timeout=1, latency_wait=1))
    killer.join()
    folder = caught.value.tmp_folder
    assert folder is not None
    assert 0 < len(caught.value.failed_block_ids) < 64
    with pytest.raises(InvalidArgumentError, match=lab.address):
        bp.resume(folder)
    lab.start_scheduler()
    lab.start_workers(1)
    times = {p: p.stat().st_mtime_ns for p in (slow.out / "c").rglob("*") if p.is_file()}
    bp.resume(folder)
    slow.check()
    assert sum(p.stat().st_mtime_ns != then for p, then in times.items()) <= 2  # blocks in hand when it died


def test_time_is_up(tmp_path: Path, scheduler: str) -> None:
    gate = tmp_path / "gate"

    def hang(item):
        while item == 1 and not gate.exists():
            time.sleep(0.05)
        return item

    config = DaskConfig(address=scheduler, tmp_root=tmp_path / "runs", retries=0, task_timeout=5)
    try:
        with pytest.raises(RunnerError, match=r"timeout: it took longer than task_timeout") as caught:
            DaskRunner(config).map(hang, 4, num_workers=1)
        assert list(caught.value.failed_block_ids) == [1]
    finally:
        gate.touch()


def test_a_task_that_is_too_long_goes_on_in_the_next_round(tmp_path: Path, scheduler: str) -> None:
    def steady(item):
        time.sleep(0.5)
        return item

    config = DaskConfig(address=scheduler, tmp_root=tmp_path / "runs", task_timeout=4, tasks_per_worker=1)
    assert DaskRunner(config).map(steady, 12, num_workers=1) == list(range(12))


def test_ctrl_c_leaves_no_task_on_the_cluster(slow: Slow, scheduler: str, client: Any) -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", slow.script(scheduler)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        eventually(slow.some_done, "no block done")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert err == ""
    text, folder, done = json.loads(out)
    assert f"{done} of 64 blocks are done" in text
    assert "tasks on the cluster are cancelled" in text
    assert {state["reason"] for state in states_in(folder)} <= {"stopped", "finished"}
    assert not [key for keys in client.processing().values() for key in keys]
    bp.resume(folder)
    slow.check()


def test_the_submitter_dies_and_its_tasks_end(slow: Slow, scheduler: str, client: Any) -> None:
    with subprocess.Popen([sys.executable, "-c", slow.script(scheduler)], cwd=ROOT) as process:
        eventually(slow.some_done, "no block done")
        process.kill()
    (folder,) = slow.runs.iterdir()

    def all_ended() -> bool:
        return all(state["reason"] for state in states_in(folder))

    eventually(all_ended, "a task goes on without its run")
    assert len(list((slow.out / "c").rglob("*"))) < 64
    bp.resume(folder)
    slow.check()


@pytest.mark.parametrize("how", ["at the scheduler", "from another machine"])
def test_cancelled_tasks_are_not_tried_again(slow: Slow, config: DaskConfig, client: Any, how: str) -> None:
    said = []

    def cancel() -> None:
        (folder,) = slow.runs.iterdir()
        if how == "from another machine":
            driver = json.loads((folder / "driver.json").read_text())
            (folder / "driver.json").write_text(json.dumps({**driver, "host": "elsewhere"}))
            said.append(DaskRunner().cancel(RunFolder.open(folder)))
            return
        (key, *_) = [key for keys in client.processing().values() for key in keys]
        client.cancel([distributed.Future(key, client)], force=True)

    canceller = slow.meanwhile(cancel)
    with pytest.raises(RunnerError, match="cancelled: it was cancelled at the scheduler") as caught:
        slow.run(DaskConfig(address=config.address, tmp_root=slow.runs, retries=2))
    canceller.join()
    folder = Path(str(caught.value.tmp_folder))
    assert len(list((folder / "rounds").glob("?????.json"))) == 1
    assert all(config.address in text for text in said)
    bp.resume(folder)
    slow.check()


def test_a_run_whose_input_was_replaced_is_not_resumed(tmp_path: Path, config: DaskConfig) -> None:
    """The workers live on, and have the first input open."""
    gate = tmp_path / "gate"

    def read(block, inputs, outputs, mask):
        if block.begin == (0,) and not gate.exists():
            raise ValueError("not yet")
        return int(inputs[0][0])

    np.save(tmp_path / "in.npy", np.full(8, 1))
    runner = DaskRunner(config)
    with pytest.raises(RunnerError, match="not yet") as caught:
        runner.run(read, [tmp_path / "in.npy"], block_shape=(4,), has_return_val=True)
    np.save(tmp_path / "new.npy", np.full(8, 2))
    (tmp_path / "new.npy").replace(tmp_path / "in.npy")
    gate.touch()
    with pytest.raises(InvalidArgumentError, match=r"in\.npy"):
        bp.resume(str(caught.value.tmp_folder))


def test_a_folder_that_workers_do_not_see(tmp_path: Path, lab: DaskLab, client: Any) -> None:
    kind, text = client.submit(run_dask_task, str(tmp_path / "nowhere"), 0, 0, None, pure=False).result()
    assert (kind, "all machines share" in text, "Dask worker tcp://" in text) == ("error", True, True)
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    apart = ("unshare", "--mount", "--map-root-user")
    try:
        subprocess.run([*apart, "mount", "-t", "tmpfs", "none", hidden], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no worker can be given file systems of its own here: {error}")
    lab.workers[0].terminate()
    lab.workers[0].wait()
    lab.start_workers(1, before=(*apart, "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(hidden)))
    config = DaskConfig(address=lab.address, tmp_root=hidden)
    with pytest.raises(RunnerError, match=r"there is no run folder .* all machines share") as caught:
        DaskRunner(config).map(slowly, 2)
    assert list(caught.value.failed_block_ids) == [0, 1]


def test_workers_without_the_package_are_named_and_live_on(tmp_path: Path, lab: DaskLab) -> None:
    (tmp_path / "bioimage_py.py").write_text("raise ModuleNotFoundError('not in this Python')")
    lab.workers[0].terminate()
    lab.workers[0].wait()
    lab.start_workers(1, before=("env", f"PYTHONPATH={tmp_path}"))
    config = DaskConfig(address=lab.address, tmp_root=tmp_path / "runs")
    with pytest.raises(RunnerError, match=r"not in this Python. The workers need bioimage-py"):
        DaskRunner(config).map(slowly, 2)
    with distributed.Client(lab.address, set_as_default=False) as client:
        assert client.submit(sum, [1, 2]).result() == 3


def test_a_cluster_without_workers_is_waited_for(
    tmp_path: Path, lab: DaskLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.workers[0].terminate()
    lab.workers[0].wait()
    monkeypatch.setattr("bioimage_py.runner.dask.runner._ALONE", 0.2)
    starter = threading.Timer(1, lambda: lab.start_workers(1))
    starter.start()
    config = DaskConfig(address=lab.address, tmp_root=tmp_path / "runs")
    with pytest.warns(BioimagePyWarning, match=f"{lab.address} has no workers so far"):
        assert DaskRunner(config).map(abs, 2) == [0, 1]
    starter.join()


def test_threads_of_one_worker_share_it(tmp_path: Path) -> None:
    from threadpoolctl import threadpool_info

    def pools() -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info()]

    image = np.random.default_rng(0).integers(0, 9999, (64, 64)).astype("uint16")
    stored(tmp_path, "in.zarr", image, chunks=(8, 8))
    before = pools()
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=4, processes=False, dashboard_address=":0"
        ) as cluster,
        cluster.get_client() as client,
    ):
        config = DaskConfig(client=client, tmp_root=tmp_path / "runs", threads_per_worker=2)
        run = {"job_type": "dask", "job_config": config, "num_workers": 4, "chunks": (8, 8)}
        bp.copy(tmp_path / "in.zarr", tmp_path / "out.zarr", **run, block_shape=(8, 8))
        assert pools() == before
    assert bp.verify(tmp_path / "in.zarr", tmp_path / "out.zarr").equal


def test_a_client_is_kept_as_its_address_and_no_secret_with_it(
    tmp_path: Path, client: Any, scheduler: str
) -> None:
    def fail(item):
        raise ValueError("no")

    config = DaskConfig(client=client, tmp_root=tmp_path / "runs", retries=0)
    with pytest.raises(RunnerError, match="no") as caught:
        DaskRunner(config).map(fail, 1)
    run = json.loads((Path(str(caught.value.tmp_folder)) / "run.json").read_text())
    assert run["config"] == {"address": scheduler, "tmp_root": str(tmp_path / "runs"), "retries": 0}
    with pytest.raises(RunnerError, match="no"):
        bp.resume(str(caught.value.tmp_folder))
    secret = pytest.importorskip("cryptography") and distributed.Security.temporary()
    with (
        distributed.LocalCluster(
            n_workers=0, processes=False, dashboard_address=":0", security=secret
        ) as cluster,
        distributed.Client(cluster.scheduler_address, security=secret, set_as_default=False) as private,
    ):
        assert DaskConfig(client=private).given() == {"address": cluster.scheduler_address}
        # The cluster ends with its process: whoever resumes starts one.
        assert DaskConfig(client=cluster.get_client()).given() == {}


def test_bad_settings_are_named(tmp_path: Path, client: Any) -> None:
    for options, text in (
        ({"client": "tcp://a:1"}, "give an address as address="),
        ({"client": client, "address": "tcp://a:1"}, "not both"),
        ({"address": 8786}, "such as 'tcp://host:8786'"),
        ({"address": client}, "is reached with client="),
        ({"address": "tcp://host:port"}, "such as"),
        ({"connect_timeout": 0}, "connect_timeout"),
        ({"address": "tcp://a:1", "python_executable": "python"}, "their own Python"),
        ({"poll_interval": -1}, "poll_interval"),
    ):
        with pytest.raises(InvalidArgumentError, match=text):
            DaskConfig(**options)
    with pytest.raises(InvalidArgumentError, match="user name") as caught:
        DaskConfig(address="tcp://me:hunter2@host:8786")
    assert "hunter2" not in str(caught.value)
    nobody = DaskConfig(address="tcp://127.0.0.1:9", tmp_root=tmp_path / "runs", connect_timeout=0.5)
    with pytest.raises(InvalidArgumentError, match=r"no Dask scheduler answered at 'tcp://127.0.0.1:9'"):
        DaskRunner(nobody).map(slowly, 1)
    assert not (tmp_path / "runs").exists()
    other = DaskConfig(python_executable=str(tmp_path / "nopython"), tmp_root=tmp_path / "runs")
    with pytest.raises(RunnerError, match="nopython"):
        DaskRunner(other).map(slowly, 1)
    with pytest.raises(InvalidArgumentError, match="RunnerConfig"):
        DaskRunner("no")  # type: ignore[arg-type]
    closed = distributed.Client(client.scheduler.address, set_as_default=False)
    closed.close()
    with pytest.raises(InvalidArgumentError, match="client is closed"):
        DaskRunner(DaskConfig(client=closed, tmp_root=tmp_path)).map(slowly, 1)


def test_distributed_is_imported_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys, bioimage_py as bp; bp.get_runner('local'); bp.DaskConfig(); print('distributed' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'dask\[array,distributed\]'"):
        DaskRunner(RunnerConfig()).map(slowly, 1)


@pytest.mark.parametrize("system", ["PBS", "LSF", "SGE", "SLURM"])
def test_examples_for_batch_systems_make_a_job_script(system: str) -> None:
    jobqueue = pytest.importorskip("dask_jobqueue", reason="needs dask-jobqueue to write the job scripts")
    page = (ROOT / "docs" / "dask.md").read_text(encoding="utf-8")
    (example,) = [
        part.partition("```")[0]
        for part in page.split("```py\n")
        if f"{system}Cluster(" in part.partition("```")[0]
    ]
    constructor = example[example.index(f"{system}Cluster(") :].partition("\n)")[0] + "\n)"
    kind = partial(getattr(jobqueue, f"{system}Cluster"), scheduler_options={"dashboard_address": ":0"})
    with eval(constructor, {f"{system}Cluster": kind}) as cluster:
        script = cluster.job_script()
    assert "distributed.cli.dask_worker tcp://" in script
    assert "--nthreads 1 --memory-limit 4.00GiB --nworkers 8" in script
    assert "--lifetime 230m" in script
    assert " 8" in script or "=8" in script
