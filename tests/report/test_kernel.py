"""A real notebook kernel: what it shows of plans, accounts, comparisons, runs, progress and errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.runner.run import RunAccount

_CELLS = [
    "import numpy as np, bioimage_py as bp; np.save('a.npy', np.ones((64, 64, 64), 'uint8'))",
    "bp.open_source('a.npy')",
    "bp.plan('a.npy', 'a.zarr', chunks=(32, 32, 32))",
    "seen = []\nbp.copy('a.npy', 'a.zarr', chunks=(32, 32, 32), progress=seen.append)\nseen[-1].account",
    "bp.copy('a.zarr', 'b.zarr', progress=True); None",
    "bp.verify('a.npy', 'a.zarr')",
    "bp.copy('a.npy', 'a.zarr')",
    "bp.get_runner('local').run(lambda *_: 1 / 0, [np.ones(8)], block_shape=(4,))",
]
_PROGRAM = """
import json, sys
from jupyter_client.manager import start_new_kernel

manager, client = start_new_kernel(startup_timeout=100)
found = []
try:
    for cell in json.load(sys.stdin):
        outputs = []
        client.execute_interactive(cell, timeout=100, output_hook=lambda message: outputs.append(
            {"type": message["msg_type"], **{k: v for k, v in message["content"].items() if k in ("data", "text", "traceback")}}
        ))
        found.append(outputs)
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """What each cell puts out."""
    pytest.importorskip("ipykernel", reason="there is no notebook kernel")
    folder = tmp_path_factory.mktemp("notebook")
    environment = {**os.environ, "IPYTHONDIR": str(folder), "JUPYTER_PLATFORM_DIRS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], input=json.dumps(_CELLS), cwd=folder, env=environment,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[list[dict[str, Any]]] = json.loads(done.stdout)
    return found


def _html(outputs: list[dict[str, Any]]) -> str:
    return "".join(one["data"].get("text/html", "") for one in outputs if one["type"] == "execute_result")


def test_values_are_tables(shown: list[list[dict[str, Any]]]) -> None:
    for cell, words in (
        (1, ("64 × 64 × 64", "<img")),
        (2, ("road", "recode", "32×32×32")),
        (3, ("time of workers", "chunks", "MB/s")),
        (5, ("result", "equal", "262,144 voxels")),
    ):
        html = _html(shown[cell])
        assert "<table>" in html
        assert all(word in html for word in words), html


def test_progress_is_shown(shown: list[list[dict[str, Any]]]) -> None:
    assert not any(
        "text" in one or one["type"] == "display_data" for one in shown[3]
    )  # a function, and no bar
    told = json.dumps(shown[4], ensure_ascii=False)
    assert "copying" in told
    assert "100 %" in told


def test_errors_are_short(shown: list[list[dict[str, Any]]]) -> None:
    [error] = [one for one in shown[6] if one["type"] == "error"]
    lines = "\n".join(error["traceback"]).splitlines()
    assert len(lines) <= 6
    assert lines[0].startswith("Cell, line 1")
    assert "bp.copy('a.npy', 'a.zarr')" in lines[1]
    assert any(line.startswith("OutputExistsError: ") for line in lines)


def test_an_error_of_the_users_function_has_its_line(shown: list[list[dict[str, Any]]]) -> None:
    [error] = [one for one in shown[7] if one["type"] == "error"]
    assert "ZeroDivisionError" in "\n".join(error["traceback"])
    assert len(error["traceback"]) <= 8


def test_the_whole_traceback_is_shown_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIOIMAGE_PY_DEBUG", "1")
    with pytest.raises(InvalidArgumentError) as raised:
        bp.copy(np.zeros(3), block_shape=(1, 1))
    assert raised.value._render_traceback_()[0].startswith("Traceback")
    monkeypatch.delenv("BIOIMAGE_PY_DEBUG")
    assert len(raised.value._render_traceback_()) <= 5


def test_everything_is_escaped() -> None:
    result = bp.VerifyResult(False, 1, None, None, 2, (2,), ("a", "a"), 2, (("<b>", "<script>"),))
    assert "&lt;script&gt;" in result._repr_html_()
    assert "<script>" not in result._repr_html_()
    assert "<td" in RunAccount()._repr_html_()


def test_the_status_of_a_run_is_a_table(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((8, 8), "uint8"))
    config = bp.RunnerConfig(tmp_root=tmp_path / "runs", keep_run_folder=True)
    bp.copy(tmp_path / "a.npy", tmp_path / "a.zarr", job_config=config).close()
    [folder] = (tmp_path / "runs").iterdir()
    html = bp.status(folder)._repr_html_()
    assert "finished" in html
    assert "1 of 1 (100 %) done" in html
