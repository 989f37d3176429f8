"""Images on disk, and the command run inside this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from bioimage_py.cli import main
from bioimage_py.sources import create_output

Image = npt.NDArray[np.uint16]


class Outcome(NamedTuple):
    """What one call of the command left: exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        found: dict[str, Any] = json.loads(self.out)
        return found


Call = Callable[..., Outcome]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run the command line given as words; paths may be `Path` objects."""
    monkeypatch.delenv("BIOIMAGE_PY_DEBUG", raising=False)

    def run(*words: object) -> Outcome:
        code = main([str(word) for word in words])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def image() -> Image:
    """An image of 40 × 50 × 60 voxels, no two neighbours alike."""
    return (np.arange(40 * 50 * 60, dtype=np.uint32) * 2654435761 >> 16).astype(np.uint16).reshape(40, 50, 60)


@pytest.fixture
def npy(tmp_path: Path, image: Image) -> Path:
    """The image as a .npy file, in a folder of its own."""
    path = tmp_path / "in" / "image.npy"
    path.parent.mkdir(exist_ok=True)
    np.save(path, image)
    return path


@pytest.fixture
def zarr(tmp_path: Path, image: Image) -> Path:
    """The image as Zarr v2 with 3 × 3 × 3 chunks of 16³ or 20³ voxels, and with axes and a voxel size."""
    path = tmp_path / "in" / "image.zarr"
    attributes = {
        "axes": ["z", "y", "x"],
        "voxel_size": [2.0, 0.5, 0.5],
        "units": ["micrometer"] * 3,
        "sample": "leaf",
    }
    with create_output(
        path, shape=image.shape, dtype=image.dtype, chunks=(16, 20, 20), zarr_format=2, attributes=attributes
    ) as output:
        output[...] = image
    return path
