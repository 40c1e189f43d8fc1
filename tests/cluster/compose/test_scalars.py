"""Plain YAML scalars are read as YAML 1.2 and Docker read them."""

from __future__ import annotations

import math

import pytest

from cluster.compose import scalars
from cluster.compose.tree import ScalarValue, Timestamp


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("yes", "yes", id="yes is text"),
        pytest.param("on", "on", id="on is text"),
        pytest.param("no", "no", id="no is text"),
        pytest.param("true", True, id="true is a truth value"),
        pytest.param("FALSE", False, id="so is FALSE"),
        pytest.param("tRUE", "tRUE", id="but not mixed case"),
        pytest.param("", None, id="nothing is null"),
        pytest.param("~", None, id="a tilde is null"),
        pytest.param("22:22", "22:22", id="a pair of ports is no base-60 number"),
        pytest.param("12:30:45", "12:30:45", id="nor is a time"),
        pytest.param("010", 8, id="a leading zero is octal"),
        pytest.param("0o17", 15, id="0o is octal"),
        pytest.param("0x10", 16, id="0x is hexadecimal"),
        pytest.param("0b11", 3, id="0b is binary"),
        pytest.param("0b12", "0b12", id="with wrong digits it is text"),
        pytest.param("089", 89.0, id="no octal number, so a floating point one"),
        pytest.param("1_000", 1000, id="underscores part thousands"),
        pytest.param("-5", -5, id="negative"),
        pytest.param("1e3", 1000.0, id="an exponent makes a floating point number"),
        pytest.param(".5", 0.5, id="a point may begin"),
        pytest.param("1.2.3", "1.2.3", id="a version is text"),
        pytest.param("1e999", "1e999", id="beyond floating point it is text"),
        pytest.param("99999999999999999999", 1e20, id="beyond 64 bits it is floating point"),
        pytest.param("9" * 5000, "9" * 5000, id="an endless number is text"),
        pytest.param(".inf", math.inf, id="infinity"),
        pytest.param("2024-01-02", Timestamp("2024-01-02"), id="a date"),
        pytest.param("2024-01-02T03:04:05Z", Timestamp("2024-01-02T03:04:05Z"), id="a time"),
        pytest.param("2024-13-02", "2024-13-02", id="not a month"),
        pytest.param("-", "-", id="a dash"),
        pytest.param("+.", "+.", id="signs alone"),
    ],
)
def test_resolve(text: str, value: ScalarValue) -> None:
    found = scalars.resolve(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (1.1, "1.1"),
        (1e3, "1000"),
        (True, "true"),
        (False, "false"),
        (16, "16"),
        (1e22, "1e+22"),
        (0.5, "0.5"),
    ],
)
def test_write(value: float, text: str) -> None:
    assert scalars.write(value) == text
