"""`stack run`: a one-off task of a service, as if its command ran here."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, closing

import click

from cli.client import Client
from cli.client.channel import Channel
from cli.client.terminal import raw, size
from cli.commands import completion
from cli.commands.exec import converse, variables
from cli.commands.session import connect
from cluster.channel import AttachRequest
from cluster.errors import Failed, NotFound, UserError
from cluster.views import RunRequest

CANNOT_START, NOT_FOUND, NOT_EXECUTABLE = 125, 127, 126
"""Exit codes of `docker run` for what never ran."""

_LOOK = 1.0
"""Seconds between two looks at what keeps a task from its start, for whoever waits at a terminal."""


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--detach", "-d", is_flag=True, help="Let it run by itself, and print its name.")
@click.option("--rm", "removed", is_flag=True, help="With -d: forget it when it ends; else it is kept for an hour.")
@click.option(
    "--interactive/--no-interactive", "-i", default=True, help="Pass on what is typed or piped in (so it is)."
)
@click.option("--tty", "-t", is_flag=True, help="Give it a terminal; it has one here anyway if this is one.")
@click.option("--no-tty", "-T", is_flag=True, help="Give it no terminal.")
@click.option(
    "--env", "-e", "environment", multiple=True, metavar="NAME[=VALUE]", help="A variable more; NAME: as it is here."
)
@click.option("--env-file", "files", multiple=True, metavar="FILE", help="Variables of a file, as docker reads it.")
@click.option("--entrypoint", metavar="WORDS", help="Another entrypoint, instead of the service's and its command.")
@click.option("--workdir", "-w", default="", metavar="DIR", help="Run it in this folder of the container.")
@click.option("--user", "-u", default="", metavar="USER[:GROUP]", help="Run it as this user of the container.")
@click.argument("service", shell_complete=completion.services)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def run(
    detach: bool,
    removed: bool,
    interactive: bool,
    tty: bool,
    no_tty: bool,
    environment: tuple[str, ...],
    files: tuple[str, ...],
    entrypoint: str | None,
    workdir: str,
    user: str,
    service: str,
    command: tuple[str, ...],
) -> int:
    """Run a one-off task of a service: its image, networks, variables, secrets and volumes, with another COMMAND.

    It is placed like any task, on whichever node, and shown by `stack ps`. It publishes no ports, answers to none of
    the service's names, is no replica, and is never started a second time. The exit code is the command's (125 to 127:
    it could not be started). Signals are passed on; when this command ends, or its terminal is gone, so is the task.

    With -d it runs by itself: `stack logs`, `attach` and `kill` take its name, and `stack rm` removes it.

    \b
    stack run web sh
    stack run -e DEBUG=1 web python manage.py migrate
    stack run -T db pg_dump shop > dump.sql
    """
    if tty and not sys.stdin.isatty() and interactive and not detach:
        raise UserError("the input is not a terminal", hint="Leave -t out when input is piped in.")
    at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    request = RunRequest(
        operation=os.urandom(8).hex(),
        command=command[command[0] == "--" :] if command else None,
        entrypoint=None if entrypoint is None else _words(entrypoint),
        environment=dict(_pair(text) for text in variables(environment, files)),
        user=user,
        workdir=workdir,
        tty=tty or (at_terminal and not no_tty and not detach),
        stdin=interactive and not detach,
        attended=not detach,
        kept=detach and not removed,
    )
    with connect() as client:
        begun = client.run(service, request)
        if detach:
            click.echo(begun.task)
            return 0
        with closing(client.attend(begun.id)) as channel:
            return _attend(client, channel, request)


def _words(text: str) -> tuple[str, ...]:
    import shlex

    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise UserError(f"--entrypoint: {error}") from error


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _attend(client: Client, channel: Channel, request: RunRequest) -> int:
    """Be there while it runs, and give its exit code."""
    channel.request(AttachRequest(request.stdin, size(sys.stdout.fileno()) if request.tty else None))
    _wait(client, channel)
    with ExitStack() as stack:
        typed = sys.stdin.fileno() if request.stdin else None

        def started(told: bytes) -> None:
            if request.tty and typed is not None:
                stack.enter_context(raw(typed))

        try:
            return converse(channel, None, typed, resizes=request.tty, started=started)
        except Failed as error:
            click.echo(f"error: {error.message}", err=True)
            return _code(error.message)


def _wait(client: Client, channel: Channel) -> None:
    """Wait for its start, and say at a terminal what that waits for."""
    told, service = "", channel.task.rpartition(".")[0]
    while not channel.heard(_LOOK):
        try:
            tasks = client.tasks(service=service) if sys.stderr.isatty() else []
        except NotFound:
            continue  # the leader has yet to hear of it
        for task in tasks:
            if task.message != told:
                told = task.message
                click.echo(f"{task.name} is {task.state}: {told}", err=True)


def _code(message: str) -> int:
    if "executable file not found" in message or "no such file or directory" in message:
        return NOT_FOUND
    return NOT_EXECUTABLE if "permission denied" in message else CANNOT_START
