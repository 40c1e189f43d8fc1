"""`stack node` and `stack version`."""

from __future__ import annotations

import click

from cli.commands.session import connect
from cli.output import Form, format_option, joined, show
from cluster.errors import StackyardError, UserError
from cluster.model.node import Availability
from cluster.views import NodeChange, NodeView


@click.group()
def node() -> None:
    """The nodes of the cluster."""


@node.command()
@format_option
def ls(form: Form) -> None:
    """List the nodes."""
    with connect() as client:
        nodes = client.nodes()
    show(
        nodes,
        {
            "NAME": lambda n: n.name,
            "STATUS": lambda n: n.status,
            "AVAILABILITY": lambda n: n.availability,
            "ROLE": lambda n: n.role,
            "ADDRESS": lambda n: n.address,
            "TASKS": lambda n: str(n.tasks),
            "ENGINE": lambda n: n.engine_version,
            "PROBLEM": _problem,
        },
        form,
    )


def _problem(node: NodeView) -> str:
    return joined((node.reason if node.status != "ready" else "", *node.conditions.values()), "; ")


@node.command()
@click.argument("name")
@click.option("--availability", type=click.Choice([str(a) for a in Availability]), help="Whether it takes tasks.")
@click.option("--label-add", "added", multiple=True, metavar="KEY=VALUE", help="Set a label.")
@click.option("--label-rm", "removed", multiple=True, metavar="KEY", help="Take a label off.")
def update(name: str, availability: str | None, added: tuple[str, ...], removed: tuple[str, ...]) -> None:
    """Change whether a node takes tasks, and its labels."""
    labels: dict[str, str | None] = dict.fromkeys(removed)
    for label in added:
        key, separator, value = label.partition("=")
        if not key or not separator:
            raise UserError(f"{label!r} is no label", hint="Write KEY=VALUE.")
        labels[key] = value
    change = NodeChange(Availability(availability) if availability else None, labels or None)
    with connect() as client:
        client.update_node(name, change)
    click.echo(f"updated {name}")


@click.command()
def version() -> None:
    """Show the versions of this command and of the manager."""
    from importlib.metadata import version as installed

    click.echo(f"stack    {installed('stackyard')}")
    try:
        with connect() as client:
            manager = client.version()
        click.echo(f"manager  {manager.version} (API {manager.api}, agents' protocol {manager.protocol})")
    except StackyardError as error:
        click.echo(f"manager  {error.message}", err=True)
        raise SystemExit(error.exit_code) from None
