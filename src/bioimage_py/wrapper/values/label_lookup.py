"""Labels replaced by other labels, or by a number for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.wrapper.arguments import checked_dtype, checked_number, holds
from bioimage_py.wrapper.base import WrapperSource
from bioimage_py.wrapper.spec import register_wrapper


@register_wrapper("label_lookup")
class LabelLookupSource(WrapperSource):
    """Each label replaced by what a table says: merged, renumbered, removed, or turned into a measurement.

    The table travels to other processes as it is: with some millions of labels it takes as many lines of JSON.

    Parameters
    ----------
    source
        Source, array, handle or path, of integers or booleans.
    table
        `{label: value}`, or a pair of sequences `(labels, values)`. Values are integers, floats or booleans.
    default
        The value of labels that are not in the table. Default: they stay as they are.
    dtype
        dtype of the result. Default: that of the source where it holds all values; otherwise numpy's for the values (and for
        labels that stay).

    Raises
    ------
    InvalidArgumentError
        If the source is not integers, the table has a label twice, labels that are not integers or values that are not real
        numbers, or the dtype cannot hold the values, the default, or (without one) the labels that stay.

    Examples
    --------
    >>> labels = np.array([[0, 1, 2], [3, 3, 7]], "uint16")
    >>> LabelLookupSource(labels, {2: 1, 3: 9})[...].tolist()
    [[0, 1, 1], [9, 9, 7]]
    >>> LabelLookupSource(labels, {1: 0.5, 3: 2.5}, default=0)[1].tolist()
    [2.5, 2.5, 0.0]
    """

    keeps_values = False
    working_bytes = 25

    def __init__(
        self,
        source: Any,
        table: Mapping[int, Any] | Any,
        default: float | None = None,
        dtype: npt.DTypeLike | None = None,
    ) -> None:
        wanted = None if dtype is None else checked_dtype(dtype, "biuf")
        labels, values = _checked_table(table)
        other = None if default is None else checked_number(default, "default")
        super().__init__(source)
        with self.closing_on_error():
            if self.dtype.kind not in "biu":
                raise InvalidArgumentError(f"{self.inputs[0].name} is {self.dtype}: labels are integers")
            self.dtype = self._result_dtype(wanted, values, other)
        self.default = other
        # Labels that the source's dtype does not have cannot occur; the others are compared in it, without rounding.
        own = self.inputs[0].dtype.newbyteorder("=")
        can_occur = np.array([holds(own, label) for label in labels.tolist()], bool)
        self._labels = labels[can_occur].astype(own)
        self._values = values[can_occur].astype(self.dtype)
        self._dense = self._dense_table()

    def parameters(self) -> dict[str, Any]:
        return {"table": (self._labels.tolist(), self._values.tolist()), **super().parameters()}

    def _result_dtype(
        self, wanted: np.dtype[Any] | None, values: AnyArray, default: float | None
    ) -> np.dtype[Any]:
        if wanted is None:
            added = self.dtype if default is None else np.min_scalar_type(default)
            wanted = np.result_type(values.dtype, added)
            if values.dtype.kind != "f" and self._fits(self.dtype, values, default):
                return self.dtype
        if not self._fits(wanted, values, default):
            raise InvalidArgumentError(
                f"{wanted} cannot hold what becomes of {self.dtype} labels by this table of {values.dtype} values; "
                "give a dtype that does, or a default for labels that are not in the table"
            )
        return wanted

    def _fits(self, dtype: np.dtype[Any], values: AnyArray, default: float | None) -> bool:
        ends = [values.min().item(), values.max().item()] if values.size else []
        whole = dtype.kind == "f" or values.dtype.kind != "f" or bool(np.all(values == np.rint(values)))
        # numpy calls 64-bit integers in float64 safe, which rounds them.
        rounds = dtype.kind == "f" and self.dtype.itemsize == 8
        stays = default is not None or (np.can_cast(self.dtype, dtype, "safe") and not rounds)
        numbers = ends if default is None else [*ends, default]
        return whole and stays and all(holds(dtype, number) for number in numbers)

    def _dense_table(self) -> AnyArray | None:
        """Return the value of every label that the dtype has, where these are few and none is negative."""
        own = self._labels.dtype
        if own.kind == "i" or own.itemsize > 2:
            return None
        every = np.arange(2 if own.kind == "b" else np.iinfo(own).max + 1)
        return self._searched(every.astype(own))

    def _read(self, box: Box) -> AnyArray:
        block = self.read_input(box)
        return self._searched(block) if self._dense is None else self._dense.take(block)

    def _searched(self, block: AnyArray) -> AnyArray:
        kept = self.default is None
        out = block.astype(self.dtype) if kept else np.full(block.shape, self.default, self.dtype)
        if not self._labels.size:
            return out
        at = np.searchsorted(self._labels, block)
        at[at == self._labels.size] = 0
        np.copyto(out, self._values.take(at), where=self._labels.take(at) == block)
        return out


def _checked_table(table: Any) -> tuple[AnyArray, AnyArray]:
    """Return labels in ascending order, and their values."""
    if isinstance(table, Mapping):
        table = (list(table.keys()), list(table.values()))
    if not isinstance(table, (list, tuple)) or len(table) != 2 or len(table[0]) != len(table[1]):
        raise InvalidArgumentError(
            "table must be a dict {label: value}, or a pair of equally long sequences (labels, values)"
        )
    labels, values = _numbers(table[0]), _numbers(table[1])
    kinds = labels.dtype.kind in "biu" and values.dtype.kind in "biuf"
    if not kinds or labels.ndim != 1 or values.ndim != 1:
        raise InvalidArgumentError(
            f"labels must be integers and values real numbers, got {labels.dtype} and {values.dtype}"
        )
    unique, first = np.unique(labels, return_index=True)
    if unique.size != labels.size:
        again = labels[np.setdiff1d(np.arange(labels.size), first)]
        raise InvalidArgumentError(f"each label can be in the table once, but {again[0]} is repeated")
    return unique, values[first]


def _numbers(given: Any) -> AnyArray:
    """Return numbers as an array; integers beyond int64 as uint64, which numpy would not always choose."""
    found = np.asarray(given if len(given) else np.zeros(0, np.int64))
    if found.dtype.kind in "fO" and all(isinstance(one, (int, np.integer)) for one in given):
        try:
            return np.array([int(one) for one in given], np.uint64)
        except OverflowError:
            return found
    return found
