"""Virtual addresses: which endpoints each leads to, and the table of a sandbox that translates them. Pure.

The table is the same in all sandboxes of the same networks. An address leads to the chain for its number of endpoints,
which draws one below it, and (address, number) to the endpoint: a change of one endpoint is a change of few elements,
however many services there are. Translating where a connection begins keeps its source address, and leads a container
back to itself as well.
"""

from __future__ import annotations

import hashlib
import ipaddress
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from agent.network import nftmessages as nft
from agent.network.netlink import Request, packed
from agent.network.nftmessages import INET, IPV4, IPV6
from cluster.assignments import PeerItem, VipItem

TABLE = "stackyard"
STICKY_PLACES = 64
"""Places that clients of a sticky address are spread over; an endpoint that comes or goes moves only its share."""

HANDOVER = "stackyard-handover"
"""The table that stands behind the other one while there is no agent, and leads whom that one does not."""
HANDOVER_SECONDS = 60
"""After which it does nothing more: what it says gets old. Within them the next agent has taken over."""

_TCP = 6
_FAMILIES = (IPV4, IPV6)
_OUTPUT_PRIORITY = -100


@dataclass(frozen=True, slots=True)
class Vip:
    """A virtual address with the ready endpoints that it leads to, in the order of their owners."""

    address: str
    endpoints: tuple[str, ...] = ()
    sticky: bool = False


@dataclass(frozen=True, slots=True)
class Services:
    """The virtual addresses of one network, and the addresses of all endpoints in it, ready or not."""

    vips: tuple[Vip, ...] = ()
    present: frozenset[str] = frozenset()


Shape = tuple[int, int, bool]
"""What a chain is made for: the family, the number of places, and whether clients stay where they are."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The variable parts of a sandbox's table: virtual addresses, and chains, perhaps more than those need."""

    vips: Mapping[str, Vip] = field(default_factory=dict)
    chains: frozenset[Shape] = frozenset()


def services(items: Iterable[VipItem], peers: Iterable[PeerItem]) -> Services:
    """Say where the virtual addresses of one network lead."""
    peers = list(peers)
    ready: dict[str, list[str]] = {}
    for peer in sorted(peers, key=lambda peer: peer.owner):
        if peer.ready and peer.service_uid:
            ready.setdefault(peer.service_uid, []).extend(peer.addresses)
    found = tuple(
        Vip(
            address,
            tuple(a for a in ready.get(item.service_uid, ()) if (":" in a) == (":" in address)),
            item.sticky,
        )
        for item in sorted(items, key=lambda item: item.service_uid)
        for address in item.addresses
    )
    return Services(found, frozenset(address for peer in peers for address in peer.addresses))


def table(wanted: Iterable[Vip]) -> Table:
    """Lay out the table that translates these addresses."""
    vips = {vip.address: vip for vip in wanted}
    return Table(vips, frozenset(_shape(vip) for vip in vips.values() if vip.endpoints))


def elements(vips: Iterable[Vip]) -> dict[tuple[str, bytes], bytes | str]:
    """Give the elements that addresses have in the maps: (map, key) -> value, a chain's name in `services...`."""
    found: dict[tuple[str, bytes], bytes | str] = {}
    for vip in vips:
        key = _packed(vip.address)
        family = IPV4 if len(key) == 4 else IPV6
        found[_services(family), key] = _chain_name(*_shape(vip)) if vip.endpoints else "refused"
        for number, endpoint in enumerate(_places(vip)):
            found[_endpoints(family), key + number.to_bytes(4, sys.byteorder)] = _packed(endpoint)
    return found


def whole(wanted: Table, besides: Iterable[Request] = (), *, anew: bool = False) -> tuple[Request, ...]:
    """The table, with what else belongs there: one transaction that takes the place of what is there.

    Chains and maps that are there already stay, with other rules and elements. Made `anew`, they would for a moment be
    there twice: a connection that meets the new chain before the exchange and the old one after it is led by neither.
    That is for what cannot stay, as it was made otherwise.
    """
    before = nft.no_table(INET, TABLE) if anew else ()
    return nft.batch(*before, *_frame(wanted.chains), *besides, *_filling(wanted), *nft.no_table(INET, HANDOVER))


def handover(held: Table) -> tuple[Request, ...]:
    """A table that leads for a while where the sandbox's own does, for when that leads nowhere.

    Agents of protocol version 3 that take a sandbox over load an empty table, and only then one with the virtual
    addresses. What a container sends to one meanwhile would find nobody, and the kernel would remember that of the port
    that it was sent from: for two minutes every connection from there would fail as well.
    """
    if not held.vips:
        return ()
    frame = _frame(held.chains, HANDOVER, _OUTPUT_PRIORITY + 1, HANDOVER_SECONDS)
    return nft.batch(*nft.no_table(INET, HANDOVER), *frame, *_adds(elements(held.vips.values()), HANDOVER))


@lru_cache(16)
def _frame(
    chains: frozenset[Shape], table: str = TABLE, priority: int = _OUTPUT_PRIORITY, seconds: int = 0
) -> tuple[Request, ...]:
    """The table without any address; kept, as many sandboxes are made with the same."""
    requests = list(nft.emptied_table(INET, table))
    address = {IPV4: (nft.TYPE_IPV4, 4), IPV6: (nft.TYPE_IPV6, 16)}
    for number, family in enumerate(_FAMILIES):
        kind, length = address[family]
        key = (kind << 6 | nft.TYPE_MARK, length + 4)
        verdict = (nft.TYPE_VERDICT, 0)
        maps = (_endpoints(family), key, address[family]), (_services(family), address[family], verdict)
        for place, (name, of, to) in enumerate(maps, 1):
            requests.append(nft.make_map(INET, table, name, 2 * number + place, of, to, seconds=seconds))
        requests += (nft.emptied_map(INET, table, name) for name in (_services(family), _endpoints(family)))
    requests += nft.chain(
        INET, table, "refused", (*nft.is_protocol(_TCP), nft.refuse_tcp()), (nft.refuse(),)
    )  # fmt: skip
    requests += _new_chains(chains, table)
    requests += nft.base_chain(
        INET, table, "output", "nat", nft.OUTPUT, priority,
        *(
            (*nft.is_family(family), nft.destination(family), nft.look_up(_services(family), to=nft.REG_VERDICT))
            for family in _FAMILIES
        ),
    )  # fmt: skip
    return tuple(requests)


def changes(held: Table, wanted: Table) -> tuple[Request, ...]:
    """What leads from one to the other, with the table in place; nothing if nothing.

    Chains that are no longer used stay, and do nothing: the table then holds the chains of both.
    """
    changed = {a for a in held.vips.keys() | wanted.vips.keys() if held.vips.get(a) != wanted.vips.get(a)}
    before = elements(held.vips[address] for address in changed & held.vips.keys())
    after = elements(wanted.vips[address] for address in changed & wanted.vips.keys())
    gone: dict[str, list[bytes]] = {}
    for place, value in before.items():
        if after.get(place) != value:
            gone.setdefault(place[0], []).append(place[1])
    new = {place: value for place, value in after.items() if before.get(place) != value}
    requests = _new_chains(wanted.chains - held.chains)
    for name, keys in gone.items():
        requests += nft.delete_elements(INET, TABLE, name, keys)
    requests += _adds(new)
    return nft.batch(*requests) if requests else ()


def listed(read: Callable[[Request], Iterable[bytes]]) -> dict[tuple[str, bytes], bytes | str]:
    """Give the elements that are in the kernel, where `read` asks it for a listing."""
    maps = [name for family in _FAMILIES for name in (_services(family), _endpoints(family))]
    return {
        (name, key): value
        for name in maps
        for body in read(nft.list_elements(INET, TABLE, name))
        for key, value in nft.read_elements(body)
    }


def addresses(places: Iterable[tuple[str, bytes]]) -> set[str]:
    """Give the virtual addresses that elements at these places are about."""
    return {
        str(ipaddress.ip_address(key[: 4 if name in (_services(IPV4), _endpoints(IPV4)) else 16]))
        for name, key in places
    }


def _new_chains(shapes: Iterable[Shape], table: str = TABLE) -> list[Request]:
    requests: list[Request] = []
    for family, count, sticky in sorted(shapes):
        number = nft.REG32_01 if family == IPV4 else nft.REG_2
        choice: tuple[nft.Expression, ...] = (nft.draw(count, number),)
        if sticky:
            # The client's address goes where the key does not reach: into the last 16 bytes.
            choice = nft.source(family, 4), nft.digest(4, 4 if family == IPV4 else 16, count, number)
        # What is drawn while an endpoint goes may be gone when it is looked up; the first place is there in any case.
        choices = [choice] if sticky or count == 1 else [choice, (nft.immediate(bytes(4), number),)]
        lead = nft.look_up(_endpoints(family)), nft.translate(family)
        rules = ((nft.destination(family), *each, *lead) for each in choices)
        requests += nft.chain(INET, table, _chain_name(family, count, sticky), *rules)
    return requests


@lru_cache(4)
def _filling(wanted: Table) -> tuple[Request, ...]:
    """What fills the maps of a table that has just been made; kept, as many sandboxes are made with the same."""
    return tuple(_adds(elements(wanted.vips.values())))


def _adds(found: dict[tuple[str, bytes], bytes | str], table: str = TABLE) -> list[Request]:
    by_map: dict[str, list[tuple[bytes, bytes | str]]] = {}
    for (name, key), value in found.items():
        by_map.setdefault(name, []).append((key, value))
    return [request for name in by_map for request in nft.add_elements(INET, table, name, by_map[name])]


def _shape(vip: Vip) -> Shape:
    count = STICKY_PLACES if vip.sticky else len(vip.endpoints)
    return IPV6 if ":" in vip.address else IPV4, count, vip.sticky


def _places(vip: Vip) -> Sequence[str]:
    """Give what is drawn among: of a sticky address, each place goes to the endpoint that its digest favours, so that
    it moves only when that endpoint goes.
    """
    if not vip.sticky or not vip.endpoints:
        return vip.endpoints
    return [max(vip.endpoints, key=lambda endpoint: _favour(place, endpoint)) for place in range(STICKY_PLACES)]


@lru_cache(65536)
def _favour(place: int, endpoint: str) -> bytes:
    return hashlib.blake2b(f"{place} {endpoint}".encode(), digest_size=8).digest()


@lru_cache(65536)
def _packed(address: str) -> bytes:
    return packed(address)


def _services(family: int) -> str:
    return "services4" if family == IPV4 else "services6"


def _endpoints(family: int) -> str:
    return "endpoints4" if family == IPV4 else "endpoints6"


def _chain_name(family: int, count: int, sticky: bool) -> str:
    return f"{'sticky' if sticky else 'one-of'}-{count}-{4 if family == IPV4 else 6}"
