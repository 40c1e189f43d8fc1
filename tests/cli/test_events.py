"""`stack events`: one stream, at one manager or over several, in narrow and wide terminals."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from cli.commands.events import line
from cluster.events import ClusterEvent
from tests.cli.terminal import Terminal
from tests.etcd_server import Servers
from tests.manager.api.obedient import obedient
from tests.manager.managers import RunningManager, emptied, running_manager
from tests.patience import PATIENCE

APP = "name: shop\nservices: {web: {image: nginx, deploy: {replicas: 2}}}\n"

FAILED = ClusterEvent(
    9, 0.0, "task", "failed", "f00d", "shop_web.2", stack="shop", service="shop_web", node="n2",
    message="health check failed: connection refused by 127.0.0.1:8000", exit_code=137,
)  # fmt: skip
DEPLOYED = ClusterEvent(7, 0.0, "stack", "deploy", "s", "shop", stack="shop", message="revision 2 by ann")
DOWN = ClusterEvent(8, 0.0, "node", "down", "n", "n2", node="n2", message="not heard for 5 s, and its host is silent")

NARROW = """\
00:00:00  stack    deploy      shop                  revision 2 by ann
00:00:00  node     down        n2
    not heard for 5 s, and its host is silent
00:00:00  task     failed      shop_web.2@n2
    health check failed: connection refused by 127.0.0.1:8000; exit code 137
"""
WIDE = """\
1970-01-01 00:00:00  stack    deploy      shop                  revision 2 by ann
1970-01-01 00:00:00  node     down        n2                    not heard for 5 s, and its host is silent
1970-01-01 00:00:00  task     failed      shop_web.2@n2         health check failed: connection refused by \
127.0.0.1:8000; exit code 137
"""


@pytest.mark.parametrize(("width", "golden"), [(80, NARROW), (200, WIDE), (0, WIDE)])
def test_lines_are_aligned_and_no_wider_than_the_terminal(
    width: int, golden: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    told = "".join(line(event, width) + "\n" for event in (DEPLOYED, DOWN, FAILED))
    assert told == golden
    assert not width or max(map(len, told.splitlines())) <= width


async def next_event(process: asyncio.subprocess.Process, action: str) -> ClusterEvent:
    """Read the stream up to an event."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        while True:
            text = await process.stdout.readline()
            assert text
            event = msgspec.json.decode(text, type=ClusterEvent)
            if event.action == action:
                return event


@pytest.mark.etcd
async def test_a_deploy_is_followed_and_found_again(person: Terminal, manager: RunningManager) -> None:
    person.write("compose.yml", APP)
    async with obedient(manager, "n1"):
        following = await person.start("events", "-f", "--since", "1h", "--filter", "stack=shop", "--format", "json")
        try:
            assert (await person.stack("deploy", "-f", "compose.yml")).code == 0
            assert (await next_event(following, "deploy")).message.startswith("revision 1 by ann")
            assert (await next_event(following, "running")).node == "n1"
            for name in ("shop", "web", "shop_web", "shop_web.1", "n1"):
                said = await person.stack("events", name)
                assert said.code == 0 and "shop_web.1@n1" in said.out and ("deploy" in said.out) == (name == "shop"), (
                    said
                )
            said = await person.stack("events", "shpo")
            assert said.code == 2 and "Did you mean shop?" in said.err
            assert (await person.stack("rm", "shop")).code == 0
            assert (await next_event(following, "removing")).name == "shop"
        finally:
            following.terminate()
            await following.wait()
        said = await person.stack("events", "--since", "0", "--filter", "type=task", "--filter", "event=running")
        assert said.code == 0 and len(said.out.splitlines()) == 2 and "shop_web.1@n1" in said.out, said
        assert "node     create      n1" in (await person.stack("events", COLUMNS="80")).out
        said = await person.stack("events", "--filter", "type=node", "-n", "1", "--format", "{{.Name}}: {{.Action}}")
        assert said.out.startswith("n1: "), said
        last = await person.stack("events", "-n", "1", "--filter", "type=node", "--until", "2100-01-01")
        assert len(last.out.splitlines()) == 1, last


@pytest.mark.etcd
async def test_bad_filters_and_instants_are_refused(person: Terminal, manager: RunningManager) -> None:
    for words in (("--filter", "colour=red"), ("--filter", "type=cat"), ("--since", "soon")):
        said = await person.stack("events", *words)
        assert said.code == 2 and said.err.startswith("error: ") and not said.out, said


@pytest.mark.etcd
async def test_the_stream_goes_on_at_another_manager_and_tells_each_event_once(
    person: Terminal, servers: Servers, tmp_path: Path
) -> None:
    servers.restore()
    await emptied(servers)
    async with running_manager(servers, tmp_path, "m2") as second:
        async with running_manager(servers, tmp_path, "m1") as first:
            await person.know_manager(first, first.base, second.base)
            following = await person.start("events", "-f", "--since", "1h", "--format", "json")
            await first.join("n1")
            events = [await next_event(following, "create")]
        try:
            await second.join("n2")
            events.append(await next_event(following, "create"))
            assert [(event.type, event.name) for event in events] == [("node", "n1"), ("node", "n2")]
            assert events[0].revision < events[1].revision
        finally:
            following.terminate()
            await following.wait()


@pytest.mark.etcd
async def test_what_a_manager_did_not_see_is_said_to_be_missing(
    person: Terminal, servers: Servers, tmp_path: Path
) -> None:
    servers.restore()
    await emptied(servers)
    async with running_manager(servers, tmp_path, "m1") as first:
        await first.join("n1")
    async with running_manager(servers, tmp_path, "m2") as second:
        await person.know_manager(second)
        said = await person.stack("events")
        assert "n1" in said.out and "only what records still tell" in said.err
        root = second.local()
        lines = [line async for line in root.lines("/events?after=1")]
        assert (lines[0]["type"], lines[0]["action"]) == ("stream", "lost")
        assert "does not remember as much" in lines[0]["message"] and lines[-1]["action"] == "end"
        lines = [line async for line in root.lines(f"/events?after={second.core.state.revision + 10**6}")]
        assert "was the cluster restored" in lines[0]["message"]


@pytest.mark.etcd
async def test_nobody_hears_of_stacks_that_are_not_theirs(person: Terminal, manager: RunningManager) -> None:
    person.write("compose.yml", APP)
    async with obedient(manager, "n1"):
        assert (await person.stack("deploy", "-f", "compose.yml")).code == 0
        other = await manager.user("bob", "viewer", "team-*")
        told = [line async for line in other.lines("/events")]
        assert {line["stack"] for line in told} == {""} and {line["type"] for line in told} >= {"node", "stream"}
        mine = await manager.user("eve", "viewer", "shop")
        assert "shop" in {line["stack"] async for line in mine.lines("/events")}
