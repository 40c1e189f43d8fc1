"""One manager's hand in rotating the CA: it goes by what is stored, and if it leads it takes the next step.

The decisions are in `manager.decide.rotation`. A step holds only while the record that it was decided on is as it was,
so it needs no other fence: of two leaders one finds it changed, and what follows from that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NoReturn

from cluster import codec, pki
from cluster.errors import Conflict, Inconsistent, StackyardError
from cluster.model.cluster import Trust, TrustPhase
from cluster.model.node import Manager, Node, Session
from cluster.model.user import User
from manager.authority import CA_KEY, TRUST_KEY, Authority, CaRecord, Root, read, reread, written
from manager.decide import rotation
from manager.etcd import Etcd, KeyValue, Operation, UnknownOutcome, put, unchanged
from manager.follow import Follower
from manager.picture import Change, ClusterState
from manager.presence import Presence
from manager.sessions.registry import Sessions
from manager.tls import Tls

log = logging.getLogger(__name__)

LOOK = 2.0
"""Seconds between two looks while nothing is heard: some steps wait for an instant."""


class Rotation:
    """`run` is its life."""

    def __init__(
        self,
        etcd: Etcd,
        follower: Follower,
        authority: Authority,
        tls: Tls,
        presence: Presence,
        sessions: Sessions,
        clock: Callable[[], float],
    ) -> None:
        self._etcd, self._follower, self._authority, self._tls = etcd, follower, authority, tls
        self._presence, self._sessions, self._clock = presence, sessions, clock
        self._news = asyncio.Event()
        self._goes_by = authority.trust.generation

    async def run(self) -> NoReturn:
        """Go by the roots that are stored, and have others follow, until cancelled."""
        with self._follower.listening(self._changed):
            while True:
                self._news.clear()
                try:
                    await self._adopt()
                    if self._presence.leading:
                        await self._step()
                except (StackyardError, OSError) as error:
                    log.warning("the rotation of the CA waits: %s", error)
                    await asyncio.sleep(LOOK)
                try:
                    async with asyncio.timeout(LOOK):
                        await self._news.wait()
                except TimeoutError:
                    pass

    def _changed(self, changes: list[Change]) -> None:
        trust = self._follower.state.trust
        if trust is None or (trust.phase is TrustPhase.SETTLED and trust.generation == self._goes_by):
            return
        if any(isinstance(change.new or change.old, Trust | Manager | Node | Session | User) for change in changes):
            self._news.set()

    async def _adopt(self) -> None:
        """Trust the roots that are stored, and show a certificate of the one that signs."""
        trust = self._follower.state.trust
        if trust is None:
            return
        if trust.generation > self._goes_by:
            self._authority.ca, self._authority.trust = await reread(self._etcd)
            self._tls.renew()
            self._goes_by = self._authority.trust.generation
            self._sessions.tell_roots()
            log.info("goes by generation %d of the CA's roots: %s", self._goes_by, self._authority.trust.phase)
        mine = self._follower.state.managers.get(self._presence.manager.id)
        if mine is None or mine.trust != self._goes_by:
            await self._presence.trusts(self._goes_by)

    async def _step(self) -> None:
        state = self._follower.state
        if (wanted := rotation.step(state, self._clock())) is not None:
            await advance(self._etcd, state, wanted)


async def begin(etcd: Etcd, state: ClusterState, authority: Authority, now: float) -> tuple[Trust, CaRecord, int]:
    """Make the next root: gives what is to be stored of it, and at which revision the CA's record stands."""
    if state.trust is not None and state.trust.phase is not TrustPhase.SETTLED:
        raise Conflict("the CA is being rotated already", hint="`stack ca` shows how far that is.")
    stored = await _stored(etcd)
    known = read(stored, CaRecord)
    ca = pki.Authority(known.certificate, known.key)
    fresh = pki.new_authority(authority.cluster, now=now)
    cross = pki.cross_signed(fresh.certificate, by=ca)
    wanted = rotation.begun(state.trust, known.certificate, fresh.certificate, cross, now)
    record = CaRecord(known.certificate, known.key, coming=Root(fresh.certificate, fresh.key))
    return wanted, record, stored.mod_revision


async def advance(etcd: Etcd, state: ClusterState, wanted: Trust, more: tuple[Operation, ...] = ()) -> int:
    """Go on to the next phase, with whatever else is to be written: gives the revision at which that was done.

    It is 0 when something has changed meanwhile.
    """
    stored = await _stored(etcd)
    record = read(stored, CaRecord)
    if wanted.phase is TrustPhase.RENEWING:
        if record.coming is None:
            return 0
        record = CaRecord(record.coming.certificate, record.coming.key)
    guards = [unchanged(TRUST_KEY, state.revision_of(TRUST_KEY)), unchanged(CA_KEY, stored.mod_revision)]
    writes = [put(TRUST_KEY, codec.encode(wanted)), put(CA_KEY, written(record)), *more]
    try:
        result = await etcd.txn(guards, writes)
    except UnknownOutcome as error:
        log.info("looking again whether the rotation of the CA went on: %s", error.message)
        return 0
    if not result.succeeded:
        return 0
    log.info("the rotation of the CA: %s, generation %d", wanted.phase, wanted.generation)
    return result.revision


async def _stored(etcd: Etcd) -> KeyValue:
    stored = await etcd.get(CA_KEY)
    if stored is None:
        raise Inconsistent(f"the etcd key {CA_KEY} is missing")
    return stored
