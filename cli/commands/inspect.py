"""`stack inspect`: all that is known of whatever has a name."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from cli.client import Client
from cli.commands import completion, names
from cli.commands.session import connect
from cluster.alike import did_you_mean
from cluster.errors import NotFound, UserError
from cluster.model.secret import FileKind

if TYPE_CHECKING:
    from cluster.views import ServiceView

_LISTED: dict[str, names.Names] = {
    "stack": names.stacks,
    "service": names.services,
    "task": names.tasks,
    "node": names.nodes,
    "network": names.networks,
    "volume": names.volumes,
    "secret": names.externals("secret"),
    "config": names.externals("config"),
}
KINDS = [*_LISTED]
FILE_KINDS: tuple[FileKind, ...] = ("secret", "config")

_PLACE = re.compile(r"\{\{(.*?)\}\}")

inspect_format = click.option(
    "--format",
    "-f",
    "form",
    default="json",
    metavar="json|TEMPLATE",
    help="A template is a line for each: '{{.name}} {{.spec.container.image}} {{json .labels}}'.",
)


def tell(told: list[Any], form: str) -> None:
    """Print what is known of things: all of it as JSON, or what a template asks for. Raises UserError."""
    import msgspec

    if form == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(told), indent=2))
        return
    if "{{" not in form:
        raise UserError(f"--format {form} is neither json nor a template", hint="Write one such as '{{.name}}'.")
    for one in map(msgspec.to_builtins, told):
        click.echo(_PLACE.sub(functools.partial(_value, one), form))


def _value(told: Any, place: re.Match[str]) -> str:
    import msgspec

    *function, path = place[1].split() or [""]
    if function not in ([], ["json"]) or not path.startswith("."):
        raise UserError(f"{place[0]} is no field", hint="Write {{.spec.replicas}}, or {{json .spec}} for all of it.")
    for key in filter(None, path.split(".")):
        told = _below(told, key, place[0])
    return told if isinstance(told, str) and not function else msgspec.json.encode(told).decode()


def _below(found: Any, key: str, place: str) -> Any:
    if isinstance(found, list) and key.isdecimal() and int(key) < len(found):
        return found[int(key)]
    keys = found if isinstance(found, dict) else {}
    for known in keys:
        if known.lower() == key.lower():
            return keys[known]
    there = f"There are: {', '.join(sorted(keys))}." if keys else "There is nothing below that."
    raise UserError(f"{place}: there is no {key}", hint=there)


@click.command()
@click.argument("wanted", nargs=-1, required=True, metavar="NAME...", shell_complete=completion.everything)
@click.option("--type", "kind", type=click.Choice(KINDS), help="Only things of this kind, should a name mean several.")
@inspect_format
def inspect(wanted: tuple[str, ...], kind: str | None, form: str) -> None:
    """Show all that is known of stacks, services, tasks, nodes, networks, volumes, secrets or configs, as JSON.

    A service is STACK_SERVICE, a task its name (app_web.2) or the beginning of its id. Stacks and services come with
    their whole spec, in which secrets are digests; of secrets all but the content is told.

    \b
    stack inspect shop_web
    stack inspect n2 --format '{{.address}} {{json .labels}}'
    """
    with connect() as client:
        told = [_one(client, name, kind) for name in wanted]
    tell(told, form)


def _one(client: Client, name: str, kind: str | None) -> dict[str, Any]:
    found = [one for one in _found(client, name) if kind in (None, one["kind"])]
    if not found:
        known = [known for one, lister in _LISTED.items() if kind in (None, one) for known in lister(client)]
        hint = "`stack ls`, `services`, `ps`, `node ls`, `network ls`, `volume ls` and `secret ls` list what there is."
        raise NotFound(f"there is no {kind or 'such thing as'} {name}", hint=did_you_mean(name, known, hint))
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
    for file_kind in FILE_KINDS:
        yield from (_told(file_kind, one) for one in client.externals(file_kind) if one.name == name)


def _spec(client: Client, service: ServiceView) -> Any:
    """Give what the newest revision says of a service; None of one that is on its way out."""
    return client.revision(service.stack).spec.services.get(service.service)


def _told(kind: str, view: Any, **more: Any) -> dict[str, Any]:
    import msgspec

    told: dict[str, Any] = msgspec.to_builtins(view)
    return {"kind": kind} | told | {key: msgspec.to_builtins(value) for key, value in more.items()}
