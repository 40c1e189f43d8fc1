"""`stack attach`: the program that a task runs, as if it ran here."""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing

import click

from cli.client.channel import open_channel
from cli.client.terminal import raw, size
from cli.commands import completion
from cli.commands.exec import converse
from cli.commands.session import transport
from cluster.channel import AttachRequest

LEAVE = b"\x10\x11"  # Ctrl-P Ctrl-Q, as with docker attach


class Left(Exception):
    """The person has typed what leaves the program alone."""


@click.command()
@click.option("--no-stdin", is_flag=True, help="Pass nothing on of what is typed.")
@click.option("--sig-proxy/--no-sig-proxy", default=True, help="Pass signals on to the program (as is unless told).")
@click.argument("task", shell_complete=completion.services_and_tasks)
def attach(no_stdin: bool, sig_proxy: bool, task: str) -> int:
    """Join the program that a task runs, on whichever node: what it prints from now on, and its exit code.

    What is typed goes to it if its service says `stdin_open`; with `tty` Ctrl-P Ctrl-Q leaves it, and it goes on.
    Otherwise Ctrl-C and other signals go to it, unless --no-sig-proxy is given.

    \b
    stack attach web.2
    stack attach --no-sig-proxy shop_web.1
    """
    request = AttachRequest(not no_stdin, size(sys.stdout.fileno()))
    watch = _Watch()
    with (
        closing(transport()) as way,
        closing(open_channel(way, task, "attach")) as channel,
        ExitStack() as stack,
    ):
        typed = None if no_stdin else sys.stdin.fileno()

        def started(told: bytes) -> None:
            if sys.stdin.isatty() and sys.stderr.isatty():
                click.echo(
                    _how_to_leave(channel.task, tty=told == b"tty" and typed is not None, passed=sig_proxy), err=True
                )
            if told == b"tty" and typed is not None and sys.stdin.isatty():
                stack.enter_context(raw(typed))
                watch.on = True

        try:
            return converse(
                channel, request, typed, resizes=True, passes_signals=sig_proxy, started=started, read=watch.read
            )
        except Left:
            return 0


def _how_to_leave(task: str, *, tty: bool, passed: bool) -> str:
    if tty:
        return f"joined {task}: Ctrl-P Ctrl-Q leaves it"
    if passed:
        return f"joined {task}: Ctrl-C goes to its program, and may end it; with --no-sig-proxy it leaves it instead"
    return f"joined {task}: Ctrl-C leaves it"


class _Watch:
    """Looks for LEAVE in what is typed at a terminal."""

    def __init__(self) -> None:
        self.on = False
        self._begun = False

    def read(self, data: bytes) -> bytes:
        """Give what is to be passed on. Raises Left."""
        if not self.on:
            return data
        typed = (LEAVE[:1] if self._begun else b"") + data
        if LEAVE in typed:
            raise Left
        self._begun = typed.endswith(LEAVE[:1])
        return typed[:-1] if self._begun else typed
