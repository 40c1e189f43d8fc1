"""The connections to etcd's members: one channel each, one in use, the next one when that fails or falls silent."""

from __future__ import annotations

import asyncio
import logging
import math
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio
from aetcd import rpc

from cluster.errors import UserError
from manager.etcd.errors import EtcdUnavailable, NoSpace, Refused, UnknownOutcome

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 1.0
READ_TIMEOUT = 2.0
WRITE_TIMEOUT = 3.0
PATIENCE = 10.0

LONGEST_PAUSE = 0.5
SHORTEST_TRY = 0.1

LOOK_FOR, LOOK_AGAIN = 1.0, 0.05
"""Seconds in which a member is looked for that follows a leader, and after which one that does not is asked again."""
HEAD_START = 0.25
"""Seconds by which another may be the first of them to do so: whose host is this one falls with nobody else."""

SOONEST_RETURN, LATEST_RETURN = 10.0, 300.0
"""Seconds after which the first endpoint is used again if it serves: ever more, until it has served for the latter."""

LATE, TO_CATCH_UP = 0.5, 0.25
"""Seconds after which an answer is late, and in which a new leader carries out what it has of its predecessor."""

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),  # the default of 4 MiB breaks lists and catching up
    ("grpc.enable_retries", 0),  # gRPC must not repeat a write on its own
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.use_local_subchannel_pool", 1),  # the lease's channels must not share a connection with the others
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2000),  # in truth the time that one attempt to connect may take
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 10_000),  # etcd closes connections that ping more often than every 5 s
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
)


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificates as PEM: whom to believe, and who we are."""

    ca: bytes
    cert: bytes
    key: bytes = field(repr=False)

    def channel_credentials(self) -> Any:
        return grpc.ssl_channel_credentials(self.ca, self.key, self.cert)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user of etcd's own; not needed where its members know us by certificate."""

    user: str
    password: str = field(repr=False)


class Verdict(Enum):
    """What the failure of a call says about the request."""

    REFUSED = auto()
    NOT_DONE = auto()
    STALE_TOKEN = auto()
    UNKNOWN = auto()


_REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.DATA_LOSS,
}
_STALE_TOKEN = ("invalid auth token", "revision of auth store is old", "revision in auth store is old")
# Said by etcd before it looks at the request. Its other errors of the kind "unavailable" come after proposing it.
# "unhealthy" is what it says to a change of its members within 5 s of the last one.
_NOT_DONE = ("etcdserver: no leader", "etcdserver: too many requests", "etcdserver: unhealthy cluster")
# Of this no member is to blame: the one that says so is there, and is the first to know the next leader.
_LEADER_CHANGED = "etcdserver: leader changed"
_BETWEEN_LEADERS = ("etcdserver: no leader", _LEADER_CHANGED)


def verdict(error: Any) -> Verdict:
    """Judges a failed call by its status; only what etcd surely did not carry out counts as refused or not done."""
    details = error.details() or ""
    if details in _NOT_DONE:
        return Verdict.NOT_DONE
    if any(words in details for words in _STALE_TOKEN):
        return Verdict.STALE_TOKEN
    if error.code() in _REFUSALS:
        return Verdict.REFUSED
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and details.startswith("etcdserver:"):
        return Verdict.REFUSED
    return Verdict.UNKNOWN


def refusal(error: Any) -> Refused | NoSpace:
    if "database space exceeded" in (error.details() or ""):
        return NoSpace(
            "etcd's quota is used up, so that nothing can be changed now",
            hint="The managers make room by themselves, within a minute; `stack node ls` tells if that did not help.",
        )
    return Refused(f"etcd refused: {error.details()}", code=error.code().name)


def target_of(url: str, tls: Tls | None) -> str:
    """`http://10.0.0.1:2379` to what gRPC dials; the scheme must agree with whether there are certificates."""
    parts = urlsplit(url if "//" in url else f"//{url}", scheme="https" if tls else "http")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        raise UserError(f"{url!r} is no endpoint of etcd", hint="Write it as http://10.0.0.1:2379 or https://...")
    if parts.scheme == "https" and tls is None:
        raise UserError(f"etcd at {url} needs certificates and none were given")
    if parts.scheme == "http" and tls is not None:
        raise UserError(f"etcd at {url} would be spoken to in the clear, though certificates were given")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port or 2379}"


Metadata = tuple[tuple[str, str], ...]

_ANY_KEY = b"/stackyard/upkeep"


class Endpoint:
    """One member of etcd and the channel to it."""

    def __init__(self, url: str, tls: Tls | None) -> None:
        self.url = url
        target = target_of(url, tls)
        # One channel per endpoint: each checks the certificate against its own address.
        if tls is None:
            self.channel = grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
        else:
            self.channel = grpc.aio.secure_channel(target, tls.channel_credentials(), options=CHANNEL_OPTIONS)
        self.kv = rpc.KVStub(self.channel)
        self.lease = rpc.LeaseStub(self.channel)
        self.auth = rpc.AuthStub(self.channel)
        self.maintenance = rpc.MaintenanceStub(self.channel)
        self.cluster = rpc.ClusterStub(self.channel)

    async def connected(self, timeout: float) -> bool:
        """Whether there is a connection, made within `timeout` where there was none."""
        state = self.channel.get_state(try_to_connect=True)
        try:
            async with asyncio.timeout(timeout):
                while state in (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING):
                    await self.channel.wait_for_state_change(state)
                    state = self.channel.get_state(try_to_connect=True)
        except TimeoutError:
            return False
        return state is grpc.ChannelConnectivity.READY

    async def read(self, metadata: Metadata) -> None:
        """Have this member alone read from its file: not while that is being defragmented. Raises AioRpcError."""
        request = rpc.RangeRequest(key=_ANY_KEY, serializable=True)
        await self.kv.Range(request, timeout=READ_TIMEOUT, metadata=metadata)

    async def follows(self, timeout: float) -> tuple[int, bool]:
        """The term that this member is in, and whether it knows a leader; it asks nobody. Raises AioRpcError."""
        answer = await self.maintenance.Status(rpc.StatusRequest(), timeout=timeout)
        return answer.raftTerm, answer.leader != 0


async def first_following(endpoints: Sequence[Endpoint], within: float) -> Endpoint | None:
    """One that says that it follows a leader, rather one of the first; if none does in time, one that answers."""
    answering: set[Endpoint] = set()

    async def ask(endpoint: Endpoint) -> None:
        while True:
            with suppress(grpc.aio.AioRpcError, grpc.aio.UsageError):  # the latter once all are closed
                _, has_leader = await endpoint.follows(within)
                if has_leader:
                    return
                answering.add(endpoint)
            await asyncio.sleep(LOOK_AGAIN)

    asking = [asyncio.create_task(ask(endpoint)) for endpoint in endpoints]
    try:
        found, _ = await asyncio.wait(asking, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        before = asking[: min((asking.index(task) for task in found), default=0)]
        if before:
            await asyncio.wait(before, timeout=HEAD_START)
        ended = [one for one, task in zip(endpoints, asking, strict=True) if task.done()]
        return next(chain(ended, (one for one in endpoints if one in answering)), None)
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


class _Late(Exception):
    """Another leader was chosen since a request was sent, and had no answer to it."""


class Rounds:
    """Pauses between tries: none until each endpoint had its turn, then longer with each round."""

    def __init__(self, endpoints: int) -> None:
        self._endpoints = endpoints
        self._failures = 0

    async def failed(self) -> None:
        self._failures += 1
        rounds, rest = divmod(self._failures, self._endpoints)
        if rest == 0:
            await asyncio.sleep(min(0.025 * 2 ** min(rounds, 10), LONGEST_PAUSE))


class Endpoints:
    """All endpoints, of which one is in use by every call and watch until it fails."""

    def __init__(self, urls: Sequence[str], tls: Tls | None, credentials: Credentials | None, patience: float) -> None:
        if not urls:
            raise UserError("no endpoint of etcd was given")
        self.tls = tls
        self.credentials = credentials
        self.patience = patience
        self.all = tuple(Endpoint(url, tls) for url in urls)
        self._given = self.all
        self._dropped: list[Endpoint] = []
        self._current = 0
        self._left: Endpoint | None = None
        self._blamed = False
        self._returning: asyncio.Task[None] | None = None
        self._return_after, self._returned_at = SOONEST_RETURN, -math.inf
        self._looking = asyncio.Lock()
        self._term = 0
        self._closed = False
        self._of_threads: weakref.WeakSet[grpc.Channel] = weakref.WeakSet()
        self._token: str | None = None
        self._authenticating = asyncio.Lock()

    def channel_of_its_own(self, url: str) -> grpc.Channel:
        """Make a channel for a thread that must not wait for the event loop; whoever asked, or `close`, closes it."""
        target = target_of(url, self.tls)
        if self.tls is None:
            channel = grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
        else:
            channel = grpc.secure_channel(target, self.tls.channel_credentials(), options=CHANNEL_OPTIONS)
        self._of_threads.add(channel)
        return channel

    async def close(self) -> None:
        self._closed = True
        if self._returning is not None:
            self._returning.cancel()
        for channel in tuple(self._of_threads):
            channel.close()
        for endpoint in (*self.all, *self._dropped):
            await endpoint.channel.close(None)

    def learn(self, urls: Iterable[str]) -> None:
        """Know these besides the given ones, and forget others that were learned before."""
        known = {endpoint.url: endpoint for endpoint in self.all}
        given = {endpoint.url for endpoint in self._given}
        wanted = [url for url in dict.fromkeys(urls) if url not in given]
        if set(wanted) == known.keys() - given:
            return
        current = self.all[self._current]
        # what goes on with one that is forgotten ends by itself; it is closed with all others
        self._dropped += [known[url] for url in known.keys() - given - set(wanted)]
        self.all = (*self._given, *(known.get(url) or Endpoint(url, self.tls) for url in wanted))
        self._current = self.all.index(current) if current in self.all else 0
        log.info("etcd is at %s", ", ".join(endpoint.url for endpoint in self.all))

    def rounds(self) -> Rounds:
        return Rounds(len(self.all))

    def leave(self, endpoint: Endpoint, why: str, level: int = logging.WARNING) -> None:
        """Have the next call look for another endpoint, unless somebody has already left this one.

        Where the members have but lost their leader this one is as good as any, and may be found again.
        """
        if len(self.all) == 1 or endpoint is not self.all[self._current]:
            return
        log.log(level, "etcd at %s failed (%s)", endpoint.url, why)
        self._left, self._blamed = endpoint, not any(words in why for words in _BETWEEN_LEADERS)

    async def ready(self, deadline: float | None = None) -> Endpoint:
        """An endpoint with a connection, so that what fails before it surely never left; waits until `deadline`."""
        rounds = self.rounds()
        while True:
            self.check_open()
            await self._settle(LOOK_FOR if deadline is None else deadline - time.monotonic())
            endpoint = self.all[self._current]
            remaining = CONNECT_TIMEOUT if deadline is None else deadline - time.monotonic()
            if await endpoint.connected(max(0.0, min(CONNECT_TIMEOUT, remaining))):
                return endpoint
            if deadline is not None and time.monotonic() >= deadline:
                raise self._unavailable("no connection")
            self.leave(endpoint, "no connection", logging.DEBUG)  # in an outage, many times
            await rounds.failed()

    async def _settle(self, within: float) -> None:
        """Choose another endpoint where one was left: not just the next, which may have gone together with it."""
        async with self._looking:
            if (left := self._left) is None:
                return
            others = [endpoint for endpoint in self.all if endpoint is not left or not self._blamed]
            found = await first_following(others or self.all, max(0.0, min(LOOK_FOR, within)))
            if found is None and left in self.all:
                found = self.all[(self.all.index(left) + 1) % len(self.all)]
            if found in self.all:  # what is known may have changed meanwhile
                self._current = self.all.index(found)
            self._left = None
            log.info("going on with etcd at %s", self.all[self._current].url)
            if self._current and (self._returning is None or self._returning.done()):
                self._returning = asyncio.create_task(self._return(), name="return to the first of etcd's endpoints")

    async def _return(self) -> None:
        """Use the first endpoint again, this host's own, so that the loss of another host is none for this one."""
        if time.monotonic() - self._returned_at > LATEST_RETURN:
            self._return_after = SOONEST_RETURN
        while self._current:
            await asyncio.sleep(self._return_after)
            first = self.all[0]
            with suppress(grpc.aio.AioRpcError, grpc.aio.UsageError):
                await first.read(self.known_metadata())
                _, has_leader = await first.follows(READ_TIMEOUT)
                if has_leader and self._left is None and first is self.all[0]:
                    self._current = 0
                    log.info("going on with etcd at %s again", first.url)
        self._return_after = min(2 * self._return_after, LATEST_RETURN)
        self._returned_at = time.monotonic()

    def check_open(self) -> None:
        if self._closed:
            raise EtcdUnavailable("the connection to etcd is closed")

    async def call(
        self,
        method: Callable[[Endpoint], Any],
        request: Any,
        *,
        repeatable: bool,
        timeout: float = READ_TIMEOUT,
        patience: float | None = None,
        of_member: bool = False,
    ) -> Any:
        """Asks one endpoint, and others after it as long as the request was surely not carried out or is `repeatable`.

        `timeout` bounds one try, `patience` the search for an endpoint, if not as set for all. What is `of_member`, one
        member does by itself; all else may be lost with the leader that it was passed to. Raises Refused,
        EtcdUnavailable or NoSpace, and UnknownOutcome only if not `repeatable`. When the caller is cancelled the
        outcome is unknown as well. An answer bigger than we take is Refused as RESOURCE_EXHAUSTED: anybody's would be.
        """
        deadline = time.monotonic() + (self.patience if patience is None else patience)
        rounds = self.rounds()
        renewals = 0
        while True:
            endpoint = await self.ready(deadline)
            metadata: Metadata = ()
            sent = False
            try:
                metadata = await self.metadata(endpoint)
                sent = True
                # What is not repeated gets its full time once it is sent.
                bound = min(timeout, max(SHORTEST_TRY, deadline - time.monotonic())) if repeatable else timeout
                call = method(endpoint)(request, timeout=bound, metadata=metadata)
                return await (call if of_member else self._answer(endpoint, call))
            except _Late:
                why, unknown = _LEADER_CHANGED, True
            except grpc.aio.AioRpcError as error:
                why = f"{error.code().name}: {error.details()}"
                judged = verdict(error)
                too_big = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and judged is Verdict.UNKNOWN
                if judged is Verdict.REFUSED or (too_big and repeatable):
                    raise refusal(error) from error
                if judged is Verdict.STALE_TOKEN:
                    renewals += 1
                    if renewals > 2 or not self.forget_token(metadata):
                        raise refusal(error) from error
                    continue
                unknown = sent and judged is Verdict.UNKNOWN
            except asyncio.CancelledError:
                # Closing a channel cancels its calls from within, which is not the caller's own cancellation.
                if not self._closed or cancelled_from_outside():
                    raise
                why, unknown = "closed", sent
            except grpc.aio.UsageError:
                self.check_open()
                raise
            self.leave(endpoint, why)
            if unknown and not repeatable:
                raise UnknownOutcome(f"etcd at {endpoint.url} took a write and did not answer ({why})")
            if time.monotonic() >= deadline:
                raise self._unavailable(why)
            await rounds.failed()

    async def _answer(self, endpoint: Endpoint, call: Any) -> Any:
        """Wait for an answer, but not for one that cannot come any more. Raises _Late, and what the call does."""
        term = self._term
        waiting = asyncio.ensure_future(call)
        try:
            while not (await asyncio.wait((waiting,), timeout=LATE))[0]:
                if not await self._is_newer(endpoint, term):
                    continue
                if not (await asyncio.wait((waiting,), timeout=TO_CATCH_UP))[0]:
                    raise _Late
            answer = waiting.result()
        finally:
            waiting.cancel()
        self._term = max(self._term, answer.header.raft_term)
        return answer

    async def _is_newer(self, endpoint: Endpoint, term: int) -> bool:
        """Whether the members have chosen a leader since that term, as far as this one knows."""
        try:
            now, has_leader = await endpoint.follows(LATE)
        except (grpc.aio.AioRpcError, grpc.aio.UsageError):  # the latter once all are closed, the request too
            return False
        self._term = max(self._term, now)
        return has_leader and now > term > 0

    async def metadata(self, endpoint: Endpoint) -> Metadata:
        """What goes with each request: members that see no leader must refuse, and who we are."""
        if self.credentials is not None:
            async with self._authenticating:
                if self._token is None:
                    request = rpc.AuthenticateRequest(name=self.credentials.user, password=self.credentials.password)
                    answer = await endpoint.auth.Authenticate(request, timeout=READ_TIMEOUT)
                    self._token = answer.token
        return self.known_metadata()

    def known_metadata(self) -> Metadata:
        """The same without asking anybody, with the last known token; may be called from any thread."""
        token = self._token
        return (("hasleader", "true"), *((("token", token),) if token is not None else ()))

    def forget_token(self, metadata: Metadata) -> bool:
        """Lets the next call authenticate again, unless that has happened since; False if there are no credentials."""
        if self.credentials is None:
            return False
        if dict(metadata).get("token") == self._token:
            self._token = None
        return True

    def _unavailable(self, why: str) -> EtcdUnavailable:
        return EtcdUnavailable(
            f"etcd does not answer at {', '.join(endpoint.url for endpoint in self.all)} (last: {why})",
            hint="Check that etcd runs and that these addresses can be reached.",
        )


def cancelled_from_outside() -> bool:
    """Whether the running task was itself cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
