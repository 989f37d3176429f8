"""Azure: arrays, whole images and run folders at az://, how it is reached, and what is said where it is not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import (
    InvalidArgumentError,
    OutputExistsError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.sources import ArraySpec, Source, family_of, from_spec, open_source
from bioimage_py.storage import ObjectPath, StoreFolder
from tests.azure_lab import ACCOUNT, KEY, azure_lab
from tests.cli.conftest import Call, call  # noqa: F401 - the fixture
from tests.sources.contract import SourceContract, textured
from tests.sources.ome_trees import chunks_in, image_with_labels

pytest.importorskip("obstore")
zarr = family_of("zarr")
EXPECTED = textured((7, 10, 13), "uint16")


def spec_of(shape: tuple[int, ...] = EXPECTED.shape, **how: Any) -> ArraySpec:
    return ArraySpec(shape, np.dtype("uint16"), (3, 4, 5), **how)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with azure_lab(tmp_path_factory.mktemp("azure")) as endpoint:
        yield endpoint


@pytest.fixture(autouse=True)
def account(server: str, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in [name for name in os.environ if name.startswith(("AZURE_", "AWS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", server)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    return monkeypatch


class TestAzure(SourceContract):
    def make(self, array: np.ndarray, folder: Path) -> Source:
        path = f"az://lab/{folder.name}/a.zarr"
        zarr.create(path, "g/raw", spec_of(array.shape), overwrite=False)[...] = array
        return open_source(f"{path}/g/raw")


@pytest.mark.parametrize(("name", "how"), [("v2", {"zarr_format": 2}), ("v3", {"shards": (6, 8, 10)})])
def test_an_array_is_written_and_replaced(name: str, how: dict[str, Any]) -> None:
    path = f"az://lab/writing/ö # %41?{name}.zarr"
    made = zarr.create(path, "g/raw", spec_of(**how), overwrite=False)
    made[:6] = EXPECTED[:6]
    made[6:] = EXPECTED[6:]
    again = from_spec({**made.to_spec(), "mode": "r"})
    assert again.identities() == made.identities()
    np.testing.assert_array_equal(again[...], EXPECTED)
    np.testing.assert_array_equal(open_source(path, "g/raw")[2, 3:5], EXPECTED[2, 3:5])
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        zarr.create(path, "g/raw", spec_of(**how), overwrite=False)
    assert not zarr.create(path, "g/raw", spec_of(**how), overwrite=True)[...].any()


def test_copies_go_there_and_back_on_all_roads(tmp_path: Path) -> None:
    bp.copy(EXPECTED, tmp_path / "a.zarr", chunks=(3, 4, 5))
    cases: list[tuple[str, dict[str, Any]]] = [
        ("verbatim", {}),
        ("repack", {"shards": (6, 8, 10)}),
        ("recode", {"chunks": (7, 2, 2), "codec": "bz2"}),
    ]
    for road, how in cases:
        path = f"az://lab/roads/{road}.zarr"
        assert bp.plan(tmp_path / "a.zarr", path, **how).road == road
        bp.copy(tmp_path / "a.zarr", path, **how)
        np.testing.assert_array_equal(bp.copy(path, tmp_path / f"{road}.zarr")[...], EXPECTED)
    assert bp.plan("az://lab/roads/verbatim.zarr", tmp_path / "plan.zarr").road == "verbatim"
    assert bp.verify("az://lab/roads/verbatim.zarr", "az://lab/roads/recode.zarr").equal
    assert chunks_in(tmp_path / "verbatim.zarr") == chunks_in(tmp_path / "a.zarr")


def test_a_whole_ome_zarr_goes_there_and_back(tmp_path: Path) -> None:
    image_with_labels(tmp_path / "in.ome.zarr")
    url = "az://lab/whole/in.ome.zarr"
    bp.copy(tmp_path / "in.ome.zarr", url)
    bp.copy(url, tmp_path / "out.ome.zarr")
    assert chunks_in(tmp_path / "out.ome.zarr") == chunks_in(tmp_path / "in.ome.zarr")
    assert open_source(url).metadata == open_source(tmp_path / "in.ome.zarr").metadata
    bp.pyramid(EXPECTED, "az://lab/whole/new.ome.zarr", levels=2, chunks=(4, 4, 4))
    np.testing.assert_array_equal(open_source("az://lab/whole/new.ome.zarr")[...], EXPECTED)
    assert open_source("az://lab/whole/new.ome.zarr", "1").shape == (4, 5, 7)


def test_run_folders_are_there_too_and_keywords_reach_the_workers(
    server: str, account: pytest.MonkeyPatch
) -> None:
    """Nothing but the key is in the environment: the endpoint goes along with the run."""
    account.delenv("AZURE_STORAGE_ENDPOINT")
    how = {"endpoint": server, "job_type": "subprocess", "num_workers": 2}
    config = bp.RunnerConfig(tmp_root="az://lab/runs")
    made = bp.copy(EXPECTED, "az://lab/runs_in/a.zarr", chunks=(3, 4, 5), endpoint=server)
    made = bp.copy(made, "az://lab/runs_in/b.zarr", chunks=(3, 4, 13), job_config=config, **how)
    np.testing.assert_array_equal(made[...], EXPECTED)
    assert not list(ObjectPath.at(f"az://lab/runs?endpoint={server}").iterdir())


def test_how_it_is_reached(server: str, account: pytest.MonkeyPatch, call: Call, tmp_path: Path) -> None:  # noqa: F811
    bp.copy(EXPECTED, "az://public/a.zarr", chunks=(3, 4, 5))
    for name in ("AZURE_STORAGE_ENDPOINT", "AZURE_STORAGE_ACCOUNT_KEY"):
        account.delenv(name)
    with pytest.raises(InvalidArgumentError, match=r"in which account.*endpoint='https://ACCOUNT\.blob"):
        open_source("az://public/a.zarr")
    reached = open_source("az://public/a.zarr", endpoint=server, anonymous=True)
    np.testing.assert_array_equal(from_spec(reached.to_spec())[2:], EXPECTED[2:])
    how = ("--endpoint", server, "--anonymous")
    assert call("copy", "az://public/a.zarr", str(tmp_path / "a.zarr"), "--verify", *how).code == 0
    assert "region" in call("info", "az://public/a.zarr", "--region", "here").err
    assert "at once" in call("copy", "s3://lab/a.zarr", "az://lab/a.zarr", *how).err
    with pytest.raises(StorageError, match=r"AuthorizationFailure|PERMISSION_DENIED") as raised:
        open_source("az://lab/roads/verbatim.zarr", endpoint=server, anonymous=True)
    assert "\n" not in str(raised.value)
    account.setenv(
        "AZURE_STORAGE_CONNECTION_STRING", f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={server};"
    )
    np.testing.assert_array_equal(open_source("az://public/a.zarr")[...], EXPECTED)
    account.setenv("AZURE_STORAGE_ACCOUNT_NAME", "mine")
    account.delenv("AZURE_STORAGE_CONNECTION_STRING")
    place = StoreFolder.at("az://lab/a.zarr").place
    assert (place.endpoint, place.begin) == ("https://mine.blob.core.windows.net", "a.zarr/")  # type: ignore[union-attr]


def test_what_cannot_be_is_said(server: str, tmp_path: Path) -> None:
    bp.copy(EXPECTED, tmp_path / "a.n5", chunks=(3, 4, 5))
    for name in ("a.n5", "a.precomputed"):
        for verb in (bp.plan, bp.copy):
            with pytest.raises(UnsupportedFormatError, match="at az:// only Zarr is read and written"):
                verb(tmp_path / "a.n5", f"az://lab/{name}")
    with pytest.raises(SourceNotFoundError, match="there is no Zarr array or group at az://lab/none"):
        open_source("az://lab/none.zarr")
    with pytest.raises(SourceNotFoundError, match=r"no-such-container.*create it first"):
        bp.copy(EXPECTED, "az://no-such-container/a.zarr")
    with pytest.raises(StorageError, match="the server does not answer"):
        open_source("az://lab/a.zarr", endpoint="http://127.0.0.1:9/nobody")
    with pytest.raises(InvalidArgumentError, match="must not hold credentials"):
        open_source("az://key@lab/a.zarr")
