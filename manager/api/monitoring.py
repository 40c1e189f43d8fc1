"""Routes for programs that watch the cluster or lead to its services: Prometheus, and Traefik's HTTP provider.

They ask with the token of a viewer, who is told of the stacks of its own only; nothing is told to those without one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from manager.api import exposition, show
from manager.api import traefik as routes
from manager.api.bodies import SLICE, answer
from manager.api.callers import Caller
from manager.api.core import AnyCore, Core, ReadyCore
from manager.api.rules import Permitted

router = APIRouter(prefix="/v1", tags=["monitoring"])


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(caller: Permitted, core: AnyCore) -> Response:
    """The state of nodes, services and tasks, and how long things take, in Prometheus' text format.

    A manager that does not reach etcd tells of itself alone.
    """
    return _told(_samples(core, caller))


def _samples(core: Core, caller: Caller) -> Iterator[str]:
    ready = core.presence.held.is_set()
    yield from exposition.of_manager(ready=ready, leads=core.presence.leading, events=core.events.end)
    yield from exposition.of_latencies(core.sessions.latencies.view())
    if not ready:
        return
    yield from exposition.of_cluster(core.state)
    here = core.state.sessions_at.get(core.presence.manager.id, set())
    nodes = [core.state.nodes[node].name for node in here if node in core.state.nodes]
    yield from exposition.of_convergence(core.sessions.generations.view(), nodes)
    for name in sorted(core.state.stacks):
        if name in core.state.stacks and caller.sees(name):
            yield from exposition.of_stack(core.state, core.state.stacks[name], core.clock())


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
    measured = await core.sessions.measure(asked, traffic=True)
    return _told(
        sample
        for told in measured.values()
        for passed in told.traffic
        if passed.task in core.state.tasks
        for sample in exposition.of_traffic(core.state, core.state.tasks[passed.task], passed)
    )


def _told(samples: Iterable[str]) -> Response:
    return StreamingResponse(_in_turns(samples), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _in_turns(samples: Iterable[str]) -> AsyncIterator[bytes]:
    """Write samples, of which there may be many; others have their turn in between."""
    began = time.thread_time()
    for part in exposition.parts(samples):
        if part:
            yield part.encode()
        if time.thread_time() - began > SLICE:
            await asyncio.sleep(0)
            began = time.thread_time()


@router.get("/discovery/prometheus", response_model=list[dict[str, object]])
async def prometheus(caller: Permitted, core: ReadyCore, network: str = "") -> Response:
    """What Prometheus is to scrape (http_sd): running tasks of services with the label `prometheus.port`.

    `network` is one that Prometheus is in itself, by its whole name (`shop_default`).
    """
    return answer(exposition.prometheus_targets(core.state, caller.sees, network))


@router.get("/discovery/traefik", response_model=dict[str, object])
async def traefik(caller: Permitted, core: ReadyCore, network: str = "", unknown: bool = False) -> Response:
    """The dynamic configuration of Traefik, for its HTTP provider: from the labels that its Docker providers read.

    Routers, services and middlewares with a label that Traefik would not take are left out, as it would refuse all of
    the others with them; `GET /v1/explain/{name}` tells why. With `unknown`, options that are not known here are
    passed on, as a newer Traefik may have them.
    """
    reached = exposition.reachable(core.state, caller.sees, network)
    running = ((stack, spec, address) for _, spec, stack, address in reached)
    return answer(routes.configuration(running, unknown=unknown))
