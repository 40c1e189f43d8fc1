"""`stack node`."""

from __future__ import annotations

import time

import click

from cli.client import Client
from cli.commands import completion
from cli.commands.inspect import inspect_format, tell
from cli.commands.session import connect
from cli.groups import Group
from cli.listing import Listing, list_options, show
from cli.output import joined
from cli.times import duration
from cluster.errors import Failed, UserError
from cluster.model.node import Availability, NodeStatus
from cluster.model.task import Desired
from cluster.views import NodeChange, NodeView, TaskView

_PAUSE = 0.3


@click.group(cls=Group)
def node() -> None:
    """The nodes of the cluster."""


@node.command()
@list_options
def ls(listing: Listing) -> None:
    """List the nodes.

    \b
    stack node ls
    stack node ls --filter status=down -q
    """
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
        listing,
        spare=("ENGINE", "ROLE", "ADDRESS"),
    )


def _problem(node: NodeView) -> str:
    return joined((node.reason if node.status != "ready" else "", *node.conditions.values()), "; ")


@node.command("inspect")
@click.argument("names", nargs=-1, required=True, metavar="NODE...", shell_complete=completion.nodes)
@inspect_format
def inspect_(names: tuple[str, ...], form: str) -> None:
    """Show all that is known of nodes, as JSON.

    \b
    stack node inspect n2
    stack node inspect n1 n2 --format '{{.name}} {{.address}}'
    """
    with connect() as client:
        found = [client.node(name) for name in names]
    tell(found, form)


@node.command("ps")
@click.argument("name", metavar="NODE", shell_complete=completion.nodes)
@click.option("--all", "-a", "everything", is_flag=True, help="Also the tasks that have ended and were replaced.")
@list_options
def ps_(name: str, everything: bool, listing: Listing) -> None:
    """List the tasks on a node.

    \b
    stack node ps n2
    """
    from cli.commands.services import list_tasks

    list_tasks(None, name, listing, everything=everything)


@node.command()
@click.argument("name", metavar="NODE", shell_complete=completion.nodes)
@click.option("--availability", type=click.Choice([str(a) for a in Availability]), help="Whether it takes tasks.")
@click.option("--label-add", "added", multiple=True, metavar="KEY=VALUE", help="Set a label.")
@click.option("--label-rm", "removed", multiple=True, metavar="KEY", help="Take a label off.")
@click.option("--resource", "resources", multiple=True, metavar="NAME=N", help="Say how many it has of a thing.")
@click.option("--resource-rm", "resources_removed", multiple=True, metavar="NAME", help="Take that back.")
def update(
    name: str,
    availability: str | None,
    added: tuple[str, ...],
    removed: tuple[str, ...],
    resources: tuple[str, ...],
    resources_removed: tuple[str, ...],
) -> None:
    """Change whether a node takes tasks, its labels, and what it offers.

    Services reserve a resource by its name (deploy.resources.reservations.generic_resources); requests for devices
    of kind gpu reserve the resource gpu.

    \b
    stack node update n2 --label-add disk=ssd
    stack node update n2 --resource gpu=2
    """
    labels: dict[str, str | None] = dict.fromkeys(removed)
    for label in added:
        key, value = _pair(label, "a label", "KEY=VALUE")
        labels[key] = value
    counts: dict[str, int | None] = dict.fromkeys(resources_removed)
    for resource in resources:
        key, value = _pair(resource, "a resource", "NAME=N, such as gpu=2")
        if not value.isdecimal():
            raise UserError(f"{resource!r} does not say how many", hint="Write NAME=N, such as gpu=2.")
        counts[key] = int(value)
    change = NodeChange(Availability(availability) if availability else None, labels or None, counts or None)
    if change == NodeChange():
        raise UserError(f"there is nothing to change of {name}", hint="Give --label-add, --resource or --availability.")
    with connect() as client:
        client.update_node(name, change)
    click.echo(f"updated {name}")


def _pair(text: str, what: str, form: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not key or not separator:
        raise UserError(f"{text!r} is no {what.partition(' ')[2]}", hint=f"Write {form}.")
    return key, value


@node.command()
@click.argument("names", nargs=-1, required=True, metavar="NODE...", shell_complete=completion.nodes)
def activate(names: tuple[str, ...]) -> None:
    """Let nodes take tasks again.

    \b
    stack node activate n2
    """
    _set(names, NodeChange(Availability.ACTIVE), "takes tasks")


@node.command()
@click.argument("names", nargs=-1, required=True, metavar="NODE...", shell_complete=completion.nodes)
def pause(names: tuple[str, ...]) -> None:
    """Give nodes no new tasks; they keep those that they have.

    \b
    stack node pause n2
    """
    _set(names, NodeChange(Availability.PAUSE), "takes no new tasks")


def _set(names: tuple[str, ...], change: NodeChange, what: str) -> None:
    with connect() as client:
        for name in names:
            client.update_node(name, change)
            click.echo(f"{name} {what}")


@node.command()
@click.argument("names", nargs=-1, required=True, metavar="NODE...", shell_complete=completion.nodes)
@click.option(
    "--deadline", default="10m", metavar="TIME|never", help="How long it may take: 30s, 10m (default), never."
)
@click.option("--detach", "-d", is_flag=True, help="Do not wait until they are empty.")
def drain(names: tuple[str, ...], deadline: str, detach: bool) -> None:
    """Move all tasks off nodes, and wait until they are empty.

    No service is left with less than its update_config allows, and no task goes that has no other place, until the
    deadline comes: then what is left goes at once, and this command says what that was.

    \b
    stack node drain n2
    stack node drain n2 --deadline 30m --detach
    """
    limit = _deadline(deadline)
    change = NodeChange(Availability.DRAIN, deadline="never" if limit is None else limit)
    with connect() as client:
        drained = [client.update_node(name, change) for name in names]
        for one in drained:
            click.echo(f"{one.name} is drained" if detach else f"{one.name} is empty: {_empty(client, one)}")


def _empty(client: Client, node: NodeView) -> str:
    """Wait until nothing runs on a node; tell how that ended."""
    told = ""
    seen: set[str] = set()
    while True:
        tasks = client.tasks(node=node.id)
        left = [task for task in tasks if not task.state.terminal]
        seen |= {task.id for task in left}
        now = client.node(node.id)
        if now.availability is not Availability.DRAIN:
            raise Failed(f"{node.name} is {now.availability} again", hint="Somebody else changed that.")
        if now.status is NodeStatus.DOWN:  # what can go has gone, and of what is left nobody tells that it ended
            _check_none_waits(now, left)
            return "it is down, and none of its tasks waits for it"
        if not left:
            forced = sum(task.id in seen and "its deadline has come" in task.message for task in tasks)
            return f"{forced} tasks went at once when the deadline came" if forced else "all tasks found other places"
        why = next((f"{t.name}: {t.message}" for t in left if "stays until there is room" in t.message), "")
        text = f"{node.name}: {len(left)} tasks are left" + (f"; {why}" if why else "")
        if text != told:
            click.echo(text, err=True)
            told = text
        time.sleep(_PAUSE)


def _check_none_waits(node: NodeView, left: list[TaskView]) -> None:
    """Raise Failed for those tasks of a node that is down that have to be there."""
    waiting = [f"{task.name} ({task.message})" for task in left if task.desired is Desired.RUNNING]
    if waiting:
        raise Failed(
            f"{node.name} is drained, but it is down, and what has its data there waits for it: {', '.join(waiting)}",
            hint=f"Bring it back, or give it up with what it has: `stack node rm --force {node.name}`.",
        )


def _deadline(text: str) -> float | None:
    """Read 30s, 10m, 2h, or never."""
    if text == "never":
        return None
    return duration(text, "--deadline", "30s, 10m, 2h, or never", zero=True)


@node.command()
@click.argument("names", nargs=-1, required=True, metavar="NODE...", shell_complete=completion.nodes)
def promote(names: tuple[str, ...]) -> None:
    """Let nodes become managers, and say what to do on each.

    \b
    stack node promote n2 n3
    """
    with connect() as client:
        managers = " ".join(one.url.removeprefix("https://") for one in client.cluster().managers)
        for name in names:
            client.update_node(name, NodeChange(role="manager"))
            click.echo(f"{name} may become a manager; on its host, with TOKEN as of `stack token show manager`:\n")
            click.echo(f"    stack join TOKEN {managers} --manager")


@node.command()
@click.argument("names", nargs=-1, required=True, metavar="NODE...", shell_complete=completion.nodes)
def demote(names: tuple[str, ...]) -> None:
    """Make workers of managers: their etcd is taken out of the cluster at once, and their manager ends.

    Refused where too few of the other managers would be left to decide anything.

    \b
    stack node demote n2
    """
    _set(names, NodeChange(role="worker"), "is a worker")


@node.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="NODE...", shell_complete=completion.nodes)
@click.option("--force", "-f", is_flag=True, help="Also nodes that are up, or that have the data of volumes.")
def rm_(names: tuple[str, ...], force: bool) -> None:
    """Take nodes out of the cluster that are down for good.

    On a node that is up, `stack leave` does it in order. With --force a node that is up is forgotten as it is: its
    containers run on unless it is stopped, beside those that take their place.

    \b
    stack node rm n2
    stack node rm --force n2
    """
    from cli.client.contexts import forget_manager

    context = click.get_current_context().find_root().obj
    with connect() as client:
        for name in names:
            address = next((node.address for node in client.nodes() if name in (node.name, node.id)), "")
            client.remove_node(name, force=force)
            click.echo(f"removed {name}")
            for url in forget_manager(context, address):
                click.echo(f"this context does not ask {url} any more")
