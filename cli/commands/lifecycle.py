"""`stack stop`, `start`, `restart` and `kill`: what runs, and what does not, with definitions as they are."""

from __future__ import annotations

import time
from contextlib import closing

import click

from cli.client import Client
from cli.client.channel import open_channel
from cli.client.pump import Pump
from cli.commands import completion
from cli.commands.follow import finish, settle_option, timeout_option
from cli.commands.revisions import detach_option, meant
from cli.commands.session import connect, transport
from cluster.channel import SignalRequest
from cluster.errors import Failed, NotFound
from cluster.views import TaskView

_LOOK = 0.5  # seconds

_what = click.argument(
    "what", nargs=-1, required=True, metavar="STACK|SERVICE...", shell_complete=completion.stacks_and_services
)


@click.command()
@_what
@detach_option
@timeout_option
def stop(what: tuple[str, ...], detach: bool, timeout: float) -> None:
    """Stop services, or all of a stack; they keep their definitions, volumes, names and logs.

    `stack start` starts them again, and so does the next deploy of the stack.

    \b
    stack stop shop_web
    stack stop shop
    """
    _switch(what, running=False, detach=detach, timeout=timeout, settle=0)


@click.command()
@_what
@detach_option
@timeout_option
@settle_option
def start(what: tuple[str, ...], detach: bool, timeout: float, settle: float) -> None:
    """Start services, or all of a stack, that were stopped.

    \b
    stack start shop_web
    """
    _switch(what, running=True, detach=detach, timeout=timeout, settle=settle)


@click.command()
@click.argument(
    "what", nargs=-1, required=True, metavar="STACK|SERVICE|TASK...", shell_complete=completion.services_and_tasks
)
@detach_option
@timeout_option
@settle_option
def restart(what: tuple[str, ...], detach: bool, timeout: float, settle: float) -> None:
    """Have new tasks take the place of all tasks of a stack or service, as update_config says: no request is lost.

    A TASK (web.2, or the beginning of its id) is stopped at once, with its stop signal and grace period, and
    replaced as its restart_policy says.

    \b
    stack restart shop_web
    stack restart shop_web.2
    """
    with connect() as client:
        for name in what:
            try:
                stack, services = meant(client, name, also_gone=False)
            except NotFound:
                _restart_task(client, name, detach=detach, timeout=timeout)
                continue
            reply = client.update(stack, services, proceed=False, force=True, reason=f"restart {name}")
            finish(
                client, reply, services,
                doing="restarting", done=f"{name} was restarted, revision {reply.revision}",
                detach=detach, timeout=timeout, settle=settle,
            )  # fmt: skip


@click.command()
@click.option("--signal", "-s", default="KILL", show_default=True, metavar="SIGNAL", help="Such as HUP, SIGTERM or 9.")
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...", shell_complete=completion.services_and_tasks)
def kill(signal: str, tasks: tuple[str, ...]) -> None:
    """Send a signal to the first program of tasks, on whichever nodes.

    TASK is web.2, shop_web.2 or the beginning of a task's id. What ends by it is replaced as its restart_policy says.

    \b
    stack kill -s HUP web.1
    stack kill web.2 web.3
    """
    for task in tasks:
        told = _signal(task, signal.upper())
        click.echo(f"sent {signal.upper()} to {told}")


def _switch(what: tuple[str, ...], *, running: bool, detach: bool, timeout: float, settle: float) -> None:
    with connect() as client:
        chosen_ones = [(name, *meant(client, name, also_gone=False)) for name in what]
        replies = [client.switch(stack, services, running=running) for _, stack, services in chosen_ones]
        for (name, _, services), reply in zip(chosen_ones, replies, strict=True):
            doing, done = ("starting", "runs") if running else ("stopping", "is stopped")
            finish(
                client, reply, services,
                doing=doing, done=f"{name} {done}, revision {reply.revision}",
                detach=detach, timeout=timeout, settle=settle,
            )  # fmt: skip


def _signal(task: str, signal: str) -> str:
    """Send a signal to a task, "" to stop it, and give its whole name."""
    with (
        closing(transport()) as way,
        closing(open_channel(way, task, "signal")) as channel,
    ):
        channel.request(SignalRequest(signal))
        Pump(channel, None, {}).run()
        return f"{channel.task} on {channel.node}"


def _restart_task(client: Client, name: str, *, detach: bool, timeout: float) -> None:
    known = {task.id for task in client.tasks()}
    told = _signal(name, "")
    full_name = told.partition(" on ")[0]
    if detach:
        click.echo(f"stopped {told}")
        return
    end = time.monotonic() + timeout if timeout else None
    while (next_one := _newest(client, full_name)) is None or next_one.id in known or next_one.state != "running":
        if end is not None and time.monotonic() > end:
            raise Failed(
                f"{told} was stopped, and no other task runs in its place",
                hint=f"`stack explain {full_name}` tells why.",
            )
        time.sleep(_LOOK)
    click.echo(f"{full_name} was restarted, on {next_one.node}")


def _newest(client: Client, name: str) -> TaskView | None:
    """Give the task that is to run under a name."""
    found = [task for task in client.tasks() if task.name == name]
    return max(found, key=lambda task: task.created_at, default=None)
