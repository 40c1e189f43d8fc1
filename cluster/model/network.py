"""Overlay networks and the endpoints in them."""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass, field

INGRESS = "ingress"
"""Id and name of the one network that carries published ports; it belongs to no stack."""


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A network of a stack as asked for. `name` is the full name; an external one must be there already.

    `gateways` are addresses within `subnets`; a subnet without one has the usual one. With `ipv6` it has IPv6
    addresses besides IPv4 ones, of a subnet of the cluster's own unless one is asked for.

    Addresses are given out of `ranges` alone, in subnets that have one, and none of those that are `reserved`.
    Containers that were started by hand may be attached to one that is `attachable`.
    """

    key: str
    name: str
    external: bool = False
    internal: bool = False
    mtu: int | None = None
    subnets: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    gateways: tuple[str, ...] = ()
    encrypted: bool = False
    ipv6: bool = False
    attachable: bool = False
    ranges: tuple[str, ...] = ()
    reserved: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Network:
    """The leader's record of one overlay network: its VXLAN number and its subnets (CIDR; IPv4 and IPv6).

    `gateways` are those that were asked for; `attachable`, `ranges` and `reserved` are as in the spec.
    """

    id: str
    name: str
    stack_uid: str
    key: str
    vni: int
    subnets: tuple[str, ...]
    internal: bool = False
    mtu: int | None = None
    gateways: tuple[str, ...] = ()
    encrypted: bool = False
    attachable: bool = False
    ranges: tuple[str, ...] = ()
    reserved: tuple[str, ...] = ()

    def gateway_of(self, subnet: str) -> str:
        """The address in a subnet that is each node's own, and no endpoint's: its first one unless asked otherwise."""
        held = ipaddress.ip_network(subnet)
        asked = (address for address in self.gateways if ipaddress.ip_address(address) in held)
        return next(asked, str(held[1]))


@dataclass(frozen=True, slots=True)
class TunnelKey:
    """A node's end of the WireGuard tunnels: the `public` key in base64, and the UDP port where it is listened to."""

    public: str
    port: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The addresses (without prefix length) that a sandbox has in one network, and its extra DNS names there.

    `mac_address` is one that its service asks for.
    """

    network: str
    addresses: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    mac_address: str = ""

    @property
    def mac(self) -> str:
        """Derived from the first IPv4 address, so that hardly anyone has to carry one: 02:42 and the four bytes."""
        if self.mac_address:
            return self.mac_address
        packed = next(ip.packed for a in self.addresses if (ip := ipaddress.ip_address(a)).version == 4)
        return "02:42:" + ":".join(f"{byte:02x}" for byte in packed)


def network_id(stack_uid: str, spec: NetworkSpec) -> str:
    """Name a network of a stack by what cannot change while it lives: other subnets, or encryption, make another."""
    identity = "/".join((stack_uid, spec.key, *sorted(spec.subnets), *(f"by {way}" for way in sorted(spec.gateways))))
    if spec.encrypted:
        identity += "/encrypted"
    if spec.ipv6 and not any(":" in subnet for subnet in spec.subnets):
        identity += "/ipv6"
    return hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()[:25]
