"""Secrets and configs in real containers, with the tests as the manager that gives them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cluster.assignments import ServiceItem
from cluster.model.container import FileReference
from cluster.model.task import Desired, TaskState
from tests.agent.builders import a_task, an_item
from tests.agent.node import Node, running
from tests.engines import EngineHost

S = TaskState
VALUE = b"open sesame, said Ali Baba"


def a_user(*, target: str = "/run/secrets/pw", **fields: Any) -> ServiceItem:
    secret = FileReference("pw", target, "33", "44", 0o440, digest="d1")
    return an_item(secrets=(secret,), **fields)


def log_of(host: EngineHost, container: str) -> str:
    log = host.call("GET", f"/containers/{container}/logs?stdout=1&stderr=1")
    return log.decode(errors="replace") if isinstance(log, bytes) else str(log)


async def test_files_are_there_with_owner_and_mode_and_go_with_the_task(node: Node, host: EngineHost) -> None:
    node.contents = {"d1": VALUE, "d2": b'{{.Service.Name}} {{.Task.Slot}} {{env "COLOUR"}} {{secret "pw"}}'}
    item = a_user(
        command=("sh", "-c", "ls -ln $F; cat $F; echo x > /etc/site; true"),
        environment={"COLOUR": "blue-{{.Task.Slot}}", "F": "/run/secrets/pw /etc/site"},
        configs=(FileReference("site", "/etc/site", digest="d2", templated=True),),
        read_only=True,
    )
    task = a_task(item, 7)
    node.assign(item, task)
    status = await node.reach(task, S.COMPLETE)
    text = log_of(host, status.container)
    assert "-r--r-----" in text and " 33 " in text and " 44 " in text, text
    assert VALUE.decode() + "shop_web 7 blue-7 " + VALUE.decode() in text, text
    assert "Read-only file system" in text
    assert not any((host.memory / "secrets").iterdir()), "gone once its end was told"

    inspected = str(host.call("GET", f"/containers/{status.container}/json"))
    assert VALUE.decode() not in inspected
    await node.journal.flush()
    assert VALUE not in (host.home / "journal.json").read_bytes()
    assert f"tmpfs {host.memory}/secrets tmpfs" in host.run("cat", "/proc/mounts"), "so never on a disk"


async def test_a_task_waits_and_says_so_while_no_manager_gives_its_secrets(node: Node) -> None:
    item = a_user()
    task = a_task(item)
    node.assign(item, task)
    await node.until(lambda: task.id in node.statuses and "waits for a manager" in node.statuses[task.id].message)
    node.contents = {"d1": VALUE}
    status = await node.reach(task, S.RUNNING)
    assert status.message == ""


async def test_a_restarted_agent_finds_the_files_of_running_tasks_and_asks_for_nothing(
    node: Node, host: EngineHost
) -> None:
    node.contents = {"d1": VALUE}
    item = a_user()
    task = a_task(item)
    node.assign(item, task)
    before = await node.reach(task, S.RUNNING)
    async with running(host) as other:
        other.assign(item, task)
        assert (await other.reach(task, S.RUNNING)).container == before.container
        assert other.runner.known.delivered == {task.id}
        other.assign(item, replace(task, desired=Desired.REMOVE))
        await other.gone(task)
        assert not any((host.memory / "secrets").iterdir())


async def test_a_template_that_asks_for_what_is_not_there_is_the_tasks_end(node: Node) -> None:
    node.contents = {"d1": b'{{secret "other"}}'}
    secret = FileReference("pw", "/run/secrets/pw", digest="d1", templated=True)
    item = an_item(secrets=(secret,))
    task = a_task(item)
    node.assign(item, task)
    status = await node.reach(task, S.REJECTED)
    assert "the service has no secret other" in status.message


async def test_tasks_that_get_the_first_files_at_the_same_time_share_one_mount(node: Node, host: EngineHost) -> None:
    node.contents = {"d1": VALUE}
    item = a_user()
    tasks = [a_task(item, slot) for slot in range(1, 9)]
    node.assign(item, *tasks)
    for task in tasks:
        assert (await node.reach(task, S.RUNNING)).message == ""
    assert host.run("cat", "/proc/mounts").count(f" {host.memory}/secrets tmpfs") == 1


async def test_last_words_are_told_without_secrets(node: Node) -> None:
    node.contents = {"d1": VALUE}
    task = a_task(item := a_user(command=("sh", "-c", "echo cannot log in with $(cat /run/secrets/pw); exit 3")))
    node.assign(item, task)
    status = await node.reach(task, S.FAILED)
    assert (status.exit_code, status.log) == (3, ("cannot log in with ****",))
