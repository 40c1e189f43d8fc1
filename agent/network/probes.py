"""Probes between nodes: answers those of others for as long as the agent runs, and sends some when asked to.

Probes come in by a VXLAN link in a namespace without a name, that lives by the sockets opened in it: with the agent it
goes, and nothing is to be cleaned up. What is sent leaves from the node's own namespace, but for probes of checksums:
those leave by that link, so that everything is computed for them by who computes it for packets of containers.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

from agent.network import netlink
from agent.network.netlink_socket import Netlink
from agent.network.plan import VXLAN_PORT
from agent.network.probe_packets import (
    ETHERTYPE,
    PROBE_VNI,
    SMALLEST,
    Answer,
    Ask,
    mac_of,
    packet,
    read_answer,
    read_ask,
    read_summed,
    sizes_between,
    write_answer,
    write_ask,
    write_unsummed,
)
from cluster.errors import StackyardError
from cluster.examination import Probed, Target

T = TypeVar("T")

log = logging.getLogger(__name__)

WAITS = (0.5, 1.0, 2.0)
"""Seconds that answers are waited for before what is unanswered is sent again, and at last given up."""

_LINK, _INDEX, _LINK_MTU = "probes", 2, 1400
_BURST = 32
_AGAIN = 5.0
_MTU_DISCOVER = {socket.AF_INET: (socket.IPPROTO_IP, 10), socket.AF_INET6: (socket.IPPROTO_IPV6, 23)}
_DO_NOT_CUT = 3  # IP_PMTUDISC_PROBE: and do not go by what was learnt of the path before
_LARGEST = 65536
_PACKET_VNET_HDR = (263, 15, 1)  # SOL_PACKET: who computes a packet's checksum is told before it
_IPV4 = 0x0800


class Places(Protocol):
    """Where sockets can be opened (agent.network.wiring.Wiring)."""

    async def at_home(self, work: Callable[[], T]) -> T: ...
    async def apart(self, work: Callable[[Netlink, int], T]) -> T: ...


@dataclass(slots=True)
class _Way:
    """The probes to one target, as they are answered."""

    target: Target
    tried: set[int] = field(default_factory=set)
    passed: set[int] = field(default_factory=set)
    refused: str = ""
    answerer: str = ""
    ahead: float = 0.0
    give: float = float("inf")
    checks: bool = False
    summed: bool = False

    @property
    def between(self) -> tuple[int, int]:
        """The largest size that passed, and the least above it that did not."""
        passed = max(self.passed)
        return passed, min(size for size in self.tried if size > passed)

    def heard(self, answer: Answer, sent: float, came: float) -> None:
        self.passed.add(answer.size)
        self.answerer, self.checks = answer.node, answer.checks
        way, there = came - sent, (answer.came_at + answer.left_at) / 2
        if way / 2 < self.give:  # the quickest answer tells the time best
            self.give, self.ahead = way / 2, there - (sent + came) / 2

    def as_told(self) -> Probed:
        passed = max(self.passed, default=0)
        give = self.give if passed else 0.0
        spoilt = self.checks and not self.summed
        return Probed(self.target, passed, self.refused, self.answerer, round(self.ahead, 4), round(give, 4), spoilt)


@dataclass(frozen=True, slots=True)
class _Inside:
    """Sockets on the link for probes: of the probes themselves, of those of checksums, and to tell where nodes are."""

    heard: socket.socket
    frames: socket.socket
    rows: Netlink

    def close(self) -> None:
        for each in (self.heard, self.frames, self.rows):
            each.close()


class Probes:
    """Answers and sends probes of one node. `run` is its life."""

    def __init__(self, node: str, address: str, places: Places) -> None:
        self._node, self._address, self._places = node, address, places
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._inside: _Inside | None = None
        self.deaf = "the agent has only just started"
        """Why this node does not answer probes; "" if it does."""

    async def run(self) -> None:
        """Answer what comes, for ever."""
        loop = asyncio.get_running_loop()
        inside, sender = await self._listening()
        self._inside = inside
        try:
            loop.add_reader(inside.heard, self._serve, inside.heard, read_ask, sender)
            loop.add_reader(inside.frames, self._serve, inside.frames, read_summed, sender)
            await asyncio.Event().wait()
        finally:
            self._inside = None
            loop.remove_reader(inside.heard)
            loop.remove_reader(inside.frames)
            inside.close()
            sender.close()

    async def _listening(self) -> tuple[_Inside, socket.socket]:
        while True:
            try:
                inside = await self._places.apart(self._open_link)
                sender = await self._places.at_home(self._open_raw)
            except (StackyardError, OSError) as error:
                # An agent that has just ended still has the number, until the kernel gets to it.
                self.deaf = f"it cannot listen on UDP port {VXLAN_PORT}: {error}"
                log.info("probes of other nodes cannot be answered yet: %s", error)
                await asyncio.sleep(_AGAIN)
            else:
                self.deaf = ""
                return inside, sender

    def _open_link(self, home: Netlink, namespace: int) -> _Inside:
        link = netlink.add_vxlan(
            _INDEX, _LINK, namespace, master=0, vni=PROBE_VNI, local=self._address, port=VXLAN_PORT, mtu=_LINK_MTU
        )
        home.send(link)
        heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        heard.bind((_LINK, ETHERTYPE))
        frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        frames.setsockopt(*_PACKET_VNET_HDR)
        frames.bind((_LINK, _IPV4))
        return _Inside(heard, frames, Netlink())

    def _open_raw(self) -> socket.socket:
        raw = socket.socket(self._family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_RAW)
        if self._family == socket.AF_INET6:
            raw.setsockopt(socket.IPPROTO_IPV6, 36, 1)  # IPV6_HDRINCL
        return raw

    def _serve(self, heard: socket.socket, read: Callable[[bytes], Ask | None], sender: socket.socket) -> None:
        for _ in range(_BURST):
            try:
                ask = read(heard.recv(_LARGEST))
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                log.warning("a probe was lost: %s", error)
                return
            if ask is None or (":" in ask.address) != (":" in self._address):
                continue
            now = time.time()
            payload = write_answer(Answer(ask.ident, ask.size, self._node, now, now, checks=True))
            try:
                sender.sendto(packet(self._address, ask.address, ask.port, payload), (ask.address, 0))
            except OSError as error:
                log.debug("the answer to a probe was not taken: %s", error)

    async def send(self, targets: Iterable[Target], needed: int) -> list[Probed]:
        """Probe the ways to all targets at once, by small packets and by ones of the size `needed`.

        Where those do not pass, it is found out to a few bytes which do. Then by such whose checksums are left to who
        sends them on. Takes 4 s at most, 3 s more where sizes are looked for, and 4 s more where checksums are spoilt.
        """
        ways = [_Way(target) for target in targets]
        if not ways:
            return []
        sending = await self._places.at_home(self._open_sender)
        try:
            talk = _Talk(sending, self._address, partial(_say, sending), _Way.heard)
            await talk.probe({id(way): [SMALLEST, max(SMALLEST, needed)] for way in ways}, ways, WAITS)
            for _ in range(2):
                narrow = [way for way in ways if way.passed and needed not in way.passed]
                await talk.probe({id(way): sizes_between(*way.between) for way in narrow}, narrow, WAITS[:2])
            await self._probe_checksums(sending, [way for way in ways if way.checks])
            return [way.as_told() for way in ways]
        finally:
            sending.close()

    async def _probe_checksums(self, sending: socket.socket, ways: list[_Way]) -> None:
        inside = self._inside
        if inside is None:
            for way in ways:
                way.checks = False  # nobody can tell from here
            return
        rows = [netlink.set_remote_mac(_INDEX, mac_of(way.target.address), way.target.address) for way in ways]
        await self._places.at_home(lambda: inside.rows.send(*rows))

        def say(ask: Ask, target: str) -> None:
            try:
                inside.frames.send(write_unsummed(ask, target))
            except OSError as error:
                log.info("a probe of checksums was not taken: %s", error)

        def heard(way: _Way, *_: object) -> None:
            way.summed = True

        talk = _Talk(sending, self._address, say, heard)
        await talk.probe({id(way): [SMALLEST] for way in ways}, ways, WAITS)

    def _open_sender(self) -> socket.socket:
        sending = socket.socket(self._family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sending.bind((self._address, 0))
        sending.setsockopt(*_MTU_DISCOVER[self._family], _DO_NOT_CUT)
        return sending


def _say(sending: socket.socket, ask: Ask, target: str) -> None:
    sending.sendto(write_ask(ask, target), (target, VXLAN_PORT))


class _Talk:
    """Says probes, hears their answers by one socket, and passes them on with when they were said and heard."""

    def __init__(
        self,
        sending: socket.socket,
        address: str,
        say: Callable[[Ask, str], None],
        heard: Callable[[_Way, Answer, float, float], None],
    ) -> None:
        self._sending, self._say, self._heard = sending, say, heard
        self._address, self._port = address, sending.getsockname()[1]
        self._ident = secrets.token_bytes(6)
        self._ways: dict[bytes, _Way] = {}
        self._sent: dict[tuple[bytes, int], float] = {}
        self._answered: set[tuple[bytes, int]] = set()
        self._complete = asyncio.Event()

    async def probe(self, sizes: dict[int, list[int]], ways: Sequence[_Way], waits: Sequence[float]) -> None:
        """Send each way (by its id) probes of these sizes; again what is unanswered, as often as there are waits."""
        loop = asyncio.get_running_loop()
        self._ways = {self._ident + number.to_bytes(2, "big"): way for number, way in enumerate(ways)}
        loop.add_reader(self._sending, self._hear)
        try:
            for wait in waits:
                self._sent = {
                    (ident, size): 0.0
                    for ident, way in self._ways.items()
                    for size in sizes[id(way)]
                    if (ident, size) not in self._answered
                }
                for ident, size in tuple(self._sent):
                    self._send(ident, size)
                if not self._sent:
                    return
                self._complete.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._complete.wait()
        finally:
            loop.remove_reader(self._sending)

    def _send(self, ident: bytes, size: int) -> None:
        way = self._ways[ident]
        way.tried.add(size)
        address = way.target.address
        self._sent[ident, size] = time.time()
        try:
            self._say(Ask(ident, size, self._address, self._port), address)
        except BlockingIOError:
            return  # the next turn sends it again
        except OSError as error:
            if error.errno != errno.EMSGSIZE:  # that a link takes less is told by what passes
                way.refused = os.strerror(error.errno or 0)
            del self._sent[ident, size]

    def _hear(self) -> None:
        while True:
            try:
                answer = read_answer(self._sending.recv(_LARGEST))
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                continue  # what routers say of a probe; it stays unanswered
            way = None if answer is None else self._ways.get(answer.ident)
            if answer is None or way is None:
                continue
            sent = self._sent.pop((answer.ident, answer.size), None)
            if sent is not None:
                self._answered.add((answer.ident, answer.size))
                self._heard(way, answer, sent, time.time())
        if not self._sent:
            self._complete.set()
