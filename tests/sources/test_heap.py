"""What glibc is told of the memory of chunks, in processes of their own, because it cannot be taken back."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, numpy as np
from bioimage_py.sources.heap import keep_memory_of_chunks
said = {said}
def churn():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(200):
        kept = [np.ones(2**19, np.uint8) for _ in range(8)]
        del kept
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
churn()
print(said, churn())
"""
on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")


def run(said: str, **environment: str) -> tuple[bool, int]:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(said=said)],
        capture_output=True, text=True, check=True, env={**os.environ, **environment},
    )  # fmt: skip
    answer, faults = done.stdout.split()
    return answer == "True", int(faults)


@on_glibc
def test_memory_of_chunks_is_used_again() -> None:
    said, faults = run("keep_memory_of_chunks()")
    assert said
    # 1,600 arrays of 128 pages; without, most of them are emptied anew.
    assert faults < 20_000 < run("False")[1]


@on_glibc
@pytest.mark.parametrize(
    "setting",
    [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}],
    ids=["variable", "tunable"],
)
def test_who_has_said_so_is_left_alone(setting: dict[str, str]) -> None:
    assert not run("keep_memory_of_chunks()", **setting)[0]


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from bioimage_py.sources import heap

    monkeypatch.delattr(os, "confstr")
    assert not heap.keep_memory_of_chunks.__wrapped__()
