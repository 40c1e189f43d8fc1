"""Channels to tasks: who may have them, which task is meant, what becomes of them when either side goes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from cluster.channel import read_failure, read_frame
from cluster.model.container import ContainerSpec
from cluster.model.service import ServiceSpec
from cluster.model.stack import StackSpec
from cluster.model.task import TaskState
from tests.etcd_server import Servers
from tests.manager.api.obedient import obedient
from tests.manager.managers import Client, RunningManager, emptied, running_manager, silenced, until
from tests.patience import PATIENCE

pytestmark = pytest.mark.etcd


async def deployed(manager: RunningManager, root: Client, replicas: int = 1) -> None:
    spec = StackSpec("shop", {"web": ServiceSpec("web", ContainerSpec("app:1"), replicas=replicas)})
    answer = await root.ask("PUT", "/stacks/shop", {"spec": spec, "operation": "op"})
    assert answer.status == 200, answer
    statuses = manager.core.state.statuses
    await until(lambda: [s.state for s in statuses.values()] == [TaskState.RUNNING] * replicas)


def dialled(client: Client, name: str, purpose: str = "exec") -> aiohttp.client._WSRequestContextManager:
    return client.http.ws_connect(f"{client.base}/v1/tasks/{name}/channels/{purpose}")


async def refused(client: Client, name: str, purpose: str = "exec") -> int:
    with pytest.raises(aiohttp.WSServerHandshakeError) as error:
        async with dialled(client, name, purpose):
            pass
    return error.value.status


async def test_frames_are_handed_on_untouched(manager: RunningManager, root: Client) -> None:
    async with obedient(manager) as agent:
        await deployed(manager, root)
        [task] = manager.core.state.tasks
        for name in ("shop_web.1", "web.1", "web", "shop_web", task, task[:8]):
            async with dialled(root, name) as socket:
                headers = socket._response.headers
                assert (headers["x-stackyard-task"], headers["x-stackyard-node"]) == ("shop_web.1", "n1")
                assert await socket.receive_bytes() == f"{task} exec".encode()
                for frame in (b"", b"\x00what", b"\xff" * 40_000):
                    await socket.send_bytes(frame)
                    assert await socket.receive_bytes() == frame
            await until(lambda: agent.channels == 0)
        assert not manager.core.sessions.streams._expected


async def test_only_who_may_deploy_comes_in(manager: RunningManager, root: Client) -> None:
    async with obedient(manager):
        await deployed(manager, root)
        node = manager.node(await manager.join("n2"))
        assert await refused(manager.anonymous(), "web.1") == 401
        assert await refused(node, "web.1") == 403
        async with dialled(await manager.client(), "web.1"):
            pass
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await root.http.ws_connect(f"{root.base}/v1/tasks/web.1/relayed-channels/exec")


async def test_what_is_wrong_is_told(manager: RunningManager, root: Client) -> None:
    async with obedient(manager):
        await deployed(manager, root)
        assert await refused(root, "web.2") == 404
        assert await refused(root, "nothing") == 404
        answer = await root.ask("POST", "/stacks/shop/scale", {"replicas": {"web": 0}, "operation": "op2"})
        assert answer.status == 200, answer
        await until(lambda: all(s.state.terminal for s in manager.core.state.statuses.values()))
        assert await refused(root, "web.1") in (404, 503)


async def test_agents_of_other_managers_are_reached_through_those(
    manager: RunningManager, root: Client, servers: Servers, tmp_path: Path
) -> None:
    async with running_manager(servers, tmp_path, "m2") as second, obedient(manager, "n1"), obedient(second, "n2"):
        await deployed(manager, root, 2)
        await until(lambda: len(second.core.state.statuses) == 2)
        for client in (root, second.local()):
            for name in ("web.1", "web.2"):
                async with dialled(client, name) as socket:
                    assert (await socket.receive_bytes()).endswith(b" exec")
                    await socket.send_bytes(b"there and back")
                    assert await socket.receive_bytes() == b"there and back"


async def test_a_channel_through_a_manager_that_falls_silent_ends_and_says_so(
    manager: RunningManager, root: Client, servers: Servers, tmp_path: Path
) -> None:
    async with running_manager(servers, tmp_path, "m2") as second, obedient(second):
        await deployed(manager, root)
        async with dialled(root, "web.1") as socket:
            await socket.receive_bytes()
            await silenced(servers, second)
            async with asyncio.timeout(PATIENCE):
                failure = read_failure(read_frame(await socket.receive_bytes())[1])
            assert "the manager on m2, through which it was reached, is not heard of any more" in failure.message


async def test_a_channel_ends_with_either_side(manager: RunningManager, root: Client) -> None:
    async with obedient(manager) as agent:
        await deployed(manager, root)
        socket = await dialled(root, "web.1")
        await socket.receive_bytes()
        await socket.close()
        await until(lambda: agent.channels == 0)
        socket = await dialled(root, "web.1")
        await socket.receive_bytes()
        await socket.send_bytes(b"bye")
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        await until(lambda: agent.channels == 0)


async def test_a_manager_that_stops_closes_its_channels(servers: Servers, tmp_path: Path) -> None:
    servers.restore()
    await emptied(servers)
    async with running_manager(servers, tmp_path) as manager, obedient(manager):
        await deployed(manager, manager.local())
        socket = await dialled(manager.local(), "web.1")
        await socket.receive_bytes()
        manager.core.stopping.set()
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE


async def test_files_are_those_of_the_task_before_while_the_next_one_waits(
    manager: RunningManager, root: Client
) -> None:
    async with obedient(manager, outcome=lambda task: TaskState.FAILED):
        spec = StackSpec("shop", {"web": ServiceSpec("web", ContainerSpec("app:1"))})
        assert (await root.ask("PUT", "/stacks/shop", {"spec": spec, "operation": "op"})).status == 200
        state = manager.core.state
        await until(lambda: any(task.not_before for task in state.tasks.values() if not state.has_ended(task)))
        async with dialled(root, "web.1", "archive") as socket:
            said = await socket.receive_bytes()
        dead = said.decode().removesuffix(" archive")
        assert state.has_ended(state.tasks[dead])
        assert await refused(root, "web.1") == 503
