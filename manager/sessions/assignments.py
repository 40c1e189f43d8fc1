"""What each agent is to be given, worked out from the picture. Pure.

A node's set has three parts: what is its own (tasks, their specs, networks, volumes to remove), the endpoints in each
of its networks, and the published ports. The latter two are the same for many nodes, so that `board` keeps them once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cluster.assignments import (
    AttachmentItem,
    Item,
    NetworkItem,
    PeerItem,
    PortItem,
    ServiceItem,
    TaskItem,
    VipItem,
    VolumeItem,
)
from cluster.model.attachment import Attachment, AttachmentState
from cluster.model.network import INGRESS, Endpoint
from cluster.model.service import CLIENT_IP, INGRESS_ROUTING, LOCAL_FIRST, STICKY, ServiceMode
from cluster.model.stack import StackRevision
from cluster.model.task import Desired, Task
from cluster.protocol import ATTACHES, FETCHES, HOLDS, TUNNELS
from cluster.templates import Place, TemplateError, is_template, render, values_of
from manager.decide.allocator import find_network
from manager.decide.ports import published
from manager.decide.restarts import policy_for
from manager.picture import ClusterState


def assignments(state: ClusterState, node: str) -> dict[str, Item]:
    """Give a node's whole set, by ident."""
    items: dict[str, Item] = dict(own(state, node))
    for network in memberships(state, node):
        items.update((item.ident, item) for item in shared(state, network))
    items.update((item.ident, item) for stack in state.stacks for item in ports(state, stack))
    return items


Made = dict[tuple[str, int], tuple[StackRevision, ServiceItem]]
"""The items of services by uid and version, with the revisions, which never change, that they were made from."""


def own(state: ClusterState, node: str, made: Made | None = None) -> dict[str, Item]:
    """Give what only this node needs: its tasks with their specs and networks, the volumes that it is to remove.

    `made` keeps items of services from one call to the next.
    """
    items: dict[str, Item] = {}
    session = state.sessions.get(node)
    holds = session is not None and session.version >= HOLDS
    for task_id in state.tasks_on.get(node, ()):
        task = state.tasks[task_id]
        status = state.statuses.get(task_id)
        if status is not None and status.state.terminal and not status.container:
            continue  # an agent that lost its memory must not take it for one that is yet to run
        if task.held and not holds:
            continue  # the agent would start it
        service = _service(state, task, {} if made is None else made)
        if service is None:
            continue  # without its spec the agent could do nothing with it; both come in one txn
        items[service.ident] = service
        item = TaskItem(task)
        items[item.ident] = item
    if session is not None and session.version >= FETCHES:
        items.update((item.ident, item) for item in _next(state, node, {} if made is None else made))
    for network_id in memberships(state, node):
        addresses: tuple[str, ...] = ()
        verdict = state.node_states.get(node)
        if network_id == INGRESS and verdict is not None and verdict.ingress is not None:
            addresses = verdict.ingress.addresses
        network = NetworkItem(state.networks[network_id], addresses)
        items[network.ident] = network
    for volume in map(VolumeItem, state.volumes_leaving.get(node, ())):
        items[volume.ident] = volume
    if session is not None and session.version >= ATTACHES:
        items.update((item.ident, item) for item in _attached(state, node))
    return items


def _attached(state: ClusterState, node: str) -> Iterator[AttachmentItem]:
    """Give the containers that are to be attached on a node, and those that are looked for on all."""
    for ident in (*state.attachments_on.get(node, ()), *state.attachments_on.get("", ())):
        one = state.attachments[ident]
        endpoint = _endpoint_of(state, one)
        yield AttachmentItem(one.id, one.network, one.asked, one.container, endpoint, one.removing)


def _endpoint_of(state: ClusterState, attachment: Attachment) -> Endpoint | None:
    addresses = state.addresses_of(attachment.id).get(attachment.network)
    return None if not addresses else Endpoint(attachment.network, addresses, attachment.aliases)


def _next(state: ClusterState, node: str, made: Made) -> Iterator[ServiceItem]:
    """Give the versions that tasks of a node are to be updated to, so that their images are pulled ahead."""
    for task in map(state.tasks.__getitem__, state.tasks_on.get(node, ())):
        service = state.services.get(task.service_uid)
        wanted = None if service is None or not state.is_live(task) else state.wanted(service)
        if wanted is None or wanted[0].mode.is_job or wanted[1].version == task.version:
            continue
        item = _service(state, replace(task, version=wanted[1].version), made)
        if item is not None:
            yield replace(item, coming=True)


def memberships(state: ClusterState, node: str) -> set[str]:
    """Name the networks that a node is in: of its tasks that have not ended and its attached containers, and ingress.

    An agent that does not know of encryption is told of no encrypted one.
    """
    found = {
        endpoint.network
        for task_id in state.tasks_on.get(node, ())
        if not state.has_ended(state.tasks[task_id])
        for endpoint in state.tasks[task_id].endpoints
    }
    verdict = state.node_states.get(node)
    if verdict is not None and verdict.ingress is not None:
        found.add(INGRESS)
    session = state.sessions.get(node)
    encrypts = session is not None and session.version >= TUNNELS
    if session is not None and session.version >= ATTACHES:
        attached = map(state.attachments.__getitem__, state.attachments_on.get(node, ()))
        found |= {one.network for one in attached if state.claims_of.get(one.id)}
    known = ((network, state.networks.get(network)) for network in found)
    return {ident for ident, network in known if network is not None and (encrypts or not network.encrypted)}


def shared(state: ClusterState, network: str) -> Iterator[PeerItem | VipItem]:
    """Give every endpoint and every virtual address in a network."""
    for uid in {owner for owner, _ in state.holders.get(network, ()) if owner in state.services}:
        if (found := vip(state, network, uid)) is not None:
            yield found
    owners = [*state.tasks_in.get(network, ()), *state.attachments_in.get(network, ())]
    if network == INGRESS:
        owners += state.node_states
    for owner in owners:
        if (item := peer(state, network, owner)) is not None:
            yield item


def peer(state: ClusterState, network: str, owner: str) -> PeerItem | None:
    """Give the endpoint of a task (or, in the network of published ports, of a node); None when it has none now."""
    if owner in state.attachments:
        return _attached_peer(state, network, state.attachments[owner])
    if owner not in state.tasks:
        return _node_peer(state, owner) if network == INGRESS else None
    task = state.tasks[owner]
    if task.node is None or state.has_ended(task):
        return None
    vtep = _vtep(state, task.node)
    endpoint = next((one for one in task.endpoints if one.network == network), None)
    service = state.services.get(task.service_uid)
    if vtep is None or endpoint is None or service is None:
        return None
    place, hostname = _called(state, service.stack, task, task.node)
    description, record = state.sessions[task.node].description, state.networks.get(network)
    return PeerItem(
        network=network,
        owner=task.id,
        node=task.node,
        vtep=vtep,
        addresses=endpoint.addresses,
        mac=endpoint.mac,
        ready=state.is_ready(task),
        leaving=task.leaving_at is not None or task.desired is not Desired.RUNNING,
        stack=service.stack,
        service=service.name,
        service_uid=service.uid,
        slot=task.slot,
        aliases=endpoint.aliases,
        keeps_source=description.keeps_source,
        place=place,
        hostname=hostname,
        tunnels=description.tunnels if record is not None and record.encrypted else (),
    )


def _called(state: ClusterState, stack: str, task: Task, node: str) -> tuple[str, str]:
    """Give the node's name if its tasks are told apart by that, and what the container was told to call itself.

    The latter is "" for what the node could not expand either.
    """
    spec = state.spec_of(task)
    if spec is None:
        return "", ""
    name, hostname = state.nodes[node].name, spec.container.hostname
    if is_template(hostname):
        told = state.sessions[node].description
        place = Place(node, name, told.os, told.architecture)
        try:
            hostname = render(hostname, values_of(stack, spec, task, place))
        except TemplateError:
            hostname = ""
    return name if spec.mode in (ServiceMode.GLOBAL, ServiceMode.GLOBAL_JOB) else "", hostname


def vip(state: ClusterState, network: str, service_uid: str) -> VipItem | None:
    """Give the virtual address of a service in a network, with the names that the stack's head gives it there."""
    service = state.services.get(service_uid)
    addresses = state.virtual_addresses(service_uid).get(network)
    if service is None or not addresses:
        return None
    aliases: tuple[str, ...] = ()
    sticky = False
    wanted, head = state.wanted(service), state.head(service.stack_uid)
    if wanted is not None and head is not None:
        sticky = wanted[0].labels.get(STICKY) == CLIENT_IP
        for attachment in wanted[0].networks:
            meant = head.spec.networks.get(attachment.network)
            found = find_network(state, service.stack_uid, meant) if meant is not None else None
            if found is not None and found.id == network:
                aliases = attachment.aliases
    return VipItem(network, service_uid, service.stack, service.name, addresses, aliases, sticky)


def ports(state: ClusterState, stack_name: str) -> Iterator[PortItem]:
    """Give the ports that a stack publishes on every node, as its newest revision says."""
    stack = state.stacks.get(stack_name)
    head = None if stack is None or stack.removing else state.head(stack.uid)
    if head is None:
        return
    for name, spec in head.spec.services.items():
        uid = head.services[name].uid
        for port in published(state, uid, spec):
            if port.mode == "ingress" and port.published:
                yield PortItem(uid, port, spec.labels.get(INGRESS_ROUTING) == LOCAL_FIRST)


def _node_peer(state: ClusterState, node: str) -> PeerItem | None:
    verdict = state.node_states.get(node)
    vtep = _vtep(state, node)
    if verdict is None or verdict.ingress is None or vtep is None:
        return None
    return PeerItem(
        network=INGRESS,
        owner=node,
        node=node,
        vtep=vtep,
        addresses=verdict.ingress.addresses,
        mac=verdict.ingress.mac,
        ready=False,
    )


def _attached_peer(state: ClusterState, network: str, attachment: Attachment) -> PeerItem | None:
    """Give the endpoint of a container that was started by hand: of no stack or service, found by its aliases."""
    endpoint, vtep = _endpoint_of(state, attachment), _vtep(state, attachment.node)
    if attachment.network != network or endpoint is None or vtep is None:
        return None
    session, record = state.sessions[attachment.node], state.networks.get(network)
    report = session.attachments.get(attachment.id)
    wired = report is not None and report.state is AttachmentState.ATTACHED
    return PeerItem(
        network=network,
        owner=attachment.id,
        node=attachment.node,
        vtep=vtep,
        addresses=endpoint.addresses,
        mac=endpoint.mac,
        ready=wired and not attachment.removing and not state.is_lost(attachment.node),
        leaving=attachment.removing,
        aliases=attachment.aliases,
        tunnels=session.description.tunnels if record is not None and record.encrypted else (),
    )


def _vtep(state: ClusterState, node: str) -> str | None:
    session = state.sessions.get(node)
    return None if session is None or node not in state.nodes else session.description.address


def _service(state: ClusterState, task: Task, made: Made) -> ServiceItem | None:
    spec = state.spec_of(task)
    revision = state.revisions.get(task.stack_uid, {}).get(task.version)
    if spec is None or revision is None:
        return None
    found = made.get((task.service_uid, task.version))
    if found is not None and found[0] is revision:
        return found[1]
    volumes = tuple(volume for volume in revision.spec.volumes.values() if volume.name in spec.volume_names)
    spec = replace(spec, restart=policy_for(revision.spec, spec))  # the agent restarts by it while there is no manager
    digest = revision.image_digests.get(spec.name, "")
    item = ServiceItem(task.service_uid, task.version, revision.spec.name, spec, volumes, digest)
    made[task.service_uid, task.version] = revision, item
    return item
