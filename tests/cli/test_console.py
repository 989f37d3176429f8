"""What is printed where, in any locale."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.cli import Console, plain, printable
from bioimage_py.errors import BioimagePyWarning
from tests.cli.conftest import Call


def test_json_is_strict_whatever_the_values() -> None:
    values = {
        "numpy": np.float32(0.5), "array": np.arange(3), "nan": float("nan"), "inf": [float("inf"), -float("inf")],
        "numpy nan": np.float64("nan"), 3: (1, None, True), "complex": 1 + 2j, "name": "caf\udce9",
    }  # fmt: skip
    text = json.dumps(plain(values), allow_nan=False)
    assert json.loads(text) == {
        "numpy": 0.5, "array": [0, 1, 2], "nan": "NaN", "inf": ["Infinity", "-Infinity"], "numpy nan": "NaN",
        "3": [1, None, True], "complex": "(1+2j)", "name": "caf\udce9",
    }  # fmt: skip


def test_signs_become_plain_letters_where_the_terminal_knows_only_ascii() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert printable("2 × 3 µm, 1 Å · é …", stream) == "2 x 3 um, 1 A | \\xe9 ..."
    assert printable("2 × 3 µm é", io.TextIOWrapper(io.BytesIO(), encoding="utf-8")) == "2 × 3 µm é"


def test_a_file_name_that_is_not_unicode_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    Console().line("caf\udce9.tif")
    assert capsys.readouterr().out == "caf\\udce9.tif\n"


def test_a_warning_of_the_package_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    with console.showing_warnings():
        warnings.warn("the values\nmay be cut", BioimagePyWarning, stacklevel=1)
    assert capsys.readouterr() == ("", "bioimage-py: warning: the values may be cut\n")


def test_a_warning_goes_into_the_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(as_json=True)
    with console.showing_warnings():
        warnings.warn("careful", BioimagePyWarning, stacklevel=1)
    console.line("not for machines")
    console.document({"command": "copy"})
    out, err = capsys.readouterr()
    assert json.loads(out) == {"command": "copy", "warnings": ["careful"]}
    assert err == ""


def test_quiet_leaves_out_remarks_only(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(quiet=True)
    console.remark("done")
    console.line("what was asked for")
    assert capsys.readouterr().out == "what was asked for\n"


def test_what_would_act_on_a_terminal_is_shown_escaped(call: Call, tmp_path: Path) -> None:
    wicked = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202egpj"
    bp.create_output(tmp_path / "a.zarr", shape=(4,), dtype="uint8", attributes={wicked: wicked})
    (tmp_path / "a.zarr").rename(tmp_path / f"{wicked}.zarr")
    for words in (("info", tmp_path / f"{wicked}.zarr"), ("info", tmp_path / f"{wicked}.none")):
        done = call(*words)
        shown = done.out + done.err
        assert "owned" in shown
        assert not set("\x1b\x07\x9b\r\u202e") & set(shown)
        assert "\\x1b" in shown
