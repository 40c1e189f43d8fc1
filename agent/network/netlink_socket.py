"""Netlink sockets: batches of messages that are answered one by one, transactions, and listings."""

from __future__ import annotations

import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence

from agent.network import netlink
from agent.network.netlink import Link, Neighbour, Request
from cluster.errors import Failed, Unavailable

log = logging.getLogger(__name__)

NETLINK_NETFILTER = 12

_BATCH = 100  # their answers fit the socket's receive buffer
_ANSWER = 1 << 18
_SEND_BUFFER = 1 << 17
_CARRIER_TIMEOUT, _CARRIER_PAUSE = 2.0, 0.0005
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_SO_SNDBUFFORCE = 32


class NetlinkError(Failed):
    """The kernel refused a message."""

    def __init__(self, about: str, code: int, words: str) -> None:
        detail = f" ({words})" if words else ""
        super().__init__(f"the kernel refused {about}: {os.strerror(code)}{detail}")
        self.code = code


class Netlink:
    """A netlink socket. It stays in the namespace of the thread that opened it; one batch at a time."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 30, 0))
        self._lock = threading.Lock()
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def send(self, *requests: Request) -> None:
        """Say all of it in order, hear every answer, then raise the first that was a refusal."""
        refused: NetlinkError | None = None
        for start in range(0, len(requests), _BATCH):
            refused = self._send(requests[start : start + _BATCH], []) or refused
        if refused is not None:
            raise refused

    def wait_running(self, index: int, name: str) -> None:
        """Wait until a link that was set up carries packets: the kernel gets to that a moment later, and tells nobody
        who did not listen before. A link that does not come to run in time is left to come later.
        """
        deadline = time.monotonic() + _CARRIER_TIMEOUT
        while time.monotonic() < deadline:
            if netlink.read_link(self.ask(netlink.get_link(index, name))).running:
                return
            time.sleep(_CARRIER_PAUSE)
        log.warning("link %s still carries nothing after %g s", name, _CARRIER_TIMEOUT)

    def _send(self, requests: tuple[Request, ...], answers: list[bytes]) -> NetlinkError | None:
        refused: NetlinkError | None = None
        with self._lock:
            first = self._sequence + 1
            self._sequence += len(requests)
            self._socket.send(b"".join(r.encode(first + offset) for offset, r in enumerate(requests)))
            waiting = len(requests)
            while waiting:
                for kind, flags, sequence, body in netlink.messages(self._receive()):
                    if not 0 <= sequence - first < len(requests):
                        continue
                    if kind != netlink.NLMSG_ERROR:
                        answers.append(body)
                        continue
                    waiting -= 1
                    code, words = netlink.error_of(flags, body)
                    request = requests[sequence - first]
                    if code and code not in request.tolerate and refused is None:
                        refused = NetlinkError(request.about, code, words)
        return refused

    def transact(self, requests: Sequence[Request]) -> None:
        """Do all of a batch of nf_tables messages or none; raises the first refusal.

        Only the last message is answered, and those that are refused: the answers of a large batch would not fit.
        """
        refused: NetlinkError | None = None
        with self._lock:
            begin = self._sequence + 1
            self._sequence += len(requests)
            first, *inner, last, end = requests
            numbered = enumerate(inner, begin + 1)
            data = first.encode(begin, answered=False) + b"".join(r.encode(n, answered=False) for n, r in numbered)
            data += last.encode(self._sequence - 1) + end.encode(self._sequence, answered=False)
            if len(data) > _SEND_BUFFER:
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 2 * len(data))
            self._socket.send(data)
            waiting = True
            while waiting:
                for kind, flags, sequence, body in netlink.messages(self._receive()):
                    if kind != netlink.NLMSG_ERROR or not begin <= sequence <= self._sequence:
                        continue
                    waiting = waiting and sequence not in (begin, self._sequence - 1)
                    code, words = netlink.error_of(flags, body)
                    if code and refused is None:
                        refused = NetlinkError(requests[sequence - begin].about, code, words)
        if refused is not None:
            raise refused

    def ask(self, request: Request) -> bytes:
        """Ask for one thing and give the answer, unread."""
        answers: list[bytes] = []
        refused = self._send((request,), answers)
        if refused is not None:
            raise refused
        return answers[0]

    def links(self) -> dict[int, Link]:
        found = (netlink.read_link(body) for body in self.dump(netlink.list_links()))
        return {link.index: link for link in found}

    def addresses(self) -> list[tuple[int, str, int]]:
        return [netlink.read_address(body) for body in self.dump(netlink.list_addresses())]

    def neighbours(self, family: int) -> list[Neighbour]:
        return [netlink.read_neighbour(body) for body in self.dump(netlink.list_neighbours(family))]

    def dump(self, request: Request) -> Iterator[bytes]:
        """Ask for a listing and give its entries, unread."""
        bodies: list[bytes] = []
        with self._lock:
            self._sequence += 1
            asked = self._sequence
            self._socket.send(request.encode(asked))
            while True:
                for answer, flags, sequence, body in netlink.messages(self._receive()):
                    if sequence != asked:
                        continue
                    if answer == netlink.NLMSG_DONE:
                        return iter(bodies)
                    if answer == netlink.NLMSG_ERROR:
                        code, words = netlink.error_of(flags, body)
                        raise NetlinkError(request.about, code, words)
                    bodies.append(body)

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_ANSWER)
        except BlockingIOError:
            raise Unavailable("the kernel did not answer on netlink for 30 s") from None
