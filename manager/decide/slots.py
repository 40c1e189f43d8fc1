"""The slots of a replicated service: each is a row of tasks, of which the newest counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cluster.model.task import Desired, Task


@dataclass(frozen=True, slots=True)
class Slot:
    """`tasks` are newest first."""

    number: int
    tasks: tuple[Task, ...]

    @property
    def occupant(self) -> Task | None:
        """The task that fills the slot: it runs, is on its way, or ended by itself; None when the slot was given up."""
        newest = self.tasks[0]
        return newest if newest.desired is Desired.RUNNING else None


def slots_of(tasks: Iterable[Task]) -> list[Slot]:
    """Sort a service's tasks into their slots."""
    rows: dict[int, list[Task]] = {}
    for task in sorted(tasks, key=lambda task: -task.n):
        rows.setdefault(task.slot, []).append(task)
    return [Slot(number, tuple(rows[number])) for number in sorted(rows)]
