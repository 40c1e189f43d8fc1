"""The resolver in real sandboxes: asked from inside, by an independent client library and by the C library."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import cast

import dnslib
import pytest

from agent.fdstore import FdStore
from agent.network.wiring import Wiring
from agent.networks import Networks
from agent.resolver import Resolver
from cluster.assignments import Item, NetworkItem, ServiceItem, TaskItem
from cluster.model.container import ContainerSpec
from cluster.model.network import Network
from cluster.model.service import ServiceSpec
from cluster.model.task import Task
from tests.agent.network import underlay
from tests.agent.network.underlay import BACK, FRONT, INGRESS_NETWORK, Cluster
from tests.patience import PATIENCE

pytestmark = pytest.mark.root

SERVER = ("127.0.0.11", 53)
UPSTREAM, DEAF, OWN = "127.77.0.1", "127.77.0.2", "127.77.0.3"


class Names(Cluster):
    """The cluster's items with those that tell the resolver what a sandbox may ask."""

    dns: tuple[str, ...] = ()
    internal = False

    def items(self, node: str) -> list[Item]:
        items: list[Item] = [ServiceItem("uid", 1, "stack", ServiceSpec("web", ContainerSpec("web", dns=self.dns)))]
        for task, (where, endpoints) in self.tasks.items():
            if where == node:
                items.append(TaskItem(Task(task, "stack", "uid", 1, 1, 1, 0.0, node, endpoints=endpoints)))
        for item in super().items(node):
            if isinstance(item, NetworkItem) and self.internal:
                net = item.network
                internal = Network(net.id, net.name, net.stack_uid, net.key, net.vni, net.subnets, internal=True)
                item = NetworkItem(internal, item.node_addresses)
            items.append(item)
        return items


def connect(kind: socket.SocketKind) -> socket.socket:
    connected = socket.socket(socket.AF_INET, kind)
    connected.connect(SERVER)
    connected.setblocking(False)
    return connected


class Node:
    """A node with its wiring and resolver, to be asked from inside of its sandboxes."""

    def __init__(
        self, wiring: Wiring, cluster: Names, resolv_conf: Path = Path("/dev/null"), store: FdStore | None = None
    ) -> None:
        self.wiring, self.cluster, self.resolver = wiring, cluster, Resolver(wiring, resolv_conf, store)

    async def apply(self) -> None:
        items = self.cluster.items("h1")
        await self.wiring.apply(items)
        self.resolver.update(items)

    async def start(self, *tasks: str) -> None:
        await self.apply()
        for task in tasks:
            await self.wiring.create_sandbox(task, self.cluster.tasks[task][1])
            await self.resolver.open(task)

    async def send(self, task: str, data: bytes, kind: socket.SocketKind = socket.SOCK_DGRAM) -> socket.socket:
        connected = await self.wiring.in_sandbox(task, lambda: connect(kind))
        await asyncio.get_running_loop().sock_sendall(connected, data)
        return connected

    async def ask(self, task: str, name: str, kind: str = "A", *, tcp: bool = False, room: int = 0) -> dnslib.DNSRecord:
        query = dnslib.DNSRecord.question(name, kind)
        if room:
            query.add_ar(dnslib.EDNS0(udp_len=room))
        sent, loop = bytes(query.pack()), asyncio.get_running_loop()
        size = len(sent).to_bytes(2, "big") if tcp else b""
        with await self.send(task, size + sent, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as connected:
            async with asyncio.timeout(PATIENCE):
                data = await loop.sock_recv(connected, 65535)
                while tcp and len(data) < 2 + int.from_bytes(data[:2], "big"):
                    data += await loop.sock_recv(connected, 65535)
        answer = dnslib.DNSRecord.parse(data[2:] if tcp else data)
        assert answer.header.id == query.header.id
        return answer

    async def addresses(self, task: str, name: str, kind: str = "A") -> set[str]:
        answer = await self.ask(task, name, kind)
        assert answer.header.rcode == dnslib.RCODE.NOERROR
        return {str(record.rdata) for record in answer.rr}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    (tmp_path / "resolv.conf").write_text(f"search example.org\nnameserver {DEAF}\nnameserver {UPSTREAM}\n")
    with underlay.underlay():
        node = Node(underlay.wiring("h1"), Names(), tmp_path / "resolv.conf")
        await node.wiring.open()
        try:
            yield node
        finally:
            await node.resolver.close_all()
            await node.wiring.close()


class Upstream(asyncio.DatagramProtocol):
    """A DNS server of the outside: answers everything with one address, keeping note of what it was asked."""

    def __init__(self, address: str, rcode: int = 0) -> None:
        self.address, self.rcode, self.asked = address, rcode, list[str]()
        self.heard = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(self.answer(data), addr)

    async def stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        answer = self.answer(data)
        writer.write(len(answer).to_bytes(2, "big") + answer)
        writer.close()

    def answer(self, data: bytes) -> bytes:
        query = dnslib.DNSRecord.parse(data)
        self.asked.append(str(query.q.qname))
        self.heard.set()
        reply = query.reply()
        reply.header.rcode = self.rcode
        if not self.rcode:
            reply.add_answer(dnslib.RR(query.q.qname, ttl=77, rdata=dnslib.A(self.address)))
        return bytes(reply.pack())


@asynccontextmanager
async def serving(where: str, upstream: Upstream) -> AsyncIterator[Upstream]:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: upstream, local_addr=(where, 53))
    server = await asyncio.start_server(upstream.stream, where, 53)
    try:
        yield upstream
    finally:
        transport.close()
        server.close()
        await server.wait_closed()


async def test_names_are_answered_over_udp_and_tcp(node: Node) -> None:
    tasks = [node.cluster.task(n, "h1" if n == 1 else "h2", BACK) for n in (1, 2, 3)]
    node.cluster.unready.add(tasks[2])
    await node.start(tasks[0])

    assert await node.addresses(tasks[0], "web") == {"10.102.1.1", "10.102.1.2"}
    assert await node.addresses(tasks[0], "tasks.web", "AAAA") == {"fd00:102::1:1", "fd00:102::1:2"}
    assert await node.addresses(tasks[0], "WEB.2.") == {"10.102.1.2"}
    by_tcp = await node.ask(tasks[0], "web", tcp=True)
    assert len(by_tcp.rr) == 2 and by_tcp.rr[0].ttl == 1
    assert (await node.ask(tasks[0], "nobody")).header.rcode == dnslib.RCODE.NXDOMAIN
    pointer = await node.ask(tasks[0], "2.1.102.10.in-addr.arpa", "PTR")
    assert str(pointer.rr[0].rdata) == "stack_web.2."


async def test_answers_follow_the_assignments_at_once(node: Node) -> None:
    tasks = [node.cluster.task(n, "h1", FRONT) for n in (1, 2)]
    await node.start(tasks[0])
    node.cluster.unready.update(tasks)
    await node.apply()
    assert await node.addresses(tasks[0], "web") == set()
    node.cluster.unready.clear()
    await node.apply()
    assert await node.addresses(tasks[0], "web") == {"10.101.1.1", "10.101.1.2"}
    node.cluster.tasks.pop(tasks[1])
    await node.apply()
    assert await node.addresses(tasks[0], "web") == {"10.101.1.1"}


async def test_a_sandbox_knows_the_names_of_its_own_networks_only(node: Node) -> None:
    front, back = node.cluster.task(1, "h1", FRONT, INGRESS_NETWORK), node.cluster.task(2, "h1", BACK)
    await node.start(front, back)

    assert await node.addresses(front, "web") == {"10.101.1.1"}
    assert await node.addresses(back, "web") == {"10.102.1.2"}
    assert (await node.ask(front, back)).header.rcode == dnslib.RCODE.NXDOMAIN


async def test_many_addresses_are_cut_for_udp_and_whole_for_tcp(node: Node) -> None:
    tasks = [node.cluster.task(n, "h1", FRONT) for n in range(1, 101)]
    await node.start(tasks[0])

    plain, roomy = await node.ask(tasks[0], "web"), await node.ask(tasks[0], "web", room=1232)
    whole = await node.ask(tasks[0], "web", tcp=True)

    assert plain.header.tc and len(plain.rr) == 30
    assert roomy.header.tc and len(roomy.rr) == 75
    assert not whole.header.tc and len(whole.rr) == 100
    first = {str((await node.ask(tasks[0], "web")).rr[0].rdata) for _ in range(10)}
    assert len(first) > 1  # clients that take the first spread


async def test_who_asks_before_its_sandbox_is_known_waits_for_that(node: Node) -> None:
    task = node.cluster.task(1, "h1", FRONT)
    await node.wiring.apply(node.cluster.items("h1"))
    await node.wiring.create_sandbox(task, node.cluster.tasks[task][1])
    await node.resolver.open(task)

    early = [asyncio.create_task(node.ask(task, "web", tcp=tcp)) for tcp in (False, True)]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(early[0]), 0.1)
    await node.apply()

    assert [str((await answer).rr[0].rdata) for answer in early] == ["10.101.1.1"] * 2


async def test_other_names_are_passed_on_to_a_server_of_the_node_that_knows(node: Node) -> None:
    task = node.cluster.task(1, "h1", FRONT)
    await node.start(task)
    async with serving(DEAF, Upstream("", 5)) as refuses, serving(UPSTREAM, Upstream("192.0.2.1")) as upstream:
        answer = await node.ask(task, "example.org")
        assert (str(answer.rr[0].rdata), answer.rr[0].ttl) == ("192.0.2.1", 77)
        assert refuses.asked == upstream.asked == ["example.org."]
        assert str((await node.ask(task, "example.org", tcp=True)).rr[0].rdata) == "192.0.2.1"
    assert (await node.ask(task, "example.org")).header.rcode == dnslib.RCODE.SERVFAIL  # none is there


async def test_the_node_may_have_a_resolver_of_its_own_on_loopback_or_none_in_reach(node: Node, tmp_path: Path) -> None:
    task = node.cluster.task(1, "h1", FRONT)
    await node.start(task)
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n")
    async with serving("127.0.0.53", Upstream("192.0.2.1")):
        for tcp in (False, True):
            assert str((await node.ask(task, "example.org", tcp=tcp)).rr[0].rdata) == "192.0.2.1"
    for text in (f"nameserver {OWN}\n", "", "nameserver\n"):
        (tmp_path / "resolv.conf").write_text(text)
        assert (await node.ask(task, "example.org")).header.rcode == dnslib.RCODE.SERVFAIL
        assert await node.addresses(task, "web") == {"10.101.1.1"}


async def test_servers_of_a_service_are_asked_in_place_of_the_nodes(node: Node) -> None:
    task = node.cluster.task(1, "h1", FRONT)
    node.cluster.dns = (DEAF, OWN)
    await node.start(task)
    async with serving(UPSTREAM, Upstream("192.0.2.1")) as upstream, serving(OWN, Upstream("192.0.2.2")):
        assert await node.addresses(task, "example.org") == {"192.0.2.2"}
        assert upstream.asked == []


async def test_from_internal_networks_nothing_is_passed_on(node: Node) -> None:
    task = node.cluster.task(1, "h1", FRONT)
    node.cluster.internal = True
    await node.start(task)
    async with serving(UPSTREAM, Upstream("192.0.2.1")) as upstream:
        assert (await node.ask(task, "example.org")).header.rcode == dnslib.RCODE.NXDOMAIN
        assert upstream.asked == []


async def test_a_server_that_is_silent_is_given_up_for_the_next(node: Node) -> None:
    task = node.cluster.task(1, "h1", FRONT)
    await node.start(task)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind((DEAF, 53))
        async with serving(UPSTREAM, Upstream("192.0.2.1")):
            forwarded = asyncio.create_task(node.ask(task, "example.org"))
            assert await node.addresses(task, "web") == {"10.101.1.1"}  # not held up by the silence
            assert str((await forwarded).rr[0].rdata) == "192.0.2.1"


async def test_garbage_is_survived(node: Node) -> None:
    task = node.cluster.task(1, "h1", FRONT)
    await node.start(task)
    for data in (b"", b"x", b"\xff" * 600, b"\0" * 12, bytes(range(200))):
        (await node.send(task, data)).close()
        (await node.send(task, data, socket.SOCK_STREAM)).close()

    assert await node.addresses(task, "web") == {"10.101.1.1"}
    assert len((await node.ask(task, "web", tcp=True)).rr) == 1


async def test_the_c_library_is_content(node: Node, tmp_path: Path) -> None:
    task = node.cluster.task(1, "h1", FRONT)
    node.cluster.task(2, "h2", FRONT)
    await node.start(task)
    (tmp_path / "conf").write_text("nameserver 127.0.0.11\noptions ndots:0\n")
    script = f"mount --bind {tmp_path}/conf /etc/resolv.conf && exec getent ahosts $0"
    for name, expected in (("tasks.web", {"10.101.1.1", "10.101.1.2"}), ("web.2", {"10.101.1.2"}), ("nobody", set())):
        process = await asyncio.create_subprocess_exec(
            "nsenter", f"--net={node.wiring.namespace(task)}", "unshare", "--mount", "sh", "-c", script, name,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE):
            said, _ = await process.communicate()
        assert {line.split()[0] for line in said.decode().splitlines()} == expected


async def test_a_fresh_sandbox_is_answered_after_open_and_a_closed_one_no_more(node: Node) -> None:
    task = node.cluster.task(1, "h1", FRONT)
    await node.start(task)
    await node.wiring.create_sandbox(task, node.cluster.tasks[task][1])
    await node.resolver.open(task)
    assert await node.addresses(task, "web") == {"10.101.1.1"}

    node.resolver.close(task)

    def dial() -> int:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as asking:
            return asking.connect_ex(SERVER)

    assert await node.wiring.in_sandbox(task, dial) == errno.ECONNREFUSED


async def test_a_container_may_be_a_dns_server_itself(node: Node) -> None:
    def bind(address: str) -> list[socket.socket]:
        kinds = (socket.SOCK_DGRAM, socket.SOCK_STREAM)
        opened = [socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) for kind in kinds]
        for each in opened:
            each.bind((address, 53))
        opened[1].listen()
        opened[0].setblocking(False)
        return opened

    task = node.cluster.task(1, "h1", BACK)
    await node.start(task)
    for address in ("0.0.0.0", "::"):
        own = await node.wiring.in_sandbox(task, partial(bind, address))
        try:
            for tcp in (False, True):
                assert len((await node.ask(task, "web", tcp=tcp)).rr) == 1
            with pytest.raises(BlockingIOError):
                own[0].recv(1)
        finally:
            for each in own:
                each.close()


async def test_wiring_and_resolver_as_one(node: Node) -> None:
    one, two = node.cluster.task(1, "h1", FRONT), node.cluster.task(2, "h1", FRONT)
    networks = Networks(node.wiring, node.resolver)
    await networks.apply(node.cluster.items("h1"))
    for task in (one, two):
        await networks.create_sandbox(task, node.cluster.tasks[task][1])
    assert await node.addresses(one, "web") == {"10.101.1.1", "10.101.1.2"}
    await networks.delete_sandbox(two)
    await node.resolver.close_all()

    after = Node(underlay.wiring("h1"), node.cluster)
    again = Networks(after.wiring, after.resolver)
    try:
        await again.open()  # as after a restart of the agent
        await again.apply(node.cluster.items("h1"))
        assert "10.101.1.1" in await after.addresses(one, "web")
        await again.clean((), ())
        assert again.sandboxes() == frozenset()
    finally:
        await again.close()


class Keeper:
    """Keeps sockets for the next agent, as systemd does."""

    def __init__(self, path: Path) -> None:
        self.path, self.held = path, list[tuple[str, int]]()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))

    def names(self) -> list[str]:
        """Do what was asked for, and name what is held then."""
        with suppress(BlockingIOError):
            while True:
                message, fds, _, _ = socket.recv_fds(self._socket, 4096, 10)
                said = dict(line.split("=") for line in message.decode().splitlines())
                self.held += [(said["FDNAME"], fd) for fd in fds]
                if "FDSTOREREMOVE" in said:
                    for gone in [each for each in self.held if each[0] == said["FDNAME"]]:
                        self.held.remove(gone)
                        os.close(gone[1])
        return [name for name, _ in self.held]

    def start(self) -> FdStore:
        """Give the next agent what is held."""
        given: dict[str, list[socket.socket]] = {}
        for name in dict.fromkeys(self.names()):
            given[name] = [socket.socket(fileno=os.dup(fd)) for held, fd in reversed(self.held) if held == name]
        return FdStore(str(self.path), given)

    def close(self) -> None:
        self._socket.close()
        for _, fd in self.held:
            os.close(fd)


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    keeper = Keeper(tmp_path / "keeper")
    try:
        yield keeper
    finally:
        keeper.close()


async def test_what_is_asked_while_there_is_no_agent_is_answered_by_the_next(node: Node, keeper: Keeper) -> None:
    one, two = node.cluster.task(1, "h1", FRONT), node.cluster.task(2, "h1", FRONT)
    before = Node(node.wiring, node.cluster, store=keeper.start())
    await before.start(one, two)
    assert sorted(keeper.names()) == sorted([one, one, two, two])
    kept = await before.ask(one, "web")
    await before.resolver.close_all()

    meanwhile = [asyncio.create_task(node.ask(one, "web", tcp=tcp)) for tcp in (False, True)]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(meanwhile[0]), 0.1)
    await node.wiring.create_sandbox(two, node.cluster.tasks[two][1])  # what is kept of it is of the namespace before
    after = Node(node.wiring, node.cluster, store=keeper.start())
    try:
        for task in (one, two):
            await after.resolver.adopt(task)
        after.resolver.adopted()
        await after.apply()
        for answer in meanwhile:
            assert len((await answer).rr) == len(kept.rr) == 2
        assert len(await after.addresses(two, "web")) == 2
        assert sorted(keeper.names()) == sorted([one, one, two, two])
        after.resolver.close(one)
        assert keeper.names() == [two, two]
    finally:
        await after.resolver.close_all()


async def test_what_is_kept_for_nobody_is_let_go(node: Node, keeper: Keeper) -> None:
    task = node.cluster.task(1, "h1", FRONT)
    before = Node(node.wiring, node.cluster, store=keeper.start())
    await before.start(task)
    await before.resolver.close_all()

    after = Resolver(node.wiring, store=keeper.start())
    after.adopted()
    await after.close_all()

    assert keeper.names() == []


async def test_what_was_asked_before_the_agent_ends_is_answered(node: Node) -> None:
    task = node.cluster.task(1, "h1", FRONT)
    await node.start(task)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as slow:
        slow.bind((DEAF, 53))
        slow.setblocking(False)
        loop = asyncio.get_running_loop()
        pending = [asyncio.create_task(node.ask(task, "example.org"))]
        data, asker = await loop.sock_recvfrom(slow, 512)
        async with serving(UPSTREAM, Upstream("192.0.2.1")) as upstream:
            pending.append(asyncio.create_task(node.ask(task, "example.org", tcp=True)))
            await upstream.heard.wait()
            ending = asyncio.create_task(node.resolver.close_all())
            await asyncio.sleep(0)
            assert not ending.done()
            await loop.sock_sendto(slow, Upstream("192.0.2.2").answer(data), asker)
            answers = [str((await each).rr[0].rdata) for each in pending]
            await ending
    assert answers == ["192.0.2.2", "192.0.2.1"]
