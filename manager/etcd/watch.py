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
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
from aetcd import rpc

from manager.etcd.endpoints import (
    LONGEST_PAUSE,
    Endpoint,
    Endpoints,
    Metadata,
    Verdict,
    refusal,
    verdict,
)
from manager.etcd.errors import Compacted, EtcdUnavailable, WatchDenied
from manager.etcd.records import Batch, Event
from manager.etcd.wire import event, key_text

log = logging.getLogger(__name__)

PING_INTERVAL = 1.0
SILENCE = 2.5
"""Seconds without a word, though pinged, after which a member counts as frozen."""

READ_AHEAD = 1000
"""Messages that are read before somebody wants them; then etcd has to wait."""


class _Broken(Exception):
    """The stream ended or fell silent; another one may go on where it stopped."""


class _Rejected(Exception):
    """etcd does not take us for somebody who may watch; perhaps our token has run out."""


class _Stream:
    """One watch on one member, from its opening to its end.

    It is read and pinged in threads: on a busy event loop each message would come some rounds after the one before it,
    and a loop that was held up would hear nothing. So everything that has come by now is there at once.
    """

    def __init__(self, endpoints: Endpoints, url: str, metadata: Metadata, create: rpc.WatchCreateRequest) -> None:
        self.metadata = metadata
        self._held: list[Event] = []
        self._opened = self._heard = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._messages: deque[Any] = deque()
        self._room = threading.Semaphore(READ_AHEAD)
        self._closing = threading.Event()
        self._end: Exception | None = None
        self._channel = endpoints.channel_of_its_own(url)
        self._call = rpc.WatchStub(self._channel).Watch(self._requests(create), metadata=metadata)
        self._reader = threading.Thread(target=self._read, name=f"etcd watch on {url}", daemon=True)
        self._reader.start()

    def lived(self) -> bool:
        """Whether it was up for so long that its end is no repeated failure."""
        return time.monotonic() - self._opened > LONGEST_PAUSE

    async def close(self) -> None:
        self._closing.set()
        self._room.release()
        self._call.cancel()
        await asyncio.to_thread(self._reader.join)

    async def events(self) -> list[Event]:
        """The events of what came since; of a message sent in fragments, those of the transactions that are whole."""
        await self._wait()
        found: list[Event] = []
        while self._messages:
            message = self._messages[0]
            if message.canceled:
                if found:
                    return found
                _ended(message)
            self._messages.popleft()
            self._room.release()
            found += self._whole(message)
        return found

    def _whole(self, message: Any) -> list[Event]:
        events = [*self._held, *map(event, message.events)]
        if not message.fragment:
            self._held = []
            return events
        last = events[-1].revision if events else 0
        self._held = [one for one in events if one.revision == last]
        return events[: len(events) - len(self._held)]

    async def _wait(self) -> None:
        """Wait for a message. Raises what the end of the stream means, when nothing is left to be read."""
        while not self._messages:
            if self._end is not None:
                raise self._end
            self._news.clear()
            silent = time.monotonic() - self._heard
            if silent > SILENCE:
                raise _Broken("silent")
            try:
                async with asyncio.timeout(SILENCE - silent + 0.01):
                    await self._news.wait()
            except TimeoutError:
                continue  # something may have come all the same, while the loop was held up

    # In threads of their own

    def _read(self) -> None:
        try:
            for message in self._call:
                self._heard = time.monotonic()
                self._room.acquire()
                self._messages.append(message)
                self._tell()
            self._end = _Broken("ended by etcd")
        except grpc.RpcError as error:
            self._end = _stream_error(error)
        finally:
            self._channel.close()
            self._tell()

    def _tell(self) -> None:
        with suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._news.set)

    def _requests(self, create: rpc.WatchCreateRequest) -> Iterator[rpc.WatchRequest]:
        """Ask for the watch, then for its progress, only to hear something: on old servers the answer's revision is not
        to be trusted."""
        yield rpc.WatchRequest(create_request=create)
        while not self._closing.wait(PING_INTERVAL):
            yield rpc.WatchRequest(progress_request=rpc.WatchProgressRequest())


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
            metadata = await _metadata(endpoints, endpoint)
            # Asked from one revision earlier: what was delivered is dropped below.
            create = rpc.WatchCreateRequest(
                key=start, range_end=end, start_revision=max(1, revision - 1), fragment=True
            )
            stream = _Stream(endpoints, endpoint.url, metadata, create)
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


async def _metadata(endpoints: Endpoints, endpoint: Endpoint) -> Metadata:
    try:
        return await endpoints.metadata(endpoint)
    except grpc.aio.AioRpcError as error:
        raise _stream_error(error) from error
    except grpc.aio.UsageError:
        raise EtcdUnavailable("the connection to etcd is closed") from None
