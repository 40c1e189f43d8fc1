"""Secrets and configs in a whole manager on a real etcd: stored sealed, given to whoever runs a user, collected."""

from __future__ import annotations

import asyncio
import base64
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from cluster import pki
from cluster.codec import SEALED_PREFIX
from cluster.model.container import ContainerSpec, FileReference
from cluster.model.secret import LARGEST_CONTENT, ConfigSpec, SecretSpec
from cluster.model.service import ServiceSpec
from cluster.model.stack import StackSpec
from cluster.protocol import Refused
from manager.etcd.records import Put
from manager.secrets import CURRENT_KEY, FILE
from tests.etcd_server import Servers
from tests.manager.api.obedient import obedient
from tests.manager.managers import Answer, Client, RunningManager, running_manager, until
from tests.manager.sessions.stage import ToyAgent
from tests.patience import PATIENCE

pytestmark = [pytest.mark.etcd, pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")]

VALUE = b"open sesame \x00\xff, said Ali Baba"


def user(name: str = "web", **more: Any) -> ServiceSpec:
    secrets = (FileReference("pw", "/run/secrets/pw"),)
    return ServiceSpec(name, ContainerSpec("box:1", secrets=secrets, **more))


def shop(*services: ServiceSpec, **more: Any) -> StackSpec:
    fields: dict[str, Any] = {"secrets": {"pw": SecretSpec("pw", "shop_pw")}} | more
    return StackSpec("shop", {one.name: one for one in services or (user(),)}, **fields)


def sent(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def deploy(client: Client, spec: StackSpec, operation: str, secrets: Any = None, configs: Any = None) -> Answer:
    body = {"spec": spec, "operation": operation, "secrets": secrets or {}, "configs": configs or {}}
    return await client.ask("PUT", f"/stacks/{spec.name}", body)


async def everything(manager: RunningManager) -> bytes:
    """All that etcd holds."""
    found = await manager.core.etcd.range("/")
    return b"\n".join(kv.key.encode() + b" " + kv.value for kv in found.items)


async def test_a_dump_of_etcd_has_no_secret_in_it_and_a_second_manager_reads_them_all(
    manager: RunningManager, root: Client, servers: Servers, tmp_path: Path
) -> None:
    assert (await deploy(root, shop(), "op1", {"pw": sent(VALUE)})).status == 200
    assert (await root.ask("PUT", "/secrets/key", {"data": sent(VALUE + b"2")})).status == 200
    dump = await everything(manager)
    assert SEALED_PREFIX.encode() in dump and CURRENT_KEY.encode() in dump
    for value in (VALUE, VALUE + b"2", b"open sesame"):
        for form in (value, base64.b64encode(value)[:12], value.hex().encode()[:16]):
            assert form not in dump
    key_file = manager.settings.data / FILE
    assert key_file.stat().st_mode & 0o777 == 0o600
    keys = msgspec.json.decode(key_file.read_bytes())
    assert keys["digest"].encode() not in dump and keys["sealing"][keys["current"]].encode() not in dump

    head = manager.core.state.head(manager.core.state.stacks["shop"].uid)
    assert head is not None
    [digest] = head.spec.digests()
    assert head.secret_digests == {"pw": digest}
    async with running_manager(servers, tmp_path, "m2") as other:
        assert await other.core.vault.open("stack.shop", digest) == VALUE, "it has asked the first one for the keys"
        assert (other.settings.data / FILE).read_bytes() == key_file.read_bytes()


async def test_only_the_users_of_a_changed_content_get_new_tasks(manager: RunningManager, root: Client) -> None:
    def versions() -> dict[str, int]:
        head = manager.core.state.head(manager.core.state.stacks["shop"].uid)
        assert head is not None
        return {name: version.version for name, version in head.services.items()}

    spec = shop(user(), ServiceSpec("db", ContainerSpec("box:1")))
    await deploy(root, spec, "op1", {"pw": sent(b"1")})
    again = await deploy(root, spec, "op2", {"pw": sent(b"1")})
    assert again.body["changed"] is False, "the same content is no new revision"
    assert (await deploy(root, spec, "op3", {"pw": sent(b"2")})).body["revision"] == 2
    assert versions() == {"web": 2, "db": 1}
    assert len(manager.core.state.contents["stack.shop"]) == 2, "the older one is there for going back"
    scaled = await root.ask("POST", "/stacks/shop/scale", {"replicas": {"web": 2}, "operation": "op4"})
    assert scaled.body["revision"] == 3 and versions() == {"web": 2, "db": 1}, "scaling changes no content"


async def test_a_node_that_is_taken_out_is_given_nothing_from_then_on(manager: RunningManager, root: Client) -> None:
    await deploy(root, shop(), "op1", {"pw": sent(VALUE)})
    [digest] = manager.core.state.contents["stack.shop"]
    async with obedient(manager) as agent:
        await until(lambda: manager.core.state.statuses)
        node, client = agent.node, agent._client
        async with root.http.ws_connect(f"{root.base}/v1/tasks/shop_web/channels/exec") as channel:
            await channel.receive()
            assert (await root.ask("DELETE", f"/nodes/{node}?force=true")).status == 204
            assert (await client.ask("GET", f"/agent/contents/shop/{digest}")).status == 403
            async with asyncio.timeout(PATIENCE):
                while (await channel.receive()).type not in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED):
                    pass
                await until(lambda: not manager.core.sessions.holds(node))
        for method, path in (("GET", "/self"), ("POST", "/self/drain"), ("DELETE", "/self")):
            assert (await client.ask(method, path)).status == (204 if method == "DELETE" else 404), path
        renewal = {"csr": pki.new_csr(pki.new_key())}
        assert (await client.ask("POST", "/self/certificate", renewal)).status == 404
        async with client.http.ws_connect(f"{client.base}/v1/agent/session") as socket:
            again = ToyAgent(socket, node)
            await again.hello()
            assert (await again.hear(Refused)).final


async def test_an_agent_is_given_what_its_own_tasks_use_and_no_more(manager: RunningManager, root: Client) -> None:
    await deploy(root, shop(), "op1", {"pw": sent(VALUE)})
    [digest] = manager.core.state.contents["stack.shop"]
    other = await manager.join("n2")
    async with obedient(manager) as agent:
        await until(lambda: manager.core.state.tasks_on.get(agent.node))
        client = agent._client
        async with client.http.get(f"{manager.base}/v1/agent/contents/shop/{digest}") as answer:
            assert (answer.status, await answer.read()) == (200, VALUE)
        for path in (f"shop/{'0' * 64}", f"other/{digest}"):
            assert (await client.ask("GET", f"/agent/contents/{path}")).status == 403
    assert (await manager.node(other).ask("GET", f"/agent/contents/shop/{digest}")).status == 403
    assert (await root.ask("GET", f"/agent/contents/shop/{digest}")).status == 403, "not even root"
    for client in (root, await manager.client(), manager.node(other)):
        assert (await client.ask("GET", "/sealing-keys")).status == 403


async def test_what_is_sealed_opens_in_its_place_only(manager: RunningManager, root: Client) -> None:
    vault = manager.core.vault
    keys = await vault.keys()
    one, put_one = vault.seal("stack.a", b"data", 1.0, keys)
    assert (one.owner, one.size, one.key) == ("stack.a", 4, keys.current)
    await manager.core.etcd.txn((), (put_one,))
    assert await vault.open("stack.a", one.digest) == b"data"
    stored = await manager.core.etcd.get(f"{SEALED_PREFIX}stack.a/{one.digest}")
    assert stored is not None
    moved, put_moved = vault.seal("stack.b", b"data", 1.0, keys)
    assert isinstance(put_moved, Put)
    await manager.core.etcd.txn((), (replace(put_moved, value=stored.value),))
    with pytest.raises(Exception, match="was changed by somebody"):
        await vault.open("stack.b", moved.digest)


@pytest.mark.parametrize(
    ("spec", "secrets", "words"),
    [
        (shop(), {}, r"secrets\.pw: its content was not sent"),
        (shop(), {"pw": "no base64!"}, "is not base64"),
        (shop(), {"pw": sent(b"x" * (LARGEST_CONTENT + 1))}, "1024001 bytes, 1024000 is the most"),
        (shop(secrets={}), {"pw": sent(b"1")}, r"services\.web\.secrets\.pw: the stack has no secret pw"),
        (shop(secrets={"pw": SecretSpec("pw", "there", external=True)}), {}, "external secret there does not exist"),
        (
            shop(secrets={"pw": SecretSpec("pw", "p", template_driver="golang")}),
            {"pw": sent(b"{{oops}}")},
            r"secrets\.pw: it is no template: .*no function oops",
        ),
        (shop(user(mac_address="03:00:00:00:00:01")), {"pw": sent(b"1")}, "is no address of one host"),
        (
            shop(replace(user(mac_address="02:00:00:00:00:01"), replicas=2)),
            {"pw": sent(b"1")},
            r"services\.web\.mac_address: a service with an address of its own has one task",
        ),
        (shop(user(environment={"A": "{{.Oops}}"})), {"pw": sent(b"1")}, r"services\.web\.environment\.A: .*no \.Oops"),
    ],
)
async def test_what_is_wrong_is_told_with_its_place_and_never_with_a_value(
    root: Client, spec: StackSpec, secrets: dict[str, str], words: str
) -> None:
    answer = await deploy(root, spec, "op1", secrets)
    assert answer.status == 400, answer
    assert re.search(words, answer.body["error"]), answer.body
    assert "xxx" not in answer.body["error"]


async def test_the_biggest_content_is_stored(manager: RunningManager, root: Client) -> None:
    config = ServiceSpec("web", ContainerSpec("box:1", configs=(FileReference("big", "/big"),)))
    spec = StackSpec("shop", {"web": config}, configs={"big": ConfigSpec("big", "shop_big")})
    data = bytes(range(256)) * (LARGEST_CONTENT // 256)
    assert (await deploy(root, spec, "op1", configs={"big": sent(data)})).status == 200
    [digest] = manager.core.state.contents["stack.shop"]
    assert await manager.core.vault.open("stack.shop", digest) == data


async def test_secrets_apart_from_stacks_are_made_listed_used_and_removed(
    manager: RunningManager, root: Client
) -> None:
    made = await root.ask("PUT", "/secrets/db-password", {"data": sent(VALUE), "labels": {"team": "blue"}})
    assert made.status == 200 and sent(VALUE) not in str(made.body)
    same = await root.ask("PUT", "/secrets/db-password", {"data": sent(VALUE), "labels": {"team": "blue"}})
    assert same.status == 200, "asking again is fine"
    assert (await root.ask("PUT", "/secrets/db-password", {"data": sent(b"2")})).status == 409
    assert (await root.ask("PUT", "/secrets/a..b..", {"data": sent(b"2")})).status == 400
    spec = shop(secrets={"pw": SecretSpec("pw", "db-password", external=True)})
    assert (await deploy(root, spec, "op1")).status == 200
    [view] = await root.get("/secrets")
    assert (view["name"], view["size"], view["used_by"]) == ("db-password", len(VALUE), ["shop_web"])
    assert await root.get("/configs") == []
    refused = await root.ask("DELETE", "/secrets/db-password")
    assert refused.status == 409 and "used by shop_web" in refused.body["error"]
    await deploy(root, shop(ServiceSpec("web", ContainerSpec("box:1"))), "op2")
    assert (await root.ask("DELETE", "/secrets/db-password")).status == 204
    assert (await root.ask("GET", "/secrets/db-password")).status == 404
    dump = (await everything(manager)).replace(b'"name":"db-password"', b"")
    left = [line for line in dump.splitlines() if b"db-password" in line]
    assert all(line.startswith(b"/stackyard/audit/") for line in left), "else only the older revision remembers it"


async def test_a_stack_that_goes_takes_its_contents_along(manager: RunningManager, root: Client) -> None:
    await deploy(root, shop(), "op1", {"pw": sent(VALUE)})
    await root.ask("DELETE", "/stacks/shop")
    await until(lambda: "shop" not in manager.core.state.stacks)
    assert manager.core.state.contents == {}
    assert SEALED_PREFIX.encode() not in await everything(manager)
