"""Ends tracked flows that go where a published port or virtual address no longer leads. Pure but for what is given a
socket.

The kernel translates a flow by what held when its first packet came. A UDP client that keeps its port keeps its flow
alive by asking, so it would never reach another backend, nor a port that was published after it began to ask.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from agent.network.netlink import DUMP, Request, attribute, attributes, packed
from agent.network.netlink_socket import Netlink

_GET, _DELETE, _GET_STATS = 0x101, 0x102, 0x105  # of the conntrack subsystem
_TUPLE_ORIGIN, _TUPLE_REPLY = 1, 2
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_PROTO_NUMBER, _PROTO_SOURCE, _PROTO_TARGET = 1, 2, 3
_TCP, _UDP = 6, 17
_GENERIC = struct.Struct("!BBH")

Backend = tuple[bytes, int]


@dataclass(frozen=True, slots=True)
class Flow:
    """A tracked flow: where its first packet went and where answers come from. `key` names it to the kernel."""

    family: int
    protocol: int
    key: bytes
    target: Backend
    answerer: Backend


def settle(socket: Netlink, node: Collection[str], ports: Mapping[int, Collection[tuple[str, int]]]) -> int:
    """End flows to published UDP ports of the node's own addresses that lead to none of the port's backends."""
    own = {packed(address) for address in node}
    backends = {port: {(packed(address), target) for address, target in held} for port, held in ports.items()}
    listed = (read_flow(body) for body in socket.dump(Request(_GET, DUMP, _GENERIC.pack(0, 0, 0), "the list of flows")))
    stale = [
        flow
        for flow in listed
        if flow is not None
        and flow.protocol == _UDP
        and flow.target[0] in own
        and flow.target[1] in backends
        and flow.answerer not in backends[flow.target[1]]
    ]
    socket.send(*map(_end, stale))
    return len(stale)


def flows_tracked(socket: Netlink) -> int:
    """Tell how many flows the socket's namespace has: far cheaper to ask than the list."""
    stats = socket.ask(Request(_GET_STATS, 0, _GENERIC.pack(0, 0, 0), "the number of flows"))
    return int.from_bytes(attributes(stats, _GENERIC.size).get(1, b""), "big")


def end_stale(socket: Netlink, leads: Mapping[str, Collection[str]], present: Collection[str]) -> int:
    """End flows to virtual addresses: of UDP, those to an endpoint that the address does not lead to any more.

    Of TCP, those to an endpoint that is not even present: an open connection is given its time to end.
    """
    ends = {packed(address): set(map(packed, endpoints)) for address, endpoints in leads.items()}
    there = set(map(packed, present))
    listed = (read_flow(body) for body in socket.dump(Request(_GET, DUMP, _GENERIC.pack(0, 0, 0), "the list of flows")))
    stale = [
        flow
        for flow in listed
        if flow is not None
        and (held := ends.get(flow.target[0])) is not None
        and flow.answerer[0] not in (held if flow.protocol == _UDP else there)
    ]
    socket.send(*map(_end, stale))
    return len(stale)


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
    body = _GENERIC.pack(flow.family, 0, 0) + attribute(_TUPLE_ORIGIN | 0x8000, flow.key)
    return Request(_DELETE, 0, body, "a tracked flow", (errno.ENOENT,))
