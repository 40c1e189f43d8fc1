"""How a service goes over to a new version: in turn, in what order, and what becomes of it when new tasks fail."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from cluster.model.service import (
    FailureAction,
    PortSpec,
    RestartCondition,
    RestartPolicy,
    ServiceMode,
    ServiceSpec,
    UpdateConfig,
)
from cluster.model.stack import StackRevision
from cluster.model.task import Desired, Task, TaskState
from cluster.model.update import UpdateState, UpdateStatus
from manager.decide.revisions import Resolved
from manager.decide.updater import SETTLE
from tests.manager.decide.builders import Lab, a_service, a_stack, next_revision

PAUSE, CONTINUE, ROLLBACK = FailureAction
NEVER = RestartPolicy(RestartCondition.NONE)


def service(image: str = "app:1", *, replicas: int = 4, **update: Any) -> ServiceSpec:
    made = a_service("web", replicas=replicas, image=image)
    return dataclasses.replace(made, update=UpdateConfig(**update))


def running(**update: Any) -> Lab:
    """Four tasks of the first version, on three nodes."""
    lab = Lab("n1", "n2", "n3")
    lab.deploy(a_stack("app", service(**update)))
    lab.run_all()
    return lab


def update(lab: Lab, image: str = "app:2", **config: Any) -> None:
    lab.deploy(a_stack("app", service(image, **config)))
    lab.settle()


def status(lab: Lab) -> UpdateStatus:
    [found] = lab.state.services.values()
    assert found.update is not None
    return found.update


def of(lab: Lab, version: int) -> list[Task]:
    return [task for task in lab.tasks() if task.version == version]


def end_old(lab: Lab) -> None:
    """What was asked to end has ended."""
    for task in lab.tasks(live=False):
        if task.desired is not Desired.RUNNING and not lab.state.has_ended(task):
            lab.report(task, TaskState.SHUTDOWN)
    lab.settle()


def report(lab: Lab, state: TaskState, version: int = 2, most: int = 99, **fields: Any) -> None:
    """Have the waiting tasks of a version come to a state."""
    end_old(lab)
    waiting = [t for t in of(lab, version) if t.node is not None and not lab.state.is_ready(t)]
    for task in waiting[:most]:
        if state is TaskState.RUNNING:
            fields["running_at"] = lab.now
        lab.report(task, state, **fields)
    lab.settle()


def head(lab: Lab) -> StackRevision:
    [stack] = lab.state.stacks.values()
    found = lab.state.head(stack.uid)
    assert found is not None
    return found


# In turn


@pytest.mark.parametrize(
    ("parallelism", "at_a_time"),
    [
        pytest.param(1, 1, id="one by one"),
        pytest.param(3, 3, id="three at a time"),
        pytest.param(0, 4, id="0 is all at once"),
        pytest.param(9, 4, id="more than there are"),
    ],
)
def test_so_many_slots_are_replaced_at_a_time(parallelism: int, at_a_time: int) -> None:
    lab = running()
    update(lab, parallelism=parallelism)
    assert len(of(lab, 2)) == at_a_time
    assert sum(map(lab.state.is_ready, lab.tasks())) == 4 - at_a_time
    while of(lab, 1):
        report(lab, TaskState.RUNNING, most=1)
        assert sum(map(lab.state.is_ready, lab.tasks())) >= 4 - at_a_time
    assert status(lab).state is UpdateState.UPDATING


def test_the_next_slot_waits_for_the_delay_after_the_last_one_was_ready() -> None:
    lab = running()
    update(lab, delay=10.0)
    report(lab, TaskState.RUNNING)
    assert len(of(lab, 2)) == 1
    lab.wait(9.0)
    assert len(of(lab, 2)) == 1
    assert lab.leader.agenda.next_wake() == pytest.approx(lab.now + 1.0)
    lab.wait(1.0)
    assert len(of(lab, 2)) == 2


def test_a_task_without_a_health_check_counts_once_it_has_run_for_a_moment() -> None:
    lab = running()
    update(lab)
    lab.hands_over = False
    report(lab, TaskState.RUNNING)
    assert len(of(lab, 2)) == 1
    lab.wait(SETTLE)
    assert len(of(lab, 2)) == 2


def test_a_version_that_has_shown_that_it_runs_is_not_waited_for_again() -> None:
    lab = running()
    update(lab)
    report(lab, TaskState.RUNNING)
    assert len(of(lab, 2)) == 2, "the first one has settled"
    lab.hands_over = False
    report(lab, TaskState.RUNNING)
    assert len(of(lab, 2)) == 3


def test_an_update_is_completed_when_the_last_task_has_been_watched_for_long_enough() -> None:
    lab = running()
    update(lab, parallelism=0, monitor=5.0)
    began = status(lab)
    assert (began.state, began.version, began.previous, began.total) == (UpdateState.UPDATING, 2, 1, 4)
    report(lab, TaskState.RUNNING)
    assert status(lab).state is UpdateState.UPDATING
    lab.wait(5.0)
    assert status(lab).state is UpdateState.COMPLETED
    assert (status(lab).started_at, status(lab).phase_since) == (began.started_at, lab.now)


def test_what_needs_no_new_task_makes_none_and_is_no_update() -> None:
    lab = running()
    before = [task.id for task in lab.tasks()]
    changed = dataclasses.replace(service(parallelism=3), labels={"team": "a"}, constraints=("node.hostname != n9",))
    lab.deploy(a_stack("app", changed))
    lab.run_all()
    assert [task.id for task in lab.tasks()] == before
    assert next(iter(lab.state.services.values())).update is None


def test_a_service_that_did_not_change_is_not_touched() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", service(replicas=1), a_service("db")))
    lab.run_all()
    before = lab.task("db")
    lab.deploy(a_stack("app", service("app:2", replicas=1), a_service("db")))
    lab.run_all()
    assert lab.task("db") == before


def test_a_new_leader_goes_on_where_the_old_one_was() -> None:
    lab = running()
    update(lab, delay=10.0)
    report(lab, TaskState.RUNNING)
    lab.wait(4.0)
    lab.leader = type(lab.leader)(lab.state, lab.now)
    lab.wait(5.0)
    assert len(of(lab, 2)) == 1
    lab.wait(1.0)
    assert len(of(lab, 2)) == 2


# A new deploy during an update


def test_a_deploy_during_an_update_takes_over_and_replaces_first_what_serves_nobody() -> None:
    lab = running()
    update(lab)
    report(lab, TaskState.RUNNING)
    unready = [task.slot for task in of(lab, 2) if not lab.state.is_ready(task)]
    update(lab, "app:3")
    assert [task.slot for task in of(lab, 3)] == unready, "one slot does not serve: no other is taken away"
    assert status(lab).version == 3
    lab.run_all()
    lab.wait(5.0)
    assert {task.version for task in lab.tasks()} == {3}
    assert status(lab).state is UpdateState.COMPLETED


def test_a_deploy_while_an_update_goes_back_takes_over() -> None:
    lab = running()
    update(lab, "bad", failure_action=ROLLBACK, parallelism=2)
    report(lab, TaskState.FAILED, exit_code=1, most=1)
    assert status(lab).state is UpdateState.ROLLBACK_STARTED
    update(lab, "app:3", failure_action=ROLLBACK, parallelism=2)
    assert (status(lab).state, status(lab).version, status(lab).previous) == (UpdateState.UPDATING, 4, 1)
    lab.wait(60.0)
    lab.run_all()
    lab.wait(5.0)
    assert {task.version for task in lab.tasks()} == {4} and len(lab.tasks()) == 4
    assert status(lab).state is UpdateState.COMPLETED


def test_an_update_that_was_overtaken_is_not_what_a_failed_one_goes_back_to() -> None:
    lab = running()
    update(lab, failure_action=ROLLBACK)
    update(lab, "app:3", failure_action=ROLLBACK)
    assert status(lab).previous == 1


def test_going_back_by_hand_keeps_the_tasks_that_were_not_replaced_yet() -> None:
    lab = running()
    old = {task.slot: task.id for task in lab.tasks()}
    update(lab)
    report(lab, TaskState.RUNNING)
    stack, revision = next_revision(lab.state, head(lab).spec)
    first = lab.state.revisions[stack.uid][1]
    lab.write(stack, dataclasses.replace(revision, spec=first.spec, services=first.services))
    lab.run_all()
    kept = [task for task in lab.tasks() if old[task.slot] == task.id]
    assert {task.version for task in lab.tasks()} == {1}
    assert len(kept) == 2


# When new tasks fail


def test_a_task_that_fails_early_pauses_the_update() -> None:
    lab = running()
    update(lab)
    report(lab, TaskState.FAILED, exit_code=3, message="exited with code 3", log=("it began", "no such database"))
    assert status(lab).state is UpdateState.PAUSED
    assert status(lab).message == "1 of 4 new tasks failed: exited with code 3, it said: no such database"
    for _ in range(3):
        report(lab, TaskState.RUNNING)
        lab.wait(60.0)
    assert len(of(lab, 1)) == 3, "the others are left as they are"


def test_a_task_that_fails_after_it_was_watched_is_restarted_and_nothing_else() -> None:
    lab = running()
    update(lab, monitor=5.0)
    report(lab, TaskState.RUNNING)
    [task] = [task for task in of(lab, 2) if lab.state.is_ready(task)]
    lab.now += 5.1
    lab.report(task, TaskState.FAILED, exit_code=1, running_at=lab.now - 5.1)
    lab.settle()
    assert status(lab).state is UpdateState.UPDATING
    lab.run_all()
    lab.wait(5.0)
    assert status(lab).state is UpdateState.COMPLETED


def test_as_many_may_fail_as_max_failure_ratio_says() -> None:
    lab = running()
    update(lab, max_failure_ratio=0.25)
    report(lab, TaskState.FAILED, exit_code=1)
    assert (status(lab).state, status(lab).failed) == (UpdateState.UPDATING, (1,))
    assert {task.slot for task in of(lab, 2)} == {1, 2}, "the failed one is not waited for"
    report(lab, TaskState.FAILED, exit_code=1)
    assert status(lab).state is UpdateState.PAUSED


def test_with_continue_failures_are_told_and_change_nothing() -> None:
    lab = running()
    update(lab, failure_action=CONTINUE, parallelism=0)
    report(lab, TaskState.FAILED, exit_code=1, most=2)
    assert status(lab).state is UpdateState.UPDATING
    lab.wait(2.0)
    lab.run_all()
    lab.wait(10.0)
    assert {task.version for task in lab.tasks()} == {2}
    assert status(lab).state is UpdateState.COMPLETED
    assert "2 of 4 new tasks failed" in status(lab).message


def test_a_deploy_goes_on_with_a_paused_update_when_it_asks_for_that() -> None:
    lab = running()
    update(lab)
    report(lab, TaskState.FAILED, exit_code=1)
    stack, revision = next_revision(lab.state, head(lab).spec)
    again = {name: dataclasses.replace(v, attempt=v.attempt + 1) for name, v in revision.services.items()}
    lab.write(stack, dataclasses.replace(revision, services=again))
    lab.settle()
    assert (status(lab).state, status(lab).failed, status(lab).message) == (UpdateState.UPDATING, (), "")
    lab.wait(60.0)
    lab.run_all()
    lab.wait(5.0)
    assert status(lab).state is UpdateState.COMPLETED
    assert {task.version for task in lab.tasks()} == {2}


# Going back


def rolled_back(**config: Any) -> Lab:
    lab = running()
    lab.deploy(a_stack("app", service(replicas=5)))  # scaled: a revision of its own, without new tasks
    lab.run_all()
    lab.deploy(a_stack("app", service("bad", replicas=5, failure_action=ROLLBACK, **config)))
    lab.settle()
    report(lab, TaskState.FAILED, version=3, exit_code=3, message="no such database")
    return lab


def test_a_failed_update_goes_back_by_a_revision_with_the_old_spec() -> None:
    lab = rolled_back()
    assert head(lab).n == 4
    assert head(lab).author == "stackyard"
    assert "back to revision 2" in head(lab).reason and "no such database" in head(lab).reason
    assert head(lab).spec == lab.state.revisions[head(lab).stack_uid][2].spec
    assert (status(lab).state, status(lab).version) == (UpdateState.ROLLBACK_STARTED, 1)
    lab.wait(60.0)
    lab.run_all()
    lab.wait(5.0)
    assert {task.version for task in lab.tasks()} == {1} and len(lab.tasks()) == 5
    assert status(lab).state is UpdateState.ROLLBACK_COMPLETED
    assert "no such database" in status(lab).message


def test_going_back_has_a_configuration_of_its_own_and_never_goes_back_again() -> None:
    lab = Lab("n1", "n2", "n3")
    spec = dataclasses.replace(service(), rollback=UpdateConfig(parallelism=0, failure_action=ROLLBACK))
    lab.deploy(a_stack("app", spec))
    lab.run_all()
    update(lab, "bad", failure_action=ROLLBACK, parallelism=3)
    report(lab, TaskState.RUNNING, most=2)
    report(lab, TaskState.FAILED, exit_code=1)
    assert status(lab).state is UpdateState.ROLLBACK_STARTED
    assert {task.version for task in lab.tasks()} == {1}, "all of them at once"
    report(lab, TaskState.FAILED, version=1, exit_code=1)
    assert status(lab).state is UpdateState.ROLLBACK_PAUSED
    assert head(lab).n == 3


def test_an_update_of_nothing_but_the_image_behind_a_tag_goes_back_too() -> None:
    lab = running()
    spec = a_stack("app", service(failure_action=ROLLBACK))
    [name] = spec.services
    lab.deploy(spec, images={name: Resolved("sha256:old")})
    lab.run_all()
    lab.wait(60.0)
    lab.deploy(spec, images={name: Resolved("sha256:new")})
    lab.settle()
    report(lab, TaskState.FAILED, version=3, exit_code=3)
    assert (head(lab).n, head(lab).author) == (4, "stackyard")
    assert head(lab).image_digests == {name: "sha256:old"}
    assert head(lab).services[name].version == 2


def test_the_same_deploy_again_after_it_went_back_is_tried_again() -> None:
    lab = rolled_back()
    lab.wait(60.0)
    lab.run_all()
    lab.wait(5.0)
    lab.deploy(a_stack("app", service("bad", replicas=5, failure_action=ROLLBACK)))
    lab.settle()
    assert (status(lab).state, status(lab).previous) == (UpdateState.UPDATING, 1)
    lab.run_all()
    lab.wait(5.0)
    assert status(lab).state is UpdateState.COMPLETED


def test_one_failed_service_of_an_atomic_deploy_takes_the_others_back() -> None:
    lab = Lab("n1", "n2", "n3")
    lab.deploy(a_stack("app", service(replicas=2), a_service("db"), a_service("old")))
    lab.run_all()
    spec = a_stack("app", service("bad", replicas=2), a_service("db", image="db:2"), a_service("new"))
    stack, revision = next_revision(lab.state, spec)
    lab.write(stack, dataclasses.replace(revision, atomic=True))
    lab.run_all(until=lambda task: lab.state.services[task.service_uid].name != "web" or task.version == 1)
    assert {task.version for task in lab.tasks("db")} == {2} and lab.tasks("new")
    end_old(lab)
    [bad] = [task for task in lab.tasks("web") if task.version == 2]
    lab.report(bad, TaskState.FAILED, exit_code=1)
    lab.settle()
    lab.wait(60.0)
    lab.run_all()
    assert head(lab).n == 3 and head(lab).spec == lab.state.revisions[stack.uid][1].spec
    assert {task.version for task in lab.tasks("web") + lab.tasks("db")} == {1}
    assert lab.tasks("old") and not lab.tasks("new")


def test_what_was_changed_again_since_an_atomic_deploy_is_not_taken_back_with_it() -> None:
    lab = Lab("n1", "n2", "n3")
    lab.deploy(a_stack("app", service(replicas=2), a_service("db")))
    lab.run_all()
    bad = service("bad", replicas=2)
    stack, revision = next_revision(lab.state, a_stack("app", bad, a_service("db", image="db:2")))
    lab.write(stack, dataclasses.replace(revision, atomic=True))
    lab.run_all(until=lambda task: lab.state.services[task.service_uid].name != "web" or task.version == 1)
    lab.deploy(a_stack("app", bad, a_service("db", image="db:3")))
    end_old(lab)
    [task] = [task for task in lab.tasks("web") if task.version == 2]
    lab.report(task, TaskState.FAILED, exit_code=1)
    lab.run_all()
    assert head(lab).n == 4 and head(lab).spec.services["web"].container.image == service().container.image
    assert head(lab).spec.services["db"].container.image == "db:3"
    assert {task.version for task in lab.tasks("db")} == {3}


def test_a_new_service_of_an_atomic_deploy_is_held_to_its_first_tasks() -> None:
    lab = Lab("n1", "n2", "n3")
    lab.deploy(a_stack("app", a_service("db")))
    lab.run_all()
    stack, revision = next_revision(lab.state, a_stack("app", service(replicas=2), a_service("db")))
    lab.write(stack, dataclasses.replace(revision, atomic=True))
    lab.settle()
    lab.report(lab.tasks("web")[0], TaskState.REJECTED, message="no such image")
    lab.run_all()
    assert set(head(lab).spec.services) == {"db"}
    assert not lab.tasks("web") and len(lab.tasks("db")) == 1


# Start-first


def test_start_first_makes_the_new_task_beside_the_old_one_which_leaves_when_it_is_ready() -> None:
    lab = running()
    update(lab, order="start-first", parallelism=2)
    new = of(lab, 2)
    assert len(new) == 2 and all(task.node is not None for task in new)
    assert sum(map(lab.state.is_ready, lab.tasks())) == 4, "nothing was taken away"
    yielding = [task for task in of(lab, 1) if task.yields]
    assert [task.slot for task in yielding] == [task.slot for task in new]
    report(lab, TaskState.RUNNING, most=1)
    ended = [lab.state.tasks[task.id] for task in yielding]
    assert [task.desired for task in ended] == [Desired.SHUTDOWN, Desired.RUNNING]
    lab.run_all()
    lab.wait(5.0)
    assert {task.version for task in lab.tasks()} == {2} and len(lab.tasks()) == 4


def test_a_bad_version_that_starts_first_takes_nothing_away_and_goes_without_a_trace() -> None:
    lab = running()
    before = {task.id for task in lab.tasks()}
    update(lab, "bad", order="start-first", failure_action=ROLLBACK)
    for _ in range(2):
        report(lab, TaskState.FAILED, exit_code=1)
        assert sum(map(lab.state.is_ready, lab.tasks())) == 4
    lab.wait(60.0)
    lab.run_all()
    lab.wait(5.0)
    assert status(lab).state is UpdateState.ROLLBACK_COMPLETED
    assert len({task.id for task in lab.tasks()} & before) >= 3
    assert sum(map(lab.state.is_ready, lab.tasks())) == len(lab.tasks()) == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"ports": (PortSpec(80, 8080, mode="host"),)}, "host port", id="a host port"),
        pytest.param({"volumes": ("app_data",)}, "volume", id="a volume of one node"),
    ],
)
def test_start_first_gives_way_where_two_tasks_would_clash_and_says_so(change: dict[str, Any], words: str) -> None:
    lab = Lab("n1")
    config = UpdateConfig(order="start-first")
    lab.deploy(a_stack("app", dataclasses.replace(a_service("web", **change), update=config)))
    lab.run_all()
    lab.deploy(a_stack("app", dataclasses.replace(a_service("web", image="app:2", **change), update=config)))
    lab.settle()
    assert words in status(lab).message
    lab.run_all()
    lab.wait(5.0)
    assert lab.task().version == 2 and lab.state.is_ready(lab.task())


@pytest.mark.parametrize("order", ["stop-first", "start-first"])
@pytest.mark.parametrize("mode", [ServiceMode.REPLICATED, ServiceMode.GLOBAL])
def test_a_service_with_host_ports_on_every_node_does_not_block_its_own_update(mode: ServiceMode, order: Any) -> None:
    lab = Lab("n1", "n2", "n3")
    ports = (PortSpec(80, 8080, mode="host"),)
    for image in ("app:1", "app:2"):
        spec = a_service("web", replicas=3, image=image, ports=ports, mode=mode, update=UpdateConfig(order=order))
        lab.deploy(a_stack("app", spec))
        lab.run_all()
    lab.wait(5.0)
    assert {task.version for task in lab.tasks()} == {2} and lab.places() == {"n1": 1, "n2": 1, "n3": 1}
    assert status(lab).state is UpdateState.COMPLETED


# Moves


def test_a_drain_takes_no_more_away_than_the_update_config_allows() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", service(replicas=4)))
    lab.run_all()
    lab.drain("n2")
    lab.settle()
    assert sum(map(lab.state.is_ready, lab.tasks())) == 3
    lab.run_all()
    assert lab.places() == {"n1": 4}


def test_a_drain_that_starts_first_never_leaves_the_service_without_a_task() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", service(replicas=1, order="start-first")))
    lab.run_all()
    [old] = lab.tasks()
    lab.drain((old.node or "").removeprefix("id-"))
    lab.settle()
    assert lab.state.is_ready(lab.state.tasks[old.id]) and len(lab.tasks()) == 2
    lab.run_all()
    assert lab.task().node != old.node
