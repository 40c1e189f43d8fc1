"""All sessions that this manager holds: lets agents in, judges silence, ends what is overtaken."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from cluster.channel import Purpose
from cluster.errors import StackyardError, Unavailable, UserError
from cluster.examination import Target
from cluster.model.node import Manager, Node, NodeState, Session, SessionState
from cluster.protocol import (
    KEEPS,
    OLDEST_VERSION,
    VERSION,
    Answer,
    Examined,
    Hello,
    ImagesResolved,
    LogsRequest,
    Measured,
    Refused,
    Welcome,
    decode_to_manager,
    encode,
)
from manager.etcd import Etcd
from manager.follow import Follower
from manager.latencies import Latencies
from manager.picture import Change, ClusterState
from manager.sessions.board import Board
from manager.sessions.examinations import Examinations
from manager.sessions.generations import Generations
from manager.sessions.images import Images
from manager.sessions.ledger import open_session
from manager.sessions.measurements import Measurements
from manager.sessions.session import BEAT_INTERVAL, GOING, OVERTAKEN, OVERTAKEN_REASON, REMOVED, AgentSession
from manager.sessions.streams import Stream, Streams
from manager.sessions.withdrawals import Withdrawals

log = logging.getLogger(__name__)

TICK = BEAT_INTERVAL / 4
STALL = 0.1
"""A tick that comes later than this was held up, and so was everything that agents have said meanwhile."""

ABSENCE = 5.0
"""Seconds without a lease after which agents are sent to another manager: for the others their sessions are over."""
ABSENT = "this manager has lost etcd, so that nothing can be recorded here"

HELLO_TIMEOUT = 10.0
PICTURE_TIMEOUT = 10.0


class Sessions:
    """What the agents of this manager's side of the cluster are attended by."""

    def __init__(
        self,
        etcd: Etcd,
        follower: Follower,
        *,
        cluster: str,
        manager: str,
        clock: Callable[[], float],
        lease: Callable[[], int] = lambda: 0,
        absent_for: Callable[[], float] = lambda: 0.0,
        life: str = "",
        roots: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        """`roots` gives those of the CA that agents are to trust, none where that is the one that they joined with."""
        self.streams = Streams()
        self._images, self._examinations, self._measurements = Images(), Examinations(), Measurements()
        self._etcd = etcd
        self._follower = follower
        self._board = Board(follower.state)
        self._withdrawals = Withdrawals(etcd, follower.state, manager, clock, lease)
        self.latencies = Latencies()
        self.generations = Generations(follower.state, manager, self._board.told, self.latencies.observe)
        self._cluster, self._life = cluster, life
        self._absent_for, self._roots = absent_for, roots
        self._manager = manager
        self._clock = clock
        self._held: dict[str, AgentSession] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Watch over the sessions until cancelled."""
        with self._follower.listening(self._changed):
            known = [Change(key, None, record) for key, record in self._follower.state.records()]
            self._board.changed(known)
            self._withdrawals.changed(known)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._withdrawals.run(), name="withdrawals")
                group.create_task(self._judge(), name="judging silence")

    async def _judge(self) -> None:
        while True:
            due = time.monotonic() + TICK
            await asyncio.sleep(TICK)
            stall = time.monotonic() - due
            for session in tuple(self._held.values()):
                if stall > STALL:
                    session.credit(stall)  # and what has come in meanwhile is read before the next tick
                else:
                    session.judge(time.monotonic())
            if self._is_absent:
                for session in tuple(self._held.values()):
                    self._see_to(session.send_away(ABSENT))
            if stall > BEAT_INTERVAL:
                log.warning("this program was held up for %.1f s; no agent is blamed for it", stall)

    @property
    def _is_absent(self) -> bool:
        return self._absent_for() > ABSENCE

    async def stop(self) -> None:
        """End all sessions, as this manager goes; agents find another one, or this one again."""
        for session in tuple(self._held.values()):
            await session.end(GOING)

    async def attend(self, socket: WebSocket, node: str) -> None:
        """Hold a session with the agent of `node` until it ends."""
        await socket.accept()
        try:
            session = await self._admit(socket, node)
        except WebSocketDisconnect:
            return
        except StackyardError as error:
            log.warning("node %s: refused: %s", node, error.message)
            await _refuse(socket, str(error), final=isinstance(error, UserError))
            return
        before = self._held.get(node)
        self._held[node] = session
        if roots := self._roots():
            session.tell_roots(roots)
        try:
            if before is not None:
                await before.end(OVERTAKEN, OVERTAKEN_REASON)
            await session.run()
        finally:
            if self._held.get(node) is session:
                del self._held[node]

    def tell_roots(self) -> None:
        """Have all agents of this manager's know that other roots of the CA are trusted."""
        for session in self._held.values():
            session.tell_roots(self._roots())

    @asynccontextmanager
    async def open_stream(self, node: str, request: LogsRequest) -> AsyncIterator[Stream]:
        """Have a node's agent open a stream. Raises Unavailable when this manager does not hold its session."""
        if not self.holds(node):
            raise Unavailable("its agent is not connected to this manager")
        session = self._held[node]
        async with self.streams.open(node, request, session.send) as stream:
            yield stream

    @asynccontextmanager
    async def open_channel(self, node: str, task: str, purpose: Purpose) -> AsyncIterator[WebSocket]:
        """Have a node's agent open a channel. Raises Unavailable when that cannot be had from this manager."""
        if not self.holds(node):
            raise Unavailable("its agent is not connected to this manager")
        session = self._held[node]
        if not session.opens_channels(purpose):
            raise Unavailable("the agent of its node is too old for that", hint="Bring the node to this release.")
        async with self.streams.open_channel(node, task, purpose, session.send) as socket:
            yield socket

    async def resolve(self, images: Sequence[str]) -> ImagesResolved:
        """Have a node of this manager's look up what images mean now, in a bounded time. Raises nothing."""
        able = [session for session in self._held.values() if session.resolves_images]
        return await self._images.resolve(images, able)

    async def examine(self, targets: Sequence[Target]) -> dict[str, Examined]:
        """Have the nodes of this manager's examined, with the ways to the targets, in a bounded time."""
        state = self._follower.state
        able = [one for one in self._held.values() if one.examines and not state.is_lost(one.node)]
        return await self._examinations.examine(able, targets)

    async def measure(
        self, tasks: Mapping[str, Sequence[str]], *, disk: bool = False, traffic: bool = False
    ) -> dict[str, Measured]:
        """Have nodes tell what these tasks of theirs use, or what lies on their disks. Raises nothing."""
        held = {node: self._held[node] for node in tasks if self.holds(node)}
        return await self._measurements.measure(held, tasks, disk=disk, traffic=traffic)

    def _answered(self, node: str, answer: Answer) -> None:
        match answer:
            case ImagesResolved():
                self._images.answered(node, answer)
            case Examined():
                self._examinations.answered(node, answer)
            case Measured():
                self._measurements.answered(node, answer)

    def holds(self, node: str) -> bool:
        return node in self._held and self._held[node].talks

    async def _admit(self, socket: WebSocket, node: str) -> AgentSession:
        hello = await _hello(socket)
        began = time.monotonic()
        version = self._check(hello)
        if self._is_absent:
            raise Unavailable(ABSENT)
        state = self._follower.state
        _check_address(state, node, hello.description.address)
        ledger = await open_session(self._etcd, state, node, self._manager, hello.description, self._clock, version)
        try:
            # Before the picture shows our own txn, it may be older than what another manager has sent already.
            async with asyncio.timeout(PICTURE_TIMEOUT):
                await self._follower.reached(ledger.opened_at)
        except TimeoutError:
            raise Unavailable("this manager's picture of the cluster does not come up to date") from None
        managers = tuple(manager.url for manager in state.managers.values())
        log.info("node %s: session %d from %s", node, ledger.record.epoch, hello.description.address)
        welcome = Welcome(version, self._cluster, node, ledger.record.epoch, BEAT_INTERVAL, managers, self._life)
        await socket.send_bytes(encode(welcome))
        self.latencies.observe("open", time.monotonic() - began)
        newest = state.sessions.get(node)
        if newest is None or newest.epoch > ledger.record.epoch:
            raise Unavailable(OVERTAKEN_REASON)
        reader = self._board.read(node, hello.has if version >= KEEPS else {})
        words = self._withdrawals, self.generations, self.latencies
        return AgentSession(socket, ledger, reader, state, self._clock, *words, version, self._answered)

    def _check(self, hello: Hello) -> int:
        """Choose the version to speak. Raises UserError when asking again cannot help."""
        if hello.cluster and hello.cluster != self._cluster:
            raise UserError(
                f"this agent belongs to the cluster {hello.cluster}, this manager to {self._cluster}",
                hint="If the cluster was restored or made anew, remove the agent's data directory and join again.",
            )
        if hello.cluster and hello.life != self._life:
            raise UserError(
                "this cluster was restored from a backup since the agent joined it",
                hint="`stack join` on its host makes it go on; its containers run on until then, and after.",
            )
        version = min(VERSION, hello.newest_version)
        if version < max(OLDEST_VERSION, hello.oldest_version):
            raise UserError(
                f"the agent speaks versions {hello.oldest_version} to {hello.newest_version}, "
                f"this manager {OLDEST_VERSION} to {VERSION}",
                hint="Bring both to the same release.",
            )
        try:
            ipaddress.ip_address(hello.description.address)
        except ValueError as error:
            raise UserError(f"the agent's address is wrong: {error}", hint="Give one with --advertise.") from error
        return version

    def _changed(self, changes: list[Change]) -> None:
        self._board.changed(changes)
        self._withdrawals.changed(changes)
        self.generations.changed(changes)
        if changes and changes[-1].revision > self._follower.listed_at:  # else it is long ago
            self.latencies.changed(self._follower.state, changes, self._clock())
        for change in changes:
            match change.new:
                case NodeState(node=node) | Session(node=node) if self._follower.state.is_lost(node):
                    for waiting in (self.streams, self._examinations, self._measurements):
                        waiting.give_up(node)
            match change:
                case Change(old=Node(id=node), new=None):
                    self._end(self._held.get(node), REMOVED, "this node was removed from the cluster", final=True)
                case Change(old=None, new=Manager()):
                    urls = tuple(manager.url for manager in self._follower.state.managers.values())
                    for held in self._held.values():
                        held.tell_managers(urls)
                case Change(new=Session() as record):
                    session = self._held.get(record.node)
                    if session is not None and record.epoch > session.epoch:
                        self._end(session, OVERTAKEN, OVERTAKEN_REASON, final=False)

    def _end(self, session: AgentSession | None, code: int, reason: str, *, final: bool) -> None:
        if session is not None:
            self._see_to(session.end(code, reason, final=final))

    def _see_to(self, work: Coroutine[None, None, None]) -> None:
        ending = asyncio.create_task(work)
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


def _check_address(state: ClusterState, node: str, address: str) -> None:
    """Let no node pass for another one, which would be sent what is for that. Raises Unavailable."""
    if ipaddress.ip_address(address).is_loopback:
        return  # of agents that all run on one host
    for session in state.sessions.values():
        same = session.node != node and session.description.address == address
        if same and session.state is not SessionState.CLOSED and session.node in state.nodes:
            raise Unavailable(
                f"{address} is the address of the node {state.nodes[session.node].name}, whose session is not over",
                hint="Give each agent the address of its own host with --advertise.",
            )


async def _hello(socket: WebSocket) -> Hello:
    try:
        async with asyncio.timeout(HELLO_TIMEOUT):
            frame = await socket.receive()
    except TimeoutError:
        raise Unavailable("the agent did not say hello") from None
    if frame["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(frame.get("code", 1005))
    try:
        message = decode_to_manager(frame.get("bytes") or frame.get("text") or b"")
    except msgspec.MsgspecError as error:
        raise UserError(f"the agent's first message cannot be read: {error}") from error
    if not isinstance(message, Hello):
        raise UserError("the agent's first message is not a hello")
    return message


async def _refuse(socket: WebSocket, reason: str, *, final: bool) -> None:
    try:
        await socket.send_bytes(encode(Refused(reason, final)))
        await socket.close()
    except (RuntimeError, WebSocketDisconnect):
        return  # the agent was first
