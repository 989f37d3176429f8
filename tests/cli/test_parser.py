"""The words of the command line: help, usage errors, exit codes."""

from __future__ import annotations

import json

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


@pytest.mark.parametrize("words", [["--help"], *([verb, "--help"] for verb in VERBS)])
def test_help_explains_exit_codes_and_shows_examples(words: list[str], call: Call) -> None:
    outcome = call(*words)
    assert (outcome.code, outcome.err) == (0, "")
    for code in EXIT_CODES:
        assert f"\n  {code:<4}" in outcome.out
    for verb in VERBS if len(words) == 1 else words[:1]:
        assert f"\n  bioimage-py {verb} " in outcome.out


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
