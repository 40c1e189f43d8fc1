"""Connections to whichever of several managers answers first: one whose host is off costs a moment, not a time-out.

They are dialled as RFC 8305 has it for the addresses of one name: each a moment after the one before, or as soon as
that has failed. The race is won with the TLS handshake, for the kernel takes connections for a frozen manager
too. Nothing is asked of anybody before one of them is chosen.
"""

from __future__ import annotations

import errno
import math
import os
import selectors
import socket
import ssl
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

HEAD_START = 0.25
"""Seconds that each has before the next one is dialled beside it."""


@dataclass(slots=True)
class Race:
    """What came of it: `connection` to `winner`, or None; and why others failed, by URL."""

    winner: str = ""
    connection: ssl.SSLSocket | None = None
    failures: dict[str, OSError] = field(default_factory=dict)


class _Address(NamedTuple):
    url: str
    family: int
    where: Any


@dataclass(slots=True, eq=False)
class _Attempt:
    url: str
    socket: socket.socket
    end: float
    awaits: int = selectors.EVENT_WRITE

    def go_on(self, tls: ssl.SSLContext, timeout: float) -> bool:
        """Do what can be done as the socket is ready, and tell whether that was the last of it. Raises OSError."""
        if not isinstance(self.socket, ssl.SSLSocket):
            if number := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(number, os.strerror(number))
            host = urllib.parse.urlsplit(self.url).hostname
            self.socket = tls.wrap_socket(self.socket, server_hostname=host, do_handshake_on_connect=False)
            self.end = time.monotonic() + timeout
        try:
            self.socket.do_handshake()
        except ssl.SSLWantReadError:
            self.awaits = selectors.EVENT_READ
        except ssl.SSLWantWriteError:
            self.awaits = selectors.EVENT_WRITE
        else:
            return True
        return False


def race(urls: Sequence[str], timeout: float, tls: ssl.SSLContext) -> Race:
    """Dial these in their order, each for so many seconds at most, and as many for its handshake.

    What then is done with the connection blocks for as long at most.
    """
    found = Race()
    addresses = _addresses(urls, found)
    under_way: list[_Attempt] = []
    try:
        while True:
            if (address := next(addresses, None)) is not None:
                try:
                    under_way.append(_begun(address, timeout))
                except OSError as refused:
                    found.failures[address.url] = refused
                    continue
            elif not under_way:
                return found
            if (winner := _first(under_way, found, tls, timeout, wait=address is None)) is not None:
                under_way.remove(winner)
                winner.socket.settimeout(timeout)
                found.winner, found.connection = winner.url, cast(ssl.SSLSocket, winner.socket)
                found.failures.pop(winner.url, None)  # of another address of the same name
                return found
    finally:
        for attempt in under_way:
            attempt.socket.close()


def _addresses(urls: Sequence[str], found: Race) -> Iterator[_Address]:
    """Look up each name when its turn has come."""
    for url in urls:
        parts = urllib.parse.urlsplit(url)
        try:
            answers = socket.getaddrinfo(parts.hostname or "", parts.port or 443, type=socket.SOCK_STREAM)
        except OSError as error:
            found.failures[url] = error
            continue
        for family, _, _, _, where in answers:
            yield _Address(url, family, where)


def _begun(address: _Address, timeout: float) -> _Attempt:
    dialling = socket.socket(address.family, socket.SOCK_STREAM)
    dialling.setblocking(False)
    dialling.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    number = dialling.connect_ex(address.where)
    if number not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
        dialling.close()
        raise OSError(number, os.strerror(number))
    return _Attempt(address.url, dialling, time.monotonic() + timeout)


def _first(
    under_way: list[_Attempt], found: Race, tls: ssl.SSLContext, timeout: float, *, wait: bool
) -> _Attempt | None:
    """Give the first that is through. None when one has failed, which is then told and left out, or a moment is over.

    With `wait` nobody else can be dialled, and it lasts until one of the two comes true.
    """
    until = math.inf if wait else time.monotonic() + HEAD_START
    while True:
        wake = min(until, *(attempt.end for attempt in under_way))
        with selectors.DefaultSelector() as selector:
            for attempt in under_way:
                selector.register(attempt.socket, attempt.awaits, attempt)
            ready = [key.data for key, _ in selector.select(max(0.0, wake - time.monotonic()))]
        now, failed = time.monotonic(), False
        for attempt in list(under_way):
            try:
                if attempt in ready:
                    if attempt.go_on(tls, timeout):
                        return attempt
                elif now >= attempt.end:
                    raise TimeoutError("timed out")
            except OSError as error:
                attempt.socket.close()
                under_way.remove(attempt)
                found.failures[attempt.url] = error
                failed = True
        if failed or now >= until:
            return None
