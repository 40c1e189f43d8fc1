"""`stack history`, `stack rollback` and `stack update`: the revisions of a stack, and the way from one to another."""

from __future__ import annotations

import click

from cli.client import Client
from cli.commands import completion, names
from cli.commands.follow import finish, settle_option, tell_changes, timeout_option
from cli.commands.names import suggesting
from cli.commands.session import connect, find_service
from cli.listing import Listing, list_options, show
from cli.output import age, joined
from cluster.errors import NotFound, UserError

detach_option = click.option("--detach", "-d", is_flag=True, help="Do not wait until it is done.")


@click.command()
@click.argument("stack", shell_complete=completion.stacks)
@list_options
def history(stack: str, listing: Listing) -> None:
    """List the revisions of a stack: each deploy, scaling and rollback, by whom, and what it changed.

    The 25 newest are kept, and those that tasks still run.

    \b
    stack history shop
    """
    with connect() as client, suggesting(client, stack, names.stacks):
        revisions = client.revisions(stack)
    show(
        revisions,
        {
            "REVISION": lambda r: f"{r.n}{' (current)' if r.current else ''}",
            "WHEN": lambda r: age(r.created_at) + " ago",
            "BY": lambda r: r.author,
            "REASON": lambda r: joined((r.reason, "all or nothing" if r.atomic else "")),
            "CHANGES": lambda r: joined(r.changes) or _of_no_change(r.n, revisions[-1].n),
        },
        listing,
    )


def _of_no_change(n: int, oldest: int) -> str:
    """Say what a revision is of which no change is told."""
    return "first" if n == 1 else "the oldest kept" if n == oldest else "nothing"


@click.command()
@click.argument("what", metavar="STACK|SERVICE", shell_complete=completion.stacks_and_services)
@click.argument("revision", type=click.IntRange(min=1), required=False)
@click.option("--reason", metavar="TEXT", default="", help="Why, for the history of the stack.")
@detach_option
@timeout_option
@settle_option
def rollback(what: str, revision: int | None, reason: str, detach: bool, timeout: float, settle: float) -> None:
    """Bring a stack, or one service of it, back to what it was, as a new revision.

    Images, secrets and configs are those of then. Without REVISION it is the newest one in which it was different;
    `stack history STACK` lists them. How tasks are replaced says rollback_config.

    \b
    stack rollback shop
    stack rollback shop_web 3
    """
    with connect() as client:
        stack, services = meant(client, what)
        reply = client.roll_back(stack, revision, services, reason)
        tell_changes(reply)
        source = reply.source or revision
        back = f"{what} is back at revision {source}, as" if source else f"{what} is back,"
        finish(
            client, reply, services,
            doing="rolling back", done=f"{back} revision {reply.revision}",
            detach=detach, timeout=timeout, settle=settle,
        )  # fmt: skip


@click.command()
@click.argument("what", metavar="STACK|SERVICE", shell_complete=completion.stacks_and_services)
@click.option("--continue", "proceed", is_flag=True, help="Go on with updates that are paused.")
@click.option("--force", is_flag=True, help="Replace all tasks though nothing has changed.")
@click.option("--reason", metavar="TEXT", default="", help="Why, for the history of the stack.")
@detach_option
@timeout_option
@settle_option
def update(what: str, proceed: bool, force: bool, reason: str, detach: bool, timeout: float, settle: float) -> None:
    """Go on with a paused update of a service or stack, or have its tasks replaced.

    \b
    stack update shop_web --continue
    stack update shop --force
    """
    if proceed == force:
        raise UserError("what the update is to do is missing", hint="Give either --continue or --force.")
    with connect() as client:
        stack, services = meant(client, what)
        reply = client.update(stack, services, proceed=proceed, force=force, reason=reason)
        finish(
            client, reply, services,
            doing="updating", done=f"{what} is up to date, revision {reply.revision}",
            detach=detach, timeout=timeout, settle=settle,
        )  # fmt: skip


def meant(client: Client, what: str, *, also_gone: bool = True) -> tuple[str, tuple[str, ...]]:
    """Give the stack that is meant, and the one service of it unless it is all of them.

    A service that is `also_gone` may be meant where one is brought back.
    """
    if what in {known.name for known in client.stacks()}:
        return what, ()
    try:
        service = find_service(client, what, "stack or service")
    except NotFound:
        stack, _, name = what.partition("_")  # a service that is gone may come back
        if also_gone and name and stack in {known.name for known in client.stacks()}:
            return stack, (name,)
        raise
    return service.stack, (service.service,)
