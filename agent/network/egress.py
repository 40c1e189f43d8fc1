"""What may pass between networks, node and outside, as nftables text. Pure.

The node's links into networks lead outside, and nowhere else: not to another network, not to the node's own ports. Nor
does anybody come in by them, not even from the node itself, but through a published port. Docker's rules stand beside
these and decide for its own networks. Packets of overlays are for nodes alone to send: those of a container would leave
as its node's, and put frames into any network of the node that they reach. For the same reason it is on the container's
own node that the doors of managers elsewhere are shut to it, as those of its own node are. Those whose service asks for
it find the API of managers open: they are told apart by their addresses, which the guard of ports holds them to.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

TABLE = "inet stackyard-egress"
LINKS = "sy-*"
"""All links of the node into networks, by name: one rule for all of them."""
ETCD_PORTS = (2379, 2380, 23790, 23791)
"""Where managers' etcd may be: the usual ports, and those of the one that a manager runs by itself."""

Door = tuple[str, int]


def doors(managers: Iterable[str]) -> frozenset[Door]:
    """The addresses and TCP ports of managers and their etcd, from the managers' URLs; others look names up."""
    api = apis(managers)
    return api | {(address, port) for address, _ in api for port in ETCD_PORTS}


def apis(managers: Iterable[str]) -> frozenset[Door]:
    """The addresses and TCP ports of managers alone."""
    found: set[Door] = set()
    for url in managers:
        parts = urlsplit(url)
        try:
            found.add((str(ipaddress.ip_address(parts.hostname or "")), parts.port or 443))
        except ValueError:
            continue
    return frozenset(found)


def whole(
    subnets: Iterable[str],
    vxlan_port: int,
    shut: Collection[Door] = (),
    let_in: Collection[str] = (),
    api: Collection[Door] = (),
) -> str:
    """The table from nothing, for networks of these subnets that lead outside, but not to the `shut` doors.

    Those of `api` are open to the addresses that are `let_in`.
    """
    found = sorted(subnets)
    ours, link = f'iifname "{LINKS}"', f'oifname "{LINKS}"'
    lines = [f"table {TABLE}", f"delete table {TABLE}", f"table {TABLE} {{"]
    for name, colon, kind in (("subnets4", False, "ipv4_addr"), ("subnets6", True, "ipv6_addr")):
        held = [subnet for subnet in found if (":" in subnet) == colon]
        elements = f" elements = {{ {', '.join(held)} }};" if held else ""
        lines.append(f"set {name} {{ type {kind}; flags interval;{elements} }}")
    for name, doors_in in (("shut", shut), ("api", api)):
        for suffix, colon, kind in (("4", False, "ipv4_addr"), ("6", True, "ipv6_addr")):
            keys = [f"{address} . {port}" for address, port in sorted(doors_in) if (":" in address) == colon]
            elements = f" elements = {{ {', '.join(keys)} }};" if keys else ""
            lines.append(f"set {name}{suffix} {{ type {kind} . inet_service;{elements} }}")
    admitted = []
    for family, suffix, colon in (("ip", "4", False), ("ip6", "6", True)):
        if held := [address for address in sorted(let_in) if (":" in address) == colon]:
            who = f"{ours} {family} saddr {{ {', '.join(held)} }}"
            admitted.append(f"{who} {family} daddr . tcp dport @api{suffix} accept")
    lines += [
        # Chains of the kind "nat" see the first packet of a connection alone: all others, those of the node's own
        # programs and of overlays too, pass for nothing.
        *_chain(
            "input", "type nat hook input priority 90",
            *admitted, f"{ours} meta l4proto tcp reject with tcp reset", f"{ours} reject",
        ),
        *_chain("output", "type nat hook output priority -90", f"{link} ct status & dnat == 0 reject"),
        *_chain(
            "forward", "type filter hook forward priority -10",
            *admitted, f"{ours} jump outward", f"{link} ct state new ct status & dnat == 0 reject",
        ),
        "chain outward {",
        "ct original ip daddr 127.0.0.0/8 drop",
        f"udp dport {vxlan_port} reject",
        "ip daddr . tcp dport @shut4 reject with tcp reset",
        "ip6 daddr . tcp dport @shut6 reject with tcp reset",
        "}",
        *_chain(
            "leaving", "type nat hook postrouting priority 90",
            f'ip saddr @subnets4 oifname != "{LINKS}" masquerade',
            f'ip6 saddr @subnets6 oifname != "{LINKS}" masquerade',
        ),
        "}",
    ]  # fmt: skip
    return "\n".join(lines)


def forget() -> str:
    """Remove the table, if there is one."""
    return f"table {TABLE}\ndelete table {TABLE}"


def _chain(name: str, hook: str, *rules: str) -> tuple[str, ...]:
    return (f"chain {name} {{", f"{hook}; policy accept;", *rules, "}")
