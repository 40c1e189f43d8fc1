"""When a node is ready, when only its agent is lost, when it is down, and when its tasks move."""

from __future__ import annotations

import pytest

from cluster.model.node import Manager, NodeStatus, SessionState
from manager.decide.liveness import DOWN_AFTER, MISSED_BEATS, ONE_EACH, UNANSWERED
from manager.leader import Leader
from tests.manager.decide.builders import NOW, Lab, a_service, a_stack

LEFT = DOWN_AFTER - MISSED_BEATS


def status(lab: Lab, name: str) -> NodeStatus:
    return lab.state.node_states[f"id-{name}"].status


def a_lab(*nodes: str) -> Lab:
    lab = Lab(*nodes)
    lab.wait(60.0)
    return lab


def test_a_node_is_ready_once_its_agent_is_heard() -> None:
    lab = a_lab("n1")
    assert status(lab, "n1") is NodeStatus.READY


def test_a_node_that_never_connected_is_unknown() -> None:
    lab = a_lab("n1")
    lab.write(delete=(lab.state.sessions["id-n1"],))
    lab.write(delete=(lab.state.node_states["id-n1"],))
    lab.settle()
    assert status(lab, "n1") is NodeStatus.UNKNOWN


@pytest.mark.parametrize(
    ("reachable", "after", "expected"),
    [
        pytest.param(False, LEFT - 0.1, NodeStatus.READY, id="no verdict before five seconds of silence"),
        pytest.param(False, LEFT, NodeStatus.DOWN, id="five seconds without any answer: down"),
        pytest.param(None, LEFT, NodeStatus.READY, id="nobody asked the host yet: later"),
        pytest.param(None, UNANSWERED, NodeStatus.DOWN, id="nobody could ask the host for long: down"),
        pytest.param(True, 0.0, NodeStatus.AGENT_LOST, id="the host answers: only the agent is lost"),
        pytest.param(True, 29.0, NodeStatus.AGENT_LOST, id="the agent has its grace"),
        pytest.param(True, 30.0, NodeStatus.DOWN, id="the grace is over: down"),
    ],
)
def test_what_silence_means(reachable: bool | None, after: float, expected: NodeStatus) -> None:
    lab = a_lab("n1", "n2", "n3")
    lab.fall_silent("n1", reachable=reachable)
    lab.settle()
    lab.wait(after)
    assert status(lab, "n1") is expected


def test_the_verdict_comes_at_its_instant_without_any_change() -> None:
    lab = a_lab("n1")
    lab.fall_silent("n1")
    lab.settle()
    assert lab.leader.agenda.next_wake() == lab.now + LEFT


def test_an_agent_that_comes_back_in_time_was_never_lost() -> None:
    lab = a_lab("n1")
    before = lab.state.node_states["id-n1"]
    lab.fall_silent("n1")
    lab.wait(LEFT - 0.1)
    lab.session("n1", state=SessionState.OPEN)
    lab.wait(60.0)
    assert lab.state.node_states["id-n1"] == before


def test_a_host_that_stops_to_answer_while_its_agent_is_lost_is_down() -> None:
    lab = a_lab("n1")
    lab.fall_silent("n1", reachable=True)
    lab.wait(10.0)
    lab.session("n1", reachable=False)
    lab.settle()
    assert status(lab, "n1") is NodeStatus.DOWN


def test_tasks_stay_where_they_are_while_only_the_agent_is_lost() -> None:
    lab = a_lab("n1", "n2")
    lab.deploy(a_stack("app", a_service("web", replicas=2)))
    lab.run_all()
    before = lab.tasks()
    lab.fall_silent("n1", reachable=True)
    lab.settle()
    lab.wait(29.0)
    assert lab.tasks() == before
    assert all(map(lab.state.is_ready, before)), "they still serve"
    lab.wait(1.0)
    assert lab.places() == {"n2": 2}


def test_a_goodbye_holds_until_its_deadline() -> None:
    lab = a_lab("n1", "n2")
    lab.session("n1", state=SessionState.CLOSED, back_by=lab.now + 100.0, reachable=False)
    lab.wait(99.0)
    assert status(lab, "n1") is NodeStatus.AGENT_LOST
    assert "restarted" in lab.state.node_states["id-n1"].reason
    lab.wait(1.0)
    assert status(lab, "n1") is NodeStatus.DOWN


def test_agents_whose_manager_died_have_time_to_find_another() -> None:
    lab = a_lab("n1")
    lab.session("n1", manager="m2")
    lab.write(Manager("m2", "m2", "https://m2", NOW))
    lab.wait(100.0)
    lab.write(delete=(lab.state.managers["m2"],))
    lab.wait(UNANSWERED - 0.1)
    assert status(lab, "n1") is NodeStatus.READY
    lab.wait(0.1)
    assert status(lab, "n1") is NodeStatus.DOWN


def test_a_new_leader_counts_silence_from_when_it_listens() -> None:
    lab = a_lab("n1")
    lab.fall_silent("n1")
    lab.now += 1000.0
    lab.leader = Leader(lab.state, lab.now)
    lab.settle()
    assert status(lab, "n1") is NodeStatus.READY
    lab.wait(LEFT)
    assert status(lab, "n1") is NodeStatus.DOWN


def test_a_new_leader_whose_clock_is_ahead_gives_lost_agents_their_grace() -> None:
    lab = a_lab("n1")
    lab.fall_silent("n1", reachable=True)
    lab.settle()
    lab.now += 600.0
    lab.leader = Leader(lab.state, lab.now)
    lab.wait(29.0)
    assert status(lab, "n1") is NodeStatus.AGENT_LOST
    lab.wait(1.0)
    assert status(lab, "n1") is NodeStatus.DOWN


def test_a_leader_that_slept_counts_anew() -> None:
    lab = a_lab("n1")
    lab.fall_silent("n1")
    lab.settle()
    lab.now += 20.0
    lab.leader.credit(lab.now)
    lab.settle()
    assert status(lab, "n1") is NodeStatus.READY
    lab.wait(DOWN_AFTER)
    assert status(lab, "n1") is NodeStatus.DOWN


def test_a_node_that_is_down_stays_down_until_its_agent_is_heard() -> None:
    lab = a_lab("n1")
    lab.fall_silent("n1")
    lab.wait(LEFT)
    lab.session("n1", reachable=True)
    lab.wait(1.0)
    assert status(lab, "n1") is NodeStatus.DOWN
    lab.return_("n1")
    lab.settle()
    assert status(lab, "n1") is NodeStatus.READY


def test_one_of_three_nodes_is_replaced_at_once() -> None:
    lab = a_lab("n1", "n2", "n3")
    lab.fall_silent("n1")
    lab.wait(LEFT)
    verdict = lab.state.node_states["id-n1"]
    assert verdict.replace_at == verdict.since == lab.now


def test_when_more_than_a_third_fall_silent_at_once_they_are_replaced_one_by_one_and_it_says_so() -> None:
    lab = a_lab("n1", "n2", "n3", "n4")
    lab.deploy(a_stack("app", a_service("web", replicas=4)))
    lab.run_all()
    for name in ("n3", "n4"):
        lab.fall_silent(name)
    lab.wait(LEFT)
    verdicts = sorted((lab.state.node_states[f"id-{name}"] for name in ("n3", "n4")), key=lambda v: v.replace_at)
    assert [verdict.status for verdict in verdicts] == [NodeStatus.DOWN] * 2
    assert [verdict.replace_at - lab.now for verdict in verdicts] == [0.0, ONE_EACH]
    assert "2 of 4 nodes fell silent at once" in verdicts[1].reason
    assert sum(lab.places().get(name, 0) for name in ("n1", "n2")) == 3
    lab.wait(ONE_EACH)
    assert lab.places() == {"n1": 2, "n2": 2}


def test_nodes_that_fell_silent_long_ago_do_not_slow_the_next_one() -> None:
    lab = a_lab("n1", "n2", "n3")
    lab.fall_silent("n1")
    lab.settle()
    lab.wait(LEFT)
    lab.wait(3600.0)
    lab.fall_silent("n2")
    lab.settle()
    lab.wait(LEFT)
    verdict = lab.state.node_states["id-n2"]
    assert verdict.replace_at == lab.now
