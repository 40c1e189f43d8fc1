"""`stack exec`: a command in a task's container, as if it ran here."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing

import click

from cli.client.channel import Channel, open_channel
from cli.client.pump import Pump
from cli.client.terminal import caught, raw, size
from cli.commands import completion
from cli.commands.session import transport
from cluster.channel import BeginRequest, ExecRequest, Kind, Request, size_frame
from cluster.errors import StackyardError, UserError

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
PATIENCE = 3
"""Signals after which this command ends, whatever the other one does."""


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--interactive", "-i", is_flag=True, help="Pass on what is typed or piped in.")
@click.option("--tty", "-t", is_flag=True, help="Give the command a terminal; with -i for shells and editors.")
@click.option("--detach", "-d", is_flag=True, help="Begin the command, and leave it alone.")
@click.option("--no-tty", "-T", is_flag=True, hidden=True, expose_value=False)  # `docker compose exec` has it
@click.option(
    "--env", "-e", "environment", multiple=True, metavar="NAME[=VALUE]", help="A variable; NAME: as it is here."
)
@click.option("--env-file", "files", multiple=True, metavar="FILE", help="Variables of a file, as docker reads it.")
@click.option("--workdir", "-w", default="", metavar="DIR", help="Run it in this folder of the container.")
@click.option("--user", "-u", default="", metavar="USER[:GROUP]", help="Run it as this user of the container.")
@click.option("--privileged", is_flag=True, help="With all capabilities.")
@click.argument("task", shell_complete=completion.services_and_tasks)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_command(
    interactive: bool,
    tty: bool,
    detach: bool,
    environment: tuple[str, ...],
    files: tuple[str, ...],
    workdir: str,
    user: str,
    privileged: bool,
    task: str,
    command: tuple[str, ...],
) -> int:
    """Run a command in the container of a task, on whichever node that is.

    TASK is web.2, shop_web.2 or the beginning of a task's id; web alone is the first of its tasks that runs. The exit
    code is the command's (126 and 127: it could not be started). Signals are passed on; when this command is killed,
    the other one gets SIGHUP, so that nothing is left behind; what is to go on is begun with -d.

    \b
    stack exec -it web.2 sh
    stack exec -d web.2 sh -c 'exec tcpdump -w /tmp/dump'
    stack exec -i db psql shop < dump.sql
    """
    if command[0] == "--" and len(command) > 1:
        command = command[1:]  # as kubectl has it
    if tty and interactive and not detach and not sys.stdin.isatty():
        raise UserError("the input is not a terminal", hint="Leave -t out when input is piped in.")
    env = variables(environment, files)
    request: ExecRequest | BeginRequest
    if detach:
        request = BeginRequest(command, tty, env, workdir, user, privileged)
    else:
        shown = size(sys.stdout.fileno()) if tty else None
        request = ExecRequest(command, tty, interactive, env, workdir, user, privileged, shown)
    with (
        closing(transport()) as way,
        closing(open_channel(way, task, "exec")) as channel,
    ):
        return _run(channel, request)


def variables(given: Sequence[str], files: Sequence[str]) -> tuple[str, ...]:
    """Give NAME=VALUE of what is given as docker takes it: a NAME alone has its value here, or is left out.

    Those of files come first: of one name the last counts. Raises UserError.
    """
    lines = [line for file in files for line in _lines(file)]
    return tuple(
        text if "=" in text else f"{text}={os.environ[text]}"
        for text in (*lines, *given)
        if "=" in text or text in os.environ
    )


def _lines(file: str) -> Iterator[str]:
    try:
        with open(file, encoding="utf-8") as source:
            text = source.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--env-file {file}: {getattr(error, 'strerror', None) or error}") from error
    for number, line in enumerate(text.splitlines(), 1):
        written = line.lstrip()
        if not written or written.startswith("#"):
            continue
        name = written.partition("=")[0]
        if not name or any(letter.isspace() for letter in name):
            raise UserError(f"{file}:{number}: {name!r} is no name of a variable", hint="Write NAME=VALUE, or NAME.")
        yield written


def _run(channel: Channel, request: ExecRequest | BeginRequest) -> int:
    if isinstance(request, BeginRequest):
        return converse(channel, request, None, resizes=False)
    with ExitStack() as stack:
        typed = sys.stdin.fileno() if request.stdin else None
        if request.tty and typed is not None:
            stack.enter_context(raw(typed))
        return converse(channel, request, typed, resizes=request.tty)


def converse(
    channel: Channel, request: Request | None, typed: int | None, *, resizes: bool, passes_signals: bool = True,
    started: Callable[[bytes], None] | None = None, read: Callable[[bytes], bytes] | None = None,
) -> int:  # fmt: skip
    """Carry a terminal or pipes, and signals, to a program elsewhere, and give its exit code.

    `request` is None where it has been made. `read` is given what is typed, and gives what of it is passed on.
    """
    output = sys.stdout.fileno()
    counted = 0
    caught_ones = (*(PASSED_ON if passes_signals else ()), *((signal.SIGWINCH,) if resizes else ()))
    with caught(caught_ones) as signals:

        def signalled() -> None:
            nonlocal counted
            for number in os.read(signals, 64):
                if number == signal.SIGWINCH:
                    if now := size(output):
                        channel.send_frame(size_frame(*now))
                    continue
                counted += 1
                if number == signal.SIGHUP or counted >= PATIENCE:
                    raise SystemExit(128 + number)
                channel.send(Kind.SIGNAL, signal.Signals(number).name.removeprefix("SIG").encode())

        if request is not None:
            channel.request(request)
        sinks = {Kind.OUTPUT: output, Kind.ERROR_OUTPUT: sys.stderr.fileno()}
        try:
            return Pump(channel, typed, sinks, signals=signals, signalled=signalled, started=started, read=read).run()
        except StackyardError as error:
            where = f"{channel.task} on {channel.node}" if channel.node else channel.task
            raise type(error)(f"{where}: {error.message}", hint=error.hint) from error
