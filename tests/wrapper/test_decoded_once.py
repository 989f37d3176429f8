"""How often chunks are decoded is what the plan says, for every wrapper and on every road that one can take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.sources import Source
from bioimage_py.wrapper import (
    AffineSource,
    ConcatenateSource,
    FlipSource,
    PadSource,
    ProjectionSource,
    ReducedSource,
    RescaleSource,
    ResizedSource,
    RoiSource,
    SelectSource,
    SimpleTransformationWithHaloSource,
    TransposeSource,
)
from tests.sources.contract import textured
from tests.wrapper.stored import smoothed

EDGE, CHUNK = 48, 8
TURNED = ((1, 0.1, 0, 0), (-0.1, 1, 0, 0), (0, 0, 1, 0))

WRAPPERS: dict[str, Callable[[Source, Source], Source]] = {
    "rescaled": lambda a, _: RescaleSource(a, (0, 4000), (0, 255), "uint8"),
    "halo": lambda a, _: SimpleTransformationWithHaloSource(a, smoothed, 1, "float32"),
    "region": lambda a, _: RoiSource(a, np.s_[5:43, 5:43, 5:43]),
    "padded": lambda a, _: PadSource(a, 5, "reflect"),
    "flipped": lambda a, _: FlipSource(RoiSource(a, np.s_[:, 3:, :])),
    "transposed": lambda a, _: TransposeSource(a, (2, 0, 1)),
    "reduced": lambda a, _: ReducedSource(a, 3, "max"),
    "projected": lambda a, _: ProjectionSource(a, 0),
    "resized": lambda a, _: ResizedSource(a, (EDGE // 2,) * 3, 1, anti_aliasing=True),
    "enlarged": lambda a, _: ResizedSource(a, (60,) * 3, 3),
    "affine": lambda a, _: AffineSource(a, affine_matrix=TURNED, order=1),
    "joined": lambda a, b: ConcatenateSource([a, b], 1),
    "selected": lambda a, _: SelectSource(a, [40, 3], 0),
}
ROADS: dict[str, dict[str, Any]] = {
    "at once": {"num_workers": 1},
    "planned": {"num_workers": 2},
    "little memory": {"num_workers": 2, "memory_limit": "70MB"},
    "small blocks": {"num_workers": 1, "block_shape": 16},
    "shards": {"num_workers": 2, "shards": 16},
    "digest": {"num_workers": 2, "digest": True},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("decoded")
    for name in "ab":
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file.create_dataset("v", data=textured((EDGE,) * 3, "uint16"), chunks=(CHUNK,) * 3, compression=1)
    return [folder / "a.h5", folder / "b.h5"]


@pytest.fixture
def decoded(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> Counter[Any]:
    """How often each chunk is decoded."""
    times: Counter[Any] = Counter()
    with bp.open_source(files[0], "v") as source:
        cls: Any = type(source)
    decode = cls._decode_chunk

    def counted(self: Any, position: tuple[int, ...], box: Any) -> Any:
        times[self.path, position] += 1
        return decode(self, position, box)

    monkeypatch.setattr(cls, "_decode_chunk", counted)
    return times


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_chunks_are_decoded_as_often_as_the_plan_says(
    wrap: Any, files: list[Path], decoded: Counter[Any], tmp_path: Path
) -> None:
    with bp.open_source(files[0], "v") as a, bp.open_source(files[1], "v") as b:
        source = wrap(a, b)
        for road, options in ROADS.items():
            how = {
                name: (n,) * source.ndim if name in ("shards", "block_shape") else n
                for name, n in options.items()
            }
            how |= {"chunks": (8,) * source.ndim}
            plan = bp.plan(source, tmp_path / f"{road}.zarr", **how)
            decoded.clear()
            bp.copy(source, tmp_path / f"{road}.zarr", **how)
            times = decoded.total() / len(decoded)
            assert plan.read_amplification == pytest.approx(times, rel=0.1), road
            assert times <= 1.1, road


@pytest.mark.parametrize("name", ["halo", "region"])
def test_without_room_for_a_cache_neighbours_decode_again(
    name: str, files: list[Path], decoded: Counter[Any], tmp_path: Path
) -> None:
    how: Any = {"chunks": (8,) * 3, "block_shape": (16,) * 3, "memory_limit": "200kB"}
    with bp.open_source(files[0], "v") as a:
        source = WRAPPERS[name](a, a)
        plan = bp.plan(source, tmp_path / "out.zarr", **how)
        assert plan.cache_bytes == 0
        bp.copy(source, tmp_path / "out.zarr", **how)
    assert plan.read_amplification == pytest.approx(decoded.total() / len(decoded))
    assert plan.read_amplification > 2
