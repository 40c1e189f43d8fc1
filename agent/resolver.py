"""The DNS server that each container finds at 127.0.0.11: names of its networks are known, the rest is passed on.

The sockets are opened in the sandboxes and served by the agent's event loop. Queries for names of the outside world go
to the servers that the service asks for, else to the node's own, from the node's namespace.

Where somebody keeps sockets for the next agent, what is asked while there is none waits in them: the agent is back
before a client asks again. Nothing is read from a sandbox's sockets before it is known what it may ask about.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agent import dns
from agent.dns import Answer, Query, Rcode
from agent.fdstore import FdStore
from agent.names import NetworkNames, Verdict, resolve
from agent.network import lookups
from agent.node_dns import PLACE, NodeDns
from cluster.assignments import AttachmentItem, Item, NetworkItem, PeerItem, ServiceItem, TaskItem, VipItem
from cluster.model.network import INGRESS, Endpoint

Asker = tuple[str, int]

log = logging.getLogger(__name__)

ADDRESS = (lookups.RESOLVER, lookups.LISTENING)
TTL = 1
"""Seconds. Endpoints come and go at any time and asking here costs less than a cache; some clients take 0 for never."""
VIRTUAL_TTL = 5
"""A virtual address stays for as long as its service; this is for a name that is given to another service."""

_UPSTREAM_TIMEOUT = 2.0  # a client asks again after 5 s: by then a second server should have been tried
_IDLE_TIMEOUT = 10.0
_MAX_TASKS = 200  # forwarded queries and streams of one sandbox; what is above gets no answer
_MAX_PREPARED = 4096
_BURST = 32  # queries of one sandbox before others have their turn
_LAST_ANSWERS = 2.0  # together with the next agent's start it is less than what a client waits
_ACCEPT_AGAIN = 1.0


class Sandboxes(Protocol):
    """What the resolver needs of the wiring: to open sockets inside a task's namespace, and to know those again."""

    def in_sandbox(self, task: str, work: Callable[[], tuple[socket.socket, socket.socket]]) -> Awaitable[
        tuple[socket.socket, socket.socket]
    ]: ...  # fmt: skip
    def holds(self, task: str, opened: socket.socket) -> bool: ...


@dataclass(frozen=True, slots=True)
class _Scope:
    """What a sandbox may ask about: its networks in order of attachment, servers for the outside (None: no outside)."""

    networks: tuple[NetworkNames, ...]
    stack: str
    servers: tuple[str, ...] | None


@dataclass(slots=True)
class _Door:
    """The open sockets of one sandbox."""

    udp: socket.socket
    tcp: socket.socket
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class Resolver:
    """Answers the queries of all sandboxes of this node. `update` it with every set of assignments."""

    def __init__(self, sandboxes: Sandboxes, resolv_conf: Path = PLACE, store: FdStore | None = None) -> None:
        self._sandboxes = sandboxes
        self._store = store or FdStore()
        self._node = NodeDns(resolv_conf)
        self._networks: dict[str, NetworkNames] = {}
        self._scopes: dict[str, _Scope] = {}
        self._doors: dict[str, _Door] = {}
        self._prepared: dict[tuple[str, bytes], Answer] = {}
        """By sandbox and query, but for its number, what is told until the next `update`."""
        self._unanswered: set[asyncio.Task[None]] = set()
        self._closing = False
        self._random = random.Random()

    def update(self, items: Iterable[Item]) -> None:
        """Take over a full set of assignments; answers are by it from now on."""
        networks: dict[str, NetworkItem] = {}
        peers: dict[str, dict[str, PeerItem]] = {}
        vips: dict[str, dict[str, VipItem]] = {}
        services: dict[tuple[str, int], ServiceItem] = {}
        tasks: list[TaskItem] = []
        by_hand: dict[str, set[str]] = {}
        for item in items:
            match item:
                case NetworkItem():
                    networks[item.network.id] = item
                case VipItem():
                    vips.setdefault(item.network, {})[item.service_uid] = item
                case PeerItem():
                    peers.setdefault(item.network, {})[item.owner] = item
                case ServiceItem():
                    services[item.uid, item.version] = item
                case TaskItem():
                    tasks.append(item)
                case AttachmentItem(endpoint=Endpoint(), removing=False) if item.container:
                    by_hand.setdefault(item.sandbox, set()).add(item.network)
                case _:
                    pass
        for gone in self._networks.keys() - networks.keys():
            del self._networks[gone]
        for name, network in networks.items():
            if name != INGRESS:
                names = self._networks.setdefault(name, NetworkNames(network.network.subnets))
                names.apply(peers.get(name, {}), vips.get(name, {}))
        scopes: dict[str, _Scope] = {}
        for each in tasks:
            task = each.task
            service = services.get((task.service_uid, task.version))
            attached = [e.network for e in task.endpoints if e.network in self._networks]
            if service is not None:
                inner = bool(attached) and all(networks[name].network.internal for name in attached)
                scopes[task.id] = _Scope(
                    tuple(self._networks[name] for name in attached), service.stack,
                    None if inner else service.spec.container.dns,
                )  # fmt: skip
        for sandbox, joined in by_hand.items():
            known = sorted(joined & self._networks.keys())
            inner = all(networks[name].network.internal for name in known)
            scopes[sandbox] = _Scope(tuple(self._networks[name] for name in known), "", None if inner else ())
        self._prepared.clear()
        # A container that still stops may ask until its end.
        before = self._scopes
        self._scopes = {task: scope for task, scope in before.items() if task in self._doors} | scopes
        for fresh in (scopes.keys() - before.keys()) & self._doors.keys():
            self._listen(fresh)

    def scopes(self) -> dict[str, tuple[tuple[NetworkNames, ...], str]]:
        """What each task may ask about: its networks, in order of attachment, and its stack."""
        return {task: (scope.networks, scope.stack) for task, scope in self._scopes.items()}

    def forget(self) -> None:
        """Begin anew with the next `update`, which else goes by what has changed."""
        self._networks.clear()

    def answers_in(self, task: str) -> bool:
        """Tell whether it is open in a sandbox."""
        return task in self._doors

    async def open(self, task: str) -> None:
        """Begin to answer in a task's sandbox, anew if it was made anew."""
        self.close(task)
        self.enter(task, *await self._sandboxes.in_sandbox(task, open_sockets))

    def enter(self, task: str, udp: socket.socket, tcp: socket.socket) -> None:
        """Begin to answer in a task's sandbox by sockets that were opened inside of it."""
        self.close(task)
        self._store.keep(task, udp, tcp)
        self._enter(task, udp, tcp)

    async def adopt(self, task: str) -> None:
        """Go on answering in a sandbox that an earlier process left, from its very sockets where they were kept."""
        kept = {each.type: each for each in self._store.take(task)}
        try:
            ours = len(kept) == 2 and all(self._sandboxes.holds(task, each) for each in kept.values())
            ours &= all(each.getsockname() == ADDRESS for each in kept.values())
        except OSError as error:
            log.info("what was kept for the names of task %s is of no use: %s", task, error)
            ours = False
        if ours:
            self._enter(task, kept[socket.SOCK_DGRAM], kept[socket.SOCK_STREAM])
            return
        for each in kept.values():
            each.close()
        if kept:
            self._store.forget(task)
        await self.open(task)

    def adopted(self) -> None:
        """Say that all sandboxes of earlier processes are adopted: what else was kept holds namespaces for nobody."""
        self._store.forget_rest()

    def close(self, task: str) -> None:
        """Stop answering in a task's sandbox, for good; no error if nothing is open there."""
        if task in self._doors:
            self._leave(task)
            self._store.forget(task)

    async def close_all(self) -> None:
        """Answer what was asked so far, and leave what is asked from now on to the next process."""
        self._closing = True
        for task in self._doors:
            self._deafen(task)
        if self._unanswered:
            await asyncio.wait(self._unanswered, timeout=_LAST_ANSWERS)
        for task in tuple(self._doors):
            self._leave(task)
        self._store.close()

    def _enter(self, task: str, udp: socket.socket, tcp: socket.socket) -> None:
        self._doors[task] = _Door(udp, tcp)
        if task in self._scopes:
            self._listen(task)

    def _leave(self, task: str) -> None:
        self._deafen(task)
        door = self._doors.pop(task)
        door.udp.close()
        door.tcp.close()
        for each in door.tasks:
            each.cancel()

    def _listen(self, task: str) -> None:
        door = self._doors.get(task)
        if door is not None and not self._closing:
            loop = asyncio.get_running_loop()
            loop.add_reader(door.udp, self._serve_udp, task, door.udp)
            loop.add_reader(door.tcp, self._accept, task, door.tcp)

    def _deafen(self, task: str) -> None:
        door, loop = self._doors[task], asyncio.get_running_loop()
        loop.remove_reader(door.udp)
        loop.remove_reader(door.tcp)

    def _begin(self, door: _Door, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        job = asyncio.get_running_loop().create_task(work)
        door.tasks.add(job)
        job.add_done_callback(door.tasks.discard)
        return job

    def _serve_udp(self, task: str, udp: socket.socket) -> None:
        for _ in range(_BURST):
            try:
                data, asker = udp.recvfrom(dns.MAX_MESSAGE)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                log.warning("a query in the sandbox of task %s was lost: %s", task, error)
                return
            answer = self._prepared.get((task, data[2:]))
            if answer is None:
                query = dns.read_query(data)
                if query is None:
                    continue
                answer = self._answer(task, query, query.limit)
                if answer is None:
                    self._forward_udp(task, udp, query, data, asker)
                    continue
                self._keep(task, data, answer)
            _send(udp, answer.message(data[:2], self._random.shuffle), asker)

    def _keep(self, task: str, data: bytes, answer: Answer) -> None:
        """Be quick when the same is asked again. The bounds are for who asks what is never asked again."""
        if len(data) <= dns.PLAIN_LIMIT:
            if len(self._prepared) >= _MAX_PREPARED:
                self._prepared.clear()
            self._prepared[task, data[2:]] = answer

    def _forward_udp(self, task: str, udp: socket.socket, query: Query, data: bytes, asker: Asker) -> None:
        door = self._doors.get(task)
        if door is None or len(door.tasks) >= _MAX_TASKS:
            return

        async def forward() -> None:
            _send(udp, await self._forward(task, query, data, stream=False), asker)

        job = self._begin(door, forward())
        self._unanswered.add(job)
        job.add_done_callback(self._unanswered.discard)

    def _accept(self, task: str, tcp: socket.socket) -> None:
        try:
            asker, _ = tcp.accept()
        except (BlockingIOError, ConnectionError):
            return  # it is gone again
        except OSError as error:
            log.warning("streams of task %s for the resolver are not accepted for a moment: %s", task, error)
            loop = asyncio.get_running_loop()
            loop.remove_reader(tcp)
            loop.call_later(_ACCEPT_AGAIN, self._listen, task)
            return
        door = self._doors[task]
        if len(door.tasks) >= _MAX_TASKS:
            asker.close()
            return
        asker.setblocking(False)
        self._begin(door, self._serve_tcp(task, asker))

    async def _serve_tcp(self, task: str, asker: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=asker)
        here = asyncio.current_task()
        assert here is not None
        try:
            while not self._closing:
                async with asyncio.timeout(_IDLE_TIMEOUT):
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    data = await reader.readexactly(size)
                query = dns.read_query(data)
                if query is None:
                    return
                self._unanswered.add(here)
                answer = self._answer(task, query, dns.MAX_MESSAGE)
                if answer is None:
                    message = await self._forward(task, query, data, stream=True)
                else:
                    message = answer.message(data[:2], self._random.shuffle)
                writer.write(len(message).to_bytes(2, "big") + message)
                async with asyncio.timeout(_IDLE_TIMEOUT):
                    await writer.drain()
                self._unanswered.discard(here)
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            pass  # the asker has what it wanted, or is gone
        finally:
            self._unanswered.discard(here)
            writer.close()

    def _answer(self, task: str, query: Query, limit: int) -> Answer | None:
        """Answer from what is known; None if the question is for somebody else."""
        if query.problem is not None:
            return dns.prepare(query, rcode=query.problem)
        scope = self._scopes.get(task)
        if scope is None:
            return dns.prepare(query, rcode=Rcode.SERVFAIL)
        found = resolve(query.name, query.kind, scope.networks, scope.stack)
        if found.verdict is Verdict.ANSWER:
            ttl = VIRTUAL_TTL if found.virtual else TTL
            return dns.prepare(query, addresses=found.addresses, pointer=found.pointer, ttl=ttl, limit=limit)
        if found.verdict is Verdict.UNKNOWN or scope.servers is None:
            return dns.prepare(query, rcode=Rcode.NXDOMAIN)
        return None

    async def _forward(self, task: str, query: Query, data: bytes, *, stream: bool) -> bytes:
        """Ask one server after another until one knows."""
        scope = self._scopes.get(task)
        own = scope.servers if scope is not None else ()
        ident = self._random.getrandbits(16)
        asked = dns.with_id(data, ident)
        for server in dict.fromkeys(own or self._node.read().servers):
            try:
                async with asyncio.timeout(_UPSTREAM_TIMEOUT):
                    ask = _ask_stream if stream else _ask_datagram
                    answer = await ask(server, asked, ident, query.question)
            except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
                log.debug("DNS server %s gave no answer for %s: %s", server, query.name, error)
                continue
            if dns.answers_to(answer, ident, query.question) and not dns.failed(answer):
                return dns.with_id(answer, query.id)
        return dns.answer(query, rcode=Rcode.SERVFAIL)


def open_sockets() -> tuple[socket.socket, socket.socket]:
    """Open those that `enter` takes, inside of a sandbox."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        udp.bind(ADDRESS)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind(ADDRESS)
        tcp.listen(16)
    except OSError:
        udp.close()
        tcp.close()
        raise
    return udp, tcp


def _send(udp: socket.socket, answer: bytes, asker: Asker) -> None:
    try:
        udp.sendto(answer, asker)
    except OSError as error:
        log.debug("an answer was not taken: %s", error)


class _Datagrams(asyncio.DatagramProtocol):
    """Waits for the one datagram that answers what was asked."""

    def __init__(self, ident: int, question: bytes) -> None:
        self._ident, self._question = ident, question
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self.answer.done() and dns.answers_to(data, self._ident, self._question):
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _ask_datagram(server: str, asked: bytes, ident: int, question: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: _Datagrams(ident, question), remote_addr=(server, 53)
    )
    try:
        transport.sendto(asked)
        return await protocol.answer
    finally:
        transport.close()


async def _ask_stream(server: str, asked: bytes, ident: int, question: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(server, 53)
    try:
        writer.write(len(asked).to_bytes(2, "big") + asked)
        return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
    finally:
        writer.close()
