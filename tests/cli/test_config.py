"""`bioimage-py config`: what is asked of Slurm by default, shown and set."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import pytest

from bioimage_py.runner import bars_are_wanted
from tests.cli.conftest import Call


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the settings are kept; it is not there yet."""
    for name in ("BIOIMAGE_PY_CONFIG", "BIOIMAGE_PY_NO_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "bioimage-py" / "config.toml"


def test_without_a_file_the_defaults_are_shown(call: Call, file: Path) -> None:
    for words in (["config"], ["config", "show"]):
        outcome = call(*words)
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out.startswith(f"file: {file} (does not exist yet)\n")
        assert "\n    partition           -\n" in outcome.out
    document = call("config", "show", "--json").document
    assert (document["file"], document["exists"], document["from_file"]) == (str(file), False, [])
    assert document["slurm"]["cpus_per_task"] == 1
    assert not file.exists()


def test_settings_are_written_with_their_types_and_shown_as_such(call: Call, file: Path) -> None:
    outcome = call(
        "config", "set", "partition", "cpu", "time", "2:00:00", "mem=4000", "cpus-per-task", 4, "keep_run_folder", "yes",
        "task_timeout", "15min", "setup", "module load gcc", "extra", '["--mail-type=FAIL", "--nice"]',
    )  # fmt: skip
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.endswith(f"written to {file}\n")
    assert tomllib.loads(file.read_text())["slurm"] == {
        "partition": "cpu",
        "time": "2:00:00",
        "mem": "4000",
        "cpus_per_task": 4,
        "keep_run_folder": True,
        "task_timeout": 900.0,
        "setup": ["module load gcc"],
        "extra": ["--mail-type=FAIL", "--nice"],
    }
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    shown = call("config").out
    assert shown.startswith(f"file: {file}\n")
    assert "\n  * partition           cpu\n" in shown
    assert "\n  * extra               --mail-type=FAIL; --nice\n" in shown
    assert "\n    retries             2\n" in shown


def test_a_setting_is_forgotten_and_the_rest_of_the_file_stays(call: Call, file: Path) -> None:
    file.parent.mkdir()
    file.write_text('# mine\n[other]\na = 1\n\n[slurm]\npartition = "cpu"  # the fast one\nmem = "4G"\n')
    outcome = call("config", "set", "qos", "high", "--unset", "mem", "--json")
    assert outcome.document["unset"] == ["mem"]
    text = file.read_text()
    assert text.startswith("# mine\n[other]\na = 1\n")
    assert "# the fast one" in text
    assert tomllib.loads(text)["slurm"] == {"partition": "cpu", "qos": "high"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["shwo"], "did you mean show?"),
        (["show", "partition"], "'show' takes no arguments, got 'partition'"),
        (["get"], "such as 'bioimage-py config get partition'"),
        (["get", "partion"], "did you mean 'partition'?"),
        (["set"], "nothing to set: give KEY VALUE"),
        (["set", "partition"], "'partition' has no value"),
        (["set", "partion", "cpu"], "did you mean 'partition'?"),
        (["set", "--unset", "colour"], "has no setting 'colour'"),
        (["set", "mem", "4G", "--unset", "mem"], "mem cannot be set and unset at once"),
        (["set", "mem", "lots"], "mem must be"),
        (["set", "retries", "some"], "retries must be a whole number, got 'some'"),
        (["set", "progres", "no"], "did you mean 'progress'?"),
        (["set", "progress", "perhaps"], "progress must be yes or no"),
        (["set", "durable", "perhaps"], "durable must be yes or no"),
        (["set", "extra", "[1"], "extra must be a JSON list of strings"),
        (["set", "extra", "[1]"], "extra must be a list of texts"),
        (["set", "--unst", "mem"], "did you mean --unset?"),
    ],
)
def test_what_cannot_be_set_is_said_and_nothing_is_written(
    words: list[str], message: str, call: Call, file: Path
) -> None:
    outcome = call("config", *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert not file.exists()


def test_single_settings_are_printed_for_scripts(call: Call, file: Path) -> None:
    call("config", "set", "partition", "cpu")
    assert call("config", "get", "partition").out == "cpu\n"
    assert call("config", "get", "tasks-per-worker", "qos").out == "2\n-\n"
    assert call("config", "get", "partition", "--json").document["partition"] == "cpu"


def test_bars_are_the_one_setting_that_is_not_for_slurm(
    call: Call, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BIOIMAGE_PY_PROGRESS", raising=False)
    assert "\n    progress            yes\n" in call("config").out
    call("config", "set", "partition", "cpu")
    assert call("config", "set", "progress", "no", "qos", "high").code == 0
    assert tomllib.loads(file.read_text()) == {
        "progress": False,
        "slurm": {"partition": "cpu", "qos": "high"},
    }
    assert "\n  * progress            no\n" in call("config").out
    assert not bars_are_wanted()
    monkeypatch.setenv("BIOIMAGE_PY_PROGRESS", "1")
    assert call("config", "get", "progress").out == "yes\n"
    monkeypatch.delenv("BIOIMAGE_PY_PROGRESS")
    call("config", "set", "--unset", "progress")
    assert call("config", "get", "progress", "--json").document["progress"] is True
    file.write_text('progress = "seldom"\n')
    assert "must be true or false, got 'seldom'" in call("config", "get", "progress").err


def test_a_file_that_cannot_be_understood(call: Call, file: Path) -> None:
    file.parent.mkdir()
    file.write_text("[slurm\n")
    for words in (["config"], ["config", "set", "qos", "high"]):
        outcome = call(*words)
        assert outcome.code == 2
        assert f"the configuration file '{file}' is not valid TOML" in outcome.err
    assert file.read_text() == "[slurm\n"


def test_a_file_that_is_ignored_is_said_to_be(
    call: Call, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("config", "set", "partition", "cpu")
    monkeypatch.setenv("BIOIMAGE_PY_NO_CONFIG", "1")
    outcome = call("config")
    assert "(ignored: BIOIMAGE_PY_NO_CONFIG is set)" in outcome.out
    assert "\n    partition           -\n" in outcome.out
