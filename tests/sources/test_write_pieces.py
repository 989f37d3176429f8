"""Large boxes are in an engine's hands piece by piece: whole units, each once, and the same voxels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import bioimage_py as bp
from bioimage_py.geometry import Box
from bioimage_py.sources.stores import piece_shape, pieces_of, tensorstore_array


@given(data=st.data())
def test_pieces_are_whole_units_and_tile_the_box(data: st.DataObject) -> None:
    ndim = data.draw(st.integers(1, 4))
    unit = tuple(data.draw(st.integers(1, 5)) for _ in range(ndim))
    shape = tuple(data.draw(st.integers(1, 20)) for _ in range(ndim))
    begin = tuple(u * data.draw(st.integers(0, (n - 1) // u)) for u, n in zip(unit, shape, strict=True))
    end = tuple(
        min(n, b + u * data.draw(st.integers(1, 5))) for b, u, n in zip(begin, unit, shape, strict=True)
    )
    box = Box(begin, end)
    source = bp.as_source(np.empty(shape, "uint16"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensorstore_array, "IN_HAND_BYTES", data.draw(st.integers(2, 400)))
        pieces = list(pieces_of(source, unit, box))
        limit = tensorstore_array.IN_HAND_BYTES
    seen = np.zeros(shape, int)
    for piece in pieces:
        seen[piece.slices] += 1
        assert all(b % u == 0 for b, u in zip(piece.begin, unit, strict=True))
        assert all(e % u == 0 or e == n for e, u, n in zip(piece.end, unit, shape, strict=True))
        assert piece.size * 2 <= max(limit, 2 * np.prod(unit))
    assert (seen[box.slices] == 1).all()
    assert seen.sum() == box.size


def test_a_piece_of_whole_rows() -> None:
    assert piece_shape((64, 64, 64), 2, Box((0, 0, 0), (64, 1024, 4096))) == (64, 64, 2048)
    assert piece_shape((1, 8), 2, Box((0, 0), (10, 80)), 10**6) == (10, 80)


@pytest.mark.parametrize("options", [{}, {"shards": (8, 16, 16)}, {"zarr_format": 2}])
@pytest.mark.parametrize("ndim", [3, 4])
def test_large_boxes_keep_their_voxels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], ndim: int
) -> None:
    lead = (2,) * (ndim - 3)
    values = np.random.default_rng(0).integers(0, 3, (*lead, 21, 30, 17)).astype("uint16")
    one = (1,) * len(lead)
    if "shards" in options:
        options = {"shards": (*one, *options["shards"])}
    monkeypatch.setattr(tensorstore_array, "IN_HAND_BYTES", 700)
    chunks = (*one, 4, 8, 8)
    source = bp.create_output(
        tmp_path / "a.zarr", shape=values.shape, dtype="uint16", chunks=chunks, **options
    )
    source[...] = values
    np.testing.assert_array_equal(bp.open_source(tmp_path / "a.zarr")[...], values)
    box = Box((*(0 for _ in lead), 3, 5, 2), (*lead, 20, 30, 11))
    buffer = np.ones(box.shape, "uint16")
    np.testing.assert_array_equal(source.read(box, buffer), values[box.slices])
    # Strided memory, and a box that begins inside of a chunk.
    strided = np.zeros((*box.shape[:-1], 2 * box.shape[-1]), "uint16")[..., ::2]
    strided[...] = values[box.slices] + 1
    source.write(box, strided)
    values[box.slices] += 1
    np.testing.assert_array_equal(source[...], values)
