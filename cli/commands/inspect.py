"""`stack inspect`: all that is known of whatever has a name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from cli.client import Client
from cli.commands import completion
from cli.commands.session import connect
from cluster.errors import NotFound, UserError
from cluster.views import ServiceView


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=completion.everything)
@click.option("--type", "kind", type=click.Choice(["stack", "service", "task", "node", "network", "volume"]),
              help="Only things of this kind, should a name mean several.")  # fmt: skip
def inspect(names: tuple[str, ...], kind: str | None) -> None:
    """Show all that is known of stacks, services, tasks, nodes, networks or volumes, as JSON.

    A service is STACK_SERVICE, a task its name (app_web.2) or the beginning of its id. Stacks and services come with
    their whole spec, in which secrets are digests. `stack secret inspect` and `stack configs inspect` are for those.

    \b
    stack inspect shop_web
    stack inspect n2
    """
    import msgspec

    with connect() as client:
        told = [_one(client, name, kind) for name in names]
    click.echo(msgspec.json.format(msgspec.json.encode(told), indent=2))


def _one(client: Client, name: str, kind: str | None) -> dict[str, Any]:
    found = [one for one in _found(client, name) if kind in (None, one["kind"])]
    if not found:
        raise NotFound(
            f"there is no {kind or 'stack, service, task, node, network or volume'} {name}",
            hint="`stack ls`, `services`, `ps`, `node ls`, `network ls` and `volume ls` list them.",
        )
    if len(found) > 1:
        kinds = " and ".join(sorted({str(one["kind"]) for one in found}))
        raise UserError(
            f"{name} can mean several things: {kinds}", hint="Say which with --type, or give more of the id."
        )
    return found[0]


def _found(client: Client, name: str) -> Iterator[dict[str, Any]]:
    for stack in client.stacks():
        if stack.name == name:
            yield _told("stack", stack, head=client.revision(name))
    for service in client.services():
        if service.name == name:
            yield _told("service", service, spec=_spec(client, service))
    if "." in name or len(name) >= 4:
        tasks = [task for task in client.tasks() if task.name == name or task.id.startswith(name)]
        named = [task for task in tasks if task.name == name]
        # Of a slot, the task that is there now; those before it have ids.
        tasks = [max(named, key=lambda task: task.created_at)] if named else tasks
        yield from (_told("task", task) for task in tasks)
    for kind, things in (("node", client.nodes()), ("network", client.networks()), ("volume", client.volumes())):
        yield from (_told(kind, one) for one in things if one.name == name)


def _spec(client: Client, service: ServiceView) -> Any:
    """Give what the newest revision says of a service; None of one that is on its way out."""
    return client.revision(service.stack).spec.services.get(service.service)


def _told(kind: str, view: Any, **more: Any) -> dict[str, Any]:
    import msgspec

    told: dict[str, Any] = msgspec.to_builtins(view)
    return {"kind": kind} | told | {key: msgspec.to_builtins(value) for key, value in more.items()}
