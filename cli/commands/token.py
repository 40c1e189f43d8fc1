"""`stack token`: with what hosts may join. Asked of this host's own manager, as root, unless a context is named."""

from __future__ import annotations

import click

from cli.commands.session import connect_as_root
from cli.groups import Group
from cli.listing import Listing, list_options, show
from cli.output import age, local_time
from cli.times import lifetime
from cluster.membership import TokenView
from cluster.model.node import Role

_ROLES = click.Choice(["worker", "manager"])


@click.group(cls=Group)
def token() -> None:
    """With what hosts may join the cluster (root on a manager's host)."""


@token.command("show")
@click.argument("role", type=_ROLES, default="worker")
def show_(role: Role) -> None:
    """Print the standing token of a role (worker).

    \b
    stack token show worker
    """
    with connect_as_root() as client:
        tokens = client.join_tokens()
    click.echo(tokens.manager if role == "manager" else tokens.worker)


@token.command()
@list_options
def ls(listing: Listing) -> None:
    """List the tokens, without their secrets.

    \b
    stack token ls
    """
    with connect_as_root() as client:
        tokens = client.tokens()
    show(
        tokens,
        {
            "ID": lambda t: t.id,
            "ROLE": lambda t: t.role,
            "CREATED": lambda t: "-" if t.created_at is None else f"{age(t.created_at)} ago",
            "GOOD FOR": _good_for,
        },
        listing,
    )


def _good_for(token: TokenView) -> str:
    if token.standing:
        return "any number of nodes, until it is rotated"
    if token.used_by:
        return f"nothing more: node {token.used_by} has used it"
    if token.expired:
        return "nothing more: it has expired"
    if token.outdated:
        return "nothing more: it is from before the CA was rotated"
    ends = "" if token.expires_at is None else f", until {local_time(token.expires_at)}"
    return ("one node" if token.once else "any number of nodes") + ends


@token.command()
@click.option("--role", type=_ROLES, default="worker", show_default=True)
@click.option("--expires", metavar="TIME", help="After how long it ends, such as 30m, 12h, 7d.")
@click.option("--once", is_flag=True, help="Good for a single node.")
def create(role: Role, expires: str | None, once: bool) -> None:
    """Make a token that ends, or is for one node, and print it: it is shown this once.

    \b
    stack token create --once --expires 1h
    stack token create --role manager
    """
    seconds = lifetime(expires)
    with connect_as_root() as client:
        click.echo(client.create_token(role, expires_in=seconds, once=once).token)


@token.command()
@click.argument("role", type=_ROLES)
def rotate(role: Role) -> None:
    """Make the standing token of a role worthless, and print the new one. Nodes that have joined stay.

    \b
    stack token rotate worker
    """
    with connect_as_root() as client:
        click.echo(client.rotate_token(role).token)


@token.command()
@click.argument("ident", metavar="ID")
def revoke(ident: str) -> None:
    """Take back a token that was made with `create`. Nodes that have joined with it stay.

    \b
    stack token revoke 0123456789ab
    """
    with connect_as_root() as client:
        client.revoke_token(ident)
    click.echo(f"revoked {ident}")
