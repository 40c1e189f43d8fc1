"""Which name leads to which endpoints, network by network. Pure.

An endpoint is found by its service (`web`, `shop_web`), by all tasks of it (`tasks.web`), by slot (`web.3`), by its
aliases, and by what its container is called (its host name, and `shop_web.3.<task id>`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from agent.dns import AAAA, ANY, PTR, A, address_of
from cluster.protocol import PeerItem


class Verdict(Enum):
    """ANSWER with what was found (perhaps nothing of that kind), UNKNOWN: no such name, ELSEWHERE: not ours."""

    ANSWER = auto()
    UNKNOWN = auto()
    ELSEWHERE = auto()


@dataclass(frozen=True, slots=True)
class Resolution:
    verdict: Verdict
    addresses: tuple[str, ...] = ()
    pointer: str = ""


class NetworkNames:
    """The names in one network. `apply` costs what changed, however many endpoints there are."""

    def __init__(self, subnets: Sequence[str]) -> None:
        self.subnets = tuple(ipaddress.ip_network(subnet) for subnet in subnets)
        self._peers: dict[str, PeerItem] = {}
        self._names: dict[str, dict[str, PeerItem]] = {}
        self._owners: dict[str, str] = {}

    def apply(self, peers: Mapping[str, PeerItem]) -> None:
        """Bring the index to these endpoints, by owner."""
        for owner in [o for o, held in self._peers.items() if peers.get(o) != held]:
            self._forget(self._peers.pop(owner))
        for owner, peer in peers.items():
            if owner not in self._peers and peer.service:
                self._learn(peer)
                self._peers[owner] = peer

    def find(self, name: str, stack: str) -> tuple[PeerItem, ...] | None:
        """The ready endpoints of a name, those of the given stack if it has the name at all; None: no such name."""
        named = self._names.get(name)
        if named is None:
            return None
        peers = tuple(named.values())
        own = tuple(peer for peer in peers if peer.stack == stack)
        return tuple(peer for peer in own or peers if peer.ready)

    def name_of(self, address: str) -> str:
        """The name that an address is told by: that of its task's slot."""
        owner = self._owners.get(address)
        peer = self._peers.get(owner) if owner is not None else None
        return f"{peer.stack}_{peer.service}.{peer.slot}" if peer is not None else ""

    def _learn(self, peer: PeerItem) -> None:
        for name in _names_of(peer):
            self._names.setdefault(name, {})[peer.owner] = peer
        for address in peer.addresses:
            self._owners[_canonical(address)] = peer.owner

    def _forget(self, peer: PeerItem) -> None:
        for name in _names_of(peer):
            named = self._names.get(name, {})
            named.pop(peer.owner, None)
            if not named:
                self._names.pop(name, None)
        for address in peer.addresses:
            if self._owners.get(_canonical(address)) == peer.owner:
                del self._owners[_canonical(address)]


def resolve(name: str, kind: int, networks: Sequence[NetworkNames], stack: str) -> Resolution:
    """Answer a question of a sandbox; of its networks, in order of attachment, the first with a ready endpoint wins."""
    if kind == PTR:
        return _reverse(name, networks)
    found = [peers for network in networks if (peers := network.find(name, stack)) is not None]
    if found:
        peers = next(filter(None, found), ())
        return Resolution(Verdict.ANSWER, tuple(a for peer in peers for a in peer.addresses if _of_kind(a, kind)))
    head, _, tail = name.rpartition(".")
    ours = not head or head == "tasks" or (tail.isdigit() and any(n.find(head, stack) is not None for n in networks))
    return Resolution(Verdict.UNKNOWN if ours else Verdict.ELSEWHERE)


def _reverse(name: str, networks: Sequence[NetworkNames]) -> Resolution:
    address = address_of(name)
    if not address:
        return Resolution(Verdict.ELSEWHERE)
    pointer = next(filter(None, (network.name_of(address) for network in networks)), "")
    if pointer:
        return Resolution(Verdict.ANSWER, pointer=pointer)
    parsed = ipaddress.ip_address(address)
    ours = parsed.is_loopback or any(parsed in subnet for network in networks for subnet in network.subnets)
    return Resolution(Verdict.UNKNOWN if ours else Verdict.ELSEWHERE)


def _of_kind(address: str, kind: int) -> bool:
    return kind == ANY or kind == (AAAA if ":" in address else A)


def _names_of(peer: PeerItem) -> Iterator[str]:
    full = f"{peer.stack}_{peer.service}"
    names = {peer.service, full, *peer.aliases}
    for name in (peer.service, full):
        names |= {f"tasks.{name}", f"{name}.{peer.slot}"}
    names |= {peer.owner, peer.owner[:12], f"{full}.{peer.slot}.{peer.owner}"}
    return (name.lower() for name in names)


def _canonical(address: str) -> str:
    return str(ipaddress.ip_address(address)) if ":" in address else address
