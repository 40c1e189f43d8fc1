"""What a deploy would do, told without doing it."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest

from cluster.errors import Conflict, UserError
from cluster.model.container import ContainerSpec
from cluster.model.service import Dependency, PortSpec, ServiceMode, ServiceSpec, UpdateConfig
from cluster.model.stack import StackSpec
from cluster.model.task import TaskState
from cluster.plans import FieldChange, ItemChange, PlanView
from cluster.protocol import ImagesResolved
from cluster.views import DeployRequest
from manager.api.plans import plan
from manager.decide import rehearsal
from manager.picture import ClusterState
from tests.manager.decide.builders import Lab, a_service, a_stack


def planned(lab: Lab, spec: StackSpec, **request: Any) -> PlanView:
    """What the plan says; it never touches the picture."""
    before = lab.state.snapshot()
    uid = itertools.count()
    told = plan(before, DeployRequest(spec, "op", **request), lab.now, lambda: f"new{next(uid)}", ImagesResolved(""))
    assert lab.state.snapshot() == before
    return told


def empty(*nodes: str) -> Lab:
    lab = Lab(*nodes)
    lab.settle()
    return lab


def acts(told: PlanView) -> list[tuple[int, str, str, str]]:
    return [(step.step, step.action, step.task, step.node) for step in told.tasks]


def running(*nodes: str, spec: StackSpec) -> Lab:
    lab = Lab(*nodes)
    lab.deploy(spec)
    lab.run_all()
    return lab


def test_a_new_stack() -> None:
    told = planned(empty("n1", "n2"), a_stack("app", a_service(replicas=2, volumes=("data",), networks=("back",))))
    assert (told.base, told.changed, told.waiting) == (0, True, ())
    main = (FieldChange("image", "", "app:1"), FieldChange("replicas", "", "2"))
    assert told.changes == (
        ItemChange("service", "web", "add", main, "2 tasks start"),
        ItemChange("network", "back", "add"),
        ItemChange("volume", "data", "add"),
    )
    assert acts(told) == [(1, "start", "app_web.1", "n1"), (1, "start", "app_web.2", "n1")]


def test_what_is_like_that_already_changes_nothing() -> None:
    spec = a_stack("app", a_service(replicas=2))
    told = planned(running("n1", spec=spec), spec)
    assert told == PlanView("app", 1, changed=False)


def test_an_update_goes_by_its_parallelism_stop_first() -> None:
    old, new = (a_stack("app", a_service(replicas=4, image=i, update=UpdateConfig(2))) for i in ("app:1", "app:2"))
    told = planned(running("n1", "n2", spec=old), new)
    assert told.changes == (
        ItemChange(
            "service", "web", "change", (FieldChange("image", "app:1", "app:2"),), "4 tasks stop, 4 tasks start"
        ),
    )
    verbs = [(step, [verb for _, verb, _, _ in group]) for step, group in itertools.groupby(acts(told), lambda a: a[0])]
    assert verbs == [(1, ["stop"] * 2), (2, ["start"] * 2), (3, ["stop"] * 2), (4, ["start"] * 2)]


def test_of_what_takes_long_only_the_beginning_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "MOST_ROUNDS", 10)
    old, new = (a_stack("app", a_service(replicas=20, image=image)) for image in ("app:1", "app:2"))
    told = planned(running("n1", spec=old), new)
    assert 0 < len(told.tasks) < 40 and "only its beginning was looked at" in told.notes[-1]


def test_start_first_begins_with_the_new_task() -> None:
    update = UpdateConfig(order="start-first", delay=3600.0)
    old, new = (a_stack("app", a_service(replicas=2, image=image, update=update)) for image in ("app:1", "app:2"))
    told = planned(running("n1", spec=old), new)
    assert [verb for _, verb, _, _ in acts(told)] == ["start", "stop", "start", "stop"], "an hour later too"


def test_what_needs_no_new_task_says_so() -> None:
    old, new = (a_stack("app", a_service(replicas=2, labels={"a": label})) for label in ("1", "2"))
    told = planned(running("n1", spec=old), new)
    assert told.changes == (
        ItemChange("service", "web", "change", (FieldChange("labels.a", "1", "2"),), "no task is touched"),
    )
    assert told.tasks == ()


def test_tasks_that_new_constraints_move_are_told() -> None:
    update = UpdateConfig(delay=10.0)
    old, new = (
        a_stack("app", a_service(replicas=4, constraints=constraints, update=update))
        for constraints in ((), ("node.hostname == n1",))
    )
    told = planned(running("n1", "n2", spec=old), new)
    assert [change.effect for change in told.changes] == ["2 tasks stop, 2 tasks start"] and not told.waiting
    assert [(verb, node) for _, verb, _, node in acts(told)] == [("stop", "n2"), ("start", "n1")] * 2


def test_scaling_touches_only_what_comes_and_goes() -> None:
    lab = running("n1", "n2", spec=a_stack("app", a_service(replicas=2), a_service("db", replicas=3)))
    told = planned(lab, a_stack("app", a_service(replicas=3), a_service("db", replicas=1)))
    assert {(change.name, change.effect) for change in told.changes} == {
        ("web", "1 task starts"), ("db", "2 tasks stop"),
    }  # fmt: skip


def test_a_service_that_left_the_file_is_stopped_and_its_volume_stays() -> None:
    lab = running("n1", spec=a_stack("app", a_service(), a_service("db", volumes=("data",), networks=("back",))))
    told = planned(lab, a_stack("app", a_service()))
    assert told.changes == (
        ItemChange("service", "db", "remove", (), "1 task stops"),
        ItemChange("network", "back", "remove"),
        ItemChange("volume", "data", "remove", (), "its data stays"),
    )
    assert acts(told) == [(1, "stop", "app_db.1", "n1")]


def test_dependencies_come_first() -> None:
    web = a_service(depends_on={"db": Dependency()})
    told = planned(empty("n1"), a_stack("app", web, a_service("db")))
    assert [task for _, _, task, _ in acts(told)] == ["app_db.1", "app_web.1"]


def test_another_mode_makes_another_service() -> None:
    lab = running("n1", "n2", spec=a_stack("app", a_service()))
    told = planned(lab, a_stack("app", a_service(mode=ServiceMode.GLOBAL)))
    (change,) = told.changes
    assert change.fields == (FieldChange("mode", "replicated", "global"),)
    assert change.effect.startswith("1 task stops, 2 tasks start, another service takes its place")


def test_a_job_runs_to_its_end() -> None:
    told = planned(
        empty("n1"), a_stack("app", a_service("job", replicas=3, mode=ServiceMode.REPLICATED_JOB, max_concurrent=1))
    )
    assert [step for step, *_ in acts(told)] == [1, 2, 3]


def test_forced_services_get_new_tasks_though_no_field_differs() -> None:
    spec = a_stack("app", a_service(), a_service("db"))
    told = planned(running("n1", spec=spec), spec, force=("web",))
    assert told.changes == (ItemChange("service", "web", "change", (), "1 task stops, 1 task starts"),)


def test_what_would_not_fit_tells_why() -> None:
    told = planned(empty("n1", "n2"), a_stack("app", a_service(replicas=2, constraints=("node.hostname == n7",))))
    assert told.tasks == ()
    assert [trouble.about for trouble in told.waiting] == ["app_web.1", "app_web.2"]
    assert told.waiting[0].why.startswith("no node fits: 2 of 2")


def test_nothing_is_stopped_on_a_node_that_is_down() -> None:
    lab = running("n1", "n2", spec=a_stack("app", a_service(replicas=2, constraints=("node.hostname == n1",))))
    lab.fall_silent("n1")
    lab.wait(60.0)
    told = planned(lab, a_stack("app", a_service(replicas=1, image="app:2")))
    assert acts(told) == [(1, "start", "app_web.1", "n2")]


def test_other_stacks_stay_as_they_are() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("other", a_service(replicas=3)))
    lab.settle()
    for task in lab.tasks():
        lab.report(task, TaskState.STARTING)
    told = planned(lab, a_stack("app", a_service()))
    assert [task for _, _, task, _ in acts(told)] == ["app_web.1"]


def test_environment_and_lists_are_told_by_what_differs() -> None:
    def spec(**container: Any) -> StackSpec:
        return a_stack("app", dataclasses.replace(a_service(), container=ContainerSpec("app:1", **container)))

    lab = running("n1", spec=spec(environment={"A": "1", "B": "2"}, command=("run", "it"), user="root"))
    told = planned(lab, spec(environment={"A": "1", "B": "", "C": "3"}, command=("run",), user="app"))
    assert told.changes[0].fields == (
        FieldChange("command", '["run","it"]', '["run"]'),
        FieldChange("environment.B", "2", '""'),
        FieldChange("environment.C", "", "3"),
        FieldChange("user", "root", "app"),
    )


@pytest.mark.parametrize(
    ("before", "after", "fields"),
    [
        (((80, 8080), (81, 8081)), ((80, 8080), (81, 9081)), {"ports.81.published": ("8081", "9081")}),
        (((80, 8080),), ((80, 8080), (82, 8082)), {"ports.82": ("", "8082")}),
        (((80, 8080), (80, 8081)), ((80, 8080), (80, 8082)), {"ports": ("8081", "8082")}),
        (((80, 8080),), (), {"ports.80": ("8080", "")}),
    ],
    ids=["another number", "one more", "of one target", "one less"],
)
def test_of_ports_only_those_that_differ_are_told(
    before: tuple[tuple[int, int], ...], after: tuple[tuple[int, int], ...], fields: dict[str, tuple[str, str]]
) -> None:
    old, new = (a_stack("app", a_service(ports=tuple(PortSpec(*port) for port in ports))) for ports in (before, after))
    found = {field.path: field for field in planned(running("n1", spec=old), new).changes[0].fields}
    assert found.keys() == fields.keys()
    for path, (had, has) in fields.items():
        assert had in found[path].before and has in found[path].after and "8080" not in found[path].after


@pytest.mark.parametrize(
    "new",
    [
        a_stack("app", a_service(replicas=5, image="app:2"), a_service("db", volumes=("data",))),
        a_stack("app", a_service(replicas=1), a_service("cache", replicas=3)),
        a_stack("app", a_service(replicas=4, image="app:2", update=UpdateConfig(0, order="start-first"))),
        a_stack("app", a_service(mode=ServiceMode.GLOBAL), a_service("db", volumes=("data",))),
        a_stack("app", a_service(replicas=7, max_replicas_per_node=2)),
    ],
)
def test_what_was_told_comes_true(new: StackSpec) -> None:
    lab = running("n1", "n2", "n3", spec=a_stack("app", a_service(replicas=3), a_service("db", volumes=("data",))))
    told, before = planned(lab, new), set(lab.state.tasks)
    lab.deploy(new)
    lab.run_all()
    services, nodes = lab.state.services, lab.state.nodes
    came = [task for task in lab.tasks() if task.id not in before and task.node is not None]
    made = [f"{services[task.service_uid].full_name}.{task.slot} {nodes[task.node or ''].name}" for task in came]
    assert sorted(made) == sorted(f"{step.task} {step.node}" for step in told.tasks if step.action == "start")
    assert len(told.waiting) == len([task for task in lab.tasks() if task.node is None])


@pytest.mark.parametrize(
    ("spec", "request_", "error"),
    [
        (a_stack("app", a_service(ports=(PortSpec(80, 8080),))), {}, Conflict),
        (a_stack("app", a_service()), {"base_revision": 4}, Conflict),
        (a_stack("app", a_service(replicas=-1)), {}, UserError),
    ],
)
def test_what_would_be_refused_is(spec: StackSpec, request_: dict[str, Any], error: type[Exception]) -> None:
    lab = Lab("n1")
    lab.write(*_published(lab))
    with pytest.raises(error):
        planned(lab, spec, **request_)


def _published(lab: Lab) -> tuple[Any, ...]:
    from manager.api import revise

    other = a_stack("other", a_service(ports=(PortSpec(80, 8080),)))
    written = revise.deploy(lab.state, "other", DeployRequest(other, "op0"), "me", lab.now, lambda: "uid")
    assert isinstance(written, revise.Write)
    return written.records


def test_secrets_are_told_by_their_digests_alone() -> None:
    from cluster.model.container import FileReference
    from cluster.model.secret import SecretSpec

    def spec(digest: str) -> StackSpec:
        file = FileReference("key", "/run/secrets/key", digest=digest)
        service: ServiceSpec = dataclasses.replace(a_service(), container=ContainerSpec("app:1", secrets=(file,)))
        return dataclasses.replace(a_stack("app", service), secrets={"key": SecretSpec("key", "app_key")})

    lab = running("n1", spec=spec("a" * 64))
    told = planned(lab, spec("b" * 64))
    secret = next(change for change in told.changes if change.kind == "secret")
    assert secret.fields == (FieldChange("content", "digest aaaaaaaaaaaa", "digest bbbbbbbbbbbb"),)
    service = next(change for change in told.changes if change.kind == "service")
    assert service.fields == (FieldChange("secrets.key.digest", "aaaaaaaaaaaa", "bbbbbbbbbbbb"),)
    assert service.effect == "1 task stops, 1 task starts"


def test_a_copy_of_the_picture_has_the_same_indexes() -> None:
    lab = running("n1", "n2", "n3", spec=a_stack("app", a_service(replicas=3, volumes=("data",)), a_service("db")))
    lab.drain("n2")
    lab.deploy(a_stack("app", a_service(replicas=5, image="app:2", volumes=("data",))))
    lab.settle()
    copy = ClusterState.of(lab.state.snapshot())
    apart = {"roster", "_index", "stamps"}  # made anew from the rest, and counted anew
    assert {name: value for name, value in vars(copy).items() if name not in apart} == {
        name: value for name, value in vars(lab.state).items() if name not in apart
    }
