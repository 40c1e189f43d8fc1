"""Joining, clients' certificates, and changing nodes."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from cluster import pki
from cluster.model.node import NodeStatus
from tests.manager.api.obedient import obedient
from tests.manager.managers import Answer, Client, RunningManager, until

pytestmark = pytest.mark.etcd


async def join(manager: RunningManager, name: str, key: str, **more: Any) -> Answer:
    token = (await manager.local().get("/join-tokens"))["worker"]
    request = {"token": token, "csr": pki.new_csr(key), "name": name} | more
    return await manager.anonymous().ask("POST", "/join", request)


async def test_a_token_gives_its_role_and_pins_the_ca(manager: RunningManager) -> None:
    tokens = await manager.local().get("/join-tokens")
    for role in ("worker", "manager"):
        token = pki.parse_token(tokens[role])
        pki.check_ca((await manager.anonymous().ask("GET", "/ca")).body, token)
        answer = await join(manager, f"a-{role}", pki.new_key(), token=tokens[role])
        assert answer.body["role"] == role
        who = pki.identity(ssl.PEM_cert_to_DER_cert(answer.body["certificate"]))
        assert who == pki.Identity(answer.body["cluster"], "node", answer.body["node"], role)
        assert answer.body["ca"] == manager.ca


async def test_joining_again_with_the_same_key_gives_the_same_node(manager: RunningManager) -> None:
    key = pki.new_key()
    first, again = await join(manager, "n1", key), await join(manager, "n1", key)
    assert first.body["node"] == again.body["node"]
    assert len(await manager.local().get("/nodes")) == 1


async def test_the_name_of_a_node_that_lives_is_not_given_away(manager: RunningManager) -> None:
    async with obedient(manager, "n1"):
        answer = await join(manager, "n1", pki.new_key())
        assert answer.status == 409 and "n1" in answer.body["error"]


async def test_a_node_that_never_came_or_is_gone_makes_way_for_another_of_its_name(manager: RunningManager) -> None:
    first = await join(manager, "n1", pki.new_key())
    second = await join(manager, "n1", pki.new_key())
    assert second.status == 200 and second.body["node"] != first.body["node"]
    assert [node["id"] for node in await manager.local().get("/nodes")] == [second.body["node"]]


async def test_a_host_does_not_join_under_two_names(manager: RunningManager) -> None:
    key = pki.new_key()
    await join(manager, "n1", key)
    answer = await join(manager, "n2", key)
    assert answer.status == 409 and "joined as n1" in answer.body["error"]


async def refused(manager: RunningManager, what: str) -> Answer:
    token = (await manager.local().get("/join-tokens"))["worker"]
    match what:
        case "a secret that is wrong":
            return await join(manager, "n1", pki.new_key(), token=token[:-1] + ("0" if token[-1] != "0" else "1"))
        case "another cluster's token":
            other = pki.new_authority("other", now=manager.core.clock())
            return await join(manager, "n1", pki.new_key(), token=str(pki.join_token(other, "other", "worker", 1)))
        case "something else than a token":
            return await join(manager, "n1", pki.new_key(), token="please")
        case "something else than a request":
            return await join(manager, "n1", pki.new_key(), csr="please")
        case _:
            return await join(manager, "../n1", pki.new_key())


@pytest.mark.parametrize(
    ("what", "status", "message"),
    [
        ("a secret that is wrong", 403, "not valid"),
        ("another cluster's token", 403, "another cluster"),
        ("something else than a token", 400, "no join token"),
        ("something else than a request", 400, "certificate request"),
        ("a name that is none", 400, "no name for a node"),
    ],
    ids=lambda value: str(value),
)
async def test_joins_that_are_refused(manager: RunningManager, what: str, status: int, message: str) -> None:
    answer = await refused(manager, what)
    assert answer.status == status and message in answer.body["error"], answer
    assert await manager.local().get("/nodes") == []


async def test_a_node_is_drained_and_labelled_by_name_or_id(manager: RunningManager, root: Client) -> None:
    joined = await manager.join("n1")
    answer = await root.ask("PATCH", "/nodes/n1", {"availability": "drain", "labels": {"disk": "ssd", "zone": "a"}})
    assert (answer.body["availability"], answer.body["labels"]) == ("drain", {"disk": "ssd", "zone": "a"})
    answer = await root.ask("PATCH", f"/nodes/{joined.id}", {"labels": {"zone": None}})
    assert (answer.body["availability"], answer.body["labels"]) == ("drain", {"disk": "ssd"})
    assert (await root.get("/nodes"))[0]["labels"] == {"disk": "ssd"}
    wrong = await root.ask("PATCH", "/nodes/n1", {"availability": "gone"})
    assert wrong.status == 400 and "availability" in wrong.body["error"]


async def test_a_node_is_ready_while_its_agent_is_there(manager: RunningManager, root: Client) -> None:
    async with obedient(manager, "n1"):
        await until(
            lambda: [verdict.status for verdict in manager.core.state.node_states.values()] == [NodeStatus.READY]
        )
        (node,) = await root.get("/nodes")
        assert (node["status"], node["address"]) == ("ready", "127.0.0.1")


async def test_with_a_node_goes_the_certificate_of_root_on_its_host(manager: RunningManager, root: Client) -> None:
    await manager.join("n1")
    on_host = await manager.client("root-n1")
    assert (await on_host.get("/me"))["role"] == "admin"
    assert (await root.ask("DELETE", "/nodes/n1?force=true")).status == 204
    assert (await on_host.ask("GET", "/me")).status in (401, 403)
    assert "root-n1" not in [user["name"] for user in await root.get("/users")]
