"""`stack logs`."""

from __future__ import annotations

import re
import time

import click

from cli.commands import completion
from cli.commands.session import connect, find_service
from cluster.errors import Unavailable, UserError
from cluster.views import LogLine

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def instant(text: str) -> float:
    """Read 10m (ago), an ISO date, or seconds since the epoch."""
    from datetime import datetime

    if match := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text):
        return time.time() - float(match[1]) * _UNITS[match[2]]
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise UserError(f"{text!r} is no instant", hint="Write 10m, 2h, 2026-01-31T12:00, or seconds.") from None


@click.command()
@click.argument("service", shell_complete=completion.services)
@click.option("--follow", "-f", "following", is_flag=True, help="Go on with what is printed from now on.")
@click.option("--tail", "-n", type=int, metavar="N", help="Only the last N lines of each task.")
@click.option("--since", metavar="10m|DATE", help="Only lines since then.")
@click.option("--timestamps", "-t", is_flag=True, help="Show when each line was printed.")
def logs(service: str, following: bool, tail: int | None, since: str | None, timestamps: bool) -> None:
    """Show what all tasks of a service print."""
    start = None if since is None else instant(since)
    with connect() as client:
        name = find_service(client, service).name
        newest = ""
        try:
            for line in client.logs(name, follow=following, tail=tail, since=start):
                newest = max(newest, line.at)
                _show(line, timestamps=timestamps)
        except Unavailable as error:
            if not newest:
                raise
            raise Unavailable(
                f"the log of {name} was cut: {error.message}", hint=f"The same with --since {newest} goes on."
            ) from error


def _show(line: LogLine, *, timestamps: bool) -> None:
    where = f"{line.task}.{line.id[:12]}@{line.node}" if line.node else line.task
    if line.note:
        click.echo(f"{where} | {line.note}", err=True)
    else:
        at = f"{line.at} " if timestamps and line.at else ""
        click.echo(f"{where} | {at}{line.line}", err=line.stream == "stderr")
