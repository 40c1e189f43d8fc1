"""`stack services`, `ps` and `scale`, and the same, with other commands on services, under `stack service`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from cli.commands import completion
from cli.commands.follow import follow, timeout_option
from cli.commands.inspect import inspect
from cli.commands.logs import logs
from cli.commands.revisions import rollback
from cli.commands.session import connect, find_service
from cli.groups import Group
from cli.listing import Listing, list_options, show
from cli.output import age, image_name, joined
from cluster.errors import UserError
from cluster.model.task import Desired

if TYPE_CHECKING:
    from cluster.model.service import PortSpec
    from cluster.views import ServiceView, TaskView


def _port(port: PortSpec) -> str:
    host = f"{port.host_ip}:" if port.host_ip else ""
    mode = " (host)" if port.mode == "host" else ""
    return f"{host}{port.published}->{port.target}/{port.protocol}{mode}"


@click.command()
@click.argument("stack", required=False, shell_complete=completion.stacks)
@list_options
def services(stack: str | None, listing: Listing) -> None:
    """List the services of all stacks, or of one.

    \b
    stack services
    stack services shop --filter mode=global
    """
    with connect() as client:
        found = client.services(stack)
    show(
        found,
        {
            "NAME": lambda s: s.name,
            "MODE": lambda s: s.mode,
            "REPLICAS": _replicas,
            "IMAGE": lambda s: s.image if listing.whole else image_name(s.image),
            "PORTS": lambda s: joined(map(_port, s.ports)),
            "PROBLEM": lambda s: s.problem,
        },
        listing,
        spare=("MODE", "PORTS", "IMAGE"),
    )


def _replicas(service: ServiceView) -> str:
    if not service.mode.is_job:
        return f"{service.running}/{service.wanted}"
    running = f"{service.running} running" if service.running else ""
    return joined((f"{service.completed}/{service.wanted} completed", running))


@click.command()
@click.argument("what", required=False, metavar="[STACK|SERVICE]", shell_complete=completion.stacks_and_services)
@click.option("--node", shell_complete=completion.nodes, help="Only tasks on this node.")
@click.option("--all", "-a", "everything", is_flag=True, help="Also the tasks that have ended and were replaced.")
@list_options
def ps(what: str | None, node: str | None, everything: bool, listing: Listing) -> None:
    """List tasks: of a stack, of a service, on a node, or all.

    With --no-trunc ids are whole, images have their digests, and messages all last lines that failed tasks printed.
    JSON always holds the tasks that have ended, too.

    \b
    stack ps shop
    stack ps shop_web --all --no-trunc
    stack ps --node n2 --filter state!=running
    """
    list_tasks(what, node, listing, everything=everything)


def list_tasks(what: str | None, node: str | None, listing: Listing, *, everything: bool = False) -> None:
    whole = listing.whole
    with connect() as client:
        stack = what if what is None or what in {known.name for known in client.stacks()} else None
        service = None if what == stack else find_service(client, what or "", "stack or service").name
        tasks = client.tasks(stack, service, node)
    tasks.sort(key=lambda task: (task.stack, task.service, task.slot, -task.created_at))
    if listing.form != "json" and not everything:
        tasks = [task for task in tasks if task.desired is Desired.RUNNING]
    show(
        tasks,
        {
            "ID": lambda t: t.id if whole else t.id[:12],
            "NAME": lambda t: t.name,
            "IMAGE": lambda t: _image(t) if whole else image_name(t.image),
            "NODE": lambda t: t.node or "-",
            "WANTED": lambda t: t.desired,
            "STATE": lambda t: t.state,
            "SINCE": lambda t: age(t.since),
            "MESSAGE": lambda t: _message(t, whole=whole),
        },
        listing,
        spare=("WANTED", "ID", "IMAGE"),
    )


def _image(task: TaskView) -> str:
    return f"{task.image}@{task.digest}" if task.digest and "@" not in task.image else task.image


def _message(task: TaskView, *, whole: bool) -> str:
    code = f"exit code {task.exit_code}" if task.exit_code else ""
    told = code in task.message or f"exited with code {task.exit_code}" in task.message
    restarts = f"restarted in place {task.restarts} times" if task.restarts else ""
    failures = f"failed {task.failures} times before" if task.failures > 1 else ""
    words = " | ".join(task.log if whole else task.log[-1:])
    return joined((task.message, "" if told else code, restarts, failures, words and f"it said: {words}"))


@click.command()
@click.argument("wishes", nargs=-1, required=True, metavar="SERVICE=N...", shell_complete=completion.services)
@click.option("--detach", "-d", is_flag=True, help="Do not wait.")
@timeout_option
def scale(wishes: tuple[str, ...], detach: bool, timeout: float) -> None:
    """Run N tasks of each service, and wait until they run.

    \b
    stack scale web=5
    stack scale shop_web=5 shop_api=3 --detach
    """
    with connect() as client:
        replicas: dict[str, dict[str, int]] = {}
        stacks: dict[str, str] = {}
        for wish in wishes:
            name, separator, number = wish.partition("=")
            if not separator or not re.fullmatch(r"\d+", number):
                raise UserError(f"{wish} does not say how many", hint="Write SERVICE=N, such as web=5.")
            service = find_service(client, name)
            replicas.setdefault(service.stack, {})[service.service] = int(number)
            stacks[wish] = service.stack
        replies = [client.scale(stack, wanted, "scale " + " ".join(wishes)) for stack, wanted in replicas.items()]
        if not detach:
            for reply in replies:
                of = [*replicas[reply.stack]]
                follow(client, reply.stack, reply.revision, of, timeout=timeout, doing="scaling")
        changed = {reply.stack for reply in replies if reply.changed}
        done = "scaling" if detach else "scaled"
        for wish in wishes:
            click.echo(f"{done} {wish}" if stacks[wish] in changed else f"{wish} is so already")


@click.group(cls=Group)
def service() -> None:
    """The commands on services, by Docker's longer names."""


service.add_command(services, "ls")
service.add_command(ps, "ps")
service.add_command(scale, "scale")
service.add_command(logs, "logs")
service.add_command(inspect, "inspect")
service.add_command(rollback, "rollback")
