"""The audit log: an entry for each call that changes something, in the transaction that changes it; and its bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from cluster import pki
from cluster.model.container import ContainerSpec
from cluster.model.service import ServiceSpec
from cluster.model.stack import StackSpec
from cluster.people import AuditEntry
from manager.api.rules import RULES, Least
from manager.audit import DONE, REFUSED, Bound
from tests.manager.api.obedient import obedient
from tests.manager.managers import Client, RunningManager, until
from tests.patience import PATIENCE

pytestmark = pytest.mark.etcd

BODIES: Mapping[str, Any] = {
    "/v1/stacks/{name}": {"spec": StackSpec("shop", {"web": ServiceSpec("web", ContainerSpec("app:1"))})},
    "/v1/stacks/{name}/scale": {"replicas": {"web": 2}},
    "/v1/stacks/{name}/update": {"force": True},
    "/v1/secrets/{name}": {"data": "c2VjcmV0"},
    "/v1/configs/{name}": {"data": "c2VjcmV0"},
    "/v1/nodes/{name}": {"labels": {"a": "b"}},
    "/v1/users": {"name": "ann", "role": "viewer"},
    "/v1/users/{name}": {"role": "operator"},
    "/v1/certificates": {"name": "bob"},
}
"""What to send, by path: enough to come past the first look."""


async def entries(manager: RunningManager) -> list[AuditEntry]:
    found = [entry async for entry in manager.core.audit.newest(0.0)]
    return found[::-1]


async def settled(manager: RunningManager, count: int) -> list[AuditEntry]:
    """Wait until the log has so many calls, and see that nothing else comes."""
    found = await entries(manager)
    async with asyncio.timeout(PATIENCE):
        while sum(entry.count for entry in found) < count:
            await asyncio.sleep(0.05)
            found = await entries(manager)
    assert not manager.core.audit._waiting
    assert sum(entry.count for entry in found) == count, found
    return found


async def deploy(client: Client, operation: str, image: str = "app:1") -> int:
    spec = StackSpec("shop", {"web": ServiceSpec("web", ContainerSpec(image))})
    return (await client.ask("PUT", "/stacks/shop", {"spec": spec, "operation": operation})).status


async def test_each_route_that_changes_something_makes_one_entry(manager: RunningManager, root: Client) -> None:
    """Whatever comes of it: some of these succeed, others are for things that are not there, or for somebody else."""
    joined = await manager.join("n1")
    node = manager.node(joined)
    count = len(await settled(manager, 2))  # showing the tokens, and joining
    for (method, path), rule in RULES.items():
        if not rule.does or method == "WEBSOCKET" or path == "/v1/backup":
            continue
        client = node if rule.least is Least.NODE else root
        names = {"{name}": "shop", "{role}": "worker", "{ident}": "0123", "{purpose}": "exec"}
        filled = path.removeprefix("/v1")
        for name, value in names.items():
            filled = filled.replace(name, value)
        body = {"operation": "op"} | BODIES.get(path, {}) if path.startswith(("/v1/stacks", "/v1/reb")) else None
        if path in ("/v1/me/certificate", "/v1/self/certificate", "/v1/certificates"):
            body = {"csr": pki.new_csr(pki.new_key())}
        if body is None or path == "/v1/certificates":
            body = (body or {}) | BODIES.get(path, {})
        await client.ask(method, filled, body)
        count += 1
        (*_, entry) = await settled(manager, count)
        assert (entry.does, entry.status > 0) == (rule.does, True), (method, path, entry)
        assert entry.who == (joined.id if client is node else "root"), entry


async def test_what_was_made_of_what(manager: RunningManager, root: Client) -> None:
    ann = await manager.user("ann", "deployer", "shop")
    assert await deploy(ann, "op1") == 200
    assert await deploy(ann, "op2", "app:2") == 200
    assert await deploy(ann, "op3", "app:2") == 200, "nothing new"
    assert (await ann.ask("DELETE", "/stacks/shop?volumes=true")).status == 200
    made, first, second, third, gone = await settled(manager, 5)
    assert (made.who, made.kind, made.does, made.about) == ("root", "local", "user create", "ann")
    assert (first.who, first.kind, first.does, first.stack) == ("ann", "client", "deploy", "shop")
    assert first.credential and first.address
    assert (first.before, first.after) == ("", "revision 1")
    assert (second.before, second.after) == ("revision 1", "revision 2; web: image app:1 -> app:2")
    assert (third.before, third.after, third.status) == ("", "", 200)
    assert (gone.before, gone.after) == ("revision 2", "removed, with its volumes")
    assert all(entry.at for entry in (made, first, second, third, gone))


async def test_the_entry_is_written_with_the_change(manager: RunningManager, root: Client) -> None:
    assert await deploy(root, "op1") == 200
    etcd = manager.core.etcd
    (entry,) = (await etcd.range(DONE)).items
    stack = await etcd.get("/stackyard/state/stack/shop")
    assert stack is not None and entry.mod_revision == stack.mod_revision


async def test_what_was_refused(manager: RunningManager, root: Client) -> None:
    ann = await manager.user("ann", "deployer", "team-*")
    assert await deploy(ann, "op1") == 403
    assert await deploy(manager.anonymous(), "op1") == 401
    assert (await manager.bearer("x").ask("GET", "/stacks")).status == 401
    assert (await root.ask("DELETE", "/stacks/none")).status == 404
    _, *refused = await settled(manager, 5)
    told = [(entry.who, entry.does, entry.status) for entry in refused]
    assert told == [("ann", "deploy", 403), ("", "deploy", 401), ("", "sign in", 401), ("root", "remove", 404)]
    assert "may not deploy the stack shop" in refused[0].why
    assert len((await manager.core.etcd.range(REFUSED)).items) == 4


async def test_a_secret_is_in_no_entry(manager: RunningManager, root: Client) -> None:
    assert (await root.ask("PUT", "/secrets/db", {"data": "aHVudGVyMg=="})).status == 200
    assert (await root.ask("PUT", "/secrets/db", {"data": "b3RoZXI="})).status == 409
    assert (await root.ask("PUT", "/secrets/db", {"data": "hunter2!"})).status == 400
    assert (await root.ask("PUT", "/secrets/db", {"password": "hunter2"})).status == 400
    await settled(manager, 4)
    for item in (await manager.core.etcd.range("/stackyard/audit/")).items:
        assert b"hunter2" not in item.value and b"aHVudGVy" not in item.value


async def test_streams_that_are_opened(manager: RunningManager, root: Client) -> None:
    async with obedient(manager):
        assert await deploy(root, "op1") == 200
        await until(lambda: manager.core.state.statuses)
        async with root.http.ws_connect(f"{root.base}/v1/tasks/shop_web/channels/exec"):
            pass
        entry = next(entry for entry in (await settled(manager, 4)) if entry.does == "open")
    assert (entry.about, entry.stack, entry.status) == ("exec shop_web.1", "shop", 101)


async def test_who_is_shown_what(manager: RunningManager, root: Client) -> None:
    ann = await manager.user("ann", "deployer", "shop")
    assert await deploy(root, "op1") == 200
    assert await deploy(ann, "op2", "app:2") == 200
    assert [(one["who"], one["does"]) for one in await ann.get("/audit")] == [("root", "deploy"), ("ann", "deploy")]
    assert [one["does"] for one in await root.get("/audit?user=root")] == ["user create", "deploy"]
    assert [one["who"] for one in await root.get("/audit?stack=shop&limit=1")] == ["ann"]
    assert await root.get(f"/audit?since={manager.core.clock() + 60}") == []
    assert (await root.ask("GET", "/audit?limit=0")).status == 400


async def test_the_log_is_bounded_in_number_and_age(manager: RunningManager, root: Client) -> None:
    for number in range(6):
        assert await deploy(root, f"op{number}", f"app:{number}") == 200
    audit = manager.core.audit
    await audit.prune(DONE, Bound(4, 3600.0))
    assert [entry.after.partition(";")[0] for entry in await entries(manager)] == [f"revision {n}" for n in range(3, 7)]
    await audit.prune(DONE, Bound(4, -60.0))
    assert await entries(manager) == []
