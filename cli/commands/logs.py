"""`stack logs`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any
from zlib import crc32

import click

from cli.commands import completion
from cli.commands.session import connect
from cli.times import instant
from cluster.errors import Unavailable, UserError

if TYPE_CHECKING:
    from cluster.views import LogLine

_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "bright_cyan", "bright_yellow", "bright_magenta")
"""By which the lines of tasks are told apart on a terminal."""


class Tail(click.IntRange):
    """How many lines, or all of them, as docker has it."""

    def __init__(self) -> None:
        super().__init__(0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "all" else super().convert(value, param, ctx)


@click.command()
@click.argument(
    "names",
    nargs=-1,
    required=True,
    metavar="STACK|SERVICE|TASK...",
    shell_complete=completion.stacks_services_and_tasks,
)
@click.option("--follow", "-f", "following", is_flag=True, help="Go on with what is printed from now on.")
@click.option("--tail", "-n", type=Tail(), metavar="N|all", help="Only the last N lines of each task.")
@click.option("--since", metavar="10m|DATE", help="Only lines since then.")
@click.option("--until", metavar="10m|DATE", help="Only lines until then.")
@click.option("--grep", "pattern", metavar="PATTERN", help="Only lines in which this regular expression is found.")
@click.option("--timestamps", "-t", is_flag=True, help="Show when each line was printed.")
@click.option("--no-task-prefix", "--no-log-prefix", "bare", is_flag=True, help="Do not put the task before each line.")
def logs(
    names: tuple[str, ...],
    following: bool,
    tail: int | None,
    since: str | None,
    until: str | None,
    pattern: str | None,
    timestamps: bool,
    bare: bool,
) -> None:
    """Show what tasks print: all of a stack or of a service, or one; also those that have ended and are still there.

    What cannot be had, as a node is down, is told among the lines on the error output; the exit code is 3 if that was
    all.

    \b
    stack logs -f shop
    stack logs --since 1h --grep 'error|timeout' web worker
    stack logs -n 100 web.2
    """
    start = None if since is None else instant(since)
    end = None if until is None else instant(until)
    if following and until:
        raise UserError("--follow and --until do not go together")
    found = _search(pattern)
    newest, missing, had = "", False, False
    with connect() as client:
        try:
            for batch in client.logs(names, follow=following, tail=tail, since=start, until=end):
                shown = []
                for line in batch:
                    newest = max(newest, line.at)
                    missing, had = missing or bool(line.note), had or not line.note
                    if line.note or found(line.line):
                        shown.append(line)
                _show(shown, timestamps=timestamps, bare=bare)
        except Unavailable as error:
            if not newest:
                raise
            raise Unavailable(
                f"the log of {', '.join(names)} was cut: {error.message}",
                hint=f"The same with --since {newest} goes on.",
            ) from error
    if missing and not had and not following:
        raise Unavailable(
            f"a part of the log of {', '.join(names)} could not be had, and the rest has no lines",
            hint="`stack node ls` tells which nodes are down.",
        )


def _search(pattern: str | None) -> Callable[[str], object]:
    try:
        return re.compile(pattern or "").search
    except re.error as error:
        raise UserError(f"--grep {pattern}: {error}", hint="It is a regular expression, as Python has them.") from None


def _show(lines: Sequence[LogLine], *, timestamps: bool, bare: bool) -> None:
    """Print lines, all at once that follow each other to one output: each by itself costs as much as all the rest."""

    def text(line: LogLine) -> str:
        where = f"{line.task}.{line.id[:12]}@{line.node}" if line.node else line.task
        if line.note:
            return f"{where} | {line.note}"
        at = f"{line.at} " if timestamps and line.at else ""
        return f"{at}{line.line}" if bare else f"{_coloured(where)} | {at}{line.line}"

    for to_errors, some in groupby(lines, lambda line: bool(line.note) or line.stream == "stderr"):
        click.echo("\n".join(map(text, some)), err=to_errors)


@cache
def _coloured(where: str) -> str:
    return click.style(where, fg=_COLOURS[crc32(where.encode()) % len(_COLOURS)])
