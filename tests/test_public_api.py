"""The public surface, pinned: a change here is a change that users see."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import subprocess
import sys

import pytest

import bioimage_py
from bioimage_py.operations import CopyOptions, PyramidOptions

PUBLIC = [
    "BenchResult",
    "BioimagePyError",
    "Block",
    "BlockWithHalo",
    "Blocking",
    "CheckResult",
    "DaskConfig",
    "DaskRunner",
    "FileSource",
    "LocalRunner",
    "Picture",
    "Progress",
    "Runner",
    "RunnerConfig",
    "RunnerError",
    "SlurmConfig",
    "SlurmRunner",
    "Source",
    "SubprocessRunner",
    "VerifyResult",
    "View",
    "__version__",
    "as_source",
    "bench",
    "check",
    "config_file_path",
    "copy",
    "create_output",
    "digest",
    "downsample",
    "from_spec",
    "get_runner",
    "open_source",
    "plan",
    "pyramid",
    "pyramid_plan",
    "preview",
    "repair",
    "resume",
    "run_page",
    "status",
    "to_roi",
    "verify",
    "view",
    "with_metadata",
    "write_slurm_config",
]
CONTRACT_COPY = [
    ("input", inspect.Parameter.empty),
    ("output", None),
    ("block_shape", None),
    ("job_type", "local"),
    ("job_config", None),
    ("num_workers", 1),
    ("mask", None),
    ("block_ids", None),
    ("resume_from", None),
]
CONTRACT_RUN = [
    ("function", inspect.Parameter.empty),
    ("inputs", inspect.Parameter.empty),
    ("outputs", ()),
    ("block_shape", None),
    ("halo", None),
    ("mask", None),
    ("num_workers", 1),
    ("block_ids", None),
    ("has_return_val", False),
    ("name", ""),
    ("roi", None),
    ("resume_from", None),
]
CONTRACT_MAP = [
    ("function", inspect.Parameter.empty),
    ("n_items", None),
    ("item_ids", None),
    ("num_workers", 1),
    ("has_return_val", True),
    ("name", ""),
    ("resume_from", None),
]


def parameters(function: object) -> list[inspect.Parameter]:
    found = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    return [p for p in found if p.name != "self"]


def test_public_names_are_pinned() -> None:
    assert sorted(bioimage_py.__all__) == sorted(PUBLIC)


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - {"__version__"}))
def test_public_names_have_docstrings(name: str) -> None:
    """What others override or inherit may go without; what stands in the class itself may not."""
    found = getattr(bioimage_py, name)
    assert found.__doc__
    if inspect.isclass(found) and "NamedTuple" not in str(found.__bases__):
        methods = [m for n, m in vars(found).items() if not n.startswith("_") and inspect.isfunction(m)]
        assert [m.__name__ for m in methods if not inspect.getdoc(getattr(found, m.__name__))] == []


def test_copy_has_the_signature_of_the_contract() -> None:
    got = parameters(bioimage_py.copy)
    assert [(p.name, p.default) for p in got[: len(CONTRACT_COPY)]] == CONTRACT_COPY
    assert [p.kind for p in got[:2]] == [inspect.Parameter.POSITIONAL_OR_KEYWORD] * 2
    assert {p.kind for p in got[2:]} == {inspect.Parameter.KEYWORD_ONLY}


def test_what_copy_adds_is_optional() -> None:
    ours = {p.name: p.default for p in parameters(bioimage_py.copy)[len(CONTRACT_COPY) :]}
    assert inspect.Parameter.empty not in ours.values()
    assert ours["casting"] == "unsafe"
    assert ours["overwrite"] is False
    assert {"memory_limit", "chunks", "shards", "codec", "zarr_format"} <= set(ours)


@pytest.mark.parametrize(
    ("function", "options", "without"),
    [
        (bioimage_py.copy, CopyOptions, set()),
        (bioimage_py.plan, CopyOptions, set()),
        (bioimage_py.downsample, CopyOptions, {"update", "record"}),
        (bioimage_py.pyramid, PyramidOptions, {"block_ids"}),
        (bioimage_py.pyramid_plan, PyramidOptions, {"block_ids"}),
    ],
)
def test_every_option_is_a_keyword_with_the_same_default(
    function: object, options: type, without: set[str]
) -> None:
    keywords = {p.name: p.default for p in parameters(function) if p.kind is p.KEYWORD_ONLY}
    expected = {one.name: one.default for one in dataclasses.fields(options) if one.name not in without}
    assert {name: keywords.get(name, ...) for name in expected} == expected
    more = {"order", "anti_aliasing", "method", "kind"} if function is bioimage_py.downsample else set()
    assert set(keywords) - set(expected) == more


@pytest.mark.parametrize(
    ("method", "contract"), [("run", CONTRACT_RUN), ("map", CONTRACT_MAP)], ids=["run", "map"]
)
def test_runner_has_the_signature_of_the_contract(method: str, contract: list[tuple[str, object]]) -> None:
    got = parameters(getattr(bioimage_py.get_runner("local"), method))
    assert [(p.name, p.default) for p in got[: len(contract)]] == contract


@pytest.mark.parametrize(
    "statement",
    [
        "import bioimage_py.copy",
        "import bioimage_py; bioimage_py.copy; import bioimage_py.copy",
    ],
)
def test_copy_is_the_function_however_it_was_imported(statement: str) -> None:
    code = f"{statement}\nimport bioimage_py\nassert type(bioimage_py.copy).__name__ == 'function', bioimage_py.copy"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_module_of_copy_holds_the_same_function() -> None:
    assert importlib.import_module("bioimage_py.copy").copy is bioimage_py.copy


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_thing"):
        bioimage_py.no_such_thing  # noqa: B018


WRAPPERS = [
    "AffineSource",
    "CastSource",
    "ConcatenateSource",
    "ExpandDimsSource",
    "FlipSource",
    "LabelLookupSource",
    "MultiTransformationSource",
    "NormalizeSource",
    "PadSource",
    "PercentileNormalizeSource",
    "ProjectionSource",
    "ReducedSource",
    "RescaleSource",
    "ResizedSource",
    "RoiSource",
    "SelectSource",
    "SimpleTransformationSource",
    "SimpleTransformationWithHaloSource",
    "ThresholdSource",
    "TransformationSource",
    "TransposeSource",
    "WrapperSource",
    "register_wrapper",
]


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrapper_is_public(name: str) -> None:
    wrapper = importlib.import_module("bioimage_py.wrapper")
    assert name in wrapper.__all__
    assert getattr(wrapper, name) is not None
