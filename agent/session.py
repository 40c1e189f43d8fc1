"""The connection to a manager, to any of them, again and again.

Inside a session these run apart, so that none waits for another: frames come in, statuses, beats, word of removed
volumes and of images go out, and streams are dialled. Which manager holds it does not matter; what it gives is checked
against what was acted on.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import random
import time
from collections.abc import Callable, Coroutine
from socket import IPPROTO_TCP, TCP_USER_TIMEOUT
from typing import Any, NoReturn

import aiohttp
import msgspec

from agent.assembly import Assembler
from agent.checkup import Checkup
from agent.credentials import Credentials, claims_kinship, is_left_out
from agent.examination import Examiner
from agent.images import Images
from agent.outbox import Outbox
from agent.runner import Runner
from agent.streams import Streams
from agent.trust import Trust
from agent.usage import Usage
from cluster.channel import OpenChannel
from cluster.errors import Failed, StackyardError, Unavailable
from cluster.model.node import NodeDescription
from cluster.protocol import (
    ATTACHES,
    FETCHES,
    OLDEST_VERSION,
    ROTATES,
    TIMINGS,
    VERSION,
    Beat,
    Examine,
    Goodbye,
    Hello,
    Managers,
    Measure,
    OpenStream,
    Page,
    Recorded,
    Refused,
    ResolveImages,
    Roots,
    ToAgent,
    ToManager,
    Welcome,
    decode_to_agent,
    encode,
)
from cluster.topics import digests

log = logging.getLogger(__name__)

DIAL_TIMEOUT = 3.0
REACH_TIMEOUT = 1.0
"""Seconds in which a host takes a connection, however busy its manager is."""
SOON = 0.5
"""Seconds to pause, at most, while no host is reached: a partition is over as soon as it is over."""
WELCOME_TIMEOUT = 10.0
PING_INTERVAL = 4.0
"""A manager that does not answer a ping within half of that is left for another."""
ACKNOWLEDGED_WITHIN = 2.5
"""Seconds in which a host says that it has what was sent to it, however busy its manager is. One that does not is off
or out of reach, and as beats go out all the time, that is known well before a ping could tell.
"""
LONGEST_PAUSE = 5.0
FINAL_PAUSE = 60.0
STATUSES_AT_ONCE = 50
UNANSWERED = 2
LARGEST_FRAME = 16 * 1024 * 1024
LONGEST_CONDITION = 500


class RefusedForGood(Failed):
    """A manager says that asking again cannot help. It is asked again all the same, but rarely."""


class NotReached(Unavailable):
    """No host answers at that address."""


class Session:
    """Keeps a session open with one of the managers. `run` is its life."""

    def __init__(
        self,
        credentials: Credentials,
        managers: tuple[str, ...],
        runner: Runner,
        outbox: Outbox,
        streams: Streams,
        images: Images,
        examiner: Examiner,
        usage: Usage,
        checkup: Checkup,
        trust: Trust,
        describe: Callable[[], NodeDescription],
        elsewhere: Callable[[], dict[str, str]] = dict,
        listening: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self._identity, self._life = credentials.identity, credentials.life
        self._credentials = credentials
        self._configured = managers
        self._runner, self._outbox, self._streams, self._describe = runner, outbox, streams, describe
        self._images, self._examiner, self._checkup, self._elsewhere = images, examiner, checkup, elsewhere
        self._usage, self._listening, self._trust = usage, listening, trust
        self._described: NodeDescription | None = None
        self._epoch = 0
        self._reported: dict[int, float] = {}  # when statuses were sent that nobody has recorded yet
        self._failures = 0
        self._unreached = False
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    async def run(self) -> None:
        """Hold a session, and open another whenever it ends, for ever."""
        last = ""
        await self._runner.settled()
        within = aiohttp.ClientTimeout(total=None, sock_connect=REACH_TIMEOUT)
        async with aiohttp.ClientSession(timeout=within) as http:
            while True:
                url = self._next(last)
                last = url
                try:
                    await self._hold(http, url)
                except RefusedForGood as error:
                    log.error("%s refuses this node: %s", url, error)
                    pause = FINAL_PAUSE
                except NotReached as error:
                    log.log(logging.DEBUG if self._unreached else logging.WARNING, "no session with %s: %s", url, error)
                    self._unreached = True
                    pause = random.uniform(0.0, SOON)
                except StackyardError as error:
                    self._unreached = False
                    log.warning("no session with %s any more: %s", url, error)
                    # All agents of a manager that goes away come at once: the pause spreads them.
                    pause = random.uniform(0.0, min(LONGEST_PAUSE, 0.2 * 2 ** min(self._failures, 8)))
                    self._failures += 1
                finally:
                    self._socket = None
                    self._runner.offline()
                await asyncio.sleep(pause)

    async def goodbye(self, seconds: float) -> None:
        """Tell the manager that this agent goes down by plan and means to be back."""
        if self._socket is not None:
            try:
                async with asyncio.timeout(1):
                    await self._send(self._socket, Goodbye(seconds))
                    await self._socket.close()
            except (Unavailable, TimeoutError):
                log.info("the manager could not be told goodbye")

    def _next(self, last: str) -> str:
        """Choose a manager: any of those known, but another one than last time."""
        known = sorted({*self._configured, *self._runner.managers})
        return random.choice([url for url in known if url != last] or known)

    async def _hold(self, http: aiohttp.ClientSession, url: str) -> NoReturn:
        """Open a session and hold it until it ends, which is always an error."""
        try:
            async with asyncio.timeout(DIAL_TIMEOUT):
                socket = await http.ws_connect(
                    f"{url}/v1/agent/session",
                    ssl=self._credentials.context(),
                    heartbeat=PING_INTERVAL,
                    max_msg_size=LARGEST_FRAME,
                )
        except aiohttp.ConnectionTimeoutError as error:
            raise NotReached("its host does not answer") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if isinstance(error, OSError) and error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
                raise NotReached(f"its host is out of reach: {error}") from error
            # who mistrusts a certificate often just hangs up
            hung_up = isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientSSLError | ConnectionError)
            if (hung_up or type(error) is aiohttp.ClientOSError) and await is_left_out(self._credentials, url):
                raise RefusedForGood(
                    "the cluster's CA was rotated without this node, whose certificate is of the root before",
                    hint="`stack join` on this host takes it in again; what runs here is not touched.",
                ) from error
            if isinstance(error, aiohttp.ClientSSLError) and await claims_kinship(self._credentials, url):
                raise Unavailable(
                    "it shows a root of this cluster's CA that this node does not know",
                    hint="If the cluster was restored from a backup that is older than this node's root, `stack join` "
                    "on this host moves the node there; what runs here is not touched.",
                ) from error
            raise Unavailable(f"it does not answer: {error or 'it took too long'}") from error
        async with socket:
            socket.get_extra_info("socket").setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, int(ACKNOWLEDGED_WITHIN * 1000))
            welcome = await self._greet(socket)
            self._failures = 0
            self._epoch = welcome.epoch
            self._runner.meet(welcome.managers)
            self._socket = socket
            log.info("session %d with %s", welcome.epoch, url)
            await _until_one_ends(
                self._beat(socket, welcome.beat_interval),
                self._report(socket),
                self._tell_removed(socket),
                self._tell_programmed(socket),
                self._tell_fetched(socket, welcome.version),
                self._tell_attached(socket, welcome.version),
                self._tell_resolved(socket),
                self._tell_examined(socket),
                self._tell_measured(socket),
                self._tell_timings(socket, welcome.version),
                self._tell_trust(socket, welcome.version),
                self._receive(socket, welcome, url),
            )
        raise AssertionError("a session does not end by itself")

    async def _greet(self, socket: aiohttp.ClientWebSocketResponse) -> Welcome:
        given = self._runner.known.assignments
        self._described = self._describe()
        epoch = max(self._epoch, given.epoch)
        cluster = self._identity.cluster
        has = await asyncio.to_thread(digests, given.items.values())
        hello = Hello(OLDEST_VERSION, VERSION, self._described, cluster, epoch, given.revision, self._life, has)
        await self._send(socket, hello)
        try:
            async with asyncio.timeout(WELCOME_TIMEOUT):
                welcome = await self._next_message(socket)
        except TimeoutError:
            raise Unavailable("it did not answer the hello") from None
        if not isinstance(welcome, Welcome):
            raise Failed(f"it answered the hello with {type(welcome).__name__}")
        if (welcome.cluster, welcome.node) != (self._identity.cluster, self._identity.name):
            raise RefusedForGood(
                f"it belongs to cluster {welcome.cluster} and takes this node for {welcome.node}; this is node "
                f"{self._identity.name} of cluster {self._identity.cluster}",
                hint="Nothing was touched. To move the node, empty its data directory and join again.",
            )
        if welcome.life != self._life:
            raise RefusedForGood("it is of another life of this cluster", hint="`stack join` moves this node there.")
        return welcome

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse, welcome: Welcome, url: str) -> NoReturn:
        assembler = Assembler(welcome.epoch, self._runner.known.assignments)
        self._outbox.send_again()
        self._reported.clear()
        self._runner.volumes.tell_again()
        self._runner.ahead.tell_again()
        self._runner.attachments.tell_again()
        self._runner.withdrawals.tell_again()
        self._runner.online()
        while True:
            match await self._next_message(socket):
                case Page() as page:
                    given = assembler.feed(page)
                    if given is not None:
                        self._runner.assign(given, complete=True)
                case Managers(urls):
                    self._runner.meet(urls)
                case Roots(roots):
                    self._trust.learn(roots)
                case Recorded(sequence):
                    self._outbox.recorded(sequence)
                    for each in [each for each in self._reported if each <= sequence]:
                        self._runner.timings.observe("record", time.monotonic() - self._reported.pop(each))
                case OpenStream() | OpenChannel() as wanted:
                    self._streams.open(url, wanted)
                case ResolveImages() as asked:
                    self._images.ask(asked)
                case Examine() as wish:
                    self._examiner.ask(wish)
                case Measure() as measurement:
                    self._usage.ask(measurement)
                case Welcome():
                    raise Failed("it said welcome twice")

    async def _next_message(self, socket: aiohttp.ClientWebSocketResponse) -> ToAgent:
        frame = await socket.receive()
        if frame.type not in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT):
            raise Unavailable(f"the connection ended: {frame.extra or frame.data or frame.type.name}")
        try:
            message = decode_to_agent(frame.data)
        except msgspec.MsgspecError as error:
            raise Failed(f"it sent what is no message of this protocol: {error}") from error
        if isinstance(message, Refused):
            raise (RefusedForGood if message.final else Unavailable)(message.reason)
        return message

    async def _report(self, socket: aiohttp.ClientWebSocketResponse) -> NoReturn:
        while True:
            statuses = await self._outbox.take(STATUSES_AT_ONCE, UNANSWERED)
            await self._runner.announce(statuses.statuses)
            self._reported[statuses.sequence] = time.monotonic()
            await self._send(socket, statuses)

    async def _tell_removed(self, socket: aiohttp.ClientWebSocketResponse) -> NoReturn:
        while True:
            await self._send(socket, await self._runner.volumes.take())

    async def _tell_fetched(self, socket: aiohttp.ClientWebSocketResponse, version: int) -> NoReturn:
        while True:
            fetched = await self._runner.ahead.take()
            if version >= FETCHES:
                await self._send(socket, fetched)

    async def _tell_attached(self, socket: aiohttp.ClientWebSocketResponse, version: int) -> NoReturn:
        while True:
            attached = await self._runner.attachments.take()
            if version >= ATTACHES:
                await self._send(socket, attached)

    async def _tell_programmed(self, socket: aiohttp.ClientWebSocketResponse) -> NoReturn:
        while True:
            await self._send(socket, await self._runner.withdrawals.take())

    async def _tell_resolved(self, socket: aiohttp.ClientWebSocketResponse) -> NoReturn:
        while True:
            await self._send(socket, await self._images.take())

    async def _tell_examined(self, socket: aiohttp.ClientWebSocketResponse) -> NoReturn:
        while True:
            await self._send(socket, await self._examiner.take())

    async def _tell_measured(self, socket: aiohttp.ClientWebSocketResponse) -> NoReturn:
        while True:
            await self._send(socket, await self._usage.take())

    async def _tell_timings(self, socket: aiohttp.ClientWebSocketResponse, version: int) -> NoReturn:
        while True:
            told = await self._runner.timings.take()
            if version >= TIMINGS:
                await self._send(socket, told)

    async def _tell_trust(self, socket: aiohttp.ClientWebSocketResponse, version: int) -> NoReturn:
        while True:
            told = await self._trust.take()
            if version >= ROTATES:
                await self._send(socket, told)

    async def _beat(self, socket: aiohttp.ClientWebSocketResponse, interval: float) -> NoReturn:
        loop = asyncio.get_running_loop()
        at = loop.time()
        told: dict[str, str] | None = None
        listened: tuple[str, ...] | None = None
        while True:
            if self._describe() != self._described:
                await self._send(socket, Goodbye(LONGEST_PAUSE))
                raise Unavailable("the host is not what it was when the session opened: it opens a new one")
            troubles = {**self._runner.conditions, **self._checkup.troubles}
            conditions = {name: text[:LONGEST_CONDITION] for name, text in troubles.items()}
            routes, listening = self._elsewhere(), self._listening()
            new_routes, new_listening = None if routes == told else routes, None if listening == listened else listening
            await self._send(socket, Beat(conditions, new_routes, new_listening, time.time()))
            told, listened = routes, listening
            # Instants and not pauses, so that beats do not drift apart; those that were slept through are left out.
            at = max(at + interval, loop.time())
            await asyncio.sleep(at - loop.time())

    async def _send(self, socket: aiohttp.ClientWebSocketResponse, message: ToManager) -> None:
        try:
            await socket.send_bytes(encode(message))
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"the connection broke: {error}") from error


async def _until_one_ends(*work: Coroutine[Any, Any, NoReturn]) -> None:
    """Run all until one of them ends, and end the others; what it ended with is raised.

    Not a TaskGroup: in Python 3.11 that loses the cancellation of a task whose group ends at the same moment.
    """
    tasks = [asyncio.create_task(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in done:
        task.result()
