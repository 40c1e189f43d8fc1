"""What the kernel of this node should hold, worked out from the assignments. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain

from agent.network.ports import Rules, rules
from agent.network.vips import Services, services
from agent.network.wireguard import Peer, address_of, is_key
from cluster.assignments import AttachmentItem, Item, NetworkItem, PeerItem, PortItem, ServiceItem, TaskItem, VipItem
from cluster.errors import Failed
from cluster.model.network import INGRESS, Endpoint, Network
from cluster.model.service import API, MANAGERS
from cluster.model.task import Task

VXLAN_PORT = 4789
BRIDGE, BRIDGE_INDEX = "br0", 2
VXLAN, VXLAN_INDEX = "vxlan0", 3
OUTER, NODE_OUTER = "v-", "node"
NODE_LINKS = "sy-"

LEAST_IPV6_MTU = 1280
"""Of a link that has IPv6 addresses (RFC 8200); with less, the kernel takes IPv6 off the link without a word."""

_OUTER_INDEXES = 0x01000000
_FIRST_INNER_INDEX = 2
_BY_HAND_INDEXES = 0x02000000
_REMEMBERED = 8192
"""Addresses that are not worked out again: each set of assignments has nearly all that the one before had."""


@dataclass(frozen=True, slots=True)
class Wire:
    """One link of a sandbox (or of the node itself) into a network: a pair whose `outer` end is a port of its bridge.

    Indexes are derived from the address, which is unique in the network, so that nothing need be asked of the kernel.
    `inner_index` 0 leaves the choice to the kernel. Addresses are (address, prefix length). `gateways` are set for the
    one link of a sandbox that leads outside. Answers to published ports leave by `gate`, an address of nobody, and are
    sent on to the node that they came by (`returns.py`); "" where nodes stand in for their clients. One into the
    namespace that a container has of its own is `by_hand`: what else is there stays as it is.
    """

    network: str
    inner: str
    inner_index: int
    outer: str
    outer_index: int
    mac: str
    mtu: int
    addresses: tuple[tuple[str, int], ...]
    gateways: tuple[str, ...] = ()
    gate: str = ""
    by_hand: bool = False

    @property
    def has_ipv6(self) -> bool:
        return any(":" in address for address, _ in self.addresses)


@dataclass(frozen=True, slots=True)
class Overlay:
    """One network on this node. Endpoints elsewhere: `remote` is MAC -> VTEP, `neighbours` is address -> MAC.

    `gateways` are the node's own addresses in a network that leads outside, the same on every node. An encrypted one
    has no VTEP in the network between the nodes: `vtep` is "", and those of `remote` are addresses inside the tunnels.
    """

    network: str
    vni: int
    mtu: int
    vtep: str
    subnets: tuple[str, ...]
    remote: dict[str, str] = field(default_factory=dict)
    neighbours: dict[str, str] = field(default_factory=dict)
    node: Wire | None = None
    gateways: tuple[str, ...] = ()
    gate: str = ""
    encrypted: bool = False

    @property
    def shape(self) -> tuple[int, int, str]:
        """What the bridge and the VXLAN link are made of."""
        return self.vni, self.mtu, self.vtep

    @property
    def bridge_mac(self) -> str:
        """Fixed, for a bridge would else take on and change with the MACs of its ports."""
        return "02:53:59:" + ":".join(f"{byte:02x}" for byte in self.vni.to_bytes(3, "big"))


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it: networks and their virtual addresses by id, links of sandboxes by task, published ports (None: no
    ingress). `refused` are networks that this node cannot be in, with the reason.
    """

    overlays: dict[str, Overlay] = field(default_factory=dict)
    sandboxes: dict[str, tuple[Wire, ...]] = field(default_factory=dict)
    ports: Rules | None = None
    services: dict[str, Services] = field(default_factory=dict)
    tunnels: dict[str, Peer] = field(default_factory=dict)
    """Public keys of the nodes that encrypted networks lead to."""
    refused: dict[str, str] = field(default_factory=dict)
    callers: frozenset[str] = frozenset()
    """Addresses of tasks here whose service is to reach the managers' API."""

    @property
    def encrypts(self) -> bool:
        return any(overlay.encrypted for overlay in self.overlays.values())


def plan(
    node: str, vtep: str, underlay_mtu: int, items: Iterable[Item], *, returns: bool = True, ipv6: bool = True
) -> Plan:
    """Work out everything that the items ask of this node, whose packets between nodes leave from `vtep`.

    `returns` tells whether its kernel can send answers back to the node that they came by. Without `ipv6` its kernel
    knows no such addresses, and networks have none here.
    """
    networks: dict[str, NetworkItem] = {}
    peers: dict[str, list[PeerItem]] = {}
    ports: list[PortItem] = []
    vips: dict[str, list[VipItem]] = {}
    tasks: list[Task] = []
    calling: set[tuple[str, int]] = set()
    by_hand: dict[str, list[Endpoint]] = {}
    for item in items:
        match item:
            case NetworkItem():
                networks[item.network.id] = item if ipv6 else _without_ipv6(item)
            case PeerItem():
                peers.setdefault(item.network, []).append(item)
            case VipItem():
                vips.setdefault(item.network, []).append(item)
            case PortItem():
                ports.append(item)
            case TaskItem():
                tasks.append(item.task)
            case ServiceItem() if item.spec.labels.get(MANAGERS) == API:
                calling.add((item.uid, item.version))
            case AttachmentItem(endpoint=Endpoint() as endpoint, removing=False):
                by_hand.setdefault(item.sandbox, []).append(endpoint)
            case _:
                pass
    refused = {ident: why for ident, item in networks.items() if (why := _too_narrow(item.network, vtep, underlay_mtu))}
    if refused.pop(INGRESS, ""):
        networks[INGRESS] = _without_ipv6(networks[INGRESS])
    overlays = {
        ident: _overlay(node, vtep, underlay_mtu, item, peers.get(ident, ()), returns)
        for ident, item in networks.items()
        if ident not in refused
    }
    sandboxes = {}
    for task in tasks:
        with suppress(Failed):  # said when it is to be started; it must not keep others from being wired
            sandboxes[task.id] = wires(task.id, task.endpoints, overlays)
    for sandbox, endpoints in by_hand.items():
        with suppress(Failed):
            sandboxes[sandbox] = wires_by_hand(sandbox, endpoints, overlays)
    ingress = overlays.get(INGRESS)
    published = None
    if ingress is not None and ingress.node is not None:
        published = rules(node, ingress.node.inner, ports, peers.get(INGRESS, ()))
    virtual = {network: services(vips[network], peers.get(network, ())) for network in vips}
    met = chain.from_iterable(peers.get(network, ()) for network, overlay in overlays.items() if overlay.encrypted)
    tunnels = {public: end for peer in met if peer.node != node for public, end in _tunnels(peer).items()}
    let_in = (task.endpoints for task in tasks if (task.service_uid, task.version) in calling)
    callers = frozenset(_canonical(address) for each in let_in for endpoint in each for address in endpoint.addresses)
    return Plan(overlays, sandboxes, published, virtual, tunnels, refused, callers)


def wires(task: str, endpoints: Iterable[Endpoint], overlays: dict[str, Overlay]) -> tuple[Wire, ...]:
    """Lay out a sandbox's links: eth0, eth1, ... in the order of attachment, the ingress network last."""
    ordered = sorted(endpoints, key=lambda endpoint: endpoint.network == INGRESS)
    laid: list[Wire] = []
    for position, endpoint in enumerate(ordered):
        overlay = _overlay_of(task, endpoint, overlays)
        laid.append(_wire(task, endpoint, overlay, laid, f"eth{position}", _FIRST_INNER_INDEX + position))
    return tuple(laid)


def wires_by_hand(sandbox: str, endpoints: Iterable[Endpoint], overlays: dict[str, Overlay]) -> tuple[Wire, ...]:
    """Lay out links into a container that has a namespace of its own: called so that they clash with no other's."""
    laid: list[Wire] = []
    for endpoint in sorted(endpoints, key=lambda one: one.network):
        overlay = _overlay_of(sandbox, endpoint, overlays)
        wire = _wire(sandbox, endpoint, overlay, laid, f"sy{overlay.vni}", _BY_HAND_INDEXES + overlay.vni)
        laid.append(replace(wire, gate="", by_hand=True))
    return tuple(laid)


def _overlay_of(sandbox: str, endpoint: Endpoint, overlays: dict[str, Overlay]) -> Overlay:
    if endpoint.network not in overlays:
        raise Failed(
            f"task {sandbox} has an address in network {endpoint.network}, which this node has not been told of",
            hint="it is wired when the manager's next set of assignments brings the network",
        )
    return overlays[endpoint.network]


def _wire(
    sandbox: str, endpoint: Endpoint, overlay: Overlay, before: Iterable[Wire], inner: str, inner_index: int
) -> Wire:
    return Wire(
        overlay.network, inner, inner_index, outer_name(sandbox), _outer_index(endpoint.addresses), endpoint.mac,
        overlay.mtu, _with_prefixes(endpoint.addresses, overlay.subnets, overlay.network),
        () if any(wire.gateways for wire in before) else overlay.gateways,
        overlay.gate,
    )  # fmt: skip


def outer_name(task: str) -> str:
    """The end of a sandbox's link that is in a network's namespace: one for each task and network."""
    return OUTER + task[:13]


def node_link(network: str) -> str:
    """The node's own link into a network that it has an address in."""
    return NODE_LINKS + network[:12]


def _overlay(
    node: str, vtep: str, underlay_mtu: int, item: NetworkItem, peers: Iterable[PeerItem], returns: bool
) -> Overlay:
    network = item.network
    remote = [(peer, way) for peer in peers if peer.node != node and (way := _way(peer, network))]
    mtu = _mtu(network, vtep, underlay_mtu)
    ipv6 = any(":" in subnet for subnet in network.subnets)
    overlay = Overlay(
        network.id, network.vni, mtu, "" if network.encrypted else vtep, network.subnets,
        {peer.mac: way for peer, way in remote},
        {_canonical(a): peer.mac for peer, _ in remote for a in peer.addresses if ipv6 or ":" not in a},
        gateways=() if network.internal or network.id == INGRESS else _gateways(network),
        gate=str(ipaddress.ip_network(network.subnets[0])[1]) if returns and network.id == INGRESS else "",
        encrypted=network.encrypted,
    )  # fmt: skip
    return replace(overlay, node=_node_wire(network, item.node_addresses or overlay.gateways, mtu))


def _without_ipv6(item: NetworkItem) -> NetworkItem:
    subnets = tuple(subnet for subnet in item.network.subnets if ":" not in subnet)
    return replace(item, network=replace(item.network, subnets=subnets))


def _too_narrow(network: Network, vtep: str, underlay_mtu: int) -> str:
    """Tell why a network's IPv6 addresses would not work on this node, "" where they do."""
    mtu = _mtu(network, vtep, underlay_mtu)
    if mtu >= LEAST_IPV6_MTU or not any(":" in subnet for subnet in network.subnets):
        return ""
    least = LEAST_IPV6_MTU + around(vtep, encrypted=network.encrypted)
    return (
        f"its packets have {mtu} bytes here, IPv6 needs {LEAST_IPV6_MTU}: the link between nodes has an MTU of "
        f"{underlay_mtu}, and would need {least}; raise that, or take IPv6 out of network {network.name}"
    )


def around(vtep: str, *, encrypted: bool) -> int:
    """The bytes of the outer Ethernet, IP, UDP and VXLAN headers; VXLAN in a tunnel is over IPv6."""
    return 70 + in_tunnel(vtep) if encrypted else 70 if ":" in vtep else 50


def in_tunnel(vtep: str) -> int:
    """The bytes of the outer IP, UDP and WireGuard headers, and 15 at most by which wireguard-go fills up packets."""
    return 16 + (80 if ":" in vtep else 60)


def _way(peer: PeerItem, network: Network) -> str:
    """Give the address to send to: in an encrypted network none but that of a key, "" where there is none."""
    if not network.encrypted:
        return peer.vtep
    return next(map(address_of, _tunnels(peer)), "")


def _tunnels(peer: PeerItem) -> dict[str, Peer]:
    keys = [key for key in peer.tunnels if is_key(key.public)]
    return {key.public: Peer(peer.vtep, key.port, preferred=key is keys[0]) for key in keys}


def _node_wire(network: Network, addresses: tuple[str, ...], mtu: int) -> Wire | None:
    if not addresses:
        return None
    mac, held = Endpoint(network.id, addresses).mac, _with_prefixes(addresses, network.subnets, network.id)
    if any(":" in address for address, _ in held):
        held = (*held, (_link_local(mac), 64))
    return Wire(network.id, node_link(network.id), 0, NODE_OUTER, _outer_index(addresses), mac, mtu, held)


def _link_local(mac: str) -> str:
    """The address that the kernel would make of a MAC: it asks by it for neighbours of whom it forwards something."""
    raw = bytes.fromhex(mac.replace(":", ""))
    own = bytes((raw[0] ^ 2, *raw[1:3], 0xFF, 0xFE, *raw[3:]))
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + own))


def _mtu(network: Network, vtep: str, underlay_mtu: int) -> int:
    """Leave room for what is put around a frame; more was asked than fits: what fits."""
    fits = underlay_mtu - around(vtep, encrypted=network.encrypted)
    return min(network.mtu, fits) if network.mtu else fits


@lru_cache(_REMEMBERED)
def _gateways(network: Network) -> tuple[str, ...]:
    return tuple(map(network.gateway_of, network.subnets))


@lru_cache(_REMEMBERED)
def _outer_index(addresses: tuple[str, ...]) -> int:
    first = next(ip for a in addresses if (ip := ipaddress.ip_address(a)).version == 4)
    return _OUTER_INDEXES + (int(first) & (_OUTER_INDEXES - 1))


@lru_cache(_REMEMBERED)
def _with_prefixes(addresses: tuple[str, ...], subnets: tuple[str, ...], network: str) -> tuple[tuple[str, int], ...]:
    ranges = [ipaddress.ip_network(subnet) for subnet in subnets]
    found = []
    for text in addresses:
        address = ipaddress.ip_address(text)
        if address.version == 6 and all(subnet.version == 4 for subnet in ranges):
            continue  # on a node that knows no such addresses
        holder = next((subnet for subnet in ranges if address in subnet), None)
        if holder is None:
            raise Failed(
                f"address {text} is in none of the subnets of network {network} ({', '.join(subnets)})",
                hint="the manager gave both: remove the stack and deploy it again",
            )
        found.append((str(address), holder.prefixlen))
    return tuple(found)


def _canonical(address: str) -> str:
    """IPv6 addresses have many spellings; the kernel's answers are compared with this one."""
    return str(ipaddress.ip_address(address)) if ":" in address else address
