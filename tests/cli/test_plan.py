"""`stack plan`, `stack diff`, and what `stack deploy` asks before it stops anything."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cli.commands.plan import WIDEST_VALUE, in_words
from cluster.plans import FieldChange, ItemChange, PlanView
from tests.cli.terminal import Said, Terminal
from tests.manager.api.obedient import obedient
from tests.manager.managers import RunningManager

pytestmark = pytest.mark.etcd

SHOP = """
name: shop
services:
  web: {image: "nginx:1", environment: {COLOUR: red}, deploy: {replicas: 2}, secrets: [key]}
  db: {image: postgres}
secrets: {key: {file: key.txt}}
"""
LESS = SHOP.replace("red", "blue").replace("  db: {image: postgres}\n", "")

LONG = "sh -c 'mkdir -p /www && echo hello > /www/index.html && exec {} -f -p 80 -h /www' " + "x" * 60


def test_of_long_values_the_part_is_shown_that_differs() -> None:
    change = FieldChange("command", LONG.format("httpd"), LONG.format("nginx"))
    [_, line] = in_words(
        PlanView("shop", 1, True, (ItemChange("service", "web", "change", (change,)),)), 0
    ).splitlines()[2:4]
    before, after = line.strip().removeprefix("command: ").split(" -> ")
    assert "exec httpd -f" in before and "exec nginx -f" in after and max(len(before), len(after)) <= WIDEST_VALUE + 6


PLAN = """\
shop would be a new stack

+ service db: 1 task starts
    image: postgres
    replicas: 1
+ service web: 2 tasks start
    image: nginx:1
    replicas: 2
+ network default
+ secret key

In this order, if all new tasks come up:
    1.  start  shop_db.1   n1
    1.  start  shop_web.1  n1
    1.  start  shop_web.2  n1

Nothing was touched; `stack deploy` does it.
"""

CHANGES = """\
- service db: 1 task stops
~ service web: 2 tasks stop, 2 tasks start
    environment.COLOUR: red -> blue
"""


@pytest.fixture
def shop(person: Terminal) -> None:
    person.write("compose.yml", SHOP)
    person.write("less.yml", LESS)
    person.write("key.txt", "secret text")


@pytest.mark.usefixtures("shop")
async def test_a_plan_shows_what_a_deploy_would_do_and_touches_nothing(
    person: Terminal, manager: RunningManager
) -> None:
    async with obedient(manager):
        said = await person.stack("plan")
        assert (said.code, said.out) == (2, PLAN)
        dry = await person.stack("deploy", "--dry-run")
        assert (dry.code, dry.out) == (2, PLAN)
        assert (manager.core.state.stacks, manager.core.state.contents) == ({}, {})
        assert (await person.stack("deploy")).code == 0
        said = await person.stack("plan")
        assert (said.code, said.out) == (0, "shop is like that already (revision 1): nothing would change\n")
        said = await person.stack("plan", "-f", "less.yml")
        assert (said.code, CHANGES in said.out) == (2, True), said
        planned = (await person.stack("plan", "-f", "less.yml", "--format", "json")).json
        assert [step["action"] for step in planned["tasks"]][:2] == ["stop", "stop"]
        assert "secret text" not in str(planned)


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("file", "arguments", "told"),
    [
        ("services: {web: {image: x, bad_key: 1}}", (), "services.web.bad_key"),
        ("services: {web: {image: x, ports: ['8080:80']}}", (), "published by first_web"),
        ("services: {web: {image: x}}", ("--if-revision", "3"), "there is no stack new, so it is not at revision 3"),
        ("services: {web: {image: x, networks: [a]}}\nnetworks: {a: {external: true}}", (), "does not exist"),
        ("services: {web: {image: x}}", ("--force", "moon"), "no service moon to force"),
    ],
)
async def test_what_would_be_refused(
    person: Terminal, manager: RunningManager, file: str, arguments: tuple[str, ...], told: str
) -> None:
    person.write("first.yml", "services: {web: {image: x, ports: ['8080:80']}}")
    await person.stack("deploy", "-f", "first.yml", "first", "--detach")
    person.write("new.yml", file)
    said = await person.stack("plan", "-f", "new.yml", "new", *arguments)
    assert (said.code, said.out) == (1, "")
    assert "it would be refused: " in said.err and told in said.err
    assert told in (await person.stack("plan", "-f", "new.yml", "new", *arguments, "--format", "json")).json["refused"]


async def test_what_is_wrong_never_looks_as_if_something_would_change(person: Terminal) -> None:
    person.write("compose.yml", SHOP)
    person.write("key.txt", "secret text")
    for words in (
        ("plan", "--colour"),
        ("plan", "-f", "nowhere.yml"),
        ("deploy", "--dry-run", "-f", "nowhere.yml"),
        ("--context", "moon", "plan"),
        ("--context", "moon", "deploy", "--dry-run"),
    ):
        said = await person.stack(*words)
        assert (said.code, said.out) == (1, ""), words


async def test_without_a_manager_a_plan_is_out_of_reach(person: Terminal) -> None:
    person.write("compose.yml", "services: {web: {image: x}}")
    person.know("c", c={"socket": str(person.folder / "nobody.sock")})
    said = await person.stack("plan")
    assert (said.code, said.out) == (3, "")


@pytest.mark.usefixtures("shop")
async def test_tasks_that_would_wait_and_long_lists(person: Terminal, manager: RunningManager) -> None:
    person.write("big.yml", "services: {web: {image: x, deploy: {replicas: 60}}}")
    async with obedient(manager):
        said = await person.stack("plan", "-f", "big.yml", "big")
        assert "20 more: --format json has all" in said.out
    said = await person.stack("plan", "-f", "compose.yml", "-p", "other")
    assert "These would wait:\n  other_db.1: no node fits: " in said.out


@pytest.mark.usefixtures("shop")
async def test_revisions_are_compared(person: Terminal, manager: RunningManager) -> None:
    for file in ("compose.yml", "less.yml", "compose.yml"):
        assert (await person.stack("deploy", "-f", file, "--detach")).code == 0
    said = await person.stack("diff", "shop", "2")
    assert said.out == (
        "shop: from revision 2 to 3\n+ service db\n    image: postgres\n    replicas: 1\n"
        "~ service web: new tasks\n    environment.COLOUR: blue -> red\n"
    )
    assert (await person.stack("diff", "shop")).out == said.out
    assert (await person.stack("diff", "shop", "1")).out == (
        "shop: from revision 1 to 3\n~ service db: another service of its name\n"
    )
    assert (await person.stack("diff", "shop", "1", "1")).out == "shop: from revision 1 to 1\nthey are alike\n"
    assert "COLOUR: red -> blue" in (await person.stack("diff", "shop", "1", "2")).out
    found = (await person.stack("diff", "shop", "1", "2", "--format", "json")).json
    assert (found["base"], found["revision"], len(found["changes"])) == (1, 2, 2)
    for arguments in (("shop", "9"), ("moon",)):
        said = await person.stack("diff", *arguments)
        assert (said.code, said.out) == (2, "")


@pytest.mark.usefixtures("shop")
async def test_a_deploy_only_if_nobody_else_has_deployed(person: Terminal, manager: RunningManager) -> None:
    assert (await person.stack("deploy", "--detach", "--if-revision", "0")).code == 0
    assert (await person.stack("deploy", "-f", "less.yml", "--detach", "--if-revision", "1")).code == 0
    said = await person.stack("deploy", "--detach", "--if-revision", "1")
    assert (said.code, said.out) == (2, "")
    assert "shop is at revision 2, not 1" in said.err and "stack diff shop" in said.err


# Stopping services


@asynccontextmanager
async def at_a_terminal(person: Terminal, *arguments: str) -> AsyncIterator[tuple[int, asyncio.subprocess.Process]]:
    """A command whose input and messages are a terminal's."""
    screen, terminal = os.openpty()
    try:
        process = await person.start(*arguments, stdin=terminal, stderr=terminal)
        yield screen, process
    finally:
        os.close(screen)
        os.close(terminal)


async def answered(person: Terminal, text: bytes, *arguments: str) -> tuple[Said, str]:
    """What a command does when its question is answered so, and what the terminal showed."""
    async with at_a_terminal(person, *arguments) as (screen, process):
        shown = b""
        while b"Go on?" not in shown:
            shown += await asyncio.to_thread(os.read, screen, 4096)
        os.write(screen, text)
        said = await person.end(process)
        return said, shown.decode()


@pytest.mark.usefixtures("shop")
async def test_at_a_terminal_it_asks_before_it_stops_a_service(person: Terminal, manager: RunningManager) -> None:
    await person.stack("deploy", "--detach")
    for text, code, revision in ((b"n\n", 1, 1), (b"\n", 1, 1), (b"y\n", 0, 2)):
        said, shown = await answered(person, text, "deploy", "-f", "less.yml", "--detach")
        assert "This stops db of the stack shop: not in the file any more." in shown
        assert said.code == code
        assert manager.core.state.stacks["shop"].head == revision


@pytest.mark.usefixtures("shop")
async def test_what_was_agreed_to_is_done_to_that_revision_alone(person: Terminal, manager: RunningManager) -> None:
    await person.stack("deploy", "--detach")
    async with at_a_terminal(person, "deploy", "-f", "less.yml", "--detach") as (screen, process):
        shown = b""
        while b"Go on?" not in shown:
            shown += await asyncio.to_thread(os.read, screen, 4096)
        await person.stack("scale", "db=3", "--detach")
        os.write(screen, b"y\n")
        assert (await person.end(process)).code == 2


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("more", [(), ("--yes",)])
async def test_elsewhere_it_says_so_and_goes_on(
    person: Terminal, manager: RunningManager, more: tuple[str, ...]
) -> None:
    await person.stack("deploy", "--detach")
    said = await person.stack("deploy", "-f", "less.yml", "--detach", *more)
    assert (said.code, said.out) == (0, "deploying shop, revision 2\n")
    assert "note: this stops db of the stack shop" in said.err
