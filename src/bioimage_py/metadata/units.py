"""Names of units as OME-NGFF has them, from whatever spelling a file uses."""

from __future__ import annotations

_POWERS = {
    "yocto": -24, "zepto": -21, "atto": -18, "femto": -15, "pico": -12, "nano": -9, "micro": -6, "milli": -3, "centi": -2, "deci": -1,
    "": 0, "hecto": 2, "kilo": 3, "mega": 6, "giga": 9, "tera": 12, "peta": 15, "exa": 18, "zetta": 21, "yotta": 24,
}  # fmt: skip
SPACE_UNITS = frozenset(
    {*(f"{p}meter" for p in _POWERS), "angstrom", "foot", "inch", "mile", "parsec", "yard"}
)
"""The units of space that OME-NGFF 0.4 and 0.5 name."""
TIME_UNITS = frozenset({*(f"{p}second" for p in _POWERS), "day", "hour", "minute"})
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


_NAME_OF = {
    spelling: name
    for name in SPACE_UNITS | TIME_UNITS
    for metre in (name, name.removesuffix("er") + "re")
    for spelling in (metre, f"{metre}s", *_SPELLINGS.get(name, ()))
}


def normalise_unit(unit: str | None) -> str | None:
    """Return the name that OME-NGFF uses for a unit (`"µm"` → `"micrometer"`); None if it is not of space or time.

    Capitals are not told apart: images are measured in millimeters and not in megameters.
    """
    return None if not unit else _NAME_OF.get(unit.strip().strip(".").lower())


_SYMBOLS = {
    "meter": {-12: "pm", -9: "nm", -6: "um", -3: "mm", 0: "m", 3: "km"},
    "second": {-15: "fs", -12: "ps", -9: "ns", -6: "us", -3: "ms", 0: "s"},
}
_NOT_METRIC = {
    "angstrom": (0.1, -9), "inch": (25.4, -3), "foot": (304.8, -3), "yard": (914.4, -3), "mile": (1.609344, 3),
    "parsec": (3.0856775814913673e13, 3), "minute": (60.0, 0), "hour": (3600.0, 0), "day": (86400.0, 0),
}  # fmt: skip
"""How many of which power of ten of a meter or second each is."""


def _base_of(unit: str) -> str:
    return "meter" if unit in SPACE_UNITS else "second"


def _size_of(unit: str) -> tuple[float, int]:
    return _NOT_METRIC.get(unit) or (1.0, _POWERS[unit.removesuffix(_base_of(unit))])


def unit_symbol(unit: str) -> tuple[str, float]:
    """Return the symbol of a unit for viewers, of the next smaller one where it has none, and how many of these it is."""
    factor, power = _size_of(unit)
    symbols = _SYMBOLS[_base_of(unit)]
    nearest = max((known for known in symbols if known <= power), default=min(symbols))
    return symbols[nearest], factor * 10.0 ** (power - nearest)


_SHORT = {
    "centimeter": "cm", "decimeter": "dm", "angstrom": "Å", "inch": "in", "foot": "ft", "yard": "yd", "mile": "mi", "parsec": "pc",
    "minute": "min", "hour": "h", "day": "d",
}  # fmt: skip


def short_unit(unit: str) -> str:
    """Return a unit as people write it.

    Examples
    --------
    >>> short_unit("micrometer"), short_unit("nanometer"), short_unit("angstrom"), short_unit("grain")
    ('µm', 'nm', 'Å', 'grain')
    """
    name = normalise_unit(unit)
    if name is None or name in _SHORT:
        return _SHORT.get(name or "", unit)
    return _SYMBOLS[_base_of(name)].get(_size_of(name)[1], unit).replace("u", "µ")


def unit_ratio(unit: str | None, other: str | None) -> float | None:
    """Return how many of another unit one of a unit is, in any spelling; None unless both are of space or of time."""
    first, second = normalise_unit(unit), normalise_unit(other)
    if first is None or second is None or _base_of(first) != _base_of(second):
        return None
    (factor, power), (other_factor, other_power) = _size_of(first), _size_of(second)
    # Exact where both are powers of ten of the same.
    return factor / other_factor * float(f"1e{power - other_power}")
