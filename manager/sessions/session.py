"""One agent's session: its socket, its place on the board, its ledger."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from cluster import codec, protocol
from cluster.channel import Purpose
from cluster.errors import Unavailable
from cluster.model.attachment import AttachmentReport
from cluster.model.node import SessionState
from cluster.model.task import TaskStatus
from cluster.model.volume import Volume
from cluster.protocol import (
    CHANNELS,
    CONSOLES,
    EXAMINES,
    MANAGERS,
    MEASURES,
    MOST_LISTENING,
    MOST_ROUTES,
    RESOLVES_IMAGES,
    ROTATES,
    Answer,
    Attached,
    Beat,
    Examined,
    Fetched,
    Goodbye,
    Hello,
    ImagesResolved,
    Managers,
    Measured,
    Programmed,
    Recorded,
    Roots,
    Statuses,
    Timings,
    ToAgent,
    ToManager,
    Trusting,
    VolumesRemoved,
    decode_to_manager,
    encode,
    frames,
)
from manager.etcd import Refused
from manager.latencies import Latencies
from manager.picture import ClusterState
from manager.sessions import bounds
from manager.sessions.board import Reader
from manager.sessions.generations import Generations
from manager.sessions.ledger import BATCH, Fenced, Ledger, merge
from manager.sessions.time_of_day import TimeOfDay
from manager.sessions.withdrawals import Withdrawals
from manager.sessions.witness import answers

log = logging.getLogger(__name__)

BEAT_INTERVAL = 1.0
SILENCE = 3.25 * BEAT_INTERVAL
"""Three beats missed, and time for the third to come in."""

DEBOUNCE = 0.005
"""Changes mostly come in bursts: what follows within this many seconds goes with the first."""

ASK_AGAIN = 1.0
WITNESS_FOR = 60.0
"""The host of an agent that has gone is asked about for this long, which is longer than the grace of its tasks."""

ETCD_PAUSE = 0.5
LONGEST_GOODBYE = 3600.0

GOING, OVERTAKEN, REMOVED, CONFUSED = 1012, 4001, 4002, 4003
"""Why a socket is closed: the manager stops, a newer session was opened, the node was removed, it breaks the rules."""


OVERTAKEN_REASON = "a newer session of this node was opened"


class AgentSession:
    """From Welcome until its end is recorded: `run` does it all, the other methods are for those who watch over it.

    `talks` tells whether there is an agent at the other end; the session outlives it for what is still to be recorded.
    """

    def __init__(
        self,
        socket: WebSocket,
        ledger: Ledger,
        reader: Reader,
        state: ClusterState,
        clock: Callable[[], float],
        withdrawals: Withdrawals,
        generations: Generations,
        latencies: Latencies,
        version: int,
        answered: Callable[[str, Answer], None],
    ) -> None:
        self.node = ledger.record.node
        self.epoch = ledger.record.epoch
        self._socket = socket
        self._ledger = ledger
        self._reader = reader
        self._state = state
        self._clock = clock
        self._withdrawals, self._generations, self._latencies = withdrawals, generations, latencies
        self._version = version
        self._answered = answered
        self._time = TimeOfDay()
        self._heard = time.monotonic()
        self._want = ledger.record
        self._to_record = asyncio.Event()
        self._gone = asyncio.Event()
        self._over = asyncio.Event()
        self._finishing = False
        self._sent_away = False
        self.talks = True
        self._outbox: deque[ToAgent] = deque()
        self._pending: dict[str, TaskStatus] = {}
        self._removed: dict[str, int] = {}  # keys of volumes that are gone, with the revisions that said to remove them
        self._sequence = 0
        self._acknowledged = 0

    # For those who watch over it

    def credit(self, stall: float) -> None:
        """Do not count against the agent a time in which this program did not listen."""
        self._heard = min(time.monotonic(), self._heard + stall)

    def judge(self, now: float) -> None:
        """Note it when the agent has fallen silent."""
        if self._want.state is SessionState.OPEN and now - self._heard > SILENCE:
            log.warning("node %s: no beat for %.1f s", self.node, now - self._heard)
            self._enter(SessionState.SILENT)

    @property
    def resolves_images(self) -> bool:
        """Tell whether there is an agent that can look up images, and it was heard just now."""
        return (
            self.talks
            and self._version >= RESOLVES_IMAGES
            and "engine" not in self._want.conditions
            and time.monotonic() - self._heard < 2 * BEAT_INTERVAL
        )

    @property
    def examines(self) -> bool:
        """Tell whether there is an agent that can examine its node."""
        return self.talks and self._version >= EXAMINES

    @property
    def measures(self) -> bool:
        """Tell whether its agent is new enough to tell what its tasks use."""
        return self._version >= MEASURES

    def opens_channels(self, purpose: Purpose) -> bool:
        """Tell whether the agent is new enough for that."""
        return self._version >= (CONSOLES if purpose in ("attach", "signal") else CHANNELS)

    def tell_managers(self, urls: tuple[str, ...]) -> None:
        """Have the agent know where else it can go."""
        if self._version >= MANAGERS:
            self.send(Managers(urls))

    def tell_roots(self, roots: tuple[str, ...]) -> None:
        """Have the agent trust these roots, and get a certificate of the first."""
        if self._version >= ROTATES:
            self.send(Roots(roots))

    def send(self, message: ToAgent) -> None:
        """Have a message sent as soon as the socket takes it."""
        self._outbox.append(message)
        self._reader.news.set()

    async def send_away(self, reason: str) -> None:
        """Have the agent go to another manager; what is left to record waits until it can be."""
        if not self._sent_away:
            self._sent_away = True
            await self._close(GOING, reason)

    async def end(self, code: int, reason: str = "", *, final: bool = False) -> None:
        """End it from this side, and write nothing more; with a reason the agent is told."""
        self._over.set()
        self._to_record.set()
        await self._close(code, reason, final=final)

    # Its life

    async def run(self) -> None:
        """Talk until the socket closes, then record that, and whether the host still answers."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._record(), name=f"recording of {self.node}")
            witness = group.create_task(self._ask_witness(), name=f"witness of {self.node}")
            try:
                await self._talk()
            finally:
                self.talks = False
                self._reader.close()
            if not self._over.is_set():
                log.info("node %s: session %d was closed", self.node, self.epoch)
                self._enter(SessionState.CLOSED)
                over = group.create_task(self._over.wait())
                await asyncio.wait({witness, over}, return_when=asyncio.FIRST_COMPLETED)
                over.cancel()
            witness.cancel()
            self._finishing = True
            self._to_record.set()

    async def _talk(self) -> None:
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._send(), name=f"sending to {self.node}")
            await self._receive()
            sending.cancel()

    async def _receive(self) -> None:
        while True:
            frame = await self._socket.receive()
            await self._reader.turn_to_hear()
            if frame["type"] == "websocket.disconnect":
                return
            self._heard = time.monotonic()
            if self._want.state is SessionState.SILENT:
                log.info("node %s is heard again", self.node)
                self._enter(SessionState.OPEN)
            try:
                message = decode_to_manager(frame.get("bytes") or frame.get("text") or b"")
            except msgspec.MsgspecError as error:
                await self._close(CONFUSED, f"not a message of this protocol: {error}")
                return
            if not self._take(message):
                await self._close(CONFUSED, "a second hello")
                return

    def _take(self, message: ToManager) -> bool:
        match message:
            case Beat(told, routes, listening, at):
                conditions = bounds.conditions(told)
                if at > 0:
                    ahead = min(at, bounds.LATEST_INSTANT) - time.time()
                    if trouble := self._time.note(ahead, self._heard):
                        conditions.setdefault("clock", trouble)  # what other nodes find is more exact
                if conditions != self._want.conditions:
                    self._want = replace(self._want, conditions=conditions)
                    self._to_record.set()
                if routes is not None and routes != self._want.routes:
                    self._want = replace(self._want, routes=dict(itertools.islice(routes.items(), MOST_ROUTES)))
                    self._to_record.set()
                if listening is not None and listening != self._want.listening:
                    self._want = replace(self._want, listening=bounds.names(listening[:MOST_LISTENING]))
                    self._to_record.set()
            case Statuses(sequence, statuses):
                self._sequence = max(self._sequence, sequence)
                for status in statuses:
                    self._report(status)
                self._to_record.set()
            case VolumesRemoved(names):
                for name in names:
                    self._forget_volume(name)
                self._to_record.set()
            case Programmed(revision):
                self._withdrawals.programmed(self.node, self.epoch, revision)
                self._generations.programmed(self.node, revision)
            case Fetched(images):
                self._want = replace(self._want, images=bounds.images(images))
                self._to_record.set()
            case Attached(reports):
                known, said = self._want.attachments, bounds.attachments(reports)
                dated = {ident: self._dated(report, known.get(ident)) for ident, report in said.items()}
                self._want = replace(self._want, attachments=dated)
                self._to_record.set()
            case (ImagesResolved() | Examined() | Measured()) as answer:
                self._answered(self.node, answer)
            case Trusting(roots, signer):
                self._want = replace(
                    self._want,
                    roots=bounds.names(roots[: bounds.MOST_ROOTS]),
                    signer=bounds.text(signer, bounds.LONGEST_NAME),
                )
                self._to_record.set()
            case Timings(latencies):
                self._latencies.add(bounds.latencies(latencies))
            case Goodbye(seconds):
                back_by = self._clock() + min(seconds, LONGEST_GOODBYE)
                self._want = replace(self._want, back_by=back_by)
                self._to_record.set()
            case Hello():
                return False
        return True

    def _dated(self, report: AttachmentReport, before: AttachmentReport | None) -> AttachmentReport:
        """Note when something was said first, by the cluster's time."""
        if before is not None and replace(before, at=report.at) == report:
            return before
        return replace(report, at=self._clock())

    def _report(self, status: TaskStatus) -> None:
        task = self._state.tasks.get(status.task)
        if task is None or task.node != self.node:
            log.debug("node %s reports on task %s, which is not its own", self.node, status.task)
            return
        # An agent's clock may run ahead of the cluster's; restarts must not wait for it.
        merged = merge(self._pending.get(task.id), replace(bounds.status(status), at=min(status.at, self._clock())))
        if merged is not None:
            self._pending[task.id] = merged
            self._generations.heard(task.id)

    def _forget_volume(self, name: str) -> None:
        volume, key = self._state.volumes.get(name), codec.key_for(Volume, name)
        if volume is None or volume.node != self.node or not volume.removing:
            log.debug("node %s says that volume %s is gone, which nobody asked of it", self.node, name)
            return
        self._removed[key] = self._state.revision_of(key)

    async def _send(self) -> None:
        try:
            while True:
                await self._reader.news.wait()
                await self._empty_outbox()
                await asyncio.sleep(DEBOUNCE)
                await self._reader.turn()
                for _ in self._reader.enter():
                    await self._reader.turn()
                news = self._reader.read()
                await self._empty_outbox()
                if not (news.full or news.parts or news.gone):
                    continue
                for frame in frames(
                    self.epoch,
                    news.revision,
                    news.parts.values(),
                    tuple(news.gone),
                    full=news.full,
                    kept=news.kept,
                ):
                    await self._socket.send_bytes(frame)
                    await self._reader.turn()
                    await self._empty_outbox()
                # The first of many changes goes at once, the others together: a hundred tasks that start are few pages.
                await asyncio.sleep(self._reader.pace)
        except WebSocketDisconnect:
            return  # the receiver hears of it too
        except RuntimeError:
            if self._socket.application_state is not WebSocketState.DISCONNECTED:
                raise  # else this side has closed it meanwhile

    async def _empty_outbox(self) -> None:
        while self._outbox:
            await self._socket.send_bytes(encode(self._outbox.popleft()))

    async def _close(self, code: int, reason: str = "", *, final: bool = False) -> None:
        if WebSocketState.DISCONNECTED in (self._socket.application_state, self._socket.client_state):
            return
        log.info("node %s: closing session %d: %s", self.node, self.epoch, reason or code)
        try:
            if reason:
                await self._socket.send_bytes(encode(protocol.Refused(reason, final)))
            await self._socket.close(code)
        except (RuntimeError, WebSocketDisconnect):
            return  # the agent was first

    # What is written of it

    def _enter(self, state: SessionState) -> None:
        reachable = None if state is SessionState.OPEN else self._want.reachable
        self._want = replace(self._want, state=state, since=self._clock(), reachable=reachable)
        if state is SessionState.OPEN:
            self._gone.clear()
        else:
            self._gone.set()
        self._to_record.set()

    async def _record(self) -> None:
        """Write what there is to write, and in the end what is left of it."""
        while not self._over.is_set():
            await self._to_record.wait()
            self._to_record.clear()
            await self._reader.turn()
            try:
                await self._flush()
            except Fenced:
                await self.end(OVERTAKEN, OVERTAKEN_REASON)
            except (Unavailable, Refused) as error:
                log.warning("node %s: nothing can be recorded: %s", self.node, error.message)
                await asyncio.sleep(ETCD_PAUSE)
                self._to_record.set()
            else:
                if self._finishing and not self._pending and not self._removed:
                    return
                if not self._finishing:
                    await asyncio.sleep(self._reader.pace)

    async def _flush(self) -> None:
        if self._over.is_set():
            return
        want, batch = self._want, dict(itertools.islice(self._pending.items(), BATCH))
        await self._ledger.write(want, tuple(batch.values()))
        for task, status in batch.items():
            if self._pending[task] is status:
                del self._pending[task]
        if self._pending or self._want != want:
            self._to_record.set()
        if not self._pending and self._sequence > self._acknowledged:
            self._acknowledged = self._sequence
            self.send(Recorded(self._sequence))
        removed = dict(self._removed)
        await self._ledger.forget(removed)
        self._removed = {key: at for key, at in self._removed.items() if removed.get(key) != at}

    async def _ask_witness(self) -> None:
        """While the agent is not heard, note whether its host answers; returns when that has been asked long enough."""
        while True:
            await self._gone.wait()
            if self._want.state is SessionState.CLOSED:
                # An agent that is well dials again at once; nobody is called down before this was asked several times.
                await asyncio.sleep(ASK_AGAIN)
            until = time.monotonic() + WITNESS_FOR
            while self._gone.is_set():
                reachable = await answers(self._want.description.address)
                if self._gone.is_set() and reachable != self._want.reachable:
                    self._want = replace(self._want, reachable=reachable)
                    self._to_record.set()
                if time.monotonic() > until:
                    await self._close(GOING, "not heard for too long")
                    return
                await asyncio.sleep(ASK_AGAIN)
