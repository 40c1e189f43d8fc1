"""Deploying, scaling, removing, and being told how far it is: a whole manager, an agent that obeys."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from cluster.assignments import ServiceItem
from cluster.model.container import ContainerSpec
from cluster.model.service import PortSpec, RestartCondition, RestartPolicy, ServiceSpec
from cluster.model.stack import StackSpec
from cluster.model.task import TaskState
from cluster.views import Progress
from manager.etcd import TxnResult, UnknownOutcome
from tests.etcd_server import Servers
from tests.manager.api.obedient import obedient
from tests.manager.managers import Answer, Client, RunningManager, until
from tests.patience import PATIENCE

pytestmark = pytest.mark.etcd


def web(image: str = "web:1", **more: Any) -> ServiceSpec:
    return ServiceSpec("web", ContainerSpec(image), **more)


def stack(*services: ServiceSpec, name: str = "shop") -> StackSpec:
    return StackSpec(name, {service.name: service for service in services})


async def deploy(client: Client, spec: StackSpec, operation: str = "op1", **more: Any) -> Answer:
    body = {"spec": spec, "operation": operation} | more
    return await client.ask("PUT", f"/stacks/{spec.name}", body)


async def followed(client: Client, name: str, revision: int) -> Progress:
    """The last line of a stack's progress."""
    last = None
    async with asyncio.timeout(PATIENCE):
        async for line in client.lines(f"/stacks/{name}/progress?revision={revision}"):
            last = msgspec.convert(line, Progress)
    assert last is not None
    return last


async def test_a_deploy_is_a_revision_and_asking_again_changes_nothing(manager: RunningManager, root: Client) -> None:
    first = await deploy(root, stack(web()), reason="first")
    assert (first.status, first.body["revision"], first.body["changed"]) == (200, 1, True)
    assert (await deploy(root, stack(web()))).body == first.body, "the same operation has the same answer"
    again = await deploy(root, stack(web()), "op2")
    assert (again.body["revision"], again.body["changed"]) == (1, False), "the same spec is no new revision"
    (revision,) = await root.get("/stacks/shop/revisions")
    assert (revision["author"], revision["reason"]) == ("root", "first")


async def test_images_are_looked_up_at_a_deploy(manager: RunningManager, root: Client) -> None:
    async with obedient(manager) as agent:
        unknown = await deploy(root, stack(web()))
        assert unknown.body["notes"] == [
            "image web:1 could not be looked up (no such image); web: what the tag means on each node runs"
        ]
        agent.digests["web:1"] = "sha256:aa"
        known = await deploy(root, stack(web()), "op2")
        assert (known.body["revision"], known.body["notes"]) == (2, [])
        await followed(root, "shop", 2)
        (task,) = [task for task in await root.get("/tasks?stack=shop") if task["desired"] == "running"]
        assert (task["image"], task["digest"]) == ("web:1", "sha256:aa")
        given = {item.digest for item in agent.items.values() if isinstance(item, ServiceItem) and item.version == 2}
        assert given == {"sha256:aa"}


async def test_only_what_needs_it_gets_new_tasks(manager: RunningManager, root: Client) -> None:
    def versions() -> dict[str, tuple[str, int]]:
        state = manager.core.state
        head = state.revisions[state.stacks["shop"].uid][state.stacks["shop"].head]
        return {name: (version.uid, version.version) for name, version in head.services.items()}

    db = ServiceSpec("db", ContainerSpec("db:1"))
    await deploy(root, stack(web(), db))
    before = versions()
    await deploy(root, stack(web(replicas=3), db), "op2")
    assert versions() == before
    await deploy(root, stack(web("web:2", replicas=3), db), "op3")
    assert versions() == before | {"web": (before["web"][0], 3)}
    await deploy(root, stack(db), "op4")
    await deploy(root, stack(web(), db), "op5")
    assert versions()["web"][0] != before["web"][0], "what was gone comes back as another service"


async def test_who_deployed_is_known(manager: RunningManager, root: Client) -> None:
    await deploy(await manager.client("ann"), stack(web()))
    (revision,) = await root.get("/stacks/shop/revisions")
    assert revision["author"] == "ann"


async def test_two_who_deploy_at_once_both_get_through(manager: RunningManager, root: Client) -> None:
    answers = await asyncio.gather(*(deploy(root, stack(web(f"web:{n}")), f"op{n}") for n in range(5)))
    assert sorted(answer.body["revision"] for answer in answers) == [1, 2, 3, 4, 5]


async def test_a_deploy_on_an_old_base_is_refused(manager: RunningManager, root: Client) -> None:
    await deploy(root, stack(web()), base_revision=0)
    answer = await deploy(root, stack(web("web:2")), "op2", base_revision=3)
    assert answer.status == 409 and "revision 1, not 3" in answer.body["error"]


async def test_a_port_that_is_taken_is_refused_with_its_holder(manager: RunningManager, root: Client) -> None:
    port = PortSpec(80, 8080)
    await deploy(root, stack(web(ports=(port,))))
    answer = await deploy(root, stack(web(ports=(port,)), name="other"), "op2")
    assert answer.status == 409 and "shop_web" in answer.body["error"], answer
    assert (await root.ask("GET", "/stacks/other")).status == 404
    udp = PortSpec(80, 8080, "udp")
    assert (await deploy(root, stack(web(ports=(udp,)), name="other"), "op3")).status == 200


async def test_of_two_who_want_a_port_at_once_one_gets_it(manager: RunningManager, root: Client) -> None:
    answers = await asyncio.gather(
        *(deploy(root, stack(web(ports=(PortSpec(80, 8080),)), name=f"s{n}"), f"op{n}") for n in range(4))
    )
    assert sorted(answer.status for answer in answers) == [200, 409, 409, 409]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown field": ({"spec": {"name": "shop", "services": {}, "colour": "red"}, "operation": "x"}, "spec.colour"),
    "a number as text": (
        {"spec": {"name": "shop", "services": {"web": {"name": "web", "container": {"image": "i"}, "replicas": "3"}}}},
        "spec.services.web.replicas",
    ),
    "no operation": ({"spec": {"name": "shop", "services": {}}}, "operation"),
    "another stack's spec": ({"spec": {"name": "other", "services": {}}, "operation": "x"}, "other"),
}


@pytest.mark.parametrize(("body", "message"), BAD.values(), ids=BAD.keys())
async def test_bodies_that_are_refused(
    manager: RunningManager, root: Client, body: dict[str, Any], message: str
) -> None:
    answer = await root.ask("PUT", "/stacks/shop", body)
    assert answer.status == 400 and message in answer.body["error"], answer
    assert (await root.get("/stacks")) == []


async def test_a_body_that_is_no_json(manager: RunningManager, root: Client) -> None:
    answer = await root.ask("PUT", "/stacks/shop", raw=b"{")
    assert answer.status == 400 and "JSON" in answer.body["error"]


@pytest.mark.parametrize("came_through", [True, False], ids=["and it came through", "and it did not"])
async def test_a_lost_answer_is_settled(manager: RunningManager, root: Client, came_through: bool) -> None:
    etcd, lost = manager.core.etcd, list[Any]()
    real = etcd.txn

    async def losing(compares: Any, ops: Any, otherwise: Any = (), **more: Any) -> TxnResult:
        if not lost and any("/revision/" in getattr(op, "key", "") for op in ops):
            if came_through:
                await real(compares, ops, otherwise, **more)
            lost.append(ops)
            raise UnknownOutcome("lost")
        return await real(compares, ops, otherwise, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(etcd, "txn", losing)
        answer = await deploy(root, stack(web()))
    assert lost and (answer.status, answer.body["revision"], answer.body["changed"]) == (200, 1, True)
    assert len(await root.get("/stacks/shop/revisions")) == 1


# Progress


async def test_progress_ends_when_all_tasks_run(manager: RunningManager, root: Client) -> None:
    async with obedient(manager):
        await deploy(root, stack(web(replicas=3)))
        last = await followed(root, "shop", 1)
        assert last.done and not last.failed
        assert [(one.service, one.wanted, one.done) for one in last.services] == [("web", 3, 3)]
        tasks = await root.get("/tasks?stack=shop")
        assert [(task["name"], task["node"], task["state"]) for task in tasks] == [
            (f"shop_web.{slot}", "n1", "running") for slot in (1, 2, 3)
        ]
        (service,) = await root.get("/services?stack=shop")
        assert (service["name"], service["running"], service["updated"], service["problem"]) == ("shop_web", 3, 3, "")
        (shown,) = await root.get("/stacks")
        assert (shown["phase"], shown["running"]) == ("running", 3)
        (node,) = await root.get("/nodes")
        assert (node["status"], node["tasks"]) == ("ready", 3)


async def test_scaling_down_ends_when_the_others_are_gone(manager: RunningManager, root: Client) -> None:
    async with obedient(manager):
        await deploy(root, stack(web(replicas=4)))
        await followed(root, "shop", 1)
        answer = await root.ask("POST", "/stacks/shop/scale", {"replicas": {"web": 1}, "operation": "op2"})
        assert (answer.status, answer.body["revision"]) == (200, 2)
        assert (await followed(root, "shop", 2)).done
        states = [task["state"] for task in await root.get("/tasks?service=shop_web")]
        assert states.count("running") == 1 and set(states) <= {"running", "shutdown"}
        (newest, _) = await root.get("/stacks/shop/revisions")
        assert newest["reason"] == "scale web=1"


async def test_progress_of_a_revision_that_was_replaced(manager: RunningManager, root: Client) -> None:
    await deploy(root, stack(web()))
    await deploy(root, stack(web("web:2")), "op2")
    assert "replaced by revision 2" in (await followed(root, "shop", 1)).failed


async def test_progress_tells_when_nothing_more_will_come(manager: RunningManager, root: Client) -> None:
    async with obedient(manager, outcome=lambda task: TaskState.FAILED):
        await deploy(root, stack(web(restart=RestartPolicy(RestartCondition.NONE))))
        last = await followed(root, "shop", 1)
        assert not last.done and "web: exit code 3" in last.failed


async def test_tasks_that_did_their_work_count_as_done(manager: RunningManager, root: Client) -> None:
    async with obedient(manager, outcome=lambda task: TaskState.COMPLETE):
        await deploy(root, stack(web(restart=RestartPolicy(RestartCondition.ON_FAILURE))))
        assert (await followed(root, "shop", 1)).done


async def test_a_stack_is_removed_to_its_last_record(manager: RunningManager, root: Client) -> None:
    async with obedient(manager):
        await deploy(root, stack(web(replicas=2, ports=(PortSpec(80, 8080),))))
        await followed(root, "shop", 1)
        answer = await root.ask("DELETE", "/stacks/shop")
        assert (answer.status, answer.body["revision"]) == (200, 1)
        last = await followed(root, "shop", 1)
        assert last.done and last.removing
        assert (await root.ask("GET", "/stacks/shop")).status == 404
        left = {record.key.split("/")[3] for record in (await manager.core.etcd.range("/stackyard/state/")).items}
        await until(lambda: not manager.core.state.networks and not manager.core.state.claims)
        assert not left & {"stack", "revision", "service", "task", "taskstatus"}
        assert (await deploy(root, stack(web()), "op2")).body["revision"] == 1, "a new stack of the same name"


async def test_a_stack_that_is_being_removed_takes_no_deploy(manager: RunningManager, root: Client) -> None:
    async with obedient(manager) as agent:
        await deploy(root, stack(web()))
        await followed(root, "shop", 1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(agent, "_state", lambda task: TaskState.RUNNING)  # it does not stop
            await root.ask("DELETE", "/stacks/shop")
            answer = await deploy(root, stack(web("web:2")), "op2")
            assert answer.status == 409 and "being removed" in answer.body["error"]
            assert (await root.get("/stacks/shop"))["phase"] == "removing"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/stacks/shop", None),
        ("DELETE", "/stacks/shop", None),
        ("GET", "/stacks/shop/progress", None),
        ("GET", "/stacks/shop/revisions", None),
        ("POST", "/stacks/shop/scale", {"replicas": {"web": 1}, "operation": "x"}),
        ("GET", "/services?stack=shop", None),
        ("GET", "/tasks?service=shop_web", None),
        ("GET", "/tasks?node=n9", None),
        ("GET", "/logs?of=shop_web", None),
        ("PATCH", "/nodes/n9", {"availability": "drain"}),
        ("GET", "/nonsense", None),
    ],
    ids=lambda value: str(value),
)
async def test_what_is_not_there(
    manager: RunningManager, root: Client, method: str, path: str, body: dict[str, Any] | None
) -> None:
    answer = await root.ask(method, path, body)
    assert answer.status == 404 and answer.body["kind"] == "NotFound" and answer.body["hint"], answer


# The cluster without etcd, and on its way out


async def test_without_etcd_the_manager_says_so_and_comes_back_by_itself(
    manager: RunningManager, root: Client, servers: Servers
) -> None:
    await deploy(root, stack(web()))
    servers.kill()
    await until(lambda: not manager.core.presence.held.is_set())
    for method, path in (("GET", "/stacks"), ("PUT", "/stacks/shop"), ("GET", "/cluster")):
        answer = await root.ask(method, path)
        assert answer.status == 503 and answer.body["kind"] == "Unavailable", answer
        assert "etcd" in answer.body["error"], answer
    assert (await root.ask("GET", "/ping")).body == "pong"
    told = (await root.get("/metrics")).splitlines()
    assert "stackyard_manager_ready 0" in told and "stackyard_manager_leads 0" in told
    assert not [line for line in told if line.startswith("stackyard_service")], "nobody knows how old that is"
    assert not manager.core.presence.leading, "whoever lost the lease does not lead"
    servers.restore()
    await until(manager.core.presence.held.is_set)
    assert (await deploy(root, stack(web("web:2")), "op2")).body["revision"] == 2
    await until(lambda: manager.core.presence.leading)


async def test_open_streams_end_when_the_manager_stops(manager: RunningManager, root: Client) -> None:
    await deploy(root, stack(web()))
    lines = root.lines("/stacks/shop/progress?revision=1")
    assert not (await anext(lines))["done"]
    manager.core.stopping.set()
    async with asyncio.timeout(PATIENCE):
        assert [line async for line in lines] == []


async def test_the_page_that_describes_the_api_is_whole(manager: RunningManager, root: Client) -> None:
    document = await root.get("/openapi.json")
    text = msgspec.json.encode(document).decode()
    for part in text.split('"$ref":"')[1:]:
        _, _, kind, name = part.partition('"')[0].split("/")
        assert name in document["components"][kind], name
    assert "DeployRequest" in document["components"]["schemas"]
    body = document["paths"]["/v1/stacks/{name}"]["put"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/DeployRequest"}
    assert (await root.ask("GET", "/docs")).status == 200
