"""Names of units as OME-NGFF has them, from whatever spelling a file uses."""

from __future__ import annotations

__all__ = ["SPACE_UNITS", "TIME_UNITS", "normalise_unit"]

_PREFIXES = (
    "yocto", "zepto", "atto", "femto", "pico", "nano", "micro", "milli", "centi", "deci", "", "hecto", "kilo", "mega",
    "giga", "tera", "peta", "exa", "zetta", "yotta",
)  # fmt: skip
SPACE_UNITS = frozenset(
    {*(f"{p}meter" for p in _PREFIXES), "angstrom", "foot", "inch", "mile", "parsec", "yard"}
)
"""The units of space that OME-NGFF 0.4 and 0.5 name."""
TIME_UNITS = frozenset({*(f"{p}second" for p in _PREFIXES), "day", "hour", "minute"})
"""The units of time that OME-NGFF 0.4 and 0.5 name."""

_SPELLINGS = {
    "angstrom": ("å", "\u212b", "a", "ang", "ångstrom", "ångström", "ångstroem", "angstroms"),
    "picometer": ("pm",),
    "nanometer": ("nm",),
    "micrometer": ("um", "µm", "μm", "\\u00b5m", "&#181;m", "micron", "microns", "mu", "µ", "micro m"),
    "millimeter": ("mm",),
    "centimeter": ("cm",),
    "decimeter": ("dm",),
    "meter": ("m",),
    "kilometer": ("km",),
    "inch": ("in", "inches", '"'),
    "foot": ("ft", "feet"),
    "yard": ("yd",),
    "mile": ("mi",),
    "femtosecond": ("fs",),
    "picosecond": ("ps",),
    "nanosecond": ("ns", "nsec"),
    "microsecond": ("us", "µs", "μs", "usec", "µsec", "μsec"),
    "millisecond": ("ms", "msec"),
    "second": ("s", "sec", "secs"),
    "minute": ("min", "mins"),
    "hour": ("h", "hr", "hrs"),
    "day": ("d",),
}


def _by_spelling() -> dict[str, str]:
    found = {}
    for name in SPACE_UNITS | TIME_UNITS:
        for spelling in (name, f"{name}s", name.removesuffix("er") + "re", name.removesuffix("er") + "res"):
            found[spelling] = name
    for name, spellings in _SPELLINGS.items():
        found.update(dict.fromkeys(spellings, name))
    return found


_NAME_OF = _by_spelling()


def normalise_unit(unit: str | None) -> str | None:
    """Return the name that OME-NGFF uses for a unit (`"µm"` → `"micrometer"`), or None if it is none of space or time.

    Capitals are not told apart: images are measured in millimeters and not in megameters.

    Examples
    --------
    >>> normalise_unit("µm"), normalise_unit("pixel")
    ('micrometer', None)
    """
    return None if not unit else _NAME_OF.get(unit.strip().strip(".").lower())
