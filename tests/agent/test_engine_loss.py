"""An engine that goes away, restarts or cannot do what we need is a trouble of the node, never a task's failure."""

from __future__ import annotations

import signal
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from agent import converge, engine
from agent.standing import line
from cluster.assignments import Item
from cluster.model.container import FileReference
from cluster.model.service import RestartCondition, RestartPolicy
from cluster.model.task import Task, TaskState
from cluster.protocol import LogsRequest
from tests.agent.builders import CLUSTER, a_network, a_task, an_item, in_network
from tests.agent.node import Node, running
from tests.engines import EngineHost

S = TaskState


def two_tasks() -> tuple[list[Task], list[Item]]:
    item = an_item()
    made = [in_network(a_task(item, slot), f"10.128.1.{slot}") for slot in (1, 2)]
    return [task for task, _ in made], [item, a_network(), *(peer for _, peer in made)]


def started_at(host: EngineHost, container: str) -> str:
    return str(host.call("GET", f"/containers/{container}/json")["State"]["StartedAt"])


async def both_run(node: Node, tasks: list[Task]) -> dict[str, str]:
    return {task.id: (await node.reach(task, S.RUNNING)).container for task in tasks}


def no_failure(node: Node) -> bool:
    return not any(status.state.terminal for status in node.told) and all(s.restarts == 0 for s in node.told)


async def goes_on(host: EngineHost, tasks: list[Task], containers: dict[str, str]) -> None:
    """A new agent has the same tasks run by its journal, each with its address, before it hears of a manager."""
    async with running(host, listening=False) as node:
        node.runner.resume(node.journal.read(CLUSTER))
        for task in tasks:
            await node.until_true(lambda c=containers[task.id]: host.runs(c))  # type: ignore[misc]
            assert task.endpoints[0].addresses[0] in host.inside(task.id, "ip", "-4", "addr")
        assert no_failure(node)
        node.runner.online()
        await node.leave_nothing()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["by plan", "by a crash"])
async def test_tasks_that_an_engine_takes_down_with_it_start_again_as_the_same_tasks(
    node: Node, host: EngineHost, number: int
) -> None:
    tasks, others = two_tasks()
    node.assign(*tasks, *others)
    containers = await both_run(node, tasks)
    before = {c: started_at(host, c) for c in containers.values()}
    host.stop_engine(number)
    await node.condition("engine")
    host.start_engine()
    await node.condition("engine", gone=True)
    for task in tasks:
        await node.until_true(lambda c=containers[task.id]: host.runs(c))  # type: ignore[misc]
        assert started_at(host, containers[task.id]) > before[containers[task.id]]
        assert task.endpoints[0].addresses[0] in host.inside(task.id, "ip", "-4", "addr")
    assert no_failure(node)
    late = a_task(an_item(), slot=3)
    node.assign(*tasks, late, *others)
    await node.reach(late, S.RUNNING)


async def test_an_engine_that_hangs_is_a_trouble_of_the_node_until_it_goes_on(
    node: Node, host: EngineHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "PING", 0.1)
    monkeypatch.setattr(engine, "SILENCE", 1.0)
    tasks, others = two_tasks()
    node.assign(*tasks, *others)
    containers = await both_run(node, tasks)
    before = {c: started_at(host, c) for c in containers.values()}
    at_once, later = (a_task(an_item(), slot=slot) for slot in (3, 4))
    host.hang_engine()
    try:
        node.assign(*tasks, at_once, *others)
        await node.condition("engine")
        assert "hangs" in node.runner.conditions["engine"]
        node.assign(*tasks, at_once, later, *others)
        await node.reach(later, S.ACCEPTED)
    finally:
        host.let_engine_go_on()
    await node.condition("engine", gone=True)
    for task in (at_once, later):
        await node.reach(task, S.RUNNING)
    assert {c: started_at(host, c) for c in before} == before
    assert no_failure(node)


async def test_many_logs_that_are_followed_keep_nobody_waiting(node: Node, host: EngineHost) -> None:
    item = an_item()
    task = a_task(item)
    node.assign(item, task)
    container = (await node.reach(task, S.RUNNING)).container
    async with AsyncExitStack() as followed:
        for _ in range(120):
            await followed.enter_async_context(node.engine.logs(container, LogsRequest(task.id, follow=True)))
        assert (await node.engine.inspect(container)).id == container


async def test_with_live_restore_nothing_happens_to_them(host: EngineHost) -> None:
    host.stop_engine()
    host.start_engine(live_restore=True)
    try:
        async with running(host) as node:
            tasks, others = two_tasks()
            node.assign(*tasks, *others)
            containers = await both_run(node, tasks)
            before = {c: started_at(host, c) for c in containers.values()}
            host.stop_engine()
            await node.condition("engine")
            host.start_engine(live_restore=True)
            await node.condition("engine", gone=True)
            assert {c: started_at(host, c) for c in before} == before
            assert no_failure(node)
            host.call("POST", f"/containers/{containers[tasks[0].id]}/kill")
            failed = await node.reach(tasks[0], S.FAILED)
            assert failed.exit_code == 137, "what it does after that is its own doing"
            await node.leave_nothing()
    finally:
        host.stop_engine()
        host.start_engine()


async def test_agent_and_engine_restart_together(host: EngineHost) -> None:
    """As after an upgrade of both, or a reboot without a manager in reach: the journal and the containers suffice."""
    tasks, others = two_tasks()
    async with running(host) as first:
        first.assign(*tasks, *others)
        containers = await both_run(first, tasks)
        await first.journal.flush()
    host.stop_engine()
    host.start_engine()
    await goes_on(host, tasks, containers)


async def test_tasks_survive_a_power_cut_of_their_host(host: EngineHost) -> None:
    """Without a manager in reach: what the journal and the engine's disk hold is started again, freshly wired."""
    tasks, others = two_tasks()
    async with running(host) as first:
        first.assign(*tasks, *others)
        containers = await both_run(first, tasks)
        await first.journal.flush()
    host.cut_power()
    host.boot(empty=False)
    host.start_engine()
    await goes_on(host, tasks, containers)


async def test_after_a_reboot_without_a_manager_only_tasks_with_secrets_wait_and_say_so(host: EngineHost) -> None:
    plain, secret = an_item("plain"), an_item("with", secrets=(FileReference("pw", "/run/secrets/pw", digest="d1"),))
    free, bound, gone = a_task(plain), a_task(secret), a_task(plain, slot=2)
    async with running(host) as first:
        first.contents = {"d1": b"open sesame"}
        first.assign(plain, secret, free, bound, gone)
        containers = await both_run(first, [free, bound, gone])
        await first.journal.flush()
    host.cut_power()
    host.boot(empty=False)
    host.start_engine()
    host.call("DELETE", f"/containers/{containers[gone.id]}?force=1")
    async with running(host, listening=False) as node:
        node.runner.resume(node.journal.read(CLUSTER))
        await node.reach(free, S.RUNNING)
        await node.reach(bound, S.STARTING)
        await node.until(lambda: "waits for a manager" in node.statuses[bound.id].message)
        assert not host.runs(containers[bound.id])
        assert "waits for a manager" in (await node.reach(gone, S.ACCEPTED)).message, "nothing new is made meanwhile"
        shown = line(node.runner.reported, {}, offline=node.runner.is_offline)
        assert shown.startswith("1 task runs, 2 not yet (waits for a manager") and "no manager answers" in shown
        assert no_failure(node)

        node.contents = {"d1": b"open sesame"}
        node.runner.online()
        assert (await node.reach(bound, S.RUNNING)).container == containers[bound.id]
        await node.leave_nothing()


async def test_an_agent_that_starts_before_its_engine_waits_for_it(host: EngineHost) -> None:
    host.stop_engine()
    try:
        async with running(host) as node:
            tasks, others = two_tasks()
            node.assign(*tasks, *others)
            await node.reach(tasks[0], S.ACCEPTED)
            assert "engine" in node.runner.conditions
            host.start_engine()
            await both_run(node, tasks)
            assert node.runner.conditions == {}
            await node.leave_nothing()
    finally:
        if not host.answers():
            host.start_engine()


async def test_an_engine_without_our_runtime_is_a_condition_until_it_has_it(host: EngineHost) -> None:
    host.stop_engine()
    host.start_engine(runtime=False)
    try:
        async with running(host) as node:
            tasks, others = two_tasks()
            node.assign(*tasks, *others)
            waiting = await node.reach(tasks[0], S.ACCEPTED)
            assert "daemon.json" in waiting.message
            assert "systemctl reload docker" in node.runner.conditions["runtime"]
            host.reload_engine(runtime=True)
            await both_run(node, tasks)
            await node.leave_nothing()
    finally:
        host.stop_engine()
        host.start_engine()


async def test_without_a_manager_a_crashed_task_is_restarted_here_as_its_policy_allows(
    node: Node, host: EngineHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converge, "OFFLINE_AFTER", 0.5)
    allowed, forbidden = an_item("again"), an_item("once")
    forbidden = replace(forbidden, spec=replace(forbidden.spec, restart=RestartPolicy(RestartCondition.NONE)))
    first, first_peer = in_network(a_task(allowed), "10.128.1.1")
    second = a_task(forbidden)
    node.assign(allowed, forbidden, first, first_peer, second, a_network())
    containers = await both_run(node, [first, second])
    node.away = True
    node.runner.offline()
    for container in containers.values():
        host.call("POST", f"/containers/{container}/kill")
    failed = await node.reach(second, S.FAILED)
    await node.until(lambda: node.statuses[first.id].restarts == 1)
    assert (await node.reach(first, S.RUNNING)).container == containers[first.id]
    assert "10.128.1.1/20" in host.inside(first.id, "ip", "-4", "addr")
    assert node.statuses[second.id] == failed
    assert not host.runs(containers[second.id])
