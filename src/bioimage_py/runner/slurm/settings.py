"""The user's defaults for Slurm, in the table `[slurm]` of a TOML file."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from bioimage_py.errors import InvalidArgumentError, ReadOnlyError
from bioimage_py.runner.slurm.config import SlurmConfig

_TABLE = "slurm"


def config_file_path() -> Path:
    """Return where the user's configuration file is, or would be.

    `BIOIMAGE_PY_CONFIG` names it; otherwise it is `bioimage-py/config.toml` under `XDG_CONFIG_HOME`, or under `~/.config`.
    """
    named = os.environ.get("BIOIMAGE_PY_CONFIG")
    if named:
        return Path(named).expanduser()
    home = os.environ.get("XDG_CONFIG_HOME", "")
    # A relative path there is to be ignored, says the specification.
    base = Path(home) if Path(home).is_absolute() else Path("~/.config").expanduser()
    return base / "bioimage-py" / "config.toml"


def read_slurm_table() -> dict[str, Any]:
    """Return the user's defaults; empty where there are none, or `BIOIMAGE_PY_NO_CONFIG` is set.

    Raises
    ------
    InvalidArgumentError
        If the file cannot be read or a value in it is wrong.
    """
    import tomllib

    if os.environ.get("BIOIMAGE_PY_NO_CONFIG", "0") not in ("", "0"):
        return {}
    path = config_file_path()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if os.environ.get("BIOIMAGE_PY_CONFIG"):
            raise InvalidArgumentError(
                f"BIOIMAGE_PY_CONFIG names {str(path)!r}, which is not there"
            ) from None
        return {}
    except OSError as error:
        raise InvalidArgumentError(
            f"the configuration file {str(path)!r} cannot be read: {error.strerror}"
        ) from error
    except ValueError as error:
        raise InvalidArgumentError(
            f"the configuration file {str(path)!r} is no valid TOML: {error}"
        ) from error
    table = content.get(_TABLE, {})
    if not isinstance(table, dict):
        raise InvalidArgumentError(f"[{_TABLE}] in {str(path)!r} must be a table, got {table!r}")
    check_names(table, f"[{_TABLE}] in {str(path)!r}")
    try:
        SlurmConfig(**table)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"[{_TABLE}] in {str(path)!r}: {error}") from error
    return table


def check_names(given: Mapping[str, Any], where: str) -> None:
    """Raise InvalidArgumentError for a name that is no field of `SlurmConfig`; the message has the nearest one."""
    import difflib

    known = [f.name for f in fields(SlurmConfig)]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
            raise InvalidArgumentError(f"{where} has no setting {name!r}: {hint}")


def write_slurm_config(**settings: Any) -> Path:
    """Write defaults into the user's configuration file, keep the rest of it, and return where it is.

    Parameters
    ----------
    **settings
        Fields of `SlurmConfig`; None takes one away.

    Raises
    ------
    InvalidArgumentError
        If a field or value is none, or the file that is there is no valid TOML; it stays as it is then.
    ReadOnlyError
        If it cannot be written.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    check_names(settings, "SlurmConfig")
    SlurmConfig(**{name: value for name, value in settings.items() if value is not None})
    path = config_file_path()
    try:
        text = path.read_bytes().decode()
    except (FileNotFoundError, NotADirectoryError):
        text = ""
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(f"the configuration file {str(path)!r} cannot be read: {error}") from error
    try:
        document = tomlkit.parse(text)
    except TOMLKitError as error:
        raise InvalidArgumentError(
            f"the configuration file {str(path)!r} is no valid TOML: {error}"
        ) from error
    table = document.setdefault(_TABLE, tomlkit.table())
    if not isinstance(table, dict):
        raise InvalidArgumentError(f"[{_TABLE}] in {str(path)!r} must be a table, got {table!r}")
    for name, value in settings.items():
        if value is None:
            table.pop(name, None)
        else:
            table[name] = _plain(value)
    _replace(path, tomlkit.dumps(document))
    return path


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [str(item) for item in value]
    return value if isinstance(value, (bool, int, float)) else str(value)


def _replace(path: Path, text: str) -> None:
    """Put a new content in place at once, behind links, with the mode that the old one had."""
    target = path.resolve()
    name = None
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o600
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except OSError as error:
        if name is not None:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()
        raise ReadOnlyError(
            f"the configuration file {str(path)!r} cannot be written: {error.strerror}"
        ) from error
