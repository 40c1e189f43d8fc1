"""What deciding a very large service costs: one that is steady, and one that gets one more replica.

    .venv/bin/python -m bench.decide [--tasks 10 500 5000]

No etcd, no agents: one service with all its tasks running is decided again, which has no steps; with and without the
ended tasks that slots keep; in seconds of one core.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
import time

from bench.scheduler import NOW, a_cluster, put, take_in
from cluster.model.container import ContainerSpec
from cluster.model.network import NetworkSpec
from cluster.model.service import NetworkAttachment, PortSpec, ServiceSpec
from cluster.model.stack import ServiceVersion, Stack, StackRevision, StackSpec
from cluster.model.task import Desired, TaskState, TaskStatus
from manager import garbage
from manager.decide import orchestrator, stacks
from manager.picture import ClusterState

TIMES = 15


def deploy(state: ClusterState, n: int, replicas: int) -> None:
    service = ServiceSpec(
        "web",
        ContainerSpec("app:1"),
        (NetworkAttachment("default", ("web",)),),
        ports=(PortSpec(80, 8080),),
        replicas=replicas,
    )
    spec = StackSpec("app", {"web": service}, {"default": NetworkSpec("default", "app_default")})
    versions = {"web": ServiceVersion("uid-web", 1)}
    put(state, Stack("app", "app", n, "op"), StackRevision("app", n, spec, versions, "me", "", NOW, "op"))


def settle(state: ClusterState) -> None:
    """Carry out what is decided until nothing is left to do, and let each task run at once."""
    while (plan := stacks.decide(state, "app", NOW)).steps or (plan := stacks.decide_ingress(state, NOW)).steps:
        take_in(state, plan)
    while (plan := orchestrator.decide(state, "uid-web", NOW)).steps:
        take_in(state, plan)
        new = [task.id for task in state.tasks.values() if task.node and task.id not in state.statuses]
        put(state, *(TaskStatus(ident, TaskState.RUNNING, NOW - 600, running_at=NOW - 600) for ident in new))


def age(state: ClusterState) -> None:
    """Let each slot have had as many tasks before this one as it keeps."""
    for task in list(state.tasks.values()):
        for past in range(orchestrator.HISTORY):
            ident, n = f"{task.id}-{past}", task.n - (past + 1) * len(state.tasks)
            ended = dataclasses.replace(task, id=ident, n=n, desired=Desired.SHUTDOWN, endpoints=())
            put(state, ended, TaskStatus(ident, TaskState.SHUTDOWN, NOW - 700, container="c"))


def measure(tasks: int, *, aged: bool) -> None:
    state = a_cluster(200)
    deploy(state, 1, tasks)
    settle(state)
    if aged:
        age(state)
    assert sum(state.load.values()) == tasks, f"{sum(state.load.values())} of {tasks} are placed"
    garbage.settle()
    steady, more = [], []
    for n in range(TIMES):
        began = time.process_time()
        plan = orchestrator.decide(state, "uid-web", NOW)
        steady.append(time.process_time() - began)
        assert not plan.steps
        deploy(state, n + 2, tasks + n + 1)
        began = time.process_time()
        plan = orchestrator.decide(state, "uid-web", NOW)
        more.append(time.process_time() - began)
        assert any("task" in step.why for step in plan.steps)
        settle(state)
    history = f"{orchestrator.HISTORY} a slot" if aged else "none"
    print(
        f"{tasks:7} {history:>9} {statistics.median(steady) * 1000:9.2f} {max(steady) * 1000:9.2f}"
        f" {statistics.median(more) * 1000:9.2f} {max(more) * 1000:9.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tasks", type=int, nargs="+", default=[10, 500, 5000])
    arguments = parser.parse_args()
    print("  tasks   history    steady   longest  one more   longest")
    print("                         ms        ms        ms        ms")
    for tasks, aged in itertools.product(arguments.tasks, (False, True)):
        measure(tasks, aged=aged)


if __name__ == "__main__":
    main()
