"""Routes for programs that watch the cluster or lead to its services: Prometheus, and Traefik's HTTP provider.

They ask with the token of a viewer, who is told of the stacks of its own only; nothing is told to those without one.
"""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from manager.api import exposition, show
from manager.api import traefik as routes
from manager.api.bodies import answer
from manager.api.core import AnyCore, ReadyCore
from manager.api.rules import Permitted

router = APIRouter(prefix="/v1", tags=["monitoring"])


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(caller: Permitted, core: AnyCore) -> Response:
    """The state of nodes, services and tasks, and how long things take, in Prometheus' text format.

    A manager that does not reach etcd tells of itself alone.
    """
    ready = core.presence.held.is_set()
    samples = [*exposition.of_manager(ready=ready, leads=core.presence.leading, events=core.events.end)]
    samples += exposition.of_latencies(core.sessions.latencies.view())
    if not ready:
        return _told(samples)
    samples += exposition.of_cluster(core.state)
    here = core.state.sessions_at.get(core.presence.manager.id, set())
    nodes = [core.state.nodes[node].name for node in here if node in core.state.nodes]
    samples += exposition.of_convergence(core.sessions.generations.view(), nodes)
    for name in sorted(core.state.stacks):
        if name in core.state.stacks and caller.sees(name):
            samples += exposition.of_stack(core.state, core.state.stacks[name], core.clock())
            await asyncio.sleep(0)
    return _told(samples)


@router.get("/metrics/tasks", response_class=PlainTextResponse)
async def task_metrics(caller: Permitted, core: ReadyCore) -> Response:
    """What has passed the network links of tasks on nodes in session with the manager that answers, for Prometheus.

    Nodes are asked when this is, and those that do not answer in time left out.
    """
    asked: dict[str, list[str]] = {}
    for one in show.find_services(core.state, None, None, caller.sees):
        for task in show.tasks_of(core.state, one.uid, None):
            if task.node is not None and core.state.is_ready(task) and core.sessions.holds(task.node):
                asked.setdefault(task.node, []).append(task.id)
        await asyncio.sleep(0)  # of many services, others have their turn
    samples: list[str] = []
    for told in (await core.sessions.measure(asked, traffic=True)).values():
        for passed in told.traffic:
            if passed.task in core.state.tasks:
                samples += exposition.of_traffic(core.state, core.state.tasks[passed.task], passed)
        await asyncio.sleep(0)
    return _told(samples)


def _told(samples: list[str]) -> Response:
    return Response(exposition.text(samples), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/discovery/prometheus", response_model=list[dict[str, object]])
async def prometheus(caller: Permitted, core: ReadyCore, network: str = "") -> Response:
    """What Prometheus is to scrape (http_sd): running tasks of services with the label `prometheus.port`.

    `network` is one that Prometheus is in itself, by its whole name (`shop_default`).
    """
    return answer(exposition.prometheus_targets(core.state, caller.sees, network))


@router.get("/discovery/traefik", response_model=dict[str, object])
async def traefik(caller: Permitted, core: ReadyCore, network: str = "") -> Response:
    """The dynamic configuration of Traefik, for its HTTP provider: from the labels that its Docker providers read.

    Routers, services and middlewares with a label that Traefik would not take are left out, as it would refuse all of
    the others with them; `GET /v1/explain/{name}` tells why.
    """
    reached = exposition.reachable(core.state, caller.sees, network)
    return answer(routes.configuration((stack, spec, address) for _, spec, stack, address in reached))
