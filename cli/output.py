"""How answers are shown: columns for people, ages and sizes in words. Lists: see `cli.listing`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Literal, TextIO

import click

from cli.text import columns_of, padded

Form = Literal["table", "json"]

format_option = click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", help="How to show the list."
)


def table(lines: Sequence[Sequence[str]]) -> str:
    """Align columns by their widest cell, two spaces apart; the last is not padded."""
    widths = [max(map(columns_of, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(padded, line, widths)).rstrip() for line in lines)


def age(instant: float, now: float | None = None) -> str:
    """Say how long ago an instant was, in its largest unit."""
    seconds = max(0, int((time.time() if now is None else now) - instant))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length or (unit != "m" and seconds >= length):
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def size(number: int) -> str:
    """Say how many bytes, by powers of 1024, as Compose files have them: 512B, 1.5K, 20.0M."""
    value, units = float(number), "BKMGTPE"
    while value >= 1023.95 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{number}B" if units[0] == "B" else f"{value:.1f}{units[0]}"


def terminal_width(stream: TextIO | None = None) -> int:
    """Give the columns that there are for a line: those of the terminal, or COLUMNS; 0 where neither sets a bound.

    The line is for `stream`, else for standard output.
    """
    if not (stream or sys.stdout).isatty() and not os.environ.get("COLUMNS"):
        return 0
    import shutil

    return shutil.get_terminal_size().columns


def local_time(instant: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(instant))


def image_name(image: str) -> str:
    """Shorten the digest that an image is named by."""
    name, separator, digest = image.partition("@sha256:")
    return name + separator + digest[:12]


def joined(parts: Iterable[str], separator: str = ", ") -> str:
    return separator.join(part for part in parts if part)
