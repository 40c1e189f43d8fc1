"""Routes about networks: which there are, who has which address in one, how soon nodes know what changed."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter
from starlette.responses import Response

from cluster.errors import NotFound
from cluster.model.network import Network
from cluster.views import ConvergenceView, MemberView, NetworkDetail, NetworkView
from manager.api.bodies import answer
from manager.api.core import ReadyCore
from manager.api.rules import Permitted
from manager.api.show import Sees, everything, task_name
from manager.picture import ClusterState

router = APIRouter(prefix="/v1/networks", tags=["cluster"])


@router.get("", response_model=list[NetworkView])
async def list_networks(caller: Permitted, core: ReadyCore) -> Response:
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
