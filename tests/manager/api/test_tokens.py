"""Join tokens: standing ones that rotate, invitations that end or are used up; and nodes that leave by themselves."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any

import pytest

from cluster import pki
from manager.etcd import put
from manager.tls import Tls
from tests.manager.api.obedient import obedient
from tests.manager.managers import Answer, Client, RunningManager, until

pytestmark = pytest.mark.etcd


async def join(manager: RunningManager, token: str, name: str = "n1", key: str = "", **more: Any) -> Answer:
    request = {"token": token, "csr": pki.new_csr(key or pki.new_key()), "name": name} | more
    return await manager.anonymous().ask("POST", "/join", request)


async def made(root: Client, **wanted: Any) -> tuple[str, str]:
    answer = await root.ask("POST", "/tokens", wanted)
    assert answer.status == 200, answer
    return answer.body["id"], answer.body["token"]


async def test_an_invitation_for_one_node_takes_in_one_node(manager: RunningManager, root: Client) -> None:
    ident, token = await made(root, once=True)
    pki.check_ca(manager.ca, pki.parse_token(token))
    key = pki.new_key()
    first = await join(manager, token, "n1", key)
    assert (first.status, first.body["role"]) == (200, "worker")
    second = await join(manager, token, "n2")
    assert second.status == 403 and "has been used" in second.body["error"]
    again = await join(manager, token, "n1", key)  # its first answer may have been lost
    assert again.status == 200 and again.body["node"] == first.body["node"]
    [shown] = [one for one in await root.get("/tokens") if one["id"] == ident]
    assert (shown["once"], shown["used_by"]) == (True, first.body["node"])


async def test_without_limits_it_takes_in_many_until_it_is_revoked(manager: RunningManager, root: Client) -> None:
    ident, token = await made(root, role="manager")
    for name in ("n1", "n2"):
        assert (await join(manager, token, name)).body["role"] == "manager"
    assert (await root.ask("DELETE", f"/tokens/{ident}")).status == 204
    refused = await join(manager, token, "n3")
    assert refused.status == 403 and "not valid" in refused.body["error"]
    gone = await root.ask("DELETE", f"/tokens/{ident}")
    assert gone.status == 404 and "stack token ls" in gone.body["hint"]


async def test_wrong_tokens_are_held_down_and_right_ones_are_not(manager: RunningManager, root: Client) -> None:
    good = (await root.get("/join-tokens"))["worker"]
    _, other = await made(root)
    assert (await join(manager, good)).status == 200
    wrong = await join(manager, good[:-4] + "0000", "n2")
    assert (wrong.status, wrong.body["kind"]) == (403, "Forbidden")
    (address,) = manager.core.tries._wrong
    for _ in range(100):  # so many that none comes back while this test runs, however slowly
        manager.core.tries.wrong(address, time.monotonic())
    assert (await join(manager, other, "n2")).status == 429
    assert (await join(manager, good, "n2")).status == 200, "it was right from here before"


async def test_an_invitation_ends_with_its_time(manager: RunningManager, root: Client) -> None:
    ident, token = await made(root, expires_in=3600.0)
    key = f"/stackyard/pki/invitation/{ident}"
    stored = await manager.core.etcd.get(key)
    assert stored is not None
    [shown] = [one for one in await root.get("/tokens") if one["id"] == ident]
    assert not shown["expired"] and shown["expires_at"] - shown["created_at"] == 3600
    past = stored.value.replace(str(shown["expires_at"]).encode(), str(shown["created_at"]).encode())
    assert past != stored.value
    await manager.core.etcd.txn((), [put(key, past)])
    refused = await join(manager, token)
    assert refused.status == 403 and "expired" in refused.body["error"]
    assert [one["expired"] for one in await root.get("/tokens") if one["id"] == ident] == [True]


async def test_no_secret_of_a_token_is_stored_or_listed(manager: RunningManager, root: Client) -> None:
    ident, token = await made(root)
    standing = await root.get("/join-tokens")
    secrets = [pki.parse_token(text).secret for text in (token, standing["worker"], standing["manager"])]
    everything = [kv.value.decode() for kv in (await manager.core.etcd.range("/stackyard/")).items]
    listed = str(await root.get("/tokens"))
    for secret in secrets:
        assert secret not in listed and not any(secret in value for value in everything)
    assert ident in listed


async def test_a_rotated_token_is_worthless_and_the_other_roles_is_not(manager: RunningManager, root: Client) -> None:
    before = await root.get("/join-tokens")
    answer = await root.ask("POST", "/tokens/worker/rotate")
    after = await root.get("/join-tokens")
    assert answer.body == {"id": "worker", "token": after["worker"]} and after["worker"] != before["worker"]
    assert after["manager"] == before["manager"]
    assert (await join(manager, before["worker"])).status == 403
    assert (await join(manager, after["worker"])).status == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("POST", "/tokens", {"expires_in": -1.0}, 400, "cannot expire in -1"),
        ("POST", "/tokens", {"expires_in": 1e12}, 400, "cannot expire"),
        ("POST", "/tokens", {"role": "king"}, 400, "role"),
        ("POST", "/tokens/king/rotate", None, 400, "no role"),
        ("DELETE", "/tokens/worker", None, 400, "cannot be taken away"),
        ("DELETE", "/tokens/..%2Fca", None, 404, ""),
    ],
)
async def test_what_cannot_be_done_to_tokens(
    root: Client, method: str, path: str, body: Any, status: int, message: str
) -> None:
    answer = await root.ask(method, path, body)
    assert answer.status == status and message in answer.body["error"], answer


async def test_a_token_for_another_role_is_refused_before_anything_is_done(
    manager: RunningManager, root: Client
) -> None:
    token = (await root.get("/join-tokens"))["manager"]
    answer = await join(manager, token, role="worker")
    assert answer.status == 403 and "is for a manager, not for a worker" in answer.body["error"]
    assert await root.get("/nodes") == []


async def test_a_node_sees_drains_and_takes_out_itself(manager: RunningManager, root: Client) -> None:
    async with obedient(manager, "n1"):
        joined = await manager.join("other")
        own = manager.node(joined)
        assert (await own.get("/self"))["name"] == "other"
        assert (await own.ask("POST", "/self/drain")).body["availability"] == "drain"
        assert {n["name"]: n["availability"] for n in await root.get("/nodes")} == {"n1": "active", "other": "drain"}
        assert (await own.ask("DELETE", "/self")).status == 204
        assert (await own.ask("DELETE", "/self")).status == 204
        assert [n["name"] for n in await root.get("/nodes")] == ["n1"]
        assert (await own.ask("GET", "/self")).status == 404
        await until(lambda: joined.id not in manager.core.state.node_states)
        again = await manager.join("other")  # the name is free again
        assert again.id != joined.id


async def test_a_node_gets_its_next_certificate_with_the_one_that_it_has(manager: RunningManager, root: Client) -> None:
    joined = await manager.join("n1")
    own = manager.node(joined)
    answer = await own.ask("POST", "/self/certificate", {"csr": pki.new_csr(joined.key.read_text())})
    assert answer.status == 200, answer
    before, after = (
        ssl.PEM_cert_to_DER_cert(pem) for pem in (joined.certificate.read_text(), answer.body["certificate"])
    )
    assert before != after and pki.identity(before) == pki.identity(after)
    wrong = await own.ask("POST", "/self/certificate", {"csr": "please"})
    assert wrong.status == 400 and "certificate request" in wrong.body["error"]
    assert (await root.ask("POST", "/self/certificate", {"csr": ""})).status == 403
    await own.ask("DELETE", "/self")
    gone = await own.ask("POST", "/self/certificate", {"csr": pki.new_csr(joined.key.read_text())})
    assert gone.status == 404


async def test_the_manager_renews_its_own_certificate(manager: RunningManager) -> None:
    core, data = manager.core, manager.settings.data
    file = data / "manager.pem"
    tls = Tls(core.authority, "m", (), data)
    young, server, client = file.read_text(), tls.server, tls.client
    old = pki.issue(
        core.authority.ca, pki.new_csr(pki.new_key()), pki.Identity(core.authority.cluster, "manager", "m", "manager"),
        now=time.time() - 0.7 * pki.LEAF_LIFE.total_seconds(),
    )  # fmt: skip
    file.write_text(old)
    renewal = asyncio.create_task(tls.run())
    await until(lambda: tls.server is not server and tls.client is not client)
    renewal.cancel()
    assert file.read_text() not in (old, young) and pki.renew_at(file.read_text()) > time.time()
