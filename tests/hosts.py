"""Addresses where nobody answers: of a host that is off, of a frozen program, and of one that has gone."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def silent_host() -> Iterator[str]:
    """An address where a connection is neither taken nor refused: the queue of those that wait is full."""
    with ExitStack() as opened:
        server = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield f"https://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def frozen_host() -> Iterator[str]:
    """An address where the kernel takes connections for a program that never looks at them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"https://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def refusing_host() -> Iterator[str]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"https://127.0.0.1:{bound.getsockname()[1]}"
