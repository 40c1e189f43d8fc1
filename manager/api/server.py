"""Serves one application on TCP with mutual TLS and on a UNIX socket, and tells it who is at the other end.

uvicorn verifies client certificates and then hides them: a mixin over its protocol classes reads the certificate when
a connection is made. Should uvicorn ever offer it in the scope, only this file changes. It also takes all connections
that come at once, and would do a thousand handshakes in one go: those on TCP are accepted here, a few at a time, and
only so many stay (`manager.crowd`).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Generator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

from cluster.errors import Failed
from cluster.protocol import MAX_FRAME
from manager.api.callers import LOCAL, SCOPE_KEY, Caller, CallerKind
from manager.crowd import Crowd
from manager.turns import Turns

log = logging.getLogger(__name__)

END_TIMEOUT = 5
"""Seconds that open requests get to end when the server stops."""

LARGEST_HEAD = 64 * 1024
"""Bytes of a request's line and headers: its memory is taken before anybody is known to have a right to ask."""

HEAD_TIMEOUT = 20.0
"""Seconds in which the head of a request has to come."""

STALL_TIMEOUT = 300.0
"""Seconds after which whoever takes nothing of an answer is cut off: people read logs in a pager."""

TAKEN_EACH_ROUND, ROUND = 32, 0.005
"""Connections that are taken in one round of the event loop, and the seconds of it that they may use."""

HANDSHAKES = 8
"""TLS handshakes at a time: each takes the event loop a millisecond or two, and what comes after it some more."""

HANDSHAKE_PATIENCE = 0.1
"""Seconds for which a handshake counts as one of those: a client that is slow about it keeps no other one out."""

HANDSHAKE_TIMEOUT = 20.0

MOST_QUEUED = 4
"""Messages of a WebSocket that may wait for their reader before no more are taken from the other end."""

BACKLOG = 4096
TOLD_EVERY = 10.0
ACCEPT_PAUSE = 0.1
"""Seconds to wait when the kernel gives no connection, as when there are no more file descriptors."""


class Connections(Crowd[Any]):
    """Those of people and of strangers: a socket until its handshake is done, a transport from then on."""

    _told_at = -TOLD_EVERY

    def take(self, who: Any, address: str) -> None:
        """Count one in, and close the one that makes way for it.

        Handshakes go on in any case: an agent is known by its certificate only.
        """
        match self.enter(who, address):
            case None:
                return
            case socket.socket() as out:
                if out is not who:
                    with contextlib.suppress(OSError):
                        out.shutdown(socket.SHUT_RDWR)
            case out:
                out.abort()
        now = time.monotonic()
        if now - self._told_at >= TOLD_EVERY:
            self._told_at = now
            log.warning("there are too many connections, the newest from %s: those that rest are closed", address)


async def _with_caller(app: ASGIApp, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
    scope[SCOPE_KEY] = caller
    await app(scope, receive, send)


class _Bounded(HttpToolsProtocol):
    """uvicorn's protocol, with bounds that it does not have: on the size of a request's head and its time, and on the
    time for which a client may take nothing of what it asked for.
    """

    accepted: socket.socket | None = None
    """What it was while it shook hands."""
    _in_head: bool
    _head: int
    _late: asyncio.TimerHandle
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._late.cancel()
        self._go_on()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._go_on()
        self._stalled = self.loop.call_later(STALL_TIMEOUT, self._hang_up)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._go_on()

    def _go_on(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()

    def _hang_up(self) -> None:
        where = self.client[0] if self.client else "this host"
        log.warning("a client at %s took nothing of its answer for %g s and is cut off", where, STALL_TIMEOUT)
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._head += len(data)
            if self._head > LARGEST_HEAD and not self.transport.is_closing():
                self.send_400_response(f"The head of a request has {LARGEST_HEAD} bytes at most.")

    def on_message_begin(self) -> None:
        self._late.cancel()
        self._begin_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._late.cancel()
        self._in_head, self._head = False, 0
        super().on_headers_complete()

    def _begin_head(self) -> None:
        self._in_head, self._head = True, 0
        self._late = self.loop.call_later(HEAD_TIMEOUT, self.transport.close)


def _protocols(caller_of: Callable[[bytes | None], Caller], connections: Connections) -> tuple[type[Any], type[Any]]:
    """Make uvicorn's two protocol classes so that each request of a connection carries its caller."""

    class Known:
        app: Any
        transport: Any

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)  # type: ignore[misc]
            tls = transport.get_extra_info("ssl_object")
            caller = caller_of(tls.getpeercert(True) if tls is not None else None)
            self.app = functools.partial(_with_caller, self.app, caller)
            self.count(caller)

        def connection_lost(self, exc: Exception | None) -> None:
            connections.leave(self.transport)
            super().connection_lost(exc)  # type: ignore[misc]

        def count(self, caller: Caller) -> None:
            raise NotImplementedError

    class Http(Known, _Bounded):
        def count(self, caller: Caller) -> None:
            connections.leave(self.accepted)
            if caller.kind in (CallerKind.CLIENT, CallerKind.ANONYMOUS):
                connections.take(self.transport, self.client[0] if self.client else "")

        def on_headers_complete(self) -> None:
            connections.work(self.transport)
            super().on_headers_complete()

        def on_response_complete(self) -> None:
            if not self.pipeline:
                connections.rest(self.transport)
            super().on_response_complete()

    class WebSocket(Known, WebSocketsSansIOProtocol):
        def count(self, caller: Caller) -> None:
            """It was counted when it began as HTTP."""

        def send_receive_event_to_app(self) -> None:
            """Stop reading when several messages wait: uvicorn does at each one, which costs as much as reading it."""
            paused, self.read_paused = self.read_paused, True
            super().send_receive_event_to_app()
            self.read_paused = paused
            if not paused and self.queue.qsize() >= MOST_QUEUED:
                self.read_paused = True
                self.transport.pause_reading()

        def shutdown(self) -> None:
            try:
                super().shutdown()
            except InvalidState:  # it is being closed already, which uvicorn 0.54 does not expect
                self.transport.close()

    return Http, WebSocket


class _Server(uvicorn.Server):
    """Leaves the process's signals to the program, and tells when it is up."""

    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        super().__init__(config)
        self.connections = connections
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def admit(self, listener: socket.socket, tls: Callable[[], ssl.SSLContext]) -> None:
        """Take connections until cancelled; `tls` gives the context for each."""
        loop = asyncio.get_running_loop()
        rounds, turns = Turns(TAKEN_EACH_ROUND, ROUND), asyncio.Semaphore(HANDSHAKES)
        async with asyncio.TaskGroup() as group:
            while True:
                await rounds.take()
                async with turns:
                    pass  # those who have begun go first: till then, whoever comes waits with the kernel, uncounted
                try:
                    connection, (address, *_) = await loop.sock_accept(listener)
                except OSError as error:
                    log.warning("a connection cannot be taken: %s", error)
                    await asyncio.sleep(ACCEPT_PAUSE)
                    continue
                group.create_task(self._greet(connection, address, tls, turns))

    async def _greet(
        self, connection: socket.socket, address: str, tls: Callable[[], ssl.SSLContext], turns: asyncio.Semaphore
    ) -> None:
        """Shake hands once the other one has begun to, which is its turn while it is on its way."""
        self.connections.take(connection, address)
        with contextlib.ExitStack() as unless_it_begins:
            unless_it_begins.callback(connection.close)
            unless_it_begins.callback(self.connections.leave, connection)
            if not await _has_spoken(connection):
                return
            await turns.acquire()
            unless_it_begins.pop_all()
        async with asyncio.TaskGroup() as group:
            shaking = group.create_task(self._shake_hands(connection, tls()))
            try:
                await asyncio.wait({shaking}, timeout=HANDSHAKE_PATIENCE)
            finally:
                turns.release()

    async def _shake_hands(self, connection: socket.socket, tls: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                lambda: self._protocol(connection), connection, ssl=tls, ssl_handshake_timeout=HANDSHAKE_TIMEOUT
            )
        except OSError as error:  # of TLS, of the connection, or in time
            log.debug("a client did not get through its handshake: %s", error)
        finally:
            self.connections.leave(connection)

    def _protocol(self, accepted: socket.socket) -> _Bounded:
        """Make what uvicorn makes for each connection that it takes itself."""
        kind: Any = self.config.http_protocol_class
        made: _Bounded = kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        made.accepted = accepted
        return made


@contextlib.asynccontextmanager
async def serving_tls(
    app: ASGIApp,
    host: str,
    port: int,
    tls: Callable[[], ssl.SSLContext],
    caller_of: Callable[[bytes | None], Caller],
) -> AsyncIterator[int]:
    """Serve on TCP until the end of the block; gives the port, which was chosen by the kernel if it was 0."""
    listener = _listen(host, port)
    connections = Connections()
    http, websocket = _protocols(caller_of, connections)
    chosen = int(listener.getsockname()[1])
    with listener:
        async with _serving(_config(app, http, websocket), connections, sockets=[]) as server:
            async with asyncio.TaskGroup() as group:
                admitting = group.create_task(server.admit(listener, tls), name="admitting")
                yield chosen
                admitting.cancel()


@contextlib.asynccontextmanager
async def serving_local(app: ASGIApp, path: Path) -> AsyncIterator[None]:
    """Serve on a UNIX socket that only its owner can use, until the end of the block."""
    connections = Connections()
    http, websocket = _protocols(lambda _certificate: LOCAL, connections)
    _claim_path(path)
    try:
        async with _serving(_config(app, http, websocket, uds=str(path)), connections, sockets=None):
            yield
    finally:
        path.unlink(missing_ok=True)  # noqa: ASYNC240 (a memory file system, at the program's end)


@contextlib.asynccontextmanager
async def _serving(
    config: uvicorn.Config, connections: Connections, sockets: list[socket.socket] | None
) -> AsyncIterator[_Server]:
    server = _Server(config, connections)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(sockets), name="server")
        await server.up.wait()
        try:
            yield server
        finally:
            server.should_exit = True


def _config(app: ASGIApp, http: type[Any], websocket: type[Any], **where: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=http,
        ws=websocket,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ws_max_size=4 * MAX_FRAME,
        ws_per_message_deflate=False,
        ws_ping_interval=None,  # beats say more: a ping would blame an agent for this program's own stall
        timeout_graceful_shutdown=END_TIMEOUT,
        **where,
    )


async def _has_spoken(connection: socket.socket) -> bool:
    """Wait until there is something to read, or the end of it; for so long at most as a handshake may take."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT):
            await readable.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(connection)
    return True


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise Failed(
            f"cannot listen on {host} port {port}: {error.strerror}",
            hint="Give a free address of this host with --listen.",
        ) from error
    listener.setblocking(False)
    return listener


def _claim_path(path: Path) -> None:
    """Leave a private socket at `path` for uvicorn to replace: it keeps the permissions that it finds there."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
        else:
            raise Failed(f"another manager serves on {path}", hint="Stop it, or give another --socket.")
    mask = os.umask(0o177)
    try:
        with socket.socket(socket.AF_UNIX) as placeholder:
            placeholder.bind(str(path))
    except OSError as error:
        raise Failed(f"cannot make the socket {path}: {error.strerror}", hint="Give another --socket.") from error
    finally:
        os.umask(mask)
