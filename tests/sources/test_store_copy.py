"""When a store can copy from one place to another by itself, and why not."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest

from bioimage_py.errors import UnsupportedFormatError
from bioimage_py.sources import ArraySpec, as_source, family_of, open_source
from bioimage_py.sources.stores import NOT_INSTALLED, StoreCopier, place_of, why_fetched
from bioimage_py.storage import StoreFolder, StorePlace

zarr = family_of("zarr")

PLACE = StorePlace("s3", "lab", "a/b.zarr/", None, "eu-west-1")


@pytest.fixture(autouse=True)
def with_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "correct-horse")


def test_within_one_bucket() -> None:
    assert why_fetched(PLACE, replace(PLACE, begin="c.zarr/")) is None
    assert why_fetched(PLACE, replace(PLACE, begin="")) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"scheme": "gs"}, "at s3:// only"),
        ({"bucket": "other"}, "their bucket is not the same (lab and other)"),
        ({"endpoint": "http://here"}, "their endpoint is not the same (unsaid and http://here)"),
        ({"region": None}, "their region is not the same (eu-west-1 and unsaid)"),
        ({"credentials": "anonymous"}, "their credentials is not the same (default and anonymous)"),
        ({"begin": "a/../b/"}, "obstore takes no names like 'a/../b/'"),
    ],
)
def test_between_two_places(change: dict[str, Any], why: str) -> None:
    found = why_fetched(PLACE, replace(PLACE, **change))
    assert found is not None
    assert why in found


def test_what_concerns_both(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = replace(PLACE, region=None)
    assert "nobody said the region of bucket 'lab'" in str(why_fetched(nowhere, nowhere))
    instance = replace(PLACE, credentials="imds")
    assert "'imds'" in str(why_fetched(instance, instance))
    monkeypatch.setenv("BIOIMAGE_PY_NO_STORE_COPY", "0")
    assert why_fetched(PLACE, PLACE) is None
    monkeypatch.setitem(sys.modules, "obstore", None)
    assert why_fetched(PLACE, PLACE) == NOT_INSTALLED
    monkeypatch.setenv("BIOIMAGE_PY_NO_STORE_COPY", "1")
    assert why_fetched(PLACE, PLACE) == "BIOIMAGE_PY_NO_STORE_COPY is set"


def test_places(monkeypatch: pytest.MonkeyPatch) -> None:
    assert StoreFolder.at("/data/a.zarr").place is None
    assert StoreFolder.at("https://host/a.zarr").place is None
    assert StoreFolder.at("gs://lab/a.zarr").place == StorePlace("gs", "lab", "a.zarr/")
    assert StoreFolder.at("s3://lab/a%20b.zarr").child("0").place == StorePlace("s3", "lab", "a b.zarr/0/")
    options = {"endpoint": "http://here", "anonymous": True}
    assert StoreFolder.at("s3://lab", options).place == StorePlace(
        "s3", "lab", "", "http://here", "us-east-1", "anonymous"
    )
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    folder = StoreFolder.at("s3://lab/a/b.zarr")
    assert folder.place == PLACE
    objects = folder.objects()
    assert objects is not None
    assert objects.place == PLACE  # what TensorStore makes of it


def test_sources_that_are_in_no_object_store() -> None:
    import numpy as np

    made = zarr.create(
        "memory://test_store_copy/a.zarr", None, ArraySpec((4,), np.dtype("uint8"), (2,)), overwrite=False
    )
    assert place_of(made) is None
    assert place_of(as_source(np.zeros(4))) is None
    objects = StoreFolder.at("memory://test_store_copy/a.zarr").objects()
    assert objects is not None
    with pytest.raises(UnsupportedFormatError, match="one side is in no object store"):
        StoreCopier(objects, objects)
    assert open_source("memory://test_store_copy/a.zarr").shape == (4,)
