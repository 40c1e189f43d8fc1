"""Routes about containers that were started by hand, as members of networks.

Which node has a container, and whether it can be attached, only agents know: so it is looked for by a record that they
all read, and what they say of it comes back as their other words do, whichever manager they are in session with.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from cluster.codec import key_for, key_of
from cluster.compose import names
from cluster.errors import Conflict, NotFound, Unavailable, UserError
from cluster.model.attachment import Attachment, AttachmentReport, AttachmentState, sandbox_of
from cluster.model.network import INGRESS, Network
from cluster.model.node import Node
from cluster.model.stack import Stack
from cluster.protocol import ATTACHES
from cluster.views import AttachmentView, AttachRequest
from manager import audit
from manager.api import networks, show
from manager.api.bodies import answer, body, takes
from manager.api.core import TRIES, Core, ReadyCore, busy
from manager.api.rules import Permitted
from manager.decide.attachments import problem_of, report_of
from manager.etcd import delete
from manager.picture import ClusterState

router = APIRouter(prefix="/v1", tags=["networks"])

WITHIN = 15.0
"""Seconds that agents have to find a container, and then to wire it; mostly it takes a tenth of one."""

_CONTAINER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")


@router.post(
    "/networks/{name}/attachments", response_model=AttachmentView, openapi_extra=takes(AttachRequest), status_code=201
)
async def attach(
    caller: Permitted, core: ReadyCore, name: str, request: Annotated[AttachRequest, Depends(body(AttachRequest))]
) -> Response:
    """Make a container that somebody started by hand a member of a network; answers when it is one."""
    network = _attachable(core.state, name)
    _check(network, request)
    node = show.find_node(core.state, request.node) if request.node else None
    asked = Attachment(
        id=secrets.token_hex(12),
        network=network.id,
        asked=request.container,
        created_at=core.clock(),
        node="" if node is None else node.id,
        aliases=request.aliases,
        addresses=request.addresses,
    )
    found = await _looked_for(core, network, asked, node)
    attached = await _pinned(core, network, asked, *found)
    await _settled(core, lambda: _is_settled(core.state, attached))
    if problem := problem_of(core.state, attached):
        await _drop(core, attached)
        raise Conflict(f"{request.container} is not attached: {problem}")
    return answer(networks.attachment(core.state, core.state.attachments.get(attached.id, attached)), 201)


@router.delete("/networks/{name}/attachments/{container}", status_code=204)
async def detach(caller: Permitted, core: ReadyCore, name: str, container: str, node: str = "") -> Response:
    """Take a container off a network; answers when its node has let go of it, if that is connected."""
    network = _network(core.state, name)
    for _ in range(TRIES):
        one = _meant(core.state, network, container, node)
        key, going = key_of(one), replace(one, removing=True)
        audit.note(about=f"{network.name} {container}", before="attached", after="taken off")
        if going == one or await core.write([going], {key: core.state.revision_of(key)}):
            break
    else:
        raise busy(f"the attachment of {container}")
    await _settled(core, lambda: one.id not in core.state.attachments)
    return Response(status_code=204)


def _network(state: ClusterState, name: str) -> Network:
    found = [state.networks[ident] for ident in state.networks_named.get(name, ())]
    if not found:
        raise NotFound(f"there is no network {name}", hint="`stack network ls` lists them.")
    return max(found, key=lambda network: state.revision_of(key_of(network)))


def _attachable(state: ClusterState, name: str) -> Network:
    network = _network(state, name)
    stack = state.stacks.get(state.stack_names.get(network.stack_uid, ""))
    if network.id == INGRESS or stack is None:
        raise Conflict(f"network {name} is the cluster's own", hint="Attach containers to networks of stacks.")
    if stack.removing:
        raise Conflict(f"network {name} goes with the stack {stack.name}, which is being removed")
    if not network.attachable:
        raise Conflict(
            f"network {name} takes services only",
            hint=f"Write `attachable: true` under networks.{network.key} of the stack {stack.name}, and deploy it.",
        )
    return network


def _check(network: Network, request: AttachRequest) -> None:
    if _CONTAINER.fullmatch(request.container) is None:
        raise UserError(f"{request.container[:60]!r} is no name or id of a container")
    for alias in request.aliases:
        if not names.is_alias(alias):
            raise UserError(f"{alias[:60]!r} cannot be a name on a network", hint="Write it like a host name.")
    subnets = [ipaddress.ip_network(subnet) for subnet in network.subnets]
    for address in request.addresses:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError as error:
            raise UserError(f"{address[:60]!r} is no IP address") from error
        if not any(parsed in subnet for subnet in subnets):
            raise UserError(f"{address} is in no subnet of network {network.name} ({', '.join(network.subnets)})")


async def _looked_for(
    core: Core, network: Network, asked: Attachment, node: Node | None
) -> tuple[Node, AttachmentReport]:
    """Find the one node that has the container. Raises when none has it, several have, or it cannot be attached."""
    able = {
        ident
        for ident, session in core.state.sessions.items()
        if ident in core.state.nodes and core.state.is_heard(session) and session.version >= ATTACHES
    }
    if node is not None and node.id not in able:
        raise Unavailable(f"the agent of node {node.name} is not connected, or is older than this release")
    heard_of = able if node is None else {node.id}
    audit.note(about=f"{network.name} {asked.asked}")
    if not await core.write([asked], {key_of(asked): 0, key_of(network): core.state.revision_of(key_of(network))}):
        raise busy(f"the network {network.name}")

    def told() -> dict[str, AttachmentReport]:
        reports = ((ident, core.state.sessions[ident].attachments.get(asked.id)) for ident in heard_of)
        return {ident: report for ident, report in reports if report is not None}

    try:
        await _settled(core, lambda: heard_of <= told().keys())
        return _chosen(core.state, asked, told(), heard_of, node)
    except BaseException:
        await _drop(core, asked)
        raise


def _chosen(
    state: ClusterState, asked: Attachment, told: dict[str, AttachmentReport], heard_of: set[str], node: Node | None
) -> tuple[Node, AttachmentReport]:
    there = {i: told[i] for i in sorted(told) if told[i].state is not AttachmentState.MISSING and i in state.nodes}
    where = "" if node is None else f" on node {node.name}"
    silent = ", ".join(sorted(state.nodes[i].name for i in heard_of - told.keys() if i in state.nodes))
    if not there and silent:
        raise Unavailable(f"nothing was heard of container {asked.asked} from {silent}", hint="Ask again.")
    if not there:
        raise NotFound(f"there is no container {asked.asked}{where}", hint="`docker ps` on the node lists its own.")
    if len(there) > 1:
        on = ", ".join(state.nodes[i].name for i in there)
        raise UserError(f"there are containers {asked.asked} on {on}", hint="Say which is meant with --node.")
    [(ident, report)] = there.items()
    if report.state is not AttachmentState.FOUND:
        name = state.nodes[ident].name
        raise Conflict(f"container {asked.asked} on node {name} cannot be attached: {report.message}")
    return state.nodes[ident], report


async def _pinned(core: Core, network: Network, asked: Attachment, node: Node, found: AttachmentReport) -> Attachment:
    """Store which container is meant, once and for all, in place of the question."""
    aliases = tuple(dict.fromkeys((found.name, *asked.aliases)))
    ident = f"{network.id}-{sandbox_of(found.container)}"
    pinned = replace(asked, id=ident, node=node.id, container=found.container, aliases=aliases)
    stack = core.state.stack_names.get(network.stack_uid, "")
    keys = [key_of(network), key_for(Stack, stack), key_for(Node, node.id)]
    audit.note(about=f"{network.name} {found.name}", after=f"attached on {node.name} as {', '.join(aliases)}")
    guards = {key: core.state.revision_of(key) for key in keys} | {key_of(pinned): 0}
    if await core.write([pinned], guards, [delete(key_of(asked))]):
        return pinned
    there = core.state.attachments.get(ident)
    await _drop(core, asked)
    if there is not None and not there.removing:
        raise Conflict(f"container {found.name} on node {node.name} is attached to network {network.name} already")
    raise busy(f"the network {network.name}")


def _is_settled(state: ClusterState, attached: Attachment) -> bool:
    report = report_of(state, attached)
    done = report is not None and report.state is AttachmentState.ATTACHED and bool(state.claims_of.get(attached.id))
    return done or bool(problem_of(state, attached)) or attached.id not in state.attachments


async def _settled(core: Core, true: Callable[[], bool]) -> None:
    """Wait until something is so, but not for ever: what is shown then says how it is."""
    try:
        async with asyncio.timeout(WITHIN):
            await core.follower.until(true)
    except TimeoutError:
        return


async def _drop(core: Core, one: Attachment) -> None:
    for _ in range(TRIES):
        key = key_of(one)
        revision = core.state.revision_of(key)
        if not revision or await core.write([], {key: revision}, [delete(key)]):
            return


def _meant(state: ClusterState, network: Network, container: str, node: str) -> Attachment:
    alike = {network.id, *state.networks_named.get(network.name, ())}
    held = [state.attachments[i] for ident in alike for i in state.attachments_in.get(ident, ())]
    wanted = show.find_node(state, node).id if node else ""
    found = [
        one
        for one in held
        if one.container and wanted in ("", one.node)
        if container in (networks.attachment(state, one).name, one.container, one.container[:12])
    ]
    if not found:
        raise NotFound(
            f"container {container} is not attached to network {network.name}",
            hint=f"`stack network inspect {network.name}` tells which are.",
        )
    if len(found) > 1:
        on = ", ".join(sorted(state.nodes[one.node].name for one in found if one.node in state.nodes))
        raise UserError(f"there are containers {container} on {on}", hint="Say which is meant with --node.")
    return found[0]
