"""Global services and jobs: who has a slot, what runs at a time, and when it is done."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from cluster.errors import Inconsistent
from cluster.model.node import Availability
from cluster.model.service import RestartCondition, RestartPolicy, ServiceMode, ServiceSpec
from cluster.model.task import Desired, Task, TaskState, task_id
from manager.decide import orchestrator
from manager.decide.reaper import ORPHANED_AFTER
from manager.decide.tally import Tally, tally
from tests.manager.decide.builders import Lab, a_service, a_stack

GLOBAL, JOB, GLOBAL_JOB = ServiceMode.GLOBAL, ServiceMode.REPLICATED_JOB, ServiceMode.GLOBAL_JOB


def deployed(lab: Lab, **fields: Any) -> Lab:
    lab.deploy(a_stack("app", a_service("web", **fields)))
    lab.run_all()
    return lab


def ready(lab: Lab) -> list[str]:
    """The nodes on which tasks run, by name."""
    return sorted((t.node or "").removeprefix("id-") for t in lab.tasks() if lab.state.is_ready(t))


def count(lab: Lab) -> Tally:
    head = lab.state.head(lab.state.stacks["app"].uid)
    assert head is not None
    return tally(lab.state, head, head.spec.services["web"], head.services["web"], lab.now)


def finish(lab: Lab, *tasks: Task, state: TaskState = TaskState.COMPLETE) -> None:
    for task in tasks:
        lab.report(task, state, exit_code=0 if state is TaskState.COMPLETE else 3)
    lab.run_all()


@pytest.mark.parametrize("mode", [ServiceMode.REPLICATED, JOB])
def test_two_wanted_tasks_of_a_slot_are_a_bug_that_is_seen(mode: ServiceMode) -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("web", mode=mode, networks=())))
    lab.settle()
    [task] = lab.tasks()
    lab.write(dataclasses.replace(task, id=task_id(task.service_uid, 1, 2), n=2))
    with pytest.raises(Inconsistent, match=r"two tasks of app_web\.1 are wanted"):
        orchestrator.decide(lab.state, task.service_uid, lab.now)


# Global


def test_a_global_service_has_a_task_on_each_node() -> None:
    lab = deployed(Lab("n1", "n2", "n3"), mode=GLOBAL)
    assert lab.places() == {"n1": 1, "n2": 1, "n3": 1}
    assert [task.slot for task in lab.tasks()] == [1, 2, 3]
    assert (count(lab).wanted, count(lab).ready) == (3, 3)


def test_a_new_node_gets_its_task_at_once_and_no_other_is_touched() -> None:
    lab = deployed(Lab("n1", "n2"), mode=GLOBAL)
    before = lab.tasks()
    lab.join("n3")
    lab.run_all()
    assert lab.places() == {"n1": 1, "n2": 1, "n3": 1}
    assert set(before) <= set(lab.tasks())


def test_a_drained_node_loses_its_task_and_gets_one_again_when_it_is_active() -> None:
    lab = deployed(Lab("n1", "n2"), mode=GLOBAL)
    lab.drain("n2")
    lab.run_all()
    assert lab.places() == {"n1": 1}
    assert count(lab).wanted == 1, "a node that is drained does not count"
    lab.node("n2", availability=Availability.ACTIVE)
    lab.run_all()
    assert ready(lab) == ["n1", "n2"]


def test_a_paused_node_keeps_what_it_has_through_an_update_and_gets_nothing_new() -> None:
    lab = deployed(Lab("n1", "n2"), mode=GLOBAL)
    lab.node("n2", availability=Availability.PAUSE)
    lab.join("n3", availability=Availability.PAUSE)
    lab.deploy(a_stack("app", a_service("web", mode=GLOBAL, image="app:2")))
    lab.run_all()
    assert ready(lab) == ["n1", "n2"]
    assert {task.node: task.version for task in lab.tasks()} == {"id-n1": 2, "id-n2": 1}
    assert (count(lab).wanted, count(lab).ready) == (1, 1)
    lab.node("n2", availability=Availability.ACTIVE)
    lab.run_all()
    assert {task.version for task in lab.tasks()} == {2}


@pytest.mark.parametrize("constraint", ["node.labels.disk == ssd", "node.hostname != n2"])
def test_only_nodes_that_suit_have_a_task(constraint: str) -> None:
    lab = Lab("n1")
    lab.join("n2", labels={"disk": "hdd"})
    lab.node("n1", labels={"disk": "ssd"})
    deployed(lab, mode=GLOBAL, constraints=(constraint,))
    assert lab.places() == {"n1": 1}


def test_a_node_that_no_longer_suits_loses_its_task() -> None:
    lab = Lab("n1", "n2")
    for name in ("n1", "n2"):
        lab.node(name, labels={"disk": "ssd"})
    deployed(lab, mode=GLOBAL, constraints=("node.labels.disk == ssd",))
    assert ready(lab) == ["n1", "n2"]
    lab.node("n2", labels={})
    lab.run_all()
    assert ready(lab) == ["n1"]


def test_on_a_node_that_is_down_nothing_replaces_the_task_and_it_goes_on_when_the_node_is_back() -> None:
    lab = deployed(Lab("n1", "n2"), mode=GLOBAL)
    before = {task.id for task in lab.tasks()}
    lab.fall_silent("n2")
    lab.wait(10)
    lab.wait(60)
    assert {task.id for task in lab.tasks()} == before
    assert [task.reason for task in lab.tasks() if task.node == "id-n2"] == ["node n2 is down"]
    assert (count(lab).wanted, count(lab).ready) == (1, 1), "it is not waited for"
    lab.deploy(a_stack("app", a_service("web", mode=GLOBAL, replicas=7)))
    lab.wait(1)
    lab.return_("n2")
    lab.run_all()
    assert {task.id for task in lab.tasks()} == before
    assert count(lab).ready == 2


def test_an_update_that_a_node_missed_while_it_was_down_is_made_when_it_is_back() -> None:
    lab = deployed(Lab("n1", "n2"), mode=GLOBAL)
    lab.fall_silent("n2")
    lab.wait(60)
    lab.deploy(a_stack("app", a_service("web", mode=GLOBAL, image="app:2")))
    lab.run_all(until=lambda task: task.node == "id-n1")
    assert {task.node: task.version for task in lab.tasks()} == {"id-n1": 2, "id-n2": 1}
    lab.return_("n2")
    lab.run_all()
    assert {task.version for task in lab.tasks()} == {2} and ready(lab) == ["n1", "n2"]


def test_a_node_that_was_removed_leaves_nothing_behind_for_ever() -> None:
    lab = deployed(Lab("n1", "n2"), mode=GLOBAL)
    lab.write(delete=(lab.state.nodes["id-n2"],))
    lab.run_all(until=lambda task: task.node == "id-n1")
    assert [task.node for task in lab.tasks(live=False)] == ["id-n1"]
    assert count(lab).wanted == 1


def test_a_crashed_task_comes_back_on_its_own_node() -> None:
    lab = deployed(Lab("n1", "n2", "n3"), mode=GLOBAL)
    crashed = lab.tasks()[1]
    lab.report(crashed, TaskState.FAILED, exit_code=1)
    lab.run_all()
    assert ready(lab) == ["n1", "n2", "n3"]
    assert [t.node for t in lab.tasks(live=False) if t.slot == crashed.slot] == [crashed.node, crashed.node]


def test_a_global_task_that_finds_no_room_on_its_node_waits_for_that_node_and_says_so() -> None:
    lab = Lab("n1", "n2")
    lab.session("n2", conditions={"engine": "the engine does not answer"})
    deployed(lab, mode=GLOBAL)
    [waits] = [task for task in lab.tasks() if task.node is None]
    assert waits.meant_for == "id-n2" and "n2" in waits.reason and "Engine" in waits.reason
    lab.session("n2", conditions={})
    lab.run_all()
    assert ready(lab) == ["n1", "n2"]


def test_a_rolling_update_of_a_global_service_takes_one_node_after_the_other() -> None:
    lab = deployed(Lab("n1", "n2", "n3"), mode=GLOBAL)
    lab.deploy(a_stack("app", a_service("web", mode=GLOBAL, image="app:2")))
    lowest = 3
    for _ in range(100):
        lab.settle()
        lowest = min(lowest, len(ready(lab)))
        unsettled = [t for t in lab.tasks(live=False) if t.node and not _obeyed(lab, t)]
        if not unsettled:
            break
        lab._obey(unsettled[0])
    assert {task.version for task in lab.tasks()} == {2} and ready(lab) == ["n1", "n2", "n3"]
    assert lowest == 2


def _obeyed(lab: Lab, task: Task) -> bool:
    state = lab.state.reported_state(task)
    return state.terminal if task.desired is not Desired.RUNNING else state is TaskState.RUNNING


def test_volumes_of_a_global_service_are_each_nodes_own() -> None:
    lab = deployed(Lab("n1", "n2"), mode=GLOBAL, volumes=("app_data",))
    assert ready(lab) == ["n1", "n2"]


# Jobs


def test_a_job_runs_its_completions_and_rests() -> None:
    lab = deployed(Lab("n1", "n2"), mode=JOB, replicas=3)
    assert len(lab.tasks()) == 3
    finish(lab, *lab.tasks())
    assert not lab.tasks()
    assert (count(lab).wanted, count(lab).completed, count(lab).done) == (3, 3, 3)
    lab.wait(1000)
    assert not lab.tasks() and len(lab.tasks(live=False)) == 3


def test_no_more_than_max_concurrent_run_at_a_time() -> None:
    lab = deployed(Lab("n1", "n2"), mode=JOB, replicas=5, max_concurrent=2)
    seen = []
    while lab.tasks():
        seen.append(len(lab.tasks()))
        finish(lab, lab.tasks()[0])
    assert seen == [2, 2, 2, 2, 1] and count(lab).completed == 5


def test_a_completed_job_is_not_run_again_by_another_services_deploy_or_scale() -> None:
    job = a_service("web", mode=JOB, replicas=2)
    lab = Lab("n1")
    lab.deploy(a_stack("app", job, a_service("db")))
    lab.run_all()
    finish(lab, *lab.tasks("web"))
    before = lab.tasks("web", live=False)
    lab.deploy(a_stack("app", job, a_service("db", image="app:2", replicas=3)))
    lab.run_all()
    lab.deploy(a_stack("app", dataclasses.replace(job, labels={"a": "b"}), a_service("db", replicas=1)))
    lab.run_all()
    assert lab.tasks("web", live=False) == before


def test_a_changed_job_runs_again_and_keeps_to_max_concurrent_while_the_earlier_run_ends() -> None:
    lab = deployed(Lab("n1"), mode=JOB, replicas=4, max_concurrent=2)
    first = lab.tasks()
    lab.deploy(a_stack("app", a_service("web", mode=JOB, replicas=4, max_concurrent=2, image="app:2")))
    lab.settle()
    assert {lab.state.tasks[t.id].desired for t in first} == {Desired.SHUTDOWN}
    assert not [t for t in lab.tasks() if t.node is not None], "what ends still takes up the places"
    lab.run_all()
    assert {task.version for task in lab.tasks()} == {2} and len(lab.tasks()) == 2
    while lab.tasks():
        assert len(lab.tasks()) <= 2
        finish(lab, *lab.tasks())
    assert count(lab).completed == 4


def test_more_completions_run_only_the_missing_ones_and_fewer_none() -> None:
    lab = deployed(Lab("n1"), mode=JOB, replicas=2)
    finish(lab, *lab.tasks())
    deployed(lab, mode=JOB, replicas=3)
    assert [task.slot for task in lab.tasks()] == [3]
    finish(lab, *lab.tasks())
    deployed(lab, mode=JOB, replicas=1)
    assert not lab.tasks() and (count(lab).wanted, count(lab).completed) == (1, 1)


def test_fewer_completions_stop_what_is_too_many_under_way() -> None:
    lab = deployed(Lab("n1"), mode=JOB, replicas=4)
    deployed(lab, mode=JOB, replicas=2)
    assert [task.slot for task in lab.tasks()] == [1, 2]


def test_a_failed_run_of_a_job_is_tried_again_though_its_condition_is_any() -> None:
    lab = deployed(Lab("n1"), mode=JOB)
    finish(lab, lab.task(), state=TaskState.FAILED)
    assert lab.task().failures == 1
    finish(lab, lab.task())
    assert count(lab).completed == 1


@pytest.mark.parametrize(
    "policy", [RestartPolicy(RestartCondition.NONE), RestartPolicy(RestartCondition.ON_FAILURE, max_attempts=0)]
)
def test_a_job_that_may_not_be_tried_again_has_failed_in_part_and_the_rest_goes_on(policy: RestartPolicy) -> None:
    lab = deployed(Lab("n1"), mode=JOB, replicas=3, max_concurrent=1, restart=policy)
    finish(lab, lab.task(), state=TaskState.FAILED)
    finish(lab, lab.task())
    finish(lab, lab.task())
    assert not lab.tasks()
    tally_ = count(lab)
    assert (tally_.wanted, tally_.completed, len(tally_.failed)) == (3, 2, 1)
    assert "not restarted" in tally_.failed[0]


def test_a_jobs_task_moves_from_a_drained_node_only_when_it_has_ended_there() -> None:
    lab = deployed(Lab("n1", "n2"), mode=JOB)
    old = lab.task()
    lab.drain((old.node or "").removeprefix("id-"))
    lab.settle()
    [waits] = [t for t in lab.tasks() if t.id != old.id]
    assert waits.node is None
    lab.run_all()
    assert lab.task().node not in (None, old.node)


def test_a_job_goes_on_elsewhere_when_its_node_is_down() -> None:
    lab = deployed(Lab("n1", "n2"), mode=JOB)
    old = lab.task()
    lab.fall_silent((old.node or "").removeprefix("id-"))
    lab.wait(10)
    lab.wait(60)
    assert lab.task().node not in (None, old.node)


def test_a_global_job_is_done_once_on_each_node_also_on_new_ones() -> None:
    lab = deployed(Lab("n1", "n2"), mode=GLOBAL_JOB)
    assert lab.places() == {"n1": 1, "n2": 1}
    finish(lab, *lab.tasks())
    lab.drain("n1")
    lab.run_all()
    lab.node("n1", availability=Availability.ACTIVE)
    lab.run_all()
    assert not lab.tasks(), "it was done there before"
    lab.join("n3")
    lab.run_all()
    assert lab.places() == {"n3": 1}
    finish(lab, *lab.tasks())
    assert (count(lab).wanted, count(lab).completed) == (3, 3)


def test_a_global_job_keeps_to_max_concurrent_and_runs_again_when_it_changes() -> None:
    lab = deployed(Lab("n1", "n2", "n3"), mode=GLOBAL_JOB, max_concurrent=1)
    for image in ("app:1", "app:2"):
        deployed(lab, mode=GLOBAL_JOB, max_concurrent=1, image=image)
        on = []
        while lab.tasks():
            on.append(lab.task().node)
            finish(lab, lab.task())
        assert sorted(map(str, on)) == ["id-n1", "id-n2", "id-n3"]
    assert count(lab).completed == 3


def test_a_job_of_which_a_node_is_down_is_forgotten_with_its_stack() -> None:
    lab = deployed(Lab("n1", "n2"), mode=JOB, replicas=2)
    finish(lab, *lab.tasks())
    lab.fall_silent("n2")
    lab.wait(60)
    lab.remove("app")
    lab.run_all(until=lambda task: task.node == "id-n1")
    assert not lab.state.tasks and not lab.state.stacks


def specs() -> list[ServiceSpec]:
    return [a_service("web", mode=mode, replicas=2) for mode in ServiceMode]


@pytest.mark.parametrize("spec", specs(), ids=lambda spec: str(spec.mode))
def test_every_mode_is_content_with_a_node_that_was_away_for_days(spec: ServiceSpec) -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", spec))
    lab.run_all()
    lab.fall_silent("n2")
    lab.wait(ORPHANED_AFTER + 100)
    lab.run_all(until=lambda task: task.node == "id-n1")
    lab.return_("n2")
    lab.run_all()
    lab.remove("app")
    lab.run_all()
    assert not lab.state.tasks and not lab.state.stacks


def test_a_forced_job_runs_again_and_no_other() -> None:
    services = [a_service(name, mode=JOB, replicas=2) for name in ("web", "db")]
    lab = Lab("n1")
    lab.deploy(a_stack("app", *services))
    lab.run_all()
    finish(lab, *lab.tasks())
    lab.deploy(a_stack("app", *services), force=["web"])
    lab.run_all()
    assert (len(lab.tasks("web")), len(lab.tasks("db"))) == (2, 0)


def test_another_mode_makes_another_service_of_it() -> None:
    lab = deployed(Lab("n1", "n2"), replicas=3)
    before = {task.service_uid for task in lab.tasks()}
    deployed(lab, mode=GLOBAL)
    assert lab.places() == {"n1": 1, "n2": 1} and not before & set(lab.state.services)
