"""The leader's mind between the pure decisions and the loop that drives them. Does no I/O, reads no clock.

Knows which questions are open, what it has heard of the nodes, and which services are set aside because deciding them
met a bug. `control` feeds it with changes and instants and commits what it wants.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from cluster.model.cluster import ClockMark
from manager.commit import CLOCK, Commit
from manager.decide import attachments, liveness, orchestrator, rebalance, stacks
from manager.decide.agenda import About, Agenda, Question
from manager.decide.liveness import Hearing, nodes_to_note
from manager.decide.plan import Deciding, Draft, Plan, drained
from manager.etcd.records import Compare
from manager.picture import Change, ClusterState

log = logging.getLogger(__name__)

FIRST_QUARANTINE, LONGEST_QUARANTINE = 2.0, 300.0


class Leader:
    """Made when leadership begins, on a picture that is whole; every question is open then."""

    def __init__(self, state: ClusterState, now: float) -> None:
        self.state = state
        self.agenda = Agenda(state)
        self.hearing = Hearing(now)
        self._failures: dict[Question, int] = {}
        self.hearing.note(state, state.sessions, now)
        self.agenda.mark_all()

    def note(self, changes: list[Change], now: float) -> None:
        """Take in what changed in the picture, which shows it already."""
        self.hearing.note(self.state, nodes_to_note(self.state, changes), now)
        self.agenda.note(changes)

    def credit(self, now: float) -> None:
        """Take in that the leader did not listen for a while."""
        self.hearing.start_again(now)
        self.agenda.mark(About.NODE, *self.state.nodes)

    def ask_all(self, now: float) -> None:
        """Ask everything again, in case that a change was not understood."""
        self.hearing.note(self.state, self.state.sessions, now)
        self.agenda.mark_all()

    def decide(self, question: Question, now: float) -> Plan:
        """Answer one question. A bug in deciding a service sets that service aside, for ever longer, and is logged."""
        return drained(self.deciding(question, now))

    def deciding(self, question: Question, now: float) -> Deciding:
        """Answer it piece by piece."""
        try:
            plan = yield from self._decide(question, now)
        except Exception as error:
            log.exception("deciding %s %s failed; it is set aside, others go on", question.about.name, question.ident)
            plan = self._set_aside(question, error, now)
        else:
            self._failures.pop(question, None)
        self.agenda.wake(question, plan.wake_at)
        return plan

    def commit(self, plan: Plan, fence: Sequence[Compare], now: float) -> Commit:
        """Begin the commit of a plan that was decided on the picture as it is."""
        return Commit(plan, fence, ClockMark(now), self.state.revision_of(CLOCK))

    def _decide(self, question: Question, now: float) -> Deciding:
        match question.about:
            case About.NODE:
                return liveness.decide(self.state, question.ident, self.hearing, now)
            case About.STACK:
                return stacks.decide(self.state, question.ident, now)
            case About.INGRESS:
                return stacks.decide_ingress(self.state, now)
            case About.REBALANCE:
                return rebalance.decide(self.state, now)
            case About.ATTACHMENT:
                return attachments.decide(self.state, question.ident, now)
            case About.SERVICE:
                return (yield from orchestrator.deciding(self.state, question.ident, now))

    def _set_aside(self, question: Question, error: Exception, now: float) -> Plan:
        service = self.state.services.get(question.ident) if question.about is About.SERVICE else None
        failures = self._failures.get(question, 0) if service is None else service.quarantines
        until = now + min(LONGEST_QUARANTINE, FIRST_QUARANTINE * 2.0 ** min(failures, 16))
        self._failures[question] = failures + 1
        if service is None:
            return Plan(wake_at=until)
        problem = f"set aside after a bug: {type(error).__name__}: {error}"
        draft = Draft(self.state)
        aside = orchestrator.set_aside(self.state, service, until, problem)
        draft.step(f"set service {service.full_name} aside", puts=[aside])
        draft.wake(until)
        return draft.plan()
