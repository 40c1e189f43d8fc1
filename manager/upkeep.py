"""Looks after etcd, whoever runs it: every manager looks how its members fare, and the leader keeps them small.

The decisions are in `manager.decide.upkeep`. An etcd that is full takes no new leases, so that managers that were
started then cannot be elected: where nobody leads, the one beside raft's leader makes room.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence

import msgspec

from cluster.errors import StackyardError
from cluster.examination import Finding
from manager.decide import upkeep
from manager.decide.upkeep import Compact, Defragment, Disarm, Mark, Seen, Step
from manager.etcd import Etcd, Look, Member, put, unchanged
from manager.etcd_server import Own
from manager.picture import ClusterState
from manager.presence import ELECTION, Presence

log = logging.getLogger(__name__)

MARK = "/stackyard/upkeep/history"
LOOK_EVERY = 5.0
AGAIN = 60.0
"""Seconds until what did not help is tried again."""


class Upkeep:
    """One manager's hand in it. `own` is None where somebody else runs etcd."""

    def __init__(self, etcd: Etcd, presence: Presence, clock: Callable[[], float], own: Own | None) -> None:
        self._etcd, self._presence, self._clock, self._own = etcd, presence, clock, own
        self._members: tuple[Member, ...] = ()
        self._looks: dict[int, Look] = {}
        self._met: set[int] = set()
        self._answers = upkeep.Answers()
        self._compacted = 0
        self._rest_until = 0.0
        self._troubles: dict[str, str] = {}

    def of_nodes(self, state: ClusterState) -> dict[str, str]:
        """Say what is wrong with etcd, by the id of the node that it is about."""
        return upkeep.of_nodes(state, self._troubles)

    def findings(self) -> Iterator[Finding]:
        return upkeep.findings(self._troubles)

    async def run(self) -> None:
        """Look after etcd until cancelled."""
        while True:
            try:
                seen = await self.look()
                if await self._is_ours(seen):
                    await self._make_room(seen)
                if self._presence.leading:
                    await self._forget_history(seen)
            except StackyardError as error:
                log.info("etcd cannot be looked after now: %s", error.message)
            await asyncio.sleep(LOOK_EVERY)

    async def look(self) -> tuple[Seen, ...]:
        """See how all members fare."""
        looks = await self._etcd.maintenance.look()
        self._looks = {look.member: look for look in reversed(looks)}  # of two endpoints of a member the first counts
        self._met |= self._looks.keys()
        if self._looks:
            self._members = await self._etcd.members.all()
        self._answers.keep(member.id for member in self._members)
        for member in self._members:
            if self._knows(member):
                look = self._looks.get(member.id)
                self._answers.note(member.id, look.seconds if look is not None and look.serves else None)
        seen = tuple(map(self._seen, self._members))
        before, self._troubles = self._troubles, upkeep.troubles(seen, self._away(), self._answers)
        for name in self._troubles.keys() - before.keys():
            log.warning("etcd of %s: %s", name, self._troubles[name])
        for name in before.keys() - self._troubles.keys():
            log.info("etcd of %s is well again", name)
        return seen

    def _knows(self, member: Member) -> bool:
        """Tell whether a member is among those that this manager asks: others may be there, and be well."""
        return member.id in self._met or bool(set(member.clients) & set(self._etcd.endpoints))

    def _seen(self, member: Member) -> Seen:
        look = self._looks.get(member.id)
        name = member.name or member.peers[0]
        if look is None:
            return Seen(member.id, name)
        return Seen(
            member.id, name, look.serves, look.leads, look.size, look.used, look.revision, look.alarms
        )  # fmt: skip

    def _away(self) -> dict[int, str]:
        silent = [member for member in self._members if member.id not in self._looks and self._knows(member)]
        return {member.id: self._own_trouble(member) or "its etcd does not answer" for member in silent}

    def _own_trouble(self, member: Member) -> str:
        return self._own.child.trouble if self._own is not None and self._own.peer in member.peers else ""

    async def _is_ours(self, seen: Sequence[Seen]) -> bool:
        """Tell whether it is for this manager to make room."""
        if self._presence.leading:
            return True
        if self._presence.held.is_set() or not upkeep.is_full(seen) or await self._etcd.leader(ELECTION) is not None:
            return False
        if self._own is None:
            return True
        return any(look.leads and look.endpoint == self._own.endpoint for look in self._looks.values())

    async def _make_room(self, seen: tuple[Seen, ...]) -> None:
        """Do all that helps, one after the other, each on a new look."""
        while self._clock() >= self._rest_until and (step := upkeep.next_step(seen, self._compacted)) is not None:
            try:
                await self._do(step)
            except StackyardError:
                self._rest_until = self._clock() + AGAIN
                raise
            if isinstance(step, Disarm):
                self._rest_until = self._clock() + AGAIN  # if that is said again there is nothing more to be gained
            if isinstance(step, Compact):
                return  # other members free the pages a little later
            seen = await self.look()

    async def _do(self, step: Step) -> None:
        match step:
            case Compact(revision):
                log.warning("etcd is full: its history before revision %d goes", revision)
                await self._etcd.compact(revision, physical=True)
                self._compacted = revision
            case Defragment(member):
                before = self._looks[member]
                log.info("defragmenting etcd at %s: %d of %d bytes in use", before.endpoint, before.used, before.size)
                await self._etcd.maintenance.defragment(before.endpoint)
            case Disarm(member):
                log.warning("etcd has room again, member %x is told so", member)
                await self._etcd.maintenance.disarm(member)

    async def _forget_history(self, seen: Sequence[Seen]) -> None:
        stored = await self._etcd.get(MARK)
        mark = None if stored is None else _mark(stored.value)
        revision = max((member.revision for member in seen), default=0)
        before, new = upkeep.compaction(mark, self._clock(), revision)
        if before is not None:
            await self._etcd.compact(before)
        if new is not None:
            guard = unchanged(MARK, 0 if stored is None else stored.mod_revision)
            await self._etcd.txn([guard], [put(MARK, msgspec.json.encode(new))])


def _mark(value: bytes) -> Mark | None:
    """Read a mark; one that another version wrote in another form is made anew."""
    try:
        return msgspec.json.decode(value, type=Mark)
    except msgspec.MsgspecError:
        return None
