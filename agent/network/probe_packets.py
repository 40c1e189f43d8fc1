"""The packets by which nodes probe the way between them, as bytes. Pure.

A probe looks to the network like the packets of overlays: a VXLAN packet to their UDP port, with a number that no
network has. So the kernel of the node that it comes to hands it to a link of its own, and no other traffic costs more.
The answer goes to the port that the probe came from, and looks like the answer that a firewall lets back in.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from agent.network.plan import VXLAN_PORT

PROBE_VNI = 2789
"""Below the numbers that networks get."""
ETHERTYPE = 0x88B5
"""IEEE's number for experiments of one's own."""
SMALLEST = 160
"""Bytes, as an IP packet: more than an answer has, so that nobody's false address is sent more than was sent for it."""

_MAGIC_ASK, _MAGIC_ANSWER = b"SYdQ", b"SYdA"
_VXLAN = struct.Struct("!II")
_ASK = struct.Struct("!4s8sHHB16s")
_ANSWER = struct.Struct("!4s8sHddB")
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_UDP = struct.Struct("!HHHH")
_FLAG_VNI, _NO_FRAGMENTS, _TTL, _PROTOCOL_UDP = 0x08000000, 0x4000, 64, 17
_BROADCAST, _SENDER = b"\xff" * 6, bytes.fromhex("025379000001")


@dataclass(frozen=True, slots=True)
class Ask:
    """A probe: `size` is that of the whole IP packet, the answer goes to `address` and `port`."""

    ident: bytes
    size: int
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Who got a probe, and when by its own clock, in seconds: `came_at` and `left_at`."""

    ident: bytes
    size: int
    node: str
    came_at: float
    left_at: float


def overhead(address: str) -> int:
    """The bytes of IP and UDP headers before the payload of a packet to an address."""
    return 48 if ":" in address else 28


def write_ask(ask: Ask, target: str) -> bytes:
    """Write a probe as the payload of a UDP packet that gets the probe's size on the way to its target."""
    source = ipaddress.ip_address(ask.address).packed
    asked = _ASK.pack(_MAGIC_ASK, ask.ident, ask.size, ask.port, len(source), source)
    frame = _BROADCAST + _SENDER + ETHERTYPE.to_bytes(2, "big") + asked
    packet = _VXLAN.pack(_FLAG_VNI, PROBE_VNI << 8) + frame
    return packet.ljust(ask.size - overhead(target), b"\0")


def read_ask(frame: bytes) -> Ask | None:
    """Read the frame that was in a probe; None if it is none."""
    if len(frame) < 14 + _ASK.size:
        return None
    magic, ident, size, port, length, source = _ASK.unpack_from(frame, 14)
    if magic != _MAGIC_ASK or length not in (4, 16) or not port or size < SMALLEST:
        return None
    return Ask(ident, size, str(ipaddress.ip_address(source[:length])), port)


def write_answer(answer: Answer) -> bytes:
    node = answer.node.encode()[:64]
    times = answer.came_at, answer.left_at
    return _ANSWER.pack(_MAGIC_ANSWER, answer.ident, answer.size, *times, len(node)) + node


def read_answer(data: bytes) -> Answer | None:
    """Read the payload of an answer; None if it is none."""
    if len(data) < _ANSWER.size:
        return None
    magic, ident, size, came_at, left_at, length = _ANSWER.unpack_from(data)
    if magic != _MAGIC_ANSWER:
        return None
    node = data[_ANSWER.size : _ANSWER.size + length].decode(errors="replace")
    return Answer(ident, size, node, came_at, left_at)


def packet(source: str, target: str, port: int, payload: bytes) -> bytes:
    """Write an IP packet from the port of overlays, which the kernel holds and lends to nobody."""
    here, there = ipaddress.ip_address(source), ipaddress.ip_address(target)
    length = _UDP.size + len(payload)
    if here.version == 4:
        head = _IPV4.pack(
            0x45, 0, 20 + length, 0, _NO_FRAGMENTS, _TTL, _PROTOCOL_UDP, 0, here.packed, there.packed
        )  # the kernel fills in the checksum; that of UDP may be left out  # fmt: skip
        return head + _UDP.pack(VXLAN_PORT, port, length, 0) + payload
    udp = _UDP.pack(VXLAN_PORT, port, length, 0) + payload
    pseudo = here.packed + there.packed + length.to_bytes(4, "big") + _PROTOCOL_UDP.to_bytes(4, "big")
    udp = _UDP.pack(VXLAN_PORT, port, length, _checksum(pseudo + udp)) + payload
    return _IPV6.pack(6 << 28, length, _PROTOCOL_UDP, _TTL, here.packed, there.packed) + udp


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF or 0xFFFF


def sizes_between(passed: int, failed: int, count: int = 24) -> list[int]:
    """Choose sizes between one that passed and one that did not, spread evenly and without either."""
    step = max(1, (failed - passed) // (count + 1))
    return list(range(passed + step, failed, step))
