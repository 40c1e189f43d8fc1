"""Assignments with defaults, for tests to say only what matters to them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cluster.assignments import Assignments, Item, NetworkItem, PeerItem, ServiceItem, TaskItem
from cluster.model.container import ContainerSpec
from cluster.model.network import Endpoint, Network
from cluster.model.service import ServiceSpec
from cluster.model.task import Task, task_id

CLUSTER = "c1u5te2"
NODE = "node1"
SLEEP = ("sleep", "100000")


def a_container(**fields: Any) -> ContainerSpec:
    return ContainerSpec(**{"image": "box:1", "command": SLEEP, "init": True, "stop_grace_period": 2.0, **fields})


def an_item(name: str = "web", version: int = 1, **fields: Any) -> ServiceItem:
    """A service of stack `shop`; fields of ServiceSpec, or of ContainerSpec."""
    service = {key: fields.pop(key) for key in list(fields) if key in ServiceSpec.__dataclass_fields__}
    volumes = fields.pop("volumes", ())
    spec = ServiceSpec(name=name, container=a_container(**fields), **service)
    return ServiceItem(uid=f"uid-{name}", version=version, stack="shop", spec=spec, volumes=volumes)


def a_task(item: ServiceItem, slot: int = 1, n: int = 1, **fields: Any) -> Task:
    made = Task(
        id=task_id(item.uid, slot, n),
        stack_uid="uid-shop",
        service_uid=item.uid,
        slot=slot,
        n=n,
        version=item.version,
        created_at=1000.0,
        node=NODE,
    )
    return replace(made, **fields)


def a_network(identity: str = "net1", vni: int = 4097, subnet: str = "10.128.0.0/20") -> NetworkItem:
    return NetworkItem(Network(identity, f"shop_{identity}", "uid-shop", identity, vni, (subnet,)))


def in_network(task: Task, address: str, network: str = "net1", vtep: str = "10.79.0.1") -> tuple[Task, PeerItem]:
    """Give a task an endpoint, and what others are told of it."""
    endpoint = Endpoint(network, (address,))
    task = replace(task, endpoints=(*task.endpoints, endpoint))
    peer = PeerItem(
        network, task.id, NODE, vtep, endpoint.addresses, endpoint.mac, True, "shop", "web", task.service_uid
    )
    return task, peer


def a_set(*items: Item | Task, revision: int = 1, epoch: int = 1) -> Assignments:
    wrapped = [TaskItem(i) if isinstance(i, Task) else i for i in items]
    return Assignments(epoch, revision, {i.ident: i for i in wrapped})
