"""depends_on over hosts: what waits for what, on the first deploy, on updates, when a node is lost, and at the end."""

from __future__ import annotations

import dataclasses

import pytest

from cluster.model.node import Availability
from cluster.model.service import Dependency, RestartCondition, RestartPolicy, ServiceMode, ServiceSpec
from cluster.model.task import Desired, Task, TaskState
from tests.manager.decide.builders import Lab, a_service, a_stack

STARTED = Dependency("service_started")
HEALTHY = Dependency("service_healthy")
COMPLETED = Dependency("service_completed_successfully")


def web(on: str = "db", dependency: Dependency = HEALTHY, image: str = "app:1", replicas: int = 1) -> ServiceSpec:
    return a_service("web", image=image, replicas=replicas, depends_on={on: dependency})


def db(image: str = "db:1", replicas: int = 1) -> ServiceSpec:
    return a_service("db", image=image, replicas=replicas)


def waiting(lab: Lab, service: str = "web") -> list[str]:
    """Why tasks of a service wait."""
    return sorted({task.reason for task in lab.tasks(service) if task.node is None})


def is_bound(lab: Lab, service: str = "web") -> bool:
    return all(task.node is not None for task in lab.tasks(service))


@pytest.mark.parametrize(
    ("dependency", "state", "starts"),
    [
        pytest.param(STARTED, TaskState.PREPARING, False, id="not started"),
        pytest.param(STARTED, TaskState.STARTING, True, id="started"),
        pytest.param(STARTED, TaskState.RUNNING, True, id="more than started"),
        pytest.param(HEALTHY, TaskState.STARTING, False, id="not healthy yet"),
        pytest.param(HEALTHY, TaskState.RUNNING, True, id="healthy"),
        pytest.param(COMPLETED, TaskState.RUNNING, False, id="not completed"),
        pytest.param(COMPLETED, TaskState.COMPLETE, True, id="completed"),
        pytest.param(COMPLETED, TaskState.FAILED, False, id="failed is not completed"),
    ],
)
def test_a_service_waits_until_the_condition_holds(dependency: Dependency, state: TaskState, starts: bool) -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", web(dependency=dependency), db()))
    lab.settle()
    assert waiting(lab)[0].startswith("waits for service db: 0 of 1 ")
    lab.report(lab.task("db"), state)
    lab.settle()
    assert is_bound(lab) is starts


def test_all_replicas_of_what_is_depended_on_must_be_there_first() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", web(), db(replicas=2)))
    lab.settle()
    one, other = lab.tasks("db")
    lab.report(one, TaskState.RUNNING)
    lab.settle()
    assert waiting(lab) == ["waits for service db: 1 of 2 healthy"]
    lab.report(other, TaskState.RUNNING)
    lab.settle()
    assert is_bound(lab)


def test_a_chain_starts_link_by_link_and_what_completed_is_not_run_again() -> None:
    migrate = dataclasses.replace(a_service("migrate"), depends_on={"db": HEALTHY})
    lab = Lab("n1")
    lab.deploy(a_stack("app", web("migrate", COMPLETED), migrate, db()))
    lab.settle()
    assert (is_bound(lab, "db"), is_bound(lab, "migrate"), is_bound(lab, "web")) == (True, False, False)
    lab.report(lab.task("db"), TaskState.RUNNING)
    lab.settle()
    assert (is_bound(lab, "migrate"), is_bound(lab, "web")) == (True, False)
    lab.report(lab.task("migrate"), TaskState.COMPLETE, exit_code=0)
    lab.run_all()
    assert is_bound(lab) and not lab.tasks("migrate"), "though its restart condition is any"


def test_one_that_fails_for_good_is_waited_for_in_vain_and_that_is_said() -> None:
    job = a_service("migrate", mode=ServiceMode.REPLICATED_JOB)
    job = dataclasses.replace(job, restart=dataclasses.replace(job.restart, max_attempts=0))
    lab = Lab("n1")
    lab.deploy(a_stack("app", web("migrate", COMPLETED), job))
    lab.settle()
    lab.report(lab.task("migrate"), TaskState.FAILED, exit_code=3, message="exited with code 3")
    lab.settle()
    [reason] = waiting(lab)
    assert reason.startswith("waits in vain for service migrate: exited with code 3")


@pytest.mark.parametrize(("required", "starts"), [(False, True), (True, False)])
def test_a_service_that_is_not_there_is_waited_for_only_if_it_is_required(required: bool, starts: bool) -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", web("cache", Dependency(required=required))))
    lab.settle()
    assert is_bound(lab) is starts


@pytest.mark.parametrize(
    "restart",
    [
        pytest.param(RestartPolicy(), id="tried again"),
        pytest.param(RestartPolicy(RestartCondition.NONE), id="for good, the other one may come up"),
    ],
)
@pytest.mark.parametrize("required", [True, False])
def test_a_failure_of_one_that_is_not_required_ends_the_wait(restart: RestartPolicy, *, required: bool) -> None:
    lab = Lab("n1", "n2")
    depending = web(dependency=dataclasses.replace(HEALTHY, required=required))
    lab.deploy(a_stack("app", depending, dataclasses.replace(db(replicas=2), restart=restart)))
    lab.settle()
    told = "waits for service db: 0 of 2 healthy"
    assert waiting(lab) == [told], "what is not required is waited for too, while it may come up"
    lab.report(lab.tasks("db")[0], TaskState.FAILED, exit_code=1)
    lab.settle()
    assert waiting(lab) == ([told] if required else [])


def test_an_update_of_both_changes_the_one_depended_on_first_while_the_other_serves_on() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", web(), db()))
    lab.run_all()
    old = lab.task("web")
    lab.deploy(a_stack("app", web(image="app:2"), db("db:2")))
    lab.settle()
    new = lab.task("db")
    assert new.version == 2 and lab.task("web") == old, "it serves on until the other is there"
    _end(lab, "db")
    lab.settle()
    assert lab.task("web") == old
    lab.report(lab.task("db"), TaskState.RUNNING)
    lab.settle()
    assert lab.task("web").version == 2


def test_an_update_of_one_alone_waits_for_nobody_who_is_there() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", web(), db()))
    lab.run_all()
    before = lab.task("db")
    lab.deploy(a_stack("app", web(image="app:2"), db()))
    lab.run_all()
    assert lab.task("web").version == 2 and lab.task("db") == before


@pytest.mark.parametrize(("restart", "version"), [(True, 2), (False, 1)])
def test_with_restart_an_update_replaces_the_tasks_of_those_that_depend_on_it(restart: bool, version: int) -> None:
    lab = Lab("n1", "n2")
    first = web(dependency=dataclasses.replace(HEALTHY, restart=restart))
    second = a_service("proxy", depends_on={"web": Dependency(restart=restart)})
    lab.deploy(a_stack("app", second, first, db()))
    lab.run_all()
    lab.deploy(a_stack("app", second, first, db("db:2")))
    lab.run_all()
    assert lab.task("db").version == 2
    assert (lab.task("web").version, lab.task("proxy").version) == (version, version)


def test_what_runs_is_left_alone_when_the_one_depended_on_fails_or_moves() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", web(dependency=dataclasses.replace(HEALTHY, restart=True), replicas=2), db()))
    lab.run_all()
    before = lab.tasks("web")
    lab.report(lab.task("db"), TaskState.FAILED, exit_code=1)
    lab.run_all()
    lab.fall_silent((lab.task("db").node or "").removeprefix("id-"))
    lab.wait(60)
    assert {t.id for t in before if not lab.state.is_lost(t.node or "")} <= {t.id for t in lab.tasks("web")}


def test_after_a_node_is_lost_the_dependent_comes_back_only_after_what_it_depends_on() -> None:
    lab = Lab("n1", "n2")
    lab.node("n2", availability=Availability.PAUSE)
    lab.deploy(a_stack("app", web(), db()))
    lab.run_all()
    lab.node("n2", availability=Availability.ACTIVE)
    lab.fall_silent("n1")
    lab.wait(60)
    assert lab.task("db").node == "id-n2"
    assert waiting(lab) == ["waits for service db: 0 of 1 healthy"]
    lab.report(lab.task("db"), TaskState.RUNNING)
    lab.settle()
    assert lab.task("web").node == "id-n2"


def test_a_replacement_needs_only_one_task_of_the_other_service_of_whatever_version() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", web(replicas=2), db(replicas=2)))
    lab.run_all()
    for _ in range(2):
        lab.report(lab.tasks("db")[0], TaskState.FAILED, exit_code=1)
        lab.settle()
    assert lab.tasks("db")[0].node is None, "it waits for its restart"
    lab.report(lab.tasks("web")[0], TaskState.FAILED, exit_code=1)
    lab.settle()
    assert is_bound(lab)


def test_a_new_version_waits_for_all_of_the_other_service_again() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", web(), db(replicas=2)))
    lab.run_all()
    for _ in range(2):
        lab.report(lab.tasks("db")[0], TaskState.FAILED, exit_code=1)
        lab.settle()
    old = lab.task("web")
    lab.deploy(a_stack("app", web(image="app:2"), db(replicas=2)))
    lab.settle()
    assert lab.task("web") == old
    lab.wait(60)
    lab.run_all()
    assert lab.task("web").version == 2


def test_a_stack_is_taken_down_in_reverse_order() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", web(replicas=2), db()))
    lab.run_all()
    lab.remove("app")
    lab.settle()
    assert {task.desired for task in lab.tasks("web", live=False)} == {Desired.REMOVE}
    assert lab.task("db").desired is Desired.RUNNING
    _end(lab, "web")
    lab.settle()
    assert {task.desired for task in lab.tasks("db", live=False)} == {Desired.REMOVE}
    lab.run_all()
    assert not lab.state.tasks and not lab.state.stacks


def test_a_node_that_is_down_does_not_hold_up_the_end_of_a_stack() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", web(replicas=2), db(replicas=2)))
    lab.run_all()
    lab.fall_silent("n2")
    lab.wait(60)
    lab.remove("app")
    lab.run_all(until=lambda task: task.node == "id-n1")
    assert not lab.state.tasks and not lab.state.stacks


def test_a_forced_job_holds_its_dependents_until_it_has_completed_again_only_if_they_are_new() -> None:
    job = a_service("migrate", mode=ServiceMode.REPLICATED_JOB)
    spec = a_stack("app", web("migrate", COMPLETED), job)
    lab = Lab("n1")
    lab.deploy(spec)
    lab.settle()
    lab.report(lab.task("migrate"), TaskState.COMPLETE, exit_code=0)
    lab.run_all()
    served = lab.task("web")
    lab.deploy(spec, force=["migrate"])
    lab.run_all()
    assert lab.task("migrate").version == 2 and lab.task("web") == served


def _end(lab: Lab, service: str) -> None:
    def one(task: Task) -> None:
        if task.desired is not Desired.RUNNING and task.node is not None and not lab.state.has_ended(task):
            lab.report(task, TaskState.SHUTDOWN)

    for task in lab.tasks(service, live=False):
        one(task)


def test_a_service_that_another_mode_took_the_place_of_goes_though_others_depend_on_its_name() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", web(), db()))
    lab.run_all()
    old = lab.task("db").service_uid
    lab.deploy(a_stack("app", web(), a_service("db", mode=ServiceMode.GLOBAL)))
    lab.run_all()
    assert old not in lab.state.services
    assert lab.state.is_ready(lab.task("db")) and lab.state.is_ready(lab.task("web"))


def test_a_task_of_an_older_version_that_never_started_does_not_wait_on_while_its_service_is_held() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("web", constraints=("node.hostname == n2",)), db()))
    lab.run_all(until=lambda task: False)
    lab.deploy(a_stack("app", web(image="app:2"), db("db:2")))
    lab.settle()
    assert lab.task("web").version == 2
    assert waiting(lab) == ["waits for service db: 0 of 1 healthy"]
