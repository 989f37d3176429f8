"""The base of every wrapper: sources in, one source out, computed when it is read."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Self

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources import Source, SourceSpec, as_source
from bioimage_py.wrapper.spec import describe_class, write_parameter


class WrapperSource(Source):
    """A read-only source that transforms others when it is read; nothing is computed or kept before.

    A subclass calls `super().__init__(*inputs)`, changes `shape`, `dtype` and `chunks` where they are not those of the
    first input, and implements `_read`. To take part in distributed runs it is registered (`register_wrapper`) and
    keeps the arguments of its constructor as attributes (or overrides `parameters`). Anything it reads goes through
    `self.inputs` (or `read_input`), so that `for_run` can exchange them; attributes are not changed after construction, as
    many threads read at once.

    Parameters
    ----------
    *inputs
        At least one source, array, handle or path, each taken by `as_source`.

    Attributes
    ----------
    inputs
        The sources that are read.
    owned
        Those of them that were opened here, and that `close` closes. A `Source` that was passed in stays open.
    keeps_values
        Whether voxels have the values of the first input, so that its contrast limits hold; a class attribute.
    working_bytes
        Bytes for each voxel of the result that computing it holds, besides what is read and returned; a class attribute that
        plans count memory by.

    Raises
    ------
    InvalidArgumentError
        If no input is given, or one cannot be read. Every wrapper raises it for arguments that are not as it describes them,
        or do not fit the input.

    Examples
    --------
    >>> class NegativeSource(WrapperSource):
    ...     def _read(self, box):
    ...         return -self.read_input(box)
    >>> NegativeSource(np.array([[1, 2], [3, 4]]))[1].tolist()
    [-3, -4]
    """

    format = "wrapper"
    reads_others = True
    keeps_values = True
    working_bytes = 0
    inputs: tuple[Source, ...]
    owned: tuple[Source, ...]

    def __init__(self, *inputs: Any) -> None:
        if not inputs:
            raise InvalidArgumentError(f"{type(self).__name__} needs at least one input")
        sources: list[Source] = []
        with ExitStack() as opened:
            for given in inputs:
                source = as_source(given)
                if source is not given:
                    opened.callback(source.close)
                sources.append(source)
            opened.pop_all()
        self.inputs = tuple(sources)
        self.owned = tuple(s for s, given in zip(sources, inputs, strict=True) if s is not given)
        first = sources[0]
        self.shape = first.shape
        self.dtype = first.dtype.newbyteorder("=")
        self.chunks = first.chunks

    @classmethod
    def from_parameters(cls, inputs: Sequence[Source], parameters: Mapping[str, Any]) -> Self:
        """Return the wrapper with these inputs and what `parameters` returned: `cls(*inputs, **parameters)`."""
        return cls(*inputs, **parameters)

    def parameters(self) -> dict[str, Any]:
        """Return the keyword arguments, besides the inputs, from which the wrapper can be built again.

        These are the constructor's arguments that are attributes of the same name, unless overridden. Numbers, strings,
        slices, dtypes, functions, and lists, tuples and dicts of them can travel.
        """
        arguments = list(inspect.signature(type(self).__init__).parameters.values())[2:]
        named = (one.name for one in arguments if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY))
        kept = {name: getattr(self, name) for name in named if hasattr(self, name)}
        return {name: value for name, value in kept.items() if not isinstance(value, (Source, np.ndarray))}

    @property
    def name(self) -> str:
        """The class and the names of its inputs, such as `"ThresholdSource(data.zarr)"`."""
        return f"{type(self).__name__}({', '.join(source.name for source in self.inputs)})"

    @property
    def metadata(self) -> ImageMetadata:
        """Metadata of the first input, as far as it fits the axes and the values."""
        metadata = self.inputs[0].metadata.fitting(self.ndim)
        return metadata if self.keeps_values else replace(metadata, contrast_limits=None)

    def _take_axes(self, origins: Sequence[int | None]) -> None:
        """Set shape and chunks by the axes of the input that become axes here; None for a new axis of one voxel."""
        first = self.inputs[0]
        self.shape = tuple(1 if axis is None else first.shape[axis] for axis in origins)
        if first.chunks is not None:
            self.chunks = tuple(1 if axis is None else first.chunks[axis] for axis in origins)

    def _refuse_complex(self, what: str) -> None:
        """Raise InvalidArgumentError if the first input is complex, which has no order."""
        if self.inputs[0].dtype.kind == "c":
            source = self.inputs[0]
            raise InvalidArgumentError(f"{source.name} is {source.dtype}: complex voxels have no {what}")

    def read_input(self, box: Box, position: int = 0) -> AnyArray:
        """Return the voxels of one input in a box, in native byte order; treat the array as read-only."""
        source = self.inputs[position]
        return np.asarray(source.read(box), dtype=source.dtype.newbyteorder("="))

    def identities(self) -> frozenset[tuple[Any, ...]]:
        return frozenset().union(*(source.identities() for source in self.inputs))

    def for_run(self, threads: int, cache_bytes: int) -> Source:
        """Return a twin on tuned inputs: each may use all threads, the cache is split evenly among them.

        Closing the twin closes the tuned inputs only. Where tuning changes no input, the wrapper is its own twin.
        """
        distinct = {id(source): source for source in self.inputs}
        tuned = {
            key: source.for_run(threads, cache_bytes // len(distinct)) for key, source in distinct.items()
        }
        if all(tuned[key] is source for key, source in distinct.items()):
            return self
        twin = copy.copy(self)
        twin.inputs = tuple(tuned[id(source)] for source in self.inputs)
        twin.owned = tuple(tuned[key] for key, source in distinct.items() if tuned[key] is not source)
        return twin

    def read_shapes(self, shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """Yield the largest region that reading one of this shape reads of each input; that shape, unless overridden.

        Plans count memory by it, so a wrapper that reads more than it returns overrides it.
        """
        for source in self.inputs:
            if source.ndim == len(shape):
                yield tuple(map(min, zip(shape, source.shape, strict=True)))
            else:
                yield (math.prod(shape),) + (1,) * (source.ndim - 1)

    def scratch_bytes(self, shape: tuple[int, ...]) -> int:
        held = self.working_bytes * math.prod(shape)
        for source, part in zip(self.inputs, self.read_shapes(shape), strict=True):
            held += math.prod(part) * source.dtype.itemsize + source.scratch_bytes(part)
        return held

    def input_boxes(self, box: Box) -> Iterator[tuple[int, Box]]:
        """Yield what reading a box reads, as positions of inputs and boxes of them; the same box, unless overridden.

        Plans count by it how often chunks are decoded; of an input of another shape nothing is known.
        """
        yield from ((n, box) for n, source in enumerate(self.inputs) if source.shape == self.shape)

    def decoded_bytes(self, box: Box) -> int:
        return sum(self.inputs[n].decoded_bytes(inner) for n, inner in self.input_boxes(box))

    def chunk_bytes(self) -> int:
        return max(source.chunk_bytes() for source in self.inputs)

    def kept_bytes(self) -> int:
        return sum(source.kept_bytes() for source in self.inputs)

    def to_spec(self) -> SourceSpec:
        """Return the registered name, the parameters and the inputs' specs as plain JSON.

        A function that another process can import is written by its name; any other one (a lambda, a local function,
        one of a notebook) is pickled into the spec. Reopening a spec therefore runs code: reopen only your own.

        Raises
        ------
        InvalidArgumentError
            If an input is held in memory, or the class is not registered.
        MissingDependencyError
            If a function must be pickled and cloudpickle is not installed.
        """
        return {
            "kind": "wrapper",
            **describe_class(type(self)),
            "inputs": [_read_only(source.to_spec()) for source in self.inputs],
            "parameters": {name: write_parameter(value) for name, value in self.parameters().items()},
        }

    def close(self) -> None:
        """Close the inputs that were opened here, and no other."""
        with ExitStack() as stack:
            for source in self.owned:
                stack.callback(source.close)

    @contextmanager
    def closing_on_error(self) -> Iterator[None]:
        """Close what was opened here if the body raises; for checks in a constructor that need the inputs."""
        try:
            yield
        except BaseException:
            self.close()
            raise


def _read_only(spec: SourceSpec) -> SourceSpec:
    """Return a spec that opens nothing for writing: what is read through a wrapper is an input."""
    return {**spec, "mode": "r"} if "mode" in spec else spec
