"""Rates, durations, shapes and voxel sizes as people read them."""

from __future__ import annotations

from collections.abc import Sequence

CROSS = " × "
_SYMBOLS = {
    "angstrom": "Å",
    "nanometer": "nm",
    "micrometer": "µm",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
    "millisecond": "ms",
    "second": "s",
}


def rate(n_bytes: float, seconds: float) -> str:
    """Return a speed in MB/s (10⁶ bytes per second); dashes where no time has passed."""
    if seconds <= 0:
        return "-- MB/s"
    return f"{_three_digits(n_bytes / seconds / 1e6)} MB/s"


def duration(seconds: float) -> str:
    """Return a duration in its two largest units, such as `2 h 1 min`."""
    if seconds < 9.95:
        return f"{seconds:.2f} s" if seconds < 0.995 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def counted(n: int, thing: str) -> str:
    """Return `1 file`, `2,000 files`."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def shape_text(shape: Sequence[int]) -> str:
    return CROSS.join(str(n) for n in shape) if shape else "a single value (no axes)"


def voxel_size_text(size: Sequence[float], units: Sequence[str | None] | None) -> str:
    """Return the voxel size with its units, or with the one that all axes share."""
    numbers = [f"{extent:.6g}" for extent in size]
    symbols = [_SYMBOLS.get(unit or "", unit or "") for unit in units or ("",) * len(numbers)]
    if not any(symbols):
        return f"{CROSS.join(numbers)} (unit not known)"
    if len(set(symbols)) == 1:
        return f"{CROSS.join(numbers)} {symbols[0]}"
    return CROSS.join(f"{n} {s}".rstrip() for n, s in zip(numbers, symbols, strict=True))


def shortened(text: str, width: int) -> str:
    """Return a text on one line, cut to `width` characters with an ellipsis."""
    flat = one_line(text)
    return flat if len(flat) <= width else flat[: max(0, width - 1)] + "…"


def one_line(text: str) -> str:
    """Return a text with every run of white space, line breaks included, as one blank."""
    return " ".join(text.split())


def _three_digits(number: float) -> str:
    if number >= 99.95:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"
