"""Watches that lose nothing: resumed after the last whole transaction delivered, on whichever member answers.

Three things that etcd's own signs do not give:

- The revision in a response's header runs ahead of its events while a watch catches up, and so may the answers to
  progress requests: only the revision of a delivered event moves the point to resume at.
- A frozen member keeps its connections: each stream is pinged, and silence means to go elsewhere.
- Old servers send an event twice, send events older than asked for, and lose a deletion made at the very revision that
  was compacted: each stream is asked from one revision earlier than needed, and what was delivered is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio
from aetcd import rpc

from manager.etcd.endpoints import (
    LONGEST_PAUSE,
    Endpoint,
    Endpoints,
    Verdict,
    cancelled_from_outside,
    refusal,
    verdict,
)
from manager.etcd.errors import Compacted, EtcdUnavailable, Refused, WatchDenied
from manager.etcd.records import Batch, Event
from manager.etcd.wire import event, key_text

log = logging.getLogger(__name__)

PING_INTERVAL = 1.0
SILENCE = 2.5
"""Seconds without a word, though pinged, after which a member counts as frozen."""


class _Broken(Exception):
    """The stream ended or fell silent; another one may go on where it stopped."""


class _Rejected(Exception):
    """etcd does not take us for somebody who may watch; perhaps our token has run out."""


class _Stream:
    """One watch on one member, from its opening to its end."""

    def __init__(self, endpoint: Endpoint, metadata: tuple[tuple[str, str], ...]) -> None:
        self.endpoint = endpoint
        self.metadata = metadata
        self._call = endpoint.watch.Watch(metadata=metadata)
        self._held: list[Event] = []
        self._pinger: asyncio.Task[None] | None = None
        self._opened = time.monotonic()

    async def create(self, start: bytes, end: bytes, revision: int) -> None:
        request = rpc.WatchCreateRequest(key=start, range_end=end, start_revision=revision, fragment=True)
        await self._write(rpc.WatchRequest(create_request=request))
        self._pinger = asyncio.create_task(self._ping(), name="etcd watch ping")

    def lived(self) -> bool:
        """Whether it was up for so long that its end is no repeated failure."""
        return time.monotonic() - self._opened > LONGEST_PAUSE

    async def close(self) -> None:
        self._call.cancel()
        if self._pinger is not None:
            self._pinger.cancel()
            await asyncio.wait((self._pinger,))

    async def events(self) -> list[Event]:
        """The events of the next message; of a message sent in fragments, those of the transactions that are whole."""
        message = await self._read()
        if message.canceled:
            _ended(message)
        events = [*self._held, *map(event, message.events)]
        if not message.fragment:
            self._held = []
            return events
        last = events[-1].revision if events else 0
        self._held = [one for one in events if one.revision == last]
        return events[: len(events) - len(self._held)]

    async def _read(self) -> Any:
        with _failures():
            async with asyncio.timeout(SILENCE):
                message = await self._call.read()
        if not isinstance(message, rpc.WatchResponse):  # grpc.aio.EOF
            raise _Broken("ended by etcd")
        return message

    async def _write(self, request: Any) -> None:
        with _failures():
            async with asyncio.timeout(SILENCE):
                await self._call.write(request)

    async def _ping(self) -> None:
        """Asks for progress, only to hear something: on old servers the answer's revision is not to be trusted."""
        request = rpc.WatchRequest(progress_request=rpc.WatchProgressRequest())
        try:
            while True:
                await asyncio.sleep(PING_INTERVAL)
                await self._write(request)
        except (_Broken, _Rejected, Refused):
            return  # the reader finds the same, and acts on it


@contextmanager
def _failures() -> Iterator[None]:
    """Turns whatever way a stream fails in into what is to be done about it."""
    try:
        yield
    except TimeoutError:
        raise _Broken("silent") from None
    except grpc.aio.AioRpcError as error:
        raise _stream_error(error) from error
    except asyncio.InvalidStateError:
        raise _Broken("ended") from None
    except asyncio.CancelledError:
        # From within: the stream or its channel was closed.
        if cancelled_from_outside():
            raise
        raise _Broken("closed") from None


def _stream_error(error: Any) -> Exception:
    judged = verdict(error)
    if judged is Verdict.STALE_TOKEN or error.code() in (
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
    ):
        return _Rejected(error.details())
    if judged is Verdict.REFUSED:
        return refusal(error)
    return _Broken(f"{error.code().name}: {error.details()}")


def _ended(message: Any) -> None:
    """Raises what a response means that ends the watch."""
    if message.compact_revision:
        raise Compacted(
            f"etcd keeps no history before revision {message.compact_revision}", revision=message.compact_revision
        )
    reason = message.cancel_reason
    if any(words in reason for words in ("permission denied", "PermissionDenied", "Unauthenticated", "auth token")):
        raise _Rejected(reason)
    raise _Broken(reason or "ended by etcd")


async def changes(endpoints: Endpoints, start: bytes, end: bytes, revision: int) -> AsyncGenerator[Batch, None]:
    """Every change of the keys from `start` to `end` since `revision`, each once and in order, until it is closed."""
    if revision < 1:
        raise ValueError("a watch starts at a revision, from 1 on")
    rounds = endpoints.rounds()
    renewed = False
    while True:
        endpoint = await endpoints.ready()
        stream = None
        try:
            stream = await _opened(endpoints, endpoint, start, end, max(1, revision - 1))
            while True:
                events = tuple(one for one in await stream.events() if one.revision >= revision)
                renewed = False
                if events:
                    revision = events[-1].revision + 1
                    yield Batch(revision=revision - 1, events=events)
        except _Rejected as error:
            if renewed or stream is None or not endpoints.forget_token(stream.metadata):
                raise WatchDenied(
                    f"etcd does not let us watch {key_text(start)!r}: {error}",
                    hint="Give this manager's user or certificate a role with read access to its keys.",
                ) from error
            renewed = True
        except _Broken as error:
            endpoints.check_open()
            log.info("watch on %s at %s: %s; resuming at revision %d", key_text(start), endpoint.url, error, revision)
            endpoints.leave(endpoint, str(error))
            if stream is not None and stream.lived():
                rounds = endpoints.rounds()
            await rounds.failed()
        finally:
            if stream is not None:
                await stream.close()


async def _opened(endpoints: Endpoints, endpoint: Endpoint, start: bytes, end: bytes, revision: int) -> _Stream:
    try:
        metadata = await endpoints.metadata(endpoint)
        stream = _Stream(endpoint, metadata)
    except grpc.aio.AioRpcError as error:
        raise _stream_error(error) from error
    except grpc.aio.UsageError:
        raise EtcdUnavailable("the connection to etcd is closed") from None
    try:
        await stream.create(start, end, revision)
    except BaseException:
        await stream.close()
        raise
    return stream
