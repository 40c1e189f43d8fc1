"""Who gets which number: VXLAN ids and subnets of networks, addresses of endpoints, published ports.

Each number is held by a claim that is created in the step that gives it out, so that two owners cannot have one. A
number is free again when its claim is deleted; numbers are given out in turn, so that this happens late.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from cluster.codec import key_for
from cluster.model.cluster import Claim, Cluster
from cluster.model.network import INGRESS, Endpoint, Network, NetworkSpec, network_id
from cluster.model.service import GIVEN_PORTS, NetworkAttachment, ServiceSpec
from cluster.model.stack import StackRevision
from cluster.protocol import IPV6
from manager.decide.routes import NodeRoute, Subnet, clash, routes_of, within
from manager.picture import ClusterState, claim_key

FIRST_VNI, LAST_VNI = 4097, 2**24 - 1

_IPV6_PREFIX = 64
"""What IPv6 expects of a link's subnet, and of which a pool has 65,536."""


class NoRoom(Exception):
    """Nothing is left of what was asked for, or what was asked for cannot be had; the text says so to people.

    `remedy` is the change that would make room.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy


def find_network(state: ClusterState, stack_uid: str, spec: NetworkSpec) -> Network | None:
    """Give the network that a stack means, an external one by its full name: the newest, if another is just going."""
    if not spec.external:
        return state.networks.get(network_id(stack_uid, spec))
    named = state.networks_named.get(spec.name, set())
    newest = max(named, key=lambda ident: state.revision_of(key_for(Network, ident)), default="")
    return state.networks.get(newest)


def as_asked(network: Network, spec: NetworkSpec) -> Network:
    """Give a network as its spec asks for it, in all that may change while it lives."""
    return replace(
        network,
        name=spec.name,
        internal=spec.internal,
        mtu=spec.mtu,
        attachable=spec.attachable,
        ranges=spec.ranges,
        reserved=spec.reserved,
    )


def attachments(
    state: ClusterState, revision: StackRevision, service: ServiceSpec
) -> list[tuple[Network, NetworkAttachment]]:
    """Give the networks of a service's tasks, each with what they wish there. Raises NoRoom when one is missing."""
    found = []
    for attachment in service.networks:
        spec = revision.spec.networks[attachment.network]
        network = find_network(state, revision.stack_uid, spec)
        if network is None:
            raise _why_missing(state, revision.stack_uid, spec)
        if spec.encrypted and not network.encrypted:
            raise NoRoom(
                f"external network {spec.name} is not encrypted",
                f"write `encrypted` where {spec.name} is made, or take it off the external one",
            )
        found.append((network, attachment))
    if service.has_ingress:
        if INGRESS not in state.networks:
            raise NoRoom(
                "the network of published ports is not made yet",
                "wait a moment; if it stays so, its subnet (ingress_subnet) overlaps with another network",
            )
        found.append((state.networks[INGRESS], NetworkAttachment(INGRESS)))
    return found


def _why_missing(state: ClusterState, stack_uid: str, spec: NetworkSpec) -> NoRoom:
    if spec.external:
        return NoRoom(
            f"external network {spec.name} does not exist",
            f"deploy the stack that makes {spec.name}, or take `external` off it",
        )
    try:
        assert state.cluster is not None
        NetworkAllocator(state, state.cluster).network(stack_uid, spec)
    except NoRoom as problem:
        return problem
    return NoRoom(f"network {spec.name} is not made yet", "wait a moment")


class NetworkAllocator:
    """Hands out VXLAN ids and subnets within one plan."""

    def __init__(self, state: ClusterState, cluster: Cluster) -> None:
        self._state, self._cluster = state, cluster
        self._known_routes: list[NodeRoute] | None = None
        self._used = [
            (network.name, ipaddress.ip_network(subnet))
            for network in state.networks.values()
            for subnet in network.subnets
        ]
        if INGRESS not in state.networks:
            self._used.append((INGRESS, ipaddress.ip_network(cluster.ingress_subnet)))
        self._vnis = _in_turn(FIRST_VNI, LAST_VNI, state.vnis, state.newest.get("vni"))
        self._newest = {version: state.newest.get(f"subnet/{version}") for version in (4, 6)}

    def network(self, stack_uid: str, spec: NetworkSpec) -> tuple[Network, list[Claim]]:
        """Make the record of a stack's network. Raises NoRoom."""
        subnets = [self._asked_for(spec, text) for text in spec.subnets]
        versions = {subnet.version for subnet in subnets}
        if 4 not in versions:
            subnets.insert(0, self._next_subnet(spec.name, self._cluster.address_pool, self._cluster.subnet_prefix))
        if spec.ipv6 and 6 not in versions:
            subnets.append(self._next_subnet(spec.name, self._cluster.ipv6_pool, _IPV6_PREFIX))
        plain = Network(network_id(stack_uid, spec), spec.name, stack_uid, spec.key, 0, ())
        made = replace(as_asked(plain, spec), gateways=spec.gateways, encrypted=spec.encrypted)
        return self._made(made, subnets)

    def ingress(self) -> tuple[Network, list[Claim]]:
        """Make the one network of published ports, elsewhere in the address pool where its usual subnet is in use.

        It has IPv6 addresses where a node has any.
        """
        subnet = ipaddress.ip_network(self._cluster.ingress_subnet)
        others = [used for name, used in self._used if name != INGRESS]
        routes = within(ipaddress.ip_network(self._cluster.address_pool), self._routes())
        if clash(subnet, routes) is not None or any(subnet.overlaps(used) for used in others):
            subnet = self._next_subnet(INGRESS, self._cluster.address_pool, subnet.prefixlen)
        subnets = [subnet]
        if self._has_ipv6():
            subnets.append(self._next_subnet(INGRESS, self._cluster.ipv6_pool, _IPV6_PREFIX))
        return self._made(Network(INGRESS, INGRESS, "", INGRESS, 0, ()), subnets)

    def _made(self, network: Network, subnets: list[Subnet]) -> tuple[Network, list[Claim]]:
        vni = next(self._vnis, None)
        if vni is None:
            raise NoRoom(f"network {network.name}: all VXLAN ids are taken", "remove stacks that are not needed")
        self._used += [(network.name, subnet) for subnet in subnets]
        made = replace(network, vni=vni, subnets=tuple(map(str, subnets)))
        return made, [Claim("vni", str(vni), made.id), *(Claim("subnet", text, made.id) for text in made.subnets)]

    def _has_ipv6(self) -> bool:
        """Tell whether a node has IPv6 addresses, and all can be told of some."""
        sessions = [session for node, session in self._state.sessions.items() if node in self._state.nodes]
        able = all(session.version >= IPV6 for session in sessions)
        return able and any(route.subnet.version == 6 for route in self._routes())

    def clash(self, spec: NetworkSpec) -> NoRoom | None:
        """Tell why a network cannot have a subnet that it asks for: a node routes some of its addresses elsewhere."""
        for text in spec.subnets:
            if (route := clash(ipaddress.ip_network(text), self._routes())) is not None:
                return NoRoom(
                    f"network {spec.name}: subnet {text} overlaps with {route}",
                    "choose another subnet, or leave it out; or take the route off the node",
                )
        return None

    def _routes(self) -> list[NodeRoute]:
        if self._known_routes is None:
            self._known_routes = routes_of(self._state)
        return self._known_routes

    def _asked_for(self, spec: NetworkSpec, text: str) -> Subnet:
        try:
            subnet = ipaddress.ip_network(text)
        except ValueError as error:
            raise NoRoom(f"network {spec.name}: {error}", "correct ipam.config.subnet") from error
        if (holder := self._holder(subnet)) is not None:
            remedy = f"choose another subnet, or leave it out; or remove network {holder}"
            if holder == spec.name:  # what it was before it was changed: its tasks are in there until this one is made
                remedy = "change the subnet along with the rest, or remove the stack before it is deployed again"
            raise NoRoom(f"network {spec.name}: subnet {subnet} overlaps with network {holder}", remedy)
        if (problem := self.clash(spec)) is not None:
            raise problem
        return subnet

    def _next_subnet(self, name: str, pool_text: str, prefix: int) -> Subnet:
        pool = ipaddress.ip_network(pool_text)
        routes = within(pool, self._routes())
        size = 1 << (pool.max_prefixlen - prefix)
        first, last = int(pool.network_address), int(pool.broadcast_address)
        for place in _in_turn(0, (last - first) // size, set(), self._last_place(pool, size)):
            subnet = ipaddress.ip_network((first + place * size, prefix))
            if self._holder(subnet) is None and clash(subnet, routes) is None:
                self._newest[pool.version] = (0, int(subnet.network_address))
                return subnet
        raise NoRoom(
            f"network {name}: no /{prefix} is left in the address pool {pool}"
            + (", some of which nodes route elsewhere" if routes else ""),
            "remove stacks that are not needed, or give the network a subnet of its own (ipam.config.subnet)",
        )

    def _last_place(self, pool: Subnet, size: int) -> tuple[int, int] | None:
        """Give the newest subnet's place in the pool; one that was asked for may lie elsewhere."""
        newest, first = self._newest[pool.version], int(pool.network_address)
        if newest is None or not first <= newest[1] <= int(pool.broadcast_address):
            return None
        return 0, (newest[1] - first) // size

    def _holder(self, subnet: Subnet) -> str | None:
        for name, used in self._used:
            if used.version == subnet.version and subnet.overlaps(used):
                return name
        return None


class AddressAllocator:
    """Hands out addresses within one plan: one out of each subnet of a network, never the first or the gateway's."""

    def __init__(self, state: ClusterState) -> None:
        self._state = state
        self._free: dict[str, list[Iterator[str]]] = {}
        self._taken: set[tuple[str, str]] = set()

    def endpoint(
        self, network: Network, owner: str, aliases: tuple[str, ...] = (), asked: tuple[str, ...] = ()
    ) -> tuple[Endpoint, list[Claim]]:
        """Give an owner its endpoint in a network, with the addresses that are `asked` for where there are any.

        Raises NoRoom; what the plan took before stays taken in it.
        """
        if network.id not in self._free:
            self._free[network.id] = [self._addresses(network, subnet) for subnet in network.subnets]
        wished = [self._asked_for(network, text) for text in asked]
        addresses = []
        for text, free in zip(network.subnets, self._free[network.id], strict=True):
            subnet = ipaddress.ip_network(text)
            address = next((one for one in wished if ipaddress.ip_address(one) in subnet), None)
            address = address or next((one for one in free if (network.id, one) not in self._taken), None)
            if address is None:
                of = next((f"{one}, the range of {text}" for one in network.ranges if _is_within(one, subnet)), text)
                raise NoRoom(
                    f"network {network.name} has no free address left in {of}",
                    f"scale down what is in network {network.name}, or give it a bigger subnet or range",
                )
            self._taken.add((network.id, address))
            addresses.append(address)
        claims = [Claim("address", f"{network.id}/{address}", owner) for address in addresses]
        return Endpoint(network.id, tuple(addresses), aliases), claims

    def _asked_for(self, network: Network, text: str) -> str:
        address = ipaddress.ip_address(text)
        holder = next((s for s in map(ipaddress.ip_network, network.subnets) if address in s), None)
        if holder is None:
            held = ", ".join(network.subnets)
            raise NoRoom(f"address {text} is in no subnet of network {network.name} ({held})", "choose one that is")
        first, last = _bounds(holder)
        if not first <= int(address) <= last or text in (*network.gateways, *network.reserved):
            raise NoRoom(f"address {text} of network {network.name} is kept free", "choose another address")
        if int(address) in self._state.occupied.get(network.id, ()) or (network.id, text) in self._taken:
            claim = self._state.claims.get(claim_key("address", f"{network.id}/{text}"))
            raise NoRoom(
                f"address {text} of network {network.name} is taken by {self._holder(claim)}",
                "wait until that has gone, or choose an address outside of the network's ip_range",
            )
        return text

    def _holder(self, claim: Claim | None) -> str:
        owner = "" if claim is None else claim.owner
        task = self._state.tasks.get(owner)
        service = self._state.services.get(owner if task is None else task.service_uid)
        if service is None:
            return "another container"
        return f"service {service.full_name}" if task is None else f"task {service.full_name}.{task.slot}"

    def _addresses(self, network: Network, text: str) -> Iterator[str]:
        subnet = ipaddress.ip_network(text)
        used = self._state.occupied.get(network.id, set())
        newest = self._state.newest.get(f"{network.id}/{subnet.version}")
        first, last = given_out(network, subnet)
        make = type(subnet.network_address)
        kept = {*network.gateways, *network.reserved, *self._spoken_for(network)}
        addresses = (str(make(number)) for number in _in_turn(first, last, used, newest))
        return (address for address in addresses if address not in kept)

    def _spoken_for(self, network: Network) -> Iterator[str]:
        """Give the addresses that services of the network's own stack ask for: nobody else gets them by chance."""
        head = self._state.head(network.stack_uid)
        for service in () if head is None else head.spec.services.values():
            for attachment in service.networks:
                yield from attachment.addresses


def given_out(network: Network, subnet: Subnet) -> tuple[int, int]:
    """Give the first and the last address, as integers, that are given out by chance in a subnet of a network."""
    first, last = _bounds(subnet)
    for text in network.ranges:
        if _is_within(text, subnet):
            part = ipaddress.ip_network(text)
            return max(first, int(part.network_address)), min(last, int(part.broadcast_address))
    return first, last


def _bounds(subnet: Subnet) -> tuple[int, int]:
    """Give the first and the last address, as integers, that a container can have in a subnet."""
    return int(subnet.network_address) + 2, int(subnet.broadcast_address) - 1


def _is_within(text: str, subnet: Subnet) -> bool:
    return ipaddress.ip_network(text).network_address in subnet


class PortAllocator:
    """Hands out published ports within one plan."""

    def __init__(self, state: ClusterState) -> None:
        self._state = state
        self._free: dict[str, Iterator[int]] = {}

    def port(self, protocol: str, target: int, owner: str) -> Claim:
        """Give an owner a port of every node for a port of its containers. Raises NoRoom."""
        first, last = GIVEN_PORTS
        if protocol not in self._free:
            newest = self._state.newest.get(f"port/{protocol}")
            numbers = _in_turn(first, last, set(), newest)
            claims = self._state.claims
            self._free[protocol] = (n for n in numbers if claim_key("port", f"{protocol}/{n}") not in claims)
        number = next(self._free[protocol], None)
        if number is None:
            raise NoRoom(
                f"all {protocol} ports from {first} to {last} are taken",
                f'publish it as a port of your choice outside of these ("8080:{target}"), or remove what is not needed',
            )
        return Claim("port", f"{protocol}/{number}", owner, target)


def _in_turn(first: int, last: int, used: set[int], newest: tuple[int, int] | None) -> Iterator[int]:
    """Go once through the numbers that are free, beginning after the newest one."""
    start = newest[1] + 1 if newest is not None and first <= newest[1] < last else first
    return (number for number in chain(range(start, last + 1), range(first, start)) if number not in used)
