"""The commands against a whole manager, with an agent that obeys at once."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cluster import pki
from cluster.model.task import TaskState, TaskStatus
from cluster.protocol import Statuses
from tests.cli.terminal import Terminal
from tests.etcd_server import Servers, loopback_address
from tests.manager.api.obedient import obedient
from tests.manager.managers import RunningManager, running_manager, until

pytestmark = pytest.mark.etcd

SHOP = """
name: shop
services:
  web:
    image: nginx:${TAG:-1}
    ports: ["8080:80"]
    deploy: {replicas: 3}
  db: {image: postgres}
"""


@pytest.fixture
def shop(person: Terminal) -> None:
    person.write("compose.yml", SHOP)


@pytest.mark.usefixtures("shop")
async def test_a_stack_is_deployed_shown_scaled_and_removed(person: Terminal, manager: RunningManager) -> None:
    async with obedient(manager):
        said = await person.stack("deploy", "-f", "compose.yml", "--reason", "first")
        assert (said.code, said.out) == (0, "shop runs, revision 1\n")
        assert "web  3/3" in said.err and "goes from revision" not in said.err
        (node,) = (await person.stack("node", "ls", "--format", "json")).json
        address = node["address"]
        example = f", such as http://{address}:8080" if address else ""
        assert said.err.endswith(f"\nweb answers at port 8080 of every node{example}\n")

        said = await person.stack("ls")
        assert said.out.splitlines()[1].split()[:5] == ["shop", "2", "4/4", "running", "1"]
        said = await person.stack("services", "shop", "--format", "json")
        assert {(s["name"], s["running"], s["wanted"]) for s in said.json} == {("shop_web", 3, 3), ("shop_db", 1, 1)}
        said = await person.stack("services")
        assert "8080->80/tcp" in said.out
        said = await person.stack("ps", "web")
        assert [line.split()[1] for line in said.out.splitlines()[1:]] == ["shop_web.1", "shop_web.2", "shop_web.3"]
        assert {line.split()[3] for line in said.out.splitlines()[1:]} == {"n1"}
        said = await person.stack("ps", "shop", "--node", "n1", "--format", "json")
        assert len(said.json) == 4
        said = await person.stack("ps", "--filter", "name=shop_web.*", "--format", "{{.Name}} on {{.Node}}")
        assert said.out == "".join(f"shop_web.{slot} on n1\n" for slot in (1, 2, 3))
        assert (await person.stack("services", "-q", "--filter", "image=post*")).out == "shop_db\n"
        said = await person.stack("node", "ls", "--filter", "colour=red")
        assert (said.code, said.out) == (2, "") and "there is no field colour" in said.err

        said = await person.stack("deploy", "-f", "compose.yml")
        assert (said.code, said.out) == (0, "shop runs, revision 1\n")
        assert "shop is like that already" in said.err and "goes from revision" not in said.err

        said = await person.stack("scale", "web=5", "shop_db=0")
        assert (said.code, said.out) == (0, "scaled web=5\nscaled shop_db=0\n")
        said = await person.stack("deploy", "-f", "compose.yml", "--detach", "--resolve-image", "never")
        assert said.err == ("shop goes from revision 2 to 3:\n  db: replicas 0 -> 1\n  web: replicas 5 -> 3\n")
        said = await person.stack("service", "scale", "web=1", "db=0")
        assert said.code == 0
        assert (await person.stack("scale", "web=1")).out == "web=1 is so already\n"
        refused = await person.stack("rm", "shop_web.1")
        assert refused.code == 2 and "shop_web.1 is part of a stack, which is removed as a whole" in refused.err
        said = await person.stack("ps", "--format", "json")
        assert [task["name"] for task in said.json if task["desired"] == "running"] == ["shop_web.1"]

        said = await person.stack("rm", "shop")
        assert (said.code, said.out) == (0, "removed shop\n")
        assert (await person.stack("ls", "--format", "json")).json == []


async def test_a_file_may_come_on_standard_input(person: Terminal, manager: RunningManager) -> None:
    async with obedient(manager):
        said = await person.stack("deploy", "-c", "-", "other", stdin=SHOP.encode(), TAG="7")
        assert (said.code, said.out) == (0, "other runs, revision 1\n")
    services = (await person.stack("services", "--format", "json")).json
    assert "nginx:7" in {service["image"] for service in services}


@pytest.mark.usefixtures("shop")
async def test_later_files_are_laid_over_the_first(person: Terminal, manager: RunningManager) -> None:
    person.write("sub/more.yml", "services: {web: {deploy: {replicas: 1}}}")
    said = await person.stack("deploy", "-f", "compose.yml", "-f", "sub/more.yml", "--detach")
    assert (said.code, said.out) == (0, "deploying shop, revision 1\n")
    services = (await person.stack("services", "--format", "json")).json
    assert {service["wanted"] for service in services} == {1}


@pytest.mark.usefixtures("shop")
async def test_without_a_node_it_waits_and_tells_why(person: Terminal, manager: RunningManager) -> None:
    said = await person.stack("deploy", "-f", "compose.yml", "--timeout", "1")
    assert said.code == 1
    assert "error: deploying shop was not done within 1 s:" in said.err
    assert "web 0 of 3: " in said.err
    assert "stack ps shop" in said.err


@pytest.mark.usefixtures("shop")
async def test_ctrl_c_leaves_the_deploy_going_and_says_how_to_come_back(
    person: Terminal, manager: RunningManager
) -> None:
    process = await person.start("deploy", "-f", "compose.yml")
    said = await person.interrupt(process, lambda heard: "web  0/3" in heard)
    assert said.code == 130
    assert "deploying shop goes on without this terminal" in said.err
    assert "`stack wait shop` waits for it again" in said.err
    async with obedient(manager):
        said = await person.stack("wait", "shop")
    assert (said.code, said.out) == (0, "shop runs, revision 1\n")


@pytest.mark.usefixtures("shop")
async def test_waiting_goes_on_over_a_restart_of_the_manager(
    person: Terminal, servers: Servers, manager: RunningManager, tmp_path: Path
) -> None:
    async with running_manager(servers, tmp_path, "m2") as second:
        process = await person.start("deploy", environment={"STACK_HOST": str(second.settings.socket)})
        assert process.stderr is not None
        while "web  0/3" not in (await process.stderr.readline()).decode():
            pass
    async with running_manager(servers, tmp_path, "m2") as second, obedient(second):
        said = await person.end(process)
    assert (said.code, said.out) == (0, "shop runs, revision 1\n")


@pytest.mark.usefixtures("shop")
async def test_on_a_terminal_a_table_is_drawn_anew(person: Terminal, manager: RunningManager) -> None:
    screen, terminal = os.openpty()
    try:
        async with obedient(manager):
            process = await person.start("deploy", environment={"TERM": "xterm", "COLUMNS": "60"}, stderr=terminal)
            said = await person.end(process)
        drawn = os.read(screen, 65536).decode()
    finally:
        os.close(screen)
        os.close(terminal)
    assert (said.code, said.out) == (0, "shop runs, revision 1\n")
    assert "SERVICE  DONE  TASKS" in drawn
    assert "web      3/3   3 running" in drawn


async def test_a_task_that_falls_as_soon_as_it_runs_is_not_taken_for_a_success(
    person: Terminal, manager: RunningManager
) -> None:
    person.write("compose.yml", "name: frail\nservices: {web: {image: x}}")
    async with obedient(manager) as agent:
        process = await person.start("deploy", "--timeout", "4")
        assert process.stderr is not None
        while "web  1/1" not in (await process.stderr.readline()).decode():
            pass
        agent.outcome = lambda task: TaskState.FAILED
        (task,) = manager.core.state.tasks
        await agent.say(Statuses(100, (TaskStatus(task, TaskState.FAILED, 6.0, "", "c", 3),)))
        said = await person.end(process)
    assert said.code == 1
    assert "error: deploying frail was not done within 4 s: web 0 of 1" in said.err


async def test_tasks_that_are_not_restarted_fail_the_deploy(person: Terminal, manager: RunningManager) -> None:
    person.write("compose.yml", "name: once\nservices: {job: {image: x, restart: 'no'}}")
    async with obedient(manager, outcome=lambda task: TaskState.FAILED):
        said = await person.stack("deploy")
    assert said.code == 1
    assert "error: once: job: exit code 3; not restarted" in said.err
    assert "stack ps once" in said.err
    shown = await person.stack("ps", "once")
    assert "exit code 3" in shown.out


@pytest.mark.usefixtures("shop")
async def test_a_port_that_is_taken_is_a_conflict(person: Terminal, manager: RunningManager) -> None:
    assert (await person.stack("deploy", "--detach")).code == 0
    said = await person.stack("deploy", "-f", "compose.yml", "second", "--detach")
    assert (said.code, said.out) == (2, "")
    assert "8080" in said.err
    assert "shop" in said.err
    assert len((await person.stack("ls", "--format", "json")).json) == 1


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("ps", "moon"), "there is no stack or service moon"),
        (("services", "moon"), "moon"),
        (("scale", "moon=1"), "there is no service moon"),
        (("logs", "moon"), "there is no service or task moon"),
        (("rm", "shop", "moon"), "there is no stack moon"),
        (("wait", "shop", "moon"), "there is no stack moon"),
        (("node", "update", "moon", "--availability", "drain"), "moon"),
        (("ps", "web"), "web can mean several services: shop_web, too_web"),
    ],
)
async def test_names_that_are_not_there(
    person: Terminal, manager: RunningManager, arguments: tuple[str, ...], told: str
) -> None:
    person.write("more.yml", "services: {web: {image: x}}")
    await person.stack("deploy", "--detach")
    await person.stack("deploy", "-f", "more.yml", "too", "--detach")
    said = await person.stack(*arguments)
    assert (said.code, said.out) == (2, "")
    assert told in said.err
    assert len((await person.stack("ls", "--format", "json")).json) == 2, "nothing was removed"


@pytest.mark.usefixtures("shop")
async def test_logs_of_all_tasks(person: Terminal, manager: RunningManager) -> None:
    async with obedient(manager):
        await person.stack("deploy")
        said = await person.stack("logs", "web")
    assert said.code == 0
    lines = [line.split(" | ") for line in said.out.splitlines()]
    assert sorted(text for _, text in lines) == ["hello"] * 3 + ["world"] * 3
    assert {who.partition(".")[0] for who, _ in lines} == {"shop_web"}
    assert all(who.endswith("@n1") for who, _ in lines)


async def test_nodes_are_listed_and_changed(person: Terminal, manager: RunningManager) -> None:
    async with obedient(manager):
        said = await person.stack("node", "update", "n1", "--availability", "drain", "--label-add", "disk=ssd")
        assert (said.code, said.out) == (0, "updated n1\n")
        (node,) = (await person.stack("node", "ls", "--format", "json")).json
        assert (node["availability"], node["labels"]) == ("drain", {"disk": "ssd"})
        assert "drain" in (await person.stack("node", "ls")).out


async def test_another_manager_is_asked_when_one_is_out_of_reach(person: Terminal, manager: RunningManager) -> None:
    await person.know_manager(manager, f"https://{loopback_address()}:2377", manager.base)
    said = await person.stack("ls")
    assert (said.code, said.err) == (0, "")


async def test_a_manager_of_another_cluster_is_not_trusted(person: Terminal, manager: RunningManager) -> None:
    await person.know_manager(manager)
    (manager.directory / "ca.pem").write_text(pki.new_authority("other", now=time.time()).certificate)
    said = await person.stack("ls")
    assert said.code == 2
    assert "do not trust one another" in said.err
    assert "of another cluster" in said.err


@asynccontextmanager
async def losing_answers(manager: RunningManager, path: Path, losses: int) -> AsyncIterator[list[bytes]]:
    """A way to the manager that passes requests on and loses the first answers; gives what was asked."""
    asked: list[bytes] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(str(manager.settings.socket))

        async def requests() -> None:
            while data := await reader.read(65536):
                if data.startswith((b"PUT", b"GET", b"DELETE")):  # the body may come by itself
                    asked.append(data)
                back.write(data)

        async def answers() -> None:
            while data := await there.read(65536):
                puts = [one for one in asked if one.startswith(b"PUT")]
                if asked[-1].startswith(b"PUT") and len(puts) <= losses:
                    return
                writer.write(data)

        both = [asyncio.create_task(requests()), asyncio.create_task(answers())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in both:
                one.cancel()
            back.close()
            writer.close()

    async with await asyncio.start_unix_server(pass_on, path):
        yield asked


@pytest.mark.usefixtures("shop")
async def test_a_deploy_whose_answer_is_lost_is_asked_again_and_done_once(
    person: Terminal, manager: RunningManager, tmp_path: Path
) -> None:
    async with losing_answers(manager, tmp_path / "lossy.sock", 1) as asked:
        said = await person.stack("deploy", "--detach", STACK_HOST=str(tmp_path / "lossy.sock"))
    assert (said.code, said.out) == (0, "deploying shop, revision 1\n")
    assert len([one for one in asked if one.startswith(b"PUT")]) == 2
    await until(lambda: "shop" in manager.core.state.stacks)
    assert manager.core.state.stacks["shop"].head == 1


@pytest.mark.parametrize(
    ("cluster", "age", "told"),
    [
        pytest.param("other", 0, "person.pem is not of the cluster whose CA is ", id="another cluster's"),
        pytest.param("own", 10 * 365 * 86400, "person.pem has expired on ", id="an expired one"),
    ],
)
async def test_a_certificate_that_is_refused_is_told_to_be_so(
    person: Terminal, manager: RunningManager, cluster: str, age: float, told: str
) -> None:
    authority = manager.core.authority.ca if cluster == "own" else pki.new_authority("other", now=time.time())
    key = pki.new_key()
    identity = pki.Identity("c", "client", "ann", "admin")
    certificate = pki.issue(authority, pki.new_csr(key), identity, now=time.time() - age)
    manager.files("person", certificate, key)
    said = await person.stack("ls")
    assert said.code == 2
    assert told in said.err
