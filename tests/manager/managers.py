"""Real managers for tests: on a real etcd, with real TLS, and whoever may call them."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from cluster import pki
from cluster.codec import key_of
from cluster.model.node import NodeDescription
from manager.api.core import Core
from manager.etcd import Etcd, delete, delete_prefix
from manager.main import Settings, managing
from tests.etcd_server import Servers, loopback_address
from tests.patience import PATIENCE


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Any


class Client:
    """Sends requests with one certificate, or by the UNIX socket, or with neither."""

    def __init__(
        self, base: str, connector: aiohttp.BaseConnector, tls: ssl.SSLContext | None, token: str = ""
    ) -> None:
        self.base = base
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.http = aiohttp.ClientSession(connector=connector, headers=headers)
        self.tls = tls

    async def ask(self, method: str, path: str, body: Any = None, raw: bytes | None = None) -> Answer:
        data = raw if raw is not None else None if body is None else msgspec.json.encode(body)
        async with self.http.request(method, f"{self.base}/v1{path}", data=data) as response:
            content = await response.read()
            is_json = response.content_type == "application/json"
            return Answer(response.status, msgspec.json.decode(content) if is_json else content.decode())

    async def get(self, path: str) -> Any:
        answer = await self.ask("GET", path)
        assert answer.status == 200, answer
        return answer.body

    async def lines(self, path: str) -> AsyncIterator[Any]:
        async with self.http.get(f"{self.base}/v1{path}") as response:
            assert response.status == 200, await response.text()
            async for line in response.content:
                if line.strip():
                    yield msgspec.json.decode(line)


@dataclass(frozen=True, slots=True)
class Joined:
    """A node that has joined: its id and the files of its certificate."""

    id: str
    name: str
    certificate: Path
    key: Path


class RunningManager:
    """One manager in this process, and ways to call it."""

    def __init__(self, core: Core, settings: Settings, directory: Path) -> None:
        self.core = core
        self.settings = settings
        self.directory = directory
        self.base = f"https://{settings.listen[0]}:{settings.listen[1]}"
        self._clients: list[Client] = []

    @property
    def ca(self) -> str:
        return self.core.authority.ca.certificate

    async def close(self) -> None:
        for client in self._clients:
            await client.http.close()

    def anonymous(self) -> Client:
        return self._tls_client(pki.client_context(self.ca))

    def local(self) -> Client:
        connector = aiohttp.UnixConnector(str(self.settings.socket))
        return self._add(Client("http://manager", connector, None))

    async def client(self, name: str = "ann") -> Client:
        key = pki.new_key()
        answer = await self.local().ask("POST", "/certificates", {"csr": pki.new_csr(key), "name": name})
        assert answer.status == 200, answer
        return self._tls_client(self.context(name, answer.body["certificate"], key))

    async def user(self, name: str, role: str, *stacks: str, **more: Any) -> Client:
        """Make a user, and give what it asks with: its token."""
        request = {"name": name, "role": role, "stacks": stacks} | more
        answer = await self.local().ask("POST", "/users", request)
        assert answer.status == 200, answer
        return self.bearer(answer.body["token"])

    def bearer(self, token: str) -> Client:
        tls = pki.client_context(self.ca)
        return self._add(Client(self.base, aiohttp.TCPConnector(ssl=tls), tls, token))

    async def join(self, name: str, key: str | None = None) -> Joined:
        key = key or pki.new_key()
        tokens = await self.local().get("/join-tokens")
        request = {"token": tokens["worker"], "csr": pki.new_csr(key), "name": name}
        answer = await self.anonymous().ask("POST", "/join", request)
        assert answer.status == 200, answer
        files = self.files(name, answer.body["certificate"], key)
        return Joined(answer.body["node"], name, *files)

    def node(self, joined: Joined) -> Client:
        return self._tls_client(pki.client_context(self.ca, str(joined.certificate), str(joined.key)))

    def context(self, name: str, certificate: str, key: str) -> ssl.SSLContext:
        files = self.files(name, certificate, key)
        return pki.client_context(self.ca, str(files[0]), str(files[1]))

    def files(self, name: str, certificate: str, key: str) -> tuple[Path, Path]:
        paths = self.directory / f"{name}.pem", self.directory / f"{name}-key.pem"
        paths[0].write_text(certificate)
        paths[1].write_text(key)
        return paths

    def _tls_client(self, tls: ssl.SSLContext) -> Client:
        return self._add(Client(self.base, aiohttp.TCPConnector(ssl=tls), tls))

    def _add(self, client: Client) -> Client:
        self._clients.append(client)
        return client


@asynccontextmanager
async def running_manager(servers: Servers, directory: Path, name: str = "m1") -> AsyncIterator[RunningManager]:
    """A whole manager, leading or not or locked, that serves on a loopback address of its own."""
    directory = directory / name
    directory.mkdir(exist_ok=True)
    where = (loopback_address(), 2377)
    settings = Settings(name, directory / "data", directory / "m.sock", where, where, servers.endpoints)
    async with managing(settings) as core:
        manager = RunningManager(core, settings, directory)
        await until(lambda: core.presence.held.is_set() or not core.vault.unlocked.is_set())
        try:
            yield manager
        finally:
            await manager.close()


async def silenced(servers: Servers, manager: RunningManager) -> None:
    """Have the others think of a manager as they do when it is frozen: its record goes with its lease."""
    async with Etcd.connect(servers.endpoints) as etcd:
        await etcd.txn((), (delete(key_of(manager.core.presence.manager)),))


async def emptied(servers: Servers) -> None:
    """Take all that a test before has left out of etcd."""
    async with Etcd.connect(servers.endpoints) as etcd:
        await etcd.txn((), (delete_prefix("/stackyard/"),))


async def until(true: Callable[[], Any]) -> None:
    """Wait for something of which no event tells."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.01)


def description(name: str = "n1", address: str = "127.0.0.1") -> NodeDescription:
    return NodeDescription(hostname=name, address=address, agent_version="0", boot_id="1")
