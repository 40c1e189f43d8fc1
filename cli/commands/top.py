"""`stack top`, also as `stack stats`, and `stack df`."""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from cli import rates
from cli.client.terminal import keys
from cli.commands import completion
from cli.commands.session import connect, find_service
from cli.listing import Columns, Listing, filtered, fitted, list_options, show
from cli.output import size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.client import Client
    from cluster.usage import Counters

INTERVAL = 1.0
"""Seconds between two looks."""

_HOME, _REST_OF_LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"
_OTHER_SCREEN, _OWN_SCREEN = "\x1b[?1049h", "\x1b[?1049l"

_COLUMNS: Columns = {
    "NAME": lambda r: r.name,
    "NODE": lambda r: r.node,
    "CPU": lambda r: "-" if r.cpu is None else f"{r.cpu:.1f}%",
    "MEMORY": lambda r: size(r.memory),
    "LIMIT": lambda r: size(r.memory_limit),
    "NET IN": lambda r: _rate(r.received),
    "NET OUT": lambda r: _rate(r.sent),
    "READ": lambda r: _rate(r.read),
    "WRITTEN": lambda r: _rate(r.written),
    "PIDS": lambda r: str(r.pids),
}
_SUMS: Columns = {
    "NAME": _COLUMNS["NAME"],
    "TASKS": lambda r: str(r.tasks),
    **{title: cell for title, cell in _COLUMNS.items() if title not in ("NAME", "NODE", "LIMIT")},
}
_SPARE = ("LIMIT", "PIDS", "READ", "WRITTEN")


def _rate(number: float | None) -> str:
    return "-" if number is None else f"{size(int(number))}/s"


@click.command()
@click.argument("what", required=False, metavar="[STACK|SERVICE]", shell_complete=completion.stacks_and_services)
@click.option("--node", shell_complete=completion.nodes, help="Only tasks on this node.")
@click.option("--by", type=click.Choice(["service", "node"]), help="The sums of each service or node.")
@click.option("--no-stream", is_flag=True, help="Show it once; so it is wherever the output is no terminal.")
@list_options
def top(what: str | None, node: str | None, by: str | None, no_stream: bool, listing: Listing) -> None:
    """Show what running tasks use: of a stack, of a service, on a node, or all.

    CPU is in percent of one core, network and disk by the second. On a terminal it goes on until q or Ctrl-C. Of tasks
    with the host's network nobody knows what part of it is theirs. JSON has bytes.

    \b
    Example:
      $ stack top shop --no-stream
      NAME        NODE  CPU   MEMORY  LIMIT   NET IN   NET OUT  READ  WRITTEN
      shop_db.1   n2    0.4%  21.3M   512.0M  1.2K/s   8.9K/s   0B/s  12.0K/s
      shop_web.1  n1    3.1%  9.8M    1.9G    14.0K/s  92.1K/s  0B/s  0B/s
    """
    columns, spare = (_COLUMNS if by is None else _SUMS), _SPARE
    with connect() as client:
        of = _Source(client, what, node, by)
        draws = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        if draws and not no_stream and listing.form == "table" and not listing.quiet:
            _go_on(of, columns, listing, spare)
            return
        of.look()
        time.sleep(INTERVAL)
        found, notes = of.look()
    show(found, columns, listing, spare=spare)
    _tell(notes)


class _Source:
    """Looks again and again, and remembers the counters of the last time."""

    def __init__(self, client: Client, what: str | None, node: str | None, by: str | None) -> None:
        self._client, self._node, self._by = client, node, by
        stacks = {stack.name for stack in client.stacks()} if what is not None else set()
        self._stack = what if what in stacks else None
        self._service = None if what == self._stack else find_service(client, what or "", "stack or service").name
        self._before: dict[str, Counters] = {}

    def look(self) -> tuple[list[rates.Row], tuple[str, ...]]:
        """Give the rows, and notes on what is missing."""
        usage = self._client.usage(self._stack, self._service, self._node)
        found = rates.rows(self._before, usage.tasks)
        self._before = {one.counters.task: one.counters for one in usage.tasks}
        return found if self._by is None else rates.summed(usage.tasks, found, self._by), usage.notes


def _go_on(of: _Source, columns: Columns, listing: Listing, spare: Sequence[str]) -> None:
    """Fill the terminal anew with every look, until q or Ctrl-C; what was there before comes back."""
    found, notes = of.look()
    filtered(found, columns, listing)  # what is wrong with a filter is told on the screen that stays
    _draw(_OTHER_SCREEN)
    try:
        with keys(0) as typed:
            while True:
                at = shutil.get_terminal_size()
                _draw(screen(filtered(found, columns, listing), columns, notes, spare, at.columns, at.lines))
                if b"q" in typed(INTERVAL):
                    break
                found, notes = of.look()
    except KeyboardInterrupt:
        pass
    finally:
        _draw(_OWN_SCREEN)


def _draw(text: str) -> None:
    """Write what moves the cursor, also where colours are not wanted: without them click takes that out, too."""
    click.echo(text, nl=False, color=True)


def screen(
    found: Sequence[rates.Row], columns: Columns, notes: Sequence[str], spare: Sequence[str], width: int, height: int
) -> str:
    """Make what fills a terminal of that size: as many rows as there is room for, and what is missing last."""
    lines = fitted([list(columns), *([cell(row) for cell in columns.values()] for row in found)], width, spare)
    last = [f"no figures of {note}"[:width] for note in notes[: height // 3]]
    shown = lines.split("\n")
    room = max(2, height - len(last))
    if len(shown) > room:
        last = [f"and {len(shown) - room + 1} lines more: name a stack, a service or a --node", *last]
        shown = shown[: room - 1]
    return _HOME + "\n".join(line + _REST_OF_LINE for line in (*shown, *last)) + _REST


@dataclass(frozen=True, slots=True)
class Disk:
    """What lies on a node's disk of one kind, in bytes."""

    node: str
    kind: str
    count: int
    active: int
    size: int
    reclaimable: int


@click.command()
@click.option("--node", shell_complete=completion.nodes, help="Only this node.")
@list_options
def df(node: str | None, listing: Listing) -> None:
    """Show what images, containers, volumes and build cache take on the disks of nodes, and what could go of it.

    They are counted as `docker system df` does on the node itself: what is not in use could go.

    \b
    Example:
      $ stack df --node n1
      NODE  TYPE         TOTAL  ACTIVE  SIZE    RECLAIMABLE
      n1    images       12     4       3.1G    1.9G
      n1    containers   6      5       1.2M    0B
      n1    volumes      3      2       410.5M  12.0M
      n1    build cache  0      0       0B      0B
    """
    with connect() as client:
        view = client.disk(node)
    show(
        [
            Disk(n.node, one.kind, one.count, one.active, one.size, one.reclaimable)
            for n in view.nodes
            for one in n.stored
        ],
        {
            "NODE": lambda d: d.node,
            "TYPE": lambda d: d.kind,
            "TOTAL": lambda d: str(d.count),
            "ACTIVE": lambda d: str(d.active),
            "SIZE": lambda d: size(d.size),
            "RECLAIMABLE": lambda d: size(d.reclaimable),
        },
        listing,
    )
    _tell(view.notes)


def _tell(notes: Sequence[str]) -> None:
    for note in notes:
        click.echo(f"no figures of {note}", err=True)
