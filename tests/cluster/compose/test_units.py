"""Byte sizes, durations and parts of a core."""

from __future__ import annotations

import pytest

from cluster.compose import units
from cluster.compose.tree import Scalar, Where
from cluster.errors import ComposeError

HERE = Where("f.yml", 1)


@pytest.mark.parametrize(
    ("written", "amount"),
    [
        ("1.5g", 1610612736),
        ("64m", 67108864),
        ("512kib", 524288),
        ("100kb", 102400),
        ("10MiB", 10485760),
        ("10b", 10),
        ("10", 10),
        (4096, 4096),
        ("1T", 2**40),
    ],
)
def test_size(written: str | int, amount: int) -> None:
    assert units.size(Scalar(written, HERE)) == amount


@pytest.mark.parametrize("written", ["10x", "m", "-1m", "1..5g", "10bb", "", "1e3m", "9" * 60, "99999999p", -1, True])
def test_no_size(written: str | int) -> None:
    with pytest.raises(ComposeError):
        units.size(Scalar(written, HERE))


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90s", 90),
        ("1m30s", 90),
        ("1h5m30s20ms", 3930.02),
        ("1d", 86400),
        ("500ms", 0.5),
        ("1.5h", 5400),
        ("250us", 0.00025),
        ("0s", 0),
        ("0", 0),
    ],
)
def test_duration(written: str, seconds: float) -> None:
    assert units.duration(Scalar(written, HERE)) == pytest.approx(seconds)


@pytest.mark.parametrize("written", [10, 1.5, "10", "s", "1x", "-1s", "1m 30s", "", "9" * 30 + "h", "1s" * 80])
def test_no_duration(written: str | float) -> None:
    with pytest.raises(ComposeError):
        units.duration(Scalar(written, HERE))


@pytest.mark.parametrize(("written", "nano"), [("0.50", 5 * 10**8), (2, 2 * 10**9), (0.25, 25 * 10**7), ("0", 0)])
def test_nano_cpus(written: str | float, nano: int) -> None:
    assert units.nano_cpus(Scalar(written, HERE)) == nano


@pytest.mark.parametrize("written", ["x", "-1", "", "nan", "inf", "1e99", "0.0001", True, None])
def test_no_cpus(written: str | None) -> None:
    with pytest.raises(ComposeError):
        units.nano_cpus(Scalar(written, HERE))
