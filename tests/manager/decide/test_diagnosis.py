"""What is said to be wrong, from what nodes report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import permutations
from types import MappingProxyType
from typing import Any

import pytest

from cluster.examination import Astray, Finding, Foreign, NodeReport, Probed, Target
from cluster.model.network import Endpoint, Network
from cluster.model.node import NodeState, NodeStatus
from cluster.model.task import Task
from cluster.protocol import Examined
from manager.decide.diagnosis import diagnose, shared_addresses
from tests.manager.decide.builders import NOW, Lab, a_description

NODES = ("n1", "n2", "n3")
WELL = NodeReport("eth0", 1500, 1500)


def a_cluster(*nodes: str) -> Lab:
    lab = Lab(*nodes)
    lab.write(*(NodeState(f"id-{node}", NodeStatus.READY, NOW) for node in nodes))
    return lab


def reports(*nodes: str, ahead: Mapping[str, float] = MappingProxyType({}), **ways: Any) -> dict[str, Examined]:
    """All is well between the nodes, but for `n1_n2` and such; `ahead` tells of clocks."""
    found: dict[str, list[Probed]] = {node: [] for node in nodes}
    for source, other in permutations(nodes, 2):
        target = Target(f"id-{other}", f"10.77.0.{other[1:]}")
        differs = ahead.get(other, 0.0) - ahead.get(source, 0.0)
        well = Probed(target, 1500, answerer=target.node, ahead=differs, give=0.01)
        said = ways.get(f"{source}_{other}", well)
        found[source].append(Probed(target, said) if isinstance(said, int) else replace(said, target=target))
    return {f"id-{n}": Examined("e", replace(WELL, probed=tuple(each))) for n, each in found.items()}


def told(lab: Lab, answers: dict[str, Examined]) -> list[tuple[str, str]]:
    return [(finding.kind, finding.about) for finding in diagnose(lab.state, answers).findings]


def changed(answers: dict[str, Examined], node: str, **fields: object) -> dict[str, Examined]:
    report = answers[f"id-{node}"].report
    assert report is not None
    return answers | {f"id-{node}": Examined("e", replace(report, **fields))}  # type: ignore[arg-type]


def test_nothing_is_found_where_all_is_well() -> None:
    found = diagnose(a_cluster(*NODES).state, reports(*NODES))
    assert (found.nodes, found.ways, found.findings) == (3, 6, ())
    alone = diagnose(a_cluster("n1").state, reports("n1"))
    assert (alone.nodes, alone.ways, alone.findings) == (1, 0, ())


@pytest.mark.parametrize(
    ("silent", "remedy"),
    [
        (("n1_n2", "n3_n2"), "Nobody is answered by n2: let UDP port 4789 in there."),
        (("n1_n2", "n1_n3"), "Nobody answers n1: let UDP port 4789 out there."),
        (("n1_n2",), "Let UDP port 4789 in on n2, out on n1, and through whatever is between them."),
    ],
)
def test_the_remedy_is_where_all_closed_ways_meet(silent: tuple[str, ...], remedy: str) -> None:
    closed: dict[str, Any] = dict.fromkeys(silent, 0)
    found = diagnose(a_cluster(*NODES).state, reports(*NODES, **closed)).findings
    assert [(f.kind, f.about) for f in found] == [("udp", way.replace("_", " -> ")) for way in silent]
    assert {f.remedy for f in found} == {remedy}
    assert "UDP port 4789 of 10.77.0." in found[0].what


def test_what_the_own_kernel_refuses_is_said() -> None:
    refused = Probed(Target("", ""), refused="Operation not permitted")
    [found] = diagnose(a_cluster("n1", "n2").state, reports("n1", "n2", n1_n2=refused)).findings
    assert found.what.endswith("Operation not permitted") and "out on n1" in found.remedy


def test_a_narrow_way_is_told_with_what_passes() -> None:
    [found] = diagnose(a_cluster(*NODES).state, reports(*NODES, n1_n2=1400)).findings
    assert (found.kind, found.about) == ("mtu", "n1 -> n2")
    assert found.what == "packets of up to 1400 bytes pass, its networks send up to 1500"
    assert "driver_opts mtu of networks to 1350" in found.remedy


def test_a_narrow_link_of_a_node_is_told_once_and_not_for_each_way() -> None:
    answers = reports(*NODES, n1_n2=1400, n2_n1=1400, n2_n3=1400, n3_n2=1400)
    [found] = diagnose(a_cluster(*NODES).state, changed(answers, "n2", mtu=1400)).findings
    assert (found.kind, found.about) == ("mtu", "n2") and "ip link set eth0 mtu 1500" in found.remedy


def test_a_node_that_cannot_answer_is_told_once() -> None:
    answers = changed(reports(*NODES, n1_n2=0, n3_n2=0), "n2", deaf="it cannot listen on UDP port 4789: in use")
    assert told(a_cluster(*NODES), answers) == [("deaf", "n2")]


def test_an_address_that_another_answers_from_is_had_by_two() -> None:
    wrong = Probed(Target("", ""), 1500, answerer="id-n3")
    [found] = diagnose(a_cluster(*NODES).state, reports(*NODES, n1_n2=wrong)).findings
    assert (found.kind, found.about) == ("duplicate-address", "n1 -> n2")
    assert found.what == "10.77.0.2 is answered by n3 instead"


def test_a_card_that_spoils_checksums_is_told_once_with_all_whom_it_cuts_off() -> None:
    spoilt = Probed(Target("", ""), 1500, answerer="id-n2", spoilt=True)
    answers = reports(*NODES, n1_n2=spoilt, n1_n3=replace(spoilt, answerer="id-n3"))
    [found] = diagnose(a_cluster(*NODES).state, answers).findings
    assert (found.kind, found.about) == ("checksum", "n1")
    assert found.what.startswith("packets to n2, n3 only arrive if") and f"-K {WELL.link} tx off` on n1" in found.remedy


@pytest.mark.parametrize(("seconds", "words"), [(90.0, "90.0 s ahead of"), (-4.25, "4.2 s behind")])
def test_the_clock_that_differs_from_the_most_is_the_wrong_one(seconds: float, words: str) -> None:
    [found] = diagnose(a_cluster(*NODES).state, reports(*NODES, ahead={"n2": seconds})).findings
    assert (found.kind, found.about) == ("clock", "n2")
    assert words in found.what and "that of 2 other nodes" in found.what


def test_clocks_of_two_and_small_differences() -> None:
    assert told(a_cluster(*NODES), reports(*NODES, ahead={"n2": 0.9})) == []
    assert told(a_cluster("n1", "n2"), reports("n1", "n2", ahead={"n2": 9.0})) == [("clock", "n1")]
    vague = Probed(Target("", ""), 1500, answerer="id-n2", ahead=2.5, give=2.0)
    assert told(a_cluster("n1", "n2"), reports("n1", "n2", n1_n2=vague)) == [], "it may be the way of the packets"
    several = reports("n1", "n2", "n3", "n4", "n5", ahead={"n2": 60.0, "n4": -60.0})
    assert told(a_cluster("n1", "n2", "n3", "n4", "n5"), several) == [("clock", "n2"), ("clock", "n4")]


def test_nodes_that_were_not_examined_are_told_with_the_reason() -> None:
    lab = a_cluster("n1", "n2", "n3", "n4")
    lab.write(NodeState("id-n2", NodeStatus.DOWN, NOW, "no beat"))
    lab.fall_silent("n3")
    answers = reports("n1") | {"id-n1": Examined("e", problem="it was not done with it within 30 s")}
    what = {f.about: f.what for f in diagnose(lab.state, answers).findings}
    assert what == {
        "n1": "it was not examined: it was not done with it within 30 s",
        "n2": "it was not examined: it is down",
        "n3": "it was not examined: its agent is not connected",
        "n4": "it was not examined: its agent is too old for that",
    }


def test_what_is_left_over_is_told_and_what_was_removed_counts_as_mended() -> None:
    answers = changed(reports("n1"), "n1", stale=("sn-a",), removed=("sy-b",))
    found = diagnose(a_cluster("n1").state, answers).findings
    assert [(f.kind, f.mended, f.what.split()[0]) for f in found] == [("stale", False, "sn-a"), ("stale", True, "sy-b")]


def test_numbers_and_addresses_that_two_have() -> None:
    lab = a_cluster(*NODES)
    lab.session("n3", description=replace(a_description("n3"), address="10.77.0.1"))
    lab.state.networks |= {
        name: Network(name, f"app_{name}", "s", name, 4097, ("10.128.0.0/20",)) for name in ("a", "b")
    }
    foreign = changed(reports("n2"), "n2", foreign=(Foreign("flannel.1", 4097), Foreign("mine", 5)))
    found = [f for f in diagnose(lab.state, foreign).findings if f.kind.startswith("duplicate")]
    assert [(f.kind, f.about) for f in found] == [
        ("duplicate-vni", "app_a, app_b"),
        ("duplicate-address", "n1, n3"),
        ("duplicate-vni", "n2"),
    ]
    assert "flannel.1" in found[2].what and "ip link del flannel.1" in found[2].remedy


def test_a_route_to_addresses_of_a_network_is_told() -> None:
    lab = a_cluster(*NODES)
    lab.write(Network("front", "front", "s", "front", 4097, ("10.128.0.0/20", "fd00::/64")))
    lab.session("n2", routes={"10.0.0.0/8": "vpn0", "10.128.16.0/20": "eth1"})
    assert told(lab, reports(*NODES)) == []
    lab.session("n2", routes={"10.128.7.0/24": "br-7"})
    [finding] = diagnose(lab.state, reports(*NODES)).findings
    assert (finding.kind, finding.about) == ("route", "n2")
    assert finding.what.startswith("the route 10.128.7.0/24 (br-7) of node n2 leads to addresses of network front")


def test_an_address_that_two_tasks_have() -> None:
    lab = a_cluster("n1")
    lab.state.networks["a"] = Network("a", "app_a", "s", "a", 4097, ("10.128.0.0/20",))
    for ident in ("t1", "t2"):
        endpoints = (Endpoint("a", ("10.128.0.5",)),)
        lab.state.tasks[ident] = Task(ident, "s", "uid", 1, 1, 1, NOW, "id-n1", endpoints=endpoints)
        lab.state.tasks_in.setdefault("a", set()).add(ident)
    [found] = shared_addresses(lab.state, "a")
    assert found == Finding(
        "duplicate-address",
        "app_a",
        "tasks t1, t2 have the same address 10.128.0.5",
        "`stack update --force` of their services makes new ones.",
    )


def test_each_finding_is_one_line_with_a_remedy() -> None:
    answers = changed(reports(*NODES, n1_n2=0, n3_n1=1300, ahead={"n3": 9.0}), "n3", stale=("sn-a",), mtu=1300)
    found = diagnose(a_cluster(*NODES).state, answers).findings
    assert len(found) >= 4
    assert all(f.remedy and "\n" not in f.what + f.remedy and len(f.what) < 120 and len(f.remedy) < 160 for f in found)


def test_names_that_lead_elsewhere_and_nodes_that_know_of_an_older_state() -> None:
    lab = a_cluster("n1", "n2")
    lab.state.networks["a"] = Network("a", "app_a", "s", "a", 4097, ("10.128.0.0/20",))
    astray = (Astray("t1", "db", "10.1.0.9", "10.1.0.2"), Astray("t1", "web", "x", "y", mended=True))
    answers = changed(reports("n1", "n2"), "n1", astray=astray, names=7, vips=2)
    found = diagnose(lab.state, answers, {"id-n2": ["a", "gone"]})
    assert (found.names, found.vips) == (7, 2)
    assert [(f.kind, f.about, f.what, f.mended) for f in found.findings] == [
        ("name", "n1", "in t1, db leads to 10.1.0.9, not to 10.1.0.2", False),
        ("name", "n1", "in t1, web leads to x, not to y", True),
        ("behind", "n2", "its agent works from an older state of app_a", False),
    ]
