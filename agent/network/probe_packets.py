"""The packets by which nodes probe the way between them, as bytes. Pure.

A probe looks to the network like the packets of overlays: a VXLAN packet to their UDP port, with a number that no
network has. So the kernel of the node that it comes to hands it to a link of its own, and no other traffic costs more.
The answer goes to the port that the probe came from, and looks like the answer that a firewall lets back in.

A probe of checksums is a UDP packet of the overlay, as a container would send it: who sends it on is left to compute
its checksums, which is the network card where that says it can.
"""

from __future__ import annotations

import ipaddress
import struct
import zlib
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
_VNET = struct.Struct("=BBHHHH")
_TO_COMPUTE = 1  # VIRTIO_NET_HDR_F_NEEDS_CSUM, of linux/virtio_net.h
_INSIDE_IP, _INSIDE_UDP, _CHECKSUM_AT = 14, 34, 6
_INSIDE_PORT = 9  # discard
_INSIDE = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))  # addresses for documentation: nobody's
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
    """Who got a probe, and when by its own clock, in seconds: `came_at` and `left_at`.

    One that `checks` answers probes of checksums, too.
    """

    ident: bytes
    size: int
    node: str
    came_at: float
    left_at: float
    checks: bool = False


def overhead(address: str) -> int:
    """The bytes of IP and UDP headers before the payload of a packet to an address."""
    return 48 if ":" in address else 28


def write_ask(ask: Ask, target: str) -> bytes:
    """Write a probe as the payload of a UDP packet that gets the probe's size on the way to its target."""
    frame = _BROADCAST + _SENDER + ETHERTYPE.to_bytes(2, "big") + _asked(ask)
    packet = _VXLAN.pack(_FLAG_VNI, PROBE_VNI << 8) + frame
    return packet.ljust(ask.size - overhead(target), b"\0")


def read_ask(frame: bytes) -> Ask | None:
    """Read the frame that was in a probe; None if it is none."""
    return _read_asked(frame, 14)


def _asked(ask: Ask) -> bytes:
    source = ipaddress.ip_address(ask.address).packed
    return _ASK.pack(_MAGIC_ASK, ask.ident, ask.size, ask.port, len(source), source)


def _read_asked(frame: bytes, at: int) -> Ask | None:
    if len(frame) < at + _ASK.size:
        return None
    magic, ident, size, port, length, source = _ASK.unpack_from(frame, at)
    if magic != _MAGIC_ASK or length not in (4, 16) or not port or size < SMALLEST:
        return None
    return Ask(ident, size, str(ipaddress.ip_address(source[:length])), port)


def mac_of(address: str) -> str:
    """A MAC by which the link for probes knows the node at an address."""
    return (b"\x02\x53" + zlib.crc32(ipaddress.ip_address(address).packed).to_bytes(4)).hex(":")


def write_unsummed(ask: Ask, target: str) -> bytes:
    """Write a probe of checksums for a packet socket with PACKET_VNET_HDR: its own checksum is yet to be computed."""
    payload = _asked(ask).ljust(SMALLEST, b"\0")
    length = _UDP.size + len(payload)
    udp = _UDP.pack(_INSIDE_PORT, _INSIDE_PORT, length, _sum(_pseudo(length))) + payload
    head = _IPV4.pack(0x45, 0, 20 + length, 0, _NO_FRAGMENTS, _TTL, _PROTOCOL_UDP, 0, *_INSIDE)
    head = head[:10] + _checksum(head).to_bytes(2, "big") + head[12:]
    link = bytes.fromhex(mac_of(target).replace(":", "")) + _SENDER + b"\x08\x00"
    return _VNET.pack(_TO_COMPUTE, 0, _INSIDE_UDP + _UDP.size, 0, _INSIDE_UDP, _CHECKSUM_AT) + link + head + udp


def read_summed(data: bytes) -> Ask | None:
    """Read what such a socket hears; None if it is no probe of checksums, or came with a wrong one."""
    frame = data[_VNET.size :]
    if len(frame) < _INSIDE_UDP + _UDP.size or frame[_INSIDE_IP + 12 : _INSIDE_UDP] != b"".join(_INSIDE):
        return None
    to_compute = data[0] & _TO_COMPUTE  # as between hosts that are on one machine
    udp = frame[_INSIDE_UDP:]
    if not to_compute and _sum(_pseudo(len(udp)) + udp) != 0xFFFF:
        return None
    return _read_asked(udp, _UDP.size)


def _pseudo(length: int) -> bytes:
    return b"".join(_INSIDE) + length.to_bytes(4, "big") + _PROTOCOL_UDP.to_bytes(4, "big")


def write_answer(answer: Answer) -> bytes:
    node = answer.node.encode()[:64]
    times = answer.came_at, answer.left_at
    return _ANSWER.pack(_MAGIC_ANSWER, answer.ident, answer.size, *times, len(node)) + node + bytes((answer.checks,))


def read_answer(data: bytes) -> Answer | None:
    """Read the payload of an answer; None if it is none."""
    if len(data) < _ANSWER.size:
        return None
    magic, ident, size, came_at, left_at, length = _ANSWER.unpack_from(data)
    if magic != _MAGIC_ANSWER:
        return None
    end = _ANSWER.size + length
    node = data[_ANSWER.size : end].decode(errors="replace")
    return Answer(ident, size, node, came_at, left_at, data[end : end + 1] == b"\1")


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
    return ~_sum(data) & 0xFFFF or 0xFFFF


def _sum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def sizes_between(passed: int, failed: int, count: int = 24) -> list[int]:
    """Choose sizes between one that passed and one that did not, spread evenly and without either."""
    step = max(1, (failed - passed) // (count + 1))
    return list(range(passed + step, failed, step))
