"""Every exception and warning that the package raises.

Each class is also the builtin that a caller would expect, so `except ValueError` and `except FileNotFoundError`
work without importing anything from here. Every worker imports this module, which needs little for that.
"""

from __future__ import annotations

import itertools
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from traceback import FrameSummary


class Call(NamedTuple):
    """A call that a hint proposes, as data; `str` gives it as Python.

    Attributes
    ----------
    verb
        Name of a function of the package, or `""` where `options` are for the call that failed.
    arguments
        What it takes by position.
    options
        What it takes by name. The value `...` stands for any.

    Examples
    --------
    >>> str(Call("resume", ("/runs/1",)))
    "bioimage_py.resume('/runs/1')"
    >>> str(Call(options={"chunks": (64, 64), "shards": ...}))
    'chunks=(64, 64) and shards'
    """

    verb: str = ""
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = {}

    def __str__(self) -> str:
        options = [name if value is ... else f"{name}={value!r}" for name, value in self.options.items()]
        if not self.verb:
            return " and ".join(options)
        return f"bioimage_py.{self.verb}({', '.join([*map(repr, self.arguments), *options])})"


class Hint(NamedTuple):
    """What to do next about an error or a warning; `str` gives it in the words of Python.

    Attributes
    ----------
    text
        A clause that begins in lower case, with `{}` where the call is named.
    call
        What is called, if anything.
    """

    text: str
    call: Call | None = None

    @classmethod
    def of(cls, text: str, verb: str = "", /, *arguments: Any, **options: Any) -> Hint:
        """Return a hint with a call.

        Examples
        --------
        >>> str(Hint.of("to replace it, give {}", overwrite=True))
        'to replace it, give overwrite=True'
        """
        return cls(text, Call(verb, arguments, options))

    def told(self, written: Callable[[Call], str]) -> str:
        """Return the hint with its call as a function writes it."""
        return self.text if self.call is None else self.text.replace("{}", written(self.call), 1)

    def __str__(self) -> str:
        return self.told(str)


class _Hinted(BaseException):
    """An exception whose text ends with hints.

    `message` is the text without them; it may be given as a Hint too, whose call names an argument.
    """

    def __init__(self, *args: Any, hints: Iterable[Hint] = ()) -> None:
        super().__init__(*args)
        self.hints = tuple(hints)

    @property
    def message(self) -> str:
        """What happened, without hints."""
        return super().__str__()

    def message_told(self, written: Callable[[Call], str]) -> str:
        """Return the message, its call as a function writes it."""
        given = self.args[0] if self.args else None
        return given.told(written) if isinstance(given, Hint) else self.message

    def told(self, written: Callable[[Call], str]) -> str:
        """Return the message with its hints, their calls as a function writes them."""
        message = self.message_told(written)
        if not self.hints:
            return message
        said = "; ".join(hint.told(written) for hint in self.hints)
        apart = "\n" if "\n" in message else ". "
        return f"{message}{apart}{said[0].upper()}{said[1:]}"

    def __str__(self) -> str:
        return self.told(str)

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows: the lines that called the package, not those in it; all with `BIOIMAGE_PY_DEBUG=1`."""
        import traceback

        if os.environ.get("BIOIMAGE_PY_DEBUG", "") not in ("", "0"):
            return "".join(traceback.format_exception(self)).splitlines()
        calls = itertools.takewhile(_is_outside, _frames_of(self))
        cause = self.__cause__
        inside = () if cause is None or isinstance(cause, _Hinted) else filter(_is_outside, _frames_of(cause))
        return [
            *_told_frames(calls),
            *_told_frames(inside),
            f"{type(self).__name__}: {self}",
            "(BIOIMAGE_PY_DEBUG=1 shows the whole traceback)",
        ]


def _frames_of(error: BaseException) -> Iterator[FrameSummary]:
    """Yield the frames of a traceback without those of IPython, which runs the cell."""
    import traceback

    for frame in traceback.extract_tb(error.__traceback__):
        if f"{os.sep}IPython{os.sep}" not in frame.filename:
            yield frame


def _is_outside(frame: FrameSummary) -> bool:
    return not frame.filename.startswith(os.path.dirname(__file__) + os.sep)  # noqa: PTH120 - pathlib is slower to load


def _told_frames(frames: Iterable[FrameSummary]) -> Iterator[str]:
    for frame in frames:
        cell = "ipykernel" in frame.filename or frame.filename.startswith("<ipython")
        yield f"{'Cell' if cell else frame.filename}, line {frame.lineno}"
        yield f"    {frame.line}"


class BioimagePyError(_Hinted, Exception):
    """Base of every error that the package raises itself.

    Attributes
    ----------
    hints
        What to do next, as data; the text of the error ends with them.
    message
        The text without the hints.
    """


class BioimagePyWarning(_Hinted, UserWarning):
    """Base of every warning that the package issues itself; it has hints as an error has."""


class AssumptionWarning(BioimagePyWarning):
    """What a copy took for granted because its input does not say it, and wrote; the hints say which options state it."""


class InvalidArgumentError(BioimagePyError, ValueError):
    """An argument, or a combination of arguments, that cannot be carried out."""


class NotPortableError(InvalidArgumentError):
    """Something that exists in this process only, where other processes would have to open it."""


class InvalidIndexError(InvalidArgumentError, IndexError):
    """An index that a source does not take: out of bounds, or not numpy basic indexing with step 1."""


class AmbiguousSourceError(InvalidArgumentError):
    """A path that leads to several arrays, with no key that names one of them."""


class CastingError(InvalidArgumentError):
    """A voxel, or a dtype, that the output cannot hold under the casting rule given."""


class UnsupportedFormatError(InvalidArgumentError):
    """A file, an encoding or a dtype that the package or the target store cannot read or write."""


class SourceNotFoundError(BioimagePyError, FileNotFoundError):
    """A path, a key in a container, or a pattern that leads to nothing."""


class OutputExistsError(BioimagePyError, FileExistsError):
    """An output that is there already and was not asked to be replaced."""


class ReadOnlyError(BioimagePyError, PermissionError):
    """A write into a source, a file or a folder that can only be read."""


class StorageError(BioimagePyError, OSError):
    """Reading or writing stored voxels failed: corrupt, truncated, unreachable, or no space left."""


class MissingDependencyError(BioimagePyError, ImportError):
    """An optional library that this call needs is not installed."""

    @classmethod
    def of(cls, message: str, *packages: str, hints: Iterable[Hint] = ()) -> MissingDependencyError:
        """Return the error whose first hint installs packages by their own names.

        An extra of this project is not a name that pip finds: the index has another project of the same name.

        Examples
        --------
        >>> print(MissingDependencyError.of("viewing needs Neuroglancer", "neuroglancer"))
        viewing needs Neuroglancer. Install it with: pip install neuroglancer
        """
        what = "it" if len(packages) == 1 else "them"
        return cls(message, hints=[Hint(f"install {what} with: pip install {shlex.join(packages)}"), *hints])


class RunnerError(BioimagePyError, RuntimeError):
    """A run in which some blocks are not done.

    Attributes
    ----------
    message
        What failed, with the text of the first error.
    failed_block_ids
        Exactly the blocks that are not done, sorted.
    tmp_folder
        The run folder that was kept, or None for a run without one.
    """

    def __init__(
        self,
        message: str,
        failed_block_ids: Sequence[int] = (),
        tmp_folder: str | os.PathLike[str] | None = None,
        *,
        hints: Iterable[Hint] = (),
    ) -> None:
        super().__init__(message, hints=hints)
        self.failed_block_ids = failed_block_ids
        self.tmp_folder = None if tmp_folder is None else str(tmp_folder)


class RunInterrupted(_Hinted, KeyboardInterrupt):
    """Ctrl-C during a run; the message says what is done, `done_block_ids` and `failed_block_ids` list it.

    `tmp_folder` is the run folder that was kept, or None for a run without one; `hints` say how to go on.
    """

    def __init__(
        self,
        message: str,
        done_block_ids: Sequence[int] = (),
        failed_block_ids: Sequence[int] = (),
        tmp_folder: str | os.PathLike[str] | None = None,
        *,
        hints: Iterable[Hint] = (),
    ) -> None:
        super().__init__(message, hints=hints)
        self.done_block_ids = done_block_ids
        self.failed_block_ids = failed_block_ids
        self.tmp_folder = None if tmp_folder is None else str(tmp_folder)
