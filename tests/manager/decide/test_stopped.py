"""Services that are stopped: they keep their definitions and run nothing."""

from __future__ import annotations

import dataclasses

import pytest

from cluster.errors import Conflict
from cluster.model.service import ServiceMode, ServiceSpec
from cluster.model.stack import StackSpec
from cluster.model.task import TaskState
from cluster.views import SwitchRequest
from manager.api.changes import changes
from manager.api.progress import progress
from manager.api.revise import Write, change
from manager.api.show import services
from tests.manager.decide.builders import Lab, a_service, a_stack


def switched(spec: StackSpec, *names: str, stopped: bool) -> StackSpec:
    changed = {name: dataclasses.replace(spec.services[name], stopped=stopped) for name in names}
    return dataclasses.replace(spec, services=spec.services | changed)


def end_those_that_are_to(lab: Lab) -> None:
    for task in lab.tasks(live=False):
        if task.desired != "running" and not lab.state.has_ended(task):
            lab.report(task, TaskState.SHUTDOWN, container="c")
    lab.settle()


WEB, API = a_service("web", replicas=2), a_service("api", replicas=1)


@pytest.mark.parametrize("web", [WEB, a_service("web", mode=ServiceMode.GLOBAL)])
def test_a_service_is_stopped_and_started_and_the_others_go_on(web: ServiceSpec) -> None:
    lab = Lab("n1", "n2")
    spec = a_stack("shop", web, API)
    lab.deploy(spec)
    lab.run_all()
    before = {task.id for task in lab.tasks()}
    lab.deploy(switched(spec, "web", stopped=True))
    lab.settle()
    assert len(lab.tasks()) == 1, "only the one of api is to run"
    end_those_that_are_to(lab)
    stack = lab.state.stacks["shop"]
    assert progress(lab.state, "shop", stack.uid, stack.head, lab.now).done
    [view] = [view for view in services(lab.state, stack, lab.now) if view.service == "web"]
    assert (view.wanted, view.running) == (0, 0) and "`stack start shop_web`" in view.problem
    lab.wait(300.0)
    assert len(lab.tasks()) == 1

    lab.deploy(spec)
    lab.run_all()
    assert len(lab.tasks()) == 3 and len({task.id for task in lab.tasks()} & before) == 1
    stack = lab.state.stacks["shop"]
    assert progress(lab.state, "shop", stack.uid, stack.head, lab.now).done


def test_the_history_says_what_was_stopped_and_started() -> None:
    lab = Lab("n1")
    spec = a_stack("shop", WEB)
    for stopped in (False, True, False):
        lab.deploy(switched(spec, "web", stopped=stopped))
    known = lab.state.revisions[lab.state.stacks["shop"].uid]
    assert changes(known[1], known[2]) == ("web: stopped",) and changes(known[2], known[3]) == ("web: started",)


def test_what_a_job_has_done_stays_done() -> None:
    lab = Lab("n1")
    spec = a_stack("shop", a_service("job", mode=ServiceMode.REPLICATED_JOB, replicas=1))
    lab.deploy(spec)
    lab.settle()
    (task,) = lab.tasks()
    lab.report(task, TaskState.COMPLETE, exit_code=0, container="c")
    lab.settle()
    for stopped in (True, False):
        lab.deploy(switched(spec, "job", stopped=stopped))
        lab.settle()
    assert [one.id for one in lab.tasks(live=False)] == [task.id]


@pytest.mark.parametrize(("version", "works"), [(3, False), (4, True)])
def test_nothing_is_stopped_that_an_older_manager_would_start(version: int, works: bool) -> None:
    lab = Lab("n1")
    assert lab.state.cluster is not None
    lab.write(dataclasses.replace(lab.state.cluster, version=version))
    lab.deploy(a_stack("shop", WEB))
    request = SwitchRequest("op", running=False, services=("web",))
    if works:
        written = change(lab.state, "shop", request, "me", lab.now, lambda: "uid")
        assert isinstance(written, Write) and written.reply.changed
    else:
        with pytest.raises(Conflict, match="services that are stopped"):
            change(lab.state, "shop", request, "me", lab.now, lambda: "uid")
