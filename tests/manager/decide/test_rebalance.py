"""Moving tasks for a better spread: which, how many at a time, and when it is over."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.model.node import Availability
from cluster.model.rebalance import RebalanceWish
from cluster.model.service import UpdateConfig
from cluster.model.task import TaskState
from manager.decide.rebalance import is_under_way, moves
from tests.manager.decide.builders import Lab, a_service, a_stack


def rebalance(lab: Lab, ident: str = "w1", **fields: Any) -> None:
    lab.write(RebalanceWish(ident, lab.now, **fields))


def carried_out(lab: Lab) -> None:
    """Let time pass and agents obey until the rebalance is over."""
    lab.run_all()
    for _ in range(100):
        if lab.state.rebalance is None or not lab.state.rebalance.active:
            return
        lab.wait(1.0)
        lab.run_all()
    raise AssertionError(f"it is never over: {lab.state.rebalance}")


def lopsided(*services: Any, nodes: tuple[str, ...] = ("n1", "n2", "n3")) -> Lab:
    """A lab whose last node came when all tasks had their places."""
    lab = Lab(*nodes)
    lab.node(nodes[-1], availability=Availability.PAUSE)
    lab.deploy(a_stack("app", *services))
    lab.run_all()
    lab.node(nodes[-1], availability=Availability.ACTIVE)
    lab.run_all()
    assert nodes[-1] not in lab.places()
    return lab


def under_way(lab: Lab) -> int:
    return sum(is_under_way(lab.state, lab.state.tasks[ident]) for ident in lab.state.moving)


def test_a_node_that_came_back_gets_its_share() -> None:
    lab = lopsided(a_service("web", replicas=9))
    rebalance(lab)
    carried_out(lab)
    assert lab.places() == {"n1": 3, "n2": 3, "n3": 3}
    progress = lab.state.rebalance
    assert progress is not None and (progress.active, progress.moved) == (False, 3)
    gone = [task.reason for task in lab.tasks(live=False) if task.moving]
    assert len(gone) == 3 and all("for a better spread" in reason for reason in gone)


def test_what_is_even_stays_as_it_is() -> None:
    lab = Lab("n1", "n2", "n3")
    lab.deploy(a_stack("app", a_service("web", replicas=7), a_service("api", replicas=2)))
    lab.run_all()
    before = lab.tasks()
    rebalance(lab)
    carried_out(lab)
    assert lab.tasks() == before
    assert lab.state.rebalance is not None and not lab.state.rebalance.active


def test_many_small_services_are_moved_until_the_loads_are_even() -> None:
    lab = lopsided(*(a_service(f"s{i}", replicas=2) for i in range(6)))
    rebalance(lab)
    carried_out(lab)
    assert lab.places() == {"n1": 4, "n2": 4, "n3": 4}


@pytest.mark.parametrize("most", [1, 2, 3])
def test_no_more_than_so_many_are_on_their_way_at_once(most: int) -> None:
    services = [
        dataclasses.replace(a_service(f"s{i}", replicas=3), update=UpdateConfig(parallelism=3)) for i in range(4)
    ]
    lab = lopsided(*services)
    rebalance(lab, max_unavailable=most)
    seen = 0
    for _ in range(200):
        lab.settle()
        ready = sum(lab.state.is_ready(task) for task in lab.state.tasks.values())
        assert under_way(lab) <= most and ready >= 12 - most
        seen = max(seen, under_way(lab))
        waiting = [t for t in lab.state.tasks.values() if t.node and lab.state.reported_state(t) is TaskState.ASSIGNED]
        ending = [t for t in lab.state.tasks.values() if t.desired == "shutdown" and not lab.state.has_ended(t)]
        if lab.state.rebalance is not None and not lab.state.rebalance.active:
            break
        for task in ending:
            lab.report(task, TaskState.SHUTDOWN)
        lab.now += 1.0
        for task in waiting[:1]:
            lab.report(task, TaskState.RUNNING)
    assert seen == most
    assert lab.places() == {"n1": 4, "n2": 4, "n3": 4}


def test_single_tasks_move_only_with_consent_and_data_never() -> None:
    lab = lopsided(*(a_service(f"s{i}") for i in range(6)), a_service("db", replicas=1, volumes=("app_data",)))
    rebalance(lab)
    carried_out(lab)
    assert "n3" not in lab.places()
    rebalance(lab, "w2", include_single=True)
    carried_out(lab)
    assert lab.places()["n3"] == 2
    [db] = lab.tasks("db")
    assert not db.moving and db.n == 1


def test_a_service_that_is_not_whole_is_left_alone() -> None:
    lab = lopsided(a_service("web", replicas=6), a_service("sick", replicas=4))
    lab.deploy(a_stack("app", a_service("web", replicas=6), a_service("sick", replicas=4, image="app:2")))
    lab.settle()
    rebalance(lab)
    lab.settle()
    assert not any(task.moving for task in lab.tasks("sick"))
    assert any(task.moving for task in lab.tasks("web", live=False))


def test_constraints_and_spread_preferences_are_kept() -> None:
    lab = Lab("n1", "n2", "n3", "n4")
    for name, zone in (("n1", "a"), ("n2", "a"), ("n3", "a"), ("n4", "b")):
        lab.node(name, labels={"zone": zone})
    spread = dataclasses.replace(a_service("web", replicas=6), spread=("node.labels.zone",))
    lab.deploy(a_stack("app", spread, a_service("only", replicas=3, constraints=("node.hostname == n1",))))
    lab.run_all()
    assert lab.places("web")["n4"] == 3
    before = lab.tasks()
    rebalance(lab)
    carried_out(lab)
    assert lab.tasks() == before, "six on four nodes are uneven, and even over the zones"


def test_automatic_mode_waits_for_its_cool_down_after_a_node_came_back() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service("web", replicas=4)))
    lab.run_all()
    rebalance(lab, automatic_after=300.0)
    carried_out(lab)
    lab.fall_silent("n2")
    lab.wait(10.0)
    lab.run_all()
    assert lab.places() == {"n1": 4}
    lab.wait(1000.0)
    lab.return_("n2")
    lab.run_all()
    lab.wait(299.0)
    lab.run_all()
    assert lab.places() == {"n1": 4}
    lab.wait(1.0)
    carried_out(lab)
    assert lab.places() == {"n1": 2, "n2": 2}


def test_automatic_mode_waits_for_its_cool_down_after_a_node_came() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service("web", replicas=6)))
    lab.run_all()
    rebalance(lab, automatic_after=300.0)
    carried_out(lab)
    lab.wait(1000.0)
    lab.join("n3")
    lab.run_all()
    lab.wait(299.0)
    lab.run_all()
    assert "n3" not in lab.places()
    lab.wait(1.0)
    carried_out(lab)
    assert lab.places() == {"n1": 2, "n2": 2, "n3": 2}
    lab.wait(10_000.0)
    assert lab.state.rebalance is not None and lab.state.rebalance.moved == 2, "once for each node that came"


def test_a_dry_run_tells_the_moves_that_are_then_made() -> None:
    lab = lopsided(a_service("web", replicas=9))
    [service] = lab.state.services.values()
    foretold = [(move.task.id, move.node) for move in moves(lab.state, service, lab.now)]
    assert len(foretold) == 3 and {node for _, node in foretold} == {"id-n3"}
    rebalance(lab)
    carried_out(lab)
    assert {task.id for task in lab.tasks(live=False) if task.moving} == {task for task, _ in foretold}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(1, 3), st.sampled_from([(), ("node.labels.zone",)])
)
def test_it_always_comes_to_an_end_with_no_service_uneven_over_its_nodes(
    replicas: list[int], most: int, spread: tuple[str, ...]
) -> None:
    lab = Lab("n1", "n2", "n3", "n4")
    for name, zone in (("n1", "a"), ("n2", "a"), ("n3", "b"), ("n4", "b")):
        lab.node(name, labels={"zone": zone}, availability=Availability.PAUSE if name > "n2" else Availability.ACTIVE)
    services = [dataclasses.replace(a_service(f"s{i}", replicas=n), spread=spread) for i, n in enumerate(replicas)]
    lab.deploy(a_stack("app", *services))
    lab.run_all()
    for name in ("n3", "n4"):
        lab.node(name, availability=Availability.ACTIVE)
    rebalance(lab, max_unavailable=most, include_single=True)
    carried_out(lab)
    assert lab.state.rebalance is not None and not lab.state.rebalance.active
    for i in range(len(replicas)):
        places = lab.places(f"s{i}")
        counts = [places.get(f"n{n}", 0) for n in (1, 2, 3, 4)]
        assert max(counts) - min(counts) <= 1, counts
