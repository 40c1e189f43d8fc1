"""Routes about who may belong to the cluster: those that join and leave, their tokens, clients."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from cluster.codec import key_for
from cluster.errors import Conflict, Forbidden, NotFound, UserError
from cluster.membership import (
    CertificateReply,
    JoinReply,
    JoinRequest,
    JoinTokens,
    MemberReply,
    NewMember,
    NewToken,
    RenewalRequest,
    TokenReply,
    TokenView,
)
from cluster.model.node import Availability, Node
from cluster.pki import key_digest
from cluster.views import NodeChange, NodeView
from manager import audit, membership, tokens
from manager.api import nodes, show
from manager.api.bodies import answer, body, takes
from manager.api.callers import Caller
from manager.api.core import TRIES, AnyCore, Core, ReadyCore, busy
from manager.api.identify import tried
from manager.api.rules import Permitted
from manager.authority import ROLES
from manager.etcd import delete, put
from manager.tokens import Admission

router = APIRouter(prefix="/v1", tags=["members"])

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}")


@router.get("/join-tokens", response_model=JoinTokens)
async def join_tokens(caller: Permitted, core: AnyCore) -> Response:
    """Show the standing token of each role."""
    return answer(await tokens.standing(core.authority, core.etcd))


@router.get("/tokens", response_model=list[TokenView])
async def list_tokens(caller: Permitted, core: AnyCore) -> Response:
    """List all join tokens, without their secrets."""
    return answer(await tokens.listed(core.authority, core.etcd, now=core.clock()))


@router.post("/tokens", response_model=TokenReply, openapi_extra=takes(NewToken))
async def create_token(
    caller: Permitted, core: AnyCore, request: Annotated[NewToken, Depends(body(NewToken))]
) -> Response:
    """Make a join token that ends, or that is good for a single node."""
    return answer(await tokens.create(core.authority, core.etcd, request, now=core.clock()))


@router.post("/tokens/{role}/rotate", response_model=TokenReply)
async def rotate_token(caller: Permitted, core: AnyCore, role: str) -> Response:
    """Replace the standing token of a role."""
    if role not in ROLES:
        raise UserError(f"{role!r} is no role with a standing token", hint=f"There are {', '.join(ROLES)}.")
    return answer(await tokens.rotate(core.authority, core.etcd, role))


@router.delete("/tokens/{ident}", status_code=204)
async def revoke_token(caller: Permitted, core: AnyCore, ident: str) -> Response:
    """Take back a join token that was made with POST."""
    await tokens.revoke(core.etcd, ident)
    return Response(status_code=204)


@router.post("/join", response_model=JoinReply, openapi_extra=takes(JoinRequest))
async def join(
    caller: Permitted,
    core: ReadyCore,
    connection: Request,
    request: Annotated[JoinRequest, Depends(body(JoinRequest))],
) -> Response:
    """Take a node in. Joining again with the same name and key gives the same id, and a new certificate."""
    if _NAME.fullmatch(request.name) is None:
        raise UserError(f"{request.name!r} is no name for a node", hint="Use up to 63 letters, digits, dots, - and _.")
    ident = key_digest(request.csr)
    audit.note(about=request.name, after=f"node {ident}")
    for _ in range(TRIES):
        with tried(connection, core, tokens.named(request.token)):
            admission = await tokens.admit(core.authority, core.etcd, request.token, ident, now=core.clock())
        if request.role not in (None, admission.role):
            raise Forbidden(
                f"that join token is for a {admission.role}, not for a {request.role}",
                hint=f"On a manager, `stack token show {request.role}` gives the right one.",
            )
        node = await _join(core, request.name, ident, admission)
        if node is not None:
            return answer(core.authority.node_reply(node, request.csr, now=core.clock()))
    raise busy(f"the node {request.name}")


async def _join(core: Core, name: str, ident: str, admission: Admission) -> Node | None:
    """Store a node under its name unless that is taken; None when something changed meanwhile."""
    known = core.state.nodes.get(ident)
    if known is not None and known.name == name and admission.role == "manager" != known.role:
        return await _promoted(core, known, admission)
    if known is not None:
        if known.name != name:
            raise Conflict(
                f"this host's key has joined as {known.name} before",
                hint=f"Join as {known.name}, or remove the agent's data directory to join as another node.",
            )
        return known
    name_key = nodes.key_of_name(name)
    taken = await core.etcd.get(name_key)
    others = []
    if taken is not None and (holder := core.state.nodes.get(taken.value.decode())) is not None:
        if nodes.lives(core.state, holder):
            raise Conflict(
                f"a node with the name {name} is in the cluster already",
                hint="Choose another --name, or stop that node first.",
            )
        others.append(delete(key_for(Node, holder.id)))
    node = Node(ident, name, admission.role, joined_at=core.clock())
    guards = admission.guards | {key_for(Node, ident): 0, name_key: 0 if taken is None else taken.mod_revision}
    written = await core.write([node], guards, [put(name_key, ident.encode()), *others, *admission.writes])
    return node if written else None


async def _promoted(core: Core, node: Node, admission: Admission) -> Node | None:
    """Make a manager of a node that comes with a manager's token; None when something changed meanwhile."""
    wanted, key = replace(node, role=admission.role), key_for(Node, node.id)
    guards = admission.guards | {key: core.state.revision_of(key)}
    return wanted if await core.write([wanted], guards, admission.writes) else None


@router.get("/self", response_model=NodeView)
async def own_node(caller: Permitted, core: ReadyCore) -> Response:
    """Show a node to itself."""
    return answer(show.node(core.state, _own(core, caller)))


@router.post("/self/certificate", response_model=CertificateReply, openapi_extra=takes(RenewalRequest))
async def renew_own_certificate(
    caller: Permitted, core: ReadyCore, request: Annotated[RenewalRequest, Depends(body(RenewalRequest))]
) -> Response:
    """Give a node its next certificate; one that was taken out gets none."""
    return answer(core.authority.renewal_reply(_own(core, caller), request.csr, now=core.clock()))


@router.post("/self/drain", response_model=NodeView)
async def drain_own_node(caller: Permitted, core: ReadyCore) -> Response:
    """Give up a node's own tasks, as it is about to leave."""
    return answer(await nodes.change(core, _own(core, caller).id, NodeChange(Availability.DRAIN, deadline="never")))


@router.post("/self/manager", response_model=MemberReply, openapi_extra=takes(NewMember))
async def become_manager(
    caller: Permitted, core: ReadyCore, request: Annotated[NewMember, Depends(body(NewMember))]
) -> Response:
    """Take the etcd of a node's manager into the cluster, before it starts; only for nodes of that role."""
    node = _own(core, caller)
    if node.role != "manager":
        raise Forbidden(
            f"the node {node.name} is a worker", hint="Join with a manager's token: `stack token show manager`."
        )
    if core.own_etcd is None:
        return answer(MemberReply(etcd=tuple(membership.outer(core.etcd.endpoints))))
    if re.fullmatch(r"https://[0-9a-fA-F.:\[\]]+:\d{1,5}", request.peer) is None:
        raise UserError(f"{request.peer!r} is no URL of an etcd", hint="It is such as https://192.0.2.1:23791.")
    return answer(await membership.admit(core.etcd, core.own_etcd, node.name, request.peer))


@router.delete("/self", status_code=204)
async def leave(caller: Permitted, core: ReadyCore) -> Response:
    """Take a node out of the cluster at its own word; what still runs on it is replaced elsewhere."""
    await nodes.take_out(core, caller.name)
    return Response(status_code=204)


def _own(core: Core, caller: Caller) -> Node:
    """Give the caller's node by its id alone: what other nodes are called does not count."""
    node = core.state.nodes.get(caller.name)
    if node is None:
        raise NotFound("this node is no member of the cluster any more", hint="Join again with `stack join`.")
    return node
