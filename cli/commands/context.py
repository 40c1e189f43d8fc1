"""`stack context`: the clusters that this command can talk to."""

from __future__ import annotations

import click

from cli.client import contexts
from cli.output import table


@click.group()
def context() -> None:
    """The clusters that this command can talk to.

    They are kept in $XDG_CONFIG_HOME/stackyard/contexts.json; STACK_CONTEXT names another than the current one.
    """


@context.command()
def ls() -> None:
    """List the contexts."""
    known = contexts.load()
    rows = [["", "NAME", "WHERE"]]
    for name, one in sorted(known.contexts.items()):
        rows.append(["*" if name == known.current else "", name, one.socket or ", ".join(one.endpoints)])
    click.echo(table(rows))


@context.command()
@click.argument("name")
def use(name: str) -> None:
    """Talk to this cluster from now on."""
    contexts.use(name)
    click.echo(f"now talking to {name}")
