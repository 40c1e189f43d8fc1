"""Routes about nodes: what they are, what they take, and taking them out of the cluster."""

from __future__ import annotations

import time
from dataclasses import fields, replace
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from cluster.codec import key_for, key_of
from cluster.errors import Conflict
from cluster.model.node import Availability, Node, NodeStatus
from cluster.people import root_of
from cluster.views import NodeChange, NodeView
from manager import audit, membership
from manager.api import show
from manager.api.bodies import answer, body, listed, takes
from manager.api.core import TRIES, Core, ReadyCore, busy
from manager.api.rules import Permitted
from manager.etcd import delete
from manager.picture import ClusterState

router = APIRouter(prefix="/v1", tags=["members"])

DRAIN_DEADLINE = 600.0
"""Seconds that a drain takes its time for when nothing else is asked for."""


@router.get("/nodes", response_model=list[NodeView])
async def nodes(caller: Permitted, core: ReadyCore) -> Response:
    """List nodes."""
    etcd = core.upkeep.of_nodes(core.state)
    return await listed(core.state.nodes, lambda node: [show.node(core.state, node, caller.sees, etcd)])


@router.get("/nodes/{name}", response_model=NodeView)
async def one_node(caller: Permitted, core: ReadyCore, name: str) -> Response:
    """Show a node, by its name or id."""
    etcd = core.upkeep.of_nodes(core.state)
    return answer(show.node(core.state, show.find_node(core.state, name), caller.sees, etcd))


@router.patch("/nodes/{name}", response_model=NodeView, openapi_extra=takes(NodeChange))
async def change_node(
    caller: Permitted, core: ReadyCore, name: str, wish: Annotated[NodeChange, Depends(body(NodeChange))]
) -> Response:
    """Change a node's availability, labels or resources; the name may be its id."""
    return answer(await change(core, name, wish))


@router.delete("/nodes/{name}", status_code=204)
async def remove_node(caller: Permitted, core: ReadyCore, name: str, force: bool = False) -> Response:
    """Take a node out of the cluster: one that is down and holds no data, or with `force` any."""
    node = show.find_node(core.state, name)
    if not force:
        _refuse_to_lose(core.state, node)
    await take_out(core, node.id)
    return Response(status_code=204)


async def change(core: Core, name: str, change: NodeChange) -> NodeView:
    """Store a change of a node, and show the node as it is then."""
    for _ in range(TRIES):
        node = show.find_node(core.state, name)
        if change.role == "worker" and node.role == "manager" and core.own_etcd is not None:
            await membership.forget(core.etcd, node)
        wanted = _changed(node, change, core.clock())
        key = key_for(Node, node.id)
        audit.note(about=node.name, before=_told(node, wanted), after=_told(wanted, node))
        if wanted == node or await core.write([wanted], {key: core.state.revision_of(key)}):
            return show.node(core.state, wanted)
    raise busy(f"the node {name}")


async def take_out(core: Core, ident: str) -> None:
    """Forget a node and free its name; what ran on it is replaced elsewhere."""
    for _ in range(TRIES):
        node = core.state.nodes.get(ident)
        if node is None:
            return
        if core.own_etcd is not None and node.role == "manager":
            await membership.forget(core.etcd, node)
        key, name_key = key_for(Node, node.id), key_of_name(node.name)
        audit.note(about=node.name, before=f"{node.role}, id {node.id}", after="removed")
        taken = await core.etcd.get(name_key)
        guards, deletes = {key: core.state.revision_of(key)}, [delete(key)]
        if taken is not None and taken.value.decode() == node.id:
            guards[name_key] = taken.mod_revision
            deletes.append(delete(name_key))
        if (root := core.state.users.get(root_of(node.name))) is not None:
            deletes.append(delete(key_of(root)))  # its certificate is on that host, and as good as root on all others
        if await core.write([], guards, deletes):
            return
    raise busy(f"the node {ident}")


def key_of_name(name: str) -> str:
    """Give the key that keeps two nodes from one name."""
    return f"/stackyard/pki/name/{name}"


def lives(state: ClusterState, node: Node) -> bool:
    """Tell whether a node has been seen and not been given up."""
    verdict = state.node_states.get(node.id)
    heard = state.is_heard(state.sessions.get(node.id))
    return heard or (verdict is not None and verdict.status in (NodeStatus.READY, NodeStatus.AGENT_LOST))


def _told(node: Node, other: Node) -> str:
    """Say for the audit log what of a node is not as in the other."""
    return audit.words(
        f"{field.name.replace('_', ' ')} {_shown(getattr(node, field.name))}"
        for field in fields(node)
        if getattr(node, field.name) not in (None, getattr(other, field.name))
    )


def _shown(value: object) -> object:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(value)) if isinstance(value, float) else value


def _changed(node: Node, change: NodeChange, now: float) -> Node:
    labels, resources = dict(node.labels), dict(node.resources)
    for label, value in (change.labels or {}).items():
        if value is None:
            labels.pop(label, None)
        else:
            labels[label] = value
    for resource, count in (change.resources or {}).items():
        if count is None:
            resources.pop(resource.lower(), None)
        else:
            resources[resource.lower()] = count
    availability = change.availability or node.availability
    until = node.drain_until if availability is Availability.DRAIN else None
    if change.availability is Availability.DRAIN:
        deadline = DRAIN_DEADLINE if change.deadline is None else change.deadline
        until = None if deadline == "never" else now + deadline
    role = change.role or node.role
    return replace(node, labels=labels, resources=resources, availability=availability, drain_until=until, role=role)


def _refuse_to_lose(state: ClusterState, node: Node) -> None:
    if lives(state, node):
        raise Conflict(
            f"node {node.name} is up",
            hint=f"`stack node drain {node.name}`, and when it is empty `stack leave` there; or --force.",
        )
    volumes = sorted(state.volumes_on.get(node.id, ()))
    if volumes:
        raise Conflict(
            f"node {node.name} has the data of volumes {', '.join(volumes)}",
            hint="Bring it back to save them, or give them up with --force: then their services wait for ever.",
        )
