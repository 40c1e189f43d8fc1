"""WireGuard devices of the kernel, spoken to by generic netlink (linux/wireguard.h).

Sockets are opened in the namespace that has the device; its UDP socket stays in the one that the device was made from.
"""

from __future__ import annotations

import base64
import errno
import ipaddress
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import chain

from agent.network.netlink import DUMP, NESTED, Request, attribute, attributes, packed
from agent.network.netlink_socket import Netlink, NetlinkError
from agent.network.wireguard import CALL_INTERVAL, Change, Gone, Held, Peer, address_of

NETLINK_GENERIC = 16
KIND = "wireguard"

_GENERIC = struct.Struct("=BBH")
_CONTROL, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2
_GET_DEVICE, _SET_DEVICE, _VERSION = 0, 1, 1
_NAME, _PRIVATE, _PUBLIC, _FLAGS, _PORT, _PEERS = 2, 3, 4, 5, 6, 8
_REPLACE_PEERS = 1
_PEER_KEY, _PEER_FLAGS, _PEER_ENDPOINT, _PEER_KEEPALIVE, _PEER_HANDSHAKE, _PEER_ALLOWED = 1, 3, 4, 5, 6, 9
_REMOVE_PEER, _REPLACE_ALLOWED = 1, 2
_ALLOWED_FAMILY, _ALLOWED_ADDRESS, _ALLOWED_MASK = 1, 2, 3
_AT_ONCE = 50
"""Peers in one message, which the kernel takes up to a page of many at most."""


def trouble() -> str:
    """Tell why it cannot be used, "" if it can. The kernel loads its module for the asking, if it has one."""
    try:
        with closing(Netlink(NETLINK_GENERIC)) as asking:
            _family(asking)
    except (NetlinkError, OSError):
        return "the kernel has no WireGuard"
    return ""


def read(name: str, public_of: Mapping[str, str]) -> Held:
    """Ask a device of the calling thread's namespace what it is. Raises Gone when it is not there."""
    with closing(Netlink(NETLINK_GENERIC)) as asking:
        try:
            return held(asking.dump(get_device(_family(asking), name)))
        except NetlinkError as error:
            raise Gone(f"there is no WireGuard device {name}") from error


def write(name: str, said: Change) -> None:
    """Tell a device of the calling thread's namespace what to be. Raises Gone when it is not there."""
    with closing(Netlink(NETLINK_GENERIC)) as telling:
        try:
            telling.send(*set_device(_family(telling), name, said))
        except NetlinkError as error:
            if error.code != errno.ENODEV:
                raise
            raise Gone(f"there is no WireGuard device {name}") from error


def get_device(family: int, name: str) -> Request:
    body = _GENERIC.pack(_GET_DEVICE, _VERSION, 0) + attribute(_NAME, name.encode() + b"\0")
    return Request(family, DUMP, body, f"WireGuard device {name}")


def set_device(family: int, name: str, said: Change) -> Iterator[Request]:
    """Write a change, in as many messages as it takes."""
    head = b""
    if said.key is not None:
        private = attribute(_PRIVATE, base64.b64decode(said.key.private))
        head += private + attribute(_PORT, struct.pack("=H", said.key.port))
    if said.anew:
        head += attribute(_FLAGS, struct.pack("=I", _REPLACE_PEERS))
    gone = (_peer(public, _REMOVE_PEER) for public in sorted(said.drop))
    peers = list(chain(gone, (_peer(public, _REPLACE_ALLOWED, peer) for public, peer in sorted(said.put.items()))))
    for start in range(0, max(len(peers), 1), _AT_ONCE):
        some = b"".join(attribute(NESTED, peer) for peer in peers[start : start + _AT_ONCE])
        body = _GENERIC.pack(_SET_DEVICE, _VERSION, 0) + attribute(_NAME, name.encode() + b"\0") + head
        yield Request(family, 0, body + attribute(_PEERS | NESTED, some), f"WireGuard device {name}")
        head = b""


def held(bodies: Iterator[bytes]) -> Held:
    """Read the parts of an answer."""
    public, port = "", 0
    peers: dict[str, set[str]] = {}
    met: set[str] = set()
    for body in bodies:
        found = attributes(body, _GENERIC.size)
        public = _text(found[_PUBLIC]) if _PUBLIC in found else public
        port = struct.unpack("=H", found[_PORT])[0] if _PORT in found else port
        for peer in map(attributes, _listed(found.get(_PEERS, b""))):
            key = _text(peer[_PEER_KEY])
            addresses = peers.setdefault(key, set())
            for allowed in map(attributes, _listed(peer.get(_PEER_ALLOWED, b""))):
                mask = allowed[_ALLOWED_MASK][0]
                address = ipaddress.ip_address(allowed[_ALLOWED_ADDRESS])
                addresses.add(str(address) if mask == address.max_prefixlen else f"{address}/{mask}")
            if any(peer.get(_PEER_HANDSHAKE, b"")):
                met.add(key)
    return Held(public, port, {key: frozenset(addresses) for key, addresses in peers.items()}, frozenset(met))


def _peer(public: str, flag: int, peer: Peer | None = None) -> bytes:
    body = attribute(_PEER_KEY, base64.b64decode(public)) + attribute(_PEER_FLAGS, struct.pack("=I", flag))
    if peer is None:
        return body
    allowed = (
        attribute(_ALLOWED_FAMILY, struct.pack("=H", socket.AF_INET6))
        + attribute(_ALLOWED_ADDRESS, packed(address_of(public)))
        + attribute(_ALLOWED_MASK, b"\x80")
    )
    interval = CALL_INTERVAL if peer.called else 0
    body += attribute(_PEER_ENDPOINT, _endpoint(peer)) + attribute(_PEER_KEEPALIVE, struct.pack("=H", interval))
    return body + attribute(_PEER_ALLOWED | NESTED, attribute(NESTED, allowed))


def _endpoint(peer: Peer) -> bytes:
    """A `struct sockaddr_in` or `sockaddr_in6`."""
    raw, port = packed(peer.address), peer.port.to_bytes(2, "big")
    if len(raw) == 4:
        return struct.pack("=H", socket.AF_INET) + port + raw + bytes(8)
    return struct.pack("=H", socket.AF_INET6) + port + bytes(4) + raw + bytes(4)


def _listed(data: bytes) -> Iterator[bytes]:
    """Split a list, whose items the kernel all gives the same number."""
    offset = 0
    while offset + 4 <= len(data):
        (length,) = struct.unpack_from("=H", data, offset)
        if length < 4:
            return
        yield data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _family(asking: Netlink) -> int:
    body = _GENERIC.pack(_GET_FAMILY, 1, 0) + attribute(_FAMILY_NAME, KIND.encode() + b"\0")
    found = attributes(asking.ask(Request(_CONTROL, 0, body, "generic netlink family wireguard")), _GENERIC.size)
    return int(struct.unpack("=H", found[_FAMILY_ID])[0])
