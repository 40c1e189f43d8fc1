"""This manager's place among the others: its record under its lease, its candidacy, and leading while it is elected."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from cluster.codec import encode, key_of
from cluster.errors import Unavailable
from cluster.latency import ManagerWork
from cluster.model.node import Manager
from manager.control import Control
from manager.etcd import Etcd, EtcdUnavailable, Leadership, Lease, LeaseLost, NoSpace, Refused, UnknownOutcome, put
from manager.follow import Follower

log = logging.getLogger(__name__)

ELECTION = "/stackyard/election"
LEASE_TTL = 3
"""Seconds without a sign of life after which another manager leads; a thread of its own sees to it that they come."""

PAUSE, PAUSE_WHILE_FULL = 0.2, 2.0


class Presence:
    """While the lease is held, the others know that this manager is alive, and its picture is worth reading.

    Before `unlocked` is set they know only that it is there, and it neither leads nor serves.
    """

    def __init__(
        self,
        etcd: Etcd,
        follower: Follower,
        manager: Manager,
        clock: Callable[[], float],
        unlocked: asyncio.Event,
        observe: Callable[[ManagerWork, float], None],
        why: Callable[[], str] = str,
    ) -> None:
        """`why` tells what keeps this manager's own etcd from running, "" if nothing is known to."""
        self.manager = manager
        self._why = why
        self.held = asyncio.Event()
        self.leading = False
        self.lease = 0
        """What a record of this manager's hangs on that is to go with it; 0 while it has none."""
        self._etcd = etcd
        self._follower = follower
        self._clock, self._observe = clock, observe
        self._unlocked = unlocked
        self._problem = "this manager is starting"
        self._absent_since = time.monotonic()
        self._announcing = asyncio.Lock()

    def require(self) -> None:
        """Raise Unavailable, with the reason, unless the lease is held."""
        if not self.held.is_set():
            raise Unavailable(
                f"the manager {self.manager.name} cannot serve: {self._why() or self._problem}",
                hint="It goes on by itself once etcd answers; the log of etcd may tell more.",
            )

    @property
    def absent_for(self) -> float:
        """Seconds for which the others have not known this manager to be alive; 0 while the lease is held."""
        return 0.0 if self.held.is_set() else time.monotonic() - self._absent_since

    async def run(self) -> None:
        """Be present until cancelled, over all failures of etcd."""
        while True:
            pause = PAUSE
            try:
                async with self._etcd.lease(LEASE_TTL) as lease:
                    await self._announce(lease.id)
                    self.lease = lease.id
                    if not self._unlocked.is_set():
                        await self._until_unlocked(lease)
                        await self._announce(lease.id)
                    self.held.set()
                    await self._candidate(lease)
            except (EtcdUnavailable, UnknownOutcome, LeaseLost, Refused) as error:
                self._problem = error.message
                pause = PAUSE_WHILE_FULL if isinstance(error, NoSpace) else PAUSE
                log.warning("manager %s is not present: %s", self.manager.name, error.message)
            finally:
                if self.held.is_set():
                    self._absent_since = time.monotonic()
                self.held.clear()
            await asyncio.sleep(pause)

    async def _until_unlocked(self, lease: Lease) -> None:
        """Wait for the unlock key. Raises LeaseLost when the lease is lost before."""
        log.warning("manager %s is locked: `stack unlock` here, as root, opens it", self.manager.name)
        waits = [asyncio.create_task(self._unlocked.wait()), asyncio.create_task(lease.lost.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if not self._unlocked.is_set():
            raise LeaseLost("etcd could not be reached in time to stay present")

    async def trusts(self, generation: int) -> None:
        """Have the others know by which generation of the CA's roots this manager goes."""
        self.manager = replace(self.manager, trust=generation)
        if self.lease:
            await self._announce(self.lease)

    async def _announce(self, lease: int) -> None:
        async with self._announcing:  # or what is older might be written last
            while True:
                manager = replace(self.manager, locked=not self._unlocked.is_set())
                try:
                    await self._etcd.txn((), (put(key_of(manager), encode(manager), lease),))
                except UnknownOutcome as error:
                    log.info("announcing the manager again: %s", error.message)
                    continue
                return

    async def _candidate(self, lease: Lease) -> None:
        """Stand for election, lead when elected, stand again. Raises LeaseLost in the end."""
        while not lease.lost.is_set():
            async with self._etcd.campaign(ELECTION, self.manager.id.encode(), lease) as leadership:
                await self._lead(leadership)
        raise LeaseLost("etcd could not be reached in time to stay present")

    async def _lead(self, leadership: Leadership) -> None:
        log.info("manager %s leads", self.manager.name)
        control = Control(self._etcd, self._follower, leadership.fence, self._clock, observe=self._observe)
        self.leading = True
        trouble: BaseException | None = None
        try:
            with self._follower.listening(control.changed):
                async with asyncio.TaskGroup() as group:
                    leading = group.create_task(control.run(), name="control")
                    await leadership.lost.wait()
                    leading.cancel()
        except* Refused as refused:  # it has no permission, say: leading is given up and tried again
            trouble = refused.exceptions[0]  # raised below: Python 3.11.2 would wrap it in a group again here
        finally:
            self.leading = False
            log.info("manager %s does not lead any more", self.manager.name)
        if trouble is not None:
            raise trouble
