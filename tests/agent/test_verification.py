"""Names and virtual addresses in real sandboxes, looked up there and compared with the assignments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent import verification
from agent.resolver import Resolver
from agent.verification import SILENCE, Verification, Verified
from cluster.assignments import VipItem
from tests.agent.network.underlay import BACK, FRONT, inside
from tests.agent.test_resolver import Node, node

__all__ = ["node"]  # the fixture

pytestmark = pytest.mark.root

VIP, VIP6 = "10.102.255.1", "fd00:102::ffff"


@pytest.fixture
async def tasks(node: Node, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two tasks of a service with a virtual address in one network, and one in the other without."""
    monkeypatch.setattr(verification, "SETTLING", 0.01)
    monkeypatch.setattr(verification, "_TIMEOUT", 5.0)
    node.cluster.vips.append(VipItem(BACK.id, "uid", "stack", "web", (VIP, VIP6)))
    tasks = [node.cluster.task(n, "h1", network) for n, network in enumerate((BACK, BACK, FRONT), 1)]
    await node.start(*tasks)
    return tasks


def of(node: Node) -> Verification:
    return Verification(
        node.wiring, node.resolver, lambda: Resolver(node.wiring, Path("/dev/null")), lambda: node.cluster.items("h1")
    )


async def test_all_names_and_virtual_addresses_are_looked_at(node: Node, tasks: list[str]) -> None:
    found = await of(node).verify()
    assert found.astray == ()
    # In one of the two sandboxes that are alike, and in the other: web, stack_web, tasks.web, web.1, ids and so on.
    assert (found.vips, found.names) == (4, 27)


async def test_a_name_that_leads_elsewhere_is_told_and_made_anew(node: Node, tasks: list[str]) -> None:
    # An index that has lost what it was told, as a bug would do it.
    node.resolver._networks[FRONT.id]._names["web"].clear()
    node.resolver._networks[BACK.id]._virtual["web"]["uid"] = replace(node.cluster.vips[0], addresses=("10.102.0.77",))
    found = await of(node).verify()
    assert {(one.name, one.meant, one.mended) for one in found.astray} == {
        ("web", "10.101.1.3", True),
        ("web", f"{VIP}, {VIP6}", True),
    }
    assert {one.told for one in found.astray} == {"no such name (NXDOMAIN)", "10.102.0.77"}
    assert await node.addresses(tasks[2], "web") == {"10.101.1.3"}
    assert (await of(node).verify()).astray == ()


async def test_a_sandbox_without_answers_is_told_once(
    node: Node, tasks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "_TIMEOUT", 0.2)
    sandbox = node.wiring.namespace(tasks[2])
    inside(sandbox, "nft", "add table inet mine; add chain inet mine c { type filter hook input priority 0; }")
    inside(sandbox, "nft", "add rule inet mine c udp dport 65053 drop")
    [found] = (await of(node).verify()).astray
    assert (found.task, found.told, found.mended) == (tasks[2], SILENCE, False)
    inside(sandbox, "nft", "delete table inet mine")
    assert (await of(node).verify()).astray == ()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("delete element inet stackyard services4 { " + VIP + " }", [VIP]),
        ("flush map inet stackyard endpoints4", [VIP]),
        ("delete table inet stackyard", [VIP, VIP6]),
    ],
)
async def test_a_virtual_address_that_leads_elsewhere_is_told_and_mended(
    node: Node, tasks: list[str], damage: str, told: list[str]
) -> None:
    for task in tasks[:2]:
        inside(node.wiring.namespace(task), "nft", damage)
    found = await of(node).verify()
    assert {(one.task, one.name, one.mended) for one in found.astray} == {
        (task, address, True) for task in tasks[:2] for address in told
    }
    assert await of(node).verify() == Verified(27, 4)
    assert VIP in inside(node.wiring.namespace(tasks[0]), "nft", "list", "table", "inet", "stackyard")
