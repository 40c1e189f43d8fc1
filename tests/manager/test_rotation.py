"""The CA is rotated under real managers and what an agent has of credentials: nothing that is open is cut."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import msgspec
import pytest

from agent import credentials
from agent.credentials import Credentials
from agent.trust import Trust
from cluster import pki
from cluster.model.cluster import TrustPhase
from cluster.protocol import OLDEST_VERSION, VERSION, Beat, Hello, Roots, Welcome, decode_to_agent, encode
from manager.authority import CA_KEY, CaRecord
from tests.agent.test_session import Agent
from tests.etcd_server import Servers, running
from tests.manager.managers import Client, RunningManager, description, emptied, running_manager, until

pytestmark = pytest.mark.etcd


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with running("3.4") as servers:
        yield servers


@pytest.fixture
async def manager(servers: Servers, tmp_path: Path) -> AsyncIterator[RunningManager]:
    await emptied(servers)
    async with running_manager(servers, tmp_path) as manager:
        await until(lambda: manager.core.presence.leading)
        yield manager


@pytest.fixture
async def second(manager: RunningManager, servers: Servers, tmp_path: Path) -> AsyncIterator[RunningManager]:
    async with running_manager(servers, tmp_path, "m2") as second:
        await until(lambda: len(manager.core.state.managers) == 2)
        yield second


class Node:
    """What of an agent has to do with the CA, of the real one, and a session that does nothing else."""

    def __init__(self, held: Credentials, manager: RunningManager) -> None:
        self.credentials = held
        self.manager = manager
        self.ended = asyncio.Event()

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Node]:
        """Hold one session; `ended` is set when that ends before the block does."""
        trust = Trust(self.credentials, lambda: (self.manager.base,))
        async with aiohttp.ClientSession() as http:
            where = f"{self.manager.base}/v1/agent/session"
            async with http.ws_connect(where, ssl=self.credentials.context()) as socket:
                await socket.send_bytes(encode(Hello(OLDEST_VERSION, VERSION, description())))
                work = [asyncio.create_task(each) for each in (
                    trust.run(), self._listen(socket, trust), self._tell(socket, trust), self._beat(socket)
                )]  # fmt: skip
                try:
                    yield self
                    assert not self.ended.is_set()
                finally:
                    for task in work:
                        task.cancel()
                    await asyncio.wait(work)

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse, trust: Trust) -> None:
        async for frame in socket:
            message = decode_to_agent(frame.data)
            assert not isinstance(message, Welcome) or message.node == self.credentials.identity.name
            if isinstance(message, Roots):
                trust.learn(message.roots)
        self.ended.set()

    async def _tell(self, socket: aiohttp.ClientWebSocketResponse, trust: Trust) -> None:
        while True:
            await socket.send_bytes(encode(await trust.take()))

    async def _beat(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await socket.send_bytes(encode(Beat()))
            await asyncio.sleep(0.5)


async def joined(manager: RunningManager, directory: Path, name: str = "n1") -> Node:
    tokens = await manager.local().get("/join-tokens")
    folder = directory / f"agent-{name}"
    folder.mkdir()
    return Node(await credentials.join(folder, (manager.base,), tokens["worker"], name), manager)


async def rotate(manager: RunningManager) -> None:
    answer = await manager.local().ask("POST", "/ca/rotation")
    assert answer.status == 200 and answer.body["phase"] == "spreading", answer


async def comes_to(manager: RunningManager, phase: TrustPhase) -> None:
    """Wait until that phase has begun, and all managers go by it."""

    def there() -> bool:
        trust, managers = manager.core.state.trust, manager.core.state.managers.values()
        return trust is not None and trust.phase is phase and {one.trust for one in managers} == {trust.generation}

    await until(there)


async def dials(manager: RunningManager, tls: ssl.SSLContext) -> bool:
    """Tell whether a new connection with that context is one that both sides trust."""
    async with aiohttp.ClientSession() as http:
        try:
            async with http.get(f"{manager.base}/v1/ping", ssl=tls) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, OSError):
            return False


async def missing(root: Client) -> dict[str, str]:
    return {one["name"]: one["why"] for one in (await root.get("/ca/rotation"))["missing"]}


async def outdated(root: Client) -> dict[str, bool]:
    """Which invitations are listed as being of a root that signs no more."""
    return {one["id"]: one["outdated"] for one in await root.get("/tokens") if not one["standing"]}


async def test_all_get_certificates_of_a_new_root_and_the_old_one_is_trusted_no_more(
    manager: RunningManager, second: RunningManager, tmp_path: Path
) -> None:
    root, node = manager.local(), await joined(manager, tmp_path)
    other = await joined(manager, tmp_path, "n2")
    other.manager = second
    old_ca, old_token = manager.ca, (await root.get("/join-tokens"))["worker"]
    key, cert, ca = (node.credentials.directory / name for name in ("key.pem", "node.pem", "ca.pem"))
    old = pki.client_context(old_ca, *map(str, manager.files("old", cert.read_text(), key.read_text())))
    robot = await manager.user("robot", "viewer")
    invitation = (await root.ask("POST", "/tokens", {})).body
    assert await outdated(root) == {invitation["id"]: False}
    assert await dials(manager, old)
    async with node.connected(), other.connected():
        await rotate(manager)
        await comes_to(manager, TrustPhase.SETTLED)
        await until(lambda: pki.certificates(ca.read_text()) == manager.core.state.trust.roots)  # type: ignore[union-attr]
        await until(lambda: second.core.authority.trust == manager.core.authority.trust)
        # what is open goes on, and each finds the others over new connections
        for held in (node, other):
            assert held.credentials.signer() == pki.ca_digest(held.credentials.roots()[0]) != pki.ca_digest(old_ca)
            for one in (manager, second):
                assert await dials(one, held.credentials.context())
        for one, whom in ((manager, second), (second, manager)):
            async with one.core.others.get(f"{whom.base}/v1/sealing-keys") as answer:
                assert answer.status in (200, 503), "a manager is known for one, whether or not there are keys"
    # what is of the old root is refused, also by who knows only that, and a user's token is good still
    for one in (manager, second):
        await until(lambda one=one: one.core.presence.manager.trust == one.core.authority.trust.generation)  # type: ignore[misc]
        assert not await dials(one, old)
        assert await dials(one, pki.client_context(old_ca)), "it is told who signs now, by the cross-certificate"
    assert (await robot.ask("GET", "/me")).status == 200
    for token in (old_token, invitation["token"]):
        asked = {"token": token, "csr": pki.new_csr(pki.new_key()), "name": "n3"}
        refused = await manager.anonymous().ask("POST", "/join", asked)
        assert refused.status == 403 and "from before the CA was rotated" in refused.body["error"]
    fresh = (await root.ask("POST", "/tokens", {})).body
    assert await outdated(root) == {invitation["id"]: True, fresh["id"]: False}
    await joined(manager, tmp_path, "n3")
    stored = await manager.core.etcd.get(CA_KEY)
    assert stored is not None
    record = msgspec.json.decode(stored.value, type=CaRecord)
    assert record.certificate == manager.ca != old_ca and record.coming is None, "the old key is nowhere"
    view = await root.get("/ca/rotation")
    assert view["missing"] == [] and [one["digest"] for one in view["roots"]] == [pki.ca_digest(manager.ca)]
    assert "ca rotate" in [entry["does"] for entry in await root.get("/audit")]


async def test_a_node_that_was_away_keeps_the_old_root_until_it_has_come(
    manager: RunningManager, tmp_path: Path
) -> None:
    away, root = await joined(manager, tmp_path), manager.local()
    old_ca = manager.ca
    await rotate(manager)
    await comes_to(manager, TrustPhase.RENEWING)
    assert await missing(root) == {"n1": "it has never been connected"}
    assert (await root.ask("POST", "/ca/rotation")).status == 409
    refused = await root.ask("POST", "/ca/rotation/finish")
    assert refused.status == 409 and "the node n1 (it has never been connected)" in refused.body["error"]
    # it knows nothing of the new root, and is let in by the old one
    assert away.credentials.roots() == (old_ca,)
    async with away.connected():
        await comes_to(manager, TrustPhase.SETTLED)
        await until(lambda: away.credentials.roots() == (manager.ca,))
    async with away.connected():
        assert manager.ca != old_ca


async def test_who_leaves_a_node_and_a_person_out_says_so(
    manager: RunningManager, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left, root, ann = await joined(manager, tmp_path), manager.local(), await manager.client()
    await rotate(manager)
    await comes_to(manager, TrustPhase.RENEWING)
    assert (await ann.ask("GET", "/me")).status == 200
    told = await missing(root)
    assert told.pop("n1") and list(told.values()) == ["it is of the old root"]
    answer = await root.ask("POST", "/ca/rotation/finish?force=true")
    assert answer.status == 200 and answer.body["phase"] == "settled"
    await until(lambda: manager.core.authority.trust.phase is TrustPhase.SETTLED)
    await until(lambda: manager.core.presence.manager.trust == manager.core.authority.trust.generation)
    assert not await dials(manager, left.credentials.context())
    assert ann.tls is not None and not await dials(manager, ann.tls)
    async with Agent(left.credentials, manager.base).running():
        await until(lambda: "the cluster's CA was rotated without this node" in caplog.text)
    before = left.credentials.identity
    tokens = await root.get("/join-tokens")
    again = await credentials.join(left.credentials.directory, (manager.base,), tokens["worker"], "n1")
    assert again.identity == before and await dials(manager, again.context())
    # the next rotation waits for those of this root, and no more for who was left out
    await manager.client("bob")
    await rotate(manager)
    await comes_to(manager, TrustPhase.RENEWING)
    assert [name.rpartition(" ")[2] for name in await missing(root)] == ["n1", "bob"]


async def test_a_node_that_knows_only_a_later_root_is_told_how_it_comes_to_the_restored_cluster(
    manager: RunningManager, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held = (await joined(manager, tmp_path)).credentials
    ca, cert, key = (held.directory / name for name in ("ca.pem", "node.pem", "key.pem"))
    later = pki.new_authority(held.identity.cluster, now=time.time())
    ca.write_text(later.certificate)
    cert.write_text(pki.issue(later, pki.new_csr(key.read_text()), held.identity, now=time.time()))
    held = replace(held, tls=pki.client_context(later.certificate, str(cert), str(key)))
    async with Agent(held, manager.base).running():
        await until(lambda: "a root of this cluster's CA that this node does not know" in caplog.text)
    assert "`stack join` on this host moves the node there" in caplog.text
    foreign = replace(held, identity=replace(held.identity, cluster="other"))
    assert not await credentials.claims_kinship(foreign, manager.base)


async def test_another_manager_goes_on_where_the_leader_ended(servers: Servers, tmp_path: Path) -> None:
    await emptied(servers)
    async with running_manager(servers, tmp_path) as first:
        node = await joined(first, tmp_path)
        await rotate(first)
        await comes_to(first, TrustPhase.RENEWING)
    async with running_manager(servers, tmp_path, "m2") as second:
        assert second.core.authority.trust.phase is TrustPhase.RENEWING
        node.manager = second
        async with node.connected():
            await comes_to(second, TrustPhase.SETTLED)
            await until(lambda: node.credentials.roots() == (second.ca,))
