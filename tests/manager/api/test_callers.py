"""Who may do what, tried over real TLS: each kind of caller on each kind of route."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from cluster import pki
from manager.authority import found
from manager.etcd import Etcd
from tests.etcd_server import Servers
from tests.manager.managers import Client, RunningManager, emptied, running_manager, until

pytestmark = pytest.mark.etcd

ROUTES = {
    "ping": ("GET", "/ping"),
    "ca": ("GET", "/ca"),
    "join": ("POST", "/join"),
    "cluster": ("GET", "/cluster"),
    "nodes": ("GET", "/nodes"),
    "stacks": ("GET", "/stacks"),
    "deploy": ("PUT", "/stacks/shop"),
    "remove": ("DELETE", "/stacks/shop"),
    "logs": ("GET", "/logs?of=shop_web"),
    "tokens": ("GET", "/join-tokens"),
    "certificates": ("POST", "/certificates"),
    "list tokens": ("GET", "/tokens"),
    "make a token": ("POST", "/tokens"),
    "rotate a token": ("POST", "/tokens/worker/rotate"),
    "revoke a token": ("DELETE", "/tokens/0123"),
    "itself": ("GET", "/self"),
    "give itself up": ("POST", "/self/drain"),
    "leave": ("DELETE", "/self"),
}
FOR_ANYONE = {"ping", "ca", "join"}
FOR_ROOT = {"tokens", "certificates", "list tokens", "make a token", "rotate a token", "revoke a token"}
FOR_NODES = {"itself", "give itself up", "leave"}
MAY = {
    "anonymous": FOR_ANYONE,
    "node": FOR_ANYONE | FOR_NODES,
    "client": set(ROUTES) - FOR_ROOT - FOR_NODES,
    "root": set(ROUTES) - FOR_NODES,
}


async def caller(manager: RunningManager, kind: str) -> Client:
    match kind:
        case "anonymous":
            return manager.anonymous()
        case "node":
            return manager.node(await manager.join("n1"))
        case "client":
            return await manager.client()
        case _:
            return manager.local()


@pytest.mark.parametrize("kind", MAY, ids=lambda kind: f"the {kind} caller gets only what is for it")
async def test_routes(manager: RunningManager, kind: str) -> None:
    client = await caller(manager, kind)
    for route, (method, path) in ROUTES.items():
        answer = await client.ask(method, path, raw=b"{}" if method in ("POST", "PUT") else None)
        allowed = route in MAY[kind]
        assert (answer.status not in (401, 403)) is allowed, (route, answer)
        if not allowed:
            told = "Unauthenticated" if kind == "anonymous" else "Forbidden"
            assert answer.body["kind"] == told and answer.body["hint"], (route, answer)


@pytest.mark.parametrize("kind", ["anonymous", "client", "root"])
@pytest.mark.parametrize("path", ["session", "streams/abc"])
async def test_only_nodes_come_to_the_agents_sockets(manager: RunningManager, kind: str, path: str) -> None:
    client = await caller(manager, kind)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.http.ws_connect(f"{client.base}/v1/agent/{path}")
    assert refused.value.status == (401 if kind == "anonymous" else 403)


async def test_a_stream_needs_a_ticket_that_is_out(manager: RunningManager) -> None:
    client = await caller(manager, "node")
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.http.ws_connect(f"{client.base}/v1/agent/streams/abc")
    assert refused.value.status == 404


async def test_a_certificate_of_another_ca_is_refused(manager: RunningManager, tmp_path: Path) -> None:
    other = pki.new_authority("other", now=manager.core.clock())
    key = pki.new_key()
    who = pki.Identity(manager.core.authority.cluster, "client", "eve", "admin")
    files = manager.files("eve", pki.issue(other, pki.new_csr(key), who, now=manager.core.clock()), key)
    client = manager._tls_client(pki.client_context(manager.ca, str(files[0]), str(files[1])))
    with pytest.raises((aiohttp.ClientConnectionError, ssl.SSLError)):
        await client.ask("GET", "/nodes")


@pytest.mark.parametrize("begins", [-200 * 86400, 86400], ids=["ended", "not begun"])
async def test_a_certificate_out_of_its_time_is_refused(manager: RunningManager, begins: float) -> None:
    authority, key = manager.core.authority, pki.new_key()
    who = pki.Identity(authority.cluster, "client", "ann", "admin")
    signed = pki.issue(authority.ca, pki.new_csr(key), who, now=manager.core.clock() + begins)
    client = manager._tls_client(manager.context("ann", signed, key))
    with pytest.raises((aiohttp.ClientConnectionError, ssl.SSLError)):
        await client.ask("GET", "/nodes")


async def test_nobody_but_a_manager_passes_for_one(manager: RunningManager) -> None:
    """A stolen node's certificate must not serve to catch other agents."""
    joined = await manager.join("n1")
    as_server = pki.server_context(str(joined.certificate), str(joined.key), manager.ca)
    client = pki.client_context(manager.ca)
    incoming, outgoing, back = ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(incoming, outgoing)
    answering = as_server.wrap_bio(outgoing, back, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        asking.do_handshake()
    with pytest.raises(ssl.SSLWantReadError):
        answering.do_handshake()
    incoming.write(back.read())
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        asking.do_handshake()


async def test_the_socket_is_its_owners_alone(manager: RunningManager) -> None:
    assert manager.settings.socket.stat().st_mode & 0o777 == 0o600


async def test_the_key_of_a_manager_is_its_owners_alone(manager: RunningManager) -> None:
    assert (manager.settings.data / "manager-key.pem").stat().st_mode & 0o777 == 0o600


async def test_managers_that_start_at_once_found_one_cluster(servers: Servers) -> None:
    servers.restore()
    await emptied(servers)
    async with Etcd.connect(servers.endpoints) as etcd:
        founded = await asyncio.gather(*(found(etcd, now=1_800_000_000.0) for _ in range(8)))
    assert len({(authority.cluster, authority.ca.certificate, authority.ca.key) for authority in founded}) == 1


async def test_of_several_managers_one_leads_and_all_take_the_same_callers(
    manager: RunningManager, servers: Servers, tmp_path: Path
) -> None:
    async with running_manager(servers, tmp_path, "m2") as second:
        client = await manager.client()
        await until(lambda: manager.core.presence.leading)
        await until(lambda: len(second.core.state.managers) == 2)
        assert not second.core.presence.leading
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client.tls or True)) as session:
            async with session.get(f"{second.base}/v1/cluster") as response:
                managers = (await response.json())["managers"]
        assert [(one["name"], one["leader"]) for one in managers] == [("m1", True), ("m2", False)]


async def test_another_manager_leads_when_the_first_one_stops(servers: Servers, tmp_path: Path) -> None:
    servers.restore()
    await emptied(servers)
    async with AsyncExitStack() as first:
        one = await first.enter_async_context(running_manager(servers, tmp_path, "m1"))
        await until(lambda: one.core.presence.leading)
        async with running_manager(servers, tmp_path, "m2") as two:
            await first.aclose()
            await until(lambda: two.core.presence.leading)
            await until(lambda: len(two.core.state.managers) == 1)
