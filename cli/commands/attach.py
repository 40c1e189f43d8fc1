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
from cluster.errors import UserError

LEAVE = "ctrl-p,ctrl-q"  # as with docker attach


class Left(Exception):
    """The person has typed what leaves the program alone."""


class _Attach(click.Command):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        written = {"--sig-proxy=true": "--sig-proxy", "--sig-proxy=false": "--no-sig-proxy"}  # as docker has it
        return super().parse_args(ctx, [written.get(word, word) for word in args])


@click.command(cls=_Attach)
@click.option("--detach-keys", default=LEAVE, metavar="KEYS", help="What leaves a terminal (ctrl-p,ctrl-q).")
@click.option("--no-stdin", is_flag=True, help="Pass nothing on of what is typed.")
@click.option("--sig-proxy/--no-sig-proxy", default=True, help="Pass signals on to the program (as is unless told).")
@click.argument("task", shell_complete=completion.services_and_tasks)
def attach(detach_keys: str, no_stdin: bool, sig_proxy: bool, task: str) -> int:
    """Join the program that a task runs, on whichever node: what it prints from now on, and its exit code.

    What is typed goes to it if its service says `stdin_open`; with `tty` Ctrl-P Ctrl-Q leaves it, and it goes on.
    Otherwise Ctrl-C and other signals go to it, unless --no-sig-proxy is given.

    \b
    stack attach web.2
    stack attach --no-sig-proxy shop_web.1
    """
    request = AttachRequest(not no_stdin, size(sys.stdout.fileno()))
    watch = _Watch(_keys(detach_keys))
    with (
        closing(transport()) as way,
        closing(open_channel(way, task, "attach")) as channel,
        ExitStack() as stack,
    ):
        typed = None if no_stdin else sys.stdin.fileno()

        def started(told: bytes) -> None:
            if sys.stdin.isatty() and sys.stderr.isatty():
                at_tty = told == b"tty" and typed is not None
                click.echo(_how_to_leave(channel.task, detach_keys if at_tty else "", passed=sig_proxy), err=True)
            if told == b"tty" and typed is not None and sys.stdin.isatty():
                stack.enter_context(raw(typed))
                watch.on = True

        try:
            return converse(
                channel, request, typed, resizes=True, passes_signals=sig_proxy, started=started, read=watch.read
            )
        except Left:
            return 0


def _how_to_leave(task: str, keys: str, *, passed: bool) -> str:
    if keys:
        return f"joined {task}: {' '.join(key.title() for key in keys.split(','))} leaves it"
    if passed:
        return f"joined {task}: Ctrl-C goes to its program, and may end it; with --no-sig-proxy it leaves it instead"
    return f"joined {task}: Ctrl-C leaves it"


def _keys(text: str) -> bytes:
    """Read keys as docker has them: letters, and such as ctrl-p, ctrl-@ or ctrl-[, with commas between them."""
    keys = b""
    for key in text.split(","):
        control = key.lower().removeprefix("ctrl-")
        if len(key) == 1 and key.isascii():
            keys += key.encode()
        elif len(control) == 1 and control != key.lower() and 0 <= (code := ord(control.upper()) - ord("@")) < 32:
            keys += bytes((code,))
        else:
            raise UserError(f"--detach-keys {text}: {key!r} is no key", hint="Write such as ctrl-x,q or ctrl-p,ctrl-q.")
    return keys


class _Watch:
    """Looks for the keys that leave in what is typed at a terminal."""

    def __init__(self, keys: bytes) -> None:
        self.on = False
        self._keys = keys
        self._held = b""

    def read(self, data: bytes) -> bytes:
        """Give what is to be passed on; what may be the beginning of the keys is held back. Raises Left."""
        if not self.on:
            return data
        typed = self._held + data
        if self._keys in typed:
            raise Left
        longest = range(min(len(self._keys) - 1, len(typed)), 0, -1)
        held = next((count for count in longest if typed.endswith(self._keys[:count])), 0)
        self._held = typed[len(typed) - held :]
        return typed[: len(typed) - held]
