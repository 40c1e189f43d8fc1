"""How far a stack is: what a removal waits for when all tasks are gone."""

from __future__ import annotations

import pytest

from cluster.model.task import TaskState
from cluster.views import Progress
from manager.api.progress import progress
from manager.api.volumes import volumes
from tests.manager.decide.builders import Lab, a_service, a_stack

HELD = "cannot be removed: volume is in use - [0123abcd]"


def going(lab: Lab) -> Progress:
    """The progress of a stack whose tasks have gone, and whose volumes have not."""
    lab.deploy(a_stack("app", a_service("db", volumes=("app_data", "app_data2"))))
    lab.run_all()
    stack = lab.state.stacks["app"]
    lab.remove("app", volumes=True)
    lab.settle()
    (task,) = lab.tasks(live=False)
    lab.report(task, TaskState.SHUTDOWN, container="")
    lab.settle()
    return progress(lab.state, "app", stack.uid, stack.head, lab.now)


@pytest.mark.parametrize(
    ("condition", "waits"),
    [
        ("", ("is being removed", "is being removed")),
        (f"volume app_data {HELD}", (HELD, "is being removed")),
        (f"volume app_data2 {HELD}; volume other {HELD}", ("is being removed", HELD)),
        (f"volume app_data2 is slow; volume app_data {HELD}", (HELD, "is slow")),
    ],
)
def test_a_removal_waits_for_volumes_and_says_what_their_node_says(condition: str, waits: tuple[str, str]) -> None:
    lab = Lab("n1")
    lab.session("n1", conditions={"volumes": condition} if condition else {})
    told = going(lab)
    assert not told.done and not told.services
    assert told.waits == tuple(
        f"volume {name} on node n1 {why}" for name, why in zip(("app_data", "app_data2"), waits, strict=True)
    )


def test_tasks_that_have_yet_to_end_are_told_first() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("db", volumes=("app_data",))))
    lab.run_all()
    lab.remove("app", volumes=True)
    lab.settle()
    stack = lab.state.stacks["app"]
    told = progress(lab.state, "app", stack.uid, stack.head, lab.now)
    assert told.waits == () and told.services[0].leaving == 1


def test_volumes_tell_who_uses_them_and_what_is_wrong() -> None:
    lab = Lab("n1", "n2")
    db = a_service("db", volumes=("app_data",), constraints=("node.hostname == n1",))
    lab.deploy(a_stack("app", db, a_service("job", volumes=("app_data",))))
    lab.run_all()
    (told,) = volumes(lab.state)
    assert (told.name, told.node, told.stack) == ("app_data", "n1", "app")
    assert (told.used_by, told.problem) == (("app_db", "app_job"), "")
    lab.fall_silent("n1")
    lab.wait(60.0)
    assert volumes(lab.state)[0].problem == "its node is down"


def test_what_has_gone_waits_for_nothing() -> None:
    lab = Lab("n1")
    going(lab)
    lab.run_all()
    assert progress(lab.state, "app", "any", 1, lab.now) == Progress("app", 1, removing=True, done=True)


def test_only_some_services_may_count() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("db", constraints=("node.labels.disk == ssd",)), a_service("web")))
    lab.run_all()
    stack = lab.state.stacks["app"]

    def told(*only: str) -> tuple[bool, list[str]]:
        found = progress(lab.state, "app", stack.uid, stack.head, lab.now, only)
        return found.done, [one.service for one in found.services]

    assert told() == (False, ["db", "web"])
    assert told("web") == (True, ["web"])
    assert told("db") == (False, ["db"])


def test_tasks_of_an_older_version_are_told_apart() -> None:
    lab = Lab("n1", "n2", "n3")
    lab.deploy(a_stack("app", a_service("web", image="web:1", replicas=3)))
    lab.run_all()
    lab.deploy(a_stack("app", a_service("web", image="web:2", replicas=3)))
    lab.settle()
    stack = lab.state.stacks["app"]
    (told,) = progress(lab.state, "app", stack.uid, stack.head, lab.now).services
    assert (told.done, told.wanted, told.leaving) == (0, 3, 3)
    assert set(told.others) == {"old running", "old ending"}
    assert sum(told.others.values()) == 3
