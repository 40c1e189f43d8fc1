"""Published ports: `8080:80`, ranges, addresses, and the long form."""

from __future__ import annotations

import ipaddress
import re

from cluster.compose import values
from cluster.compose.tree import Mapping, Node, Scalar, ScalarValue, Where
from cluster.model.service import PortSpec

_SHORT = re.compile(
    r"(?:(?:(?P<ip>\[[^\]]*\]|[^\[\]]*):)?(?P<published>(?:[0-9]+(?:-[0-9]+)?)?):)?"
    r"(?P<target>[0-9]+(?:-[0-9]+)?)(?:/(?P<protocol>.*))?"
)
_HIGHEST = 65535
_HINT = 'Write it like "8080:80", "53:53/udp" or "8000-8010:8000-8010", in quotes.'


def expand(item: Node) -> list[Node]:
    """Give the long forms of one entry of `ports`; a range gives several."""
    if isinstance(item, Mapping):
        return [item]
    written = values.loose_text(item) or ""
    found = _SHORT.fullmatch(written.strip())
    if found is None:
        raise item.where.error(f"{written[:60]!r} is not a port", hint=_HINT)
    targets = _range(found["target"], item.where)
    published = _range(found["published"], item.where) if found["published"] else []
    if published and len(targets) == 1:
        targets *= len(published)
    if published and len(published) != len(targets):
        raise item.where.error(f"the ranges of {written!r} differ in length", hint=_HINT)
    fixed: dict[str, ScalarValue] = {"protocol": (found["protocol"] or "tcp").lower()}
    if found["ip"]:
        fixed["host_ip"] = found["ip"].strip("[]")
    return [
        _long({"target": target, **fixed, **({"published": published[n]} if published else {})}, item.where)
        for n, target in enumerate(targets)
    ]


def _long(fields: dict[str, ScalarValue], where: Where) -> Mapping:
    return Mapping({key: Scalar(value, where) for key, value in fields.items()}, where)


def _range(written: str, where: Where) -> list[int]:
    low, _, high = written.partition("-")
    first, last = _port(low, where), _port(high or low, where)
    if last < first:
        raise where.error(f"the range {written} runs backwards")
    return list(range(first, last + 1))


def _port(written: str, where: Where) -> int:
    if not (1 <= len(written) <= 5) or not 1 <= int(written) <= _HIGHEST:
        raise where.error(f"{written[:20]!r} is not a port number", hint=f"A port is between 1 and {_HIGHEST}.")
    return int(written)


def identity(port: Mapping) -> tuple[object, ...]:
    """Tell entries of several files apart: the same identity replaces."""
    return tuple(
        node.value if isinstance(node := port.entries.get(key), Scalar) else default
        for key, default in (("host_ip", ""), ("target", None), ("published", None), ("protocol", "tcp"))
    )


def convert(node: Node) -> PortSpec:
    """Read a long form."""
    port = values.mapping(node)
    target = port.get("target")
    if target is None:
        raise node.where.error("the port has no target", hint="target is the port in the container.")
    published = port.get("published")
    written = values.loose_text(published) if published else None
    number = values.integer(target, least=1, most=_HIGHEST)
    if not written:
        raise node.where.error(
            f"port {number} is published without saying as what",
            hint=f'Write "8080:{number}", or take it out: within a network every port can be reached.',
        )
    assert published is not None
    protocol = values.text(protocol_node).lower() if (protocol_node := port.get("protocol")) else "tcp"
    if protocol not in ("tcp", "udp"):
        raise (protocol_node or node).where.error(f"the protocol {protocol[:20]!r} is neither tcp nor udp")
    mode = values.one_of(mode_node, "ingress", "host") if (mode_node := port.get("mode")) else "ingress"
    return PortSpec(
        target=number,
        published=values.integer(published, least=1, most=_HIGHEST),
        protocol="udp" if protocol == "udp" else "tcp",
        mode="host" if mode == "host" else "ingress",
        host_ip=_host_ip(port.get("host_ip"), mode),
    )


def _host_ip(node: Node | None, mode: str) -> str:
    written = values.text(node) if node else ""
    if node is None or not written:
        return ""
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        raise node.where.error(f"{written[:60]!r} is not an IP address", hint=_HINT) from None
    if address.is_unspecified:
        return ""
    if mode != "host":
        raise node.where.error(
            f"a published port answers on every node and cannot be bound to {written}",
            hint="Take the address out, or write the long form with mode: host to publish on the task's own node only.",
        )
    return str(address)
