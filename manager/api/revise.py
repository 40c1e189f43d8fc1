"""What a deploy, a scale or a removal writes, worked out from the picture. Pure.

A revision is written once and never changed; the stack points at its newest. Ports that nobody holds yet are claimed in
the same transaction, so that of two deploys that want one port the second hears of it at once.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from cluster.codec import Record, key_for, key_of
from cluster.errors import Conflict, NotFound, Unavailable, UserError
from cluster.model.cluster import Claim
from cluster.model.network import INGRESS, NetworkSpec, network_id
from cluster.model.secret import Content, stack_owner
from cluster.model.service import CLUSTER_PORTS, PortSpec, ServiceSpec
from cluster.model.stack import ServiceVersion, Stack, StackRevision, StackSpec
from cluster.views import DeployRequest, RevisionReply, RollbackRequest, ScaleRequest, SwitchRequest, UpdateRequest
from manager.api.changes import changes
from manager.api.images import services_to_resolve
from manager.decide.allocator import NetworkAllocator
from manager.decide.dependencies import circle
from manager.decide.filters import naming
from manager.decide.ports import name_of
from manager.decide.revisions import Resolved, revised, with_services_of
from manager.picture import ClusterState, claim_key
from manager.versions import check_networks, check_services

MOST_REPLICAS = 10_000
MOST_CLAIMS = 64
"""Ports claimed in the deploy's own transaction; the leader claims what is beyond."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_SERVICE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Write:
    """Records to store if the keys in `guards` are as they were at those revisions, and the answer to give then."""

    records: tuple[Record, ...]
    guards: dict[str, int]
    reply: RevisionReply


@dataclass(frozen=True, slots=True)
class By:
    """Who makes a revision, when and why; `new_uid` names what is new in it."""

    operation: str
    reason: str
    author: str
    now: float
    new_uid: Callable[[], str]

    def or_because(self, reason: str) -> By:
        """The same with this reason, if nobody gave one."""
        return replace(self, reason=self.reason or reason)


def deploy(
    state: ClusterState,
    name: str,
    request: DeployRequest,
    author: str,
    now: float,
    new_uid: Callable[[], str],
    images: Mapping[str, Resolved] | None = None,
) -> Write | RevisionReply:
    """Make a stack be as the request says; `images` are those that were looked up for it.

    Raises UserError, or Conflict when somebody else holds what it needs.
    """
    check(request.spec)
    if name != request.spec.name:
        raise UserError(f"the spec is for the stack {request.spec.name}, the request for {name}")
    stack = state.stacks.get(name)
    if stack is not None and (done := _done_already(state, stack, request.operation)) is not None:
        return done
    if request.base_revision is not None and request.base_revision != (0 if stack is None else stack.head):
        if stack is None:
            raise Conflict(f"there is no stack {name}, so it is not at revision {request.base_revision}")
        raise Conflict(
            f"the stack {name} is at revision {stack.head}, not {request.base_revision}",
            hint=f"`stack diff {name}` shows what was changed last. Look at it, then deploy again.",
        )
    if unknown := sorted(set(request.force) - request.spec.services.keys()):
        raise UserError(f"the stack {name} has no service {', '.join(unknown)} to force")
    by = By(request.operation, request.reason, author, now, new_uid)
    proceed = () if stack is None else _paused(state, stack)
    head = None if stack is None else state.revisions[stack.uid][stack.head]
    known = images or {}
    resolved = {key: known[image] for key, image in services_to_resolve(head, request) if image in known}
    return _revise(
        state, stack, request.spec, by,
        forced=request.force, proceed=proceed, atomic=request.atomic, resolved=resolved,
    )  # fmt: skip


Change = ScaleRequest | RollbackRequest | UpdateRequest | SwitchRequest


def change(
    state: ClusterState, name: str, request: Change, author: str, now: float, new_uid: Callable[[], str]
) -> Write | RevisionReply:
    """Make a stack that is there as the request says. Raises NotFound, UserError or Conflict."""
    stack = _existing(state, name)
    if (done := _done_already(state, stack, request.operation)) is not None:
        return done
    by = By(request.operation, request.reason, author, now, new_uid)
    match request:
        case ScaleRequest():
            return _scale(state, stack, request, by)
        case RollbackRequest():
            return _roll_back(state, stack, request, by)
        case UpdateRequest():
            return _update(state, stack, request, by)
        case SwitchRequest():
            return _switch(state, stack, request, by)


def _scale(state: ClusterState, stack: Stack, request: ScaleRequest, by: By) -> Write | RevisionReply:
    spec = state.revisions[stack.uid][stack.head].spec
    services = dict(spec.services)
    for service, replicas in request.replicas.items():
        if service not in services:
            known = ", ".join(sorted(services))
            raise NotFound(f"the stack {stack.name} has no service {service}", hint=f"It has {known}.")
        services[service] = replace(services[service], replicas=replicas)
    spec = replace(spec, services=services)
    check(spec)
    what = "scale " + " ".join(f"{key}={n}" for key, n in sorted(request.replicas.items()))
    return _revise(state, stack, spec, by.or_because(what))


def _roll_back(state: ClusterState, stack: Stack, request: RollbackRequest, by: By) -> Write | RevisionReply:
    known = state.revisions[stack.uid]
    head = known[stack.head]
    n = _last_other(known, head, request.services) if request.revision is None else request.revision
    if n not in known:
        raise NotFound(
            f"the stack {stack.name} has no revision {n} that is kept", hint=f"`stack history {stack.name}` lists them."
        )
    then = known[n]
    if unknown := sorted(set(request.services) - (head.spec.services.keys() | then.spec.services.keys())):
        raise NotFound(f"the stack {stack.name} has no service {', '.join(unknown)}")
    spec = with_services_of(head.spec, then.spec, request.services) if request.services else then.spec
    check(spec)
    what = f"{', '.join(request.services)} " if request.services else ""
    by = by.or_because(f"{what}back to revision {n}")
    back = request.services or tuple(spec.services)
    return _revise(state, stack, spec, by, back=back, source=then, proceed=_paused(state, stack))


def _update(state: ClusterState, stack: Stack, request: UpdateRequest, by: By) -> Write | RevisionReply:
    """Have paused updates go on, or tasks replaced though nothing has changed."""
    spec = state.revisions[stack.uid][stack.head].spec
    chosen = request.services or tuple(spec.services)
    if unknown := sorted(set(chosen) - spec.services.keys()):
        raise NotFound(f"the stack {stack.name} has no service {', '.join(unknown)}")
    paused = sorted(set(chosen) & _paused(state, stack))
    if request.force == request.proceed:
        raise UserError("an update is either to proceed, or to be forced")
    if request.proceed and not paused:
        raise Conflict(f"no update of {', '.join(sorted(chosen))} is paused")
    if request.force:
        return _revise(state, stack, spec, by.or_because(f"force {' '.join(sorted(chosen))}"), forced=chosen)
    return _revise(state, stack, spec, by.or_because(f"go on with {' '.join(paused)}"), proceed=paused)


def _switch(state: ClusterState, stack: Stack, request: SwitchRequest, by: By) -> Write | RevisionReply:
    """Stop or start services."""
    spec = state.revisions[stack.uid][stack.head].spec
    chosen = request.services or tuple(spec.services)
    if unknown := sorted(set(chosen) - spec.services.keys()):
        raise NotFound(f"the stack {stack.name} has no service {', '.join(unknown)}")
    changed = {name: replace(spec.services[name], stopped=not request.running) for name in chosen}
    what = f"{'start' if request.running else 'stop'} {' '.join(sorted(chosen))}"
    return _revise(state, stack, replace(spec, services=spec.services | changed), by.or_because(what))


def _last_other(known: Mapping[int, StackRevision], head: StackRevision, services: Collection[str]) -> int:
    """Give the newest revision in which the stack, or one of these services, was not what it is."""
    for n, revision in sorted(known.items(), reverse=True):
        if n < head.n and any(
            revision.spec.services.get(service) != head.spec.services.get(service)
            or revision.image_digests.get(service) != head.image_digests.get(service)
            for service in services
        ):
            return n
        if n < head.n and not services and not _same_as(head, revision):
            return n
    what = f"{', '.join(services)} of the stack {head.spec.name}" if services else f"the stack {head.spec.name}"
    raise UserError(
        f"{what} was never different in the revisions that are kept",
        hint=f"`stack history {head.spec.name}` lists them.",
    )


def _same_as(head: StackRevision, other: StackRevision) -> bool:
    return head.spec == other.spec and head.image_digests == other.image_digests


def _going_on(state: ClusterState, version: ServiceVersion) -> ServiceVersion | None:
    """Give a version whose paused update is to go on, None when another one overtakes that update."""
    service = state.services.get(version.uid)
    update = None if service is None else service.update
    if update is None or update.version != version.version:
        return None
    return replace(version, attempt=max(version.attempt, update.attempt) + 1)


def _paused(state: ClusterState, stack: Stack) -> frozenset[str]:
    """Name the services of a stack whose update waits for a person."""
    services = (state.services[uid] for uid in state.services_of.get(stack.uid, ()))
    return frozenset(one.name for one in services if one.update is not None and one.update.state.paused)


def remove(state: ClusterState, name: str, *, volumes: bool) -> Write | RevisionReply:
    """Have a stack removed; asking again is fine, and may add that the volumes go too."""
    stack = _existing(state, name)
    _refuse_to_cut_off(state, stack)
    going = replace(stack, removing=True, remove_volumes=stack.remove_volumes or volumes)
    reply = RevisionReply(name, stack.uid, stack.head, changed=going != stack)
    if going == stack:
        return reply
    key = key_of(stack)
    return Write((going,), {key: state.revision_of(key)}, reply)


def _refuse_to_cut_off(state: ClusterState, stack: Stack) -> None:
    """Raise for a stack in whose networks there are containers that somebody started by hand."""
    held = [
        f"{one.asked} on {state.nodes[one.node].name} in {state.networks[network].name}"
        for network in sorted(state.networks_of.get(stack.uid, ()))
        for one in map(state.attachments.__getitem__, sorted(state.attachments_in.get(network, ())))
        if one.node in state.nodes and state.claims_of.get(one.id) and not one.removing
    ]
    if held and not stack.removing:
        raise Conflict(
            f"stack {stack.name} has networks with containers that were started by hand: {', '.join(held)}",
            hint="Remove them, or take them off: `stack network detach NETWORK CONTAINER`.",
        )


def _existing(state: ClusterState, name: str) -> Stack:
    if name not in state.stacks:
        raise NotFound(f"there is no stack {name}", hint="`stack ls` lists those that there are.")
    return state.stacks[name]


def _done_already(state: ClusterState, stack: Stack, operation: str) -> RevisionReply | None:
    """Recognise a request that was carried out before, whose answer the caller has not got."""
    known = state.revisions.get(stack.uid, {})
    for revision in known.values():
        if revision.operation == operation:
            return _reply(revision, known.get(revision.n - 1))
    return None


def _reply(made: StackRevision, before: StackRevision | None, source: StackRevision | None = None) -> RevisionReply:
    told = () if before is None else changes(before, made)
    n = 0 if source is None else source.n
    return RevisionReply(made.spec.name, made.stack_uid, made.n, changed=True, changes=told, source=n)


def _revise(
    state: ClusterState,
    stack: Stack | None,
    spec: StackSpec,
    by: By,
    *,
    forced: Collection[str] = (),
    back: Collection[str] = (),
    source: StackRevision | None = None,
    proceed: Collection[str] = (),
    atomic: bool = False,
    resolved: Mapping[str, Resolved] | None = None,
) -> Write | RevisionReply:
    if stack is not None and stack.removing:
        raise Conflict(
            f"the stack {spec.name} is being removed", hint=f"Wait until it is gone: `stack rm {spec.name}` waits."
        )
    head = None if stack is None else state.revisions[stack.uid][stack.head]
    n = 1 if stack is None else stack.head + 1
    uid = by.new_uid() if stack is None else stack.uid
    known = state.revisions.get(uid, {})
    new = revised(
        head, known, spec, uid, n, lambda _: by.new_uid(), forced=forced, back=back, source=source, resolved=resolved
    )
    if stack is not None and head is not None and _same_as(head, new) and not (forced or proceed):
        return RevisionReply(spec.name, stack.uid, stack.head, changed=False, source=0 if source is None else source.n)
    before = {} if head is None else head.spec.networks
    check_services(state, spec.services.values())
    check_networks(state, (network for key, network in spec.networks.items() if network != before.get(key)))
    _refuse_taken(state, uid, spec)
    networks = dict(_external_networks(state, spec)) | dict(_contents(state, spec, head))
    on = {name: _going_on(state, version) for name, version in new.services.items() if name in proceed}
    again = {name: version for name, version in on.items() if version is not None}
    revision = replace(
        new,
        services=new.services | again,
        author=by.author,
        reason=by.reason,
        created_at=by.now,
        operation=by.operation,
        atomic=atomic,
    )
    pointer = Stack(uid, spec.name, n, by.operation)
    claims = list(_claims(state, uid, spec, revision.services))[:MOST_CLAIMS]
    stack_key = key_for(Stack, spec.name)
    guards = {stack_key: state.revision_of(stack_key), key_of(revision): 0}
    guards |= networks | {key_of(claim): 0 for claim in claims}
    return Write((revision, pointer, *claims), guards, _reply(revision, head, source))


def _contents(state: ClusterState, spec: StackSpec, head: StackRevision | None) -> Iterator[tuple[str, int]]:
    """Give the contents that must still be there: those of the newest revision cannot go while that is the newest."""
    for digest in sorted(spec.digests() - (head.spec.digests() if head is not None else frozenset())):
        key = key_for(Content, f"{stack_owner(spec.name)}/{digest}")
        if not state.revision_of(key):
            raise Unavailable(f"the content {digest} of the stack {spec.name} is not there", hint="Ask again.")
        yield key, state.revision_of(key)


def _refuse_taken(state: ClusterState, stack_uid: str, spec: StackSpec) -> None:
    """Raise Conflict for a network yet to be made with addresses that a node routes elsewhere."""
    for network in spec.networks.values():
        if network.external or state.cluster is None or network_id(stack_uid, network) in state.networks:
            continue
        _refuse_own(state, stack_uid, network)
        if (problem := NetworkAllocator(state, state.cluster).clash(network)) is not None:
            raise Conflict(
                f"networks.{network.key}: {problem}", hint=f"{problem.remedy[:1].upper()}{problem.remedy[1:]}."
            )


def _refuse_own(state: ClusterState, stack_uid: str, network: NetworkSpec) -> None:
    """Raise Conflict for a subnet of the network as it was, whose tasks would only leave once this one is made."""
    for ident in state.networks_of.get(stack_uid, ()):
        held = state.networks[ident]
        if held.key != network.key or not state.occupied.get(ident):
            continue
        for subnet in map(ipaddress.ip_network, network.subnets):
            for other in map(ipaddress.ip_network, held.subnets):
                if subnet.version == other.version and subnet.overlaps(other):
                    raise Conflict(
                        f"networks.{network.key}: it is in use, and cannot be made anew with its subnet {subnet}",
                        hint="Change the subnet as well, or remove the stack before it is deployed again.",
                    )


def _external_networks(state: ClusterState, spec: StackSpec) -> Iterator[tuple[str, int]]:
    for network in spec.networks.values():
        if not network.external:
            continue
        found = state.networks_named.get(network.name)
        if not found or found == {INGRESS}:
            raise UserError(
                f"networks.{network.key}: the external network {network.name} does not exist",
                hint="Deploy the stack that makes it first, or take `external` off.",
            )
        key = key_of(state.networks[min(found)])
        yield key, state.revision_of(key)


def _claims(
    state: ClusterState, stack_uid: str, spec: StackSpec, services: dict[str, ServiceVersion]
) -> Iterator[Claim]:
    """Give the claims to make on published ports. Raises Conflict for a port that another stack holds."""
    ours = state.services_of.get(stack_uid, set()) | {version.uid for version in services.values()}
    for name, service in spec.services.items():
        for port in filter(lambda port: port.published, _ingress(service)):
            what = name_of(port)
            holder = state.claims.get(claim_key("port", what))
            if holder is None:
                _refuse_listened(state, f"services.{name}", port)
                yield Claim("port", what, services[name].uid)
            elif holder.owner not in ours:
                raise Conflict(
                    f"services.{name}: port {port.published}/{port.protocol} is published by {_holder(state, holder)}",
                    hint="Publish another port, or remove the other one first.",
                )


def _refuse_listened(state: ClusterState, where: str, port: PortSpec) -> None:
    """Raise Conflict for a port that would be taken from a program of a host."""
    what = name_of(port)
    holders = sorted(
        state.nodes[ident].name
        for ident, session in state.sessions.items()
        if ident in state.nodes and what in session.listening
    )
    if holders:
        more = f" and {len(holders) - 1} more" if len(holders) > 1 else ""
        raise Conflict(
            f"{where}: port {port.published}/{port.protocol} is held by a program of node {holders[0]}{more}",
            hint=f"There, {naming(port)} names it. Publish another port, or stop it: some seconds later the port "
            "is free.",
        )


def _holder(state: ClusterState, claim: Claim) -> str:
    for stack in state.stacks.values():
        for name, version in state.revisions[stack.uid][stack.head].services.items():
            if version.uid == claim.owner:
                return f"{stack.name}_{name}" + (" (which is being removed)" if stack.removing else "")
    service = state.services.get(claim.owner)
    return f"{service.full_name} (which is being removed)" if service is not None else claim.owner


def _ingress(service: ServiceSpec) -> Iterator[PortSpec]:
    return (port for port in service.ports if port.mode == "ingress")


# What a spec must be like, whoever sent it


def check(spec: StackSpec) -> None:
    """Raise UserError, with the field, for what no cluster could run."""
    if _NAME.fullmatch(spec.name) is None:
        raise UserError(
            f"{spec.name!r} is no name for a stack", hint="Use up to 63 lower-case letters, digits, - and _."
        )
    published: dict[tuple[str, int], str] = {}
    for key, network in spec.networks.items():
        if key != network.key or not network.name:
            raise UserError(f"networks.{key}: key and name must be set, and the key be the same")
        _check_subnets(f"networks.{key}", network)
    for key, volume in spec.volumes.items():
        if key != volume.key or not volume.name:
            raise UserError(f"volumes.{key}: key and name must be set, and the key be the same")
    if around := circle(spec):
        raise UserError(f"services.{around[0]}.depends_on: services wait for each other: {' -> '.join(around)}")
    for name, service in spec.services.items():
        _check_service(spec, name, service)
        for port in service.ports:
            least = 0 if port.mode == "ingress" else 1
            if not (0 < port.target < 65536 and least <= port.published < 65536):
                raise UserError(f"services.{name}.ports: {port.published}:{port.target} is out of range")
            if not port.published:
                continue
            if (use := CLUSTER_PORTS.get(name_of(port))) is not None:
                raise UserError(
                    f"services.{name}.ports: the cluster reaches {use} by port {port.published}/{port.protocol}",
                    hint="Publish another port.",
                )
            holder = published.setdefault((port.protocol, port.published), name)
            if holder != name or list(_same(service, port)) != [port]:
                raise UserError(
                    f"services.{name}.ports: port {port.published}/{port.protocol} is published twice "
                    f"(also by services.{holder})"
                )


def _check_subnets(where: str, network: NetworkSpec) -> None:
    try:
        subnets = [ipaddress.ip_network(subnet) for subnet in network.subnets]
        gateways = [ipaddress.ip_address(gateway) for gateway in network.gateways]
    except ValueError as error:
        raise UserError(f"{where}.ipam: {error}", hint="A subnet is like 10.5.0.0/24.") from error
    for gateway in gateways:
        if not any(gateway in subnet for subnet in subnets):
            raise UserError(f"{where}.ipam: the gateway {gateway} is in none of the network's subnets")


def _same(service: ServiceSpec, port: PortSpec) -> Iterator[PortSpec]:
    for other in service.ports:
        if (other.protocol, other.published, other.host_ip) == (port.protocol, port.published, port.host_ip):
            yield other


def _check_service(spec: StackSpec, name: str, service: ServiceSpec) -> None:
    where = f"services.{name}"
    if name != service.name or _SERVICE.fullmatch(name) is None:
        raise UserError(f"{where}: {service.name!r} is no name for a service, or not the one that it has in the stack")
    image = service.container.image
    if not image or any(letter.isspace() for letter in image):
        raise UserError(f"{where}.image: {image!r} is no name of an image")
    if not 0 <= service.replicas <= MOST_REPLICAS:
        raise UserError(f"{where}.deploy.replicas: {service.replicas} is not between 0 and {MOST_REPLICAS}")
    if service.max_concurrent is not None and service.max_concurrent < 0:
        raise UserError(f"{where}.deploy.max_concurrent: {service.max_concurrent} is less than 0")
    for other, dependency in service.depends_on.items():
        if dependency.required and other not in spec.services:
            raise UserError(f"{where}.depends_on: the stack has no service {other}", hint="Or set required: false.")
        waited_for = spec.services.get(other)
        if waited_for is not None and waited_for.mode.is_job and dependency.condition == "service_healthy":
            raise UserError(
                f"{where}.depends_on.{other}: a job ends, and is healthy never for long",
                hint="Wait for service_completed_successfully.",
            )
    for attachment in service.networks:
        if attachment.network not in spec.networks:
            raise UserError(f"{where}.networks: the stack has no network {attachment.network}")
    volumes = {volume.name for volume in spec.volumes.values()}
    for volume_name in service.volume_names:
        if volume_name not in volumes:
            raise UserError(f"{where}.volumes: the stack has no volume {volume_name}")
