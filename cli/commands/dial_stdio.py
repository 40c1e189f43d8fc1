"""`stack dial-stdio`: what `ssh` starts on a manager's host for contexts of the form ssh://HOST."""

from __future__ import annotations

import os
import select
import socket
import sys

import click

from cli.client.contexts import DEFAULT_SOCKET
from cluster.errors import Unavailable

_AT_ONCE = 2**16


@click.command("dial-stdio")
@click.argument("path", default=str(DEFAULT_SOCKET), metavar="[SOCKET]")
def dial_stdio(path: str) -> None:
    """Join standard input and output to the socket of this host's manager, for `stack` on another host.

    \b
    ssh root@manager.example.org stack dial-stdio
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as manager:
        try:
            manager.connect(path)
        except OSError as error:
            raise Unavailable(
                f"no manager answers at {path}: {error.strerror or error}", hint="Is it running? The socket is root's."
            ) from error
        carry(manager, sys.stdin.fileno(), sys.stdout.fileno())


def carry(manager: socket.socket, source: int, sink: int) -> None:
    """Carry bytes both ways, each at its reader's pace, until the manager's side or both have ended."""
    reading = [source, manager.fileno()]
    while manager.fileno() in reading:
        for ready in select.select(reading, [], [])[0]:
            data = os.read(ready, _AT_ONCE)
            if not data:
                reading.remove(ready)
                if ready == source:
                    manager.shutdown(socket.SHUT_WR)
            elif ready == source:
                manager.sendall(data)
            else:
                _write(sink, data)


def _write(sink: int, data: bytes) -> None:
    while data:
        data = data[os.write(sink, data) :]
