"""Connections to whichever of several managers takes one first: a host that is off costs a moment, not a time-out.

They are dialled as RFC 8305 has it for the addresses of one name: each a moment after the one before, or as soon as
that has failed. Only connecting is raced; nothing is said to anybody before one of them is chosen.
"""

from __future__ import annotations

import errno
import math
import os
import selectors
import socket
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

HEAD_START = 0.25
"""Seconds that each has before the next one is dialled beside it."""


@dataclass(slots=True)
class Race:
    """What came of it: `connection` to `winner`, or None; and why others failed, by URL."""

    winner: str = ""
    connection: socket.socket | None = None
    failures: dict[str, OSError] = field(default_factory=dict)


class _Address(NamedTuple):
    url: str
    family: int
    where: Any


class _Attempt(NamedTuple):
    url: str
    socket: socket.socket
    end: float


def race(urls: Sequence[str], timeout: float) -> Race:
    """Dial these in their order, each for so many seconds at most. The connection then blocks for as long at most."""
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
            until = math.inf if address is None else time.monotonic() + HEAD_START
            for attempt, error in _ended(under_way, until):
                under_way.remove(attempt)
                if error is None:
                    attempt.socket.settimeout(timeout)
                    found.winner, found.connection = attempt.url, attempt.socket
                    found.failures.pop(attempt.url, None)  # of another address of the same name
                    return found
                attempt.socket.close()
                found.failures[attempt.url] = error
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
    number = dialling.connect_ex(address.where)
    if number not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
        dialling.close()
        raise OSError(number, os.strerror(number))
    return _Attempt(address.url, dialling, time.monotonic() + timeout)


def _ended(under_way: Sequence[_Attempt], until: float) -> list[tuple[_Attempt, OSError | None]]:
    """Wait for some of them to end, but not longer than `until`; None with those that are connected."""
    wake = min(until, *(attempt.end for attempt in under_way))
    with selectors.DefaultSelector() as selector:
        for attempt in under_way:
            selector.register(attempt.socket, selectors.EVENT_WRITE, attempt)
        ready = [key.data for key, _ in selector.select(max(0.0, wake - time.monotonic()))]
    ended: list[tuple[_Attempt, OSError | None]] = []
    for attempt in under_way:
        if attempt in ready:
            number = attempt.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            ended.append((attempt, OSError(number, os.strerror(number)) if number else None))
        elif time.monotonic() >= attempt.end:
            ended.append((attempt, TimeoutError("timed out")))
    return ended
