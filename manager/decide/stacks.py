"""Stacks: the records that a deploy brings into being, and their removal down to the last key.

Keyed by stack. The services themselves are the orchestrator's; the network of published ports has a key of its own.
"""

from __future__ import annotations

import dataclasses

from cluster.codec import key_for, key_of, sealed_key
from cluster.model.network import INGRESS, Network, network_id
from cluster.model.node import Node, NodeStatus
from cluster.model.secret import Content, stack_owner
from cluster.model.service import ServiceState
from cluster.model.stack import Stack, StackRevision
from cluster.model.volume import Volume
from manager.decide.allocator import NetworkAllocator, NoRoom, as_asked
from manager.decide.plan import Draft, Plan
from manager.decide.volumes import may_be_called, volumes_named
from manager.picture import ClusterState

REVISIONS_KEPT = 25
CONTENT_GRACE = 60.0
"""Seconds that a content is kept without a revision that needs it: one may be on its way."""


def decide(state: ClusterState, stack_uid: str, now: float) -> Plan:
    """Say what to do about one stack."""
    draft = Draft(state)
    stack = state.stacks.get(state.stack_names.get(stack_uid, ""))
    head = state.head(stack_uid)
    if stack is None or stack.uid != stack_uid or head is None or state.cluster is None:
        return Plan()
    if stack.removing:
        _remove_networks(state, draft, stack, keep=set())
        _remove(state, draft, stack, head)
    else:
        _make_networks(state, draft, stack, head)
        _make_services(state, draft, stack, head)
        wanted = {network_id(stack_uid, spec) for spec in head.spec.networks.values() if not spec.external}
        _remove_networks(state, draft, stack, keep=wanted)
        _prune(state, draft, stack, head)
        _collect(state, draft, stack, now)
    return draft.plan()


def _make_services(state: ClusterState, draft: Draft, stack: Stack, head: StackRevision) -> None:
    for name, version in sorted(head.services.items()):
        if version.uid not in state.services:
            service = ServiceState(version.uid, stack.uid, stack.name, name)
            draft.step(f"make service {service.full_name}", puts=[service], guards=[key_of(stack)])


def _make_networks(state: ClusterState, draft: Draft, stack: Stack, head: StackRevision) -> None:
    assert state.cluster is not None
    allocator = NetworkAllocator(state, state.cluster)
    for _, spec in sorted(head.spec.networks.items()):
        if spec.external:
            continue
        found = state.networks.get(network_id(stack.uid, spec))
        if found is not None:
            changed = as_asked(found, spec)
            if changed != found:
                draft.step(f"change network {spec.name}", puts=[changed], guards=[key_of(stack)])
            continue
        try:
            network, claims = allocator.network(stack.uid, spec)
        except NoRoom:
            continue  # the tasks that wait for it tell why
        draft.step(f"make network {spec.name}", puts=[network, *claims], guards=[key_of(stack)])


def _remove_networks(state: ClusterState, draft: Draft, stack: Stack, keep: set[str]) -> None:
    """Forget networks that no revision wants and in which nobody holds an address, of this stack or another."""
    for ident in sorted(state.networks_of.get(stack.uid, set()) - keep):
        if not state.occupied.get(ident):
            forget_network(state, draft, ident)


def forget_network(state: ClusterState, draft: Draft, ident: str) -> None:
    deletes = [key_for(Network, ident), *sorted(state.claims_of.get(ident, ()))]
    draft.step(f"forget network {state.networks[ident].name}", deletes=deletes)


def _remove(state: ClusterState, draft: Draft, stack: Stack, head: StackRevision) -> None:
    """Forget a stack whose services, networks and volumes have gone; its head goes in the same step, the last one."""
    if state.services_of.get(stack.uid) or state.networks_of.get(stack.uid):
        return
    if stack.remove_volumes and _remove_volumes(state, draft, stack):
        return
    for content in list(state.contents.get(stack_owner(stack.name), {}).values()):
        _forget_content(draft, stack, content)
    for n, revision in sorted(state.revisions.get(stack.uid, {}).items()):
        if n != head.n:
            draft.step(f"forget revision {n} of {stack.name}", deletes=[key_of(revision)], guards=[key_of(stack)])
    draft.step(f"forget stack {stack.name}", deletes=[key_of(head), key_of(stack)])


def _remove_volumes(state: ClusterState, draft: Draft, stack: Stack) -> bool:
    """Have a stack's volumes removed from their nodes; tell whether that is worth waiting for.

    A node that is down removes them when it is back, perhaps long after the stack is gone. External volumes are only
    forgotten, and one that another stack uses stays.
    """
    own, external = _volumes_defined(state, stack)
    waits = False
    for volume in _volumes_of(state, stack, own):
        verdict = state.node_states.get(volume.node)
        going = dataclasses.replace(volume, removing=True, stack_uid=stack.uid)
        if volume.node not in state.nodes or any(may_be_called(name, volume.name) for name in external):
            draft.step(f"forget where volume {volume.name} is", deletes=[key_of(volume)])
            continue
        if going != volume:
            guards = [key_of(stack), key_for(Node, volume.node)]
            draft.step(f"remove volume {volume.name} from {volume.node}", puts=[going], guards=guards)
        waits |= verdict is None or verdict.status is not NodeStatus.DOWN
    return waits


def volumes_of_stack(state: ClusterState, stack: Stack) -> list[Volume]:
    """Give the volumes whose data goes with a stack if that is asked for."""
    own, external = _volumes_defined(state, stack)
    found = _volumes_of(state, stack, own)
    return [volume for volume in found if not any(may_be_called(name, volume.name) for name in external)]


def _volumes_defined(state: ClusterState, stack: Stack) -> tuple[set[str], set[str]]:
    """Give the names, as written, of the volumes of a stack's revisions: its own, and external ones."""
    revisions = sorted(state.revisions.get(stack.uid, {}).items())
    specs = {spec.name: spec for _, revision in revisions for spec in revision.spec.volumes.values()}
    external = {name for name, spec in specs.items() if spec.external}
    return set(specs) - external, external


def _volumes_of(state: ClusterState, stack: Stack, own: set[str]) -> list[Volume]:
    """Give the volumes that go with a stack: those it had made, and those of its specs left by a stack that is gone."""
    elsewhere = {
        name
        for other in state.stacks.values()
        if other.uid != stack.uid and not other.removing
        for n in {other.head, *state.versions_used.get(other.uid, ())}
        if (revision := state.revisions.get(other.uid, {}).get(n)) is not None
        for service in revision.spec.services.values()
        for name in volumes_named(state, revision, service)
    }
    return [
        volume
        for name, volume in sorted(state.volumes.items())
        if volume.stack_uid == stack.uid
        or (volume.stack_uid not in state.stack_names and any(may_be_called(one, name) for one in own))
        if volume.removing or name not in elsewhere
    ]


def _prune(state: ClusterState, draft: Draft, stack: Stack, head: StackRevision) -> None:
    """Forget old revisions that no task runs and no service will."""
    revisions = state.revisions.get(stack.uid, {})
    used = set(state.versions_used.get(stack.uid, ())) | {version.version for version in head.services.values()}
    used |= {oneoff.version for oneoff in state.oneoffs.values() if oneoff.stack_uid == stack.uid}
    for n in sorted(set(sorted(revisions)[:-REVISIONS_KEPT]) - used):
        draft.step(f"forget revision {n} of {stack.name}", deletes=[key_of(revisions[n])], guards=[key_of(stack)])


def _collect(state: ClusterState, draft: Draft, stack: Stack, now: float) -> None:
    """Forget contents of secrets and configs that no revision needs. A deploy stores them before its revision."""
    needed = {digest for revision in state.revisions.get(stack.uid, {}).values() for digest in revision.spec.digests()}
    for digest, content in sorted(state.contents.get(stack_owner(stack.name), {}).items()):
        if digest in needed:
            continue
        if content.stored_at + CONTENT_GRACE > now:
            draft.wake(content.stored_at + CONTENT_GRACE)
        else:
            _forget_content(draft, stack, content)


def _forget_content(draft: Draft, stack: Stack, content: Content) -> None:
    draft.step(
        f"forget a content that {stack.name} had",
        deletes=[key_of(content)],
        beside=[sealed_key(content.owner, content.digest)],
        guards=[key_of(stack)],
    )


# The network of published ports


def wants_ingress(state: ClusterState) -> bool:
    """Tell whether any stack publishes a port on every node, or still has a task that does."""
    if state.tasks_in.get(INGRESS):
        return True
    for stack in state.stacks.values():
        head = state.head(stack.uid)
        if head is not None and not stack.removing and any(s.has_ingress for s in head.spec.services.values()):
            return True
    return False


def decide_ingress(state: ClusterState, now: float) -> Plan:
    """Make the network of published ports when it is first wanted; forget it when nobody wants it."""
    draft = Draft(state)
    if state.cluster is not None and INGRESS not in state.networks and wants_ingress(state):
        try:
            network, claims = NetworkAllocator(state, state.cluster).ingress()
        except NoRoom:
            return Plan()  # the tasks that wait for it tell why
        draft.step("make the network of published ports", puts=[network, *claims])
    elif INGRESS in state.networks and not state.occupied.get(INGRESS) and not wants_ingress(state):
        forget_network(state, draft, INGRESS)
    return draft.plan()
