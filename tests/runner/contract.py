"""The suite that every backend passes: subclass, say how a runner is made, and all of it runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import CastingError, InvalidArgumentError, RunnerError
from bioimage_py.geometry import BlockWithHalo, to_roi
from bioimage_py.runner import Runner
from bioimage_py.sources import create_output
from bioimage_py.wrapper import SimpleTransformationSource


def double(block: Any, inputs: Any, outputs: Any, mask: Any) -> int:
    """Write twice the input; return the block's first index."""
    outputs[0][to_roi(block)] = 2 * inputs[0][to_roi(block)]
    return block.begin


def fail_on_diagonal(block: Any, inputs: Any, outputs: Any, mask: Any) -> tuple[int, ...]:
    """Fail where all indices of the block's begin are equal."""
    if len(set(block.begin)) == 1:
        raise ValueError(f"cannot do {block.begin}")
    return double(block, inputs, outputs, mask)


def square(item: int) -> int:
    """Return the square."""
    return item * item


def fail_on_multiples_of_three(item: int) -> int:
    """Fail on every third item."""
    if item % 3 == 0:
        raise KeyError(f"item {item}")
    return item


def leave_on_multiples_of_three(item: int) -> int:
    """Raise what ends a program, or a generator, on every third item."""
    if item % 3 == 0:
        raise (SystemExit(3), GeneratorExit("closed"), SystemExit())[item // 3]
    return item


class RunnerContract:
    """What `run` and `map` promise, on whatever backend."""

    shape = (6, 9)
    blocks = (3, 3)

    def make(self) -> Runner:
        """Return the backend under test."""
        raise NotImplementedError

    @pytest.fixture
    def runner(self) -> Runner:
        return self.make()

    @pytest.fixture
    def image(self, tmp_path: Path) -> Any:
        source = create_output(tmp_path / "in.zarr", shape=self.shape, dtype="int32", chunks=(2, 3))
        source[...] = np.arange(54).reshape(self.shape)
        return source

    @pytest.fixture
    def result(self, tmp_path: Path) -> Any:
        return create_output(tmp_path / "out.zarr", shape=self.shape, dtype="int32", chunks=self.blocks)

    @pytest.mark.parametrize("workers", [1, 5])
    def test_every_block_once(self, runner: Runner, image: Any, result: Any, workers: int) -> None:
        assert runner.run(double, [image], [result], block_shape=self.blocks, num_workers=workers) is None
        np.testing.assert_array_equal(result[...], 2 * image[...])

    def test_planned_blocks(self, runner: Runner, image: Any, result: Any) -> None:
        runner.run(double, [image], [result], num_workers=2)
        np.testing.assert_array_equal(result[...], 2 * image[...])

    def test_results_come_in_the_order_of_the_ids(self, runner: Runner, image: Any, result: Any) -> None:
        got = runner.run(
            double,
            [image],
            [result],
            block_shape=self.blocks,
            num_workers=3,
            block_ids=[5, 0, 3, 0],
            has_return_val=True,
        )
        assert got == [(3, 6), (0, 0), (3, 0), (0, 0)]

    def test_results_of_items_come_in_the_order_of_their_ids(self, runner: Runner) -> None:
        assert runner.map(lambda item: 10 * item, item_ids=iter([4, 1, 4, 0]), num_workers=2) == [
            40,
            10,
            40,
            0,
        ]

    def test_only_the_blocks_asked_for(self, runner: Runner, image: Any, result: Any) -> None:
        runner.run(double, [image], [result], block_shape=self.blocks, block_ids=[1, 4])
        want = np.zeros(self.shape, "int32")
        want[:, 3:6] = 2 * image[...][:, 3:6]
        np.testing.assert_array_equal(result[...], want)

    def test_failures_are_exact_and_the_rest_is_done(self, runner: Runner, image: Any, result: Any) -> None:
        with pytest.raises(RunnerError, match=r"cannot do \(0, 0\)|cannot do \(3, 3\)") as caught:
            runner.run(fail_on_diagonal, [image], [result], block_shape=self.blocks, num_workers=2)
        assert list(caught.value.failed_block_ids) == [0, 4]
        want = 2 * image[...]
        want[:3, :3] = want[3:, 3:6] = 0
        np.testing.assert_array_equal(result[...], want)

    def test_halo(self, runner: Runner, image: Any) -> None:
        def outer(block: BlockWithHalo, inputs: Any, outputs: Any, mask: Any) -> tuple[Any, ...]:
            return block.outer_block.begin, block.outer_block.shape, block.inner_block_local.begin

        got = runner.run(outer, [image], block_shape=self.blocks, halo=(1, 2), has_return_val=True)
        assert got is not None
        assert got[0] == ((0, 0), (4, 5), (0, 0))
        assert got[4] == ((2, 1), (4, 7), (1, 2))

    def test_roi_keeps_the_grid(self, runner: Runner, image: Any, result: Any) -> None:
        runner.run(double, [image], [result], block_shape=self.blocks, roi=np.s_[1:4, 2:8])
        want = np.zeros(self.shape, "int32")
        want[1:4, 2:8] = 2 * image[...][1:4, 2:8]
        np.testing.assert_array_equal(result[...], want)

    def test_leading_channel_axes_of_an_output(self, runner: Runner, image: Any, tmp_path: Path) -> None:
        both = create_output(tmp_path / "both.zarr", shape=(2, *self.shape), dtype="int32", chunks=(1, 3, 3))

        def write_both(block: Any, inputs: Any, outputs: Any, mask: Any) -> None:
            values = inputs[0][to_roi(block)]
            outputs[0][(slice(None), *to_roi(block))] = np.stack([values, -values])

        runner.run(write_both, [image], [both], block_shape=self.blocks, num_workers=2)
        np.testing.assert_array_equal(both[1], -image[...])

    def test_mask_is_handed_over(self, runner: Runner, image: Any, tmp_path: Path) -> None:
        mask = create_output(tmp_path / "mask.zarr", shape=self.shape, dtype="uint8")
        mask[:3] = 1

        def count(block: Any, inputs: Any, outputs: Any, mask: Any) -> int:
            return int(mask[to_roi(block)].sum())

        got = runner.run(count, [image], block_shape=self.blocks, mask=mask, has_return_val=True)
        assert got == [9, 9, 9, 0, 0, 0]

    def test_map(self, runner: Runner) -> None:
        assert runner.map(square, 5, num_workers=2) == [0, 1, 4, 9, 16]
        assert runner.map(square, item_ids=[7, 2], num_workers=2) == [49, 4]
        assert runner.map(square, 3, has_return_val=False) is None
        assert runner.map(square, 0) == []

    def test_map_failures_are_exact(self, runner: Runner) -> None:
        with pytest.raises(RunnerError, match="item ") as caught:
            runner.map(fail_on_multiples_of_three, 8, num_workers=2)
        assert list(caught.value.failed_block_ids) == [0, 3, 6]

    def test_what_ends_a_program_ends_its_block_only(self, runner: Runner, image: Any, result: Any) -> None:
        with pytest.raises(RunnerError, match=r"SystemExit|GeneratorExit: closed") as caught:
            runner.map(leave_on_multiples_of_three, 8, num_workers=2)
        assert list(caught.value.failed_block_ids) == [0, 3, 6]

        def leave(block: Any, inputs: Any, outputs: Any, mask: Any) -> None:
            if block.begin == (0, 3):
                raise SystemExit("no more")
            double(block, inputs, outputs, mask)

        with pytest.raises(RunnerError, match=r"SystemExit: no more") as caught:
            runner.run(leave, [image], [result], block_shape=self.blocks, num_workers=1)
        assert list(caught.value.failed_block_ids) == [1]

    def test_a_keyboard_interrupt_of_the_function_is_a_failure(self, runner: Runner) -> None:
        def interrupt(item: int) -> int:
            if item == 2:
                raise KeyboardInterrupt
            return item

        # On one thread of this process nobody can tell it from the user's.
        with pytest.raises(RunnerError, match="KeyboardInterrupt") as caught:
            runner.map(interrupt, 4, num_workers=2)
        assert list(caught.value.failed_block_ids) == [2]

    def test_casting_check_ends_the_run(self, runner: Runner, tmp_path: Path) -> None:
        values = np.full((200, 16), 7, "uint16")
        values[3, 5] = 300
        source = create_output(tmp_path / "wide.zarr", shape=values.shape, dtype="uint16", chunks=(1, 16))
        source[...] = values
        out = create_output(tmp_path / "narrow.zarr", shape=values.shape, dtype="uint8", chunks=(1, 16))
        with pytest.raises(RunnerError, match=r"voxel \(3, 5\) is 300") as caught:
            bp.copy(
                source,
                out,
                casting="check",
                block_shape=(1, 16),
                job_type=runner.job_type,  # type: ignore[arg-type]
                job_config=runner.config,
            )
        assert isinstance(caught.value.__cause__, CastingError)
        assert list(caught.value.failed_block_ids) == [n for n in range(200) if not out[n, 0]]
        assert 190 < len(caught.value.failed_block_ids) < 200

    def test_a_halo_of_one_integer(self, runner: Runner, image: Any) -> None:
        def outer(block: BlockWithHalo, inputs: Any, outputs: Any, mask: Any) -> Any:
            return block.outer_block.shape

        got = runner.run(outer, [image], block_shape=self.blocks, halo=1, has_return_val=True)
        assert got is not None
        assert got[0] == (4, 4)

    def test_a_function_that_uses_the_package(self, runner: Runner) -> None:
        def begin(item: int) -> tuple[Any, ...]:
            return bp.Block((item,), (item + 2,)).begin, bp.copy.__module__

        assert runner.map(begin, 2) == [((0,), "bioimage_py.copy"), ((1,), "bioimage_py.copy")]

    def test_modules_beside_the_script_are_found_and_shadow_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        beside, here = tmp_path / "beside", tmp_path / "here"
        for folder in (beside, here):
            folder.mkdir()
        (beside / "of_the_user.py").write_text(
            "from queue import Queue\n\ndef twice(item):\n    return 2 * item\n"
        )
        for name in ("queue", "copy", "random", "numpy", "tensorstore"):
            (here / f"{name}.py").write_text(
                "raise ImportError('a file of the user was taken for a library')\n"
            )
        runner = self.make()
        monkeypatch.syspath_prepend(beside)
        monkeypatch.chdir(here)
        twice = __import__("of_the_user").twice
        try:
            assert runner.map(twice, 3, num_workers=2) == [0, 2, 4]
        finally:
            del sys.modules["of_the_user"]

    def test_results_of_classes_of_the_script(self, runner: Runner) -> None:
        class Spot:
            """Like one that is defined in a script."""

            def __init__(self, at: int) -> None:
                self.at = at

            def __eq__(self, other: object) -> bool:
                return isinstance(other, Spot) and other.at == self.at

            __hash__ = None  # type: ignore[assignment]

        Spot.__module__, Spot.__qualname__ = "__main__", "Spot"
        assert runner.map(lambda item: [Spot(item), Spot], 2) == [[Spot(0), Spot], [Spot(1), Spot]]

    def test_results_that_cannot_travel(self, runner: Runner) -> None:
        if runner.in_process:
            return
        with pytest.raises(RunnerError, match="a generator, cannot be sent to other processes") as caught:
            runner.map(lambda item: iter([item]) if item else (i for i in ()), 3)
        assert list(caught.value.failed_block_ids) == [0]

    def test_programs_that_a_function_starts_have_no_input(self, runner: Runner) -> None:
        def read_input(item: int) -> bytes:
            return subprocess.run(["cat"], stdout=subprocess.PIPE, timeout=60, check=True).stdout

        assert runner.map(read_input, 2) == [b"", b""]

    def test_processes_that_a_function_forks_can_be_told_to_end(self, runner: Runner) -> None:
        def fork(item: int) -> int:
            ready, said = os.pipe()
            child = os.fork()
            if not child:
                os.write(said, b".")
                signal.pause()  # a handler of the worker would end this, and nothing else
                os._exit(1)
            os.read(ready, 1)
            os.kill(child, signal.SIGTERM)
            code = os.waitpid(child, 0)[1]
            os.close(ready)
            os.close(said)
            return os.WTERMSIG(code) if os.WIFSIGNALED(code) else -1

        assert runner.map(fork, 1) == [signal.SIGTERM]

    def test_a_run_that_is_resumed_with_a_repaired_function(
        self, runner: Runner, image: Any, result: Any
    ) -> None:
        with pytest.raises(RunnerError) as caught:
            runner.run(fail_on_diagonal, [image], [result], block_shape=self.blocks)
        folder = caught.value.tmp_folder
        if folder is None:
            return

        def still_wrong(*_: Any) -> None:
            raise ValueError("the second one")

        with pytest.raises(RunnerError, match="the second one"):
            runner.run(still_wrong, [image], [result], block_shape=self.blocks, resume_from=folder)

        def repaired(block: Any, inputs: Any, outputs: Any, mask: Any) -> None:
            outputs[0][to_roi(block)] = 3

        runner.run(repaired, [image], [result], block_shape=self.blocks, resume_from=folder)
        want = 2 * image[...]
        want[:3, :3] = want[3:, 3:6] = 3
        np.testing.assert_array_equal(result[...], want)
        assert not Path(folder).exists()

    def test_a_copy_that_is_resumed_with_a_repaired_wrapper(
        self, runner: Runner, image: Any, result: Any
    ) -> None:
        how: Any = {"block_shape": self.blocks, "job_type": runner.job_type, "job_config": runner.config}

        def fails(values: Any) -> Any:
            if values.flat[0] == 0:
                raise ValueError("the first block")
            return values

        with pytest.raises(RunnerError, match="the first block") as caught:
            bp.copy(SimpleTransformationSource(image, fails, dtype="int32"), result, **how)
        folder = caught.value.tmp_folder
        if folder is None:
            return
        bp.copy(
            SimpleTransformationSource(image, lambda x: x + 1, dtype="int32"),
            result,
            resume_from=folder,
            **how,
        )
        want = image[...]
        want[:3, :3] += 1
        np.testing.assert_array_equal(result[...], want)

    @pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2"])
    def test_refuses_a_number_of_workers_that_is_none(self, runner: Runner, image: Any, workers: Any) -> None:
        with pytest.raises(InvalidArgumentError, match="num_workers"):
            runner.run(double, [image], num_workers=workers)

    def test_refuses_what_does_not_fit_before_calling_anything(
        self, runner: Runner, image: Any, result: Any
    ) -> None:
        other = np.zeros((4, 4), "int32")

        def never(*_: Any) -> None:
            raise AssertionError("called")

        for inputs, outputs, options, text in (
            ([image, other], [], {}, "one shape"),
            ([image], [other], {}, "trailing axes"),
            ([image], [result], {"mask": other}, "mask"),
            ([], [result], {}, "at least one input"),
            ([image], [result], {"block_shape": (3,)}, "axes"),
            ([image], [result], {"block_shape": (0, 3)}, "at least 1"),
            ([image], [result], {"halo": (1,)}, "halo"),
            ([image], [result], {"block_shape": self.blocks, "block_ids": [6]}, "out of range"),
            ([image], [result], {"block_shape": self.blocks, "block_ids": [-1]}, "out of range"),
            ([image], [result], {"block_ids": ["a"]}, "integers"),
            ([image], [result], {"block_ids": [0], "resume_from": "x"}, "not both"),
        ):
            with pytest.raises(InvalidArgumentError, match=text):
                runner.run(never, inputs, outputs, **options)
        with pytest.raises(InvalidArgumentError, match="callable"):
            runner.run("no", [image])
        with pytest.raises(InvalidArgumentError, match="n_items"):
            runner.map(square)
