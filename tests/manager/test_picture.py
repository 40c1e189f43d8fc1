"""The picture: the same whether it was fed change by change, twice over, or from a listing."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.codec import PREFIX, encode, key_of
from cluster.errors import Inconsistent
from cluster.model.cluster import Claim
from cluster.model.network import Endpoint
from cluster.model.node import Manager, Node, NodeState, NodeStatus, Session, SessionState
from cluster.model.task import Desired, Task, TaskState, TaskStatus
from manager.picture import ClusterState, Event
from tests.manager.decide.builders import NOW, Lab, a_description, a_service, a_stack

TASK = Task("t1", "s1", "v1", 1, 1, 1, NOW, node="n1", endpoints=(Endpoint("net", ("10.0.0.2",)),))
UNBOUND = dataclasses.replace(TASK, id="t2", node=None, endpoints=(), slot=2, n=2)


def fed(*records: Any) -> ClusterState:
    state = ClusterState()
    state.apply([Event(key_of(r), encode(r), n) for n, r in enumerate(records, 1)], len(records))
    return state


def indexes(state: ClusterState) -> dict[str, Any]:
    """Everything but what is only known by whoever saw it happen: what was claimed last, and how often."""
    seen = ("newest", "stamps", "_index")
    known = {name: value for name, value in vars(state).items() if name not in seen and not callable(value)}
    known["roster"] = (
        state.roster.grouped((), ()).groups,
        state.roster.grouped(("node.hostname",), ("node.labels.zone",)).found,
        {node: state.roster.reserved(node) for node in state.nodes},
    )
    return known


def a_history() -> list[tuple[int, list[Event]]]:
    """All that happened in a lively cluster, revision by revision."""
    lab = Lab("n1", "n2", "n3")
    lab.deploy(a_stack("app", a_service("web", replicas=3), a_service("db", volumes=("app_data",))))
    lab.run_all()
    lab.deploy(a_stack("app", a_service("web", replicas=1, image="app:2")))
    lab.fall_silent("n2")
    lab.wait(10.0)
    lab.run_all()
    lab.remove("app")
    lab.deploy(a_stack("b", a_service("web", replicas=2)))
    lab.run_all()
    return [
        (revision, [Event(e.key, e.current.value if e.current else None, revision) for e in events])
        for revision, events in lab.store.history
    ]


HISTORY = a_history()


def test_one_batch_or_many_lead_to_the_same_picture() -> None:
    slow, fast = ClusterState(), ClusterState()
    for revision, events in HISTORY:
        slow.apply(events, revision)
    fast.apply([event for _, events in HISTORY for event in events], HISTORY[-1][0])
    assert indexes(slow) == indexes(fast)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_events_that_come_again_change_nothing(seed: int) -> None:
    rng, state, plain = random.Random(seed), ClusterState(), ClusterState()
    for at, (revision, events) in enumerate(HISTORY):
        plain.apply(events, revision)
        state.apply(events, revision)
        back = rng.randrange(at + 1)
        again = [event for _, old in HISTORY[back : at + 1] for event in old]
        assert state.apply(again, HISTORY[back][0]) == []
    assert indexes(state) == indexes(plain)


@settings(max_examples=50, deadline=None)
@given(seen=st.integers(0, len(HISTORY)), listed=st.integers(0, len(HISTORY)))
def test_a_listing_replaces_whatever_was_known_and_an_older_one_nothing(seen: int, listed: int) -> None:
    state, target = ClusterState(), ClusterState()
    for revision, events in HISTORY[:seen]:
        state.apply(events, revision)
    for revision, events in HISTORY[:listed]:
        target.apply(events, revision)
    before = indexes(state) if seen > listed else None
    listing = [(key, encode(record), target.revision_of(key)) for key, record in target.records()]
    random.Random(seen).shuffle(listing)
    changes = state.replace(listing, target.revision)
    if before is not None:
        assert changes == [] and indexes(state) == before
        return
    assert indexes(state) == indexes(target)
    assert len({change.key for change in changes}) == len(changes)


def test_changes_tell_what_was_and_what_is() -> None:
    state = fed(TASK)
    ended = dataclasses.replace(TASK, desired=Desired.REMOVE)
    [changed] = state.apply([Event(key_of(TASK), encode(ended), 2)], 2)
    assert (changed.old, changed.new) == (TASK, ended)
    [deleted] = state.apply([Event(key_of(TASK), None, 3)], 3)
    assert (deleted.old, deleted.new) == (ended, None)
    assert state.apply([Event(key_of(TASK), None, 4)], 4) == []
    assert state.revision == 4


@pytest.mark.parametrize(
    ("task", "status", "node", "expected"),
    [
        pytest.param(UNBOUND, None, NodeStatus.READY, TaskState.PENDING, id="no node yet"),
        pytest.param(TASK, None, NodeStatus.READY, TaskState.ASSIGNED, id="bound, the agent has not answered"),
        pytest.param(TASK, TaskState.RUNNING, NodeStatus.READY, TaskState.RUNNING, id="as the agent says"),
        pytest.param(TASK, TaskState.RUNNING, NodeStatus.AGENT_LOST, TaskState.RUNNING, id="only the agent is lost"),
        pytest.param(TASK, TaskState.RUNNING, NodeStatus.DOWN, TaskState.PENDING, id="its node is down"),
        pytest.param(TASK, TaskState.FAILED, NodeStatus.DOWN, TaskState.FAILED, id="it ended before that"),
        pytest.param(TASK, TaskState.RUNNING, None, TaskState.PENDING, id="its node is no longer a member"),
        pytest.param(
            dataclasses.replace(TASK, desired=Desired.SHUTDOWN),
            TaskState.RUNNING,
            NodeStatus.DOWN,
            TaskState.RUNNING,
            id="it is to end anyway",
        ),
    ],
)
def test_how_far_a_task_has_come(
    task: Task, status: TaskState | None, node: NodeStatus | None, expected: TaskState
) -> None:
    records: list[Any] = [task]
    if status is not None:
        records.append(TaskStatus(task.id, status, NOW))
    if node is not None:
        records += [Node("n1", "n1", "worker", NOW), NodeState("n1", node, NOW)]
    state = fed(*records)
    assert state.state_of(task) is expected
    assert state.is_ready(task) is (expected is TaskState.RUNNING and task.desired is Desired.RUNNING)


def test_an_agent_is_heard_while_its_session_is_open_at_a_manager_that_lives() -> None:
    session = Session("n1", 1, "m1", SessionState.OPEN, NOW, a_description("n1"))
    manager = Manager("m1", "m1", "https://m1", NOW)
    assert fed(session, manager).is_heard(session)
    assert not fed(session).is_heard(session)
    assert not fed(manager).is_heard(dataclasses.replace(session, state=SessionState.SILENT))
    assert not fed(manager).is_heard(None)


def test_what_a_task_holds_is_counted_while_it_holds_it() -> None:
    state = fed(TASK, UNBOUND, Claim("address", "net/10.0.0.2", "t1"))
    assert (state.load, state.unbound) == ({"n1": 1}, {"v1": {"t2"}})
    assert (state.tasks_in, state.occupied) == ({"net": {"t1"}}, {"net": {0x0A000002}})
    state.apply([Event(key_of(s := TaskStatus("t1", TaskState.FAILED, NOW)), encode(s), 9)], 9)
    assert (state.load, state.tasks_in) == ({}, {})
    assert state.occupied, "its claim is deleted by a decision, not by its end"
    state.apply([Event(key_of(Claim("address", "net/10.0.0.2", "t1")), None, 10)], 10)
    assert not state.occupied and not state.claims_of


def test_a_record_that_cannot_be_read_stops_the_picture() -> None:
    with pytest.raises(Inconsistent):
        ClusterState().apply([Event(f"{PREFIX}task/t1", b"{}", 1)], 1)
