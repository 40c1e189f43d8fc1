"""Tasks on a real engine in real sandboxes, with the tests as the manager."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from cluster.assignments import Item
from cluster.model.container import Healthcheck, Mount
from cluster.model.service import Resources
from cluster.model.task import Desired, Task, TaskState
from cluster.model.volume import VolumeSpec
from tests.agent.builders import a_network, a_task, an_item, in_network
from tests.agent.node import Node, running
from tests.engines import BOX, REGISTRY, EngineHost

S = TaskState


def states(node: Node, task: Task) -> list[TaskState]:
    return [status.state for status in node.told if status.task == task.id]


def desired(task: Task, what: Desired) -> Task:
    return replace(task, desired=what)


async def test_tasks_run_in_their_networks_and_leave_nothing_behind(node: Node, host: EngineHost) -> None:
    item = an_item(networks=())
    made = [in_network(a_task(item, slot), f"10.128.1.{slot}") for slot in range(1, 13)]
    tasks = [task for task, _ in made]
    others: list[Item] = [item, a_network(), *(peer for _, peer in made)]
    node.assign(*tasks, *others)
    for task in tasks:
        status = await node.reach(task, S.RUNNING)
        assert status.container
    first = tasks[0]
    assert states(node, first) == [S.PREPARING, S.RUNNING], "no more is told than there is to know"
    [container] = [c for c in host.containers() if c["Labels"]["com.stackyard.task"] == first.id]
    assert container["Names"] == [f"/shop_web.1.{first.id}"]
    assert "10.128.1.1/20" in host.inside(first.id, "ip", "-4", "addr")

    node.assign(*(desired(task, Desired.SHUTDOWN) for task in tasks[:6]), *tasks[6:], *others)
    for task in tasks[:6]:
        status = await node.reach(task, S.SHUTDOWN)
        assert status.container, "its log stays"
        assert task.id not in node.network.sandboxes()
    node.assign(*(desired(task, Desired.REMOVE) for task in tasks), *others)
    for task in tasks:
        assert (await node.gone(task)).state is S.SHUTDOWN
    assert host.containers() == []


async def test_what_a_container_finds_is_its_own(node: Node, host: EngineHost) -> None:
    """Files, variables, volumes and limits arrive in the container."""
    script = "cat /etc/hosts /etc/resolv.conf /etc/hostname; env; cat /data/*; id; ip addr"
    item = an_item(
        command=("sh", "-c", script),
        environment={"COLOUR": "blue"},
        user="1000:1000",
        hostname="here",
        extra_hosts=(("db", "192.0.2.9"),),
        mounts=(Mount("volume", "/data", "shop_data"), Mount("tmpfs", "/scratch", tmpfs_size=4096)),
        volumes=(VolumeSpec("data", "shop_data", labels={"keep": "yes"}),),
        resources=Resources(memory=64 << 20, pids=50),
        sysctls={"net.ipv4.ip_unprivileged_port_start": "0"},
    )
    task, peer = in_network(a_task(item), "10.128.1.1")
    node.assign(item, task, peer, a_network())
    status = await node.reach(task, S.COMPLETE)
    log = host.call("GET", f"/containers/{status.container}/logs?stdout=1&stderr=1")
    text = log.decode(errors="replace") if isinstance(log, bytes) else str(log)
    for expected in (
        "10.128.1.1\there",
        "192.0.2.9\tdb",
        "nameserver 127.0.0.11",
        "COLOUR=blue",
        "uid=1000",
        "10.128.1.1/20",
    ):
        assert expected in text, text
    volume = host.call("GET", "/volumes/shop_data")
    assert volume["Labels"]["keep"] == "yes"
    node.assign(item, desired(task, Desired.REMOVE), peer, a_network())
    await node.gone(task)
    assert host.call("GET", "/volumes/shop_data"), "a named volume outlives its tasks"
    host.call("DELETE", "/volumes/shop_data")


@pytest.mark.parametrize(
    ("command", "state", "code"),
    [
        pytest.param("exit 0", S.COMPLETE, 0, id="well"),
        pytest.param("exit 3", S.FAILED, 3, id="badly"),
        pytest.param("kill -9 $$", S.FAILED, 137, id="by a signal"),
    ],
)
async def test_a_task_ends_by_itself(node: Node, host: EngineHost, command: str, state: TaskState, code: int) -> None:
    item = an_item(command=("sh", "-c", command))
    task, peer = in_network(a_task(item), "10.128.1.1")
    node.assign(item, task, peer, a_network())
    status = await node.reach(task, state)
    assert status.exit_code == code
    assert task.id not in node.network.sandboxes(), "its addresses are free once its end is told"
    assert status.container
    node.assign(item, desired(task, Desired.REMOVE), peer, a_network())
    removed = await node.gone(task)
    assert (removed.state, removed.exit_code) == (state, code), "it stays what it was"


async def test_a_task_is_running_only_when_its_health_check_says_so(node: Node) -> None:
    check = Healthcheck(("CMD-SHELL", "cat /tmp/ready"), interval=0.2, timeout=1.0, retries=100)
    item = an_item(command=("sh", "-c", "sleep 1; echo > /tmp/ready; sleep 1000"), healthcheck=check)
    task = a_task(item)
    node.assign(item, task)
    await node.reach(task, S.RUNNING)
    assert states(node, task) == [S.PREPARING, S.STARTING, S.RUNNING]


async def test_what_fails_its_health_check_within_the_start_period_is_not_sick(node: Node) -> None:
    check = Healthcheck(("CMD-SHELL", "cat /tmp/ready"), interval=0.2, timeout=1.0, retries=1, start_period=60.0)
    item = an_item(command=("sh", "-c", "sleep 1; echo > /tmp/ready; sleep 1000"), healthcheck=check)
    task = a_task(item)
    node.assign(item, task)
    await node.reach(task, S.RUNNING)
    assert states(node, task) == [S.PREPARING, S.STARTING, S.RUNNING]


async def test_a_sick_container_is_stopped_and_has_failed(node: Node) -> None:
    check = Healthcheck(("CMD-SHELL", "echo asking; echo no answer; exit 3"), interval=0.2, timeout=1.0, retries=1)
    item = an_item(command=("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"), healthcheck=check)
    task = a_task(item)
    node.assign(item, task)
    status = await node.reach(task, S.FAILED)
    assert status.message == (
        'its health check failed, so it was stopped: the check said "no answer", with exit code 3'
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param({"image": f"{REGISTRY}/no/such:1"}, "cannot be had", id="its image is nowhere"),
        pytest.param(
            {"command": ("/no/such/program",), "init": False}, "/no/such/program", id="its program is not in the image"
        ),
        pytest.param(
            {"mounts": (Mount("bind", "/x", "/no/such/folder"),)}, "/no/such/folder", id="its bind is missing"
        ),
        pytest.param({"sysctls": {"kernel.nonsense": "1"}}, "kernel.nonsense", id="it wants a sysctl that is none"),
    ],
)
async def test_a_task_that_cannot_run_is_rejected_in_the_engines_words(
    node: Node, host: EngineHost, fields: dict[str, Any], words: str
) -> None:
    item = an_item(**fields)
    task, peer = in_network(a_task(item), "10.128.1.1")
    node.assign(item, task, peer, a_network())
    status = await node.gone(task)
    assert status.state is S.REJECTED
    assert words in status.message
    assert host.containers() == []


async def test_an_image_is_pulled_once_for_all_tasks_that_wait_for_it(node: Node, host: EngineHost) -> None:
    host.push_box("shop/web:1")
    reference = f"{REGISTRY}/shop/web:1"
    item = an_item(image=reference)
    tasks = [a_task(item, slot) for slot in (1, 2, 3)]
    node.assign(item, *tasks)
    for task in tasks:
        await node.reach(task, S.RUNNING)
    assert any(status.message == f"pulls {reference}" for status in node.told)
    node.assign()
    await node.leave_nothing()
    host.call("DELETE", f"/images/{reference}")


async def test_a_task_is_made_ready_and_started_when_its_time_has_come(node: Node) -> None:
    item = an_item()
    later = time.time() + 1000.0  # by a clock that is wrong, but a second's wait all the same
    task = replace(a_task(item), created_at=later, not_before=later + 1.0)
    began = time.monotonic()
    node.assign(item, task)
    await node.reach(task, S.READY)
    await node.reach(task, S.RUNNING)
    assert time.monotonic() - began >= 1.0


async def test_a_held_task_is_made_ready_and_started_when_it_is_let_go(node: Node, host: EngineHost) -> None:
    item = an_item()
    task, peer = in_network(replace(a_task(item), held=True), "10.128.1.1")
    everything = (item, peer, a_network())
    node.assign(task, *everything)
    ready = await node.reach(task, S.READY)
    assert host.call("GET", f"/containers/{ready.container}/json")["State"]["Status"] == "created"
    node.assign(replace(task, held=False), *everything)
    status = await node.reach(task, S.RUNNING)
    assert status.container == ready.container
    node.assign()
    await node.leave_nothing()


async def test_a_restarted_agent_starts_what_the_one_before_made_ready(host: EngineHost) -> None:
    item = an_item()
    task, peer = in_network(replace(a_task(item), held=True), "10.128.1.1")
    everything = (item, peer, a_network())
    async with running(host) as first:
        first.assign(task, *everything)
        ready = await first.reach(task, S.READY)
    async with running(host) as second:
        second.assign(replace(task, held=False), *everything)
        status = await second.reach(task, S.RUNNING)
        assert status.container == ready.container
        second.assign()
        await second.leave_nothing()


async def test_a_restarted_agent_finds_its_tasks_and_disturbs_nothing(host: EngineHost) -> None:
    item = an_item()
    kept, peer = in_network(a_task(item, 1), "10.128.1.1")
    dead, gone = a_task(an_item(command=("false",), name="ends")), a_task(item, 3)
    everything: list[Item | Task] = [item, an_item(command=("false",), name="ends"), peer, a_network()]
    async with running(host) as first:
        first.assign(kept, dead, gone, *everything)
        before = await first.reach(kept, S.RUNNING)
        failed = await first.reach(dead, S.FAILED)
        await first.reach(gone, S.RUNNING)
        started = host.call("GET", f"/containers/{before.container}/json")["State"]["StartedAt"]
    async with running(host, listening=False) as second:
        second.runner.resume(second.journal.read("c1u5te2"))
        status = await second.reach(kept, S.RUNNING)
        assert status.container == before.container
        assert host.call("GET", f"/containers/{before.container}/json")["State"]["StartedAt"] == started
        assert len(host.containers()) == 3, "without a full set nothing is removed"
        again = await second.reach(dead, S.FAILED)
        assert again == failed, "what was told to have ended is not run again"
        second.runner.online()
        second.assign(kept, dead, *everything)
        await second.leave_nothing()


async def test_a_container_of_another_cluster_is_never_touched(node: Node, host: EngineHost) -> None:
    body = {
        "Image": BOX,
        "Cmd": ["sleep", "100"],
        "Labels": {"com.stackyard.cluster": "another"},
        "NetworkDisabled": True,
        "StopTimeout": 1,
    }
    foreign = host.call("POST", "/containers/create", body)["Id"]
    try:
        node.assign()
        item = an_item()
        task = a_task(item)
        node.assign(item, task)
        await node.reach(task, S.RUNNING)
        node.assign(item, desired(task, Desired.REMOVE))
        await node.gone(task)
        assert [c["Id"] for c in host.containers()] == [foreign]
    finally:
        host.call("DELETE", f"/containers/{foreign}?force=1")


async def test_a_container_that_somebody_removes_is_its_tasks_failure(node: Node, host: EngineHost) -> None:
    item = an_item()
    task = a_task(item)
    node.assign(item, task)
    status = await node.reach(task, S.RUNNING)
    host.call("DELETE", f"/containers/{status.container}?force=1")
    failed = await node.reach(task, S.FAILED)
    assert failed.container == ""
    assert host.containers() == []


async def test_a_container_whose_create_was_never_answered_is_taken_over(node: Node, host: EngineHost) -> None:
    item = an_item()
    task = a_task(item)
    labels = {"com.stackyard.cluster": "c1u5te2", "com.stackyard.task": task.id}
    body = {"Image": BOX, "Cmd": ["sleep", "100"], "Labels": labels, "NetworkDisabled": True, "StopTimeout": 1,
            "HostConfig": {"Runtime": "stackyard"}}  # fmt: skip
    made = host.call("POST", f"/containers/create?name=shop_web.1.{task.id}", body)["Id"]
    node.assign(item, task)
    assert (await node.reach(task, S.RUNNING)).container == made
