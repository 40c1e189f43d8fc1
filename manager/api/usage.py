"""Routes of `stack top` and `stack df`: what tasks use now, and what lies on nodes' disks, as their agents tell it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated

import aiohttp
import msgspec
from fastapi import APIRouter, Depends
from starlette.responses import Response

from cluster.model.node import Manager
from cluster.model.task import Task, TaskState
from cluster.protocol import Measured
from cluster.usage import DiskView, Measurement, NodeDisk, TaskUsage, UsageView
from manager.api import show
from manager.api.bodies import answer, body, takes
from manager.api.core import Core, ReadyCore
from manager.api.rules import Permitted
from manager.sessions.measurements import DISK_WITHIN, WITHIN

router = APIRouter(prefix="/v1", tags=["nodes"])

BETWEEN_MANAGERS = 5.0
"""Seconds beyond an agent's that another manager may take."""


@router.get("/usage", response_model=UsageView)
async def usage(
    caller: Permitted, core: ReadyCore, stack: str | None = None, service: str | None = None, node: str | None = None
) -> Response:
    """Tell what the running tasks of a stack or service, or on a node, have used of CPU, memory, network and disk.

    The numbers are counters: ask twice, and divide what they grew by the time between their instants.
    """
    there = None if node is None else show.find_node(core.state, node)
    tasks: dict[str, Task] = {}
    asked: dict[str, list[str]] = {}
    for one in show.find_services(core.state, stack, service, caller.sees):
        for task in show.tasks_of(core.state, one.uid, there):
            if task.node in core.state.nodes and _runs(core, task):
                tasks[task.id] = task
                asked.setdefault(task.node, []).append(task.id)
        await asyncio.sleep(0)  # of many services, others have their turn
    told = await _measure(core, {name: tuple(some) for name, some in asked.items()}, disk=False)
    rows = []
    for ident, measured in told.items():
        for counters in measured.tasks:
            task = tasks[counters.task]
            if (of := core.state.services.get(task.service_uid)) is not None:
                name = show.task_name(core.state, task)
                rows.append(TaskUsage(name, of.stack, of.full_name, task.slot, _name(core, ident), counters))
        await asyncio.sleep(0)
    rows.sort(key=lambda row: (row.service, row.slot, row.node))
    return answer(UsageView(tuple(rows), _notes(core, told)))


@router.get("/disk", response_model=DiskView)
async def disk(caller: Permitted, core: ReadyCore, node: str | None = None) -> Response:
    """Tell what images, containers, volumes and build cache take on the disks of nodes, and what could go of it."""
    nodes = list(core.state.nodes) if node is None else [show.find_node(core.state, node).id]
    told = await _measure(core, dict.fromkeys(nodes, ()), disk=True)
    rows = [NodeDisk(_name(core, ident), measured.disk) for ident, measured in told.items() if measured.disk]
    return answer(DiskView(tuple(sorted(rows, key=lambda row: row.node)), _notes(core, told)))


@router.post("/measurements", response_model=None, openapi_extra=takes(Measurement))
async def measurements(
    caller: Permitted, core: ReadyCore, asked: Annotated[Measurement, Depends(body(Measurement))]
) -> Response:
    """Have nodes measured that are in session with this manager."""
    return answer(await core.sessions.measure(asked.tasks, disk=asked.disk))


def _runs(core: Core, task: Task) -> bool:
    status = core.state.statuses.get(task.id)
    return status is not None and status.state is TaskState.RUNNING


async def _measure(core: Core, tasks: Mapping[str, tuple[str, ...]], *, disk: bool) -> dict[str, Measured]:
    """Ask each node through the manager that holds its session."""
    mine: dict[str, tuple[str, ...]] = {}
    theirs: dict[str, dict[str, tuple[str, ...]]] = {}
    down = {node: Measured("", problem="it is down") for node in tasks if core.state.is_lost(node)}
    for node, some in tasks.items():
        if node in down:
            continue  # its session may be there for a while yet
        session = core.state.sessions.get(node)
        holder = "" if session is None else session.manager
        away = not core.sessions.holds(node) and holder in core.state.managers and holder != core.presence.manager.id
        (theirs.setdefault(holder, {}) if away else mine)[node] = some
    found = await asyncio.gather(
        core.sessions.measure(mine, disk=disk),
        *(_by_another(core, core.state.managers[one], some, disk) for one, some in theirs.items()),
    )
    return {node: measured for each in (*found, down) for node, measured in each.items()}


async def _by_another(
    core: Core, manager: Manager, tasks: Mapping[str, tuple[str, ...]], disk: bool
) -> dict[str, Measured]:
    problem = f"the manager {manager.name}, which its agent is connected to, does not answer"
    within = aiohttp.ClientTimeout(total=(DISK_WITHIN if disk else WITHIN) + BETWEEN_MANAGERS)
    data = msgspec.json.encode(Measurement(dict(tasks), disk))
    try:
        async with core.others.post(f"{manager.url}/v1/measurements", data=data, timeout=within) as reply:
            if reply.status == 200:
                return msgspec.json.decode(await reply.read(), type=dict[str, Measured])
            if reply.status == 404:
                problem = f"the manager {manager.name}, which its agent is connected to, is too old to ask it"
    except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError):
        pass
    return {node: Measured("", problem=problem) for node in tasks}


def _name(core: Core, ident: str) -> str:
    node = core.state.nodes.get(ident)
    return ident if node is None else node.name


def _notes(core: Core, told: Mapping[str, Measured]) -> tuple[str, ...]:
    return tuple(sorted(f"{_name(core, node)}: {one.problem}" for node, one in told.items() if one.problem))
