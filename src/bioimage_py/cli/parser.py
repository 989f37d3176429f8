"""The words of the command line: verbs, options, and help that needs no knowledge of Python."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from bioimage_py.cli import values
from bioimage_py.cli.failure import EXIT_CODES, PROGRAM, UsageError

__all__ = ["Parser", "build_parser"]

_PATHS = """\
how to name an image:
  stack.tif             a file: TIFF, MRC, NIfTI, HDF5, NumPy .npy, PNG or JPEG slices
  slices/               a folder of slices, in natural order (2 before 10)
  data.zarr, data.n5    a chunked store; neuroglancer precomputed folders too
  data.n5/raw           an array inside a container; also file.h5:/volumes/raw, or --key raw
  s3://bucket/a.zarr    a URL: s3, gs, http, https
  Names that begin with a dash go after '--'."""

_SIZES = """\
sizes are per axis, slowest axis first (z,y,x): 64,64,64 or 64x64x64; a single 64 means every axis."""

_EXITS = "exit codes:\n" + "\n".join(f"  {code:<4}{meaning}" for code, meaning in EXIT_CODES.items())

_ABOUT = """\
Copy image volumes of any size from where they are into where they should be:
a TIFF stack into Zarr, N5 into sharded Zarr, HDF5 into N5 ... block by block,
with bounded memory, and checked voxel by voxel if you like."""

_EXAMPLES = """\
a first walk:
  bioimage-py info stack.tif                       what is in this file?
  bioimage-py plan stack.tif stack.zarr            what would a copy do? (writes nothing)
  bioimage-py copy stack.tif stack.zarr            do it
  bioimage-py verify stack.tif stack.zarr          is every voxel the same?
'bioimage-py VERB --help' tells more about each."""


class _Verb(NamedTuple):
    """What the help says about a verb."""

    summary: str
    about: str
    examples: str


_VERBS = {
    "info": _Verb(
        "what is in this file, folder or store?",
        """\
Show what is known about an image without reading its voxels: shape, data type, axes, voxel size,
chunks, compression, size. A container that holds several arrays is listed.""",
        """\
examples:
  bioimage-py info stack.tif
  bioimage-py info data.n5
  bioimage-py info data.n5 --key raw --json""",
    ),
    "plan": _Verb(
        "what would a copy do? writes nothing",
        """\
Show what 'copy' would do with the same options, without writing anything: blocks, bytes, number of
files, memory, and how often the input is read.""",
        """\
example:
  bioimage-py plan stack.tif stack.zarr --chunks 64,64,64""",
    ),
    "copy": _Verb(
        "copy an image into another store or format",
        """\
Copy INPUT to OUTPUT. The ending of OUTPUT chooses the format: .zarr, .n5, .h5, .npy, .precomputed.
Voxel size, units, axes and attributes go with it. An output that is there already is not touched
unless --overwrite or --into-existing says so. INPUT is never changed.""",
        """\
examples:
  bioimage-py copy stack.tif stack.zarr
  bioimage-py copy slices/ --pattern '*.tif' volume.zarr --workers 8 --verify
  bioimage-py copy data.n5 --key raw out.zarr --chunks 64,64,64 --shards 512,512,512 --codec zstd:3
  bioimage-py copy scan.h5:/volumes/raw out.zarr --dtype uint8 --casting check
If some blocks fail, or you press Ctrl-C, the message holds the command that copies only what is missing.""",
    ),
    "verify": _Verb(
        "are two images equal, voxel by voxel?",
        """\
Compare two images voxel by voxel, whatever their formats and chunks. Says how many voxels differ and
where the first one is. Ends with exit code 0 if all are equal and 1 if any differs.""",
        """\
examples:
  bioimage-py verify stack.tif stack.zarr
  bioimage-py verify old.n5 new.zarr --key-a raw && echo 'all voxels are equal'""",
    ),
}


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises `UsageError`, takes no abbreviations, and keeps the layout of its texts.

    Attributes
    ----------
    options
        For each verb the options that it takes, to guess what was meant.
    """

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)
        self.options: dict[str, list[str]] = {}

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse, and say for words that are left over which verb they were given to."""
        parsed, left = self.parse_known_args(words)
        if left:
            listed = " ".join(repr(word) for word in left)
            program = f"{PROGRAM} {parsed.verb}" if parsed.verb else PROGRAM
            raise UsageError(f"{listed} is not understood; {self._advice(parsed.verb, left[0])}", program)
        return parsed

    def _advice(self, verb: str | None, word: str) -> str:
        if word.startswith("--") and verb in self.options:
            near = difflib.get_close_matches(word.partition("=")[0], self.options[verb], 1)
            if near:
                return f"did you mean {near[0]}?"
        return (
            "a name that begins with a dash goes after '--'" if word.startswith("-") else "it is one too many"
        )

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting, so that `--json` gets its document."""
        raise UsageError(message, self.prog)


def build_parser(run: dict[str, Callable[..., int]]) -> Parser:
    """Return the parser of the whole command.

    Parameters
    ----------
    run
        For each verb the function that carries it out; it is set as `run` on the parsed arguments.
    """
    parser = Parser(prog=PROGRAM, description=_ABOUT, epilog=f"{_EXAMPLES}\n\n{_PATHS}\n\n{_EXITS}")
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    verbs = parser.add_subparsers(title="verbs", dest="verb", metavar="VERB")
    for name, add_options in (
        ("info", _add_info),
        ("plan", _add_plan),
        ("copy", _add_copy),
        ("verify", _add_verify),
    ):
        text = _VERBS[name]
        sizes = f"{_SIZES}\n\n" if name in ("plan", "copy") else ""
        epilog = f"{text.examples}\n\n{sizes}{_PATHS}\n\n{_EXITS}"
        verb = verbs.add_parser(name, help=text.summary, description=text.about, epilog=epilog)
        verb.set_defaults(run=run[name])
        add_options(verb)
        parser.options[name] = [option for action in verb._actions for option in action.option_strings]  # noqa: SLF001
    return parser


def _add_info(parser: Parser) -> None:
    parser.add_argument("path", metavar="PATH", help="the image")
    _add_key(parser, "--key", "key", "the array inside the container")
    _add_machine_options(parser)


def _add_plan(parser: Parser) -> None:
    _add_copy_options(parser)
    _add_machine_options(parser)


def _add_copy(parser: Parser) -> None:
    _add_copy_options(parser)
    after = parser.add_argument_group("before and after")
    after.add_argument(
        "--dry-run", action="store_true", help="only show what would be done, as 'bioimage-py plan' does"
    )
    after.add_argument(
        "--verify", action="store_true", help="compare input and output voxel by voxel afterwards"
    )
    _add_quiet(parser)
    _add_machine_options(parser)


def _add_verify(parser: Parser) -> None:
    parser.add_argument("a", metavar="A", help="one image")
    parser.add_argument("b", metavar="B", help="the other image")
    _add_key(parser, "--key-a", "key_a", "the array inside container A, or a pattern for slices")
    _add_key(parser, "--key-b", "key_b", "the array inside container B, or a pattern for slices")
    _add_resources(parser)
    _add_quiet(parser)
    _add_machine_options(parser)


def _add_copy_options(parser: Parser) -> None:
    parser.add_argument("input", metavar="INPUT", help="the image to read")
    parser.add_argument("output", metavar="OUTPUT", help="where to write")
    places = parser.add_argument_group("which array")
    which = places.add_mutually_exclusive_group()
    _add_key(which, "--key", "key", "the array inside the input container")
    which.add_argument(
        "--pattern", metavar="GLOB", help="which files of an input folder are the slices, such as '*.tif'"
    )
    _add_key(places, "--output-key", "output_key", "name of the array inside the output container")
    _add_output_options(parser)
    work = parser.add_argument_group("what is copied, and how")
    work.add_argument(
        "--mask",
        metavar="PATH",
        help="copy only the voxels where this image, of the input's shape, is not zero",
    )
    work.add_argument(
        "--block-shape",
        type=values.shape,
        metavar="SIZE",
        help="work in blocks of this size (default: planned)",
    )
    work.add_argument(
        "--block-ids",
        type=values.block_ids,
        metavar="IDS",
        help="copy only these blocks, such as 0-99,120, or @FILE to read the numbers from a file; "
        "they are counted as 'plan' with the same options does",
    )
    work.add_argument(
        "--casting",
        choices=("unsafe", "same_kind", "safe", "check"),
        help="when the output has another data type: 'unsafe' casts and warns (the default), 'check' stops at the "
        "first voxel that would change, 'same_kind' and 'safe' refuse as numpy defines them",
    )
    _add_resources(parser)


def _add_output_options(parser: Parser) -> None:
    there = parser.add_argument_group("if the output is there already").add_mutually_exclusive_group()
    there.add_argument("--overwrite", action="store_true", help="delete it and write it anew")
    there.add_argument(
        "--into-existing", action="store_true", help="write into the array that is there; it keeps its layout"
    )
    new = parser.add_argument_group("layout of a new output")
    new.add_argument(
        "--chunks", type=values.shape, metavar="SIZE", help="size of a chunk (default: chosen to suit)"
    )
    new.add_argument("--shards", type=values.shape, metavar="SIZE",
                     help="size of a shard, a file that holds many chunks (zarr 3 only; default: none)")  # fmt: skip
    new.add_argument("--codec", type=values.codec, metavar="NAME[:LEVEL]",
                     help="compression, such as zstd:3, gzip:6, blosc:5 or none; or JSON with its options")  # fmt: skip
    new.add_argument(
        "--zarr-format", type=int, choices=(2, 3), help="version of the Zarr format (default: 3)"
    )
    new.add_argument(
        "--dtype", metavar="TYPE", help="data type, such as uint8 or float32 (default: the input's)"
    )


def _add_resources(parser: Parser) -> None:
    group = parser.add_argument_group("how much of the computer is used")
    cores = values.available_cores()
    group.add_argument(
        "--workers",
        type=values.workers,
        default=cores,
        metavar="N",
        help="threads (default: all cores, here %(default)s)",
    )
    group.add_argument(
        "--memory-limit", metavar="SIZE", help="stay below this, such as 512MiB or 2GiB (default: 2 GiB or half the "
        "free memory, whichever is less)"
    )  # fmt: skip


def _add_key(parser: Any, option: str, dest: str, help: str) -> None:
    parser.add_argument(option, dest=dest, metavar="KEY", help=help)


def _add_quiet(parser: Parser) -> None:
    parser.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")


def _add_machine_options(parser: Parser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document, for errors too, and nothing else"
    )
    parser.add_argument("--debug", action="store_true", help="show the Python traceback of an error")
