"""The options of `copy`, `pyramid` and their plans as values, from which the options of the command line are derived."""

from __future__ import annotations

import difflib
import functools
import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.option import option
from bioimage_py.storage import reads_remembered, stores_reached

if TYPE_CHECKING:
    import numpy.typing as npt

    from bioimage_py.geometry import IdSet
    from bioimage_py.runner import Progress, Runner, RunnerConfig
    from bioimage_py.sources import Codec

P = ParamSpec("P")
R = TypeVar("R")


def with_arguments_of(verb: Callable[P, Any]) -> Callable[[Callable[..., R]], Callable[P, R]]:
    """Return a decorator for a function of input, output and options that has the signature of another."""

    def decorated(function: Callable[..., R]) -> Callable[P, R]:
        shown = inspect.signature(function).replace(
            parameters=list(inspect.signature(verb).parameters.values())
        )

        @functools.wraps(function)
        def called(*arguments: P.args, **options: P.kwargs) -> R:
            wrong = [name for name in options if name not in shown.parameters]
            if wrong:
                near = difflib.get_close_matches(wrong[0], shown.parameters, 1)
                meant = f". Did you mean {near[0]!r}?" if near else ""
                raise TypeError(
                    f"{function.__name__}() got an unexpected keyword argument {wrong[0]!r}{meant}"
                )
            return function(*arguments, **options)

        called.__signature__ = shown  # type: ignore[attr-defined]
        return called

    return decorated


@dataclass(frozen=True)
class RunOptions:
    """How a run goes over its blocks, and where."""

    block_shape: Sequence[int] | None = option(
        "process blocks of this shape (default: planned)", metavar="SIZE", read="shape"
    )
    casting: str = option(
        "rule for an output of another data type: 'unsafe' casts and warns (the default), 'check' stops at the "
        "first voxel that would change, 'clip' (or --clip) saturates integers instead of wrapping, 'same_kind' and 'safe' refuse as "
        "numpy does",
        default="unsafe",
        choices=("unsafe", "same_kind", "safe", "check", "clip"),
    )
    verify_encoded: bool = option(
        "also decode the chunks that are moved as they are, and fail on corrupt ones",
        default=False,
    )
    memory_limit: int | str | None = option(
        "stay below this, such as 512MiB or 2GiB (default: 2 GiB or half of the free memory, whichever is less)",
        metavar="SIZE",
    )
    digest: bool = option(
        "keep a digest of the voxels beside each array, by which 'verify' proves it without the input",
        default=False,
    )
    page: str | os.PathLike[str] | None = option(
        "leave a page about the run in this file (.html): blocks in their place, speed over time, tasks, errors",
        metavar="FILE",
    )
    job_type: str = "local"
    job_config: RunnerConfig | None = None
    num_workers: int = 1  # None, for all cores, becomes their number
    block_ids: Sequence[int] | None = None
    resume_from: str | os.PathLike[str] | None = None
    progress: Callable[[Progress], None] | bool | None = None

    def __post_init__(self) -> None:
        from bioimage_py.planning import parse_bytes
        from bioimage_py.runner import checked_workers

        object.__setattr__(self, "num_workers", checked_workers(self.num_workers))
        if self.memory_limit is not None:
            parse_bytes(self.memory_limit)
        # Found at the first call it would cost a run.
        if not (self.progress is None or isinstance(self.progress, bool) or callable(self.progress)):
            raise InvalidArgumentError(
                f"progress must be True, False or a function that takes a Progress, got {type(self.progress).__name__} {self.progress!r}"
            )

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Self:
        """Return the options that are among the arguments of a function."""
        return cls(**{one.name: arguments[one.name] for one in fields(cls) if one.name in arguments})

    @cached_property
    def runner(self) -> Runner:
        """The backend; raises InvalidArgumentError if it cannot do what is asked for."""
        from bioimage_py.runner import get_runner

        runner = get_runner(self.job_type, self.job_config)
        runner.check_resume(self.resume_from, self.block_ids)
        return runner

    @property
    def memory_bytes(self) -> int | None:
        from bioimage_py.planning import parse_bytes

        given = self.memory_limit
        return self.runner.config.memory_limit_bytes if given is None else parse_bytes(given)

    @cached_property
    def ids(self) -> IdSet | None:
        from bioimage_py.runner.work import ids_from

        return None if self.block_ids is None else ids_from(self.block_ids, None, "block_ids")

    @property
    def deciding(self) -> dict[str, Any]:
        """What is given that decides which voxels are written, and how, as JSON."""
        given = {one.name: getattr(self, one.name) for one in fields(self) if one.name in _DECIDING}
        return {name: _as_json(name, value) for name, value in given.items() if value is not None}

    @property
    def folder(self) -> str | None:
        """The run folder to resume from."""
        return None if self.resume_from is None else os.fspath(self.resume_from)

    @property
    def threads(self) -> int:
        """Of each process."""
        return self.num_workers if self.runner.in_process else self.runner.config.threads_per_worker

    @property
    def keeps_folder(self) -> bool:
        """Whether the run keeps a folder, from which others can finish it."""
        return not self.runner.in_process or self.runner.config.asks_for_folder

    @property
    def in_other_processes(self) -> bool:
        """Whether other processes write the output, at once or when the run is resumed."""
        return not self.runner.in_process or bool(self.runner.config.resumable)


@dataclass(frozen=True)
class NewArray:
    """How a new array looks; None for what the input or the format decides."""

    chunks: Sequence[int] | None = option(
        "shape of a chunk (default: chosen automatically)", metavar="SIZE", read="shape"
    )
    shards: Sequence[int] | Literal["auto"] | None = option(
        "shape of a shard, a file that holds many chunks (Zarr v3 and precomputed), or auto (default: none, auto for .ozx)",
        metavar="SIZE",
        read="shards",
    )
    codec: str | Mapping[str, Any] | Codec | None = option(
        "compression, such as zstd:3, gzip:6, blosc:5+crc32c, bitround:10+zstd or none; or JSON with its options",
        metavar="[FILTER+]NAME[:LEVEL][+crc32c]",
        read="codec",
    )
    zarr_format: int | None = option(
        "version of the Zarr format (default: that of the group around it, else 3; for a whole OME-Zarr, that of the input)",
        read="count",
        choices=(2, 3),
    )
    ome_zarr_version: str | None = option(
        "version of a new OME-Zarr image: 0.4 (Zarr v2), 0.5 or 0.6 (Zarr v3; default: 0.5, or that of the input for a whole OME-Zarr)",
        choices=("0.4", "0.5", "0.6"),
    )
    imagej: bool | None = option("make a TIFF an ImageJ hyperstack (default: an OME-TIFF)")
    skip_zeros: bool | None = option(
        "leave chunks of zeros out of a precomputed volume (default: they are stored, because CloudVolume takes a missing chunk for an error)"
    )
    dtype: npt.DTypeLike | None = option(
        "data type, such as uint8 or float32 (default: the input's)", metavar="TYPE"
    )
    fill_value: float | None = option(
        "value of voxels that are never written because --mask or --block-ids leaves them out (default: 0)",
        metavar="NUMBER",
        read="number",
    )
    overwrite: bool = option("delete it and write a new one", default=False)

    @property
    def layout(self) -> dict[str, Any]:
        """What is said of the new array, as `create_output` takes it."""
        return {name: value for name, value in _given(self, NewArray).items() if name != "overwrite"}


@dataclass(frozen=True)
class InputMetadata:
    """What the input does not say of itself, or says wrongly."""

    axes: Sequence[str] | None = option(
        "names of the axes, slowest first, such as zyx or czyx", metavar="NAMES"
    )
    voxel_size: float | Sequence[float] | None = option(
        "size of a voxel, such as 2,0.5,0.5, or one number", metavar="SIZE", read="sizes"
    )
    units: str | Sequence[str | None] | None = option(
        "unit of the voxel size, such as um or nm", metavar="UNIT"
    )

    @property
    def said(self) -> dict[str, Any]:
        """What is said of the input, as `with_metadata` takes it."""
        return _given(self, InputMetadata)


@dataclass(frozen=True)
class StoreAccess:
    """How the s3:// and az:// URLs of a call are reached; sources that are open already stay as they are."""

    endpoint: str | None = option(
        "URL of the server, such as https://s3.example.org (default: AWS_ENDPOINT_URL, else Amazon's; for az:// AZURE_STORAGE_ENDPOINT)",
        metavar="URL",
    )
    region: str | None = option("region of a bucket at s3:// (default: AWS_REGION)", metavar="NAME")
    anonymous: bool = option("ask without keys, as public buckets and containers allow", default=False)
    profile: str | None = option(
        "profile in the files of the AWS tools that has the keys (default: AWS_PROFILE, or the keys in the environment)",
        metavar="NAME",
    )

    @contextmanager
    def reaching(self, *given: Any) -> Iterator[None]:
        """Reach s3:// and az:// URLs so meanwhile; InvalidArgumentError if something is said of them, and not one kind of them is given."""
        said = {one.name: value for one in fields(StoreAccess) if (value := getattr(self, one.name))}
        root = getattr(getattr(self, "job_config", None), "tmp_root", None)
        texts = [one for one in (*given, root) if isinstance(one, str)]
        if said and (why := StoreAccess.why_not(texts)):
            raise InvalidArgumentError(
                f"{', '.join(said)} {why}; a source that is open already was reached in its own way"
            )
        with stores_reached(said), reads_remembered():
            yield

    @staticmethod
    def why_not(texts: Iterable[str]) -> str:
        """Return why nothing can be said of how the URLs among some texts are reached; empty if it can."""
        found = {kind for text in texts for kind in ("s3://", "az://") if kind in text.lower()}
        if not found:
            return "can be given for s3:// and az:// URLs only, and none is given"
        return "" if len(found) == 1 else "cannot be given for s3:// and az:// at once: open one with its own"


def _as_json(name: str, value: Any) -> Any:
    import numpy as np

    from bioimage_py.sources import Codec

    if name == "dtype":
        return np.dtype(value).str
    if name == "codec":
        found = Codec.parse(value)
        return " ".join(str(one) for one in (found.name, found.level, found.options) if one)
    if name == "block_ids":
        return [int(n) for n in value]
    return json.loads(json.dumps(value, default=lambda one: one.item() if hasattr(one, "item") else str(one)))


def _given(options: Any, kind: type) -> dict[str, Any]:
    """Return the options of a kind that are not None."""
    return {one.name: given for one in fields(kind) if (given := getattr(options, one.name)) is not None}


@dataclass(frozen=True)
class CopyOptions(RunOptions, NewArray, InputMetadata, StoreAccess):
    """The options of `copy` and `plan`."""

    mask: Any = option(
        "copy only the voxels where this image, of the input's shape, is not zero", metavar="PATH"
    )
    block_ids: Sequence[int] | None = option(
        "copy only these blocks, such as 0-99,120, or @FILE to read the numbers from a file; "
        "they are numbered as by 'plan' with the same options",
        metavar="IDS",
        read="block_ids",
    )
    update: bool | str = option(
        "bring the output of an earlier copy up to date: copy what has changed in the input since, found by the times of its "
        "files or the etags of its objects",
        default=False,
    )
    record: bool | str = option(
        "write what was done beside the output, as an RO-Crate: input, plan, versions, call, times; no user or host name",
        default=False,
    )


@dataclass(frozen=True)
class PyramidOptions(RunOptions, NewArray, InputMetadata, StoreAccess):
    """The options of `pyramid` and `pyramid_plan`."""

    levels: int | None = option(
        "number of levels, including full size (default: until the volume fits one chunk)",
        metavar="N",
        read="workers",
    )
    scale_factors: Sequence[int | Sequence[int]] | None = option(
        "factors from each level to the next: 2,2 for all spatial axes, or per axis "
        "1x2x2,2x2x2 (default: 2, but 1 along axes whose voxels are already long)",
        metavar="FACTORS",
        read="scale_factors",
    )
    method: str = option(
        "how voxels are reduced to one (default: mode for labels, mean for images)",
        default="auto",
        choices=("auto", "mean", "median", "mode", "min", "max", "stride"),
    )
    kind: str | None = option(
        "what the image shows (default: by its data type and name)", choices=("labels", "image")
    )


@dataclass(frozen=True)
class Reduction:
    """What `downsample` takes besides the options of `copy`; the method is that of a pyramid."""

    scale_factor: Sequence[int] | None = option(
        "how many voxels become one: one number for all axes but channels and time, or one per axis, such as 1,2,2",
        metavar="FACTORS",
        read="shape",
    )
    order: int | None = option(
        "interpolate, without --method: 0 takes the nearest voxel, 1 is linear, up to 5",
        metavar="N",
        read="count",
    )
    anti_aliasing: bool | None = option("smooth before interpolating")


_DECIDING = {
    *("block_shape", "casting", "block_ids", "digest", "levels", "scale_factors", "method", "kind"),
    *(one.name for kind in (NewArray, InputMetadata) for one in fields(kind) if one.name != "overwrite"),
}
"""Options that must be equal for a call to continue an earlier one."""
