"""The library's messages in the words of the command line: `overwrite=True` becomes `--overwrite`."""

from __future__ import annotations

import ast
import re
import shlex

_OPTIONS = {
    "axes": "--axes",
    "block_ids": "--block-ids",
    "block_shape": "--block-shape",
    "casting": "--casting",
    "channels": "--channels",
    "chunks": "--chunks",
    "codec": "--codec",
    "contrast": "--contrast",
    "cpus_per_task": "--cpus-per-task",
    "dtype": "--dtype",
    "external_files": "--external-files",
    "fill_value": "--fill-value",
    "job_type": "--job-type",
    "keep_run_folder": "--keep-run-folder",
    "key": "--key",
    "kind": "--kind",
    "level": "--level",
    "levels": "--levels",
    "mask": "--mask",
    "memory_limit": "--memory-limit",
    "method": "--method",
    "missing_files": "--missing-files",
    "missing_planes": "--missing-planes",
    "num_workers": "--workers",
    "overwrite": "--overwrite",
    "pattern": "--pattern",
    "projection": "--projection",
    "read_limit": "--read-limit",
    "reader": "--reader",
    "resumable": "--resumable",
    "retries": "--retries",
    "scale_factors": "--scale-factors",
    "series": "--series",
    "shards": "--shards",
    "task_timeout": "--task-timeout",
    "tasks_per_worker": "--tasks-per-worker",
    "threads_per_worker": "--threads-per-worker",
    "time": "--time",
    "tmp_root": "--run-folders",
    "verify_encoded": "--verify-encoded",
    "voxel_size": "--voxel-size",
    "zarr_format": "--zarr-format",
}
# Words that are also English, such as "mask", are an option only where a value is given to them.
_SPELLED = "|".join(name for name in _OPTIONS if "_" in name)
_NAMED = "|".join(_OPTIONS)
_ASSIGNED = re.compile(rf"(?<![\w./'\"-])({_NAMED})=(True|'[^']*'|\([^()]*\)|\d+|(?=[\s,;.:)]|$))")
_REOPENED = re.compile(r"open (?:it )?(?:for writing, for example )?with open_source\([^()]*mode='r\+'\)")
_RESUMED = re.compile(r"(?:bioimage_py|bp)\.resume\((?:run_folder=)?('[^']*'|\"[^\"]*\")\)")
_FINISHING = re.compile(rf"[.;]? ?To finish(?: it)?: {_RESUMED.pattern}\.?")
_CHOSEN = re.compile(r"open_source\('[^']*', '([^']*)'\)")
_BARE = re.compile(rf"(?<![\w./'\"-])({_SPELLED})(?![\w/'\"=]|\.\w)")


def in_options(text: str) -> str:
    """Return a message with the names of Python arguments replaced by those of options.

    Examples
    --------
    >>> in_options("casting='check' stops there; give a larger memory_limit or shards=(64, 64)")
    '--casting check stops there; give a larger --memory-limit or --shards 64,64'
    """
    text = _REOPENED.sub("use --into-existing", text)
    text = _RESUMED.sub(lambda found: f"bioimage-py resume {shlex.quote(ast.literal_eval(found[1]))}", text)
    text = _CHOSEN.sub(_chosen, text)
    return _BARE.sub(lambda found: _OPTIONS[found[1]], _ASSIGNED.sub(_assigned, text))


def without_finishing(text: str) -> str:
    """Return a message without the call that finishes a run, where a command is told instead.

    Examples
    --------
    >>> without_finishing("2 of 9 blocks failed. To finish: bioimage_py.resume('/runs/1')")
    '2 of 9 blocks failed'
    """
    return _FINISHING.sub("", text)


def _assigned(found: re.Match[str]) -> str:
    option, value = _OPTIONS[found[1]], found[2]
    if value in ("", "True"):
        return option
    word = value.strip("'") if value.startswith("'") else value.strip("()").replace(" ", "").rstrip(",")
    return f"{option} {word}"


def _chosen(found: re.Match[str]) -> str:
    option = "--pattern" if any(sign in found[1] for sign in "*?[") else "--key"
    return f"{option} {shlex.quote(found[1])}"
