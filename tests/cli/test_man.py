"""`stack man`: all that the help says, as a manual page that has no mistakes."""

from __future__ import annotations

import re
import shutil
import subprocess

import click
import pytest

from cli.commands.man import page
from cli.main import COMMANDS, stack


def written() -> list[str]:
    assert isinstance(stack, click.Group)
    return [line for told in page(click.Context(stack, info_name="stack"), stack) for line in told.split("\n")]


def test_every_command_has_its_part() -> None:
    parts = {line.removeprefix(".SS ").replace("\\-", "-") for line in written() if line.startswith(".SS ")}
    assert {f"stack {name}" for name in COMMANDS} <= parts
    assert {"stack node drain", "stack secret create"} <= parts


def test_examples_are_lines_of_their_own() -> None:
    lines = written()
    first = lines.index("stack plan \\-f compose.yml shop")
    assert lines[first - 2 : first] == [".PP", ".nf"] and lines[first + 1].endswith("\\-\\-format json shop")
    assert not [line for line in lines if "\b" in line]
    assert {".SH EXIT STATUS", ".SH ENVIRONMENT", ".SH FILES"} <= {*lines}


def test_nothing_is_taken_for_a_request_but_ours() -> None:
    requests = {line.split()[0] for line in written() if line[:1] in (".", "'")}
    assert requests <= {".TH", ".SH", ".SS", ".B", ".PP", ".TP", ".nf", ".fi"}
    assert not [line for line in written() if re.search(r"\\(?![-e&])", line)]


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_groff_finds_nothing_wrong_with_it() -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww"],
        input="\n".join(written()) + "\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "" and "stack events" in done.stdout
