"""Who keeps a volume from being removed."""

from __future__ import annotations

from dataclasses import replace

from cluster.errors import Conflict
from cluster.model.task import TaskState
from manager.api.volumes import refuse_if_used, volumes
from tests.manager.decide.builders import Lab, a_service, a_stack

TEMPLATE = "app_data-{{.Task.Slot}}"


def users(lab: Lab, name: str, sees: str = "app") -> str:
    """Who is said to use it, "" if it may go."""
    try:
        refuse_if_used(lab.state, lab.state.volumes[name], sees.__eq__)
    except Conflict as error:
        return error.message.partition(" is used by ")[2]
    return ""


def test_it_is_kept_by_services_then_by_their_last_tasks_and_then_by_nobody() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("db", volumes=("app_data",)), a_service("web")))
    lab.run_all()
    assert users(lab, "app_data") == "service app_db"
    assert users(lab, "app_data", sees="other") == "another stack"
    lab.remove("app")
    lab.settle()
    assert users(lab, "app_data") == "task app_db.1"
    lab.run_all()
    assert users(lab, "app_data") == "" and not lab.state.stacks


def test_one_that_its_stack_does_not_use_any_more_goes_with_what_is_left_of_its_tasks() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("db", volumes=("app_data",))))
    lab.run_all()
    (task,) = lab.tasks()
    lab.deploy(a_stack("app", a_service("db")))
    lab.settle()
    assert users(lab, "app_data") == "task app_db.1"
    lab.report(task, TaskState.SHUTDOWN, container="c")
    lab.run_all()
    assert users(lab, "app_data") == ""
    lab.write(replace(lab.state.volumes["app_data"], removing=True))
    (told,) = volumes(lab.state)
    assert told.problem == "goes with the logs of ended tasks: app_db.1"


def test_of_a_template_those_count_that_a_task_has_or_a_stopped_service_may_have_again() -> None:
    lab = Lab("n1")
    db = a_service("db", replicas=2, volumes=(TEMPLATE,))
    lab.deploy(a_stack("app", db))
    lab.run_all()
    lab.deploy(a_stack("app", replace(db, replicas=1)))
    lab.run_all()
    assert [users(lab, f"app_data-{slot}") for slot in (1, 2)] == ["service app_db", ""]
    lab.deploy(a_stack("app", replace(db, stopped=True)))
    lab.run_all()
    assert [users(lab, f"app_data-{slot}") for slot in (1, 2)] == ["service app_db"] * 2
