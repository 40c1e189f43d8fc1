"""How answers are shown: tables for people, JSON for programs, ages and sizes in words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import click

Form = Literal["table", "json"]

format_option = click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", help="How to show the list."
)


def show(rows: Sequence[Any], columns: dict[str, Callable[[Any], str]], form: Form) -> None:
    """Print views as a table, a column each by its title, or as a JSON list of all their fields."""
    if form == "json":
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2))
        return
    click.echo(table([list(columns), *([cell(row) for cell in columns.values()] for row in rows)]))


def table(lines: Sequence[Sequence[str]]) -> str:
    """Align columns by their widest cell, two spaces apart; the last is not padded."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def age(instant: float, now: float | None = None) -> str:
    """Say how long ago an instant was, in its largest unit."""
    seconds = max(0, int((time.time() if now is None else now) - instant))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length or (unit != "m" and seconds >= length):
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def local_time(instant: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(instant))


def joined(parts: Iterable[str], separator: str = ", ") -> str:
    return separator.join(part for part in parts if part)
