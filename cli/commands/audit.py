"""`stack audit`: who changed what."""

from __future__ import annotations

import time
from collections.abc import Callable

import click

from cli.client import Client
from cli.commands import completion
from cli.commands.session import connect
from cli.listing import Listing, list_options, show
from cli.output import joined, local_time
from cli.times import instant
from cluster.people import AuditEntry

_LOOK = 2.0  # seconds
_MOST = 5000


@click.command()
@click.option("--since", metavar="10m|DATE", help="Only what is not older.")
@click.option(
    "--user",
    metavar="NAME",
    shell_complete=completion.users,
    help="Only what this user asked for (root: by a manager's socket).",
)
@click.option("--stack", metavar="NAME", shell_complete=completion.stacks, help="Only what was about this stack.")
@click.option("-n", "--tail", "limit", type=click.IntRange(1, _MOST), default=100, show_default=True, metavar="COUNT")
@click.option("-f", "--follow", is_flag=True, help="Show what comes, too.")
@list_options
def audit(since: str | None, user: str | None, stack: str | None, limit: int, follow: bool, listing: Listing) -> None:
    """Show who asked for what change, what it was before and after, and what came of it.

    Operators and admins see all; deployers what was about their stacks.

    \b
    stack audit --since 24h
    stack audit --user ann --stack shop --format json
    stack audit -f
    """
    begin = 0.0 if since is None else instant(since)
    with connect() as client:
        found = client.audit(since=begin, user=user, stack=stack, limit=limit)
        show(found, _COLUMNS, listing, spare=("FROM",))
        if follow:
            _follow(client, found, user, stack, listing)


def _follow(client: Client, told: list[AuditEntry], user: str | None, stack: str | None, listing: Listing) -> None:
    """Show what comes; entries of refused calls come a little later than others."""
    known = {entry.id for entry in told}
    since = told[-1].at if told else time.time()
    while True:
        time.sleep(_LOOK)
        found = client.audit(since=since - 60, user=user, stack=stack, limit=_MOST)
        new = [entry for entry in found if entry.id not in known and entry.at > since - 60]
        known = {entry.id for entry in found} | {entry.id for entry in new}
        if new:
            since = max(since, new[-1].at)
            show(new, _COLUMNS, listing, spare=("FROM",))


def _about(entry: AuditEntry) -> str:
    return f"{entry.does} {entry.about}".strip()


def _what(entry: AuditEntry) -> str:
    if entry.status >= 400 or not (entry.before or entry.after):
        return entry.why
    return joined((entry.before, entry.after), " -> ")


def _who(entry: AuditEntry) -> str:
    return entry.who or f"({entry.kind})"


def _result(entry: AuditEntry) -> str:
    word = "ok" if entry.status < 400 else f"refused ({entry.status})" if entry.status < 500 else f"no ({entry.status})"
    return word if entry.count == 1 else f"{word}, {entry.count} times"


_COLUMNS: dict[str, Callable[[AuditEntry], str]] = {
    "AT": lambda entry: local_time(entry.at),
    "WHO": _who,
    "FROM": lambda entry: entry.address or "socket",
    "WHAT": _about,
    "RESULT": _result,
    "CHANGE": _what,
}
