"""The slots of a service, each a row of tasks of which the newest counts, and what a mode can make of them.

A service's mode (`replicated`, `global_mode`, `jobs`) reads a ServicePicture and answers with Wanted; the orchestrator
carries that out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from cluster.model.service import ServiceSpec, ServiceState
from cluster.model.stack import StackRevision
from cluster.model.task import Desired, Task
from manager.picture import ClusterState


class Slot(NamedTuple):
    """`tasks` are newest first."""

    number: int
    tasks: tuple[Task, ...]

    @property
    def occupant(self) -> Task | None:
        """The task that fills the slot: it runs, is on its way, or ended by itself; None when the slot was given up."""
        newest = self.tasks[0]
        return newest if newest.desired is Desired.RUNNING and newest.leaving_at is None else None


def slots_of(tasks: Iterable[Task]) -> tuple[Slot, ...]:
    """Sort a service's tasks into their slots."""
    rows: dict[int, list[Task]] = {}
    for task in tasks:
        rows.setdefault(task.slot, []).append(task)
    for row in rows.values():
        if len(row) > 1:
            row.sort(key=lambda task: -task.n)
    return tuple([Slot(number, tuple(rows[number])) for number in sorted(rows)])


def slots_in(state: ClusterState, service_uid: str) -> tuple[Slot, ...]:
    """Give the slots of a service as the picture has them."""
    rows = state.rows.get(service_uid, {})
    return tuple([Slot(number, rows[number]) for number in sorted(rows)])


@dataclass(frozen=True, slots=True)
class ServicePicture:
    """One service that is wanted, as a decision about it sees it: `spec` is what `head` asks for, at `version`."""

    state: ClusterState
    service: ServiceState
    head: StackRevision
    spec: ServiceSpec
    version: int
    now: float
    slots: tuple[Slot, ...]


class Act(Enum):
    """What becomes of a slot."""

    SETTLE = auto()  # it stays: updates, restarts and the state of its node decide about its task
    RENEW = auto()  # it gets a new task in place of the newest one, whatever became of that
    REST = auto()  # it stays as a row that holds nothing live: what still runs in it is asked to end
    GIVE_UP = auto()  # all that is left of it goes, containers and logs too


class Fate(NamedTuple):
    """`reason` tells people why a task is asked to end."""

    act: Act
    reason: str = ""


class Opening(NamedTuple):
    """A slot to be filled. `node` is where its task belongs, "" being anywhere."""

    slot: int
    node: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a mode makes of a service: a fate for each slot there is, and the slots to be filled."""

    fates: dict[int, Fate]
    openings: tuple[Opening, ...] = ()


def none_wanted(picture: ServicePicture) -> Wanted:
    """Have nothing of a stopped service run; what has ended stays, with its log, and so does what a job has done."""
    return Wanted({slot.number: Fate(Act.REST, "its service was stopped") for slot in picture.slots})
