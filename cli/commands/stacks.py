"""`stack ls` and `stack rm`."""

from __future__ import annotations

import click

from cli.commands.follow import follow, timeout_option
from cli.commands.session import connect
from cli.output import Form, age, format_option, show
from cluster.errors import NotFound


@click.command()
@format_option
def ls(form: Form) -> None:
    """List the stacks."""
    with connect() as client:
        stacks = client.stacks()
    show(
        stacks,
        {
            "NAME": lambda s: s.name,
            "SERVICES": lambda s: str(s.services),
            "TASKS": lambda s: f"{s.running}/{s.wanted}",
            "STATE": lambda s: s.phase,
            "REVISION": lambda s: str(s.revision),
            "UPDATED": lambda s: age(s.updated_at) + " ago",
        },
        form,
    )


@click.command()
@click.argument("stacks", nargs=-1, required=True, metavar="STACK...")
@click.option("--volumes", is_flag=True, help="Also remove its volumes, with their data.")
@click.option("--detach", "-d", is_flag=True, help="Do not wait until everything is gone.")
@timeout_option
def rm(stacks: tuple[str, ...], volumes: bool, detach: bool, timeout: float) -> None:
    """Remove stacks, and wait until nothing of them is left on any node.

    Their volumes keep their data, and are found again by a later stack of the same name, unless --volumes is given.
    """
    with connect() as client:
        known = {stack.name for stack in client.stacks()}
        if missing := [stack for stack in stacks if stack not in known]:
            raise NotFound(f"there is no stack {', '.join(missing)}", hint="`stack ls` lists them.")
        going = [client.remove(stack, volumes=volumes) for stack in stacks]
        for reply in going:
            if detach:
                click.echo(f"removing {reply.stack}")
            else:
                follow(client, reply.stack, reply.revision, removing=True, timeout=timeout)
                click.echo(f"removed {reply.stack}")
