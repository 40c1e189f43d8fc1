"""The addresses that a file asks for: subnets and what of them may be given out, and those of single tasks."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from cluster.compose.convert.field import Field
from cluster.model.network import NetworkSpec

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Pool:
    """One entry of `ipam.config`; `gateway` and `range` are "" where nothing but the usual is asked for."""

    subnet: Subnet
    gateway: str
    range: str
    reserved: tuple[str, ...]


def pool(entry: Field) -> Pool:
    """Read an entry of a network's `ipam.config`."""
    subnet = _subnet(entry)
    return Pool(subnet, _gateway(entry["gateway"], subnet), _range(entry["ip_range"], subnet), _reserved(entry, subnet))


def addresses(field: Field, network: NetworkSpec) -> tuple[str, ...]:
    """Read the addresses that a service asks for in a network. An external one's subnets are not known here."""
    found = []
    for key, version in (("ipv4_address", 4), ("ipv6_address", 6)):
        asked = field[key]
        if not asked.given or not asked.text():
            continue
        address = _address(asked)
        if address is None or address.version != version:
            raise asked.error(f"{asked.text()[:60]!r} is no IPv{version} address")
        holder = next((s for s in map(ipaddress.ip_network, network.subnets) if address in s), None)
        if holder is None and not network.external:
            hint = "Give the network a subnet with this address, under ipam.config."
            raise asked.error(f"{address} is in no subnet that network {network.key} asks for", hint=hint)
        if holder is not None and not _is_given_out(address, holder):
            raise asked.error(f"{address} is not an address of one container in {holder}")
        if str(address) in (*network.gateways, *network.reserved):
            raise asked.error(f"{address} is kept free: it is among the network's gateways or aux_addresses")
        found.append(str(address))
    return tuple(found)


def _is_given_out(address: Address, subnet: Subnet) -> bool:
    """Tell whether a container may have an address: it is neither the subnet's own nor the nodes'."""
    return int(subnet.network_address) + 2 <= int(address) < int(subnet.broadcast_address)


def _address(field: Field) -> Address | None:
    try:
        return ipaddress.ip_address(field.text())
    except ValueError:
        return None


def _subnet(entry: Field) -> Subnet:
    field = entry["subnet"]
    if not field.given:
        raise entry.error("the entry has no subnet", hint="Like subnet: 10.5.0.0/24.")
    try:
        return ipaddress.ip_network(field.text())
    except ValueError:
        raise field.error(f"{field.text()[:60]!r} is not a subnet", hint="Like 10.5.0.0/24.") from None


def _gateway(field: Field, subnet: Subnet) -> str:
    """Give the address that nodes are to have in a subnet, "" where it is the usual one."""
    if not field.given or not field.text():
        return ""
    address = _address(field)
    if address is None or address not in subnet or address in (subnet[0], subnet[-1]):
        raise field.error(f"{field.text()[:60]!r} is not an address in {subnet}", hint=f"Like {subnet[1]}.")
    return "" if address == subnet[1] else str(address)


def _range(field: Field, subnet: Subnet) -> str:
    """Give the part of a subnet that addresses are given out of, "" where it is all of it."""
    if not field.given or not field.text():
        return ""
    try:
        found = ipaddress.ip_network(field.text())
    except ValueError:
        raise field.error(f"{field.text()[:60]!r} is not a range", hint="Like 10.5.0.128/25.") from None
    if found.version != subnet.version or not subnet.supernet_of(found):  # type: ignore[arg-type]
        raise field.error(f"{found} is not within {subnet}", hint="Choose a range in the subnet.")
    if not any(_is_given_out(address, subnet) for address in (found[0], found[-1])):
        raise field.error(f"there is no address for a container in {found}", hint="Choose a bigger range.")
    return "" if found == subnet else str(found)


def _reserved(entry: Field, subnet: Subnet) -> tuple[str, ...]:
    """Give the addresses that something else has, which the file calls by names of its own."""
    found = []
    for _, field in entry["aux_addresses"].entries():
        address = _address(field)
        if address is None or address not in subnet:
            raise field.error(f"{field.text()[:60]!r} is not an address in {subnet}")
        found.append(str(address))
    return tuple(found)
