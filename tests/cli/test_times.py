"""Times as people give them."""

from __future__ import annotations

import time

import click
import pytest

from cli.times import Seconds, duration, instant, lifetime
from cluster.errors import UserError


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("7d", 604800), ("1.5h", 5400), ("500ms", 0.5)]
)
def test_how_long(text: str, seconds: float) -> None:
    assert duration(text, "--expires", "7d") == lifetime(text) == Seconds().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "m", "10", "ten", "-5m", "5 m", "0s", "\u0663m", "1h30"])
def test_what_is_no_time_is_told_with_its_option(text: str) -> None:
    with pytest.raises(UserError, match=r"--expires: .* is no time"):
        duration(text, "--expires", "7d")


def test_nothing_may_be_enough() -> None:
    assert duration("0s", "--deadline", "10m", zero=True) == Seconds().convert("0", None, None) == 0
    assert Seconds().convert("300", None, None) == 300
    with pytest.raises(click.BadParameter, match="'soon' is no time"):
        Seconds().convert("soon", None, None)


def test_when() -> None:
    assert abs(instant("10m") - (time.time() - 600)) < 60
    assert instant("1700000000") == 1_700_000_000
    assert instant("2026-01-31T12:00+00:00") == 1_769_860_800
    with pytest.raises(UserError, match="'soon' is no instant"):
        instant("soon")
