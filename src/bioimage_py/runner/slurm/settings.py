"""The user's configuration file: defaults in the table `[slurm]` of a TOML file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from bioimage_py.errors import InvalidArgumentError, ReadOnlyError, StorageError
from bioimage_py.runner.run import write_whole

_TABLE = "slurm"


def config_file_path() -> Path:
    """Return where the user's configuration file is, or would be.

    `BIOIMAGE_PY_CONFIG` names it; otherwise it is `bioimage-py/config.toml` under `XDG_CONFIG_HOME`, or under `~/.config`.
    """
    named = os.environ.get("BIOIMAGE_PY_CONFIG")
    if named:
        return Path(named).expanduser()
    home = os.environ.get("XDG_CONFIG_HOME", "")
    # The specification says to ignore a relative path there.
    base = Path(home) if Path(home).is_absolute() else Path("~/.config").expanduser()
    return base / "bioimage-py" / "config.toml"


def is_ignored() -> bool:
    """Whether the user's configuration file is not to be read."""
    return os.environ.get("BIOIMAGE_PY_NO_CONFIG", "0") not in ("", "0")


def read_table(kind: type[Any]) -> dict[str, Any]:
    """Return the user's defaults for the fields of a config dataclass, checked; empty where there are none, or they are ignored."""
    import tomllib

    if is_ignored():
        return {}
    path = config_file_path()
    where = f"the configuration file {str(path)!r}"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if os.environ.get("BIOIMAGE_PY_CONFIG"):
            raise InvalidArgumentError(
                f"BIOIMAGE_PY_CONFIG names {str(path)!r}, which does not exist"
            ) from None
        return {}
    except OSError as error:
        raise InvalidArgumentError(f"{where} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidArgumentError(f"{where} is not valid TOML: {error}") from error
    table = _checked_table(content.get(_TABLE, {}), path)
    check_names(table, kind, f"[{_TABLE}] in {str(path)!r}")
    try:
        kind(**table)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"[{_TABLE}] in {str(path)!r}: {error}") from error
    return table


def write_table(settings: Mapping[str, Any]) -> Path:
    """Write defaults into the user's configuration file, None to remove one; the rest of the file stays as it is."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    path = config_file_path()
    where = f"the configuration file {str(path)!r}"
    try:
        text = path.read_bytes().decode()
    except (FileNotFoundError, NotADirectoryError):
        text = ""
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(f"{where} cannot be read: {error}") from error
    try:
        document = tomlkit.parse(text)
    except TOMLKitError as error:
        raise InvalidArgumentError(f"{where} is not valid TOML: {error}") from error
    table = _checked_table(document.setdefault(_TABLE, tomlkit.table()), path)
    for name, value in settings.items():
        if value is None:
            table.pop(name, None)
        elif isinstance(value, (list, tuple)):
            table[name] = [str(item) for item in value]
        else:
            table[name] = value if isinstance(value, (bool, int, float)) else str(value)
    try:
        target = path.resolve()
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o600
        write_whole(target, tomlkit.dumps(document).encode(), mode)
    except OSError as error:
        raise ReadOnlyError(f"{where} cannot be written: {error.strerror}") from error
    except StorageError as error:
        raise ReadOnlyError(f"the configuration file {error}") from error
    return path


def check_names(given: Iterable[str], kind: type[Any], where: str) -> None:
    """Raise InvalidArgumentError for a name that is not a field of a config dataclass; the message has the nearest one."""
    import difflib

    known = [f.name for f in fields(kind)]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
            raise InvalidArgumentError(f"{where} has no setting {name!r}: {hint}")


def _checked_table(table: Any, path: Path) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise InvalidArgumentError(f"[{_TABLE}] in {str(path)!r} must be a table, got {table!r}")
    return table
