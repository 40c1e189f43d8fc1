"""What may be written while programs of two releases run, and who keeps an upgrade from its end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.codec import KINDS, Record, decode, encode, key_of
from cluster.errors import Conflict, Inconsistent
from cluster.model.cluster import Cluster
from cluster.model.network import NetworkSpec
from cluster.model.node import Manager, Node, Session
from cluster.protocol import VERSION
from manager.picture import ClusterState
from manager.versions import allows, check_networks, check_records, upgrade
from tests.cluster.examples import EXAMPLES

OLD = 3
KNOWN_TO_3 = {
    "cluster", "clock", "stack", "revision", "service", "network", "volume", "task", "taskstatus", "node", "nodestate",
    "session", "manager", "rebalancewish", "rebalance", "claim", "content", "external", "withdrawn",
}  # fmt: skip


def picture(version: int, *records: Record) -> ClusterState:
    state = ClusterState()
    everything = (Cluster("c1", 0.0, version=version), *records)
    state.replace([(key_of(one), encode(one), number) for number, one in enumerate(everything, 1)], 100)
    return state


def manager(name: str, version: int = VERSION) -> Manager:
    return Manager(f"id-{name}", name, f"https://{name}", 0.0, version, f"0.{version}")


def node(name: str, role: str = "worker", version: int | None = VERSION) -> tuple[Record, ...]:
    joined = Node(f"id-{name}", name, "manager" if role == "manager" else "worker", 0.0)
    example = EXAMPLES["session"]
    assert isinstance(example, Session)
    return (joined,) if version is None else (joined, replace(example, node=joined.id, version=version))


def behind(*records: Record) -> dict[tuple[str, str], bool]:
    return {(one.kind, one.name): bool(one.behind) for one in upgrade(picture(OLD, *records)).programs}


def test_an_upgrade_waits_for_managers_and_agents_of_the_older_release() -> None:
    assert behind(manager("m1"), manager("m2", OLD)) == {("manager", "m1"): False, ("manager", "m2"): True}
    assert behind(manager("m1"), *node("n1"), *node("n2", version=OLD)) == {
        ("manager", "m1"): False, ("agent", "n1"): False, ("agent", "n2"): True,
    }  # fmt: skip


def test_it_waits_for_those_of_whom_nothing_is_known() -> None:
    found = behind(manager("m1"), *node("m1", "manager"), *node("m2", "manager"), *node("n1", version=None))
    waited_for = {who for who, waited in found.items() if waited}
    assert waited_for == {("manager", "m2"), ("agent", "n1")}


def test_a_manager_newer_than_this_one_makes_this_one_behind() -> None:
    view = upgrade(picture(VERSION, manager("m1"), manager("m2", VERSION + 1)))
    assert (view.version, view.newest, [one.name for one in view.behind]) == (VERSION, VERSION + 1, ["m1"])


def test_nobody_is_behind_once_it_is_over() -> None:
    view = upgrade(picture(VERSION, manager("m1"), *node("n1", version=OLD)))
    assert view.version == view.newest and not view.behind


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_kinds_of_records_that_the_older_release_does_not_know_are_refused_until_then(kind: object) -> None:
    name = getattr(kind, "name", "")
    record = EXAMPLES[name]
    check_records(picture(VERSION), [record])
    if name in KNOWN_TO_3:
        check_records(picture(OLD), [record])
        return
    with pytest.raises(Conflict, match="not known to all") as refused:
        check_records(picture(OLD), [record])
    assert "stack upgrade --finish" in refused.value.hint


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(NetworkSpec("a", "a", encrypted=True), id="encrypted"),
        pytest.param(NetworkSpec("a", "a", ipv6=True), id="IPv6"),
        pytest.param(NetworkSpec("a", "a", subnets=("10.9.0.0/24",), gateways=("10.9.0.9",)), id="gateway"),
    ],
)
def test_networks_that_the_older_release_would_take_for_other_ones_are_refused_until_then(network: NetworkSpec) -> None:
    check_networks(picture(VERSION), [network])
    check_networks(picture(OLD), [NetworkSpec("a", "a")])
    with pytest.raises(Conflict, match=r"networks \(a\)"):
        check_networks(picture(OLD), [network])


def test_a_manager_whose_picture_has_not_its_own_record_yet() -> None:
    assert upgrade(picture(OLD)).newest == VERSION


def test_what_is_known_to_all_is_allowed() -> None:
    assert allows(picture(OLD), OLD) and not allows(picture(OLD), OLD + 1)


def test_a_program_reads_no_cluster_that_may_write_what_it_does_not_know() -> None:
    newer = Cluster("c1", 0.0, version=VERSION + 1)
    with pytest.raises(Inconsistent, match=f"version {VERSION + 1}") as refused:
        decode(key_of(newer), encode(newer))
    assert "changed nothing" in refused.value.hint
