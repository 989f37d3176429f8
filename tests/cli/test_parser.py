"""The words of the command line: help, usage errors, exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bioimage_py.cli import EXIT_CODES, VERBS
from tests.cli.conftest import Call


def test_the_bare_command_prints_help_and_fails(call: Call) -> None:
    outcome = call()
    assert outcome.code == 2
    assert outcome.out.startswith("usage: bioimage-py")
    assert outcome.err == ""


def test_the_version(call: Call) -> None:
    outcome = call("--version")
    assert outcome.code == 0
    assert outcome.out.split()[0] == "bioimage-py"
    assert outcome.out.split()[1][0].isdigit()


@pytest.mark.parametrize("columns", [80, 50])
@pytest.mark.parametrize("words", [["--help"], *([verb, "--help"] for verb in VERBS)])
def test_help_shows_examples_and_fits_the_terminal(
    words: list[str], columns: int, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    outcome = call(*words)
    assert (outcome.code, outcome.err) == (0, "")
    assert max(map(len, outcome.out.splitlines())) <= columns
    for verb in VERBS if len(words) == 1 else words[:1]:
        assert re.search(rf"\n  bioimage-py {verb}\s", outcome.out)


def test_the_exit_codes_are_listed_once(call: Call) -> None:
    for code in EXIT_CODES:
        assert f"\n  {code:<4}" in call("--help").out
    assert not any("exit codes:" in call(verb, "--help").out for verb in VERBS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        (["stat", "x"], "did you mean status?"),
        (["status", "x", "--wacth"], "did you mean --watch?"),
        (["copy"], "required: INPUT, OUTPUT"),
        (["copy", "a", "b", "--chunk", "3"], "unexpected: '--chunk' '3'; did you mean --chunks?"),
        (["copy", "-in.tif", "out.zarr", "x"], "put '--' before a name"),
        (["copy", "a", "b", "--chunks", "3,a"], "--chunks: give one positive number per axis"),
        (["copy", "a", "b", "--block-ids", "9-1"], "--block-ids: the range 9-1 runs backwards"),
        (["copy", "a", "b", "--workers", "0"], "--workers: give a number of 1 or more"),
        (["copy", "a", "b", "--zarr-format", "4"], "--zarr-format: invalid choice"),
        (["copy", "a", "b", "--key", "k", "--pattern", "*.tif"], "not allowed with"),
        (["copy", "a", "b", "--overwrite", "--into-existing"], "not allowed with"),
        (["plan", "a", "b", "--verify"], "unexpected: '--verify'"),
        (["copy", "a", "b", "--voxel-size", "1", "0.3", "0.3"], "one word: --voxel-size 1,0.3,0.3"),
        (["copy", "--chunks=64", "64", "64", "a", "b"], "one word: --chunks 64,64,64"),
        (["copy", "s/1.tif", "s/2.tif", "s/3.tif", "b.zarr", "-j2"], "copy s/ --pattern '*.tif' b.zarr -j2"),
        (["copy", "1.tif", "2.tif", "3.tif", "d", "-j2"], "copy ./ --pattern '*.tif' d -j2"),
        (["info", "1.png", "2.png", "3.png"], "bioimage-py info ./ --pattern '*.png'"),
        (["copy", *[f"{n}.tif" for n in range(99)], "b.zarr"], "'4.tif' and 95 more"),
        (["config", "got"], "did you mean get?"),
        (["completion", "csh"], "choose from"),
    ],
)
def test_wrong_usage_is_one_line_and_a_hint(words: list[str], message: str, call: Call) -> None:
    outcome = call(*words)
    assert (outcome.code, outcome.out) == (2, "")
    first, hint = outcome.err.splitlines()
    assert first.startswith("bioimage-py: error: ")
    assert message in first
    assert "--help" in hint


def test_wrong_usage_is_a_document_for_machines(call: Call) -> None:
    outcome = call("copy", "a", "b", "--json", "--chunks", "x")
    assert (outcome.code, outcome.err) == (2, "")
    assert outcome.document["command"] == "copy"
    assert outcome.document["error"]["type"] == "UsageError"
    assert outcome.document["error"]["exit_code"] == 2


def test_a_path_called_like_an_option_is_a_path_after_two_dashes(call: Call) -> None:
    outcome = call("info", "--", "--json")
    assert outcome.code == 2
    assert outcome.out == ""
    assert "there is no file or folder '--json'" in outcome.err


def test_an_unforeseen_error_is_reported_with_its_traceback(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("bioimage_py.cli.commands.run_info", broken)
    outcome = call("info", "a.tif")
    assert outcome.code == 70
    assert "Traceback" in outcome.err
    assert "bioimage-py: error: internal error: ZeroDivisionError: a bug" in outcome.err
    assert "please report it" in outcome.err
    outcome = call("info", "a.tif", "--json")
    assert json.loads(outcome.out)["error"]["exit_code"] == 70


@pytest.mark.parametrize("how", ["option", "environment"])
def test_a_traceback_is_shown_on_request_only(how: str, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Traceback" not in call("info", "nowhere.tif").err
    if how == "environment":
        monkeypatch.setenv("BIOIMAGE_PY_DEBUG", "1")
    outcome = call("info", "nowhere.tif", *(["--debug"] if how == "option" else []))
    assert outcome.code == 2
    assert outcome.err.startswith("Traceback")
    assert "bioimage-py: error: there is no file or folder 'nowhere.tif'" in outcome.err


def test_ctrl_c_outside_a_run(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("bioimage_py.cli.commands.run_info", interrupted)
    assert call("info", "a.tif") == (130, "", "bioimage-py: interrupted: stopped before it was done\n")


def test_short_options(call: Call, npy: Path, tmp_path: Path) -> None:
    assert call("-V").out == call("--version").out
    assert call("copy", npy, tmp_path / "a.zarr", "-qj2")[:] == (0, "", "")
    outcome = call("copy", npy, tmp_path / "b.zarr", "-v", "-j", "2")
    assert outcome.code == 0
    assert any(line.startswith("bioimage-py: ") and "MB/s" in line for line in outcome.err.splitlines())
    assert call("verify", npy, tmp_path / "b.zarr", "-q")[:] == (0, "", "")


def test_quiet_means_quiet(call: Call, npy: Path, tmp_path: Path) -> None:
    assert call(
        "pyramid", npy, tmp_path / "a.ome.zarr", "-q", "--axes", "zyx", "--voxel-size", "1", "--units", "um"
    )[:] == (
        0,
        "",
        "",
    )
    assert call("preview", npy, "-o", tmp_path / "a.png", "-q")[:] == (0, "", "")
    assert call("copy", npy, tmp_path / "b.zarr", "--verify", "-q")[:] == (0, "", "")
