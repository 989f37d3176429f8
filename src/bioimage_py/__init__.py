"""Copy image volumes of any size, block by block, from any source into any chunked store.

>>> import numpy as np
>>> import bioimage_py as bp
>>> bp.copy(np.arange(6).reshape(2, 3)).tolist()
[[0, 1, 2], [3, 4, 5]]
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bioimage_py.bench import BenchResult, bench
    from bioimage_py.copy import copy, plan
    from bioimage_py.downsample import downsample
    from bioimage_py.errors import BioimagePyError, RunnerError
    from bioimage_py.geometry import Block, Blocking, BlockWithHalo, to_roi
    from bioimage_py.pyramid import pyramid, pyramid_plan
    from bioimage_py.report.preview import Picture, preview
    from bioimage_py.report.view import View, view
    from bioimage_py.resume import resume
    from bioimage_py.runner import (
        DaskConfig,
        DaskRunner,
        LocalRunner,
        Progress,
        Runner,
        RunnerConfig,
        SlurmConfig,
        SlurmRunner,
        SubprocessRunner,
        config_file_path,
        get_runner,
        write_slurm_config,
    )
    from bioimage_py.sources import (
        FileSource,
        Source,
        as_source,
        create_output,
        from_spec,
        open_source,
        with_metadata,
    )
    from bioimage_py.verify import VerifyResult, verify

__version__ = "0.1.0"

__all__ = [
    "BenchResult",
    "BioimagePyError",
    "Block",
    "BlockWithHalo",
    "Blocking",
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
    "config_file_path",
    "copy",
    "create_output",
    "downsample",
    "from_spec",
    "get_runner",
    "open_source",
    "plan",
    "preview",
    "pyramid",
    "pyramid_plan",
    "resume",
    "to_roi",
    "verify",
    "view",
    "with_metadata",
    "write_slurm_config",
]

_HOMES = {
    "bench": ("BenchResult", "bench"),
    "copy": ("copy", "plan"),
    "downsample": ("downsample",),
    "errors": ("BioimagePyError", "RunnerError"),
    "geometry": ("Block", "BlockWithHalo", "Blocking", "to_roi"),
    "pyramid": ("pyramid", "pyramid_plan"),
    "runner": (
        "DaskConfig",
        "DaskRunner",
        "LocalRunner",
        "Progress",
        "Runner",
        "RunnerConfig",
        "SlurmConfig",
        "SlurmRunner",
        "SubprocessRunner",
        "config_file_path",
        "get_runner",
        "write_slurm_config",
    ),
    "report.preview": ("Picture", "preview"),
    "report.view": ("View", "view"),
    "resume": ("resume",),
    "sources": (
        "FileSource",
        "Source",
        "as_source",
        "create_output",
        "from_spec",
        "open_source",
        "with_metadata",
    ),
    "verify": ("VerifyResult", "verify"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_ROOMS = ("errors", "wrapper")
_OPERATIONS = ("bench", "copy", "downsample", "pyramid", "resume", "verify")


class _Package(ModuleType):
    """The package itself: an operation's name is its function, also after its module of the same name was imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OPERATIONS and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        """Be pickled by name, as a plain module is where a function that uses it is sent to other processes."""
        return importlib.import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    """Import a public name, or a module of public names, when it is first used."""
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_ROOMS])
