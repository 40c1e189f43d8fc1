"""Local TCP ports that lead to ports of tasks: each connection has a channel and a thread of its own."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial

from cli.client.channel import open_channel
from cli.client.contexts import Context
from cli.client.pump import Pump
from cli.client.transport import Transport
from cluster.channel import Kind, PortRequest
from cluster.errors import StackyardError, UserError

AT_ONCE = 400
"""Connections at a time: each takes two descriptors of the thousand that a program may have. More wait."""


def listen(address: str, port: int) -> socket.socket:
    """Listen on a local port; 0 is any free one."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise UserError(f"cannot listen on {address} port {port}: {error}", hint="Give another port.") from error
    return listener


def forward(context: Context, task: str, ports: Mapping[socket.socket, int], say: Callable[[str], None]) -> None:
    """Carry the connections to these listeners to ports of a task, for ever; `say` is told what fails."""
    room = threading.BoundedSemaphore(AT_ONCE)

    def carry(local: socket.socket, port: int) -> None:
        try:
            with closing(local), closing(Transport(context)) as transport:
                _carry(transport, task, local, port)
        except (StackyardError, OSError) as error:
            say(f"a connection to port {port} ended: {error}")
        finally:
            room.release()

    while True:
        for listener in select.select(list(ports), [], [])[0]:
            room.acquire()
            local, _ = listener.accept()
            threading.Thread(target=partial(carry, local, ports[listener]), daemon=True).start()


def _carry(transport: Transport, task: str, local: socket.socket, port: int) -> None:
    with closing(open_channel(transport, task, "port")) as channel:
        local.setblocking(False)
        local.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        channel.request(PortRequest(port))
        end = partial(local.shutdown, socket.SHUT_WR)
        Pump(channel, local.fileno(), {Kind.OUTPUT: local.fileno()}, ended=end).run()
