"""The README's table of other programs' commands: each of ours in it is one, and takes the options that it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from tests.cli.tree import parse

README = Path(__file__).parents[2] / "README.md"
HEADING = "## If you know Docker, kubectl or nomad\n"


def shown() -> list[list[str]]:
    """The commands in the last column of each row."""
    section = README.read_text().split(HEADING)[1].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][2:]
    return [re.findall(r"`(.*?)`", row.strip("| ").rpartition("|")[2]) for row in rows]


@pytest.mark.parametrize("line", [command for row in shown() for command in row])
def test_a_command_is_one_and_takes_what_is_shown(line: str) -> None:
    words = shlex.split(line)
    assert words[0] == "stack"
    parse(words)


def test_there_is_one_in_each_row() -> None:
    assert len(shown()) > 30 and all(shown())


def test_wrong_ones_would_be_found() -> None:
    for wrong in (
        "stack statistics",
        "stack node explode n1",
        "stack ps --sideways",
        "stack token show nobody",
        "stack exec",
    ):
        with pytest.raises(click.UsageError):
            parse(wrong.split())
