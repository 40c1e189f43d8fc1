"""Routes about the volumes whose data is on a node, and what their nodes say of them."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from cluster.errors import NotFound
from cluster.model.node import NodeStatus
from cluster.model.volume import Volume
from cluster.views import VolumeView
from manager.api.bodies import answer
from manager.api.core import ReadyCore
from manager.api.rules import Permitted
from manager.api.show import Sees, everything, sees_volume
from manager.picture import ClusterState

router = APIRouter(prefix="/v1/volumes", tags=["stacks"])


@router.get("", response_model=list[VolumeView])
async def list_volumes(caller: Permitted, core: ReadyCore) -> Response:
    """List the volumes that are on one node each: not those of global services, nor those that all nodes reach."""
    return answer(volumes(core.state, caller.sees))


@router.get("/{name}", response_model=VolumeView)
async def volume(caller: Permitted, core: ReadyCore, name: str) -> Response:
    """Show a volume that is on one node."""
    for view in volumes(core.state, caller.sees):
        if view.name == name:
            return answer(view)
    raise NotFound(f"there is no volume {name}", hint="`stack volume ls` lists those that there are.")


# As people see it. Pure.


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
    verdict = state.node_states.get(volume.node)
    if volume.node not in state.nodes:
        return "its node is no longer in the cluster"
    if verdict is not None and verdict.status is NodeStatus.DOWN:
        return "its node is down"
    return (removal_trouble(state, volume) or "is being removed") if volume.removing else ""


def removal_trouble(state: ClusterState, volume: Volume) -> str:
    """Give what a node says of a volume that is to go, "" when it says nothing: `cannot be removed: ...`."""
    session = state.sessions.get(volume.node)
    trouble = "" if session is None else session.conditions.get("volumes", "")
    _, _, rest = f"; {trouble}".partition(f"; volume {volume.name} ")
    return rest.partition("; volume ")[0]
