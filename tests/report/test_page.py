"""The page of a run: drawn by a real browser, small, safe against what its texts hold, and served to who knows its address only."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.cli import main
from bioimage_py.errors import (
    InvalidArgumentError,
    OutputExistsError,
    RunnerError,
    SourceNotFoundError,
    StorageError,
)
from bioimage_py.geometry import Blocking, IdSet
from bioimage_py.report.page import PageServer, Part, ShownRun, page_html, shown_journal
from bioimage_py.runner import Journal
from bioimage_py.runner.run import AttemptJournal, Pace, Portion, RunFolder
from bioimage_py.runner.work import BlockGroups
from tests.report.chromium import Page, open_page
from tests.waiting import PATIENCE, eventually

COMMAND = Path(sys.executable).with_name("bioimage-py")
HOSTILE = "</script></title><script>hacked = 1</script><img src=x onerror='hacked = 1'>\u202e &lt;"
MANY = 10**6


def part(shape: tuple[int, ...], block: tuple[int, ...], name: str = HOSTILE, offset: int = 0) -> Part:
    axes = tuple("tczyx"[-len(shape) :])
    return Part(name, axes, BlockGroups(Blocking(shape, block), block), offset)


def shown(parts: list[Part], done: IdSet, failed: list[int]) -> ShownRun:
    n = sum(one.blocking.n_blocks for one in parts)
    journal = Journal(n)
    journal.merge(done, {})
    if failed:
        journal.failed(failed, ValueError(HOSTILE))
    return shown_journal(parts, journal, IdSet.from_range(n), HOSTILE, [(HOSTILE, HOSTILE)], "local")


def a_million() -> ShownRun:
    """A volume of a million blocks, of which scattered ones are done; no cell is like its neighbour."""
    ids = np.random.default_rng(0).permutation(MANY)
    done = IdSet.from_ids(ids[: MANY // 2])
    return shown([part((6400,) * 3, (64,) * 3)], done, ids[MANY // 2 : MANY // 2 + 1000].tolist())


def many_arrays() -> ShownRun:
    parts = [part((2, 3, 4, 100, 100), (1, 1, 1, 10, 10), f"{n}/{HOSTILE}", 2400 * n) for n in range(500)]
    return shown(parts, IdSet.from_range(400_000, 1000), [401_000])


def data_of(html: str) -> dict[str, Any]:
    return dict(json.loads(html.partition('id="run">')[2].partition("</script>")[0]))


@pytest.mark.parametrize("made", [a_million, many_arrays])
def test_a_page_stays_small_and_counts_right(made: Any) -> None:
    html = page_html(made())
    assert len(html) < 2_000_000
    found = data_of(html)
    for array in found["arrays"]:
        for panel in array["panels"] or ():
            n_cells = panel["rows"]["n"] * panel["columns"]["n"]
            for name in ("total", "done") if not array["sampled"] else ():
                total = panel[name] * n_cells if isinstance(panel[name], int) else sum(panel[name])
                assert total == array[name]
    # Nothing that is shown is in the page as anything but data.
    assert "hacked" not in html.partition('id="run">')[0] + html.rpartition("</script>")[2]
    assert html.count("<script") == 2
    assert "\\u202e" not in html


def evaluated(page: Page, expression: str) -> Any:
    return page.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")


def test_a_browser_draws_it_in_all_widths_light_and_dark(tmp_path: Path) -> None:
    pages = {
        "million": a_million(),
        "arrays": many_arrays(),
        "nothing": shown([], IdSet(), []),
        "none done": shown([part((5,), (2,))], IdSet(), []),
        "plane": shown([part((50, 70), (10, 10))], IdSet.from_range(5), [7]),
    }
    with open_page(tmp_path) as page:
        page.call("Log.enable")
        for n, made in enumerate(pages.values()):
            (tmp_path / f"{n}.html").write_text(page_html(made))
            page.open((tmp_path / f"{n}.html").as_uri())
            page.wait_until(lambda: bool(evaluated(page, "!!document.querySelector('footer')")))
            for scheme in ("light", "dark"):
                media = [{"name": "prefers-color-scheme", "value": scheme}]
                page.call("Emulation.setEmulatedMedia", features=media)
                for width in (400, 800, 1600):
                    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
                    page.call("Emulation.setDeviceMetricsOverride", **size)
                    beyond = "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
                    assert evaluated(page, f"{beyond}.map(e => e.outerHTML.slice(0, 80))") == []
            assert evaluated(page, "typeof hacked") == "undefined"
            assert evaluated(page, "document.querySelector('h1').textContent") == HOSTILE.replace(
                "\u202e", "\ufffd"
            )
            (tmp_path / f"{n}.png").write_bytes(page.picture())
        pixels = "(c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data)(document.querySelector('canvas'))"
        colors = f"(d => [...new Set(Array.from({{length: d.length / 4}}, (_, n) => d.slice(4 * n, 4 * n + 3).join(' ')))])({pixels})"
        assert {"92 157 255", "255 93 115", "42 51 65"} <= set(evaluated(page, colors))
        # What fails in the page, or what its policy refuses, is reported.
        assert not page.failures


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunFolder]:
    """A run of 8 blocks that goes on: block 3 has failed before, and is in work again; 7 are done."""
    np.save(tmp_path / "a.npy", np.arange(16 * 4, dtype="uint8").reshape(16, 4))

    def doubled(block: Any, inputs: Any, outputs: Any, _: Any) -> None:
        if block.begin[0] == 6:
            raise ValueError(HOSTILE)
        outputs[0][bp.to_roi(block)] = 2 * inputs[0][bp.to_roi(block)]

    output = bp.create_output(tmp_path / "b.zarr", shape=(16, 4), dtype="uint8", chunks=(2, 4))
    runner = bp.get_runner("local", bp.RunnerConfig(tmp_root=tmp_path / "runs"))
    with output, pytest.raises(RunnerError) as raised:
        runner.run(doubled, [bp.open_source(tmp_path / "a.npy")], [output], block_shape=(2, 4))
    folder = RunFolder.open(str(raised.value.tmp_folder))
    folder.write_round(1, [Portion(IdSet.from_range(8))], {"needs": {}, "at_once": 1, "tasks": 1})
    folder.take_driver({"host": platform.node(), "pid": os.getpid(), "born": None, "began": 0.0})
    attempt = AttemptJournal(folder, 1, 0, threads=2)
    yield folder
    with contextlib.suppress(StorageError):  # a test has removed the folder
        attempt.end("stopped")


def test_blocks_in_work_and_attempts_are_shown(run: RunFolder) -> None:
    found = data_of(bp.run_page(run.path))
    assert found["counts"] == {"total": 8, "done": 7, "failed": 0, "running": 1}
    assert found["arrays"][0]["panels"][0]["running"] == {"3": 1}
    tasks = [dict(row) for row in found["tasks"]]
    assert [task["state"] for task in tasks] == ["running", "finished"]
    assert tasks[1]["blocks"] == "7"
    assert "MiB" in tasks[1]["memory"]
    assert found["errors"][0]["place"] == "axis 0 6-7, axis 1 0-3"
    assert "raise ValueError" in found["errors"][0]["traceback"]


def fetch(url: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
        return bytes(answer.read())


def test_only_who_knows_the_address_is_served() -> None:
    made = shown([part((4, 4), (2, 2))], IdSet.from_range(1), [])
    with PageServer(made) as server:
        assert fetch(server.url).startswith(b"<!doctype html>")
        assert json.loads(fetch(f"{server.url}data.json"))["live"]
        root = server.url.rsplit("/", 2)[0]
        for url in (f"{root}/", f"{root}/data.json", f"{server.url[:-2]}/", f"{server.url}other"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                fetch(url)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetch(server.url, Host="elsewhere.example:80")
        with pytest.raises(InvalidArgumentError, match="cannot be used"):
            PageServer(made, int(root.rpartition(":")[2]))
        server.finish(made)
        assert not json.loads(fetch(f"{server.url}data.json"))["live"]
    with pytest.raises(urllib.error.URLError):
        fetch(server.url)


@pytest.mark.parametrize("ends", [False, True])
def test_a_run_is_served_until_it_ends_or_ctrl_c(ends: bool, run: RunFolder) -> None:
    words = ["status", str(run.path), "--serve", "--no-browser", "--interval", "0.1s"]
    with subprocess.Popen([COMMAND, *words], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            url = child.stdout.readline().split()[2]
            assert json.loads(fetch(f"{url}data.json"))["counts"]["running"] == 1
            if ends:
                run.remove()
                eventually(lambda: not json.loads(fetch(f"{url}data.json"))["live"])
            else:
                child.send_signal(signal.SIGINT)
            said, _ = child.communicate(timeout=PATIENCE)
        finally:
            child.kill()
    assert child.returncode == 0
    assert ("removed" if ends else "stopped watching; the run goes on") in said


def test_a_copy_leaves_a_page(tmp_path: Path) -> None:
    image = np.arange(64, dtype="uint16").reshape(4, 4, 4)
    for config in (None, bp.RunnerConfig(tmp_root=tmp_path / "runs")):
        np.save(tmp_path / "in.npy", image)
        output = tmp_path / f"{config is None}.zarr"
        bp.copy(
            tmp_path / "in.npy",
            output,
            chunks=(2, 2, 2),
            axes="zyx",
            page=tmp_path / "run.html",
            job_config=config,
        ).close()
        found = data_of((tmp_path / "run.html").read_text())
        assert (found["state"], found["counts"]["done"]) == ("finished", found["counts"]["total"])
        assert found["arrays"][0]["panels"][0]["columns"]["name"] == "x"
        assert found["pace"] is not None
    bp.copy(np.zeros((0, 4)), page=tmp_path / "run.html")
    assert data_of((tmp_path / "run.html").read_text())["state"] == "finished"
    wide = np.full((4, 4), 300, "uint16")
    with pytest.raises(RunnerError):
        bp.copy(
            wide, np.zeros((4, 4), "uint8"), casting="check", block_shape=(2, 4), page=tmp_path / "run.html"
        )
    found = data_of((tmp_path / "run.html").read_text())
    assert (found["state"], found["errors"][0]["type"]) == ("stopped", "CastingError")


def test_a_whole_image_has_a_map_of_each_array(tmp_path: Path) -> None:
    bp.pyramid(
        np.zeros((8, 32, 32), "uint8"), tmp_path / "a.ome.zarr", chunks=(4, 8, 8), axes="zyx", levels=2
    )
    bp.copy(tmp_path / "a.ome.zarr", tmp_path / "b.ome.zarr", page=tmp_path / "run.html").close()
    arrays = data_of((tmp_path / "run.html").read_text())["arrays"]
    assert [array["name"] for array in arrays] == ["0", "1"]
    assert [array["panels"][0]["rows"]["name"] for array in arrays] == ["y", "y"]


def test_a_resumed_run_leaves_a_page(tmp_path: Path) -> None:
    bp.copy(np.ones((8, 4), "uint8"), tmp_path / "a.zarr", chunks=(2, 4)).close()
    chunk, page = tmp_path / "a.zarr" / "c" / "1" / "0", tmp_path / "run.html"
    good = chunk.read_bytes()
    chunk.write_bytes(b"damaged")
    config = bp.RunnerConfig(tmp_root=tmp_path / "runs")
    options: dict[str, Any] = {"codec": "gzip", "chunks": (2, 4), "block_shape": (2, 4), "job_config": config}
    with pytest.raises(RunnerError) as raised:
        bp.copy(tmp_path / "a.zarr", tmp_path / "b.zarr", **options)
    folder = str(raised.value.tmp_folder)
    for counts in ({"done": 3, "failed": 1}, {"done": 4, "failed": 0}):
        assert main(["resume", folder, "--page", str(page)]) == (3 if counts["failed"] else 0)
        assert data_of(page.read_text())["counts"] == {"total": 4, "running": 0, **counts}
        chunk.write_bytes(good)
    assert not Path(folder).exists()


def test_where_no_page_can_be_is_said_before_the_copy(tmp_path: Path) -> None:
    (tmp_path / "notes.html").write_text("mine")
    for place, kind in (
        ("notes.html", OutputExistsError),
        ("", OutputExistsError),
        ("no/run.html", SourceNotFoundError),
    ):
        with pytest.raises(kind):
            bp.copy(np.zeros(4), tmp_path / "out.zarr", page=tmp_path / place)
    with pytest.raises(InvalidArgumentError, match="local file"):
        bp.copy(np.zeros(4), tmp_path / "out.zarr", page="s3://lab/run.html")
    assert not (tmp_path / "out.zarr").exists()
    assert (tmp_path / "notes.html").read_text() == "mine"


def test_the_command_says_what_is_wrong(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "run.html"
    assert main(["page", str(run.path), "-o", str(page)]) == 0
    assert main(["page", str(run.path), "-o", str(page)]) == 0  # a page may be replaced
    run.clear_driver()
    capsys.readouterr()
    for words, said in (
        (["page", str(tmp_path), "-o", str(page)], "is not a run folder"),
        (["page", str(tmp_path / "none"), "-o", str(page)], "there is no run folder"),
        (["page", str(run.path), "-o", str(tmp_path / "no" / "run.html")], "there is no folder"),
    ):
        assert main(words) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count("error:") == 1


def test_a_pace_is_even_and_ends_now() -> None:
    pace = Pace()
    for second in range(1, 100_000, 7):
        pace.add(second, 2 * second)
    times = [seconds for seconds, _ in pace.moments]
    assert len(times) <= 33
    assert pace.moments[-1] == (second, 2 * second)
    assert max(np.diff(times)) < 3 * np.median(np.diff(times))
