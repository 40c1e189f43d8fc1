"""What must hold in every state of the cluster, whatever was cut off, lost or repeated.

Checked by the tests after every step of every history, and on a live picture when something looks wrong. Each sentence
that `broken` gives names the records at fault.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterator

from cluster.codec import key_of
from cluster.model.cluster import Claim, ClockMark
from cluster.model.network import INGRESS
from cluster.model.task import Desired, Task, TaskState, TaskStatus, task_id
from manager.decide.filters import host_port_claim
from manager.decide.volumes import volumes_of
from manager.picture import Change, ClusterState, claim_key


def broken(state: ClusterState) -> list[str]:
    """Give the invariants that do not hold in a state; none is how it should be."""
    return [*_numbers(state), *_claims(state), *_tasks(state), *_slots(state), *_stacks(state), *_rows(state)]


def backwards(change: Change) -> str:
    """Tell what a change of one record did that no change may do, "" when it is fine."""
    match change.old, change.new:
        case (Task() as old, Task() as new):
            if old.node is not None and (old.node, old.endpoints) != (new.node, new.endpoints):
                return f"task {old.id} moved from {old.node} to {new.node}, or got other addresses"
            if list(Desired).index(new.desired) < list(Desired).index(old.desired):
                return f"task {old.id} was {old.desired} and is {new.desired}"
            if new.held and old.node is not None and not old.held:
                return f"task {old.id} was let go and is held"
        case (TaskStatus() as old, TaskStatus() as new):
            if new.state.rank < old.state.rank or (old.state.terminal and new.state is not old.state):
                return f"task {old.task} was {old.state} and is {new.state}"
        case (ClockMark() as old, ClockMark() as new) if new.now < old.now:
            return f"the time was {old.now} and is {new.now}"
    return ""


def _numbers(state: ClusterState) -> Iterator[str]:
    """No VXLAN id, subnet or address twice, and each of them claimed."""
    vnis: dict[int, str] = {}
    subnets: list[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, str]] = []
    for network in state.networks.values():
        if network.vni in vnis:
            yield f"networks {network.id} and {vnis[network.vni]} have the same VXLAN id {network.vni}"
        vnis[network.vni] = network.id
        yield from _claimed(state, "vni", str(network.vni), network.id)
        for text in network.subnets:
            subnet = _subnet(text)
            for other, holder in subnets:
                if subnet.version == other.version and subnet.overlaps(other):
                    yield f"networks {network.id} and {holder} have subnets that overlap: {subnet} and {other}"
            subnets.append((subnet, network.id))
            yield from _claimed(state, "subnet", text, network.id)
    for task in state.tasks.values():
        if not state.has_ended(task):
            for endpoint in task.endpoints:
                if endpoint.network not in state.networks:
                    yield f"task {task.id} is in network {endpoint.network}, which is gone"
                for address in endpoint.addresses:
                    yield from _claimed(state, "address", f"{endpoint.network}/{address}", task.id)
    for verdict in state.node_states.values():
        if verdict.ingress is not None:
            for address in verdict.ingress.addresses:
                yield from _claimed(state, "address", f"{INGRESS}/{address}", verdict.node)


@functools.cache
def _subnet(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text)


def _claimed(state: ClusterState, kind: str, name: str, owner: str) -> Iterator[str]:
    claim = state.claims.get(claim_key(kind, name))
    if claim != Claim(kind, name, owner):
        yield f"{owner} has {kind} {name} without a claim to it ({claim})"


def _claims(state: ClusterState) -> Iterator[str]:
    """No claim without an owner."""
    owners = {*state.tasks, *state.networks, *state.services, *state.node_states, *state.attachments}
    for claim in state.claims.values():
        if claim.owner not in owners:
            yield f"{claim.kind} {claim.name} is held by {claim.owner}, which is gone"


def _tasks(state: ClusterState) -> Iterator[str]:
    for task in state.tasks.values():
        service = state.services.get(task.service_uid)
        if service is None:
            yield f"task {task.id} is of service {task.service_uid}, which is gone"
            continue
        if task.id != task_id(task.service_uid, task.slot, task.n) or task.n > service.tasks_made:
            yield f"task {task.id} has the wrong id, or a number that its service has not given out"
        if state.spec_of(task) is None and not state.has_ended(task):
            yield f"task {task.id} runs version {task.version}, which is gone"
        if task.node is None and (task.endpoints or task.id in state.statuses):
            yield f"task {task.id} has no node, but addresses or a status"
        if state.is_live(task) and task.node is not None and task.node in state.nodes:
            yield from _volumes(state, task)
        if task.held:
            yield from _held(state, task)
    for ident in state.statuses:
        if ident not in state.tasks:
            yield f"there is a status of task {ident}, which is gone"


def _held(state: ClusterState, task: Task) -> Iterator[str]:
    """A held task is on a node, has not started, and shares nothing with the one before it that only one can have.

    There is none before a one-off, which waits for whoever asked for it.
    """
    if task.node is None:
        yield f"task {task.id} is held, and has no node"
    if state.reported_state(task) in (TaskState.STARTING, TaskState.RUNNING, TaskState.COMPLETE):
        yield f"task {task.id} is held, and was started"
    spec = None if task.service_uid in state.oneoffs else state.spec_of(task)
    if spec is not None and (spec.mode.is_job or spec.volume_names or any(port.mode == "host" for port in spec.ports)):
        yield f"task {task.id} is held, and takes what the one before it has"


def _volumes(state: ClusterState, task: Task) -> Iterator[str]:
    for name in volumes_of(state, task):
        volume = state.volumes.get(name)
        if volume is None or volume.node != task.node:
            yield f"task {task.id} is on {task.node}, its volume {name} is on {volume.node if volume else 'no node'}"


def _slots(state: ClusterState) -> Iterator[str]:
    """One task that is wanted in a slot at a time, besides one that yields or leaves; each host port claimed once."""
    live: dict[tuple[str, int], str] = {}
    for task in state.tasks.values():
        if task.desired is Desired.RUNNING and not task.yields and task.leaving_at is None:
            slot = (task.service_uid, task.slot)
            if slot in live:
                yield f"tasks {task.id} and {live[slot]} are both wanted in slot {task.slot}"
            live[slot] = task.id
        if state.has_ended(task) or task.node is None:
            continue
        spec = state.spec_of(task)
        for port in spec.ports if spec else ():
            if port.mode == "host":
                claim = host_port_claim(port, task.node, task.id)
                yield from _claimed(state, claim.kind, claim.name, task.id)


def _stacks(state: ClusterState) -> Iterator[str]:
    for stack in state.stacks.values():
        head = state.head(stack.uid)
        if head is None:
            yield f"stack {stack.name} points at revision {stack.head}, which is gone"
        elif missing := {v.version for v in head.services.values()} - set(state.revisions[stack.uid]):
            yield f"stack {stack.name} needs revisions {missing}, which are gone"
    for uid in state.revisions:
        if uid not in state.stack_names:
            yield f"there are revisions of stack {uid}, which is gone"
    for service in state.services.values():
        if service.stack_uid not in state.stack_names:
            yield f"service {key_of(service)} is of stack {service.stack_uid}, which is gone"


def _rows(state: ClusterState) -> Iterator[str]:
    """The picture has each task in the row of its slot, newest first, and knows those to do something about."""
    for uid in state.rows.keys() | state.tasks_of.keys() | state.unsettled.keys():
        tasks = state.all_of(uid)
        rows: dict[int, list[Task]] = {}
        for task in sorted(tasks, key=lambda task: -task.n):
            rows.setdefault(task.slot, []).append(task)
        if {slot: list(row) for slot, row in state.rows.get(uid, {}).items()} != rows:
            yield f"the rows of service {uid} are not those of its tasks"
        if state.unsettled.get(uid, set()) != {task.id for task in tasks if not state.is_settled(task)}:
            yield f"the picture does not know what is to be done about the tasks of service {uid}"
