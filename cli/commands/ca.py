"""`stack ca`: the cluster's certificate authority."""

from __future__ import annotations

import time

import click

from cli.client import Client
from cli.commands.session import connect
from cli.groups import Group
from cli.output import Form, format_option, local_time, table
from cluster.errors import Failed, Unavailable
from cluster.model.cluster import TrustPhase
from cluster.views import CaView

_PAUSE = 0.3
_SHOWN = 10


@click.group(cls=Group, invoke_without_command=True)
@format_option
@click.pass_context
def ca(context: click.Context, form: Form) -> None:
    """Show the roots of the cluster's CA, and how far a rotation is.

    \b
    Example:
      stack ca
      stack ca show > stackyard-ca.pem
      stack ca rotate
    """
    if context.invoked_subcommand is not None:
        return
    with connect() as client:
        found = client.ca()
    if form == "json":
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
        return
    roots = [(root.digest, "yes" if root.signs else "no", local_time(root.ends_at)[:10]) for root in found.roots]
    click.echo(table([("ROOT", "SIGNS", "ENDS"), *roots]))
    for line in (_words(found), *_missing(found)):
        click.echo(line)


@ca.command()
def show() -> None:
    """Print the roots that managers are to be trusted by, as PEM: for other programs that ask them.

    \b
    stack ca show > stackyard-ca.pem
    """
    with connect() as client:
        click.echo(client.roots(), nl=False)


@ca.command()
@click.option("--detach", "-d", is_flag=True, help="Begin it, and do not wait for its end.")
def rotate(detach: bool) -> None:
    """Put a new root in the place of the CA's, while everything runs on.

    All managers and agents come to trust the new root beside the old one, then get certificates of it; when all have
    one, and no user's certificate of the old root is left, the old one is trusted no more. No connection is cut. Agents
    that are away are waited for, and named; Ctrl-C stops only the waiting.

    Join tokens change as soon as the new root signs: `stack token show`, `stack token create`. Tokens of users stay.

    \b
    stack ca rotate
    """
    with connect() as client:
        found = client.ca()
        if found.phase is TrustPhase.SETTLED:
            found = client.rotate_ca()
        else:
            click.echo("The CA is being rotated already.")
        if detach:
            click.echo("The rotation goes on by itself; `stack ca` shows how far it is.")
            return
        _follow(client, found)


@ca.command()
@click.option("--force", is_flag=True, help="Leave out who still needs the old root.")
def finish(force: bool) -> None:
    """Trust the old root no more, without waiting for those who still need it.

    Without --force they are named, and nothing is changed. A node that is left out is taken in again by `stack join`
    on its host, and what runs there runs on; a person gets a new certificate with `stack context add`, or, as root on a
    manager, with `stack init`.

    \b
    stack ca finish --force
    """
    with connect() as client:
        found = client.finish_ca(force=force)
    click.echo(_words(found))


def _follow(client: Client, found: CaView) -> None:
    """Tell how it goes on until its end. Raises Failed when it waits for those who do not come by themselves."""
    told = ""
    before: CaView | None = None
    while True:
        if (words := _words(found)) != told:
            click.echo(words)
            told = words
        if found.phase is TrustPhase.SETTLED:
            click.echo("Join tokens have changed: `stack token show` prints those that are good now.")
            return
        # twice, as this command's own certificate is renewed by asking
        if found.missing and found == before and all(one.absent for one in found.missing):
            raise Failed(
                "\n".join(("the old root stays trusted, as it is still needed:", *_missing(found))),
                hint="It goes by itself when they have come; `stack ca finish --force` leaves them out.",
            )
        time.sleep(_PAUSE)
        before = found
        try:
            found = client.ca()
        except Unavailable as error:  # whoever leads goes on with it
            click.echo(f"no manager answers now: {error.message}", err=True)


def _words(found: CaView) -> str:
    if found.phase is TrustPhase.SETTLED:
        return f"One root is trusted, {found.roots[0].digest[:16]}, and no rotation is under way."
    missing = {kind: sum(one.kind == kind for one in found.missing) for kind in ("manager", "node", "certificate")}
    managers = f"{found.managers - missing['manager']} of {found.managers} managers"
    nodes = f"{found.nodes - missing['node']} of {found.nodes} nodes"
    if found.phase is TrustPhase.SPREADING:
        return f"The root {found.roots[1].digest[:16]} is made known: to {managers}, {nodes}."
    people = f"; {missing['certificate']} certificates of users are of the old" if missing["certificate"] else ""
    return f"The root {found.roots[0].digest[:16]} signs: {managers} and {nodes} have certificates of it{people}."


def _missing(found: CaView) -> list[str]:
    lines = [f"  {one.kind} {one.name}: {one.why}" for one in found.missing[:_SHOWN]]
    return [*lines, f"  and {len(found.missing) - _SHOWN} more"] if len(found.missing) > _SHOWN else lines
