"""What a service can ask of a node, and in which order nodes that have it get its tasks."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.model.container import ContainerSpec, DeviceRequest
from cluster.model.node import Availability
from cluster.model.service import PortSpec, Reservations, RestartPolicy, ServiceMode, ServiceSpec
from cluster.model.task import TaskState
from manager.decide import ranking
from manager.decide.allocator import NoRoom
from manager.decide.revisions import Resolved
from manager.decide.scheduler import Scheduler
from manager.roster import reservations_of
from tests.manager.decide.builders import NOW, Lab, a_description, a_service, a_stack, next_revision

GIB = 2**30


def a_lab(*nodes: str, **description: Any) -> Lab:
    lab = Lab(*nodes)
    for name in nodes:
        describe(lab, name, **description)
    return lab


def describe(lab: Lab, name: str, **description: Any) -> None:
    lab.session(name, description=dataclasses.replace(a_description(name), **description))


def asking(name: str = "web", *, replicas: int = 1, **fields: Any) -> ServiceSpec:
    return dataclasses.replace(a_service(name, replicas=replicas), **fields)


def needing(**needs: Any) -> dict[str, Any]:
    return {"reservations": Reservations(**needs)}


@pytest.mark.parametrize(
    ("fields", "places", "reason"),
    [
        pytest.param(
            needing(memory=GIB),
            {"n1": 2, "n2": 2, None: 1},
            "no node fits: 2 of 2 lack memory (needs 1 GiB, most free 512 MiB)",
            id="memory is kept for the tasks that have it",
        ),
        pytest.param(
            needing(nano_cpus=1_500_000_000),
            {"n1": 1, "n2": 1, None: 3},
            "no node fits: 2 of 2 lack CPU (needs 1.5, most free 0.5)",
            id="so are cores",
        ),
        pytest.param(
            needing(generic={"gpu": 2}),
            {"n1": 1, None: 4},
            "no node fits: 2 of 2 lack gpu (needs 2, most free 1)",
            id="generic resources, of the engine and of the operator",
        ),
        pytest.param(
            {"container": ContainerSpec("app:1", device_requests=(DeviceRequest(count=2, capabilities=("gpu",)),))},
            {"n1": 1, None: 4},
            "no node fits: 2 of 2 lack gpu (needs 2, most free 1)",
            id="devices that a driver gives are such resources",
        ),
        pytest.param(
            {"max_replicas_per_node": 2},
            {"n1": 2, "n2": 2, None: 1},
            "no node fits: 2 of 2 have as many tasks of the service as they may (max_replicas_per_node: 2)",
            id="so many of the service on a node, and no more",
        ),
        pytest.param(
            {"ports": (PortSpec(80, 9090, mode="host"),)},
            {"n1": 1, "n2": 1, None: 3},
            "no node fits: 2 of 2 have port 9090/tcp in use",
            id="a port of the node is had once",
        ),
        pytest.param(
            {"container": ContainerSpec("app:1", platform="linux/arm64/v8")},
            {"n2": 5},
            "",
            id="the platform of the image",
        ),
        pytest.param(
            {"container": ContainerSpec("app:1", platform="amd64")}, {"n1": 5}, "", id="the architecture alone"
        ),
        pytest.param(
            {"container": ContainerSpec("app:1", platform="windows/amd64")},
            {None: 5},
            "no node fits: 2 of 2 are not of platform windows/amd64",
            id="a platform that is not there",
        ),
        pytest.param({"constraints": ("node.platform.arch == aarch64",)}, {"n2": 5}, "", id="constraint: architecture"),
        pytest.param({"constraints": ("Node.Hostname == N2",)}, {"n2": 5}, "", id="constraint: in any case"),
        pytest.param({"constraints": ("node.ip == 10.77.0.1/32",)}, {"n1": 5}, "", id="constraint: subnet"),
        pytest.param({"constraints": ("node.ip != 10.77.0.1",)}, {"n2": 5}, "", id="constraint: not that address"),
        pytest.param(
            {"constraints": ("node.hostname == n1", "node.hostname == n2")},
            {None: 5},
            "no node fits: 1 of 2 does not match node.hostname == n1, 1 does not match node.hostname == n2",
            id="constraints that exclude each other",
        ),
    ],
)
def test_what_is_asked_for_is_kept(fields: dict[str, Any], places: dict[str | None, int], reason: str) -> None:
    lab = a_lab("n1", "n2", cpus=2, memory=5 * GIB // 2, architecture="x86_64")
    describe(lab, "n1", cpus=2, memory=5 * GIB // 2, architecture="x86_64", resources={"gpu": 1})
    describe(lab, "n2", cpus=2, memory=5 * GIB // 2, architecture="aarch64", resources={"gpu": 1})
    lab.node("n1", resources={"gpu": 3})
    lab.deploy(a_stack("app", asking(replicas=5, **fields)))
    lab.settle()
    assert lab.places() == places
    assert {task.reason for task in lab.tasks() if task.node is None} == ({reason} if reason else set())


def test_a_port_of_a_node_is_not_taken_from_a_program_of_its_host() -> None:
    lab = a_lab("n1", "n2")
    lab.session("n1", listening=("tcp/9090", "udp/53"))
    lab.session("n2", listening=("udp/9090",))
    lab.deploy(a_stack("app", asking(replicas=2, ports=(PortSpec(80, 9090, mode="host"),))))
    lab.settle()
    assert lab.places() == {"n2": 1, None: 1}
    [waiting] = [task for task in lab.tasks() if task.node is None]
    assert waiting.reason == (
        "no node fits: 1 of 2 has port 9090/tcp in use, 1 has port 9090/tcp held by a program of the host"
    )
    lab.session("n1", listening=())
    lab.settle()
    assert lab.places() == {"n1": 1, "n2": 1}, "as soon as the port is free"


@pytest.mark.parametrize(
    ("platforms", "places", "reason"),
    [
        pytest.param(("linux/arm64/v8",), {"n2": 3}, "", id="one"),
        pytest.param(("linux/amd64", "linux/arm64/v8", "linux/s390x"), {"n1": 2, "n2": 1}, "", id="several"),
        pytest.param(("linux/386",), {"n1": 3}, "", id="an older one that the machine runs too"),
        pytest.param(
            ("linux/ppc64le", "windows/amd64"),
            {None: 3},
            "no node fits: 2 of 2 are not of the image's platform: image is for linux/ppc64le, windows/amd64 only",
            id="none of these",
        ),
        pytest.param((), {"n1": 2, "n2": 1}, "", id="nobody knows"),
    ],
)
@pytest.mark.parametrize("mode", [ServiceMode.REPLICATED, ServiceMode.GLOBAL])
def test_tasks_go_where_there_is_an_image_for(
    platforms: tuple[str, ...], places: dict[str | None, int], reason: str, mode: ServiceMode
) -> None:
    lab = a_lab("n1", "n2", architecture="x86_64")
    describe(lab, "n2", architecture="aarch64")
    lab.deploy(a_stack("app", asking(replicas=3, mode=mode)), images={"web": Resolved("sha256:1", platforms)})
    lab.settle()
    if mode.is_global:
        assert lab.places() == dict.fromkeys(places.keys() - {None}, 1)
        return
    assert lab.places() == places
    assert {task.reason for task in lab.tasks() if task.node is None} == ({reason} if reason else set())


def test_a_task_that_waited_for_room_goes_where_some_is_freed() -> None:
    lab = a_lab("n1", memory=GIB)
    lab.deploy(a_stack("a", asking("big", **needing(memory=GIB))))
    lab.run_all()
    lab.deploy(a_stack("b", asking("late", **needing(memory=GIB))))
    lab.settle()
    assert "needs 1 GiB, free 0 B" in lab.task("late").reason
    lab.remove("a")
    lab.run_all()
    assert lab.places("late") == {"n1": 1}


def test_what_a_task_reserves_is_held_until_it_has_ended() -> None:
    lab = a_lab("n1", memory=GIB)
    lab.deploy(a_stack("a", asking("big", **needing(memory=GIB))))
    lab.run_all()
    lab.remove("a")
    lab.settle()
    assert lab.state.roster.reserved("id-n1").memory == GIB, "it is told to end, and has not"
    lab.run_all()
    assert lab.state.roster.reserved("id-n1").memory == 0


def test_a_reservation_that_is_changed_counts_for_running_tasks() -> None:
    lab = a_lab("n1", memory=4 * GIB)
    lab.deploy(a_stack("a", asking("big", **needing(memory=GIB))))
    lab.run_all()
    lab.deploy(a_stack("a", asking("big", **needing(memory=3 * GIB))))
    lab.run_all()
    assert lab.state.roster.reserved("id-n1").memory == 3 * GIB


def test_a_node_short_of_disk_space_takes_no_new_tasks_and_keeps_those_it_has() -> None:
    lab = a_lab("n1", "n2")
    lab.deploy(a_stack("app", asking(replicas=2)))
    lab.run_all()
    lab.session("n1", conditions={"disk": "3 % of /var/lib/docker is free"})
    lab.deploy(a_stack("app", asking(replicas=4)))
    lab.run_all()
    assert lab.places() == {"n1": 1, "n2": 3}


def test_a_node_on_which_the_service_failed_five_times_lately_is_the_last_choice() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", dataclasses.replace(a_service(restart=RestartPolicy(delay=1.0)))))
    for failures in range(ranking.FAULTY):
        lab.run_all()
        assert lab.places() == {"n1": 1}, f"{failures} failures"
        lab.report(lab.task(), TaskState.FAILED, exit_code=1)
        lab.settle()
        lab.wait(20.0)
    assert lab.places() == {"n2": 1}


def test_failures_of_long_ago_and_of_another_version_do_not_count() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service()))
    lab.run_all()
    lab.report(lab.task(), TaskState.REJECTED)
    lab.settle()
    assert lab.places() == {"n2": 1}
    lab.deploy(a_stack("app", a_service(image="app:2")))
    lab.run_all()
    assert lab.places() == {"n1": 1}


# Spread preferences


def a_zoned_lab() -> Lab:
    lab = Lab(*(f"n{i}" for i in range(1, 8)))
    for name, zone, rack in [
        ("n1", "a", "1"),
        ("n2", "a", "1"),
        ("n3", "a", "2"),
        ("n4", "a", "2"),
        ("n5", "b", "1"),
        ("n6", "b", "2"),
    ]:
        lab.node(name, labels={"zone": zone, "rack": rack})
    return lab


def zones(lab: Lab, *labels: str) -> Counter[tuple[str, ...]]:
    nodes = [lab.state.nodes[task.node] for task in lab.tasks() if task.node is not None]
    return Counter(tuple(node.labels.get(label, "") for label in labels) for node in nodes)


def test_tasks_spread_evenly_over_the_values_of_a_label_nodes_without_it_being_one() -> None:
    lab = a_zoned_lab()
    lab.deploy(a_stack("app", asking(replicas=9, spread=("node.labels.zone",))))
    lab.settle()
    assert zones(lab, "zone") == {("a",): 3, ("b",): 3, ("",): 3}


def test_spread_preferences_nest() -> None:
    lab = a_zoned_lab()
    asked = asking(replicas=8, spread=("node.labels.zone", "node.labels.rack"), constraints=("node.hostname != n7",))
    lab.deploy(a_stack("app", asked))
    lab.settle()
    assert zones(lab, "zone", "rack") == {("a", "1"): 2, ("a", "2"): 2, ("b", "1"): 2, ("b", "2"): 2}


def test_tasks_on_nodes_that_take_no_more_count_in_their_group() -> None:
    lab = a_zoned_lab()
    lab.deploy(a_stack("app", asking(replicas=3, spread=("node.labels.zone",), constraints=("node.hostname == n5",))))
    lab.run_all()
    lab.node("n5", availability=Availability.PAUSE)
    lab.deploy(a_stack("app", asking(replicas=6, spread=("node.labels.zone",), constraints=("node.hostname != n7",))))
    lab.run_all()
    assert zones(lab, "zone") == {("a",): 3, ("b",): 3}


def test_a_preference_gives_way_where_there_is_no_room() -> None:
    lab = a_zoned_lab()
    asked = asking(replicas=8, spread=("node.labels.zone",), max_replicas_per_node=1, constraints=())
    lab.deploy(a_stack("app", asked))
    lab.settle()
    assert zones(lab, "zone") == {("a",): 4, ("b",): 2, ("",): 1}
    waiting = next(task for task in lab.tasks() if task.node is None)
    assert waiting.reason.startswith("no node fits: 7 of 7 have as many")


# The whole against an oracle that looks at every node each time


@st.composite
def labs(draw: st.DrawFn) -> tuple[Lab, ServiceSpec]:
    names = [f"n{i}" for i in range(1, draw(st.integers(1, 6)) + 1)]
    lab = a_lab(*names, cpus=2, memory=2 * GIB)
    for name in names:
        zone = draw(st.sampled_from(["a", "b", ""]))
        availability = draw(st.sampled_from([Availability.ACTIVE] * 4 + [Availability.PAUSE]))
        lab.node(name, labels={"zone": zone} if zone else {}, availability=availability)
        if draw(st.booleans()) and draw(st.booleans()):
            lab.session(name, conditions={draw(st.sampled_from(["clock", "disk"])): "trouble"})
    lab.deploy(a_stack("other", asking("other", replicas=draw(st.integers(0, 5)), **needing(memory=GIB // 2))))
    spec = asking(
        replicas=draw(st.integers(0, 4)),
        spread=draw(st.sampled_from([(), (), ("node.labels.zone",), ("node.labels.zone", "node.hostname")])),
        constraints=draw(st.sampled_from([(), ("node.labels.zone == a",), ("node.labels.zone != a",)])),
        max_replicas_per_node=draw(st.sampled_from([0, 0, 1, 2])),
        ports=draw(st.sampled_from([(), (), (PortSpec(80, 9090, mode="host"),)])),
        reservations=draw(st.sampled_from([Reservations(), Reservations(memory=GIB), Reservations(nano_cpus=10**9)])),
    )
    lab.deploy(a_stack("app", spec))
    lab.settle()
    for task in lab.tasks("web"):
        if task.node is not None and draw(st.booleans()):
            lab.report(task, draw(st.sampled_from([TaskState.REJECTED, TaskState.FAILED, TaskState.RUNNING])))
    return lab, spec


def by_looking_at_all(lab: Lab, spec: ServiceSpec, picks: int) -> list[str | None]:
    """Place tasks one at a time, weighing every node anew: slow, and plainly right."""
    state = lab.state
    tasks = [
        state.tasks[i] for uid, s in state.services.items() if s.name == "web" for i in state.tasks_of.get(uid, ())
    ]
    own = Counter(task.node for task in tasks if task.node and state.is_live(task))
    rejected = Counter(t.node for t in tasks if t.node and state.reported_state(t) is TaskState.REJECTED)
    planned = Counter[str]()
    chosen: list[str | None] = []

    def fits(ident: str) -> bool:
        node, session = state.nodes[ident], state.sessions[ident]
        there = [t for t in state.tasks.values() if t.node == ident and not state.has_ended(t)]
        needs = spec.reservations
        memory = sum(reservations_of(state, t).memory for t in there) + needs.memory * (planned[ident] + 1)
        cpus = sum(reservations_of(state, t).nano_cpus for t in there) + needs.nano_cpus * (planned[ident] + 1)
        port = any(c.name.startswith(f"{ident}/") for c in state.claims.values() if c.kind == "host-port")
        zone = node.labels.get("zone", "")
        return (
            node.availability is Availability.ACTIVE
            and "disk" not in session.conditions
            and not any((zone == "a") != c.endswith("== a") for c in spec.constraints)
            and (not spec.max_replicas_per_node or own[ident] < spec.max_replicas_per_node)
            and (not needs.memory or memory <= session.description.memory)
            and (not needs.nano_cpus or cpus <= session.description.cpus * 10**9)
            and (not spec.ports or not (port or planned[ident]))
        )

    def rank(ident: str) -> tuple[object, ...]:
        node, session = state.nodes[ident], state.sessions[ident]
        load = state.load.get(ident, 0) + planned[ident]
        return bool(session.conditions), rejected[ident], own[ident], load, node.name

    def groups_of(ident: str, depth: int) -> list[str]:
        node = state.nodes[ident]
        value = {"node.labels.zone": node.labels.get("zone", ""), "node.hostname": node.name}
        return [value[attribute] for attribute in spec.spread[:depth]]

    def best_of(able: list[str], depth: int = 0) -> str | None:
        """Choose the group with fewest, then the one with the least used node, and so on within it."""
        if depth == len(spec.spread):
            return min(able, key=rank, default=None)
        found = []
        for group in {tuple(groups_of(ident, depth + 1)) for ident in able}:
            count = sum(n for i, n in own.items() if i and tuple(groups_of(i, depth + 1)) == group)
            best = best_of([ident for ident in able if tuple(groups_of(ident, depth + 1)) == group], depth + 1)
            assert best is not None
            found.append((count, rank(best), group, best))
        return min(found)[-1] if found else None

    for _ in range(picks):
        best = best_of([ident for ident in state.nodes if fits(ident)])
        chosen.append(best)
        if best is not None:
            own[best] += 1
            planned[best] += 1
    return chosen


@settings(max_examples=150, deadline=None)
@given(labs())
def test_nodes_are_chosen_as_if_each_were_weighed_each_time(case: tuple[Lab, ServiceSpec]) -> None:
    lab, spec = case
    tasks = [t for t in lab.state.tasks.values() if lab.state.services[t.service_uid].name == "web"]
    scheduler = Scheduler(lab.state, next_revision(lab.state, a_stack("app", spec))[1], spec, tasks, NOW)
    chosen: list[str | None] = []
    for _ in range(8):
        foretold = scheduler.no_room()
        try:
            chosen.append(scheduler.pick())
            assert not foretold
        except NoRoom as problem:
            assert str(problem) == foretold
            chosen.append(None)
    assert chosen == by_looking_at_all(lab, spec, 8)
