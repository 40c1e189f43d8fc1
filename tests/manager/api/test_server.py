"""Taking connections on TCP: handshakes a few at a time, and no client that keeps the others out."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from cluster import pki
from cluster.errors import Failed
from manager.api import server
from manager.api.callers import ANONYMOUS, SCOPE_KEY, Caller, of_certificate
from tests.patience import PATIENCE

CLUSTER = "c1"
Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]

ASKING, ENDLESS = (f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in ("/", "/endless"))
FEW = 4
MADE = server.Connections


class Door:
    """A server on a port of its own: / answers with the name of the caller, /endless until its client has gone."""

    def __init__(self, port: int, tls: ssl.SSLContext, stranger: ssl.SSLContext, ended: asyncio.Event) -> None:
        self.port, self.stranger, self.ended = port, stranger, ended
        self.writers: list[asyncio.StreamWriter] = []
        self._tls = tls

    async def enter(self, request: bytes = b"") -> Opened:
        """Connect without a certificate, and say so much."""
        opened = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.stranger)
        self.writers.append(opened[1])
        opened[1].write(request)
        return opened

    async def begin(self, connected: socket.socket) -> None:
        """Begin to speak TLS, without a certificate."""
        named = await asyncio.open_connection(sock=connected, ssl=self.stranger, server_hostname="127.0.0.1")
        self.writers.append(named[1])

    async def ask(self) -> str:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._tls)) as http:
            async with http.get(f"https://127.0.0.1:{self.port}/") as answer:
                return await answer.text()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have servers that are made from now on hold few connections of an address."""
    monkeypatch.setattr(server, "Connections", lambda: MADE(10 * FEW, FEW))


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with opened(tmp_path) as door:
        yield door


@asynccontextmanager
async def opened(tmp_path: Path) -> AsyncIterator[Door]:
    authority = pki.new_authority(CLUSTER, now=time.time())

    def certificate(identity: pki.Identity) -> tuple[str, str]:
        key = pki.new_key()
        paths = tmp_path / f"{identity.name}.pem", tmp_path / f"{identity.name}-key.pem"
        paths[0].write_text(pki.issue(authority, pki.new_csr(key), identity, hosts=("127.0.0.1",), now=time.time()))
        paths[1].write_text(key)
        return str(paths[0]), str(paths[1])

    async def who(request: Request) -> PlainTextResponse:
        caller: Caller = request.scope[SCOPE_KEY]
        return PlainTextResponse(caller.name)

    ended = asyncio.Event()

    async def zeros() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(65536)
                await asyncio.sleep(0)  # to one that has gone, all can be sent at once
        finally:
            ended.set()

    async def endless(request: Request) -> StreamingResponse:
        return StreamingResponse(zeros())

    app = Starlette(routes=[Route("/", who), Route("/endless", endless)])
    mine = certificate(pki.Identity(CLUSTER, "manager", "m1", "manager"))
    theirs = certificate(pki.Identity(CLUSTER, "node", "n1", "worker"))
    tls = pki.server_context(*mine, authority.certificate)
    async with server.serving_tls(app, "127.0.0.1", 0, lambda: tls, lambda peer: of_certificate(CLUSTER, peer)) as port:
        contexts = pki.client_context(authority.certificate, *theirs), pki.client_context(authority.certificate)
        entered = Door(port, *contexts, ended)
        yield entered
        for writer in entered.writers:
            writer.transport.abort()


@pytest.mark.parametrize("silent", [False, True], ids=["as they come", "after all were silent for a while"])
async def test_many_who_begin_at_once_are_taken_a_few_at_a_time(
    door: Door, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    shaking, most = 0, 0
    shake_hands = server._Server._shake_hands

    async def counted(self: server._Server, connection: socket.socket, tls: ssl.SSLContext) -> None:
        nonlocal shaking, most
        shaking += 1
        most = max(most, shaking)
        await shake_hands(self, connection, tls)
        shaking -= 1

    monkeypatch.setattr(server._Server, "_shake_hands", counted)
    monkeypatch.setattr(server, "HANDSHAKE_PATIENCE", 60.0)
    if silent:
        opened = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(5 * server.HANDSHAKES)]
        assert await door.ask() == "n1"  # all of them have been taken
        most = 0
        monkeypatch.setattr(server, "HANDSHAKE_PATIENCE", 60.0)
        await asyncio.gather(*map(door.begin, opened))
    else:
        answers = await asyncio.gather(*(door.ask() for _ in range(5 * server.HANDSHAKES)))
        assert set(answers) == {"n1"} and len(answers) == 5 * server.HANDSHAKES
    assert 1 < most <= server.HANDSHAKES


async def test_those_who_say_nothing_keep_nobody_out(door: Door) -> None:
    with ExitStack() as stack:
        for _ in range(2 * server.HANDSHAKES):
            stack.enter_context(socket.create_connection(("127.0.0.1", door.port)))
        assert await door.ask() == "n1"


async def test_those_who_say_nothing_are_let_go_of_when_the_server_ends(tmp_path: Path) -> None:
    async with opened(tmp_path) as door:
        silent = socket.create_connection(("127.0.0.1", door.port))
        assert await door.ask() == "n1"  # by then it was taken
    silent.settimeout(PATIENCE)
    with silent:
        assert silent.recv(1) == b""


async def test_one_who_speaks_no_tls_does_the_others_no_harm(door: Door) -> None:
    with socket.create_connection(("127.0.0.1", door.port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert await door.ask() == "n1"


async def test_of_those_at_rest_at_one_address_only_so_many_stay(few: None, door: Door) -> None:
    first = await door.enter()
    asking = await door.enter(ENDLESS)
    await asking[0].readexactly(1)  # it is at work now
    for _ in range(FEW):
        last = await door.enter()
    async with asyncio.timeout(PATIENCE):
        assert await first[0].read() == b"", "it rested longest"
    assert await asking[0].readexactly(1)
    last[1].write(ASKING)
    async with asyncio.timeout(PATIENCE):
        assert b" 200 " in await last[0].readline(), "the newest has its turn"
    assert await door.ask() == "n1"


async def test_agents_come_in_where_all_others_are_at_work(few: None, door: Door) -> None:
    held = [await door.enter(ENDLESS) for _ in range(FEW)]
    for reader, _ in held:
        await reader.readexactly(1)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        refused, _ = await door.enter(ASKING)
        async with asyncio.timeout(PATIENCE):
            await refused.readexactly(1)
    for _ in range(2 * FEW):
        assert await door.ask() == "n1"
    assert all([await reader.readexactly(1) for reader, _ in held])


async def test_who_takes_nothing_of_an_answer_is_cut_off(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STALL_TIMEOUT", 0.5)
    _, writer = await door.enter()
    transport = writer.transport
    assert isinstance(transport, asyncio.ReadTransport)
    transport.pause_reading()
    writer.write(ENDLESS)
    async with asyncio.timeout(PATIENCE):
        await door.ended.wait()
    assert await door.ask() == "n1"


async def test_a_port_that_is_taken_is_said_at_once(door: Door) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(Failed, match=f"cannot listen on 127.0.0.1 port {door.port}"):
        async with server.serving_tls(Starlette(), "127.0.0.1", door.port, lambda: tls, lambda peer: ANONYMOUS):
            pass
