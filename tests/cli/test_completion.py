"""Completion, in the shells that this machine has."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from bioimage_py.cli import VERBS
from tests.cli.conftest import Call


def _shell(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture
def script(tmp_path: Path, call: Call) -> Path:
    path = tmp_path / "completion.bash"
    path.write_text(call("completion", "bash").out)
    return path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["", ""], [*VERBS, "--help", "--version"]),
        (["co"], ["copy", "config", "completion"]),
        (["copy", "in.tif", "--job"], ["--job-type"]),
        (["copy", "in.tif", "out.zarr", "--job-type", "s"], ["subprocess", "slurm"]),
        (["config", ""], ["show", "get", "set"]),
        (["copy", "in"], []),  # names of files, which bash adds
        (["runs", "--chunks"], []),
    ],
)
def test_bash_offers_verbs_options_and_values(words: list[str], expected: list[str], script: Path) -> None:
    program = 'source "$1"; shift; COMP_WORDS=(bioimage-py "$@"); COMP_CWORD=$#; _bioimage_py; printf "%s\\n" "${COMPREPLY[@]}"'
    words = words[1:] if words[0] == "" else words
    done = subprocess.run(
        [_shell("bash"), "--norc", "-c", program, "-", script, *words],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.split() == expected
    assert done.stderr == ""


def test_the_tab_key_of_an_interactive_bash(script: Path, tmp_path: Path) -> None:
    (tmp_path / "stack.tif").touch()
    master, slave = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": str(tmp_path), "PS1": "$ "}
    child = subprocess.Popen(
        [_shell("bash"), "--norc", "--noprofile", "-i"],
        stdin=slave, stdout=slave, stderr=slave, cwd=tmp_path, env=environment, start_new_session=True,
    )  # fmt: skip
    os.close(slave)

    def shown_after(keys: str, expected: str) -> bool:
        os.write(master, keys.encode())
        text, end = "", time.monotonic() + 60
        while expected not in text and time.monotonic() < end:
            if select.select([master], [], [], 0.2)[0]:
                text += os.read(master, 65536).decode(errors="replace")
        return expected in text

    try:
        assert shown_after(f"source {script}; echo re''ady\n", "ready")
        assert shown_after("bioimage-py verif\t", "bioimage-py verify ")
        assert shown_after("st\t", "stack.tif ")
        assert shown_after("--memory-l\t", "--memory-limit ")
    finally:
        child.kill()
        child.wait(60)
        os.close(master)


def test_fish_offers_verbs_options_and_values(tmp_path: Path, call: Call) -> None:
    fish = _shell("fish")
    path = tmp_path / "completion.fish"
    path.write_text(call("completion", "fish").out)
    for line, expected in (("co", "copy"), ("copy --job", "--job-type"), ("copy a --job-type sl", "slurm")):
        asked = f"source {path}; complete -C 'bioimage-py {line}'"
        done = subprocess.run(
            [fish, "--no-config", "-c", asked], capture_output=True, text=True, timeout=60, check=True
        )
        assert expected in [found.split("\t")[0] for found in done.stdout.splitlines()]


def test_zsh_takes_the_script(tmp_path: Path, call: Call) -> None:
    zsh = _shell("zsh")
    path = tmp_path / "_bioimage_py"
    path.write_text(call("completion", "zsh").out)
    subprocess.run([zsh, "-n", path], timeout=60, check=True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_verb_is_in_each_script(shell: str, call: Call) -> None:
    outcome = call("completion", shell)
    assert (outcome.code, outcome.err) == (0, "")
    assert all(verb in outcome.out for verb in VERBS)
