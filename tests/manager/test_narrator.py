"""What changes of records are told as: one order for all managers, and the reason of each decision."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from cluster.events import ClusterEvent, matches
from cluster.model.node import Availability
from cluster.model.service import ServiceSpec
from cluster.model.task import TaskState
from manager.narrator import narrate, remembered
from manager.picture import Change
from tests.manager.decide.builders import Lab, a_service, a_stack


class Told(Lab):
    """A lab in which what happens is told at once."""

    def __init__(self, *nodes: str, **more: Any) -> None:
        self.events: list[ClusterEvent] = []
        super().__init__(*nodes, **more)

    def heard(self, changes: list[Change]) -> None:
        self.events += narrate(self.state, changes, self.now)
        super().heard(changes)

    def since(self, before: int, *types: str) -> list[tuple[str, str, str, str]]:
        told = [e for e in self.events[before:] if e.type in types]
        return [(e.action, e.name, e.node, e.message) for e in told]


def running(*nodes: str, service: ServiceSpec | None = None) -> Told:
    lab = Told(*nodes)
    lab.deploy(a_stack("shop", service or a_service("web", replicas=1)))
    lab.run_all()
    return lab


def test_a_deploy_is_told_from_the_wish_to_the_running_task() -> None:
    lab = running("n1")
    told = [(e.type, e.action, e.name) for e in lab.events if e.stack == "shop"]
    steps = [
        ("stack", "deploy", "shop"), ("service", "create", "shop_web"), ("task", "create", "shop_web.1"),
        ("task", "assign", "shop_web.1"), ("task", "running", "shop_web.1"),
    ]  # fmt: skip
    assert [one for one in told if one in steps] == steps
    [deployed] = [e for e in lab.events if e.action == "deploy"]
    assert deployed.message == "revision 1 by me"
    assert {e.node for e in lab.events if e.action == "assign"} == {"n1"}


def test_events_are_in_the_order_of_revisions_and_no_two_are_the_same() -> None:
    lab = running("n1", "n2")
    lab.remove("shop")
    lab.run_all()
    revisions = [e.revision for e in lab.events]
    assert revisions == sorted(revisions) and min(revisions) > 0
    assert len({(e.revision, e.identity) for e in lab.events}) == len(lab.events)


def test_a_failure_and_what_is_decided_upon_it_have_their_reasons() -> None:
    lab = running("n1")
    (task,) = lab.tasks()
    before = len(lab.events)
    lab.report(task, TaskState.FAILED, message="killed: out of memory", exit_code=137, container="c")
    lab.settle()
    told = lab.since(before, "task")
    assert told[0] == ("failed", "shop_web.1", "n1", "killed: out of memory")
    [(_, _, _, why)] = [one for one in told if one[0] == "create"]
    assert "out of memory" in why and task.id[:12] in why
    assert [e.exit_code for e in lab.events[before:] if e.action == "failed"] == [137]


def test_a_task_without_a_place_tells_why() -> None:
    lab = Told("n1")
    lab.deploy(a_stack("shop", a_service("web", constraints=("node.labels.disk == ssd",))))
    lab.settle()
    [why] = [message for action, _, _, message in lab.since(0, "task") if action == "pending"]
    assert "node.labels.disk == ssd" in why


def test_a_node_that_goes_and_comes_back() -> None:
    lab = running("n1", "n2")
    before = len(lab.events)
    lab.fall_silent("n1")
    lab.wait(10.0)
    lab.return_("n1")
    lab.settle()
    actions = [(action, name) for action, name, _, _ in lab.since(before, "node")]
    assert actions == [("silent", "n1"), ("down", "n1"), ("connect", "n1"), ("ready", "n1")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"availability": Availability.PAUSE}, "availability active -> pause"),
        ({"labels": {"disk": "ssd"}}, "labels"),
        ({"role": "manager"}, "role worker -> manager"),
    ],
)
def test_a_change_of_a_node(changes: dict[str, Any], message: str) -> None:
    lab = Told("n1")
    before = len(lab.events)
    lab.node("n1", **changes)
    assert lab.since(before, "node") == [("update", "n1", "n1", message)]


def test_troubles_of_a_node_come_and_go() -> None:
    lab = Told("n1")
    before = len(lab.events)
    lab.session("n1", conditions={"disk": "95 % full"})
    lab.session("n1", conditions={})
    assert lab.since(before, "node") == [("condition", "n1", "n1", "disk: 95 % full"), ("mended", "n1", "n1", "disk")]


def test_a_way_is_told_by_the_name_of_the_node_that_it_leads_to() -> None:
    lab = Told("n1", "n2")
    before = len(lab.events)
    lab.session("n1", conditions={"way/id-n2": "packets are not answered"})
    lab.session("n1", conditions={})
    assert [told[3] for told in lab.since(before, "node")] == [
        "the way to n2: packets are not answered", "the way to n2"
    ]  # fmt: skip


def test_the_end_of_a_stack_is_told_by_its_names() -> None:
    lab = running("n1")
    before = len(lab.events)
    lab.remove("shop")
    lab.run_all()
    told = [(e.type, e.action, e.name, e.stack) for e in lab.events[before:]]
    assert ("stack", "removing", "shop", "shop") in told and told[-1][:3] == ("stack", "remove", "shop")
    assert ("service", "remove", "shop_web", "shop") in told
    assert all(e.stack == "shop" and "shop" in e.name for e in lab.events[before:] if e.type == "task")


def test_what_records_still_tell_is_in_order_and_dated() -> None:
    lab = running("n1")
    listing = [Change(key, None, record, lab.state.revision_of(key)) for key, record in lab.state.records()]
    told = remembered(lab.state, reversed(listing))
    assert [e.at for e in told] == sorted(e.at for e in told) and all(e.at > 0 for e in told)
    assert {"deploy", "running", "create", "connect"} <= {e.action for e in told}


WEB = ClusterEvent(
    7, 1.0, "task", "failed", "abcdef", "shop_web.1", stack="shop", service="shop_web", node="n1", message="so"
)


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ((), True),
        ((("type", "task"),), True),
        ((("type", "node"),), False),
        ((("type", "node"), ("type", "task")), True),
        ((("type", "task"), ("event", "running")), False),
        ((("stack", "shop"), ("service", "web"), ("node", "n1")), True),
        ((("service", "shop_web"),), True),
        ((("service", "api"),), False),
        ((("task", "shop_web.1"),), True),
        ((("task", "web.1"),), True),
        ((("task", "abc"),), True),
        ((("task", ""),), False),
        ((("network", "shop_web.1"),), False),
    ],
)
def test_filters(filters: tuple[tuple[str, str], ...], passes: bool) -> None:
    assert matches(WEB, filters) is passes
    assert matches(dataclasses.replace(WEB, message="other"), filters) is passes
