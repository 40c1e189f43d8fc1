"""The short form of a port: `[[HOST_IP:]PUBLISHED:]TARGET[/PROTOCOL]`, where ports may be ranges."""

from __future__ import annotations

import re
from typing import Any

from cluster.compose.kinds import found
from cluster.compose.tree import List, Map, Wrong, items

_PROTOCOLS = ("tcp", "udp", "sctp")
_LAST = 65535
_HINT = 'Write it like "8080:80", "127.0.0.1:8080:80/udp" or "3000-3005:4000-4005".'
_RANGE = re.compile(r"[0-9]{1,9}(?:-[0-9]{1,9})?")


def long_ports(value: Any) -> List:
    """Expand all ports of a service. Raises Wrong."""
    result = List()
    for n, (item, place) in enumerate(items(value)):
        try:
            for port in _long(item):
                result.put(port, place)
        except Wrong as wrong:
            raise wrong.within(n) from None
    return result


def _long(item: Any) -> list[Map]:
    if isinstance(item, Map):
        if isinstance(item.get("published"), int):
            item["published"] = str(item["published"])
        return [item]
    if isinstance(item, bool | float) or not isinstance(item, int | str):
        raise Wrong(f"{found(item)} is no port", hint=_HINT)
    return parse_port(str(item))


def parse_port(text: str) -> list[Map]:
    """Give the ports that one short form stands for."""
    ports, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in _PROTOCOLS:
        raise Wrong(f"{protocol[:20]!r} is no protocol of ports", hint="It may be tcp, udp or sctp.")
    address, published, target = _parts(ports)
    first, last = _range(target, text)
    if first == 0:
        raise Wrong("0 is no port of a container", hint=_HINT)
    result = []
    numbers: list[str] = []
    if published:
        from_, to = _range(published, text)
        if last - first != to - from_:
            if first != last:
                raise Wrong(f"the ranges of {text[:60]!r} are not of one length", hint=_HINT)
            numbers = [published if from_ != to else str(from_)]
        else:
            numbers = [str(number) for number in range(from_, to + 1)]
    for n, number in enumerate(range(first, last + 1)):
        port = Map([("mode", "ingress")])
        if address:
            port["host_ip"] = address
        port["target"] = number
        if numbers:
            port["published"] = numbers[n]
        port["protocol"] = protocol
        result.append(port)
    return result


def _parts(text: str) -> tuple[str, str, str]:
    """Split into address, published and target; an IPv6 address may stand in brackets."""
    rest, _, target = text.rpartition(":")
    address, _, published = rest.rpartition(":")
    if not target:
        raise Wrong(f"{text[:60]!r} has no port of the container", hint=_HINT)
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if address:
        check_address(address)
    return address, published, target


def _range(text: str, whole: str) -> tuple[int, int]:
    if not _RANGE.fullmatch(text):
        raise Wrong(f"{whole[:60]!r} is no port", hint=_HINT)
    first, dash, last = text.partition("-")
    low, high = int(first), int(last if dash else first)
    if high < low:
        raise Wrong(f"the range {text} is empty", hint=_HINT)
    if high > _LAST:
        raise Wrong(f"{high} is no port: the last is {_LAST}", hint=_HINT)
    return low, high


def check_address(text: str) -> None:
    """Raise Wrong for what is no IP address; one with a zone is none here."""
    import ipaddress  # few files name one, and the start is to be fast

    try:
        if "%" in text:
            raise ValueError
        ipaddress.ip_address(text)
    except ValueError:
        raise Wrong(f"{text[:60]!r} is no IP address", hint=_HINT) from None
