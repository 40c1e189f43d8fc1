"""Virtual addresses: what leads where, by the pure plan and by real traffic between three hosts."""

from __future__ import annotations

import os
import re
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.network.conntrack import flows_tracked
from agent.network.netlink import DUMP, Request, attributes
from agent.network.netlink_socket import NETLINK_NETFILTER, Netlink
from agent.network.nftmessages import INET, batch, fresh_table, get_generation, read_generation
from agent.network.vips import HANDOVER, STICKY_PLACES, TABLE, Vip, changes, elements, services, table, whole
from agent.network.wiring import Wiring
from cluster.assignments import PeerItem, VipItem
from tests.agent.network.test_wiring import ECHO, ECHO_UDP, ask, opened_in, serving, socket_in
from tests.agent.network.underlay import BACK, FRONT, Cluster, inside, wiring

root = pytest.mark.root
VIP, VIP6 = "10.102.255.1", "fd00:102::ffff"
Wirings = dict[str, Wiring]


def peer(n: int, *, ready: bool = True, uid: str = "uid") -> PeerItem:
    return PeerItem("net", f"t{n}", "n1", "", (f"10.1.0.{n}", f"fd00::{n}"), "", ready, service_uid=uid)


def test_an_address_leads_to_the_ready_endpoints_of_its_service_and_family() -> None:
    items = [VipItem("net", "uid", "shop", "web", ("10.1.0.99", "fd00::99"), sticky=True)]
    found = services(items, [peer(2), peer(1), peer(3, ready=False), peer(4, uid="other")])
    assert found.vips == (
        Vip("10.1.0.99", ("10.1.0.1", "10.1.0.2"), sticky=True),
        Vip("fd00::99", ("fd00::1", "fd00::2"), sticky=True),
    )
    assert {"10.1.0.3", "10.1.0.4"} < found.present


def endpoints_of(vip: Vip) -> list[object]:
    return [value for (name, _), value in sorted(elements([vip]).items()) if name == "endpoints4"]


def test_a_sticky_address_moves_only_the_share_of_the_endpoint_that_goes_or_comes() -> None:
    three, two = (Vip("10.1.0.9", tuple(f"10.1.0.{n}" for n in range(1, count + 1)), True) for count in (3, 2))
    before, after = endpoints_of(three), endpoints_of(two)
    assert len(before) == len(after) == STICKY_PLACES
    lost = bytes((10, 1, 0, 3))
    assert all(old == new for old, new in zip(before, after, strict=True) if old != lost)
    assert min(Counter(before).values()) > STICKY_PLACES / 3 / 3


vips = st.dictionaries(
    st.integers(1, 5),
    st.tuples(st.lists(st.integers(10, 14), unique=True), st.booleans()),
).map(lambda found: [Vip(f"10.1.0.{n}", tuple(f"10.2.0.{e}" for e in ends), s) for n, (ends, s) in found.items()])


@given(held=vips, wanted=vips)
def test_a_change_says_what_differs_and_nothing_else(held: list[Vip], wanted: list[Vip]) -> None:
    before, after = table(held), table(wanted)
    messages = changes(before, after)
    assert bool(messages) == (elements(held) != elements(wanted) or not after.chains <= before.chains)
    assert changes(after, after) == ()
    assert len(messages) <= len(whole(after)) + 4


class Stage:
    """A service of some tasks, with a virtual address, and a client on another host."""

    def __init__(self, wirings: Wirings, *nodes: str, sticky: bool = False) -> None:
        self.wirings = wirings
        self.cluster = Cluster()
        self.cluster.vips.append(VipItem(BACK.id, "uid", "stack", "web", (VIP, VIP6), sticky=sticky))
        self.tasks = [self.cluster.task(n, node, BACK) for n, node in enumerate(nodes, 1)]
        self.client = self.cluster.task(9, "h3", BACK)
        self.cluster.unready.add(self.client)
        self.servers = ExitStack()

    async def start(self, program: str = ECHO) -> None:
        await self.cluster.start(self.wirings)
        for task in self.tasks:
            self.servers.enter_context(serving(self.path(task), 80, self.name(task), program))

    def path(self, task: str) -> Path:
        return self.wirings[self.cluster.tasks[task][0]].namespace(task)

    @staticmethod
    def name(task: str) -> str:
        return f"task{int(task[:4])}"

    def ask(self, where: str = "", address: str = VIP, **options: Any) -> tuple[str, str]:
        """Which task answered, and which address it saw."""
        said, _, seen = ask(self.path(where or self.client), address, 80, **options).partition(" ")
        return said, seen

    async def unready(self, *tasks: str) -> None:
        self.cluster.unready |= set(tasks)
        await self.cluster.apply(self.wirings)


@pytest.fixture
def stage(wirings: Wirings) -> Stage:
    return Stage(wirings, "h1", "h2", "h3")


@root
async def test_connections_spread_over_all_endpoints_and_keep_their_source(stage: Stage) -> None:
    with stage.servers:
        await stage.start()
        answers = [stage.ask() for _ in range(60)]
        assert {seen for _, seen in answers} == {"10.102.1.9"}
        counts = Counter(said for said, _ in answers)
        assert set(counts) == {"task1", "task2", "task3"} and min(counts.values()) >= 5, counts

        own = {stage.ask(stage.tasks[0]) for _ in range(40)}
        assert own == {(f"task{n}", "10.102.1.1") for n in (1, 2, 3)}, "a container reaches itself as well"


@root
async def test_udp_moves_on_when_its_endpoint_leaves_and_tcp_stays_until_it_is_gone(stage: Stage) -> None:
    with stage.servers:
        await stage.start(ECHO_UDP)
        with socket_in(stage.path(stage.client), socket.SOCK_DGRAM) as asking:
            asking.connect((VIP, 80))

            def who() -> str:
                asking.send(b"x")
                return asking.recv(99).decode().split()[0]

            first = who()
            assert {who() for _ in range(5)} == {first}, "one flow has one endpoint"
            leaving = next(task for task in stage.tasks if stage.name(task) == first)
            await stage.unready(leaving)
            assert first not in {who() for _ in range(5)}, "the same socket is led elsewhere at once"


@root
async def test_an_open_connection_outlives_the_withdrawal_of_its_endpoint(stage: Stage) -> None:
    program = ECHO.replace("    asker.close()\n", "    keep = asker\n")
    with stage.servers:
        await stage.start(program)
        with socket_in(stage.path(stage.client), socket.SOCK_STREAM) as asking:
            asking.connect((VIP, 80))
            first = asking.recv(99).decode().split()[0]
            task = next(task for task in stage.tasks if stage.name(task) == first)
            await stage.unready(task)
            asking.sendall(b"x")
            assert {stage.ask()[0] for _ in range(20)} == {"task1", "task2", "task3"} - {first}
            del stage.cluster.tasks[task]
            stage.tasks.remove(task)
            await stage.cluster.apply(stage.wirings)
            asking.sendall(b"x")
            with pytest.raises(ConnectionError):  # whoever gets the segment now resets what it knows nothing of
                asking.recv(99)


@root
async def test_to_let_go_of_an_endpoint_reads_none_of_the_flows_that_go_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy client has tens of thousands of flows, and the others wait for the word that it has let go."""
    read: list[bytes] = []
    dump = Netlink.dump

    def listing(self: Netlink, request: Request) -> Iterator[bytes]:
        found = list(dump(self, request))
        read.extend(found if request.about == "the list of flows" else ())
        return iter(found)

    monkeypatch.setattr(Netlink, "dump", listing)
    with stage.servers:
        await stage.start()
        assert {stage.ask()[0] for _ in range(20)} == {"task1", "task2", "task3"}
        with closing(await stage.wirings["h3"].in_sandbox(stage.client, lambda: Netlink(NETLINK_NETFILTER))) as kernel:
            assert flows_tracked(kernel) >= 20
        await stage.unready(stage.tasks[0])
        assert read == []


@root
async def test_a_session_may_be_idle_for_days(stage: Stage) -> None:
    """What leads its packets to the endpoint is the kernel's memory of it: without it they would go to another."""

    def remembered() -> list[int]:
        with closing(Netlink(NETLINK_NETFILTER)) as kernel:
            everything = Request(0x101, DUMP, struct.pack("!BBH", 0, 0, 0), "the list of flows")
            return [int.from_bytes(attributes(body, 4)[7], "big") for body in kernel.dump(everything)]

    with stage.servers:
        await stage.start(ECHO.replace("    asker.close()\n", "    keep = asker\n"))
        with socket_in(stage.path(stage.client), socket.SOCK_STREAM) as asking:
            asking.connect((VIP, 80))
            asking.recv(99)
            [seconds] = opened_in(stage.path(stage.client), remembered)
            assert seconds > 4 * 24 * 3600


@root
@pytest.mark.parametrize("address", [VIP, VIP6])
async def test_an_address_without_endpoints_refuses_at_once(stage: Stage, address: str) -> None:
    with stage.servers:
        await stage.start()
        await stage.unready(*stage.tasks)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        code = (
            f"import socket; s = socket.socket({int(family)}); s.settimeout(60)\n"
            f"try: s.connect(({address!r}, 80))\n"
            "except OSError as error: print(type(error).__name__)"
        )
        said = inside(stage.path(stage.client), "python3", "-c", code).strip()
        assert said == "ConnectionRefusedError"


@root
async def test_a_sticky_client_gets_one_endpoint(wirings: Wirings) -> None:
    stage = Stage(wirings, "h1", "h2", "h3", sticky=True)
    with stage.servers:
        await stage.start()
        assert len({stage.ask() for _ in range(20)}) == 1
        [(said, _)] = {stage.ask() for _ in range(2)}
        other = next(task for task in stage.tasks if stage.name(task) != said)
        await stage.unready(other)
        assert {stage.ask()[0] for _ in range(10)} == {said}


@root
async def test_another_process_takes_over_the_tables_and_meddling_is_mended(wirings: Wirings) -> None:
    stage = Stage(wirings, "h1", "h2", "h3")
    with stage.servers:
        await stage.start()
        await wirings["h3"].close()
        wirings["h3"] = wiring("h3")
        await wirings["h3"].open()
        with closing(await wirings["h3"].in_sandbox(stage.client, lambda: Netlink(NETLINK_NETFILTER))) as rules:
            before = read_generation(rules.ask(get_generation()))
            await stage.unready(stage.tasks[0])
            changed = read_generation(rules.ask(get_generation())) - before
        assert changed == 1, "the table is exchanged in one go, and leads nowhere else in between"
        assert {stage.ask()[0] for _ in range(20)} == {"task2", "task3"}

        inside(stage.path(stage.client), "nft", "flush", "ruleset")
        assert stage.ask(within=2)[0] == "nothing"
        await wirings["h3"].audit()
        assert {stage.ask()[0] for _ in range(20)} == {"task2", "task3"}
        listed = inside(stage.path(stage.client), "nft", "list", "ruleset")
        await wirings["h3"].audit()
        assert inside(stage.path(stage.client), "nft", "list", "ruleset") == listed


async def take_over(stage: Stage) -> None:
    """Begin as another process on the client's node, where an earlier one has ended."""
    stage.wirings["h3"] = wiring("h3")
    await stage.wirings["h3"].open()
    await stage.wirings["h3"].apply(stage.cluster.items("h3"))


def handles(where: Path) -> dict[str, str]:
    """The numbers by which the kernel tells what is in a sandbox's table from what is made anew by the same name."""
    listed = inside(where, "nft", "-a", "list", "table", "inet", "stackyard")
    return dict(re.findall(r"(?m)^\s*((?:table|chain|map) [^{]+) {.* # handle (\d+)$", listed))


@root
async def test_another_process_exchanges_a_table_in_place(stage: Stage) -> None:
    """Of two chains, the one before the exchange and the one after it, a connection may find either the wrong one."""
    with stage.servers:
        await stage.start()
        before = handles(stage.path(stage.client))
        assert "chain output" in before and "map services4" in before
        inside(stage.path(stage.client), "nft", "add", "rule", "inet", "stackyard", "output", "drop")
        await stage.wirings["h3"].close()
        await take_over(stage)
        assert handles(stage.path(stage.client)) == before
        assert {stage.ask()[0] for _ in range(20)} == {"task1", "task2", "task3"}


@root
async def test_a_table_that_was_made_otherwise_is_made_anew(stage: Stage) -> None:
    with stage.servers:
        await stage.start()
        await stage.wirings["h3"].close()
        inside(
            stage.path(stage.client), "nft", "delete table inet stackyard; add table inet stackyard;"
            "add map inet stackyard services4 { type ipv4_addr : ipv4_addr; };"
            "add chain inet stackyard output { type filter hook output priority 7; policy drop; }",
        )  # fmt: skip
        await take_over(stage)
        assert {stage.ask()[0] for _ in range(20)} == {"task1", "task2", "task3"}


@root
async def test_what_an_older_agent_empties_leads_on_until_it_is_filled(stage: Stage) -> None:
    """Those of protocol version 3 load an empty table when they take over, and only then the virtual addresses."""
    with stage.servers:
        await stage.start()
        client = stage.path(stage.client)
        await stage.wirings["h3"].close()
        with closing(opened_in(client, lambda: Netlink(NETLINK_NETFILTER))) as older:
            older.transact(batch(*fresh_table(INET, TABLE)))
        assert {stage.ask()[0] for _ in range(20)} == {"task1", "task2", "task3"}
        assert "timeout 1m" in inside(client, "nft", "list", "table", "inet", HANDOVER), "it does not lead so for ever"

        await take_over(stage)
        assert HANDOVER not in inside(client, "nft", "list", "tables")


@root
async def test_whoever_draws_an_endpoint_that_goes_in_that_moment_is_led_to_another(stage: Stage) -> None:
    with stage.servers:
        await stage.start()
        places = ", ".join(f"{VIP} . {number:#010x}" for number in (1, 2))
        inside(stage.path(stage.client), "nft", f"delete element inet stackyard endpoints4 {{ {places} }}")
        assert {stage.ask()[0] for _ in range(20)} == {"task1"}


@root
async def test_a_set_that_may_be_old_changes_no_table(stage: Stage) -> None:
    with stage.servers:
        await stage.start()
        before = inside(stage.path(stage.client), "nft", "list", "ruleset")
        stage.cluster.unready |= {stage.tasks[0]}
        await stage.wirings["h3"].apply(stage.cluster.items("h3"), prune=False)
        assert inside(stage.path(stage.client), "nft", "list", "ruleset") == before


@root
async def test_sandboxes_that_go_leave_nothing_behind(wirings: Wirings) -> None:
    stage = Stage(wirings, "h1", "h2", "h3")
    await stage.cluster.start(wirings)
    await wirings["h3"].apply(stage.cluster.items("h3"))
    opened = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        await wirings["h3"].create_sandbox(stage.client, stage.cluster.tasks[stage.client][1])
        await wirings["h3"].delete_sandbox(stage.client)
    assert len(os.listdir("/proc/self/fd")) == opened - 1


@root
async def test_a_service_in_a_network_that_a_sandbox_is_not_in_is_not_in_its_table(wirings: Wirings) -> None:
    stage = Stage(wirings, "h1")
    stranger = stage.cluster.task(8, "h3", FRONT)
    await stage.cluster.start(wirings)
    assert "type nat" not in inside(stage.path(stranger), "nft", "list", "ruleset")
    stage.cluster.vips[0] = replace(stage.cluster.vips[0], addresses=())
    await stage.cluster.apply(wirings)
    assert "goto" not in inside(stage.path(stage.client), "nft", "list", "ruleset")
