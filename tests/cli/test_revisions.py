"""`stack history`, `stack rollback` and `stack update`, against a whole manager with an agent that obeys."""

from __future__ import annotations

import pytest

from cluster.model.task import Task, TaskState
from tests.cli.terminal import Said, Terminal
from tests.manager.api.obedient import obedient
from tests.manager.managers import RunningManager, until

pytestmark = pytest.mark.etcd

SHOP = """
name: shop
services:
  web: {image: "nginx:${TAG:-1}", deploy: {replicas: 2, update_config: {parallelism: 0, monitor: 0s}}}
  db: {image: postgres}
"""


@pytest.fixture
def shop(person: Terminal) -> None:
    person.write("compose.yml", SHOP)


async def deployed(person: Terminal, tag: str) -> None:
    assert (await person.stack("deploy", "--detach", "--resolve-image", "never", TAG=tag)).code == 0


def images(manager: RunningManager) -> dict[str, str]:
    state = manager.core.state
    stack = state.stacks["shop"]
    spec = state.revisions[stack.uid][stack.head].spec
    return {name: service.container.image for name, service in spec.services.items()}


def rows(said: Said) -> list[str]:
    assert said.code == 0, said
    return said.out.splitlines()


@pytest.mark.usefixtures("shop")
async def test_history_tells_what_each_revision_changed_and_by_whom(person: Terminal, manager: RunningManager) -> None:
    await deployed(person, "1")
    assert (await person.stack("deploy", "--detach", "--reason", "new look", TAG="2")).code == 0
    assert (await person.stack("scale", "db=0", "--detach")).code == 0
    head, third, second, first = rows(await person.stack("history", "shop"))
    assert head.split() == ["REVISION", "WHEN", "BY", "REASON", "CHANGES"]
    assert third.split()[:2] == ["3", "(current)"] and "db: replicas 1 -> 0" in third
    assert second.startswith("2 ") and " ann " in second
    assert " ".join(second.split()).endswith("new look web: image nginx:1 -> nginx:2")
    assert first.split()[0] == "1" and first.split()[-1] == "first"
    found = (await person.stack("history", "shop", "--format", "json")).json
    assert [(one["n"], one["current"]) for one in found] == [(3, True), (2, False), (1, False)]
    said = await person.stack("history", "moon")
    assert (said.code, said.out) == (2, "") and "there is no stack moon" in said.err


@pytest.mark.usefixtures("shop")
async def test_a_stack_goes_back_to_what_it_was(person: Terminal, manager: RunningManager) -> None:
    async with obedient(manager):
        for tag in ("1", "2"):
            await deployed(person, tag)
        said = await person.stack("rollback", "shop")
        assert (said.code, said.out) == (0, "shop is back at revision 1, as revision 3\n"), said
        assert said.err.startswith("shop goes from revision 2 to 3:\n  web: image nginx:2 -> nginx:1\n")
        assert images(manager)["web"] == "nginx:1"
        said = await person.stack("rollback", "shop", "2", "--detach", "--reason", "after all")
        assert (said.code, said.out) == (0, "shop goes to revision 4\n")
        assert images(manager)["web"] == "nginx:2"
        said = await person.stack("rollback", "shop", "2")
        assert "shop is like that already (revision 4)" in said.err and said.code == 0


@pytest.mark.usefixtures("shop")
async def test_one_service_goes_back_alone_also_one_that_is_gone(person: Terminal, manager: RunningManager) -> None:
    person.write("less.yml", 'name: shop\nservices: {web: {image: "nginx:2"}}')
    await deployed(person, "1")
    await person.stack("deploy", "-f", "less.yml", "--detach")
    said = await person.stack("rollback", "shop_db", "--detach")
    assert (said.code, said.out) == (0, "shop goes to revision 3\n"), said
    assert images(manager) == {"web": "nginx:2", "db": "postgres"}
    assert (await person.stack("rollback", "web", "1", "--detach")).code == 0
    assert images(manager) == {"web": "nginx:1", "db": "postgres"}


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("rollback", "moon"), "there is no stack or service moon"),
        (("rollback", "moon_web"), "there is no stack or service moon_web"),
        (("rollback", "shop_moon"), "moon"),
        (("rollback", "shop"), "was never different"),
        (("rollback", "shop", "7"), "no revision 7 that is kept"),
        (("rollback", "shop", "0"), "0 is not in the range"),
        (("update", "shop"), "Give either --continue or --force"),
        (("update", "shop", "--continue", "--force"), "Give either --continue or --force"),
        (("update", "shop", "--continue"), "is paused"),
        (("update", "moon", "--force"), "there is no stack or service moon"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
async def test_what_cannot_be(person: Terminal, manager: RunningManager, arguments: tuple[str, ...], told: str) -> None:
    await deployed(person, "1")
    said = await person.stack(*arguments)
    assert (said.code, said.out) == (2, "")
    assert told in said.err
    assert manager.core.state.stacks["shop"].head == 1


@pytest.mark.usefixtures("shop")
async def test_a_forced_update_replaces_the_tasks_of_one_service(person: Terminal, manager: RunningManager) -> None:
    state = manager.core.state

    def live(service: str) -> set[str]:
        uid = next(uid for uid, one in state.services.items() if one.name == service)
        return {task.id for task in state.all_of(uid) if state.is_live(task)}

    async with obedient(manager):
        await deployed(person, "1")
        assert (await person.stack("wait", "shop")).code == 0
        web, db = live("web"), live("db")
        said = await person.stack("update", "web", "--force")
        assert (said.code, said.out) == (0, "web is up to date, revision 2\n"), said
        assert not live("web") & web and live("db") == db
        assert "web: new tasks" in rows(await person.stack("history", "shop"))[1]


@pytest.mark.usefixtures("shop")
async def test_a_paused_update_is_told_and_goes_on(person: Terminal, manager: RunningManager) -> None:
    person.write("compose.yml", SHOP.replace("monitor: 0s", "monitor: 1h"))

    def fails_the_second_time(task: Task) -> TaskState:
        return TaskState.FAILED if task.version == 2 else TaskState.RUNNING

    async with obedient(manager, outcome=fails_the_second_time) as agent:
        await deployed(person, "1")
        await until(lambda: len(manager.core.state.statuses) == 3)
        said = await person.stack("deploy", "--resolve-image", "never", TAG="2")
        assert said.code == 1 and "web: its update is paused: " in said.err, said
        _, remedies = said.err.split("error: ")
        assert remedies.splitlines()[1:3] == [
            "`stack update shop_web --continue` goes on with the update.",
            "`stack rollback shop_web` goes back.",
        ]
        agent.outcome = lambda task: TaskState.RUNNING
        said = await person.stack("update", "web", "--continue", "--detach")
        assert (said.code, said.out) == (0, "shop goes to revision 3\n"), said
        assert (await person.stack("wait", "shop")).code == 0
