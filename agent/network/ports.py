"""Published ports as nftables text: the whole table, or only the elements that changed. Pure.

A port maps to a chain that draws a number below its count of backends, and (port, number) maps to the backend. So a
change of a backend is a change of one element, however many ports and backends there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from agent.network.egress import LINKS
from cluster.assignments import PeerItem, PortItem

TABLE = "inet stackyard"
PROBE = """table netdev stackyard-probe {
chain leaving { type filter hook egress device lo priority 0; policy accept; }
}
delete table netdev stackyard-probe"""
"""Refused by kernels that cannot send answers back to the node that they came by (older than 5.16)."""

_KINDS = tuple((protocol, family) for protocol in ("tcp", "udp") for family in (4, 6))
_FORMER = ("guard", "input")
"""Chains of earlier releases."""
_MAPS = (*(f"{p}{f}{which}" for p, f in _KINDS for which in ("", "_ports", "_bound")), "hidden4", "hidden6")


@dataclass(frozen=True, slots=True)
class Rules:
    """The variable parts of the table. Chains are (protocol, family, number of backends); elements (map, key) -> value.

    `link` is the node's own way into the ingress network.
    """

    link: str
    chains: frozenset[tuple[str, int, int]] = frozenset()
    elements: dict[tuple[str, str], str] = field(default_factory=dict)


def rules(node: str, link: str, ports: Iterable[PortItem], peers: Iterable[PeerItem]) -> Rules:
    """Lead each published port to the ready endpoints of its service: those on this node only in mode `host`.

    A port without one is refused, but one of mode `host` is left alone: here nobody published it.
    """
    ready: dict[str, list[PeerItem]] = {}
    for peer in sorted(peers, key=lambda peer: peer.owner):
        if peer.ready and peer.service_uid:
            ready.setdefault(peer.service_uid, []).append(peer)
    chains: set[tuple[str, int, int]] = set()
    elements: dict[tuple[str, str], str] = {}
    for item in ports:
        port = item.port
        only_here = port.mode == "host"
        serving = [p for p in ready.get(item.service_uid, ()) if not only_here or p.node == node]
        if item.local_first:
            serving = [p for p in serving if p.node == node] or serving
        families = {4: ":" not in port.host_ip, 6: not port.host_ip or ":" in port.host_ip}
        backends = {
            family: [a for p in serving for a in p.addresses if (":" in a) == (family == 6)] for family in (4, 6)
        }
        if only_here and not serving:
            continue
        for family in (4, 6):
            if not families[family] or (family == 6 and not backends[6]):
                continue
            kind = f"{port.protocol}{family}"
            addresses = backends[family]
            wildcard = port.host_ip in ("", "0.0.0.0", "::")
            where = (
                (f"{kind}_ports", str(port.published))
                if wildcard
                else (f"{kind}_bound", f"{port.host_ip} . {port.published}")
            )
            elements[where] = f"goto {kind}_{len(addresses)}" if addresses else "goto refused"
            if addresses:
                chains.add((port.protocol, family, len(addresses)))
            for number, address in enumerate(addresses):
                elements[kind, f"{port.published} . {number}"] = f"{address} . {port.target}"
        for peer in serving:
            for address in () if peer.keeps_source else peer.addresses:
                elements["hidden6" if ":" in address else "hidden4", address] = "goto hidden"
    return Rules(link, frozenset(chains), elements)


def udp_backends(held: Rules) -> dict[int, set[tuple[str, int]]]:
    """Where each published UDP port leads: nowhere, for one that is refused."""
    found: dict[int, set[tuple[str, int]]] = {}
    for (where, key), value in held.elements.items():
        if where in ("udp4", "udp6"):
            address, _, target = value.partition(" . ")
            found.setdefault(int(key.partition(" ")[0]), set()).add((address, int(target)))
        elif where.startswith("udp"):
            found.setdefault(int(key.rpartition(" ")[2]), set())
    return found


def whole(wanted: Rules, *, anew: bool = False) -> str:
    """The table; run as one transaction it takes the place of what is there without a gap.

    Chains and maps that are there already stay, with other rules and elements: see `vips.whole`, of tables made `anew`
    as well.
    """
    frame = [f"table {TABLE} {{", *_maps(), "}"]
    empty = [f"flush table {TABLE}", *(f"flush map {TABLE} {name}" for name in _MAPS)]
    gone = [f"{verb} chain {TABLE} {name}" for name in _FORMER for verb in ("add", "delete")]
    before = (f"table {TABLE}", f"delete table {TABLE}", *frame) if anew else (*frame, *empty, *gone)
    return "\n".join((*before, f"table {TABLE} {{", *_chains(wanted), "}", *_adds(wanted.elements)))


def changes(held: Rules, wanted: Rules) -> str:
    """What leads from one to the other, with the table in place; empty if nothing.

    Chains that are no longer used stay, and do nothing: the table then holds the chains of both.
    """
    gone = {key: value for key, value in held.elements.items() if wanted.elements.get(key) != value}
    new = {key: value for key, value in wanted.elements.items() if held.elements.get(key) != value}
    lines = []
    for chain in sorted(wanted.chains - held.chains):
        lines += [f"table {TABLE} {{", *_draw(*chain), "}"]
    lines += (f"delete element {TABLE} {where} {{ {', '.join(keys)} }}" for where, keys in _by_map(gone, values=False))
    return "\n".join((*lines, *_adds(new)))


def forget() -> str:
    """Remove the table, if there is one."""
    return f"table {TABLE}\ndelete table {TABLE}"


def _maps() -> Iterator[str]:
    for protocol, family in _KINDS:
        kind = f"{protocol}{family}"
        address, address_type = ("ip daddr", "ipv4_addr") if family == 4 else ("ip6 daddr", "ipv6_addr")
        yield f"map {kind} {{ typeof {protocol} dport . numgen inc mod 65535 : {address} . {protocol} dport; }}"
        yield f"map {kind}_ports {{ type inet_service : verdict; }}"
        yield f"map {kind}_bound {{ type {address_type} . inet_service : verdict; }}"
    yield "map hidden4 { type ipv4_addr : verdict; }"
    yield "map hidden6 { type ipv6_addr : verdict; }"


def _chains(wanted: Rules) -> Iterator[str]:
    yield from _chain("refused", "meta l4proto tcp reject with tcp reset", "reject with icmpx type port-unreachable")
    yield from _chain("hidden", "masquerade")
    for chain in sorted(wanted.chains):
        yield from _draw(*chain)
    lookups = []
    for protocol, family in _KINDS:
        address = "ip daddr" if family == 4 else "ip6 daddr"
        lookups.append(f"meta nfproto ipv{family} {address} . {protocol} dport vmap @{protocol}{family}_bound")
        lookups.append(f"meta nfproto ipv{family} {protocol} dport vmap @{protocol}{family}_ports")
    yield from _chain("published", *lookups)
    # Before the chains of Docker's own ports, so that ours are decided here whoever came first.
    for hook in ("prerouting", "output"):
        yield from _base(hook, "nat", hook, -110, "fib daddr type local jump published")
    link = f'"{wanted.link}"'
    # Endpoints see their clients, but for those whose node cannot lead the answers back, clients on this node that
    # dialled loopback, where no answer finds them, and containers on this node: one may be led back to itself.
    there = f"oifname {link} ct status dnat"
    yield from _base(
        "postrouting", "nat", "postrouting", 90, f"{there} ip saddr 127.0.0.0/8 masquerade",
        f'iifname "{LINKS}" {there} masquerade',
        f"{there} ip daddr vmap @hidden4", f"{there} ip6 daddr vmap @hidden6", f"{there} meta nfproto ipv6 masquerade",
    )  # fmt: skip
    # The link is for what was published and for the answers. Without what follows, a container could reach the node's
    # own ports through it (with route_localnet even those on loopback), and neighbours of the node could reach
    # containers. As in `egress`, a chain of the kind "nat" costs what is not the first packet of a connection nothing.
    yield from _base("arriving", "nat", "input", 80, f"iifname {link} drop")
    yield from _base(
        "forward", "filter", "forward", -10,
        f"iifname {link} ct state new drop", f"oifname {link} ct state new ct status & dnat == 0 drop",
    )  # fmt: skip


def _draw(protocol: str, family: int, count: int) -> Iterator[str]:
    to = "ip" if family == 4 else "ip6"
    # What is drawn while a backend goes may be gone when it is looked up; the first one is there in any case.
    draws = (f"{protocol} dport . numgen random mod {below}" for below in sorted({count, 1}, reverse=True))
    yield from _chain(f"{protocol}{family}_{count}", *(f"dnat {to} to {d} map @{protocol}{family}" for d in draws))


def _base(name: str, kind: str, hook: str, priority: int, *statements: str) -> Iterator[str]:
    yield from _chain(name, f"type {kind} hook {hook} priority {priority}; policy accept;", *statements)


def _chain(name: str, *statements: str) -> tuple[str, ...]:
    return (f"chain {name} {{", *statements, "}")


def _adds(elements: dict[tuple[str, str], str]) -> Iterator[str]:
    for where, entries in _by_map(elements, values=True):
        yield f"add element {TABLE} {where} {{ {', '.join(entries)} }}"


def _by_map(elements: dict[tuple[str, str], str], *, values: bool) -> list[tuple[str, list[str]]]:
    grouped: dict[str, list[str]] = {}
    for (where, key), value in sorted(elements.items()):
        grouped.setdefault(where, []).append(f"{key} : {value}" if values else key)
    return list(grouped.items())
