"""How fast the pure deciding is: placements a second, memory, and what one more replica costs as the cluster grows.

    .venv/bin/python -m bench.scheduler [--nodes 1000 5000] [--tasks 10000 100000]

No etcd, no agents: services of 100 tasks, one after another, are decided on one picture, which takes in each plan's
writes as etcd would tell of them. Reported are the choice of nodes alone, the whole decision (orchestrator, scheduler,
allocator and their claims) with its longest plan, what the picture takes to take it in, and one more replica on the
full cluster, decided and taken in; in seconds of one core. Each line runs in a process of its own, for its memory.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import multiprocessing
import resource
import statistics
import time

from cluster.codec import encode, key_of
from cluster.model.cluster import Cluster
from cluster.model.container import ContainerSpec
from cluster.model.network import NetworkSpec
from cluster.model.node import Manager, Node, NodeDescription, NodeState, NodeStatus, Session, SessionState
from cluster.model.service import NetworkAttachment, Reservations, ServiceSpec
from cluster.model.stack import ServiceVersion, Stack, StackRevision, StackSpec
from manager import garbage
from manager.decide import orchestrator, stacks
from manager.decide.plan import Plan
from manager.decide.scheduler import Scheduler
from manager.picture import ClusterState, Event

NOW = 1_000_000.0
REPLICAS = 100
MIB = 2**20

ASKED: dict[str, dict[str, object]] = {
    "nothing": {},
    "constraints": {"constraints": ("node.labels.zone == 1", "node.labels.disk != hdd", "node.platform.os == linux")},
    "spread": {"spread": ("node.labels.zone", "node.labels.rack")},
    "all": {
        "constraints": ("node.labels.disk != hdd",),
        "spread": ("node.labels.zone",),
        "reservations": Reservations(100_000_000, 100 * MIB),
        "max_replicas_per_node": 3,
    },
}


def put(state: ClusterState, *records: object) -> None:
    at = state.revision + 1
    state.apply([Event(key_of(r), encode(r), at) for r in records], at)  # type: ignore[arg-type]


def take_in(state: ClusterState, plan: Plan) -> None:
    at = state.revision + 1
    events = [Event(key_of(record), encode(record), at) for step in plan.steps for record in step.puts]
    state.apply(events, at)


def a_cluster(nodes: int) -> ClusterState:
    state = ClusterState()
    put(state, Cluster("c1", NOW, address_pool="10.0.0.0/8", subnet_prefix=14), Manager("m1", "m1", "https://m1", NOW))
    for number in range(nodes):
        name = f"n{number:05d}"
        labels = {"zone": str(number % 3), "rack": str(number % 30), "disk": "hdd" if number % 10 == 0 else "ssd"}
        put(
            state,
            Node(name, name, "worker", NOW, labels),
            NodeState(name, NodeStatus.READY, NOW),
            Session(name, 1, "m1", SessionState.OPEN, NOW, NodeDescription(name, "10.0.0.1", "1", "b", cpus=64)),
        )
        description = NodeDescription(name, "10.0.0.1", "1", "b", cpus=64, memory=256 * 1024 * MIB)
        put(state, Session(name, 1, "m1", SessionState.OPEN, NOW, description))
    return state


def deploy(state: ClusterState, services: int, asked: str) -> list[str]:
    specs = {
        f"s{number}": ServiceSpec(
            f"s{number}",
            ContainerSpec("app:1"),
            (NetworkAttachment("default", (f"s{number}",)),),
            replicas=REPLICAS,
            **ASKED[asked],  # type: ignore[arg-type]
        )
        for number in range(services)
    }
    spec = StackSpec("app", specs, {"default": NetworkSpec("default", "app_default")})
    versions = {name: ServiceVersion(f"uid-{name}", 1) for name in specs}
    put(state, Stack("app", "app", 1, "op"), StackRevision("app", 1, spec, versions, "me", "", NOW, "op"))
    while (plan := stacks.decide(state, "app", NOW)).steps:
        take_in(state, plan)
    return [version.uid for version in versions.values()]


def one_more(state: ClusterState, uids: list[str]) -> float:
    """Give the median seconds that one more replica of a service takes on the cluster as it is."""
    took = []
    head = state.head("app")
    assert head is not None
    for n, uid in enumerate(itertools.islice(itertools.cycle(uids), 30), 2):
        name = state.services[uid].name
        spec = head.spec.services[name]
        grown = dataclasses.replace(spec, replicas=spec.replicas + 1)
        head = dataclasses.replace(
            head, n=n, spec=dataclasses.replace(head.spec, services={**head.spec.services, name: grown})
        )
        put(state, head, Stack("app", "app", n, "op"))
        began = time.process_time()
        plan = orchestrator.decide(state, uid, NOW)
        take_in(state, plan)
        took.append(time.process_time() - began)
        assert any("task" in step.why for step in plan.steps)
    return statistics.median(took)


def measure(nodes: int, tasks: int, asked: str) -> None:
    state = a_cluster(nodes)
    uids = deploy(state, tasks // REPLICAS, asked)
    head = state.head("app")
    assert head is not None
    garbage.settle()
    picking = deciding = taking_in = longest = 0.0
    for uid in uids:
        spec = head.spec.services[state.services[uid].name]
        began = time.process_time()
        scheduler = Scheduler(state, head, spec, ())
        for _ in range(REPLICAS):
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
    assert sum(state.load.values()) == tasks, f"{sum(state.load.values())} of {tasks} are placed"
    more = one_more(state, uids[:10])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{nodes:6} {tasks:7} {asked:12} {tasks / picking:10,.0f} {tasks / deciding:10,.0f} {longest * 1000:8.1f}"
        f" {tasks / taking_in:10,.0f} {more * 1000:9.2f} {memory:8,.0f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--tasks", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--asked", nargs="+", choices=list(ASKED), default=list(ASKED))
    arguments = parser.parse_args()
    print(" nodes   tasks asked for     choosing   deciding  longest  taking in  one more   memory")
    print("                          placed/s   placed/s         ms   placed/s        ms      MiB")
    for case in itertools.product(arguments.nodes, arguments.tasks, arguments.asked):
        process = multiprocessing.get_context("spawn").Process(target=measure, args=case)
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(process.exitcode)


if __name__ == "__main__":
    main()
