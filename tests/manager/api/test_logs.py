"""Logs that are followed over whatever is restarted meanwhile, and how what engines give is cut into lines."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cluster.model.container import ContainerSpec
from cluster.model.service import ServiceSpec
from cluster.model.stack import StackSpec
from cluster.model.task import TaskState, TaskStatus
from cluster.protocol import Statuses
from manager.api.logs import LONGEST_LINE, PART, Cutter
from tests.etcd_server import Servers
from tests.manager.api.obedient import ObedientAgent, obedient, stamped
from tests.manager.managers import Client, RunningManager, running_manager, silenced, until
from tests.patience import PATIENCE

AT = "2026-01-31T12:00:00.123456789Z"


def cut(*pieces: bytes) -> list[tuple[str, str]]:
    cutter = Cutter()
    return [line for piece in pieces for line in cutter.feed(piece)] + list(cutter.rest())


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ((f"{AT} one\n{AT} two\n".encode(),), [(AT, "one"), (AT, "two")]),
        ((f"{AT} o".encode(), b"ne\r\n", f"{AT} ".encode(), b"two"), [(AT, "one"), (AT, "two")]),
        ((f"{AT} \n".encode(),), [(AT, "")]),
        ((b"no instant\n", b"\n"), [("", "no instant"), ("", "")]),
        ((f"{AT} {AT} said the program\n".encode(),), [(AT, f"{AT} said the program")]),
        ((f"{AT} \xff\n".encode("latin-1"),), [(AT, "\ufffd")]),
        ((), []),
    ],
)
def test_lines_and_their_instants(pieces: tuple[bytes, ...], lines: list[tuple[str, str]]) -> None:
    assert cut(*pieces) == lines


def test_a_line_that_the_engine_cut_is_whole_again() -> None:
    text = "x" * (2 * PART) + "end"
    parts = "".join(f"{AT} {text[start : start + PART]}" for start in range(0, len(text), PART))
    assert cut(f"{parts}\n".encode()) == [(AT, text)]


def test_a_line_without_end_is_cut_where_it_gets_too_long_and_nothing_of_it_is_lost() -> None:
    text = "y" * (9 * PART)
    parts = "".join(f"{AT} {text[start : start + PART]}" for start in range(0, len(text), PART))
    lines = cut(parts.encode()[:LONGEST_LINE], parts.encode()[LONGEST_LINE:])
    assert "".join(line for _, line in lines) == text
    assert {at for at, _ in lines} == {AT} and len(lines) == 3


class Reader:
    """Follows a log in the background."""

    def __init__(self, client: Client, path: str) -> None:
        self.lines: list[Any] = []
        self._task = asyncio.create_task(self._read(client, path))

    async def _read(self, client: Client, path: str) -> None:
        async for line in client.lines(path):
            self.lines.append(line)

    @property
    def text(self) -> list[str]:
        return [line["line"] for line in self.lines if not line["note"] and not line["end"]]

    @property
    def notes(self) -> list[str]:
        return [line["note"] for line in self.lines if line["note"]]

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def deployed(manager: RunningManager, root: Client, replicas: int = 1) -> str:
    """Run so many tasks; gives the id of one."""
    spec = StackSpec("shop", {"web": ServiceSpec("web", ContainerSpec("web:1"), replicas=replicas)})
    await root.ask("PUT", "/stacks/shop", {"spec": spec, "operation": "op1"})
    statuses = manager.core.state.statuses
    await until(lambda: sum(s.state is TaskState.RUNNING for s in statuses.values()) == replicas)
    return next(iter(manager.core.state.tasks))


async def read(client: Client) -> list[Any]:
    """The lines of a log that is not followed, but for the one that says that it was all."""
    *lines, last = [line async for line in client.lines("/logs?of=shop_web")]
    assert last["end"]
    return lines


def say(agent: ObedientAgent, *lines: int) -> None:
    agent.log = b"".join(stamped(second, f"line {second}") for second in lines)


@pytest.mark.etcd
async def test_logs_of_all_tasks_come_merged_line_by_line(manager: RunningManager, root: Client) -> None:
    async with obedient(manager, "n1"), obedient(manager, "n2"):
        await deployed(manager, root, 4)
        lines = await read(root)
        assert sorted((line["task"], line["line"]) for line in lines) == sorted(
            (f"shop_web.{slot}", word) for slot in range(1, 5) for word in ("hello", "world")
        )
        assert {line["node"] for line in lines} == {"n1", "n2"}


@pytest.mark.etcd
async def test_logs_of_several_are_one_stream_that_ends_with_the_last_of_them(
    manager: RunningManager, root: Client
) -> None:
    async with obedient(manager):
        task = await deployed(manager, root, 2)
        spec = StackSpec("blog", {name: ServiceSpec(name, ContainerSpec("b:1")) for name in ("front", "back")})
        await root.ask("PUT", "/stacks/blog", {"spec": spec, "operation": "op2"})
        await until(lambda: sum(s.state is TaskState.RUNNING for s in manager.core.state.statuses.values()) == 4)

        async def told(query: str) -> list[str]:
            lines = [line async for line in root.lines(f"/logs?{query}")]
            return sorted({line["task"] for line in lines[:-1]})

        slot = manager.core.state.tasks[task].slot
        assert await told("of=blog") == ["blog_back.1", "blog_front.1"]
        assert await told(f"of=front&of={task[:9]}&of=front.1") == ["blog_front.1", f"shop_web.{slot}"]
        assert await told("of=shop_web.2&of=blog") == ["blog_back.1", "blog_front.1", "shop_web.2"]
        for wrong, code in (("of=moon", 404), ("of=blog&of=web.9", 404), ("", 400)):
            async with root.http.get(f"{root.base}/v1/logs?{wrong}") as answer:
                assert answer.status == code
        reader = Reader(root, "/logs?of=blog&of=web.1&follow=true")
        await until(lambda: len(reader.text) == 6)
        await root.ask("DELETE", "/stacks/blog")
        await until(lambda: "blog" not in manager.core.state.stacks)
        assert not any(line["end"] for line in reader.lines)
        await root.ask("DELETE", "/stacks/shop")
        await until(lambda: any(line["end"] for line in reader.lines))
        await reader.close()


@pytest.mark.etcd
async def test_a_log_longer_than_any_buffer_is_whole(manager: RunningManager, root: Client) -> None:
    async with obedient(manager) as agent:
        agent.log = b"".join(b"line %d\n" % number for number in range(2000)) + b"the end"
        await deployed(manager, root)
        lines = [line["line"] for line in await read(root)]
        assert len(lines) == 2001 and lines[1999:] == ["line 1999", "the end"]


@pytest.mark.etcd
async def test_followed_logs_go_on_with_tasks_that_come_later(manager: RunningManager, root: Client) -> None:
    async with obedient(manager):
        await deployed(manager, root)
        lines = root.lines("/logs?of=shop_web&follow=true")
        async with asyncio.timeout(PATIENCE):
            assert {(await anext(lines))["slot"] for _ in range(2)} == {1}
            await root.ask("POST", "/stacks/shop/scale", {"replicas": {"web": 2}, "operation": "op2"})
            assert {(await anext(lines))["slot"] for _ in range(2)} == {2}
        await lines.aclose()  # type: ignore[attr-defined]


@pytest.mark.etcd
async def test_a_node_out_of_reach_is_a_note_among_the_lines(manager: RunningManager, root: Client) -> None:
    async with obedient(manager, "n2"):
        async with obedient(manager, "n1"):
            await deployed(manager, root, 2)
        await until(lambda: sum(manager.core.sessions.holds(node) for node in manager.core.state.nodes) == 1)
        lines = await read(root)
        assert {line["node"] for line in lines if line.get("note")} == {"n1"}
        assert [line["line"] for line in lines if not line.get("note")] == ["hello", "world"]


@pytest.mark.etcd
async def test_a_node_that_is_down_is_not_waited_for(
    manager: RunningManager, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with obedient(manager):
        await deployed(manager, root)
        monkeypatch.setattr(manager.core.state, "is_lost", lambda node: True)
        (note,) = await read(root)
        assert note["note"] == "no log of shop_web.1 on n1: the node is down"


@pytest.mark.etcd
async def test_logs_come_from_agents_of_other_managers_too(
    manager: RunningManager, root: Client, servers: Servers, tmp_path: Path
) -> None:
    async with running_manager(servers, tmp_path, "m2") as second, obedient(manager, "n1"), obedient(second, "n2"):
        await deployed(manager, root, 2)
        for client in (root, second.local()):
            lines = await read(client)
            assert sorted((line["node"], line["line"]) for line in lines) == [
                ("n1", "hello"), ("n1", "world"), ("n2", "hello"), ("n2", "world"),
            ]  # fmt: skip


@pytest.mark.etcd
async def test_following_goes_on_when_an_agent_comes_back(manager: RunningManager, root: Client) -> None:
    joined = await manager.join("n1")
    async with obedient(manager, joined=joined) as agent:
        say(agent, 1, 2)
        await deployed(manager, root)
        reader = Reader(root, "/logs?of=shop_web&follow=true")
        await until(lambda: reader.text == ["line 1", "line 2"])
    await until(lambda: len(reader.notes) == 1)
    assert "no log of shop_web.1 on n1" in reader.notes[0]
    async with obedient(manager, joined=joined) as agent:
        say(agent, 1, 2, 3, 4)
        await until(lambda: len(reader.text) >= 4)
        assert reader.text == ["line 1", "line 2", "line 3", "line 4"]
        assert len(reader.notes) == 1, "the same is said once"
    await reader.close()


@pytest.mark.etcd
async def test_following_goes_on_with_a_container_that_was_restarted_in_place(
    manager: RunningManager, root: Client
) -> None:
    async with obedient(manager) as agent:
        say(agent, 1)
        agent.follows = False  # a container that ends ends its log
        task = await deployed(manager, root)
        reader = Reader(root, "/logs?of=shop_web&follow=true")
        await until(lambda: reader.text == ["line 1"])
        say(agent, 1, 2)
        await agent.say(Statuses(100, (TaskStatus(task, TaskState.RUNNING, 6.0, "", "c-1", restarts=1),)))
        await until(lambda: len(reader.text) >= 2)
        assert reader.text == ["line 1", "line 2"]
    await reader.close()


@pytest.mark.etcd
async def test_the_last_line_tells_that_it_was_all(manager: RunningManager, root: Client) -> None:
    async with obedient(manager) as agent:
        say(agent, 1)
        await deployed(manager, root)
        lines = [line async for line in root.lines("/logs?of=shop_web")]
    assert [(line["line"], line["end"]) for line in lines] == [("line 1", False), ("", True)]
    assert lines[0]["at"] == "2026-01-31T12:00:01.123456789Z"


@pytest.mark.etcd
async def test_a_manager_that_stops_does_not_say_that_it_was_all(
    manager: RunningManager, root: Client, servers: Servers, tmp_path: Path
) -> None:
    async with obedient(manager) as agent:
        say(agent, 1)
        await deployed(manager, root)
        async with running_manager(servers, tmp_path, "m2") as second:
            client = second.local()
            async with client.http.get(f"{client.base}/v1/logs?of=shop_web&follow=true") as answer:
                assert b"line 1" in await answer.content.readline(), "by the other manager, which has the agent"
                second.core.stopping.set()
                assert await answer.content.read() == b""


@pytest.mark.etcd
async def test_positions_go_before_what_else_was_asked(manager: RunningManager, root: Client) -> None:
    async with obedient(manager) as agent:
        say(agent, 1, 2, 3)
        task = await deployed(manager, root)
        base = "/logs?of=shop_web&timestamps=true"
        since = 1769860802.0  # 12:00:02
        lines = [line["line"] async for line in root.lines(f"{base}&after={task}@{since}&after=other@1")]
        assert lines == ["2026-01-31T12:00:02.123456789Z line 2", "2026-01-31T12:00:03.123456789Z line 3", ""]
        answer = await root.ask("GET", f"{base}&after={task}")
        assert (answer.status, answer.body["kind"]) == (400, "UserError")


@pytest.mark.etcd
async def test_logs_through_a_manager_that_falls_silent_are_noted_and_cut(
    manager: RunningManager, root: Client, servers: Servers, tmp_path: Path
) -> None:
    async with running_manager(servers, tmp_path, "m2") as second, obedient(second):
        await deployed(manager, root)
        reader = Reader(root, "/logs?of=shop_web&follow=true")
        await until(lambda: len(reader.text) == 2)
        await silenced(servers, second)
        await until(lambda: any("the manager on m2" in note for note in reader.notes))
        await reader.close()
