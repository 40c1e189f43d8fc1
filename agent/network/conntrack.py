"""Ends tracked flows that go where a published port or virtual address no longer leads. Pure but for what is given a
socket.

The kernel translates a flow by what held when its first packet came. A UDP client that keeps its port keeps its flow
alive by asking, so it would never reach another backend, nor a port that was published after it began to ask.

A busy client has tens of thousands of flows, as each connection is remembered for two minutes after its end. To read
them all here takes longer than other nodes have patience for, so that the kernel is asked for the few that count.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from agent.network.netlink import AF_INET, AF_INET6, DUMP, NESTED, Request, attribute, attributes, packed
from agent.network.netlink_socket import Netlink

_GET, _DELETE, _GET_STATS = 0x101, 0x102, 0x105  # of the conntrack subsystem
_TUPLE_ORIGIN, _TUPLE_REPLY, _FILTER = 1, 2, 25
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_BY_SOURCE, _BY_TARGET, _BY_PROTOCOL = 1 << 0, 1 << 1, 1 << 3
_PROTO_NUMBER, _PROTO_SOURCE, _PROTO_TARGET = 1, 2, 3
_TCP, _UDP = 6, 17
_GENERIC = struct.Struct("!BBH")
_FLAGS = struct.Struct("=I")

Backend = tuple[bytes, int]


@dataclass(frozen=True, slots=True)
class Flow:
    """A tracked flow: where its first packet went and where answers come from. `key` names it to the kernel."""

    family: int
    protocol: int
    key: bytes
    target: Backend
    answerer: Backend


@dataclass(slots=True)
class Lost:
    """What flows may have to be ended for: virtual addresses that lead to fewer endpoints, and endpoints that went."""

    vips: set[str] = field(default_factory=set)
    endpoints: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.vips or self.endpoints)

    def add(self, more: Lost) -> None:
        self.vips |= more.vips
        self.endpoints |= more.endpoints


def settle(socket: Netlink, node: Collection[str], ports: Mapping[int, Collection[tuple[str, int]]]) -> int:
    """End flows to published UDP ports of the node's own addresses that lead to none of the port's backends."""
    own = {packed(address) for address in node}
    backends = {port: {(packed(address), target) for address, target in held} for port, held in ports.items()}
    stale = [
        flow
        for flow in _listed(socket, _UDP, {len(address) for address in own})
        if flow.target[0] in own and flow.target[1] in backends and flow.answerer not in backends[flow.target[1]]
    ]
    socket.send(*map(_end, stale))
    return len(stale)


def flows_tracked(socket: Netlink) -> int:
    """Tell how many flows the socket's namespace has: far cheaper to ask than the list."""
    stats = socket.ask(Request(_GET_STATS, 0, _GENERIC.pack(0, 0, 0), "the number of flows"))
    return int.from_bytes(attributes(stats, _GENERIC.size).get(1, b""), "big")


def end_stale(socket: Netlink, leads: Mapping[str, Collection[str]], lost: Lost) -> int:
    """End flows to virtual addresses: of UDP, those to an endpoint that the address does not lead to any more.

    Of TCP, those to an endpoint that is gone: an open connection is given its time to end.
    """
    ends = {packed(address): set(map(packed, endpoints)) for address, endpoints in leads.items()}
    turned = set(map(packed, lost.vips)) & ends.keys()
    gone = set(map(packed, lost.endpoints))
    stale = [
        flow for flow in _listed(socket, _UDP, {len(vip) for vip in turned}, target=_only(turned))
        if flow.target[0] in turned and flow.answerer[0] not in ends[flow.target[0]]
    ]  # fmt: skip
    stale += [
        flow for flow in _listed(socket, _TCP, {len(endpoint) for endpoint in gone}, answerer=_only(gone))
        if flow.target[0] in ends and flow.answerer[0] in gone
    ]  # fmt: skip
    socket.send(*map(_end, stale))
    return len(stale)


def _only(addresses: Collection[bytes]) -> bytes:
    return next(iter(addresses)) if len(addresses) == 1 else b""


def _listed(
    socket: Netlink, protocol: int, lengths: Iterable[int], *, target: bytes = b"", answerer: bytes = b""
) -> Iterator[Flow]:
    """List the flows of a protocol between addresses of so many bytes, to one target or one answerer if given.

    A kernel before 5.8 lists all: who calls must look at each all the same.
    """
    for length in sorted(lengths):
        origin = attribute(_TUPLE_PROTO | NESTED, attribute(_PROTO_NUMBER, bytes((protocol,))))
        if target:
            origin += attribute(_TUPLE_IP | NESTED, attribute(2 if length == 4 else 4, target))
        body = _GENERIC.pack(AF_INET if length == 4 else AF_INET6, 0, 0) + attribute(_TUPLE_ORIGIN | NESTED, origin)
        by = attribute(_TUPLE_ORIGIN, _FLAGS.pack(_BY_PROTOCOL | (_BY_TARGET if target else 0)))
        if answerer:
            reply = attribute(_TUPLE_IP | NESTED, attribute(1 if length == 4 else 3, answerer))
            body += attribute(_TUPLE_REPLY | NESTED, reply)
            by += attribute(_TUPLE_REPLY, _FLAGS.pack(_BY_SOURCE))
        body += attribute(_FILTER | NESTED, by)
        for found in socket.dump(Request(_GET, DUMP, body, "the list of flows")):
            flow = read_flow(found)
            if flow is not None and flow.protocol == protocol:
                yield flow


def read_flow(body: bytes) -> Flow | None:
    """Read an entry of the list; None for what is neither TCP nor UDP."""
    found = attributes(body, _GENERIC.size)
    origin, reply = (attributes(found.get(kind, b"")) for kind in (_TUPLE_ORIGIN, _TUPLE_REPLY))
    proto = attributes(origin.get(_TUPLE_PROTO, b""))
    number = int.from_bytes(proto.get(_PROTO_NUMBER, b""), "big")
    if number not in (_TCP, _UDP) or _PROTO_TARGET not in proto:
        return None
    back = attributes(reply.get(_TUPLE_PROTO, b""))
    return Flow(
        body[0], number, found[_TUPLE_ORIGIN],
        (_address(origin, source=False), int.from_bytes(proto[_PROTO_TARGET], "big")),
        (_address(reply, source=True), int.from_bytes(back.get(_PROTO_SOURCE, b""), "big")),
    )  # fmt: skip


def _address(found: dict[int, bytes], *, source: bool) -> bytes:
    held = attributes(found.get(_TUPLE_IP, b""))
    v4, v6 = (1, 3) if source else (2, 4)
    return held.get(v4) or held.get(v6, b"")


def _end(flow: Flow) -> Request:
    body = _GENERIC.pack(flow.family, 0, 0) + attribute(_TUPLE_ORIGIN | NESTED, flow.key)
    return Request(_DELETE, 0, body, "a tracked flow", (errno.ENOENT,))
