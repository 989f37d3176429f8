from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bioimage_py.errors import InvalidArgumentError, MissingDependencyError, SourceNotFoundError
from bioimage_py.geometry import Box
from bioimage_py.sources import Source, from_spec, open_source
from bioimage_py.wrapper import (
    MultiTransformationSource,
    SimpleTransformationSource,
    SimpleTransformationWithHaloSource,
    ThresholdSource,
    TransformationSource,
    WrapperSource,
    register_wrapper,
)
from bioimage_py.wrapper.shape import ExpandDimsSource, PadSource, RoiSource
from bioimage_py.wrapper.values import NormalizeSource
from tests.wrapper import stored

ROOT = Path(__file__).resolve().parents[2]
IMAGE = np.arange(120, dtype="float32").reshape(4, 5, 6)


@pytest.fixture
def file(tmp_path: Path) -> Any:
    with stored.saved(IMAGE, tmp_path) as source:
        yield source


def every_wrapper(file: Source) -> list[Source]:
    offset = 3
    return [
        ThresholdSource(file, 50.5, np.less_equal),
        NormalizeSource(file),
        RoiSource(RoiSource(file, (slice(1, 3), 2), squeeze=True), (..., slice(1, 4))),
        PadSource(file, ((1, 2), 0, 3), constant_value=float("nan")),
        PadSource(file, 1, "reflect"),
        ExpandDimsSource(file, (0, -1)),
        SimpleTransformationSource(file, np.sqrt),
        SimpleTransformationSource(file, lambda block: block + offset),
        SimpleTransformationWithHaloSource(file, stored.smoothed, (0, 1, 2), "float32"),
        TransformationSource(file, stored.flipped),
        MultiTransformationSource(
            [file, PadSource(RoiSource(file, slice(1, 3)), ((1, 1), 0, 0))], stored.summed
        ),
        stored.PowerSource(file, 2),
    ]


def test_every_wrapper_reads_the_same_in_a_fresh_process(file: Source, tmp_path: Path) -> None:
    wrappers = every_wrapper(file)
    (tmp_path / "specs.json").write_text(json.dumps([w.to_spec() for w in wrappers], allow_nan=False))
    program = (
        "import json, pathlib, sys, numpy\n"
        "from bioimage_py.sources import from_spec\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "for n, spec in enumerate(json.loads((folder / 'specs.json').read_text())):\n"
        "    with from_spec(spec) as source:\n"
        "        numpy.save(folder / f'{n}.npy', source[...])\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for n, wrapper in enumerate(wrappers):
        got = np.load(tmp_path / f"{n}.npy")
        assert got.dtype == wrapper.dtype
        np.testing.assert_array_equal(got, wrapper[...], err_msg=wrapper.name)


def test_specs_are_plain_words(file: Source) -> None:
    spec = ThresholdSource(file, 3).to_spec()
    assert spec == {
        "kind": "wrapper",
        "wrapper": "threshold",
        "inputs": [file.to_spec()],
        "parameters": {"threshold": 3, "operator": {"$function": "numpy.greater"}},
    }
    spec = TransformationSource(file, stored.flipped).to_spec()
    assert spec["parameters"]["transformation"] == {"$function": "tests.wrapper.stored:flipped"}
    assert stored.PowerSource(file, 2).to_spec()["module"] == "tests.wrapper.stored"


def test_the_range_travels_so_that_no_worker_repeats_it(file: Source) -> None:
    assert NormalizeSource(file).to_spec()["parameters"]["min"] == 0
    assert NormalizeSource(file).to_spec()["parameters"]["max"] == 119


def test_inputs_are_reopened_for_reading_only(file: Source, tmp_path: Path) -> None:
    with open_source(tmp_path / "input.npy", mode="r+") as writable:
        assert writable.to_spec()["mode"] == "r+"
        with from_spec(RoiSource(writable, 1).to_spec()) as again:
            assert not again.inputs[0].writable


def test_arrays_in_memory_do_not_travel() -> None:
    with pytest.raises(InvalidArgumentError, match="local runs"):
        NormalizeSource(IMAGE).to_spec()


def test_unregistered_wrappers_do_not_travel(file: Source) -> None:
    class Unregistered(stored.PowerSource):
        pass

    with pytest.raises(InvalidArgumentError, match=r"Unregistered is not registered.*@register_wrapper"):
        Unregistered(file, 2).to_spec()


def test_a_wrapper_of_a_script_travels_pickled(tmp_path: Path, file: Source) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import json, sys\n"
        "from bioimage_py.wrapper import WrapperSource, register_wrapper\n"
        "@register_wrapper('script.negative')\n"
        "class Negative(WrapperSource):\n"
        "    def _read(self, box):\n"
        "        return -self.read_input(box)\n"
        "print(json.dumps(Negative(sys.argv[1]).to_spec()))\n"
    )
    made = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "input.npy")], capture_output=True, text=True, check=True
    )
    spec = json.loads(made.stdout)
    assert "class" in spec
    with from_spec(spec) as source:
        np.testing.assert_array_equal(source[...], -IMAGE)


def test_functions_that_cannot_be_imported_need_cloudpickle(
    file: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = SimpleTransformationSource(file, lambda block: block)
    spec = local.to_spec()
    assert set(spec["parameters"]["transformation"]) == {"$pickle"}
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(MissingDependencyError, match=r"<lambda> is not importable.*cloudpickle"):
        local.to_spec()
    with pytest.raises(MissingDependencyError, match="cloudpickle"):
        from_spec(spec)
    assert TransformationSource(file, stored.flipped).to_spec()


def test_partial_functions_and_methods_travel(file: Source) -> None:
    for function in (functools.partial(np.add, 5), Adder(5).add):
        spec = SimpleTransformationSource(file, function).to_spec()
        with from_spec(json.loads(json.dumps(spec))) as again:
            np.testing.assert_array_equal(again[...], IMAGE + 5)


class Adder:
    def __init__(self, offset: int) -> None:
        self.offset = offset

    def add(self, block: np.ndarray) -> np.ndarray:
        return block + self.offset


def test_functions_that_cannot_be_pickled(file: Source) -> None:
    import threading

    lock = threading.Lock()

    def guarded(block: np.ndarray) -> np.ndarray:
        with lock:
            return block

    with pytest.raises(InvalidArgumentError, match="guarded cannot be pickled"):
        SimpleTransformationSource(file, guarded).to_spec()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"wrapper": "no.such"}, "no wrapper is called 'no.such'; there are .*threshold"),
        (
            {"wrapper": "no.such", "module": "no_such_module"},
            "'no_such_module' of the wrapper 'no.such' cannot be imp",
        ),
        ({"wrapper": None}, "name as 'wrapper', got None"),
        ({"inputs": []}, "needs 'inputs'"),
        ({"inputs": None}, "needs 'inputs'"),
        ({"parameters": [1]}, "needs 'inputs'"),
        ({"parameters": {"nonsense": 1}}, r"does not take the parameters \['nonsense'\]"),
        ({"parameters": {"threshold": {"$nonsense": 1}}}, "is not a parameter"),
        (
            {"parameters": {"threshold": 1, "operator": {"$function": "numpy.nonsense"}}},
            "no attribute 'nonsense'",
        ),
        (
            {"parameters": {"threshold": 1, "operator": {"$function": "no_such:thing"}}},
            "'no_such:thing' cannot be imp",
        ),
        ({"parameters": {"threshold": 1, "operator": {"$pickle": "bm90IGE="}}}, "cannot be restored"),
        ({"parameters": {"threshold": 1, "operator": {"$pickle": "§"}}}, "cannot be restored"),
        ({"parameters": {"threshold": {"$complex": 3}}}, "is not a parameter"),
    ],
)
def test_malformed_specs(file: Source, change: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidArgumentError, match=says):
        from_spec({**ThresholdSource(file, 3).to_spec(), **change})


def test_inputs_that_are_gone(file: Source, tmp_path: Path) -> None:
    spec = ThresholdSource(file, 3).to_spec()
    file.close()
    (tmp_path / "input.npy").unlink()
    with pytest.raises(SourceNotFoundError):
        from_spec(spec)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, -2.5, "text", 1 + 2j, float("inf"), float("-inf"), complex("inf"), (), [], {}, ...,
        (1, (slice(1, None), slice(None), ...)), [1, [2.5]], {"a": {"b": (1,)}}, np.dtype(">f4"), Box((0, 1), (2, 3)),
        np.greater, stored.doubled, np.uint8, Path,
    ],
)  # fmt: skip
def test_parameters_round_trip(value: Any) -> None:
    again = stored.written.read_parameter(
        json.loads(json.dumps(stored.written.write_parameter(value), allow_nan=False))
    )
    assert again == value
    assert type(again) is type(value)


def test_numpy_numbers_become_pythons() -> None:
    assert stored.written.write_parameter({"a": np.float32(0.5), "b": np.int64(3), "c": np.True_}) == {
        "a": 0.5,
        "b": 3,
        "c": True,
    }


@pytest.mark.parametrize("value", [np.zeros(3), object(), {1: 2}, {"$a": 1}, {1, 2}, b"bytes"])
def test_parameters_that_cannot_travel(value: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        stored.written.write_parameter(value)


def test_a_user_wrapper_with_unwritable_parameters_says_so(file: Source) -> None:
    @register_wrapper("tests.weighted")
    class Weighted(WrapperSource):
        def parameters(self) -> dict[str, Any]:
            return {"weights": np.ones(3)}

        def _read(self, box: Box) -> np.ndarray:
            return self.read_input(box)

    with pytest.raises(InvalidArgumentError, match="ndarray cannot be written"):
        Weighted(file).to_spec()
