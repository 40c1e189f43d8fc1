"""What becomes of a service: its slots, its scale, its updates, its end."""

from __future__ import annotations

import dataclasses

import pytest

from cluster.model.network import INGRESS, NetworkSpec
from cluster.model.service import PortSpec, RestartCondition, RestartPolicy
from cluster.model.task import Desired, TaskState
from manager.decide.agenda import Question
from manager.decide.orchestrator import HISTORY
from manager.decide.plan import LONGEST
from manager.decide.reaper import ORPHANED_AFTER
from tests.manager.decide.builders import Lab, a_service, a_stack


def test_a_deploy_gives_every_replica_a_node_and_an_address() -> None:
    lab = Lab("n1", "n2", "n3")
    lab.deploy(a_stack("app", a_service("web", replicas=3)))
    lab.settle()
    tasks = lab.tasks()
    assert [task.slot for task in tasks] == [1, 2, 3]
    assert lab.places() == {"n1": 1, "n2": 1, "n3": 1}
    assert [task.endpoints[0].addresses for task in tasks] == [("10.128.0.3",), ("10.128.0.4",), ("10.128.0.5",)]
    assert all(task.endpoints[0].aliases == ("web",) for task in tasks)


def test_the_whole_of_a_deploy_takes_few_transactions() -> None:
    lab = Lab("n1", "n2", "n3")
    lab.settle()
    before = lab.state.revision
    lab.deploy(a_stack("app", a_service("web", replicas=100)))
    lab.settle()
    assert lab.places() == {"n1": 34, "n2": 33, "n3": 33}
    assert lab.state.revision - before <= 6


def test_scaling_up_fills_the_lowest_free_slots() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service("web", replicas=2)))
    lab.run_all()
    lab.deploy(a_stack("app", a_service("web", replicas=4)))
    lab.run_all()
    assert [task.slot for task in lab.tasks()] == [1, 2, 3, 4]
    assert {task.version for task in lab.tasks()} == {1}, "more replicas need no new tasks"


@pytest.mark.parametrize(
    ("running", "replicas", "left"),
    [
        pytest.param({1, 2, 3, 4}, 3, [1, 2, 3], id="the highest slot on the node with most goes first"),
        pytest.param({1, 2, 4}, 3, [1, 2, 4], id="what does not run goes before what runs"),
        pytest.param({1}, 1, [1], id="only what runs stays"),
        pytest.param({1, 2, 3, 4}, 0, [], id="no replicas is a scale too"),
    ],
)
def test_scaling_down_chooses_who_goes(running: set[int], replicas: int, left: list[int]) -> None:
    lab = Lab("n1", "n2", "n3")
    lab.deploy(a_stack("app", a_service("web", replicas=4)))
    lab.settle()
    slots = {task.slot: task for task in lab.tasks()}
    assert slots[1].node == slots[4].node
    for slot in running:
        lab.report(slots[slot], TaskState.RUNNING)
    lab.deploy(a_stack("app", a_service("web", replicas=replicas)))
    lab.settle()
    assert [task.slot for task in lab.tasks()] == left


def test_what_was_scaled_down_is_forgotten_with_its_claims_once_nothing_is_left_of_it() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("web", replicas=2)))
    lab.run_all()
    lab.deploy(a_stack("app", a_service("web", replicas=1)))
    lab.settle()
    [gone] = [task for task in lab.tasks(live=False) if task.desired is Desired.REMOVE]
    assert lab.state.claims_of[gone.id], "it may still run, so it keeps its address"
    lab.report(gone, TaskState.SHUTDOWN, container="c")
    lab.settle()
    assert not lab.state.claims_of.get(gone.id), "it ended: the address is free"
    assert gone.id in lab.state.tasks, "its container is still there"
    lab.report(gone, TaskState.SHUTDOWN, container="")
    lab.settle()
    assert gone.id not in lab.state.tasks and gone.id not in lab.state.statuses


def test_a_service_that_left_the_stack_goes_to_its_last_key() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("web"), a_service("old", replicas=2, ports=(PortSpec(80, 8080),))))
    lab.run_all()
    lab.deploy(a_stack("app", a_service("web")))
    lab.run_all()
    assert [service.name for service in lab.state.services.values()] == ["web"]
    assert {task.service_uid for task in lab.state.tasks.values()} == set(lab.state.services)
    assert not any(claim.kind == "port" for claim in lab.state.claims.values())


def test_an_update_replaces_one_running_slot_at_a_time_and_stops_before_it_starts() -> None:
    lab = Lab("n1", "n2", "n3")
    lab.deploy(a_stack("app", a_service("web", replicas=3)))
    lab.run_all()
    lab.deploy(a_stack("app", a_service("web", replicas=3, image="app:2")))
    for round_ in range(3):
        lab.settle()
        [new] = [task for task in lab.tasks() if task.version == 2 and not lab.state.is_ready(task)]
        [old] = [t for t in lab.tasks(live=False) if t.slot == new.slot and not lab.state.has_ended(t) and t != new]
        assert (old.desired, new.held) == (Desired.SHUTDOWN, True)
        assert sum(map(lab.state.is_ready, lab.tasks())) == 2, f"round {round_}"
        lab.report(old, TaskState.SHUTDOWN)
        lab.settle()
        new = lab.state.tasks[new.id]
        assert new.node is not None and not new.held
        lab.report(new, TaskState.RUNNING)
    lab.settle()
    assert {task.version for task in lab.tasks()} == {2}
    assert lab.tasks()[0].id in lab.state.statuses


def test_an_update_that_does_not_come_up_goes_no_further() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service("web", replicas=3)))
    lab.run_all()
    lab.deploy(a_stack("app", a_service("web", replicas=3, image="bad")))
    lab.run_all(until=lambda task: task.version == 1)
    for _ in range(4):
        [bad] = [task for task in lab.tasks() if task.version == 2]
        if bad.node is not None:
            lab.report(bad, TaskState.FAILED, exit_code=1)
        lab.wait(60.0)
    assert [task.version for task in lab.tasks()] == [2, 1, 1]


def test_a_mended_version_replaces_the_bad_one_first_and_then_the_rest() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service("web", replicas=2)))
    lab.run_all()
    lab.deploy(a_stack("app", a_service("web", replicas=2, image="bad")))
    lab.run_all(until=lambda task: task.version == 1)
    lab.deploy(a_stack("app", a_service("web", replicas=2, image="app:3")))
    lab.run_all()
    assert {task.version for task in lab.tasks()} == {3}
    assert {task.failures for task in lab.tasks()} == {0}


def test_a_network_with_another_subnet_is_another_network_and_tasks_move_to_it() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("web")))
    lab.run_all()
    before = lab.task()
    other = NetworkSpec("default", "app_default", subnets=("10.9.0.0/24",))
    lab.deploy(a_stack("app", a_service("web"), networks=(other,)))
    lab.run_all()
    assert lab.task().id != before.id
    assert lab.task().endpoints[0].addresses == ("10.9.0.3",)
    assert len(lab.state.networks) == 1, "the old network goes with its last task"


def test_ended_tasks_are_kept_as_history_and_the_oldest_are_removed() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("web")))
    for _ in range(HISTORY + 4):
        lab.run_all(until=lambda task: task.desired is not Desired.RUNNING)
        lab.report(lab.task(), TaskState.FAILED, exit_code=1)
        lab.wait(70.0)
    lab.run_all()
    assert len(lab.tasks(live=False)) == 1 + HISTORY
    assert [t.desired for t in lab.tasks(live=False)] == [Desired.SHUTDOWN] * HISTORY + [Desired.RUNNING]


def test_a_task_of_a_node_that_is_down_is_replaced_elsewhere_and_ended_when_the_node_returns() -> None:
    lab = Lab("n1", "n2", "n3")
    lab.deploy(a_stack("app", a_service("web", replicas=3)))
    lab.run_all()
    [lost] = [task for task in lab.tasks() if task.node == "id-n3"]
    lab.fall_silent("n3")
    lab.wait(2.0)
    assert lab.places() == {"n1": 2, "n2": 1}
    assert "n3 is down" in lab.state.tasks[lost.id].reason
    assert lab.state.claims_of[lost.id], "it may still run there, so its address is not free"
    assert {task.failures for task in lab.tasks()} == {0}
    lab.return_("n3")
    lab.run_all()
    assert lab.state.has_ended(lab.state.tasks[lost.id]) and not lab.state.claims_of.get(lost.id)
    assert sum(map(lab.state.is_ready, lab.tasks())) == 3


def test_after_a_day_a_node_that_is_down_no_longer_holds_addresses() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service("web", replicas=2)))
    lab.run_all()
    [lost] = [task for task in lab.tasks() if task.node == "id-n2"]
    lab.fall_silent("n2")
    lab.wait(3.0)
    lab.wait(ORPHANED_AFTER - 10.0)
    assert lab.state.claims_of.get(lost.id)
    lab.wait(10.0)
    assert lab.state.statuses[lost.id].state is TaskState.ORPHANED
    assert not lab.state.claims_of.get(lost.id)


def test_a_removed_service_does_not_wait_for_a_node_that_is_down() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service("web", replicas=2)))
    lab.run_all()
    lab.fall_silent("n2")
    lab.wait(3.0)
    lab.remove("app")
    lab.run_all(until=lambda task: task.node == "id-n1")
    assert not lab.state.stacks and not lab.state.tasks


def test_a_task_with_a_local_volume_waits_for_its_node_and_says_so() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service("db", volumes=("app_data",))))
    lab.run_all()
    task = lab.task()
    [node] = [name for name in ("n1", "n2") if f"id-{name}" == task.node]
    lab.fall_silent(node)
    lab.wait(2.0)
    task = lab.task()
    assert lab.state.state_of(task) is TaskState.PENDING
    assert node in task.reason and "app_data" in task.reason
    lab.return_(node)
    lab.run_all()
    assert lab.state.state_of(lab.task()) is TaskState.RUNNING
    assert (lab.task().id, lab.task().reason) == (task.id, ""), "the same task, never touched"


def test_a_drained_node_gives_up_its_tasks() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service("web", replicas=2)))
    lab.run_all()
    lab.drain("n1")
    lab.run_all()
    assert lab.places() == {"n2": 2}


def test_a_drained_node_with_a_volume_has_its_task_wait_and_start_only_when_the_old_one_has_ended() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("db", volumes=("app_data",))))
    lab.run_all()
    old = lab.task()
    lab.node("n1", availability="drain", drain_until=lab.now)
    lab.settle()
    assert lab.task().id != old.id and lab.task().node is None
    lab.node("n1", availability="active")
    lab.settle()
    assert lab.task().node is None and "before it" in lab.task().reason
    lab.report(old, TaskState.SHUTDOWN)
    lab.settle()
    assert lab.task().node == "id-n1"


def test_a_node_taken_out_of_the_cluster_leaves_nothing_behind() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service("web", replicas=2, ports=(PortSpec(80, 8080),))))
    lab.run_all()
    lab.write(delete=(lab.state.nodes["id-n2"],))
    lab.run_all()
    assert lab.places() == {"n1": 2}
    assert "id-n2" not in lab.state.node_states and "id-n2" not in lab.state.sessions
    assert not lab.state.claims_of.get("id-n2")


@pytest.mark.parametrize(
    ("policy", "state", "again"),
    [
        pytest.param(RestartPolicy(), TaskState.COMPLETE, True, id="any: one that did its work is started again"),
        pytest.param(RestartPolicy(RestartCondition.ON_FAILURE), TaskState.COMPLETE, False, id="on-failure: it rests"),
        pytest.param(RestartPolicy(RestartCondition.ON_FAILURE), TaskState.FAILED, True, id="on-failure: it failed"),
        pytest.param(RestartPolicy(RestartCondition.NONE), TaskState.FAILED, False, id="none: it stays as it ended"),
        pytest.param(RestartPolicy(RestartCondition.NONE), TaskState.REJECTED, False, id="none: also if it never ran"),
    ],
)
def test_what_follows_a_task_that_ended_by_itself(policy: RestartPolicy, state: TaskState, again: bool) -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("web", restart=policy)))
    lab.run_all()
    old = lab.task()
    lab.report(old, state, exit_code=0 if state is TaskState.COMPLETE else 1)
    lab.settle()
    assert [task.id != old.id for task in lab.tasks()] == ([True] if again else [])
    lab.wait(3600.0)
    assert len(lab.tasks(live=False)) == (2 if again else 1)


def test_a_rest_does_not_hold_up_a_new_version() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("job", restart=RestartPolicy(RestartCondition.NONE))))
    lab.run_all()
    lab.report(lab.task(), TaskState.COMPLETE, exit_code=0)
    lab.settle()
    lab.deploy(a_stack("app", a_service("job", image="app:2", restart=RestartPolicy(RestartCondition.NONE))))
    lab.settle()
    assert lab.task().version == 2 and lab.task().node == "id-n1"


def test_a_published_port_has_one_owner_and_the_other_is_told() -> None:
    lab = Lab("n1")
    port = (PortSpec(80, 8080),)
    lab.deploy(a_stack("a", a_service("web", ports=port)))
    lab.settle()
    lab.deploy(a_stack("b", a_service("web", ports=port)))
    lab.settle()
    problems = {service.full_name: service.problem for service in lab.state.services.values()}
    assert problems == {"a_web": "", "b_web": "port tcp/8080 is published by a_web"}
    lab.remove("a")
    lab.run_all()
    assert [service.problem for service in lab.state.services.values()] == [""]


def test_ports_published_on_every_node_bring_their_network_and_take_it_away() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service("web", ports=(PortSpec(80, 8080),))))
    lab.run_all()
    assert lab.state.networks[INGRESS].subnets == ("10.192.0.0/16",)
    assert {verdict.ingress is not None for verdict in lab.state.node_states.values()} == {True}
    assert [endpoint.network for endpoint in lab.task().endpoints][-1] == INGRESS
    lab.remove("app")
    lab.run_all()
    assert lab.keys() <= {"cluster", "clock", "node", "nodestate", "session", "manager"}
    assert {verdict.ingress for verdict in lab.state.node_states.values()} == {None}


def test_many_published_ports_come_and_go() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("web", ports=tuple(PortSpec(port, port) for port in range(8000, 8300)))))
    lab.run_all()
    assert sum(claim.kind == "port" for claim in lab.state.claims.values()) == 300
    lab.remove("app")
    lab.run_all()
    assert not lab.state.claims and not lab.state.services


def test_more_host_ports_than_one_transaction_holds_are_a_problem_of_that_service_alone() -> None:
    lab = Lab("n1")
    ports = tuple(PortSpec(port, port, mode="host") for port in range(8000, 8100))
    lab.deploy(a_stack("app", a_service("web", ports=ports), a_service("db")))
    lab.settle()
    problems = {service.name: service.problem for service in lab.state.services.values()}
    assert "belong together" in problems["web"] and problems["db"] == ""
    assert lab.task("db").node == "id-n1"


def test_a_host_port_is_used_once_on_each_node() -> None:
    lab = Lab("n1", "n2")
    port = (PortSpec(80, 8080, mode="host"),)
    lab.deploy(a_stack("app", a_service("web", replicas=3, ports=port)))
    lab.run_all()
    assert lab.places() == {"n1": 1, "n2": 1, None: 1}
    [waits] = [task for task in lab.tasks() if task.node is None]
    assert "8080" in waits.reason or "host port" in waits.reason
    lab.join("n3")
    lab.run_all()
    assert lab.places() == {"n1": 1, "n2": 1, "n3": 1}


def test_a_service_without_networks_gets_none() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("web", networks=())))
    lab.run_all()
    assert lab.task().endpoints == ()
    assert not lab.state.networks


def test_a_plan_counts_no_more_tasks_than_it_makes() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service("web", replicas=2 * LONGEST)))
    lab.settle()
    [service] = lab.state.services.values()
    assert sorted((task.slot, task.n) for task in lab.tasks()) == [(n, n) for n in range(1, 2 * LONGEST + 1)]
    assert service.tasks_made == 2 * LONGEST


def test_no_task_id_ever_comes_back() -> None:
    lab = Lab("n1")
    seen: set[str] = set()
    for replicas in (3, 0, 2, 0, 3):
        lab.deploy(a_stack("app", a_service("web", replicas=replicas)))
        lab.run_all()
        ids = {task.id for task in lab.tasks()}
        assert not ids & seen
        seen |= ids


def test_two_wanted_tasks_in_one_slot_are_a_bug_that_sets_the_service_aside_and_no_other() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("web"), a_service("db")))
    lab.run_all()
    task = lab.task("web")
    lab.write(dataclasses.replace(task, id="x" * 25, n=0, endpoints=()))
    web, db = (next(s for s in lab.state.services.values() if s.name == name) for name in ("web", "db"))
    plan = lab.leader.decide(next(q for q in _questions(lab) if q.ident == web.uid), lab.now)
    [step] = plan.steps
    [state] = step.puts
    assert "set aside" in state.problem and state.quarantined_until == plan.wake_at  # type: ignore[union-attr]
    assert not lab.leader.decide(next(q for q in _questions(lab) if q.ident == db.uid), lab.now).steps


def _questions(lab: Lab) -> list[Question]:
    lab.leader.agenda.mark_all()
    found = []
    while (question := lab.leader.agenda.take(lab.now)) is not None:
        found.append(question)
    return found
