"""`stack rebalance`."""

from __future__ import annotations

import time
from typing import Literal

import click

from cli.commands.session import connect
from cli.listing import Listing, show
from cli.output import Form, format_option
from cli.times import duration

_PAUSE = 0.3


@click.command()
@click.option("--dry-run", is_flag=True, help="Only list the moves.")
@click.option("--include-single", is_flag=True, help="Also move tasks that are the only ones of their service.")
@click.option("--max-unavailable", type=click.IntRange(1), default=1, metavar="N", help="Moves at a time (1).")
@click.option("--automatic", metavar="TIME|off", help="From now on do this so long after a node joined or came back.")
@click.option("--detach", "-d", is_flag=True, help="Do not wait.")
@format_option
def rebalance(
    dry_run: bool, include_single: bool, max_unavailable: int, automatic: str | None, detach: bool, form: Form
) -> None:
    """Move tasks for a better spread over the nodes, and wait until that is done.

    Tasks move as in an update of their service: never more at a time than its update_config allows, and only in
    services that are whole. Tasks whose data is on their node stay.

    \b
    stack rebalance --dry-run
    stack rebalance
    stack rebalance --automatic 5m
    """
    with connect() as client:
        if automatic is not None:
            client.rebalance(automatic=_cool_down(automatic))
            click.echo("off" if automatic == "off" else f"{automatic} after a node joined or came back")
            return
        found = client.rebalance(dry_run=dry_run, include_single=include_single, max_unavailable=max_unavailable)
        if dry_run:
            if form == "table" and not found.moves:
                click.echo("no task would move", err=True)
                return
            show(
                found.moves,
                {
                    "TASK": lambda move: move.task,
                    "FROM": lambda move: move.source,
                    "TO": lambda move: move.target,
                },
                Listing(form),
            )
            return
        told = -1
        while not detach and found.active:
            if found.moved != told:
                told = found.moved
                click.echo(f"{_tasks(told)} moved", err=True)
            time.sleep(_PAUSE)
            found = client.rebalance_progress()
        click.echo("tasks are being moved" if found.active else f"moved {_tasks(found.moved)}")


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"


def _cool_down(text: str) -> float | Literal["off"]:
    if text == "off":
        return "off"
    return duration(text, "--automatic", "5m, or off")
