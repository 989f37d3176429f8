"""Names of units as OME-NGFF has them, from whatever spelling a file uses."""

from __future__ import annotations

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
    """Return the name that OME-NGFF uses for a unit (`"µm"` → `"micrometer"`); None if it is not of space or time.

    Capitals are not told apart: images are measured in millimeters and not in megameters.
    """
    return None if not unit else _NAME_OF.get(unit.strip().strip(".").lower())


_POWERS = dict(
    zip(
        _PREFIXES,
        (-24, -21, -18, -15, -12, -9, -6, -3, -2, -1, 0, 2, 3, 6, 9, 12, 15, 18, 21, 24),
        strict=True,
    )
)
_SYMBOLS = {
    "meter": {-12: "pm", -9: "nm", -6: "um", -3: "mm", 0: "m", 3: "km"},
    "second": {-15: "fs", -12: "ps", -9: "ns", -6: "us", -3: "ms", 0: "s"},
}
_NOT_METRIC = {
    "angstrom": ("nm", 0.1), "inch": ("mm", 25.4), "foot": ("mm", 304.8), "yard": ("mm", 914.4), "mile": ("km", 1.609344),
    "parsec": ("km", 3.0856775814913673e13), "minute": ("s", 60.0), "hour": ("s", 3600.0), "day": ("s", 86400.0),
}  # fmt: skip


def unit_symbol(unit: str) -> tuple[str, float]:
    """Return the symbol of a unit for viewers, of the next smaller one where it has none, and how many of these it is."""
    if unit in _NOT_METRIC:
        return _NOT_METRIC[unit]
    base = next(name for name in _SYMBOLS if unit.endswith(name))
    power, symbols = _POWERS[unit.removesuffix(base)], _SYMBOLS[base]
    nearest = max((known for known in symbols if known <= power), default=min(symbols))
    return symbols[nearest], 10.0 ** (power - nearest)


def unit_ratio(unit: str | None, other: str | None) -> float | None:
    """Return how many of another unit one of a unit is, in any spelling; None unless both are of space or of time."""
    first, second = normalise_unit(unit), normalise_unit(other)
    if first is None or second is None or (first in SPACE_UNITS) != (second in SPACE_UNITS):
        return None
    base = "meter" if first in SPACE_UNITS else "second"
    # Exact where both are powers of ten of the same.
    if first not in _NOT_METRIC and second not in _NOT_METRIC:
        return float(f"1e{_POWERS[first.removesuffix(base)] - _POWERS[second.removesuffix(base)]}")
    sizes = [_NOT_METRIC.get(name, (name, 1.0)) for name in (first, second)]
    powers = [_power_of(name, base) for name, _ in sizes]
    return sizes[0][1] / sizes[1][1] * float(f"1e{powers[0] - powers[1]}")


def _power_of(name: str, base: str) -> int:
    symbols = {symbol: power for power, symbol in _SYMBOLS[base].items()}
    return symbols[name] if name in symbols else _POWERS[name.removesuffix(base)]
