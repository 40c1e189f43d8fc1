"""People over real TLS: tokens and certificates, what a role sees and may, and how fast it is over."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import pytest

from cluster import pki
from cluster.model.container import ContainerSpec, Mount
from cluster.model.service import ServiceSpec
from cluster.model.stack import StackSpec
from cluster.people import parse_user_token
from tests.manager.api.obedient import obedient
from tests.manager.managers import Client, RunningManager, until
from tests.patience import PATIENCE

pytestmark = pytest.mark.etcd


async def deploy(client: Client, name: str, operation: str = "op", **more: Any) -> int:
    spec = StackSpec(name, {"web": ServiceSpec("web", ContainerSpec("app:1", **more))})
    return (await client.ask("PUT", f"/stacks/{name}", {"spec": spec, "operation": operation})).status


async def status(client: Client, method: str, path: str, body: Any = None) -> int:
    return (await client.ask(method, path, body)).status


async def token_of(root: Client, name: str, **more: Any) -> str:
    answer = await root.ask("POST", "/users", {"name": name, "role": "operator"} | more)
    assert answer.status == 200, answer
    token: str = answer.body["token"]
    return token


async def test_a_deployer_sees_and_touches_its_stacks_alone(manager: RunningManager, root: Client) -> None:
    ann = await manager.user("ann", "deployer", "shop", "team-*")
    assert (await ann.get("/me"))["stacks"] == ["shop", "team-*"]
    async with obedient(manager):
        assert await deploy(root, "billing") == 200
        assert await deploy(ann, "shop") == 200
        assert await deploy(ann, "team-a") == 200
        assert await deploy(ann, "billing", "op2") == 403
        assert await deploy(ann, "nothing") == 403
        await until(lambda: len(manager.core.state.statuses) == 3)
        assert [one["name"] for one in await ann.get("/stacks")] == ["shop", "team-a"]
        assert [one["name"] for one in await root.get("/stacks")] == ["billing", "shop", "team-a"]
        assert {one["stack"] for one in await ann.get("/services")} == {"shop", "team-a"}
        assert {one["stack"] for one in await ann.get("/tasks")} == {"shop", "team-a"}
        (theirs,) = await root.get("/tasks?stack=billing")
        others = [
            ("GET", "/stacks/billing"),
            ("GET", "/stacks/billing/revisions"),
            ("GET", "/stacks/billing/revisions/head"),
            ("GET", "/stacks/billing/diff"),
            ("GET", "/stacks/billing/progress"),
            ("DELETE", "/stacks/billing"),
            ("GET", "/services?stack=billing"),
            ("GET", "/tasks?stack=billing"),
            ("GET", "/tasks?service=billing_web"),
            ("GET", "/logs?of=billing_web"),
            ("GET", "/explain/billing_web"),
            ("GET", f"/explain/{theirs['id']}"),
        ]
        for method, path in others:
            assert await status(ann, method, path) == 404, path
        for what, body in (("scale", {"replicas": {}}), ("rollback", {}), ("update", {"force": True})):
            assert await status(ann, "POST", f"/stacks/billing/{what}", body | {"operation": "op"}) == 404, what
        for name in ("billing_web.1", "billing_web", theirs["id"]):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await ann.http.ws_connect(f"{ann.base}/v1/tasks/{name}/channels/exec")
            assert refused.value.status == 404, name
        async with ann.http.ws_connect(f"{ann.base}/v1/tasks/shop_web.1/channels/exec"):
            pass
        assert (await ann.get("/stacks/shop"))["author"] == "ann"
        assert await status(ann, "DELETE", "/stacks/shop") == 200
    for method, path in (("GET", "/users"), ("PATCH", "/nodes/n1"), ("PUT", "/secrets/x"), ("GET", "/rebalance")):
        assert await status(ann, method, path) == 403, path


async def test_a_deployer_gets_no_hold_of_a_host(manager: RunningManager, root: Client) -> None:
    ann = await manager.user("ann", "deployer", "shop")
    mounted: dict[str, Any] = {"mounts": (Mount("bind", "/host", "/"),)}
    assert await deploy(ann, "shop", **mounted) == 403
    assert not manager.core.state.stacks
    assert await status(root, "PATCH", "/users/ann", {"privileged": True}) == 200
    assert await deploy(ann, "shop", **mounted) == 200
    assert await status(root, "PATCH", "/users/ann", {"privileged": False}) == 200
    scaled = await ann.ask("POST", "/stacks/shop/scale", {"replicas": {"web": 2}, "operation": "op3"})
    assert scaled.status == 200, scaled
    assert await deploy(ann, "shop", "op4", command=("sh",), **mounted) == 403
    assert await deploy(ann, "shop", "op5") == 200, "without what leads out it is hers again"
    back = await ann.ask("POST", "/stacks/shop/rollback", {"operation": "op6", "revision": 1})
    assert back.status == 403, back


async def test_a_viewer_reads(manager: RunningManager, root: Client) -> None:
    vic = await manager.user("vic", "viewer")
    assert await deploy(root, "shop") == 200
    assert [one["name"] for one in await vic.get("/stacks")] == ["shop"]
    assert await deploy(vic, "shop", "op2") == 403
    assert await status(vic, "GET", "/logs?of=shop_web") == 403
    assert await status(vic, "GET", "/audit") == 403


async def test_only_a_hash_of_a_token_is_stored(manager: RunningManager, root: Client) -> None:
    token = await token_of(root, "olga")
    secret = parse_user_token(token).secret
    assert await status(manager.bearer(token), "GET", "/nodes") == 200
    for item in (await manager.core.etcd.range("/stackyard/")).items:
        assert secret.encode() not in item.value, item.key
    told = await root.get("/users/olga")
    assert secret not in str(told) and "digest" not in str(told)


async def test_tokens_that_are_not_good(manager: RunningManager, root: Client) -> None:
    good = await token_of(root, "olga")
    parsed = parse_user_token(good)
    ended = await token_of(root, "eve", expires_in=0.001)
    await asyncio.sleep(0.01)
    wrong = {
        "another secret": good[:-32] + "0" * 32,
        "another user's id": good.replace(parsed.credential, parse_user_token(ended).credential),
        "another cluster's": good.replace(parsed.ca_digest, "0" * 64),
        "ended": ended,
        "none": "x",
        "a very long one": "x" * 4000,
    }
    for what, token in wrong.items():
        answer = await manager.bearer(token).ask("GET", "/nodes")
        assert (answer.status, answer.body["kind"]) == (401, "Unauthenticated"), what
    basic = manager.anonymous()
    async with basic.http.get(f"{basic.base}/v1/nodes", headers={"Authorization": f"Basic {good}"}) as refused:
        assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert await status(manager.bearer(good), "GET", "/nodes") == 200


async def test_a_wrong_token_is_no_way_round_the_socket(manager: RunningManager, root: Client) -> None:
    async with root.http.get(f"{root.base}/v1/nodes", headers={"Authorization": "Bearer x"}) as answer:
        assert answer.status == 401


async def test_wrong_tokens_are_held_down_and_right_ones_are_not(manager: RunningManager, root: Client) -> None:
    good = manager.bearer(await token_of(root, "olga"))
    late = manager.bearer(await token_of(root, "otto"))
    assert await status(good, "GET", "/me") == 200
    eve = manager.bearer("x")
    assert await status(eve, "GET", "/me") == 401
    (address,) = manager.core.tries._wrong
    for _ in range(100):  # so many that none comes back while this test runs, however slowly
        manager.core.tries.wrong(address, time.monotonic())
    assert await status(eve, "GET", "/me") == 429
    assert await status(good, "GET", "/me") == 200, "it was right from here before"
    assert await status(late, "GET", "/me") == 429


async def test_a_revoked_token_ends_at_once_with_what_is_open(manager: RunningManager, root: Client) -> None:
    ann = await manager.user("ann", "deployer", "shop")
    async with obedient(manager):
        assert await deploy(root, "shop") == 200
        await until(lambda: manager.core.state.statuses)
        async with ann.http.ws_connect(f"{ann.base}/v1/tasks/shop_web/channels/exec") as socket:
            await socket.receive()
            async with ann.http.get(f"{ann.base}/v1/logs?of=shop_web&follow=true") as logs:
                (credential,) = (await root.get("/users/ann"))["credentials"]
                path = f"/users/ann/credentials/{credential['id']}"
                assert await status(root, "DELETE", path) == 200
                assert await status(ann, "GET", "/stacks") == 401
                async with asyncio.timeout(PATIENCE):
                    assert b"was revoked" in await socket.receive_bytes(), "it is told why"
                    assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
                    await logs.read()
    assert await status(root, "DELETE", path) == 404


async def test_a_change_of_what_a_user_may_is_at_once(manager: RunningManager, root: Client) -> None:
    ann = await manager.user("ann", "deployer", "shop")
    assert await deploy(ann, "shop") == 200
    assert await status(root, "PATCH", "/users/ann", {"role": "viewer"}) == 200
    assert await deploy(ann, "shop", "op2") == 403
    assert await status(ann, "GET", "/stacks/shop") == 200
    assert await status(root, "DELETE", "/users/ann") == 204
    assert await status(ann, "GET", "/stacks/shop") == 401


async def test_a_certificate_for_a_token(manager: RunningManager, root: Client) -> None:
    ann = await manager.user("ann", "deployer", "shop", expires_in=86400.0)
    key = pki.new_key()
    answer = await ann.ask("POST", "/me/certificate", {"csr": pki.new_csr(key)})
    assert answer.status == 200, answer
    held = manager._tls_client(manager.context("ann", answer.body["certificate"], key))
    me = await held.get("/me")
    assert (me["name"], me["role"], me["stacks"]) == ("ann", "deployer", ["shop"])
    assert me["expires_at"] <= (await ann.get("/me"))["expires_at"], "it does not outlast what it was given for"
    assert await status(held, "GET", "/users") == 403
    assert await status(root, "DELETE", "/users/ann/credentials") == 200
    assert await status(held, "GET", "/me") == 401
    assert await status(ann, "GET", "/me") == 401


async def test_who_comes_with_a_certificate_that_nobody_gave(manager: RunningManager) -> None:
    """What only the CA's key can make, and still is none of ours: other kinds, roles, clusters, credentials."""
    authority, now = manager.core.authority, manager.core.clock()
    wrong = {
        "unknown credential": pki.Identity(authority.cluster, "client", "0123456789ab", "user"),
        "unknown role": pki.Identity(authority.cluster, "client", "ann", "emperor"),
        "another cluster": pki.Identity("other", "client", "ann", "admin"),
    }
    for what, who in wrong.items():
        key = pki.new_key()
        signed = pki.issue(authority.ca, pki.new_csr(key), who, now=now)
        client = manager._tls_client(manager.context("eve", signed, key))
        assert await status(client, "GET", "/nodes") == 401, what


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"name": "root", "role": "admin"}, "UNIX socket"),
        ({"name": "a b", "role": "admin"}, "no name for a user"),
        ({"name": "ann", "role": "deployer"}, "for some stacks"),
        ({"name": "ann", "role": "admin", "stacks": ["shop"]}, "has all stacks"),
        ({"name": "ann", "role": "viewer", "privileged": True}, "privileged is for deployers"),
        ({"name": "ann", "role": "deployer", "stacks": ["Shop["]}, "names no stack"),
        ({"name": "ann", "role": "deployer", "stacks": ["s"], "expires_in": -1.0}, "cannot expire"),
        ({"name": "ann", "role": "emperor"}, "role"),
    ],
)
async def test_users_that_make_no_sense(root: Client, body: dict[str, Any], told: str) -> None:
    answer = await root.ask("POST", "/users", body)
    assert answer.status == 400 and told in answer.body["error"], answer
    assert await root.get("/users") == []
