"""The leader's loop: something changed, or a stored instant came -> decide -> commit.

One question at a time: its plan is committed, and the picture has shown it, before the next one is decided, so that
each is decided on everything that came before. A plan that etcd would not take is decided again on what the picture
then shows; one whose answer was lost is treated the same way (`manager.commit` says why that is right).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from cluster.latency import ManagerWork
from manager.decide.agenda import Question
from manager.decide.plan import Plan
from manager.etcd import Compare, EtcdUnavailable, NoSpace, Operation, TxnResult, UnknownOutcome
from manager.leader import Leader
from manager.picture import Change, ClusterState

log = logging.getLogger(__name__)

ASK_ALL_EVERY = 60.0
STALL = 1.0
"""Seconds late that make the loop count as having been asleep: silence in that time is credited to the nodes.

Counted from one of etcd's answers to the next: while a long plan is written the leader hears all that comes, but a
single answer that is so late says that etcd told nobody anything meanwhile.
"""

LONGEST_SLEEP = 0.5
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 1.0
"""Seconds before a question is asked again whose plan etcd would not take, when nothing changes meanwhile."""

SLICE = 0.003
"""Seconds of deciding after which others on the event loop have their turn."""

LONGEST_COMMIT = 0.5
"""Seconds after which the rest of a plan is left to be decided again if something more pressing is open."""


class Store(Protocol):
    async def txn(self, compares: Sequence[Compare], ops: Sequence[Operation]) -> TxnResult: ...


class Following(Protocol):
    """The picture, as `manager.follow.Follower` keeps it."""

    @property
    def state(self) -> ClusterState: ...
    @property
    def still(self) -> AbstractAsyncContextManager[None]: ...
    async def reached(self, revision: int) -> None: ...


class Control:
    """Leads until cancelled. Made on a picture that is loaded; `changed` is called with every change from then on."""

    def __init__(
        self,
        store: Store,
        following: Following,
        fence: Sequence[Compare],
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
        observe: Callable[[ManagerWork, float], None] = lambda work, seconds: None,
    ) -> None:
        self._store = store
        self._following = following
        self._fence = tuple(fence)
        self._clock, self._monotonic, self._observe = clock, monotonic, observe
        self._listened = self._slice_began = monotonic()
        self._leader = Leader(following.state, clock())
        self._news = asyncio.Event()
        self._refused: dict[Question, int] = {}

    def changed(self, changes: list[Change]) -> None:
        """Take in what changed in the picture."""
        self._leader.note(changes, self._clock())
        self._news.set()

    async def run(self) -> None:
        self._listened = self._monotonic()
        ask_all_at = self._listened + ASK_ALL_EVERY
        while True:
            self._news.clear()
            now = self._clock()
            self._listen()
            if self._listened >= ask_all_at:
                ask_all_at = self._listened + ASK_ALL_EVERY
                self._leader.ask_all(now)
            question = self._leader.agenda.take(now)
            if question is None:
                await self._sleep(now)
                self._slice_began = self._monotonic()
                continue
            plan = await self._decide(question, now)
            self._observe("decide", self._monotonic() - self._listened)
            if plan.steps:
                await self._commit(question, plan, now)
                self._slice_began = self._monotonic()

    async def _decide(self, question: Question, now: float) -> Plan:
        """Decide a question on the picture as it is. Others have their turn meanwhile, but see it stand still."""
        deciding = self._leader.deciding(question, now)
        async with self._following.still:
            while True:
                try:
                    next(deciding)
                except StopIteration as end:
                    plan: Plan = end.value
                    break
                await self._breathe()
        await self._breathe()
        return plan

    async def _breathe(self) -> None:
        if self._monotonic() - self._slice_began > SLICE:
            await asyncio.sleep(0)
            self._slice_began = self._monotonic()

    def _listen(self) -> None:
        """Credit the time since the last call if that was too long for a loop that listens."""
        late, self._listened = self._monotonic() - self._listened, self._monotonic()
        if late > LONGEST_SLEEP + STALL:
            log.warning("the leader did not listen for %.1f s; silence in that time does not count", late)
            self._leader.credit(self._clock())

    async def _sleep(self, now: float) -> None:
        """Wait for a change or the next stored instant."""
        wake = self._leader.agenda.next_wake()
        try:
            async with asyncio.timeout(LONGEST_SLEEP if wake is None else min(LONGEST_SLEEP, max(0.0, wake - now))):
                await self._news.wait()
        except TimeoutError:
            pass

    async def _commit(self, question: Question, plan: Plan, now: float) -> None:
        commit, began = self._leader.commit(plan, self._fence, now), self._monotonic()
        while (transaction := commit.next()) is not None:
            sent = self._monotonic()
            try:
                result = await self._store.txn(transaction.compares, transaction.operations)
            except (UnknownOutcome, EtcdUnavailable) as error:
                log.warning("%s: %s; looking again", transaction.steps[0].why, error.message)
                self._leader.credit(self._clock())
                self._again(question)
                if isinstance(error, NoSpace):
                    await asyncio.sleep(LONGEST_PAUSE)  # which is said at once, and would be for each question
                return
            if not result.succeeded:
                log.info("%s: something changed meanwhile; looking again", transaction.steps[0].why)
                self._again(question)
                return
            for step in transaction.steps:
                log.info("%s", step.why)
            commit.succeeded(result.revision)
            await self._following.reached(result.revision)
            self._observe("commit", self._monotonic() - sent)
            self._listen()
            if self._monotonic() - began > LONGEST_COMMIT and self._leader.agenda.presses(question, self._clock()):
                self._leader.agenda.mark(question.about, question.ident)
                break
        self._refused.pop(question, None)

    def _again(self, question: Question) -> None:
        """Ask a question again after a pause that grows, or as soon as a change opens it."""
        refused = self._refused[question] = self._refused.get(question, 0) + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(refused - 1, 8))
        self._leader.agenda.wake(question, self._clock() + pause)
