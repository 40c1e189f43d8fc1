"""What must hold of copies on nodes out of reach (`x-on-disconnect`): one that must run only once does."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from cluster.model.service import OnDisconnect
from cluster.model.task import Task, TaskState
from tests.sim.agent import NOTICES, Agent, Container

if TYPE_CHECKING:
    from tests.sim.world import World

MARGIN = 10.0 + NOTICES
"""Seconds by which clocks differ, beats are apart, and later than the leader an agent knows that it is alone."""


def runs_twice(world: World) -> str:
    """Tell of a slot that runs on two hosts although its service's wish rules that out."""
    by_slot: dict[tuple[str, int], list[tuple[Agent, Container]]] = {}
    for agent, container in world.sandboxes():
        if container.state.rank > TaskState.READY.rank:
            slot = container.task.service_uid, container.task.slot
            by_slot.setdefault(slot, []).append((agent, container))
    for running in by_slot.values():
        running.sort(key=lambda one: one[1].task.n)
        for (agent, older), (_, newer) in itertools.combinations(running, 2):
            task = world.truth.tasks.get(older.task.id)
            if task is None or task.yields or task.id in world.orphaned or not agent.up:
                continue  # a host without its agent stops nothing
            wish = _wish(world, task)
            if wish is not None and _rules_it_out(world, wish):
                return f"{task.id} runs on {agent.name}, which is to stop it first, and {newer.task.id} in its place"
    return ""


def _rules_it_out(world: World, wish: OnDisconnect) -> bool:
    if not wish.replace:
        return True
    if wish.stop_after is None or wish.replace_after is None:
        return False
    return world.steady and wish.stop_after + MARGIN <= wish.replace_after


def _wish(world: World, task: Task) -> OnDisconnect | None:
    """Give what a task's service has wished for all the time since its version; None if it changed its mind."""
    service = world.truth.services.get(task.service_uid)
    if service is None or world.truth.wanted(service) is None:
        return None
    revisions = world.truth.revisions[task.stack_uid]
    specs = [r.spec.services.get(service.name) for n, r in revisions.items() if n >= task.version]
    wishes = {spec.on_disconnect for spec in specs if spec is not None}
    return wishes.pop() if len(wishes) == 1 else None
