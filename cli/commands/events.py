"""`stack events`: what happens in the cluster, and why."""

from __future__ import annotations

import time

import click

from cli.client import Client
from cli.commands import completion, names
from cli.commands.session import connect, find_service
from cli.listing import Columns, Form, filled
from cli.output import joined, local_time, terminal_width
from cli.text import columns_of, folded
from cli.times import instant
from cluster.events import ClusterEvent

_TAIL = 100
_INDENT = " " * 4
_COLUMNS: Columns = {"TIME": lambda event: local_time(event.at)}


@click.command()
@click.argument("name", required=False, metavar="[STACK|SERVICE|TASK|NODE]", shell_complete=completion.sources)
@click.option("--follow", "-f", "following", is_flag=True, help="Go on with what happens from now on, until Ctrl-C.")
@click.option("--since", metavar="10m|DATE", help="What happened since then, as far as managers remember.")
@click.option("--until", metavar="10m|DATE", help="Nothing after that.")
@click.option("--tail", "-n", type=click.IntRange(0), metavar="N", help="Only the last N before now.")
@click.option(
    "--filter", "filters", multiple=True, metavar="KEY=VALUE",
    help="Only these: of a type, an event, a stack, service, task, node, network, volume, secret, config or manager.",
)  # fmt: skip
@click.option("--no-trunc", "whole", is_flag=True, help="Each in one line, however wide.")
@click.option(
    "--format",
    "form",
    type=Form(),
    default="table",
    metavar="table|json|TEMPLATE",
    help="json is one a line; a template is a line for each, too: '{{.Time}} {{.Name}} {{.Action}}'.",
)
def events(
    name: str | None,
    following: bool,
    since: str | None,
    until: str | None,
    tail: int | None,
    filters: tuple[str, ...],
    whole: bool,
    form: str,
) -> None:
    """Show what happens in the cluster, in order, and the reason of each decision.

    Without --since: the last 100, or with -f only what comes. Managers remember the last 10,000 since they started; a
    line says so where something is missing.

    \b
    stack events -f
    stack events shop
    stack events --since 10m --filter stack=shop --filter event=failed
    stack events -f --filter type=node --format json
    """
    begin, end = (None if text is None else instant(text) for text in (since, until))
    if tail is None and begin is None:
        tail = 0 if following else _TAIL
    width = 0 if whole else terminal_width()
    with connect() as client:
        if name is not None:
            filters += (_about(client, name),)
        for event in client.events(follow=following, since=begin, until=end, tail=tail, filters=filters):
            if form == "json":
                import msgspec

                click.echo(msgspec.json.encode(event))
            elif event.type == "stream":
                click.echo("\n".join(folded(f"({event.message})", width, "", " ")), err=True)
            elif form != "table":
                click.echo(filled(form, event, _COLUMNS))
            else:
                click.echo(line(event, width))


def _about(client: Client, name: str) -> str:
    """Give the filter for what has this name now."""
    for kind, known in (("stack", names.stacks), ("task", names.tasks), ("node", names.nodes)):
        if name in known(client):
            return f"{kind}={name}"
    return f"service={find_service(client, name, 'stack, service, task or node').name}"


def line(event: ClusterEvent, width: int) -> str:
    """Write an event in so many columns (0: any number).

    Narrow ones have the time without the day, and a reason that does not fit below.
    """
    at = local_time(event.at) if not 0 < width < 120 else time.strftime("%H:%M:%S", time.localtime(event.at))
    node = event.node if event.type not in ("node", "manager") else ""
    where = f"@{node}" if node else ""
    code = f"exit code {event.exit_code}" if event.exit_code else ""
    why = joined((event.message, "" if f"code {event.exit_code}" in event.message else code), "; ")
    head = f"{at}  {event.type:7}  {event.action:10}  {event.name + where:20}"
    text = f"{head}  {why}".rstrip()
    if not width or columns_of(text) <= width:
        return text
    head = head.rstrip()
    if where and columns_of(head) > width:
        head, why = head.removesuffix(where), joined((f"on {node}", why), ": ")
    return "\n".join((head, *folded(why, width, _INDENT)))
