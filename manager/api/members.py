"""Routes about who belongs to the cluster: nodes, those that join, clients."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from cluster.codec import key_for
from cluster.errors import Conflict, UserError
from cluster.model.node import Node, NodeStatus, Role
from cluster.pki import key_digest
from cluster.views import (
    CertificateReply,
    CertificateRequest,
    JoinReply,
    JoinRequest,
    JoinTokens,
    NodeChange,
    NodeView,
)
from manager.api import show
from manager.api.bodies import answer, body, takes
from manager.api.callers import Anyone, LocalRoot, Operator
from manager.api.core import TRIES, AnyCore, Core, ReadyCore, busy
from manager.etcd import delete, put

router = APIRouter(prefix="/v1", tags=["members"])

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}")


@router.get("/nodes", response_model=list[NodeView])
async def nodes(caller: Operator, core: ReadyCore) -> Response:
    return answer(show.nodes(core.state))


@router.patch("/nodes/{name}", response_model=NodeView, openapi_extra=takes(NodeChange))
async def change_node(
    caller: Operator, core: ReadyCore, name: str, change: Annotated[NodeChange, Depends(body(NodeChange))]
) -> Response:
    """Change a node's availability or labels; the name may be its id."""
    for _ in range(TRIES):
        node = show.find_node(core.state, name)
        wanted = _changed(node, change)
        key = key_for(Node, node.id)
        if wanted == node or await core.write([wanted], {key: core.state.revision_of(key)}):
            return answer(show.node(core.state, wanted))
    raise busy(f"the node {name}")


def _changed(node: Node, change: NodeChange) -> Node:
    labels = dict(node.labels)
    for label, value in (change.labels or {}).items():
        if value is None:
            labels.pop(label, None)
        else:
            labels[label] = value
    return replace(node, labels=labels, availability=change.availability or node.availability)


@router.get("/join-tokens", response_model=JoinTokens)
async def join_tokens(caller: LocalRoot, core: AnyCore) -> Response:
    return answer(await core.authority.tokens(core.etcd))


@router.post("/join", response_model=JoinReply, openapi_extra=takes(JoinRequest))
async def join(
    caller: Anyone, core: ReadyCore, request: Annotated[JoinRequest, Depends(body(JoinRequest))]
) -> Response:
    """Take a node in. Joining again with the same name and key gives the same id, and a new certificate."""
    role = await core.authority.role_of(core.etcd, request.token)
    if _NAME.fullmatch(request.name) is None:
        raise UserError(f"{request.name!r} is no name for a node", hint="Use up to 63 letters, digits, dots, - and _.")
    ident = key_digest(request.csr)
    for _ in range(TRIES):
        node = await _join(core, request.name, ident, role)
        if node is not None:
            return answer(core.authority.node_reply(node, request.csr, now=core.clock()))
    raise busy(f"the node {request.name}")


async def _join(core: Core, name: str, ident: str, role: Role) -> Node | None:
    """Store a node under its name unless that is taken; None when something changed meanwhile."""
    known = core.state.nodes.get(ident)
    if known is not None:
        if known.name != name:
            raise Conflict(
                f"this host's key has joined as {known.name} before",
                hint=f"Join as {known.name}, or remove the agent's data directory to join as another node.",
            )
        return known
    name_key = f"/stackyard/pki/name/{name}"
    taken = await core.etcd.get(name_key)
    others = []
    if taken is not None and (holder := core.state.nodes.get(taken.value.decode())) is not None:
        if _lives(core, holder):
            raise Conflict(
                f"a node with the name {name} is in the cluster already",
                hint="Choose another --name, or stop that node first.",
            )
        others.append(delete(key_for(Node, holder.id)))
    node = Node(ident, name, role, joined_at=core.clock())
    guards = {key_for(Node, ident): 0, name_key: 0 if taken is None else taken.mod_revision}
    written = await core.write([node], guards, [put(name_key, ident.encode()), *others])
    return node if written else None


def _lives(core: Core, node: Node) -> bool:
    """Tell whether a node has been seen and not been given up."""
    verdict = core.state.node_states.get(node.id)
    heard = core.state.is_heard(core.state.sessions.get(node.id))
    return heard or (verdict is not None and verdict.status in (NodeStatus.READY, NodeStatus.AGENT_LOST))


@router.post("/certificates", response_model=CertificateReply, openapi_extra=takes(CertificateRequest))
async def certificate(
    caller: LocalRoot, core: AnyCore, request: Annotated[CertificateRequest, Depends(body(CertificateRequest))]
) -> Response:
    """Give a person or program a certificate to work on this cluster with."""
    if _NAME.fullmatch(request.name) is None:
        raise UserError(
            f"{request.name!r} is no name for a client", hint="Use up to 63 letters, digits, dots, - and _."
        )
    return answer(core.authority.client_reply(request.name, request.role, request.csr, now=core.clock()))
