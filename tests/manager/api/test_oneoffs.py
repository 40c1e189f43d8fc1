"""One-off tasks over the API: what is asked for, who attends one, and that it goes with whoever does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from cluster.channel import Kind, frame, read_failure
from cluster.errors import Failed
from cluster.model.container import ContainerSpec, Healthcheck
from cluster.model.network import NetworkSpec
from cluster.model.service import NetworkAttachment, PortSpec, ServiceMode, ServiceSpec
from cluster.model.stack import StackSpec
from cluster.model.task import Task, TaskState
from tests.manager.api.obedient import obedient
from tests.manager.managers import Client, RunningManager, until

pytestmark = pytest.mark.etcd

WEB = ServiceSpec(
    "web",
    ContainerSpec("app:1", ("serve",), environment={"A": "1", "B": "2"}, healthcheck=Healthcheck(("CMD", "true"))),
    networks=(NetworkAttachment("net", ("web", "www")),),
    ports=(PortSpec(80, 8080),),
    replicas=2,
)
SHOP = StackSpec("shop", {"web": WEB}, {"net": NetworkSpec("net", "shop_net")})
START = frame(Kind.START, b"tty")


async def deployed(manager: RunningManager, root: Client) -> None:
    answer = await root.ask("PUT", "/stacks/shop", {"spec": SHOP, "operation": "op"})
    assert answer.status == 200, answer
    await until(lambda: sum(map(manager.core.state.is_ready, manager.core.state.tasks.values())) == 2)


async def begun(root: Client, operation: str = "0123456789abcdef", service: str = "web", **wish: Any) -> Any:
    answer = await root.ask("POST", f"/services/{service}/runs", {"operation": operation, **wish})
    assert answer.status == 201, answer
    return answer.body


@asynccontextmanager
async def attending(client: Client, ident: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with client.http.ws_connect(f"{client.base}/v1/runs/{ident}/channel") as socket:
        yield socket


async def test_it_is_the_service_with_another_command_and_none_of_its_names_and_ports(
    manager: RunningManager, root: Client
) -> None:
    async with obedient(manager):
        await deployed(manager, root)
        wish: dict[str, Any] = {
            "command": ["migrate"],
            "environment": {"B": "3", "C": "4"},
            "user": "app",
            "workdir": "/srv",
        }
        for _ in range(2):
            told = await begun(root, **wish)
            assert told == {
                "id": "0123456789abcdef", "task": "shop_web-run-01234567.1", "service": "shop_web", "version": 1
            }  # fmt: skip
        state = manager.core.state
        await until(lambda: [t.node for t in state.all_of(told["id"])] not in ([], [None]))
        spec = state.oneoffs[told["id"]].spec
        container = spec.container
        assert (container.image, container.command, container.user) == ("app:1", ("migrate",), "app")
        assert (container.working_dir, container.healthcheck) == ("/srv", Healthcheck(("NONE",)))
        assert container.environment == {"A": "1", "B": "3", "C": "4"}
        assert (spec.ports, spec.replicas, spec.mode) == ((), 1, ServiceMode.REPLICATED_JOB)
        assert spec.networks == (NetworkAttachment("net"),)
        assert [one["name"] for one in await root.get("/services")] == ["shop_web"]
        [shop] = await root.get("/stacks")
        assert (shop["running"], shop["wanted"], shop["services"]) == (2, 2, 1)
        names = sorted(one["name"] for one in await root.get("/tasks?stack=shop"))
        assert names == ["shop_web-run-01234567.1", "shop_web.1", "shop_web.2"]
        plan = await root.ask("POST", "/stacks/shop/plan", {"spec": SHOP, "operation": "p"})
        assert plan.status == 200 and "web-run" not in str(plan.body)
        audited = [one for one in await root.get("/audit") if one["does"] == "run"]
        assert [(one["about"], one["stack"]) for one in audited][:1] == [("shop_web", "shop")]
        assert "migrate" not in str(audited)
        gone = await root.ask("DELETE", "/runs/shop_web-run-01234567.1")
        assert gone.status == 204
        await until(lambda: not state.oneoffs and told["id"] not in state.services)
        assert (await root.ask("DELETE", "/runs/shop_web-run-01234567.1")).status == 404


async def test_it_starts_when_the_agent_has_joined_the_terminal_and_goes_with_that(
    manager: RunningManager, root: Client
) -> None:
    async with obedient(manager):
        await deployed(manager, root)
        state = manager.core.state
        ident = (await begun(root, command=["sh"], attended=True, tty=True, stdin=True))["id"]
        async with attending(root, ident) as socket:
            assert socket._response.headers["x-stackyard-task"] == "shop_web-run-01234567.1"
            await socket.send_bytes(b"what is said before anybody listens")
            [task] = await _tasks(manager, ident)
            assert await socket.receive_bytes() == f"{task.id} attach".encode()
            assert await socket.receive_bytes() == b"what is said before anybody listens"
            assert state.tasks[task.id].held
            await socket.send_bytes(START)
            assert await socket.receive_bytes() == START
            await until(lambda: state.reported_state(state.tasks[task.id]) is TaskState.RUNNING)
            with pytest.raises(aiohttp.WSServerHandshakeError) as second:
                async with attending(root, ident):
                    pass
            assert second.value.status == 409
        await until(lambda: not state.oneoffs and task.id not in state.tasks)


async def _tasks(manager: RunningManager, ident: str) -> list[Task]:
    await until(lambda: [t.node for t in manager.core.state.all_of(ident)] not in ([], [None]))
    return manager.core.state.all_of(ident)


async def test_whoever_goes_before_it_starts_leaves_nothing(manager: RunningManager, root: Client) -> None:
    async with obedient(manager):
        await deployed(manager, root)
        unplaced = ServiceSpec("far", ContainerSpec("app:1"), constraints=("node.labels.far == yes",))
        spec = StackSpec("far", {"far": unplaced})
        assert (await root.ask("PUT", "/stacks/far", {"spec": spec, "operation": "op"})).status == 200
        await until(lambda: "far_far" in {one.full_name for one in manager.core.state.services.values()})
        ident = (await begun(root, service="far_far", attended=True))["id"]
        async with attending(root, ident):
            await until(lambda: any(t.reason for t in manager.core.state.all_of(ident)))
        await until(lambda: not manager.core.state.oneoffs)


async def test_why_it_could_not_be_started_is_told(manager: RunningManager, root: Client) -> None:
    async with obedient(manager) as agent:
        await deployed(manager, root)
        agent.outcome = lambda task: TaskState.REJECTED
        ident = (await begun(root, attended=True))["id"]
        async with attending(root, ident) as socket:
            await socket.receive_bytes()
            await socket.send_bytes(START)
            assert await socket.receive_bytes() == START
            failed = await socket.receive_bytes()
            assert failed[:1] == bytes((Kind.FAILED,))
            told = read_failure(failed[1:])
            assert isinstance(told, Failed) and "rejected" in told.message


@pytest.mark.parametrize(
    ("service", "wish", "status", "words"),
    [
        ("moon", {}, 404, "no service or task moon"),
        ("web.1", {}, 400, "is a task"),
        ("web", {"operation": "short"}, 400, "hexadecimal"),
    ],
)
async def test_what_cannot_be_run_is_refused(
    manager: RunningManager, root: Client, service: str, wish: dict[str, Any], status: int, words: str
) -> None:
    async with obedient(manager):
        await deployed(manager, root)
        body = {"operation": "0123456789abcdef", **wish}
        answer = await root.ask("POST", f"/services/{service}/runs", body)
        assert (answer.status, words in answer.body["error"]) == (status, True)
        assert not manager.core.state.oneoffs


async def test_one_that_runs_by_itself_is_not_attended(manager: RunningManager, root: Client) -> None:
    async with obedient(manager):
        await deployed(manager, root)
        ident = (await begun(root))["id"]
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with attending(root, ident):
                pass
        assert refused.value.status == 409
