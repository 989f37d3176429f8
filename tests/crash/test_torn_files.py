"""Run folders whose files are cut, damaged or missing: never trusted, and never worse than a block that is done again."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bioimage_py as bp
from bioimage_py.errors import BioimagePyError, RunnerError
from bioimage_py.geometry import IdSet
from bioimage_py.runner import LocalRunner, RunnerConfig
from bioimage_py.runner.run import BlockLog, ValueLog, read_block_logs, read_json, read_value_log, write_json
from tests.conftest import EXPLORE

N = 24
RECORDS = [IdSet([(7, 9)]), IdSet([(0, 1)]), IdSet([(3, 4), (11, 2**33)]), IdSet([(9, 10)])]


def flipped(data: bytes, bit: int) -> bytes:
    """The data with one bit the other way round."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.fixture
def blocks(tmp_path: Path) -> Path:
    log = BlockLog(tmp_path / "log")
    for ids in RECORDS:
        log.add(ids.runs)
    log.close()
    return tmp_path / "log"


@pytest.fixture
def values(tmp_path: Path) -> Path:
    log = ValueLog(tmp_path / "log")
    for n in range(5):
        log.add(n, {"n": n, "text": "x" * n})
    log.close()
    return tmp_path / "log"


def test_a_log_of_blocks_cut_at_any_byte(blocks: Path) -> None:
    whole, all_of_it = blocks.read_bytes(), read_block_logs([blocks])
    seen = []
    for end in range(len(whole) + 1):
        blocks.write_bytes(whole[:end])
        seen.append(read_block_logs([blocks]))
        assert not seen[-1] - all_of_it
        assert len(seen) < 2 or not seen[-2] - seen[-1]
    assert len({len(ids) for ids in seen}) == 1 + len(whole) // 16


def test_a_log_of_blocks_with_any_bit_flipped(blocks: Path) -> None:
    whole = blocks.read_bytes()
    others = []
    for at in range(0, len(whole), 16):
        blocks.write_bytes(whole[:at] + bytes(16) + whole[at + 16 :])
        others.append(read_block_logs([blocks]))
    for bit in range(8 * len(whole)):
        blocks.write_bytes(flipped(whole, bit))
        assert read_block_logs([blocks]) == others[bit // 128]


def test_records_that_belong_elsewhere_are_not_trusted(blocks: Path) -> None:
    whole = blocks.read_bytes()
    blocks.write_bytes(whole[16:])  # as if the first page was lost
    assert not read_block_logs([blocks])
    blocks.write_bytes(whole[:16] + bytes(32) + whole[16:])  # a hole, as a crash of the machine leaves
    assert read_block_logs([blocks]) == IdSet([(7, 10)])  # the last record has extended the first one


def test_a_log_of_values_cut_at_any_byte(values: Path) -> None:
    whole, all_of_it = values.read_bytes(), read_value_log(values)
    for end in range(len(whole)):
        values.write_bytes(whole[:end])
        got = read_value_log(values)
        assert len(got) < 5
        assert got == {n: all_of_it[n] for n in range(len(got))}


def test_a_log_of_values_with_any_bit_flipped(values: Path) -> None:
    whole, all_of_it = values.read_bytes(), read_value_log(values)
    for bit in range(8 * len(whole)):
        values.write_bytes(flipped(whole, bit))
        got = read_value_log(values)
        assert len(got) < 5
        assert got == {n: all_of_it[n] for n in range(len(got))}


class Template:
    """A run that failed in half of its items, to be copied and damaged."""

    def __init__(self, place: Path) -> None:
        marks, switch = place / "marks", place / "switch"
        marks.mkdir()

        def unreliable(item: int) -> list[int]:
            if item % 3 == 1 and not switch.exists():
                raise ValueError(f"not yet {item}")
            with (marks / str(item)).open("a") as file:
                file.write("x")
            return [item, item**2]

        config = RunnerConfig(tmp_root=place / "runs")
        with pytest.raises(RunnerError) as caught:
            LocalRunner(config).map(unreliable, N, num_workers=2)
        switch.touch()
        self.marks = marks
        self.folder = Path(str(caught.value.tmp_folder))
        self.expected = [[n, n**2] for n in range(N)]

    def copy(self, place: Path) -> Path:
        if place.exists():
            shutil.rmtree(place)
        shutil.copytree(self.folder, place)
        for mark in self.marks.iterdir():
            mark.unlink()
        return place

    def done_again(self) -> set[int]:
        assert all(mark.stat().st_size == 1 for mark in self.marks.iterdir()), "an item was done twice"
        return {int(mark.name) for mark in self.marks.iterdir()}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return Template(tmp_path_factory.mktemp("template"))


MISSING = {n for n in range(N) if n % 3 == 1}


def resumed(template: Template, folder: Path, damaged: Path) -> bool:
    """Resume: all must be right then, or one error must name the file; return whether it was resumed."""
    said = ""
    try:
        values = bp.resume(folder)
    except BioimagePyError as error:
        said = str(error)
    if said:
        assert str(damaged.relative_to(folder)) in said
        assert folder.exists()
        return False
    assert values == template.expected
    assert template.done_again() >= MISSING
    assert not folder.exists()
    return True


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


FILES = [
    "run.json",
    "function.pkl",
    "rounds/00000.json",
    "rounds/00000.orders",
    "attempts/*.state",
    "attempts/*.blocks",
    "attempts/*.values",
    "attempts/*.errors",
]
NEVER_FATAL = [name for name in FILES if name.startswith("attempts")]


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def flip(data: bytes, chance: random.Random) -> bytes:
    return flipped(data, chance.randrange(8 * len(data)))


def zeroed_end(data: bytes, chance: random.Random) -> bytes:
    keep = chance.randrange(len(data))
    return data[:keep] + bytes(len(data) - keep)


def empty(data: bytes, chance: random.Random) -> bytes:
    return b""


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (name, damage)
        for name in FILES
        for damage in (cut, flip, zeroed_end, empty)
        if (name, damage) != ("attempts/*.errors", flip)  # it is plain text: see the next test
    ],
)
def test_any_file_of_a_run_folder_is_damaged(
    template: Template, tmp_path: Path, name: str, damage: Callable[[bytes, random.Random], bytes]
) -> None:
    chance = random.Random(f"{name} {damage.__name__}")
    for _ in range(1 if damage is empty else 4 * max(1, EXPLORE)):
        folder = template.copy(tmp_path / "run")
        file = only(folder, name)
        file.write_bytes(damage(file.read_bytes(), chance))
        assert resumed(template, folder, file) or name not in NEVER_FATAL


@pytest.mark.parametrize(
    "line",
    [
        b'{"blocks":[[1,2]],"type":"V\xf3lue","text":"","traceback":""}',
        b'{"blocks":[[1]],"type":"ValueError","text":"","traceback":""}',
        b'{"blocks":[[1,2]],"typ":"ValueError","text":"","traceback":""}',
    ],
)
def test_damaged_records_of_errors_do_not_matter(template: Template, tmp_path: Path, line: bytes) -> None:
    folder = template.copy(tmp_path / "run")
    file = only(folder, "attempts/*.errors")
    with file.open("ab") as log:
        log.write(line + b"\n")
    assert resumed(template, folder, file)


def test_a_record_of_an_error_in_more_blocks_than_there_are(template: Template, tmp_path: Path) -> None:
    folder = template.copy(tmp_path / "run")
    file = only(folder, "attempts/*.errors")
    with file.open("ab") as log:
        log.write(b'{"blocks":[[1,9000000000000]],"type":"E","text":"","traceback":""}\n')
    run = read_json(folder / "run.json")
    # Workers that cannot work: so nothing is finished, and the errors are looked at.
    write_json(
        folder / "run.json", {**run, "job_type": "subprocess", "config": {"python_executable": "/bin/false"}}
    )
    with pytest.raises(RunnerError) as caught:
        bp.resume(folder)
    assert set(caught.value.failed_block_ids) == MISSING


@pytest.mark.parametrize(
    "name",
    [
        *FILES,
        "rounds",
        "claims",
        "attempts",
        "logs",
    ],
)
def test_any_file_of_a_run_folder_is_missing(template: Template, tmp_path: Path, name: str) -> None:
    folder = template.copy(tmp_path / "run")
    file = only(folder, name)
    file.unlink() if file.is_file() else shutil.rmtree(file)
    resumed(template, folder, file)


def test_files_that_were_never_renamed_do_not_matter(template: Template, tmp_path: Path) -> None:
    folder = template.copy(tmp_path / "run")
    for place, name in (
        ("", ".run.json.k2l3"),
        ("rounds", ".00001.json.ab12"),
        ("attempts", ".00000-00000-1.json.x"),
    ):
        (folder / place / name).write_text('{"tasks":[[')
    (folder / "attempts" / "00000-00000-99aa.blocks").write_bytes(b"\1" * 7)
    assert resumed(template, folder, folder / "none")
    assert template.done_again() == MISSING


def test_a_value_that_is_lost_is_computed_again(template: Template, tmp_path: Path) -> None:
    folder = template.copy(tmp_path / "run")
    file = only(folder, "attempts/*.values")
    size = file.stat().st_size
    os.truncate(file, size - 1)
    assert bp.resume(folder) == template.expected
    assert len(template.done_again()) == len(MISSING) + 1


def test_the_driver_file_is_damaged(template: Template, tmp_path: Path) -> None:
    contents: list[Any] = ["", "{", "[]", '{"host":"a","pi', "{}", '{"host":3,"pid":"x"}']
    for content in contents:
        folder = template.copy(tmp_path / "run")
        (folder / "driver.json").write_text(content)
        assert resumed(template, folder, folder / "driver.json"), content
