"""What Prometheus is told, in its text format (version 0.0.4), and where it finds what our services tell it. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from cluster.latency import BOUNDS, Latency, Work
from cluster.model.node import NodeStatus
from cluster.model.service import ServiceSpec
from cluster.model.stack import Stack
from cluster.model.task import Task
from cluster.scraping import PATH, port_of
from cluster.usage import Traffic
from cluster.views import ConvergenceView
from manager.api.show import Sees, task_name
from manager.decide.tally import tally
from manager.picture import ClusterState

HELP = {
    "stackyard_nodes": "Nodes by status and availability.",
    "stackyard_node_ready": "Whether a node is ready (1) or not (0).",
    "stackyard_node_tasks": "Tasks that are to run on a node.",
    "stackyard_node_conditions": "Troubles that a node tells of.",
    "stackyard_managers": "Managers that are alive.",
    "stackyard_manager_ready": "Whether the manager that answers reaches etcd (1); else (0) it tells of itself alone.",
    "stackyard_manager_leads": "Whether the manager that answers leads.",
    "stackyard_manager_events_total": "Events that the manager that answers has seen.",
    "stackyard_state_revision": "The revision of etcd that the manager's picture stands at.",
    "stackyard_service_tasks_wanted": "Tasks that a service is to have.",
    "stackyard_service_tasks_ready": "Tasks of the newest version that run, and are healthy.",
    "stackyard_service_tasks_running": "Tasks of any version that run, and are healthy.",
    "stackyard_service_tasks_completed": "Tasks of a job that have done their work.",
    "stackyard_service_tasks_failed": "Tasks that ended in failure and are not tried again.",
    "stackyard_service_updating": "Whether a service's update is at work.",
    "stackyard_service_update_paused": "Whether a service's update waits for a person.",
    "stackyard_service_tasks": "Tasks that are to run, by state.",
    "stackyard_convergence_reachable_seconds": "Until names and ports of all nodes lead to a task that is ready.",
    "stackyard_convergence_unreachable_seconds": "Until names and ports of no node lead to a task that stops.",
    "stackyard_convergence_unconfirmed_total": "Changes that some node did not confirm within 30 s.",
    "stackyard_convergence_behind_seconds": "For how long a node in session with this manager has been waited for.",
    "stackyard_task_network_received_bytes_total": "Bytes that a task has received.",
    "stackyard_task_network_sent_bytes_total": "Bytes that a task has sent.",
    "stackyard_task_network_received_packets_total": "Packets that a task has received.",
    "stackyard_task_network_sent_packets_total": "Packets that a task has sent.",
    "stackyard_task_network_dropped_packets_total": "Packets from or to a task that were lost at its links.",
    "stackyard_decide_seconds": "What the leader takes to decide one question.",
    "stackyard_commit_seconds": "What a transaction of the leader's takes, until its picture shows it.",
    "stackyard_task_schedule_seconds": "From the making of a task until it has a node.",
    "stackyard_task_run_seconds": "From the making of a task until it runs, and is healthy.",
    "stackyard_session_open_seconds": "From an agent's hello to its welcome.",
    "stackyard_status_record_seconds": "From the sending of a task's status by its agent until it is stored.",
    "stackyard_image_pull_seconds": "What agents take to pull an image.",
    "stackyard_sandbox_seconds": "What agents take to wire a sandbox.",
    "stackyard_container_create_seconds": "What engines take to create a container.",
    "stackyard_container_start_seconds": "What engines take to start a container.",
}

_LATENCIES: dict[Work, str] = {
    "decide": "stackyard_decide_seconds",
    "commit": "stackyard_commit_seconds",
    "schedule": "stackyard_task_schedule_seconds",
    "run": "stackyard_task_run_seconds",
    "open": "stackyard_session_open_seconds",
    "reachable": "stackyard_convergence_reachable_seconds",
    "unreachable": "stackyard_convergence_unreachable_seconds",
    "record": "stackyard_status_record_seconds",
    "pull": "stackyard_image_pull_seconds",
    "sandbox": "stackyard_sandbox_seconds",
    "create": "stackyard_container_create_seconds",
    "start": "stackyard_container_start_seconds",
}
_PARTS_OF_HISTOGRAM = ("_bucket", "_sum", "_count")

_NAME_ENDS = re.compile(r"[{ ]")
_AT_ONCE = 1000
_FIRST = re.compile(r"[^a-zA-Z0-9_]")


def sample(name: str, value: float, **labels: str) -> str:
    """Write one sample, its metric's name being one of HELP."""
    assert metric_of(name) in HELP, name
    told = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{told}}} {_written(value)}" if told else f"{name} {_written(value)}"


def metric_of(name: str) -> str:
    """Give the metric that a sample is of."""
    base = next((name.removesuffix(part) for part in _PARTS_OF_HISTOGRAM if name.endswith(part)), name)
    return base if base in _LATENCIES.values() else name


def parts(samples: Iterable[str]) -> Iterator[str]:
    """Put samples together, those of one metric below its help; of the parts many are empty, for others' turns."""
    by_name: dict[str, list[str]] = {}
    for one in samples:
        by_name.setdefault(metric_of(_NAME_ENDS.split(one, maxsplit=1)[0]), []).append(one)
        yield ""
    for name, some in by_name.items():
        kind = "counter" if name.endswith("_total") else "histogram" if name in _LATENCIES.values() else "gauge"
        yield f"# HELP {name} {HELP[name]}\n# TYPE {name} {kind}\n"
        for begin in range(0, len(some), _AT_ONCE):
            yield "\n".join((*some[begin : begin + _AT_ONCE], ""))


def of_manager(*, ready: bool, leads: bool, events: int) -> Iterator[str]:
    """Tell of the manager that answers, whatever it knows of the cluster."""
    yield sample("stackyard_manager_ready", ready)
    yield sample("stackyard_manager_leads", leads)
    yield sample("stackyard_manager_events_total", events)


def of_cluster(state: ClusterState) -> Iterator[str]:
    """Tell of managers and nodes."""
    yield sample("stackyard_managers", len(state.managers))
    yield sample("stackyard_state_revision", state.revision)
    counts: Counter[tuple[str, str]] = Counter()
    for node in sorted(state.nodes.values(), key=lambda node: node.name):
        verdict, session = state.node_states.get(node.id), state.sessions.get(node.id)
        status = NodeStatus.UNKNOWN if verdict is None else verdict.status
        counts[str(status), str(node.availability)] += 1
        yield sample("stackyard_node_ready", status is NodeStatus.READY, node=node.name)
        yield sample("stackyard_node_tasks", state.load.get(node.id, 0), node=node.name)
        conditions = 0 if session is None else len(session.conditions)
        yield sample("stackyard_node_conditions", conditions, node=node.name)
    for (status_name, availability), count in sorted(counts.items()):
        yield sample("stackyard_nodes", count, status=status_name, availability=availability)


def of_stack(state: ClusterState, stack: Stack, now: float) -> Iterator[str]:
    """Tell of the services of a stack."""
    head = state.revisions[stack.uid][stack.head]
    for name, spec in sorted(head.spec.services.items()):
        version = head.services[name]
        where = {"stack": stack.name, "service": f"{stack.name}_{name}"}
        count = tally(state, head, spec, version, now)
        yield sample("stackyard_service_tasks_wanted", 0 if stack.removing else count.wanted, **where)
        yield sample("stackyard_service_tasks_ready", count.ready, **where)
        running = sum(map(state.is_ready, state.all_of(version.uid)))
        yield sample("stackyard_service_tasks_running", running, **where)
        yield sample("stackyard_service_tasks_failed", len(count.failed), **where)
        if spec.mode.is_job:
            yield sample("stackyard_service_tasks_completed", count.completed, **where)
        service = state.services.get(version.uid)
        update = None if service is None else service.update
        yield sample("stackyard_service_updating", update is not None and update.state.at_work, **where)
        yield sample("stackyard_service_update_paused", update is not None and update.state.paused, **where)
        tasks = (state.tasks[ident] for ident in state.tasks_of.get(version.uid, ()))
        states = Counter(str(state.state_of(task)) for task in tasks if state.is_live(task))
        for told, number in sorted(states.items()):
            yield sample("stackyard_service_tasks", number, **where, state=told)


def of_latencies(seen: Mapping[Work, Latency]) -> Iterator[str]:
    """Tell how long the work of the manager that answers took, and that of the agents in session with it."""
    for work, latency in seen.items():
        name = _LATENCIES[work]
        for bound, count in zip((*BOUNDS, math.inf), accumulate(latency.counts), strict=True):
            yield sample(f"{name}_bucket", count, le="+Inf" if math.isinf(bound) else f"{bound:g}")
        yield sample(f"{name}_sum", latency.total)
        yield sample(f"{name}_count", sum(latency.counts))


def of_traffic(state: ClusterState, task: Task, passed: Traffic) -> Iterator[str]:
    """Tell what has passed the links of a task."""
    service, node = state.services.get(task.service_uid), state.nodes.get(task.node or "")
    if service is None or node is None:
        return
    where = {"stack": service.stack, "service": service.full_name, "task": task_name(state, task), "node": node.name}
    where["task_id"] = task.id  # two of one slot may run side by side
    yield sample("stackyard_task_network_received_bytes_total", passed.received, **where)
    yield sample("stackyard_task_network_sent_bytes_total", passed.sent, **where)
    yield sample("stackyard_task_network_received_packets_total", passed.received_packets, **where)
    yield sample("stackyard_task_network_sent_packets_total", passed.sent_packets, **where)
    yield sample("stackyard_task_network_dropped_packets_total", passed.dropped, **where)


def of_convergence(view: ConvergenceView, nodes: Iterable[str]) -> Iterator[str]:
    """Tell which of the `nodes` in session with the manager that answers are behind with changes."""
    yield sample("stackyard_convergence_unconfirmed_total", view.unconfirmed)
    for node in sorted(nodes):
        yield sample("stackyard_convergence_behind_seconds", view.behind.get(node, 0.0), node=node)


def _written(value: float) -> str:
    """Write counters whole, however large."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else f"{value:.10g}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


# Where services are found


def reachable(state: ClusterState, sees: Sees, network: str) -> Iterator[tuple[Task, ServiceSpec, str, str]]:
    """Give the running tasks that are in a network (its name; "" is any), with their stack's name and address there."""
    for stack in sorted(state.stacks.values(), key=lambda stack: stack.name):
        head = state.revisions[stack.uid][stack.head]
        if not sees(stack.name):
            continue
        for name, spec in sorted(head.spec.services.items()):
            for task in sorted(state.all_of(head.services[name].uid), key=lambda task: (task.slot, task.n)):
                if state.is_ready(task) and (address := _address(state, task, network)):
                    yield task, spec, stack.name, address


def _address(state: ClusterState, task: Task, network: str) -> str:
    for endpoint in task.endpoints:
        known = state.networks.get(endpoint.network)
        if known is not None and known.id != "ingress" and network in ("", known.name):
            return next((address for address in endpoint.addresses if ":" not in address), "")
    return ""


def prometheus_targets(state: ClusterState, sees: Sees, network: str) -> list[dict[str, object]]:
    """List what Prometheus is to scrape, as its http_sd reads it: tasks of services that name a port."""
    return [
        {"targets": [f"{address}:{port}"], "labels": _meta(state, task, spec, stack)}
        for task, spec, stack, address in reachable(state, sees, network)
        if (port := port_of(spec.labels)) is not None
    ]


def _meta(state: ClusterState, task: Task, spec: ServiceSpec, stack: str) -> dict[str, str]:
    node = state.nodes.get(task.node or "")
    service = f"{stack}_{spec.name}"
    meta = {"stack": stack, "service": service, "task": f"{service}.{task.slot}", "task_id": task.id}
    meta["node"] = "" if node is None else node.name
    meta |= {f"label_{_FIRST.sub('_', key)}": value for key, value in spec.labels.items()}
    told = {f"__meta_stackyard_{key}": value for key, value in meta.items()}
    return told | ({"__metrics_path__": spec.labels[PATH]} if PATH in spec.labels else {})
