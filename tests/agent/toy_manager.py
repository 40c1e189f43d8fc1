"""A manager as far as an agent can tell: TLS, the join routes, and a session that tests conduct by hand."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import msgspec
from aiohttp import WSMsgType, web

from cluster import pki
from cluster.errors import Conflict
from cluster.membership import CertificateReply, JoinReply, JoinRequest, RenewalRequest
from cluster.protocol import (
    STREAM_END,
    STREAM_ERROR,
    Beat,
    Hello,
    Recorded,
    Statuses,
    ToAgent,
    ToManager,
    Welcome,
    decode_to_manager,
    encode,
)
from cluster.views import ErrorBody
from tests.agent.builders import CLUSTER, NODE
from tests.patience import PATIENCE

M = TypeVar("M", bound=ToManager)
BEAT = 0.1

SO_ATTACH_FILTER, BPF_RET = 26, 6


class ToyManager:
    """`sessions` fills with each session that an agent opens; join requests are granted, or refused with `conflict`."""

    def __init__(self, folder: Path, authority: pki.Authority) -> None:
        self.authority = authority
        self.url = ""
        self.sessions: asyncio.Queue[ToySession] = asyncio.Queue()
        self.asked: list[JoinRequest] = []
        self.conflict: Conflict | None = None
        self.shown_ca = authority.certificate
        self.age = 0.0
        """How many seconds ago the certificates were made that joining nodes get."""
        self.shown: list[bytes] = []
        """The certificates with which others were asked for, as DER."""
        self.streams: dict[str, list[bytes]] = {}
        self.stream_ended = asyncio.Event()
        self.after_stream: WSMsgType | None = None
        """What came after the last frame of a stream, when the manager had said something: PONG from who waits."""
        self._folder = folder
        self._open: set[ToySession] = set()

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[ToyManager]:
        app = web.Application()
        app.add_routes(
            [
                web.get("/v1/ca", self._ca),
                web.post("/v1/join", self._join),
                web.post("/v1/self/certificate", self._renew),
                web.get("/v1/agent/session", self._session),
                web.get("/v1/agent/streams/{ticket}", self._stream),
            ]
        )
        key, certificate = self._folder / "m-key.pem", self._folder / "m.pem"
        key.write_text(pki.new_key())
        who = pki.Identity(CLUSTER, "manager", "m", "manager")
        csr = pki.new_csr(key.read_text())
        certificate.write_text(pki.issue(self.authority, csr, who, now=time.time(), hosts=("127.0.0.1",)))
        context = pki.server_context(str(certificate), str(key), self.authority.certificate)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=context)
        await site.start()
        self.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            for session in tuple(self._open):
                await session.cut()
            await runner.cleanup()

    async def session(self) -> ToySession:
        """Wait for the next session that an agent opens; its hello is read, no more is said."""
        async with asyncio.timeout(PATIENCE):
            return await self.sessions.get()

    async def welcomed(self, epoch: int = 1, **fields: object) -> ToySession:
        session = await self.session()
        await session.welcome(epoch, **fields)
        return session

    async def _ca(self, request: web.Request) -> web.Response:
        return web.Response(text=self.shown_ca)

    async def _join(self, request: web.Request) -> web.Response:
        asked = msgspec.json.decode(await request.read(), type=JoinRequest)
        self.asked.append(asked)
        if self.conflict is not None:
            body = ErrorBody(self.conflict.message, self.conflict.hint, "Conflict")
            return web.Response(status=409, body=msgspec.json.encode(body))
        who = pki.Identity(CLUSTER, "node", pki.key_digest(asked.csr), "worker")
        signed = pki.issue(self.authority, asked.csr, who, now=time.time() - self.age)
        return web.json_response(asdict(JoinReply(who.name, CLUSTER, "worker", signed, self.authority.certificate)))

    async def _renew(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        shown: bytes = request.transport.get_extra_info("ssl_object").getpeercert(True)
        self.shown.append(shown)
        asked = msgspec.json.decode(await request.read(), type=RenewalRequest)
        signed = pki.issue(self.authority, asked.csr, pki.identity(shown), now=time.time())
        return web.json_response(asdict(CertificateReply(signed, self.authority.certificate)))

    async def _session(self, request: web.Request) -> web.WebSocketResponse:
        opened = web.WebSocketResponse()
        await opened.prepare(request)
        session = ToySession(opened)
        self._open.add(session)
        try:
            await session.listen(self.sessions)
        finally:
            self._open.discard(session)
        return opened

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        """Read a stream to its last frame, see what the agent does when it is asked for a word then, and hang up."""
        opened = web.WebSocketResponse(autoping=False)
        await opened.prepare(request)
        frames = self.streams.setdefault(request.match_info["ticket"], [])
        while not frames or frames[-1][:1] not in (STREAM_END, STREAM_ERROR):
            frames.append(await opened.receive_bytes())
        await opened.ping()
        self.after_stream = (await opened.receive()).type
        await opened.close()
        self.stream_ended.set()
        return opened


class ToySession:
    """One session, seen from the manager."""

    def __init__(self, opened: web.WebSocketResponse) -> None:
        self._socket = opened
        self.hello: Hello
        self.heard: list[ToManager] = []
        self._news = asyncio.Condition()
        self._is_off = False

    async def listen(self, sessions: asyncio.Queue[ToySession]) -> None:
        async for frame in self._socket:
            if frame.type is not WSMsgType.BINARY:
                continue
            message = decode_to_manager(frame.data)
            if isinstance(message, Hello):
                self.hello = message
                sessions.put_nowait(self)
            async with self._news:
                self.heard.append(message)
                self._news.notify_all()

    async def say(self, *messages: ToAgent) -> None:
        for message in messages:
            await self._socket.send_bytes(encode(message))

    async def welcome(self, epoch: int = 1, **fields: object) -> None:
        said = {"version": 1, "cluster": CLUSTER, "node": NODE, "epoch": epoch, "beat_interval": BEAT, **fields}
        await self.say(Welcome(**said))  # type: ignore[arg-type]

    async def hear(self, kind: type[M], condition: Callable[[M], bool] = lambda _: True) -> M:
        """Wait until a message of that kind has come that fulfils the condition."""

        def found() -> M | None:
            return next((m for m in self.heard if isinstance(m, kind) and condition(m)), None)

        try:
            async with asyncio.timeout(PATIENCE), self._news:
                await self._news.wait_for(lambda: found() is not None)
        except TimeoutError:
            raise AssertionError(f"not heard: {kind.__name__}; heard: {self.heard}") from None
        message = found()
        assert message is not None
        return message

    async def record(self, statuses: Statuses) -> None:
        await self.say(Recorded(statuses.sequence))

    def count(self, kind: type[ToManager]) -> int:
        return sum(isinstance(message, kind) for message in self.heard)

    @property
    def _transport(self) -> asyncio.Transport:
        assert self._socket._req is not None
        transport = self._socket._req.transport
        assert isinstance(transport, asyncio.Transport)
        return transport

    def freeze(self) -> None:
        """Read nothing more and answer nothing, not even pings."""
        self._transport.pause_reading()

    def lose_power(self) -> None:
        """Have the kernel at this end, too, take nothing and answer nothing any more, as that of a host that is off."""
        drop_all = ctypes.create_string_buffer(struct.pack("=HBBI", BPF_RET, 0, 0, 0))
        program = struct.pack("@HP", 1, ctypes.addressof(drop_all))
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        self._is_off = True

    async def cut(self) -> None:
        """Close the connection without a word."""
        if self._is_off:
            self._transport.abort()
        else:
            await self._socket.close()

    async def beats(self, more: int) -> Beat:
        """Wait for so many more beats; gives the last one."""
        wanted = self.count(Beat) + more
        await self.hear(Beat, lambda _: self.count(Beat) >= wanted)
        return [message for message in self.heard if isinstance(message, Beat)][-1]
