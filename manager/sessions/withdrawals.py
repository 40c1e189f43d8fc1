"""What this manager can vouch for of tasks that leave: its agents have let go of them.

Agents say of sets in which an endpoint leaves when they are in force. As soon as all agents here have said so whose
node could send to a task, that is written, in one record for all tasks that leave: a manager with a thousand agents
writes as often as one with three. While no task leaves, there is no record.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from cluster.codec import encode, key_for, key_of
from cluster.model.node import Session, SessionState
from cluster.model.task import Desired, Task
from cluster.model.update import Withdrawn
from manager.decide.handover import concerned
from manager.etcd import Etcd, EtcdUnavailable, Refused, UnknownOutcome, delete, put
from manager.picture import Change, ClusterState

log = logging.getLogger(__name__)

PAUSE = 0.2
DEBOUNCE = 0.01


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
        self._look = asyncio.Event()

    def changed(self, changes: Iterable[Change]) -> None:
        """Take up what has changed in the picture, which shows it already."""
        for change in changes:
            if isinstance(change.new, Task):
                self._note(change.key, change.new.id, change.new)
            elif isinstance(change.old, Task):
                self._note(change.key, change.old.id, None)
            elif isinstance(change.new, Session) and self._leaving:
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
            await self._look.wait()
            await asyncio.sleep(DEBOUNCE)
            self._look.clear()
            word, lease = self.word(), self._lease()
            if (word, lease) == written or (word is None and written[0] is None):
                continue
            try:
                if word is None:
                    await self._etcd.txn((), [delete(key_for(Withdrawn, self._manager))])
                else:
                    await self._etcd.txn((), [put(key_of(word), encode(word), lease)])
                written = word, lease
            except (EtcdUnavailable, UnknownOutcome, Refused) as error:
                log.warning("what agents have let go of cannot be written: %s", error.message)
                await asyncio.sleep(PAUSE)
                self._look.set()

    def _note(self, key: str, ident: str, task: Task | None) -> None:
        if task is not None and task.leaving_at is not None and task.desired is Desired.RUNNING:
            self._leaving.setdefault(ident, self._state.revision_of(key))
        elif self._leaving.pop(ident, None) is None:
            return
        self._look.set()

    def word(self) -> Withdrawn | None:
        """Say of which tasks all agents here have let go, and since when each."""
        self._vouched = {
            ident: self._vouched.get(ident, self._clock())
            for ident, revision in self._leaving.items()
            if self._is_let_go(self._state.tasks[ident], revision)
        }
        return Withdrawn(self._manager, self._vouched) if self._vouched else None

    def _is_let_go(self, task: Task, revision: int) -> bool:
        for node in concerned(self._state, task) & self._state.sessions_at.get(self._manager, set()):
            session = self._state.sessions[node]
            if session.state is SessionState.OPEN and self._programmed.get(node, (0, 0)) < (session.epoch, revision):
                return False
        return True
