"""`bioimage-py bench`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Call


def test_the_table(call: Call, zarr: Path, tmp_path: Path) -> None:
    out = tmp_path / "scratch"
    out.mkdir()
    outcome = call("bench", zarr, "--output", out, "--workers", 2, "--sample", "128KiB")
    assert (outcome.code, outcome.err) == (0, "")
    title, heads, *rows = outcome.out.splitlines()
    assert title == f"MB/s of voxels of {zarr}"
    assert heads.split("  ")[-1].strip() == "2 workers"
    assert [row.split()[0] for row in rows[:4]] == ["read", "decode", "encode", "write"]
    assert all(float(n.replace(",", "")) > 0 for row in rows[:4] for n in row.split()[1:3])
    assert rows[4].startswith("road of a copy: verbatim, about ")
    assert "the bottleneck is " in rows[4]
    assert all(row.startswith("hint: ") for row in rows[5:])
    assert list(out.iterdir()) == []


def test_one_document(call: Call, zarr: Path, tmp_path: Path) -> None:
    words = ["--output", tmp_path, "--workers", 1, "--sample", "128KiB", "--codec", "gzip:1", "--chunks", 10]
    document = call("bench", zarr, *words, "--json").document
    assert document["command"] == "bench"
    assert document["input"]["path"] == str(zarr)
    assert document["road"] == "recode"
    assert (document["chunks"], document["codec"]) == ([10, 10, 10], "gzip:1")
    assert [rate["stage"] for rate in document["rates"]] == ["read", "decode", "encode", "write"]
    assert document["bottleneck"] in ("read", "decode", "encode", "write")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "nowhere"], "a folder that exists"),
        (["--sample", "much"], "positive number of bytes"),
        (["--workers", "0"], "number of 1 or more"),
        (["--verify"], "unexpected: '--verify'"),
    ],
)
def test_bad_input(words: list[str], message: str, call: Call, zarr: Path) -> None:
    outcome = call("bench", zarr, *words)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") <= 3


def test_what_is_not_there(call: Call, tmp_path: Path) -> None:
    assert call("bench", tmp_path / "no.tif").code == 2
