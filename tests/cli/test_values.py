"""What a user types after an option."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from bioimage_py.cli import values
from bioimage_py.geometry import IdSet
from bioimage_py.system import available_cores
from bioimage_py.text import ids_text


@pytest.mark.parametrize("text", ["64,32,16", "64x32x16", "64X32X16", "64×32×16", " 64, 32, 16 "])
def test_a_shape_is_read_with_commas_or_crosses(text: str) -> None:
    assert values.shape(text) == (64, 32, 16)


@pytest.mark.parametrize("text", ["", "64,", "64,a", "0,1", "-1", "1.5", "64 32", "²"])
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="positive number per axis"):
        values.shape(text)


def test_a_single_number_stands_for_every_axis() -> None:
    assert values.for_axes((64,), 3) == (64, 64, 64)
    assert values.for_axes((64,), 0) == ()
    assert values.for_axes((64, 32), 3) == (64, 32)
    assert values.for_axes(None, 3) is None


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 1000)), min_size=1, max_size=20))
def test_block_ids_written_as_text_are_read_back(runs: list[tuple[int, int]]) -> None:
    ids = IdSet((begin, begin + n) for begin, n in runs)
    assert values.block_ids(ids_text(ids.runs)) == ids.runs


def test_ranges_of_block_ids_include_both_ends() -> None:
    assert IdSet(values.block_ids("0-2, 7")) == [0, 1, 2, 7]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no block numbers"),
        ("3-1", "write 1-3"),
        ("a", "not 'a'"),
        ("-1", "not '-1'"),
        ("1-2-3", "not '1-2-3'"),
    ],
)
def test_what_is_no_list_of_blocks_is_refused(text: str, message: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        values.block_ids(text)


def test_block_ids_are_read_from_a_file(tmp_path: Path) -> None:
    list_of_blocks = tmp_path / "missing blocks.txt"
    list_of_blocks.write_text("0-99,\n120\n7")
    assert IdSet(values.block_ids(f"@{list_of_blocks}")).runs == ((0, 100), (120, 121))


def test_a_file_of_block_ids_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="nowhere"):
        values.block_ids(f"@{tmp_path / 'nowhere.txt'}")


def test_a_codec_is_a_name_or_json() -> None:
    assert values.codec("zstd:3") == "zstd:3"
    assert values.codec('{"name": "blosc", "cname": "lz4"}') == {"name": "blosc", "cname": "lz4"}
    with pytest.raises(argparse.ArgumentTypeError, match="not valid JSON"):
        values.codec('{"name": ')


@pytest.mark.parametrize("text", ["0", "-2", "many", "1.5", ""])
def test_a_count_of_workers_is_at_least_one(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="1 or more"):
        values.workers(text)


def test_cores_are_those_this_process_may_use() -> None:
    assert available_cores() >= 1
