"""Published ports. A range of published ports for one port of the container is as many ports, as in a swarm.

One that is published without saying as what, or as 0, gets a free port from the cluster.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from cluster.compose.convert.field import Field
from cluster.model.service import PortSpec

_HIGHEST = 65535
_PUBLISHED = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


def convert(field: Field) -> tuple[PortSpec, ...]:
    """Read the ports of a service, sorted. One that is published twice must lead to one port of the container."""
    taken: dict[tuple[object, ...], PortSpec] = {}
    for item in field.items():
        for port in _ports(item) if item.given else ():
            slot = (port.published or -port.target, port.protocol, port.mode, port.host_ip)
            if taken.setdefault(slot, port) != port:
                raise item.error(
                    f"port {port.published}/{port.protocol} is published twice, to {taken[slot].target} and "
                    f"{port.target}"
                )
    return tuple(sorted(taken.values(), key=lambda p: (p.protocol, p.mode, p.published, p.target, p.host_ip)))


def _ports(item: Field) -> Iterator[PortSpec]:
    target = item["target"].integer(least=1, most=_HIGHEST)
    if target is None:
        raise item.error("the port has no target", hint="target is the port in the container.")
    mode = item["mode"].one_of("ingress", "", "ingress", "host")
    field = item["published"]
    found = _PUBLISHED.fullmatch(field.text())
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    given_out = field.text() in ("", "0") and mode != "host"
    if not given_out and not 1 <= first <= last <= _HIGHEST:
        raise field.error(f"{field.text()[:40]!r} is not a port number", hint='Write it like "8080" or "8080-8082".')
    protocol = item["protocol"].text("tcp").lower()
    if protocol not in ("tcp", "udp"):
        raise item["protocol"].error(f"the protocol {protocol[:20]!r} is neither tcp nor udp")
    host_ip = _host_ip(item["host_ip"])
    for published in range(first, last + 1):
        yield PortSpec(
            target=target,
            published=published,
            protocol="udp" if protocol == "udp" else "tcp",
            mode="host" if mode == "host" else "ingress",
            host_ip=host_ip,
        )


def _host_ip(field: Field) -> str:
    if not field.text():
        return ""
    try:
        address = ipaddress.ip_address(field.text())
    except ValueError:
        raise field.error(f"{field.text()[:60]!r} is not an IP address") from None
    return "" if address.is_unspecified else str(address)
