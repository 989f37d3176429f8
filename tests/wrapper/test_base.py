from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
import bioimage_py.wrapper
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.sources import Source, open_source
from bioimage_py.wrapper import (
    MultiTransformationSource,
    SimpleTransformationSource,
    ThresholdSource,
    WrapperSource,
    register_wrapper,
)
from bioimage_py.wrapper.shape import PadSource, RoiSource
from bioimage_py.wrapper.values import NormalizeSource
from tests.wrapper.stored import ZYX, ChunkedSource, PowerSource, doubled, saved, summed

IMAGE = np.arange(24, dtype="uint8").reshape(4, 6)


@pytest.mark.parametrize("name", [m.name for m in pkgutil.iter_modules(bioimage_py.wrapper.__path__)])
def test_examples_in_docstrings(name: str) -> None:
    module = importlib.import_module(f"bioimage_py.wrapper.{name}")
    assert doctest.testmod(module).failed == 0


def test_inputs_are_sources_arrays_and_paths(tmp_path: Path) -> None:
    file = saved(IMAGE, tmp_path)
    with file:
        wrapper = MultiTransformationSource([file, IMAGE, tmp_path / "input.npy"], lambda a, b, c: a + b + c)
        assert wrapper.inputs[0] is file
        assert wrapper.name.startswith("MultiTransformationSource(")
        assert str(tmp_path / "input.npy") in wrapper.name
        np.testing.assert_array_equal(wrapper[...], IMAGE * 3)
        wrapper.close()
        np.testing.assert_array_equal(file[...], IMAGE)


def test_close_leaves_sources_that_were_handed_over() -> None:
    source = ChunkedSource(IMAGE)
    with ThresholdSource(PadSource(source, 1), 3) as mask:
        mask[0]
    assert source.closed == 0


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[ChunkedSource]:
    """The sources that were opened from paths: `"good"` opens, `"bad"` does not."""
    made: list[ChunkedSource] = []

    def as_source(given: Any) -> Any:
        if given == "bad":
            raise InvalidArgumentError("bad")
        if given != "good":
            return given
        made.append(ChunkedSource(IMAGE))
        return made[-1]

    monkeypatch.setattr("bioimage_py.wrapper.base.as_source", as_source)
    return made


def test_close_closes_what_was_opened_from_paths(opened: list[ChunkedSource]) -> None:
    handed_over = ChunkedSource(IMAGE)
    with MultiTransformationSource(["good", handed_over, "good"], lambda a, b, c: a):
        assert [source.closed for source in opened] == [0, 0]
    assert [source.closed for source in opened] == [1, 1]
    assert handed_over.closed == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: RoiSource("good", 9),
        lambda: PadSource("good", (1, 2, 3)),
        lambda: ThresholdSource("good", 1, np.add),
        lambda: SimpleTransformationSource("good", lambda block: None),
        lambda: MultiTransformationSource(["good", ChunkedSource(IMAGE.T)], summed),
        lambda: MultiTransformationSource(["good", "bad"], summed),
    ],
)
def test_nothing_stays_open_when_making_a_wrapper_fails(make: Any, opened: list[ChunkedSource]) -> None:
    with pytest.raises(InvalidArgumentError):
        make()
    assert [source.closed for source in opened] == [1]


def test_twins_share_threads_and_split_the_cache() -> None:
    first, second = ChunkedSource(IMAGE), ChunkedSource(IMAGE)
    wrapper = MultiTransformationSource(
        [first, PadSource(RoiSource(second, slice(1, 3)), ((1, 1), 0)), first], summed3
    )
    twin = wrapper.for_run(3, 1000)
    assert isinstance(twin, MultiTransformationSource)
    assert twin.inputs[0].tuned == (3, 500)
    assert twin.inputs[2] is twin.inputs[0]
    assert twin.inputs[1].inputs[0].inputs[0].tuned == (3, 500)
    assert wrapper.inputs[0] is first
    np.testing.assert_array_equal(twin[...], wrapper[...])
    tuned = twin.inputs[0]
    twin.close()
    assert tuned.closed == 1
    assert (first.closed, second.closed) == (0, 0)


def summed3(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    return a.astype(int) + b + c


def test_a_wrapper_whose_inputs_cannot_be_tuned_is_its_own_twin() -> None:
    wrapper = NormalizeSource(PadSource(IMAGE, 1))
    assert wrapper.for_run(4, 10**6) is wrapper


def test_identities_are_those_of_all_inputs(tmp_path: Path) -> None:
    with saved(IMAGE, tmp_path, "a") as a, saved(IMAGE, tmp_path, "b") as b:
        wrapper = ThresholdSource(MultiTransformationSource([a, b], summed), 5)
        assert wrapper.identities() == a.identities() | b.identities()
        with open_source(tmp_path / "b.npy") as again:
            assert wrapper.identities() & again.identities()


def test_what_a_wrapper_says_of_itself() -> None:
    wrapper = PowerSource(ChunkedSource(IMAGE.reshape(1, 4, 6), (1, 2, 3), ZYX), 2)
    assert (wrapper.chunks, wrapper.shards, wrapper.writable) == ((1, 2, 3), None, False)
    assert wrapper.format == "wrapper"
    assert wrapper.metadata == ZYX
    assert wrapper.stored_size() is None
    assert repr(wrapper).startswith("<PowerSource PowerSource(")


def test_metadata_that_does_not_fit_is_left_out() -> None:
    wrapper = PowerSource(ChunkedSource(IMAGE, metadata=ZYX), 2)
    assert wrapper.metadata.axes is None
    assert RoiSource(wrapper.inputs[0], 1).metadata.voxel_size is None


def test_a_wrapper_needs_an_input() -> None:
    with pytest.raises(InvalidArgumentError, match="at least one input"):
        type("Empty", (WrapperSource,), {"_read": lambda self, box: None})()


def test_names_of_wrappers_are_unique() -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"'threshold' is taken by bioimage_py\.wrapper\.functions"
    ):
        register_wrapper("threshold")(PowerSource)
    for name in ("", PowerSource):
        with pytest.raises(InvalidArgumentError, match="takes a name"):
            register_wrapper(name)  # type: ignore[arg-type]
    assert register_wrapper("tests.power")(PowerSource) is PowerSource


def test_reads_are_native_arrays_of_the_input() -> None:
    wrapper = PowerSource(IMAGE.astype(">i4"), 1)
    block = wrapper.read_input(Box((1, 0), (2, 6)))
    assert block.dtype == np.dtype("i4")
    assert block.dtype.isnative
    np.testing.assert_array_equal(SimpleTransformationSource(wrapper, doubled)[1], IMAGE[1].astype(int) * 2)


class TestWhatIsReturned:
    """A class that returns another shape or dtype than it says would be broadcast or wrapped around."""

    @pytest.mark.parametrize(
        ("returned", "got"),
        [
            (lambda block: block[:1], r"uint8 of shape \(1, 3\)"),
            (lambda block: block[0], r"uint8 of shape \(3,\)"),
            (lambda block: block[None], r"uint8 of shape \(1, 2, 3\)"),
            (lambda block: block.astype("f4") * -1.5, r"float32 of shape \(2, 3\)"),
            (lambda block: block.astype("int8"), r"int8 of shape \(2, 3\)"),
            (lambda block: 7, r"int \(int64 of shape \(\)\)"),
            (lambda block: None, r"NoneType \(object of shape \(\)\)"),
        ],
    )
    @pytest.mark.parametrize("base", [WrapperSource, Source])
    def test_is_checked(self, base: type[Any], returned: Any, got: str) -> None:
        class Odd(base):  # type: ignore[misc]
            def __init__(self) -> None:
                if base is WrapperSource:
                    super().__init__(IMAGE)
                self.shape, self.dtype = IMAGE.shape, IMAGE.dtype

            def _read(self, box: Box) -> Any:
                return returned(IMAGE[box.slices])

        message = rf"Odd .*must return uint8 of shape \(2, 3\).*returned {got}"
        with pytest.raises(InvalidArgumentError, match=message):
            Odd()[1:3, 2:5]
        with pytest.raises(bp.BioimagePyError, match="Odd"):
            bp.copy(Odd(), np.zeros(IMAGE.shape, "uint8"), block_shape=(2, 3))
        with pytest.raises(InvalidArgumentError, match="Odd"):
            NormalizeSource(Odd())[...]

    def test_another_byte_order_and_lists_are_the_same_numbers(self) -> None:
        class Swapped(WrapperSource):
            def _read(self, box: Box) -> Any:
                return self.read_input(box).astype(">u2")

        class Lists(WrapperSource):
            def _read(self, box: Box) -> Any:
                return self.read_input(box).tolist()

        wide = IMAGE.astype("uint16")
        assert bp.copy(Swapped(wide)).tolist() == wide.tolist()
        assert Lists(IMAGE.astype("int64"))[1:3].tolist() == IMAGE[1:3].tolist()
