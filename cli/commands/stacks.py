"""`stack ls`, `stack wait` and `stack rm`."""

from __future__ import annotations

import click

from cli.client import Client
from cli.commands import completion, names
from cli.commands.follow import follow, settle_option, timeout_option
from cli.commands.session import connect
from cli.listing import Listing, list_options, show
from cli.output import age
from cluster.alike import did_you_mean
from cluster.errors import NotFound, UserError
from cluster.views import StackView


@click.command()
@list_options
def ls(listing: Listing) -> None:
    """List the stacks: how many tasks run, of whatever version, and how many there are to be.

    A stack is converging while not all tasks are of the newest version, or healthy.

    \b
    stack ls
    stack ls --format '{{.Name}} {{.State}}'
    """
    with connect() as client:
        stacks = client.stacks()
    show(
        stacks,
        {
            "NAME": lambda s: s.name,
            "SERVICES": lambda s: str(s.services),
            "TASKS": lambda s: f"{s.running if s.up is None else s.up}/{s.wanted}",
            "STATE": _state,
            "REVISION": lambda s: str(s.revision),
            "UPDATED": lambda s: age(s.updated_at) + " ago",
        },
        listing,
    )


def _state(stack: StackView) -> str:
    if stack.paused and stack.phase == "converging":
        return "update paused"
    if stack.stopped and stack.phase == "running":
        return "stopped" if stack.stopped == stack.services else f"running, {stack.stopped} stopped"
    return stack.phase


@click.command()
@click.argument("stacks", nargs=-1, required=True, metavar="STACK...", shell_complete=completion.stacks)
@click.option("--volumes", is_flag=True, help="Also remove its volumes, with their data.")
@click.option("--detach", "-d", is_flag=True, help="Do not wait until everything is gone.")
@timeout_option
def rm(stacks: tuple[str, ...], volumes: bool, detach: bool, timeout: float) -> None:
    """Remove stacks, and wait until nothing of them is left on any node; or one-off tasks of `stack run`, by name.

    Their volumes keep their data, and are found again by a later stack of the same name, unless --volumes is given.

    \b
    stack rm shop
    stack rm --volumes shop
    """
    with connect() as client:
        known = {stack.name for stack in client.stacks()}
        for name in sorted(set(stacks) - known):
            _remove_run(client, name)
        going = [client.remove(stack, volumes=volumes) for stack in stacks if stack in known]
        for reply in going:
            left = ", ".join(f"{name} on {node}" for name, node in reply.volumes_left.items())
            stays = f"; its volumes stay: {left} (`stack volume rm` removes them)" if left else ""
            if detach:
                click.echo(f"removing {reply.stack}{stays}")
            else:
                follow(client, reply.stack, reply.revision, removing=True, timeout=timeout)
                click.echo(f"removed {reply.stack}{stays}")


@click.command()
@click.argument("stacks", nargs=-1, required=True, metavar="STACK...", shell_complete=completion.stacks)
@timeout_option
@settle_option
def wait(stacks: tuple[str, ...], timeout: float, settle: float) -> None:
    """Wait for what a stack is on its way to: its newest revision, or its removal.

    It is how to come back to a deploy, an update, a scaling, a rollback or a removal that was left alone.

    \b
    stack wait shop
    stack wait shop --timeout 60
    """
    with connect() as client:
        for stack in _found(client, stacks):
            name = stack.name
            removing = stack.phase == "removing"
            follow(client, name, stack.revision, removing=removing, timeout=timeout, settle=0 if removing else settle)
            click.echo(f"removed {name}" if removing else f"{name} runs, revision {stack.revision}")


def _remove_run(client: Client, name: str) -> None:
    try:
        client.remove_run(name)
    except NotFound as error:
        if name in names.tasks(client) or name in names.services(client):
            raise UserError(
                f"{name} is part of a stack, which is removed as a whole",
                hint="`stack stop` and `stack scale` end tasks of a service; to remove it, take it out of the file.",
            ) from error
        runs = [task.name for task in client.tasks() if "-run-" in task.name]
        raise NotFound(
            f"there is no stack {name}, and no task of `stack run`",
            hint=did_you_mean(name, names.stacks(client) + runs, "`stack ls` and `stack ps` list them."),
        ) from error
    click.echo(f"removed {name}")


def _found(client: Client, names: tuple[str, ...]) -> list[StackView]:
    known = {stack.name: stack for stack in client.stacks()}
    if missing := [name for name in names if name not in known]:
        raise NotFound(
            f"there is no stack {', '.join(missing)}", hint=did_you_mean(missing[0], known, "`stack ls` lists them.")
        )
    return [known[name] for name in names]
