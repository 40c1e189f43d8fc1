"""Routes about networks: which there are, who has which address in one, how soon nodes know what changed."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter
from starlette.responses import Response

from cluster.errors import NotFound
from cluster.model.attachment import Attachment, AttachmentState
from cluster.model.network import Network
from cluster.views import AttachmentView, ConvergenceView, MemberView, NetworkDetail, NetworkView
from manager.api.bodies import answer
from manager.api.core import ReadyCore
from manager.api.rules import Permitted
from manager.api.show import Sees, everything, task_name
from manager.decide.attachments import problem_of, report_of
from manager.picture import ClusterState

router = APIRouter(prefix="/v1/networks", tags=["cluster"])


@router.get("", response_model=list[NetworkView])
async def list_networks(caller: Permitted, core: ReadyCore) -> Response:
    """List networks."""
    return answer(networks(core.state, caller.sees))


@router.get("/convergence", response_model=ConvergenceView)
async def convergence(caller: Permitted, core: ReadyCore) -> Response:
    """How long changes take to be in force on the nodes that are in session with this manager."""
    return answer(core.sessions.generations.view())


@router.get("/{ident}", response_model=NetworkDetail)
async def network(caller: Permitted, core: ReadyCore, ident: str) -> Response:
    """Tell who has which address in a network, by its id."""
    return answer(detail(core.state, ident, caller.sees))


# As people see it. Pure.


def networks(state: ClusterState, sees: Sees = everything) -> list[NetworkView]:
    views = (_view(state, one) for one in state.networks.values())
    return sorted((view for view in views if sees(view.stack)), key=lambda view: view.name)


def detail(state: ClusterState, ident: str, sees: Sees = everything) -> NetworkDetail:
    """Tell all of a network; of its members those of stacks that are the affair of whoever asks."""
    found = state.networks.get(ident)
    view = None if found is None else _view(state, found)
    if found is None or view is None or not sees(view.stack):
        raise NotFound(f"there is no network {ident}", hint="`stack network ls` lists them.")
    members = (*_services(state, ident, sees), *_tasks(state, ident, sees), *_nodes(state, ident))
    return NetworkDetail(view, found.gateways, found.mtu, members)


def _view(state: ClusterState, network: Network) -> NetworkView:
    stack = state.stack_names.get(network.stack_uid, "")
    endpoints = len(state.tasks_in.get(network.id, ()))
    return NetworkView(
        network.id,
        network.name,
        stack,
        network.vni,
        network.subnets,
        network.internal,
        endpoints,
        network.encrypted,
        network.attachable,
        tuple(attachments(state, network.id)),
    )


def attachments(state: ClusterState, network: str) -> list[AttachmentView]:
    """Show the containers in a network that were started by hand, and for a while those that were."""
    held = map(state.attachments.__getitem__, state.attachments_in.get(network, ()))
    views = [attachment(state, one) for one in held if one.container]
    return sorted(views, key=lambda view: (view.name, view.node, view.container))


def attachment(state: ClusterState, one: Attachment) -> AttachmentView:
    report, node = report_of(state, one), state.nodes.get(one.node)
    told = AttachmentState.WAITING if report is None or report.state is AttachmentState.FOUND else report.state
    message = problem_of(state, one) or ("" if report is None else report.message)
    if report is not None and state.is_lost(one.node):
        told, message = AttachmentState.WAITING, "its node is down"
    network = state.networks.get(one.network)
    return AttachmentView(
        network="" if network is None else network.name,
        node=one.node if node is None else node.name,
        container=one.container,
        name=one.asked if report is None else report.name or one.asked,
        addresses=state.addresses_of(one.id).get(one.network, ()),
        aliases=one.aliases,
        state="leaving" if one.removing else str(told),
        message=message,
    )


def _services(state: ClusterState, network: str, sees: Sees) -> Iterator[MemberView]:
    for service in sorted(state.services.values(), key=lambda one: one.full_name):
        if sees(service.stack) and (addresses := state.virtual_addresses(service.uid).get(network)):
            yield MemberView("service", service.full_name, "", addresses)


def _tasks(state: ClusterState, network: str, sees: Sees) -> Iterator[MemberView]:
    for ident in sorted(state.tasks_in.get(network, ()), key=lambda one: (task_name(state, state.tasks[one]), one)):
        task = state.tasks[ident]
        service = state.services.get(task.service_uid)
        node = state.nodes.get(task.node or "")
        for endpoint in task.endpoints if sees("" if service is None else service.stack) else ():
            if endpoint.network == network:
                where = node.name if node is not None else task.node or ""
                yield MemberView("task", task_name(state, task), where, endpoint.addresses)


def _nodes(state: ClusterState, network: str) -> Iterator[MemberView]:
    """The nodes' own addresses in the network of published ports; in others they all have that of the gateway."""
    for node in sorted(state.nodes.values(), key=lambda one: one.name):
        verdict = state.node_states.get(node.id)
        if verdict is not None and verdict.ingress is not None and verdict.ingress.network == network:
            yield MemberView("node", node.name, node.name, verdict.ingress.addresses)
