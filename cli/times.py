"""Times as people give them: how long (90s, 10m, 1h30m, 7d), and when (so long ago, or a date)."""

from __future__ import annotations

import re
import time

import click

from cluster.errors import UserError

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_PART = r"([0-9]+(?:\.[0-9]+)?)(ms|[smhd])"


def duration(text: str, option: str, example: str, *, zero: bool = False) -> float:
    """Read how long, in seconds. Raises UserError, which names the option."""
    seconds = _seconds(text)
    if seconds is None or (not seconds and not zero):
        raise UserError(f"{option}: {text!r} is no time", hint=f"Give one such as {example}.")
    return seconds


def lifetime(text: str | None) -> float | None:
    """Read --expires, where it is given."""
    return None if text is None else duration(text, "--expires", "30m, 12h, 7d")


def instant(text: str) -> float:
    """Read 10m or 1h30m (ago), an ISO date, or seconds since the epoch. Raises UserError."""
    from datetime import datetime

    if (ago := _seconds(text)) is not None:
        return time.time() - ago
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise UserError(f"{text!r} is no instant", hint="Write 10m, 1h30m, 2026-01-31T12:00, or seconds.") from None


class Seconds(click.ParamType[float]):
    """An option's value: 300, or 5m."""

    name = "TIME"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float | int):
            return float(value)
        found = float(value) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value) else _seconds(value)
        if found is None:
            self.fail(f"{value!r} is no time; give seconds, or one such as 5m", param, ctx)
        return found


def _seconds(text: str) -> float | None:
    if re.fullmatch(f"({_PART})+", text) is None:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, text))
