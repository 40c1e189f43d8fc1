"""What the agent knows of its node at this moment: the assignments, and what engine and kernel hold, by task."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from agent.container import Image, ImageWish, Observed, Phase, image_wish
from agent.converge import Memory, View
from cluster.assignments import Assignments, NetworkItem, ServiceItem, TaskItem, VolumeItem
from cluster.model.task import Task, TaskState, TaskStatus


class Known:
    """Tables with one entry a task or container; the runner changes them, `view` cuts out one task for converge."""

    def __init__(self) -> None:
        self.assignments = Assignments()
        self.complete = False
        self.tasks: dict[str, Task] = {}
        self.networks: frozenset[str] = frozenset()
        self.volumes: frozenset[str] = frozenset()
        """Volumes that are to be removed; none before a manager gave all of a set."""
        self.containers: dict[str, Observed] = {}
        self.sandboxes: set[str] = set()
        self.delivered: set[str] = set()
        """Tasks whose secrets and configs are there."""
        self.unused: set[str] = set()
        """Sandboxes that this process made and that no container has run in."""
        self.images: dict[ImageWish, Image] = {}
        self.fetched: set[ImageWish] = set()
        """Wishes that were fetched once and are not to be fetched again, whatever is told of images."""
        self.memory: dict[str, Memory] = {}
        self._containers_of: dict[str, set[str]] = {}
        self._watched: dict[str, asyncio.Event] = {}

    def assign(self, assignments: Assignments, *, complete: bool, now: float) -> list[str]:
        """Take a new set of assignments; `complete` if a manager gave all of it. Returns the tasks that changed."""
        tasks = {i.task.id: i.task for i in assignments.items.values() if isinstance(i, TaskItem)}
        changed = [t for t in {**self.tasks, **tasks} if tasks.get(t) != self.tasks.get(t)]
        if complete and not self.complete:
            changed += self.everything()
        self.assignments, self.tasks, self.complete = assignments, tasks, complete or self.complete
        self.networks = frozenset(i.network.id for i in assignments.items.values() if isinstance(i, NetworkItem))
        if self.complete:
            self.volumes = frozenset(i.name for i in assignments.items.values() if isinstance(i, VolumeItem))
        for task in tasks.keys() & changed:
            memory = self.memory.get(task)
            # What is wanted has changed: a back-off of the earlier wish must not hold it up.
            self.memory[task] = replace(memory, tries=0, retry_at=0.0) if memory else Memory(seen_at=now)
        return changed

    def item(self, task: Task) -> ServiceItem | None:
        item = self.assignments.items.get(f"service/{task.service_uid}/{task.version}")
        return item if isinstance(item, ServiceItem) else None

    def saw(self, container: Observed) -> None:
        self.containers[container.id] = container
        self._containers_of.setdefault(container.task, set()).add(container.id)
        memory = self.memory.get(container.task)
        if container.phase is Phase.RUNNING and memory is not None and not memory.ran:
            self.memory[container.task] = replace(memory, ran=True)
        if (watched := self._watched.get(container.id)) is not None:
            watched.set()

    def gone(self, container: str) -> str | None:
        """A container is no more; returns whose it was."""
        seen = self.containers.pop(container, None)
        if (watched := self._watched.get(container)) is not None:
            watched.set()
        if seen is None:
            return None
        rest = self._containers_of[seen.task]
        rest.discard(container)
        if not rest:
            del self._containers_of[seen.task]
        return seen.task

    async def changed(self, container: str, within: float) -> None:
        """Wait until something new is seen of a container, or for so many seconds."""
        watched = self._watched.setdefault(container, asyncio.Event())
        try:
            async with asyncio.timeout(within):
                await watched.wait()
        except TimeoutError:
            pass
        finally:
            self._watched.pop(container, None)

    def saw_all(self, containers: Iterable[Observed]) -> None:
        """Replace all that was known of containers."""
        self.containers.clear()
        self._containers_of.clear()
        for container in containers:
            self.saw(container)

    def view(self, task: str) -> View:
        wanted = self.tasks.get(task)
        item = self.item(wanted) if wanted else None
        return View(
            task=wanted,
            item=item,
            container=self.container_of(task),
            sandbox=task in self.sandboxes,
            image=self.images.get(image_wish(item)) if item else None,
            memory=self.memory.get(task) or Memory(seen_at=0.0),
            files=item is None or not item.spec.container.has_files or task in self.delivered,
        )

    def container_of(self, task: str) -> Observed | None:
        """The task's container. Names keep it to one; should a person have made more, running ones come first."""
        found = [self.containers[c] for c in self._containers_of.get(task, ())]
        return min(found, key=lambda c: (c.phase is not Phase.RUNNING, c.id), default=None)

    def everything(self) -> set[str]:
        """All tasks of which there is an assignment, a container or a sandbox."""
        return self.tasks.keys() | self._containers_of.keys() | self.sandboxes

    def knows(self, task: str) -> bool:
        """Tell whether there is anything of a task."""
        return task in self.tasks or task in self._containers_of or task in self.sandboxes

    def in_use(self) -> set[str]:
        """Tasks that are wanted or still have a container."""
        return self.tasks.keys() | self._containers_of.keys()

    def outcomes(self) -> tuple[TaskStatus, ...]:
        return tuple(m.outcome for t, m in self.memory.items() if m.outcome is not None and t in self.tasks)

    def remember_outcomes(self, outcomes: Iterable[TaskStatus], now: float) -> None:
        """Take over what an earlier life of this agent knew to have ended, and may have told."""
        for status in outcomes:
            self.memory[status.task] = Memory(seen_at=now, outcome=status, announced=status.state)

    def announced(self, statuses: Iterable[TaskStatus]) -> None:
        """A manager is about to hear of these."""
        for status in statuses:
            memory = self.memory.get(status.task)
            if memory is not None and (memory.announced or TaskState.NEW).rank < status.state.rank:
                self.memory[status.task] = replace(memory, announced=status.state)
