"""What a plain YAML scalar means: the core schema of YAML 1.2, with the old octal and binary numbers that Docker reads.

So `yes` and `on` are text, `22:22` is text, `010` is 8 and `1.10` is a number.
"""

from __future__ import annotations

import math
import re

from cluster.compose.tree import ScalarValue, Timestamp

_CONSTANTS: dict[str, ScalarValue] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
}
_RADIX = {"0x": 16, "0o": 8, "0b": 2}
_PREFIXED = re.compile(r"([-+]?)(?:(0[xob])([0-9a-f]+)|0([0-7]+))", re.IGNORECASE)
_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_TIMESTAMP = re.compile(
    r"[0-9]{4}-(?:0?[1-9]|1[0-2])-(?:0?[1-9]|[12][0-9]|3[01])"
    r"(?:[Tt ][0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(?:\.[0-9]*)?(?:Z|[-+][0-9]{2}:[0-9]{2})?)?"
)
_LONGEST_NUMBER = 400


def resolve(text: str) -> ScalarValue:
    """Give the value of a scalar that was written without quotes and without a tag."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if not (text[0].isdecimal() or text[0] in "+-.") or len(text) > _LONGEST_NUMBER:
        return text
    if _TIMESTAMP.fullmatch(text):
        return Timestamp(text)
    number = text.replace("_", "")
    whole = _integer(number)
    if whole is not None:
        return whole
    if _FLOAT.fullmatch(number) and math.isfinite(value := float(number)):
        return value
    return text


def _integer(text: str) -> int | None:
    if _DECIMAL.fullmatch(text):
        value = int(text)
    elif prefixed := _PREFIXED.fullmatch(text):
        sign, radix, digits, octal = prefixed.groups()
        try:
            value = int(digits, _RADIX[radix.lower()]) if radix else int(octal, 8)
        except ValueError:  # digits beyond the radix, such as 0b12
            return None
        value = -value if sign == "-" else value
    else:
        return None
    return value if -(2**63) <= value < 2**64 else None  # beyond that it is a floating point number


def write(value: str | int | float | bool) -> str:
    """Write a scalar where Compose wants text, such as in `environment`: 1.0 is "1" and true is "true"."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isfinite(value):
        if value.is_integer() and abs(value) < 1e21:
            return str(int(value))
        return repr(value)
    return str(value)
