"""Ends tracked UDP flows that go where a published port no longer leads. Pure but for `settle`.

The kernel translates a flow by what held when its first packet came. A UDP client that keeps its port keeps its flow
alive by asking, so it would never reach another backend, nor a port that was published after it began to ask.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from agent.network.kernel import Netlink
from agent.network.netlink import DUMP, Request, attribute, attributes, packed

NETLINK_NETFILTER = 12
_GET, _DELETE = 0x101, 0x102  # of the conntrack subsystem
_TUPLE_ORIGIN, _TUPLE_REPLY = 1, 2
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_PROTO_NUMBER, _PROTO_SOURCE, _PROTO_TARGET = 1, 2, 3
_UDP = 17
_GENERIC = struct.Struct("!BBH")

Backend = tuple[bytes, int]


@dataclass(frozen=True, slots=True)
class Flow:
    """A tracked UDP flow: where its first packet went and where answers come from. `key` names it to the kernel."""

    family: int
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
        and flow.target[0] in own
        and flow.target[1] in backends
        and flow.answerer not in backends[flow.target[1]]
    ]
    socket.send(*map(_end, stale))
    return len(stale)


def read_flow(body: bytes) -> Flow | None:
    """Read an entry of the list; None for what is not UDP."""
    found = attributes(body, _GENERIC.size)
    origin, reply = (attributes(found.get(kind, b"")) for kind in (_TUPLE_ORIGIN, _TUPLE_REPLY))
    proto = attributes(origin.get(_TUPLE_PROTO, b""))
    if proto.get(_PROTO_NUMBER) != bytes((_UDP,)) or _PROTO_TARGET not in proto:
        return None
    back = attributes(reply.get(_TUPLE_PROTO, b""))
    return Flow(
        body[0], found[_TUPLE_ORIGIN],
        (_address(origin, source=False), int.from_bytes(proto[_PROTO_TARGET], "big")),
        (_address(reply, source=True), int.from_bytes(back.get(_PROTO_SOURCE, b""), "big")),
    )  # fmt: skip


def _address(found: dict[int, bytes], *, source: bool) -> bytes:
    held = attributes(found.get(_TUPLE_IP, b""))
    v4, v6 = (1, 3) if source else (2, 4)
    return held.get(v4) or held.get(v6, b"")


def _end(flow: Flow) -> Request:
    body = _GENERIC.pack(flow.family, 0, 0) + attribute(_TUPLE_ORIGIN | 0x8000, flow.key)
    return Request(_DELETE, 0, body, "a tracked UDP flow", (errno.ENOENT,))
