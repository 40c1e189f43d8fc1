"""Which name leads to which endpoints, network by network. Pure.

An endpoint is found by its service (`web`, `shop_web`), by all tasks of it (`tasks.web`), by slot (`web.3`) or, of a
global service, by its node's name (`web.n1`), by its aliases, and by what its container is called (its host name, and
`shop_web.3.<task id>`); a container that was started by hand, by its aliases alone. A host name that somebody chose
gives way to a service of that name. Where the service has a virtual address, its own names and aliases lead to that.
Names lead to ready endpoints, but `all.tasks.web` also to those that are not ready yet, so that programs which form a
cluster find each other before any of them is.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeVar

from agent.dns import AAAA, ANY, PTR, A, address_of
from cluster.assignments import PeerItem, VipItem

T = TypeVar("T")

EARLY = "all.tasks."
"""Begins a name that also leads to endpoints which are not ready yet."""


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
    virtual: bool = False
    """All addresses are virtual ones, which stay for as long as their service."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What a name leads to in one network.

    `ready` tells whether somebody answers there, `own` whether it is the asking stack's.
    """

    addresses: tuple[str, ...]
    ready: bool
    virtual: bool
    own: bool


class NetworkNames:
    """The names in one network. `apply` costs what changed, however many endpoints there are."""

    def __init__(self, subnets: Sequence[str]) -> None:
        self.subnets = tuple(ipaddress.ip_network(subnet) for subnet in subnets)
        self._peers: dict[str, PeerItem] = {}
        self._names: dict[str, dict[str, PeerItem]] = {}
        self._hosts: dict[str, dict[str, PeerItem]] = {}
        self._owners: dict[str, str] = {}
        self._vips: dict[str, VipItem] = {}
        self._virtual: dict[str, dict[str, VipItem]] = {}
        self._ready: dict[str, set[str]] = {}

    def apply(self, peers: Mapping[str, PeerItem], vips: Mapping[str, VipItem] | None = None) -> None:
        """Bring the index to these endpoints, by owner, and these virtual addresses, by service."""
        self._apply_vips(vips or {})
        for owner in [o for o, held in self._peers.items() if peers.get(o) is not held and peers.get(o) != held]:
            self._forget(self._peers.pop(owner))
        for owner, peer in peers.items():
            if owner not in self._peers and (peer.service or peer.aliases):
                self._learn(peer)
                self._peers[owner] = peer

    def _apply_vips(self, vips: Mapping[str, VipItem]) -> None:
        for uid in [uid for uid, held in self._vips.items() if vips.get(uid) != held]:
            item = self._vips.pop(uid)
            for address in item.addresses:
                self._owners.pop(_canonical(address), None)
            for name in _service_names(item.stack, item.service, item.aliases):
                _drop(self._virtual, name, uid)
        for uid, item in vips.items():
            if uid not in self._vips:
                self._vips[uid] = item
                for address in item.addresses:
                    self._owners[_canonical(address)] = uid
                for name in _service_names(item.stack, item.service, item.aliases):
                    self._virtual.setdefault(name, {})[uid] = item

    def find(self, name: str, stack: str) -> _Found | None:
        """What a name leads to, in the given stack if that has the name at all; None: no such name.

        That is virtual addresses, and the ready endpoints of services that have none.
        """
        virtual = self._virtual.get(name, {})
        peers = (peer for peer in self._names.get(name, {}).values() if peer.service_uid not in virtual)
        return self._found(name, stack, [*virtual.values()], [*peers])

    def find_host(self, name: str, stack: str) -> _Found | None:
        """What a name leads to that containers were told to call themselves, as `find` does."""
        return self._found(name, stack, [], [*self._hosts.get(name, {}).values()])

    def _found(self, name: str, stack: str, vips: list[VipItem], peers: list[PeerItem]) -> _Found | None:
        if not vips and not peers:
            return None
        own_vips = [vip for vip in vips if vip.stack == stack]
        own_peers = [peer for peer in peers if peer.stack == stack]
        own = bool(own_vips or own_peers)
        if own:
            vips, peers = own_vips, own_peers
        early = name.startswith(EARLY)
        ready = [peer for peer in peers if peer.ready or (early and not peer.leaving)]
        addresses = [a for vip in vips for a in vip.addresses] + [a for peer in ready for a in peer.addresses]
        answers = bool(ready) or any(vip.service_uid in self._ready for vip in vips)
        return _Found(tuple(addresses), answers, not peers, own)

    def name_of(self, address: str) -> str:
        """The name that an address is told by: that of its task's slot, or of the service whose virtual one it is."""
        owner = self._owners.get(address, "")
        if (vip := self._vips.get(owner)) is not None:
            return f"{vip.stack}_{vip.service}"
        peer = self._peers.get(owner)
        if peer is None or not peer.service:
            return "" if peer is None else peer.aliases[0]
        return f"{peer.stack}_{peer.service}.{peer.place or peer.slot}"

    def names(self) -> set[str]:
        """All names that lead anywhere here, but for what containers call themselves."""
        return {*self._names, *self._virtual}

    def _learn(self, peer: PeerItem) -> None:
        for name in _names_of(peer):
            self._names.setdefault(name, {})[peer.owner] = peer
        if peer.hostname:
            self._hosts.setdefault(peer.hostname.lower(), {})[peer.owner] = peer
        if peer.ready:
            self._ready.setdefault(peer.service_uid, set()).add(peer.owner)
        for address in peer.addresses:
            self._owners[_canonical(address)] = peer.owner

    def _forget(self, peer: PeerItem) -> None:
        for name in _names_of(peer):
            _drop(self._names, name, peer.owner)
        _drop(self._hosts, peer.hostname.lower(), peer.owner)
        if peer.ready:
            held = self._ready.get(peer.service_uid, set())
            held.discard(peer.owner)
            if not held:
                self._ready.pop(peer.service_uid, None)
        for address in peer.addresses:
            if self._owners.get(_canonical(address)) == peer.owner:
                del self._owners[_canonical(address)]


def resolve(name: str, kind: int, networks: Sequence[NetworkNames], stack: str) -> Resolution:
    """Answer a question of a sandbox; of its networks, in order of attachment, the first with a ready endpoint wins.

    What the own stack calls so comes before another stack's, ready or not: a program never gets a stranger's database
    because its own is down.
    """
    if kind == PTR:
        return _reverse(name, networks)
    services = [held for network in networks if (held := network.find(name, stack)) is not None]
    hosts = [held for network in networks if (held := network.find_host(name, stack)) is not None]
    found = _own(services) or _own(hosts) or services or hosts
    if found:
        best = next((held for held in found if held.ready), found[0])
        addresses = tuple(address for address in best.addresses if _of_kind(address, kind))
        return Resolution(Verdict.ANSWER, addresses, virtual=best.virtual)
    head, _, tail = name.rpartition(".")
    ours = (
        not head
        or head in ("tasks", "all.tasks")
        or (tail.isdigit() and any(n.find(head, stack) is not None for n in networks))
    )
    return Resolution(Verdict.UNKNOWN if ours else Verdict.ELSEWHERE)


def _own(found: Sequence[_Found]) -> Sequence[_Found]:
    return [held for held in found if held.own]


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
    if not peer.service:  # a container that was started by hand
        return (name.lower() for name in peer.aliases)
    full = f"{peer.stack}_{peer.service}"
    names = _service_names(peer.stack, peer.service, peer.aliases)
    for name in (peer.service, full):
        names |= {f"tasks.{name}", f"{EARLY}{name}", f"{name}.{peer.slot}"}
        names |= {f"{name}.{peer.place}"} if peer.place else set()
    names |= {peer.owner, peer.owner[:12], f"{full}.{peer.slot}.{peer.owner}"}
    return (name.lower() for name in names)


def _service_names(stack: str, service: str, aliases: Iterable[str]) -> set[str]:
    """The names that all of a service's tasks share."""
    return {name.lower() for name in (service, f"{stack}_{service}", *aliases)}


def _drop(index: dict[str, dict[str, T]], name: str, key: str) -> None:
    held = index.get(name, {})
    held.pop(key, None)
    if not held:
        index.pop(name, None)


def _canonical(address: str) -> str:
    return str(ipaddress.ip_address(address)) if ":" in address else address
