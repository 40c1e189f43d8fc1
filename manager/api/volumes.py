"""Routes about the volumes whose data is on a node, what their nodes say of them, and their end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

from fastapi import APIRouter
from starlette.responses import Response

from cluster.codec import key_for, key_of
from cluster.errors import Conflict, NotFound
from cluster.model.node import Node, NodeStatus
from cluster.model.volume import Volume
from cluster.views import VolumeRemoval, VolumeView
from cluster.views.volumes import NODE_DOWN
from manager import audit
from manager.api.bodies import answer
from manager.api.core import TRIES, Core, ReadyCore, busy
from manager.api.rules import Permitted
from manager.api.show import Sees, everything, sees_volume, task_name
from manager.commit import CLOCK
from manager.decide.volumes import may_be_called, volumes_named, volumes_of
from manager.etcd import delete
from manager.picture import ClusterState

router = APIRouter(prefix="/v1/volumes", tags=["stacks"])

WITHIN = 15.0
"""Seconds that a node has to remove a volume; mostly it takes a tenth of one."""


@router.get("", response_model=list[VolumeView])
async def list_volumes(caller: Permitted, core: ReadyCore) -> Response:
    """List the volumes that are on one node each: not those of global services, nor those that all nodes reach."""
    return answer(volumes(core.state, caller.sees))


@router.get("/{name}", response_model=VolumeView)
async def volume(caller: Permitted, core: ReadyCore, name: str) -> Response:
    """Show a volume that is on one node."""
    found = _found(core.state, name, caller.sees)
    return answer(next(view for view in volumes(core.state, caller.sees) if view.name == found.name))


@router.delete("/{name}", response_model=VolumeRemoval)
async def remove_volume(caller: Permitted, core: ReadyCore, name: str) -> Response:
    """Remove a volume that nothing uses, with its data; answers when it is gone, unless its node is away."""
    for _ in range(TRIES):
        volume = _found(core.state, name, caller.sees)
        refuse_if_used(core.state, volume, caller.sees)
        stack, node = core.state.stack_names.get(volume.stack_uid, ""), core.state.nodes.get(volume.node)
        place = volume.node if node is None else node.name
        audit.note(about=name, stack=stack, before=f"on {place}", after="removed, with its data")
        if volume.removing or await _write_off(core, volume):
            break
    else:
        raise busy(f"the volume {name}")
    await _settled(core, volume)
    left = core.state.volumes.get(name)
    if left is None or not left.removing:  # one that was bound anew is another one
        return answer(VolumeRemoval(name, place, gone=True))
    return answer(VolumeRemoval(name, place, gone=False, problem=_problem(core.state, left)))


async def _write_off(core: Core, volume: Volume) -> bool:
    """Have it removed from its node, or only forgotten if that is no member any more.

    As every transaction of the leader rewrites the time, the guard of that keeps out a task that was given the volume
    meanwhile; one that would be given it later finds that it is going.
    """
    keys = (key_of(volume), key_for(Node, volume.node), CLOCK)
    guards = {key: core.state.revision_of(key) for key in keys}
    if volume.node not in core.state.nodes:
        return await core.write([], guards, [delete(key_of(volume))])
    return await core.write([replace(volume, removing=True)], guards)


async def _settled(core: Core, volume: Volume) -> None:
    """Wait until it is gone, or its node says why it is not, or is away."""

    def settled() -> bool:
        left = core.state.volumes.get(volume.name)
        if left is None or not left.removing:
            return True
        return bool(_is_down(core.state, left) or removal_trouble(core.state, left) or _kept_by(core.state, left))

    try:
        async with asyncio.timeout(WITHIN):
            await core.follower.until(settled)
    except TimeoutError:
        return


# As people see it. Pure.


def refuse_if_used(state: ClusterState, volume: Volume, sees: Sees = everything) -> None:
    """Raise Conflict for a volume that a service names or a task has, also while its stack is stopped or leaving."""
    used = [(stack, f"service {service}") for stack, service in _services_with(state, volume.name)]
    if not used:
        used = [(stack, f"task {task}") for stack, task in _tasks_with(state, volume, ended=False)]
    if not used:
        return
    told = sorted({what if sees(stack) else "another stack" for stack, what in used})
    raise Conflict(
        f"volume {volume.name} is used by {', '.join(told)}",
        hint="Take it out of the stack's file and deploy that, or remove it: `stack rm`, with its data --volumes.",
    )


def _services_with(state: ClusterState, name: str) -> Iterator[tuple[str, str]]:
    for stack in state.stacks.values():
        head = state.head(stack.uid)
        if head is None or stack.removing:
            continue
        for service, spec in head.spec.services.items():
            asleep = spec.stopped and any(may_be_called(written, name) for written in spec.volume_names)
            if asleep or name in volumes_named(state, head, spec):
                yield stack.name, f"{stack.name}_{service}"


def _tasks_with(state: ClusterState, volume: Volume, *, ended: bool) -> Iterator[tuple[str, str]]:
    for task in map(state.tasks.__getitem__, state.tasks_on.get(volume.node, ())):
        if state.has_ended(task) is ended and volume.name in volumes_of(state, task):
            yield state.stack_names.get(task.stack_uid, ""), task_name(state, task)


def _kept_by(state: ClusterState, volume: Volume) -> str:
    """Tell of ended tasks that are kept for their logs, and whose containers still hold a volume that is to go."""
    names = sorted({name for _, name in _tasks_with(state, volume, ended=True)})
    return f"goes with the logs of ended tasks: {', '.join(names)}" if names else ""


def _found(state: ClusterState, name: str, sees: Sees) -> Volume:
    if name not in state.volumes or not sees_volume(state, name, sees):
        raise NotFound(f"there is no volume {name}", hint="`stack volume ls` lists those that there are.")
    return state.volumes[name]


def volumes(state: ClusterState, sees: Sees = everything) -> list[VolumeView]:
    users: dict[str, set[str]] = {}
    for stack in filter(lambda one: sees(one.name), state.stacks.values()):
        for name, service in state.revisions[stack.uid][stack.head].spec.services.items():
            for volume_name in service.volume_names:
                users.setdefault(volume_name, set()).add(f"{stack.name}_{name}")
    seen = (one for name, one in sorted(state.volumes.items()) if sees_volume(state, name, sees))
    return [_view(state, volume, users.get(volume.name, set())) for volume in seen]


def _view(state: ClusterState, volume: Volume, users: set[str]) -> VolumeView:
    node = state.nodes.get(volume.node)
    return VolumeView(
        name=volume.name,
        node=volume.node if node is None else node.name,
        stack=state.stack_names.get(volume.stack_uid, ""),
        used_by=tuple(sorted(users)),
        created_at=volume.bound_at,
        removing=volume.removing,
        problem=_problem(state, volume),
    )


def _problem(state: ClusterState, volume: Volume) -> str:
    if volume.node not in state.nodes:
        return "its node is no longer in the cluster"
    if _is_down(state, volume):
        return NODE_DOWN
    if not volume.removing:
        return ""
    return removal_trouble(state, volume) or _kept_by(state, volume) or "is being removed"


def _is_down(state: ClusterState, volume: Volume) -> bool:
    verdict = state.node_states.get(volume.node)
    return verdict is not None and verdict.status is NodeStatus.DOWN


def removal_trouble(state: ClusterState, volume: Volume) -> str:
    """Give what a node says of a volume that is to go, "" when it says nothing: `cannot be removed: ...`."""
    session = state.sessions.get(volume.node)
    trouble = "" if session is None else session.conditions.get("volumes", "")
    _, _, rest = f"; {trouble}".partition(f"; volume {volume.name} ")
    return rest.partition("; volume ")[0]
