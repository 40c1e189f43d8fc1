"""Keeps the picture up to date with etcd, and tells those who listen what changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager

from cluster.codec import PREFIX
from manager.etcd import Batch, Etcd, Snapshot, records
from manager.picture import Change, ClusterState, Event

log = logging.getLogger(__name__)

SLICE = 100
"""Changes after which the event loop's others have their turn; those of one transaction are never parted."""

Listener = Callable[[list[Change]], None]


class Follower:
    """The one picture of this manager. `state` is changed only between two awaits, and listeners are told at once.

    What happened up to `listed_at` was read as a whole, when it was over; later changes are told one by one.

    A listener must be quick and must not fail: it marks what is to be done, and does it elsewhere. Whoever holds
    `still` finds the picture unchanged after an await too, and is to let go of it soon.
    """

    def __init__(self, etcd: Etcd) -> None:
        self.state = ClusterState()
        self.loaded = asyncio.Event()
        self.still = asyncio.Lock()
        self.listed_at = 0
        self._etcd = etcd
        self._listeners: list[Listener] = []
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    async def run(self) -> None:
        """Follow until cancelled. Failures of etcd are waited out; a record that cannot be read ends it."""
        async with aclosing(self._etcd.follow(PREFIX)) as following:
            async for news in following:
                if isinstance(news, Snapshot):
                    listing = ((item.key, item.value, item.mod_revision) for item in news.items)
                    async with self.still:
                        changes = self.state.replace(listing, news.revision)
                        self.listed_at = news.revision
                        self._tell(changes)
                else:
                    await self._take_in(news)
                if not self.loaded.is_set():
                    log.info("loaded the cluster's state at revision %d", self.state.revision)
                    self.loaded.set()

    async def _take_in(self, news: Batch) -> None:
        """Go on some transactions at a time: after a stall or an outage thousands of changes come together."""
        for number, some in enumerate(_slices(news.events)):
            if number:
                await asyncio.sleep(0)
            events = (Event(e.key, e.current.value if e.current else None, e.revision) for e in some)
            async with self.still:
                self._tell(self.state.apply(events, some[-1].revision))

    async def reached(self, revision: int) -> None:
        """Wait until the picture shows everything up to a revision, such as that of a txn of one's own."""
        if self.state.revision < revision:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((revision, future))
            await future

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something is true of the picture; `true` is asked at once, and after every change."""
        came = asyncio.Event()

        def look(changes: Sequence[Change]) -> None:
            if true():
                came.set()

        with self.listening(look):
            look(())
            await came.wait()

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Have `listener` told of every change, after the picture shows it, until the end of the block."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def _tell(self, changes: list[Change]) -> None:
        for listener in tuple(self._listeners):
            listener(changes)
        waiting, self._waiting = self._waiting, []
        for revision, future in waiting:
            if revision > self.state.revision:
                self._waiting.append((revision, future))
            elif not future.done():
                future.set_result(None)


def _slices(events: Sequence[records.Event]) -> Iterator[Sequence[records.Event]]:
    """Cut what happened between transactions, after SLICE changes or more."""
    begin = 0
    for end in range(1, len(events)):
        if end - begin >= SLICE and events[end].revision != events[end - 1].revision:
            yield events[begin:end]
            begin = end
    yield events[begin:]
