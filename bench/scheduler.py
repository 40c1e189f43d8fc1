"""How fast the pure deciding is: placements a second on a cluster of many nodes.

    .venv/bin/python -m bench.scheduler [--nodes 1000] [--services 100] [--replicas 100]

No etcd, no agents: services one after another are decided on one picture, which takes each plan's writes as etcd
would tell of them. Reported apart are the choice of a node alone, the whole decision (orchestrator, scheduler,
allocator and their claims), and the picture's taking in what was decided; in seconds of one core.
"""

from __future__ import annotations

import argparse
import time

from cluster.codec import encode, key_of
from cluster.model.cluster import Cluster
from cluster.model.container import ContainerSpec
from cluster.model.network import NetworkSpec
from cluster.model.node import Manager, Node, NodeDescription, NodeState, NodeStatus, Session, SessionState
from cluster.model.service import NetworkAttachment, ServiceSpec
from cluster.model.stack import ServiceVersion, Stack, StackRevision, StackSpec
from manager.decide import orchestrator, stacks
from manager.decide.plan import Plan
from manager.decide.scheduler import Scheduler
from manager.picture import ClusterState, Event

NOW = 1_000_000.0


def put(state: ClusterState, *records: object) -> None:
    at = state.revision + 1
    state.apply([Event(key_of(r), encode(r), at) for r in records], at)  # type: ignore[arg-type]


def take_in(state: ClusterState, plan: Plan) -> None:
    at = state.revision + 1
    events = [Event(key_of(record), encode(record), at) for step in plan.steps for record in step.puts]
    state.apply(events, at)


def a_cluster(nodes: int) -> ClusterState:
    state = ClusterState()
    put(state, Cluster("c1", NOW, subnet_prefix=16), Manager("m1", "m1", "https://m1", NOW))
    for number in range(nodes):
        name = f"n{number:05d}"
        labels = {"zone": str(number % 3)}
        description = NodeDescription(name, "10.0.0.1", "1", "b")
        put(
            state,
            Node(name, name, "worker", NOW, labels),
            NodeState(name, NodeStatus.READY, NOW),
            Session(name, 1, "m1", SessionState.OPEN, NOW, description),
        )
    return state


def deploy(state: ClusterState, services: int, replicas: int) -> list[str]:
    specs = {
        f"s{number}": ServiceSpec(
            f"s{number}",
            ContainerSpec("app:1"),
            (NetworkAttachment("default", (f"s{number}",)),),
            replicas=replicas,
            constraints=("node.labels.zone != 9",),
        )
        for number in range(services)
    }
    spec = StackSpec("app", specs, {"default": NetworkSpec("default", "app_default")})
    versions = {name: ServiceVersion(f"uid-{name}", 1) for name in specs}
    put(state, Stack("app", "app", 1, "op"), StackRevision("app", 1, spec, versions, "me", "", NOW, "op"))
    while (plan := stacks.decide(state, "app", NOW)).steps:
        take_in(state, plan)
    return [version.uid for version in versions.values()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--services", type=int, default=100)
    parser.add_argument("--replicas", type=int, default=100)
    arguments = parser.parse_args()
    state = a_cluster(arguments.nodes)
    uids = deploy(state, arguments.services, arguments.replicas)
    head = state.head("app")
    assert head is not None
    picking = deciding = taking_in = longest = 0.0
    placed = 0
    for uid in uids:
        spec = head.spec.services[state.services[uid].name]
        began = time.process_time()
        scheduler = Scheduler(state, head.spec, spec, ())
        for _ in range(arguments.replicas):
            scheduler.pick()
        picking += time.process_time() - began
        while True:
            began = time.process_time()
            plan = orchestrator.decide(state, uid, NOW)
            took = time.process_time() - began
            if not plan.steps:
                break
            deciding += took
            longest = max(longest, took)
            began = time.process_time()
            take_in(state, plan)
            taking_in += time.process_time() - began
        placed += arguments.replicas
    assert sum(state.load.values()) == placed
    print(f"{placed} tasks of {arguments.services} services on {arguments.nodes} nodes")
    print(f"choosing nodes alone     {placed / picking:10,.0f} placements/s")
    print(f"deciding, all of it      {placed / deciding:10,.0f} placements/s, longest {longest * 1000:.1f} ms")
    print(f"taking it into a picture {placed / taking_in:10,.0f} placements/s")


if __name__ == "__main__":
    main()
