"""Sizes in bytes, as users write them."""

from __future__ import annotations

import pytest

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.planning import default_memory_limit, format_bytes, parse_bytes
from bioimage_py.system import available_memory


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("512MiB", 2**29),
        ("2GB", 2 * 10**9),
        ("1.5 g", 3 * 2**29),
        (4096, 4096),
        ("10", 10),
        ("1TiB", 2**40),
        (2.0**20, 2**20),
    ],
)
def test_reads_sizes(text, n_bytes):
    assert parse_bytes(text) == n_bytes


@pytest.mark.parametrize("text", ["", "much", "-1GiB", 0, -5, None, "5 parsecs", True, [], "0"])
def test_refuses_what_is_no_size(text):
    with pytest.raises(InvalidArgumentError, match="memory_limit"):
        parse_bytes(text)


def test_writes_sizes_for_people():
    assert [format_bytes(n) for n in (0, 1023, 2**20, 3 * 2**29, 2**50 * 5)] == [
        "0 B",
        "1023 B",
        "1 MiB",
        "1.5 GiB",
        "5 PiB",
    ]


def test_default_limit_is_two_gibibytes_or_half_of_what_is_free(monkeypatch):
    assert available_memory() > 0
    monkeypatch.setattr("bioimage_py.planning.byte_size.available_memory", lambda: 2**40)
    assert default_memory_limit() == 2**31
    monkeypatch.setattr("bioimage_py.planning.byte_size.available_memory", lambda: 2**30)
    assert default_memory_limit() == 2**29
