"""What the tests of sessions play on: a manager's sessions, toy agents that speak the real protocol, and records."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from cluster import codec, pki
from cluster.assignments import Item
from cluster.codec import Record
from cluster.model.container import ContainerSpec
from cluster.model.network import Endpoint, Network, NetworkSpec
from cluster.model.node import Manager, Node, Session
from cluster.model.service import NetworkAttachment, PortSpec, ServiceSpec, ServiceState
from cluster.model.stack import ServiceVersion, Stack, StackRevision, StackSpec
from cluster.model.task import Task, TaskState, TaskStatus, task_id
from cluster.protocol import (
    OLDEST_VERSION,
    VERSION,
    Beat,
    Hello,
    Page,
    Statuses,
    ToAgent,
    ToManager,
    Welcome,
    decode_to_agent,
    encode,
)
from manager.api.app import create_app
from manager.api.callers import Caller, of_certificate
from manager.api.core import Core
from manager.api.server import serving_tls
from manager.audit import Audit
from manager.authority import Authority, found
from manager.etcd import Etcd, delete, put
from manager.events import EventLog
from manager.follow import Follower
from manager.presence import Presence
from manager.secrets import Vault
from manager.sessions.registry import Sessions
from manager.tls import Others, Tls
from manager.upkeep import Upkeep
from tests.etcd_server import Servers, loopback_address
from tests.manager.managers import description
from tests.patience import PATIENCE

M = TypeVar("M")
PORT = 2377


class ToyAgent:
    """Speaks the protocol, one message at a time as the test wants; keeps the set that it was given."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, node: str) -> None:
        self.socket = socket
        self.node = node
        self.welcome: Welcome | None = None
        self.items: dict[str, Item] = {}
        self.pages: list[Page] = []
        self.others: list[ToAgent] = []
        self._beating: asyncio.Task[None] | None = None

    async def say(self, message: ToManager) -> None:
        await self.socket.send_bytes(encode(message))

    async def hear(self, kind: type[M]) -> M:
        """Read up to the next message of a kind; assignments on the way are taken in."""
        async with asyncio.timeout(PATIENCE):
            while True:
                frame = await self.socket.receive()
                assert frame.type is aiohttp.WSMsgType.BINARY, f"closed with {self.socket.close_code}"
                message = decode_to_agent(frame.data)
                if isinstance(message, Page):
                    self._take(message)
                if isinstance(message, kind):
                    return message
                self.others.append(message)

    async def hello(self, address: str = "127.0.0.1", cluster: str = "", **more: Any) -> None:
        versions = {"oldest_version": OLDEST_VERSION, "newest_version": VERSION} | more
        await self.say(Hello(description=description(self.node, address), cluster=cluster, **versions))

    async def full_set(self) -> Page:
        """Read pages up to the last one of a full set."""
        while True:
            page = await self.hear(Page)
            if page.full and page.last:
                return page

    async def next_set(self) -> list[Page]:
        """Read the pages of the next set."""
        before = len(self.pages)
        while not (await self.hear(Page)).last:
            pass
        return self.pages[before:]

    async def report(self, sequence: int, *statuses: TaskStatus) -> None:
        await self.say(Statuses(sequence, statuses))

    async def closed(self) -> int | None:
        async with asyncio.timeout(PATIENCE):
            while not self.socket.closed:
                await self.socket.receive()
        return self.socket.close_code

    def beat(self) -> None:
        self._beating = asyncio.create_task(self._beat())

    async def fall_silent(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)

    async def _beat(self) -> None:
        while True:
            await self.say(Beat())
            await asyncio.sleep(0.5)

    def _take(self, page: Page) -> None:
        first = not self.pages or self.pages[-1].last
        self.pages.append(page)
        if page.full and first:
            self.items = {}
        self.items.update((item.ident, item) for item in page.items)
        for ident in page.removed:  # what came and went meanwhile is named too, as no agent minds
            self.items.pop(ident, None)


class Stage:
    """One manager's sessions. `etcd` is the test's own hand in the records."""

    def __init__(
        self, etcd: Etcd, follower: Follower, sessions: Sessions, authority: Authority, base: str, directory: Path
    ) -> None:
        self.etcd = etcd
        self.follower = follower
        self.sessions = sessions
        self.authority = authority
        self.base = base
        self.directory = directory
        self.stack = AsyncExitStack()
        self.http: dict[str, aiohttp.ClientSession] = {}
        self.absent = [0.0]
        """For how many seconds the manager has had no lease."""

    async def write(self, *records: Record) -> int:
        """Store records, and wait until the picture shows them."""
        result = await self.etcd.txn((), [put(codec.key_of(record), codec.encode(record)) for record in records])
        await self.follower.reached(result.revision)
        return result.revision

    async def remove(self, *records: Record) -> None:
        result = await self.etcd.txn((), [delete(codec.key_of(record)) for record in records])
        await self.follower.reached(result.revision)

    async def read(self, kind: type[M], ident: str) -> M | None:
        key = codec.key_for(kind, ident)
        stored = await self.etcd.get(key)
        record: Any = None if stored is None else codec.decode(key, stored.value)
        return record  # type: ignore[no-any-return]

    async def session(self, node: str) -> Session:
        record = await self.read(Session, node)
        assert record is not None
        return record

    async def shows(self, node: str, **fields: Any) -> Session:
        """Wait until a node's session record has these values."""
        changed = asyncio.Event()
        with self.follower.listening(lambda _: changed.set()):
            async with asyncio.timeout(PATIENCE):
                while True:
                    changed.clear()
                    record = self.follower.state.sessions.get(node)
                    if record is not None and all(getattr(record, name) == value for name, value in fields.items()):
                        return record
                    await changed.wait()

    async def connect(self, node: str) -> ToyAgent:
        """Dial in with a node's certificate, and say nothing yet."""
        if node not in self.http:
            key = pki.new_key()
            who = pki.Identity(self.authority.cluster, "node", node, "worker")
            signed = pki.issue(self.authority.ca, pki.new_csr(key), who, now=time.time())
            files = self.directory / f"{node}.pem", self.directory / f"{node}-key.pem"
            files[0].write_text(signed)
            files[1].write_text(key)
            tls = pki.client_context(self.authority.ca.certificate, str(files[0]), str(files[1]))
            session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls))
            self.http[node] = await self.stack.enter_async_context(session)
        socket = await self.http[node].ws_connect(f"{self.base}/v1/agent/session", max_msg_size=1 << 20)
        agent = ToyAgent(socket, node)
        self.stack.push_async_callback(agent.socket.close)
        self.stack.push_async_callback(agent.fall_silent)
        return agent

    async def agent(self, node: str, **hello: Any) -> ToyAgent:
        """An agent in an open session, with its first full set."""
        agent = await self.connect(node)
        await agent.hello(**hello)
        agent.welcome = await agent.hear(Welcome)
        agent.beat()
        await agent.full_set()
        return agent

    async def dial(self, node: str, ticket: str) -> aiohttp.ClientWebSocketResponse:
        socket = await self.http[node].ws_connect(f"{self.base}/v1/agent/streams/{ticket}")
        self.stack.push_async_callback(socket.close)
        return socket


@asynccontextmanager
async def staged(servers: Servers, directory: Path, manager: str = "m1") -> AsyncIterator[Stage]:
    """Sessions that are served until the end of the block."""
    async with Etcd.connect(servers.endpoints) as etcd:
        authority = await found(etcd, now=time.time())
        follower = Follower(etcd)
        absent = [0.0]
        sessions = Sessions(
            etcd, follower, cluster=authority.cluster, manager=manager, clock=time.time, absent_for=lambda: absent[0]
        )
        async with asyncio.TaskGroup() as group:
            following = group.create_task(follower.run())
            await follower.loaded.wait()
            watching = group.create_task(sessions.run())
            host = loopback_address()
            nobody = Manager("m0", manager, "", 0.0)
            async with aiohttp.ClientSession() as others:
                tls = Tls(authority, nobody.id, (host,), directory)
                called = Others(others, tls)
                vault = Vault(directory, etcd, called, list)
                # not run: agents alone are served
                presence = Presence(etcd, follower, nobody, time.time, vault.unlocked, sessions.latencies.observe)
                log, events = Audit(etcd, time.time, lambda: False), EventLog(follower, time.time, manager)
                core = Core(
                    etcd,
                    follower,
                    sessions,
                    authority,
                    presence,
                    time.time,
                    asyncio.Event(),
                    called,
                    vault,
                    log,
                    events,
                    Upkeep(etcd, presence, time.time, None),
                )
                async with _serving(core, host, tls):
                    stage = Stage(etcd, follower, sessions, authority, f"https://{host}:{PORT}", directory)
                    stage.absent = absent
                    async with stage.stack:
                        yield stage
                    await sessions.stop()
            following.cancel()
            watching.cancel()


@asynccontextmanager
async def _serving(core: Core, host: str, tls: Tls) -> AsyncIterator[None]:
    def caller_of(peer: bytes | None) -> Caller:
        return of_certificate(core.authority.cluster, peer)

    async with serving_tls(create_app(core), host, PORT, lambda: tls.server, caller_of):
        yield


# Records


def node(name: str) -> Node:
    return Node(id=name, name=name, role="worker", joined_at=1.0)


def service(replicas: int = 1, ports: tuple[PortSpec, ...] = (), image: str = "web") -> ServiceSpec:
    return ServiceSpec(
        "web", ContainerSpec(image), (NetworkAttachment("front", ("web",)),), replicas=replicas, ports=ports
    )


def shop(spec: ServiceSpec | None = None, n: int = 1) -> tuple[Record, ...]:
    """A stack with one service, and what the leader makes of it at first."""
    spec = spec or service()
    stack = StackSpec("shop", {"web": spec}, {"front": NetworkSpec("front", "shop_front")})
    revision = StackRevision("s1", n, stack, {"web": ServiceVersion("u1", 1)}, "ann", "", 1.0, f"op{n}")
    return (
        revision,
        Stack("s1", "shop", n, f"op{n}"),
        ServiceState("u1", "s1", "shop", "web"),
        Network("f1", "shop_front", "s1", "front", 4097, ("10.128.0.0/20",)),
    )


def task(slot: int, on: str, n: int = 1, network: str = "f1") -> Task:
    address = f"10.128.{slot // 250}.{slot % 250 + 2}"
    return Task(
        task_id("u1", slot, n), "s1", "u1", slot, n, 1, 1.0, on, endpoints=(Endpoint(network, (address,), ("web",)),)
    )


def status(task: Task, state: TaskState = TaskState.RUNNING, **more: Any) -> TaskStatus:
    return replace(TaskStatus(task.id, state, at=5.0, container="c1"), **more)
