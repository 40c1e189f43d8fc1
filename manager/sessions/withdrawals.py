"""What this manager can vouch for of tasks that leave: its agents have let go of them.

Agents say of sets in which an endpoint leaves when they are in force. As soon as all agents here have said so whose
node could send to a task, that is written, in one record for all tasks that leave: a manager with a thousand agents
writes as often as one with three. Where that takes long, it is written who is still awaited, so that nobody else is
named. While no task leaves, there is no record.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from cluster.codec import encode, key_for, key_of
from cluster.model.node import Session, SessionState
from cluster.model.task import Desired, Task
from cluster.model.update import Late, Withdrawn
from manager.decide.handover import concerned
from manager.etcd import Etcd, EtcdUnavailable, Refused, UnknownOutcome, delete, put
from manager.picture import Change, ClusterState

log = logging.getLogger(__name__)

PAUSE = 0.2
DEBOUNCE = 0.01
LATE = 1.0
"""Seconds after which it is written who is still awaited: before the leader's patience is at its end."""


class Withdrawals:
    """Fed with changes of the picture and with what agents say; `run` writes. `lease` is what the record hangs on."""

    def __init__(
        self, etcd: Etcd, state: ClusterState, manager: str, clock: Callable[[], float], lease: Callable[[], int]
    ) -> None:
        self._etcd, self._state, self._manager = etcd, state, manager
        self._clock, self._lease = clock, lease
        self._leaving: dict[str, int] = {}  # tasks, with the revision that withdrew each
        self._programmed: dict[str, tuple[int, int]] = {}  # by node: epoch of the session, revision
        self._vouched: dict[str, float] = {}
        self._noted: dict[str, float] = {}
        self._late: dict[str, Late] = {}
        self._look = asyncio.Event()
        self._outdated = False
        """A session's record here is newer than what is written: the leader would take that for an older session's."""

    def changed(self, changes: Iterable[Change]) -> None:
        """Take up what has changed in the picture, which shows it already."""
        for change in changes:
            if isinstance(change.new, Task):
                self._note(change.key, change.new.id, change.new)
            elif isinstance(change.old, Task):
                self._note(change.key, change.old.id, None)
            elif isinstance(change.new, Session) and self._leaving:
                self._outdated |= change.new.manager == self._manager
                self._look.set()

    def programmed(self, node: str, epoch: int, revision: int) -> None:
        """An agent has a set of that revision in force."""
        self._programmed[node] = max((epoch, revision), self._programmed.get(node, (0, 0)))
        if self._leaving:
            self._look.set()

    async def run(self) -> None:
        """Write what is to be vouched for, until cancelled."""
        written: tuple[Withdrawn | None, int] = (None, 0)
        while True:
            try:
                async with asyncio.timeout(self._rest()):
                    await self._look.wait()
            except TimeoutError:
                pass  # somebody is late
            await asyncio.sleep(DEBOUNCE)
            self._look.clear()
            word, lease = self.word(), self._lease()
            if ((word, lease) == written and not self._outdated) or (word is None and written[0] is None):
                continue
            self._outdated = False
            try:
                if word is None:
                    await self._etcd.txn((), [delete(key_for(Withdrawn, self._manager))])
                else:
                    await self._etcd.txn((), [put(key_of(word), encode(word), lease)])
                written = word, lease
            except (EtcdUnavailable, UnknownOutcome, Refused) as error:
                log.warning("what agents have let go of cannot be written: %s", error.message)
                await asyncio.sleep(PAUSE)
                self._outdated = True
                self._look.set()

    def _note(self, key: str, ident: str, task: Task | None) -> None:
        if task is not None and task.leaving_at is not None and task.desired is Desired.RUNNING:
            self._leaving.setdefault(ident, self._state.revision_of(key))
            self._noted.setdefault(ident, self._clock())
        elif self._leaving.pop(ident, None) is None:
            return
        else:
            del self._noted[ident]
        self._look.set()

    def _rest(self) -> float | None:
        """Tell after how many seconds somebody who is awaited is late: None if nobody is to become that."""
        due = [at + LATE for ident, at in self._noted.items() if ident not in self._vouched.keys() | self._late.keys()]
        return max(0.0, min(due) - self._clock()) if due else None

    def word(self) -> Withdrawn | None:
        """Say of which tasks all agents here have let go, and since when each; and which agents are late with that."""
        now = self._clock()
        awaited = {ident: self._awaited(self._state.tasks[ident], at) for ident, at in self._leaving.items()}
        self._vouched = {ident: self._vouched.get(ident, now) for ident, nodes in awaited.items() if not nodes}
        late: dict[str, Late] = {}
        for ident, nodes in awaited.items():
            if nodes and now >= self._noted[ident] + LATE:
                before = self._late.get(ident)
                late[ident] = before if before is not None and before.nodes == nodes else Late(now, nodes)
        self._late = late
        return Withdrawn(self._manager, self._vouched, late) if self._vouched or late else None

    def _awaited(self, task: Task, revision: int) -> tuple[str, ...]:
        """Name the nodes in session here that could send to a task by what their agents have said so far."""
        found = []
        for node in sorted(concerned(self._state, task) & self._state.sessions_at.get(self._manager, set())):
            session = self._state.sessions[node]
            if session.state is SessionState.OPEN and self._programmed.get(node, (0, 0)) < (session.epoch, revision):
                found.append(node)
        return tuple(found)
