"""Quantities as Compose writes them, and as Docker prints them: durations, byte sizes, file modes, numbers, truth."""

from __future__ import annotations

import math
import re
import struct

from cluster.compose.tree import Wrong

_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
    "w": 7 * 86400 * 10**9,
}
_DURATION = re.compile(r"([-+]?)(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)[^0-9.]+)+", re.ASCII)
_TERM = re.compile(r"([0-9]*)\.?([0-9]*)([^0-9.]+)", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:[0-9]+(?:_[0-9]+)*\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_SIZE = re.compile(f"({_FLOAT.pattern}) ?([kmgtp](?:i?b)?|b)?", re.ASCII | re.IGNORECASE)
_INTEGER = re.compile(r"[-+]?[0-9]+", re.ASCII)
_MOST = 2**63
_LONGEST = 400
_TRUE = ("true", "1", "y", "yes", "on")
_FALSE = ("false", "0", "n", "no", "off")


def duration(text: str) -> str:
    """Read `1h5m30s20ms`, `1.5h` or `1d`, and give it as Docker prints it: `24h0m0s`."""
    if text in ("0", "+0", "-0"):
        return "0s"
    total = 0
    found = _DURATION.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        raise Wrong(f"{short(text)} is not a duration", hint='Write it like "1h5m30s" or "500ms".')
    for whole, part, unit in _TERM.findall(text.lstrip("+-")):
        if unit not in _NANOSECONDS:
            raise Wrong(f"{unit!r} is no unit of time", hint="Units are w, d, h, m, s, ms, us and ns.")
        total += int(whole or "0") * _NANOSECONDS[unit]
        if part:
            total += int(part) * _NANOSECONDS[unit] // 10 ** len(part)
    if total >= _MOST:
        raise Wrong(f"{short(text)} is too long", hint="The longest duration is about 292 years.")
    return ("-" if found[1] == "-" and total else "") + _write_duration(total)


def _write_duration(nanoseconds: int) -> str:
    if nanoseconds < 10**9:
        for unit in ("ms", "µs", "ns"):
            if nanoseconds >= _NANOSECONDS[unit]:
                return _decimal(nanoseconds, _NANOSECONDS[unit]) + unit
        return "0s"
    minutes, rest = divmod(nanoseconds, _NANOSECONDS["m"])
    hours, minutes = divmod(minutes, 60)
    text = _decimal(rest, 10**9) + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _decimal(value: int, unit: int) -> str:
    whole, part = divmod(value, unit)
    digits = str(part).rjust(len(str(unit)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)


def size(text: str) -> int:
    """Read a size in bytes: `1.5g`, `100 kb`, `64MiB`; every unit is a power of 1024."""
    found = _SIZE.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        raise Wrong(f"{short(text)} is not a size", hint='Write it like "512m" or "1.5g".')
    amount, unit = found.groups()
    value = number(amount) * 1024 ** " kmgtp".index((unit or "b").lower().rstrip("b").rstrip("i") or " ")
    if not 0 <= value < _MOST:
        raise Wrong(f"{short(text)} is out of range for a size")
    return int(value)


def mode(text: str) -> str:
    """Read a file mode in octal digits, and give it as Docker prints it: `0440`."""
    if len(text) > _LONGEST or not re.fullmatch(r"[-+]?[0-7]+", text, re.ASCII):
        raise Wrong(f"{short(text)} is not a file mode", hint='Write it in octal: "0440".')
    return write_mode(int(text, 8))


def write_mode(value: int) -> str:
    return f"0{abs(value):o}" if value >= 0 else f"0-{-value:o}"


def integer(text: str) -> int:
    """Read a whole number in decimal digits, of 64 bits."""
    if len(text) <= _LONGEST and _INTEGER.fullmatch(text) and -_MOST <= (value := int(text)) < _MOST:
        return value
    raise Wrong(f"{short(text)} is not a whole number")


def number(text: str) -> float:
    """Read a number; `inf` and `nan` are none."""
    if len(text) <= _LONGEST and _FLOAT.fullmatch(text) and math.isfinite(value := float(text)):
        return value
    raise Wrong(f"{short(text)} is not a number")


def single(value: float) -> float | int:
    """Give a number as one of 32 bits is printed: 0.1 stays 0.1."""
    try:
        narrow: float = struct.unpack("f", struct.pack("f", value))[0]
    except (OverflowError, struct.error):
        raise Wrong(f"{value:g} is too large a number") from None
    for digits in range(1, 10):
        text = f"{narrow:.{digits}g}"
        if struct.unpack("f", struct.pack("f", float(text)))[0] == narrow:
            return plain(float(text))
    return plain(narrow)


def plain(value: float) -> float | int:
    """Give a number that is whole as an int, as JSON of Docker has it."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e21 else value


def boolean(text: str) -> bool:
    """Read a truth value; the old words of YAML 1.1 count."""
    word = text.lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise Wrong(f"{short(text)} is neither true nor false")


def short(text: str) -> str:
    """Quote a text for an error, cut where it is long."""
    return repr(text if len(text) <= 40 else text[:37] + "...")
