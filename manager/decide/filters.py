"""Why a node does not fit a service: a filter for each thing that a service can ask of a node, and what would mend it.

The order of the filters is the order in which a node's first reason is told. Those of the first half are the same for
all services (`manager.roster` tells them all at once); the others follow from what the service asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.codec import key_of
from cluster.model.cluster import Claim
from cluster.model.node import Availability, Node, NodeDescription, NodeStatus
from cluster.model.service import PortSpec, Reservations, ServiceSpec
from cluster.model.stack import StackRevision
from cluster.protocol import TUNNELS
from manager.decide.allocator import find_network
from manager.decide.constraints import architecture, parsed, test_for
from manager.decide.ports import name_of
from manager.picture import ClusterState
from manager.roster import BARRING, DISK, ENGINE, needs_of

NANO = 10**9

_RUNS_TOO = {"amd64": ("386",), "arm64": ("arm",)}
"""Older architectures of which engines take an image when there is none of their own."""


@dataclass(frozen=True, slots=True)
class Filter:
    """`passes` tells whether a node fits; `one` and `many` say of nodes that they do not.

    `about` adds figures on the nodes that do not, "" for none; `remedy` is the change that would make one fit.
    """

    passes: Callable[[Node], bool]
    one: str
    many: str
    remedy: Callable[[Node], str]
    about: Callable[[Sequence[Node]], str] = lambda nodes: ""

    def say(self, nodes: Sequence[Node]) -> str:
        """Say of some nodes why they do not fit, without naming them: `are drained`."""
        text = self.one if len(nodes) == 1 else self.many
        about = self.about(nodes)
        return f"{text} ({about})" if about else text


@dataclass(frozen=True, slots=True)
class Use:
    """What the plan that is being made has given a node already, on top of what the picture shows.

    `own` counts the service's tasks on a node, with those; `planned` counts those alone.
    """

    own: Callable[[str], int]
    planned: Callable[[str], int]


def general_filters(state: ClusterState) -> list[Filter]:
    """Give the filters that are the same for all services."""

    def is_up(node: Node) -> bool:
        verdict = state.node_states.get(node.id)
        return verdict is None or verdict.status is not NodeStatus.DOWN

    def is_ready(node: Node) -> bool:
        """Tell whether its agent answers; of a node that is down it is not asked, as that says it already."""
        verdict = state.node_states.get(node.id)
        ready = verdict is not None and verdict.status is NodeStatus.READY
        return not is_up(node) or (ready and state.is_heard(state.sessions.get(node.id)))

    def is_free_of(*conditions: str) -> Callable[[Node], bool]:
        def passes(node: Node) -> bool:
            session = state.sessions.get(node.id)
            return session is None or not any(name in session.conditions for name in conditions)

        return passes

    def is_not(availability: Availability) -> Callable[[Node], bool]:
        return lambda node: node.availability is not availability

    def trouble(nodes: Sequence[Node]) -> str:
        session = state.sessions[nodes[0].id]
        return next(text for name, text in sorted(session.conditions.items()) if name in BARRING)

    def told(node: Node) -> str:
        verdict = state.node_states.get(node.id)
        return f": {verdict.reason}" if verdict is not None and verdict.reason else ""

    engine, engines = "has a Docker Engine that does not answer", "have a Docker Engine that does not answer"
    unfit, unfits = "has a Docker Engine that cannot run tasks", "have a Docker Engine that cannot run tasks"
    others = tuple(sorted(BARRING - {ENGINE, DISK}))
    return [
        Filter(is_up, "is down", "are down", lambda node: f"bring {node.name} back{told(node)}"),
        Filter(
            is_ready,
            "has no agent that answers",
            "have no agent that answers",
            lambda node: f"see why the agent on {node.name} does not answer{told(node)}",
        ),
        Filter(is_free_of(ENGINE), engine, engines, lambda node: f"start the Docker Engine on {node.name}"),
        Filter(is_free_of(*others), unfit, unfits, lambda node: trouble([node]), trouble),
        Filter(
            is_free_of(DISK),
            "is short of disk space",
            "are short of disk space",
            lambda node: f"free disk space on {node.name}: {trouble([node])}",
        ),
        Filter(
            is_not(Availability.DRAIN), "is drained", "are drained", lambda node: f"`stack node activate {node.name}`"
        ),
        Filter(
            is_not(Availability.PAUSE), "is paused", "are paused", lambda node: f"`stack node activate {node.name}`"
        ),
    ]


def lasting_filters(state: ClusterState, head: StackRevision, spec: ServiceSpec) -> list[Filter]:
    """Give the filters for the kind of node that a service asks for: what it runs now makes no difference to them."""
    platform, image = spec.container.platform, head.image_platforms.get(spec.name)
    found = [constraint_filter(state, constraint) for constraint in spec.constraints]
    if platform:
        found.append(_platform(state, platform))
    if image:
        found.append(_image(state, image))
    if encrypted := _encrypted_networks(state, head, spec):
        found.append(_tunnels(state, encrypted))
    return found


def room_filters(state: ClusterState, spec: ServiceSpec, use: Use) -> list[Filter]:
    """Give the filters for whether there is room for one more task on a node."""
    found = []
    if spec.max_replicas_per_node:
        found.append(_at_most(spec.max_replicas_per_node, use))
    needs = needs_of(spec)
    if needs.nano_cpus:
        found.append(_resource(state, use, "CPU", needs.nano_cpus, _cores, lambda r: r.nano_cpus))
    if needs.memory:
        found.append(_resource(state, use, "memory", needs.memory, _size, lambda r: r.memory))
    for name, count in sorted(needs.generic.items()):
        found.append(_generic(state, use, name, count))
    for port in spec.ports:
        if port.mode == "host":
            found += (_host_port(state, port, use), _listened(state, port))
    return found


# What a service can ask for


def constraint_filter(state: ClusterState, constraint: str) -> Filter:
    """Ask for a node that meets a constraint."""
    meets = test_for(constraint)

    def passes(node: Node) -> bool:
        return meets(node, _description(state, node))

    def remedy(node: Node) -> str:
        found = parsed(constraint)
        if found is None:
            return f"change the constraint: nothing of a node is called {constraint.split()[0]}"
        if found.attribute.startswith("node.labels."):
            label = found.attribute.removeprefix("node.labels.")
            if found.equal:
                return f"`stack node update --label-add {label}={found.value} {node.name}`"
            return f"`stack node update --label-rm {label} {node.name}`"
        return f"change the constraint {constraint}"

    return Filter(passes, f"does not match {constraint}", f"do not match {constraint}", remedy)


def _platform(state: ClusterState, platform: str) -> Filter:
    os, _, rest = platform.casefold().partition("/")
    wanted = architecture(rest.partition("/")[0]) if rest else ""

    def passes(node: Node) -> bool:
        description = _description(state, node)
        if description is None:
            return False
        has = architecture(description.architecture)
        return (os == description.os and wanted in ("", has)) or (not rest and architecture(os) == has)

    def remedy(node: Node) -> str:
        return f"ask for {_platform_of(state, node)}, which {node.name} is, if there is such an image"

    return Filter(passes, f"is not of platform {platform}", f"are not of platform {platform}", remedy)


def _image(state: ClusterState, platforms: Sequence[str]) -> Filter:
    """Ask for a node that an image is made for. Variants are left to the engine: nodes do not tell theirs."""
    parts = [platform.casefold().split("/") for platform in platforms]
    wanted = {(part[0], architecture(part[1])) for part in parts}
    told = ", ".join(sorted(f"{os}/{machine}" for os, machine in wanted))

    def passes(node: Node) -> bool:
        description = _description(state, node)
        if description is None:
            return False
        has = architecture(description.architecture)
        return any((description.os, machine) in wanted for machine in (has, *_RUNS_TOO.get(has, ())))

    def remedy(node: Node) -> str:
        return f"use an image that is made for {_platform_of(state, node)} too, which {node.name} is"

    text = f"not of the image's platform: image is for {told} only"
    return Filter(passes, f"is {text}", f"are {text}", remedy)


def _platform_of(state: ClusterState, node: Node) -> str:
    description = _description(state, node)
    return f"{description.os}/{architecture(description.architecture)}" if description else "another platform"


def _encrypted_networks(state: ClusterState, head: StackRevision, spec: ServiceSpec) -> list[str]:
    meant = (head.spec.networks[attachment.network] for attachment in spec.networks)
    found = ((wish, find_network(state, head.stack_uid, wish)) for wish in meant)
    return [wish.name for wish, network in found if wish.encrypted or (network is not None and network.encrypted)]


def _tunnels(state: ClusterState, networks: Sequence[str]) -> Filter:
    """Ask for a node that can encrypt; none is ever given such a network to have it in clear text."""
    wanted = f"{'network' if len(networks) == 1 else 'networks'} {', '.join(networks)}"

    def passes(node: Node) -> bool:
        session = state.sessions.get(node.id)
        return session is not None and session.version >= TUNNELS and bool(session.description.tunnels)

    def trouble(node: Node) -> str:
        description = _description(state, node)
        told = "" if description is None else description.tunnels_trouble
        return told or f"its agent is of a version that cannot; update it on {node.name}"

    def remedy(node: Node) -> str:
        return f"make {node.name} able to encrypt ({trouble(node)}), or take `encrypted` off {wanted}"

    text = f"encrypt {wanted}"
    return Filter(passes, f"cannot {text}", f"cannot {text}", remedy, lambda nodes: trouble(nodes[0]))


def _at_most(most: int, use: Use) -> Filter:
    limit = f"as many tasks of the service as it may (max_replicas_per_node: {most})"
    limits = f"as many tasks of the service as they may (max_replicas_per_node: {most})"
    return Filter(
        lambda node: use.own(node.id) < most,
        f"has {limit}",
        f"have {limits}",
        lambda node: f"raise deploy.placement.max_replicas_per_node to {use.own(node.id) + 1}",
    )


def _generic(state: ClusterState, use: Use, name: str, count: int) -> Filter:
    return _resource(state, use, name, count, str, lambda r: r.generic.get(name, 0))


def _resource(
    state: ClusterState,
    use: Use,
    name: str,
    need: int,
    amount: Callable[[int], str],
    part: Callable[[Reservations], int],
) -> Filter:
    def free(node: Node) -> int:
        capacity = part(capacity_of(node, _description(state, node)))
        return capacity - part(state.roster.reserved(node.id)) - need * use.planned(node.id)

    def about(nodes: Sequence[Node]) -> str:
        most = max(max(0, free(node)) for node in nodes)
        return f"needs {amount(need)}, {'most ' if len(nodes) > 1 else ''}free {amount(most)}"

    def remedy(node: Node) -> str:
        left = max(0, free(node))
        total = part(capacity_of(node, _description(state, node)))
        if total < need and name not in ("CPU", "memory"):
            return f"`stack node update --resource {name}={need} {node.name}`, if it has so many"
        if total < need:
            return f"reserve at most {amount(total)}, which is all that {node.name} has"
        return f"free {amount(need - left)} of {name} on {node.name}, or reserve at most {amount(left)}"

    return Filter(lambda node: free(node) >= need, f"lacks {name}", f"lack {name}", remedy, about)


def capacity_of(node: Node, description: NodeDescription | None) -> Reservations:
    """Give what a node has in all; of a generic resource, an operator's word counts before the engine's."""
    if description is None:
        return Reservations(generic=node.resources)
    return Reservations(description.cpus * NANO, description.memory, {**description.resources, **node.resources})


def _host_port(state: ClusterState, port: PortSpec, use: Use) -> Filter:
    def holder(node: Node) -> str:
        claim = state.claims.get(key_of(host_port_claim(port, node.id, "")))
        return "" if claim is None else claim.owner

    def passes(node: Node) -> bool:
        return not holder(node) and not use.planned(node.id)

    def remedy(node: Node) -> str:
        task = state.tasks.get(holder(node))
        service = None if task is None else state.services.get(task.service_uid)
        who = f"{service.full_name}.{task.slot}" if task is not None and service is not None else "another task"
        return f"choose another port, or stop {who}, which has it on {node.name}"

    text = f"port {port.published}/{port.protocol} in use"
    return Filter(passes, f"has {text}", f"have {text}", remedy)


def _listened(state: ClusterState, port: PortSpec) -> Filter:
    """Ask for a node on which no program of the host listens on a port: it would be taken from that, unsaid."""

    def passes(node: Node) -> bool:
        session = state.sessions.get(node.id)
        return session is None or name_of(port) not in session.listening

    def remedy(node: Node) -> str:
        return f"choose another port, or stop the program that has it on {node.name} ({naming(port)} there names it)"

    text = f"port {port.published}/{port.protocol} held by"
    return Filter(passes, f"has {text} a program of the host", f"have {text} programs of the hosts", remedy)


def naming(port: PortSpec) -> str:
    """Give the command that names the program which listens on a port of a host."""
    return f"`ss -l{'t' if port.protocol == 'tcp' else 'u'}np sport = :{port.published}`"


def host_port_claim(port: PortSpec, node: str, task: str) -> Claim:
    """Give the claim of a task on a port of its own node."""
    return Claim("host-port", f"{node}/{name_of(port)}", task)


def is_described(state: ClusterState, node: Node) -> bool:
    """Tell whether it is known what a node is; of one whose engine does not answer, its labels are not."""
    session = state.sessions.get(node.id)
    return session is not None and ENGINE not in session.conditions


def _description(state: ClusterState, node: Node) -> NodeDescription | None:
    session = state.sessions.get(node.id)
    return None if session is None else session.description


def _cores(nano_cpus: int) -> str:
    return f"{nano_cpus / NANO:.3g}"


def _size(size: int) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size = size / 1024  # type: ignore[assignment]
    return f"{size:.3g} TiB"
