"""Rtnetlink messages as bytes, and back: only those that overlays and sandboxes are made of. Pure.

Encoded by hand because a container's start waits for them: a general netlink library takes ten times as long for each
message. Numbers are those of linux/rtnetlink.h, if_link.h and neighbour.h.
"""

from __future__ import annotations

import errno
import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWRULE = 32
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30

NLMSG_ERROR, NLMSG_DONE = 2, 3
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
REPLACE, EXCL, CREATE = 0x100, 0x200, 0x400

AF_BRIDGE, AF_INET, AF_INET6 = 7, 2, 10
IFF_UP = 1
NUD_NOARP, NUD_PERMANENT = 0x40, 0x80
NTF_SELF, NTF_MASTER = 0x02, 0x04
IFA_F_NODAD, IFA_F_PERMANENT = 0x02, 0x80

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER = 1, 3, 4, 10
IFLA_OPERSTATE, IFLA_LINKINFO, IFLA_IFALIAS, IFLA_NET_NS_FD, IFLA_EXT_MASK = 16, 18, 20, 28, 29
OPERSTATE_UP = 6
INFO_KIND, INFO_DATA, INFO_SLAVE_KIND, INFO_SLAVE_DATA = 1, 2, 4, 5
VETH_INFO_PEER = 1
BR_STP_STATE, BR_MCAST_SNOOPING = 5, 23
BRPORT_LEARNING, BRPORT_UNICAST_FLOOD, BRPORT_LOCKED = 8, 9, 39
VXLAN_ID, VXLAN_LOCAL, VXLAN_TTL, VXLAN_LEARNING, VXLAN_PROXY = 1, 4, 5, 7, 11
VXLAN_L2MISS, VXLAN_L3MISS, VXLAN_PORT, VXLAN_LOCAL6 = 13, 14, 15, 17
VXLAN_ZERO_CSUM6_TX, VXLAN_ZERO_CSUM6_RX = 19, 20
IFA_ADDRESS, IFA_LOCAL = 1, 2
NDA_DST, NDA_LLADDR, NDA_MASTER = 1, 2, 9
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_TABLE = 1, 4, 5, 6, 7, 15
FRA_PRIORITY, FRA_FWMARK, FRA_TABLE, FRA_FWMASK = 6, 10, 15, 16
RTEXT_FILTER_SKIP_STATS = 8
NESTED = 0x8000

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBi")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")
ROUTE = struct.Struct("=BBBBBBBBI")
_MAIN, _STATIC, _UNICAST = 254, 4, 1
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


@dataclass(frozen=True, slots=True)
class Request:
    """One message to the kernel. `about` names the thing in an error; an errno in `tolerate` counts as success."""

    kind: int
    flags: int
    body: bytes
    about: str
    tolerate: tuple[int, ...] = ()

    def encode(self, sequence: int, *, answered: bool = True) -> bytes:
        flags = self.flags | REQUEST | (ACK if answered and self.flags & DUMP != DUMP else 0)
        return _HEADER.pack(16 + len(self.body), self.kind, flags, sequence, 0) + self.body


@dataclass(frozen=True, slots=True)
class Link:
    """A link as the kernel tells it; `vxlan` is (VNI, local address, port, learns). A `running` one carries packets."""

    index: int
    name: str
    up: bool
    mtu: int
    mac: str
    master: int = 0
    kind: str = ""
    vxlan: tuple[int, str, int, bool] | None = None
    locked: bool = False
    running: bool = False
    alias: str = ""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A row of the neighbour table (`family` AF_INET or AF_INET6) or of a forwarding table (AF_BRIDGE)."""

    family: int
    link: int
    state: int
    flags: int
    address: str
    mac: str
    master: int = 0


def attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + _PADDING[len(value) & 3]


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, value.to_bytes(4, "little" if _LITTLE else "big"))


def _u8(kind: int, value: int) -> bytes:
    return attribute(kind, bytes((value,)))


_LITTLE = struct.pack("=H", 1) == b"\1\0"


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def _family(address: bytes) -> int:
    return AF_INET if len(address) == 4 else AF_INET6


def add_bridge(index: int, name: str, mac: str, mtu: int) -> Request:
    """Make a bridge that neither speaks nor learns from anyone; a fixed MAC keeps it from taking that of a port."""
    data = _u32(BR_STP_STATE, 0) + _u8(BR_MCAST_SNOOPING, 0)
    info = _text(INFO_KIND, "bridge") + attribute(INFO_DATA | NESTED, data)
    body = (
        _LINK.pack(0, 0, index, IFF_UP, IFF_UP) + _text(IFLA_IFNAME, name)
        + attribute(IFLA_ADDRESS, mac_bytes(mac)) + _u32(IFLA_MTU, mtu) + attribute(IFLA_LINKINFO | NESTED, info)
    )  # fmt: skip
    return Request(RTM_NEWLINK, CREATE | EXCL, body, f"bridge {name}")


def add_vxlan(
    index: int, name: str, namespace: int, *, master: int, vni: int, local: str, port: int, mtu: int
) -> Request:
    """Make a VXLAN link in another namespace, sent from the one that is to hold its UDP socket.

    With `local` "" packets leave by the IPv6 address that the route prefers; that they are whole is left to the link
    that they leave by.
    """
    source = packed(local or "::")
    data = (
        _u32(VXLAN_ID, vni) + attribute(VXLAN_LOCAL if len(source) == 4 else VXLAN_LOCAL6, source)
        + _u8(VXLAN_TTL, 64) + _u8(VXLAN_LEARNING, 0) + _u8(VXLAN_PROXY, 1)
        + _u8(VXLAN_L2MISS, 0) + _u8(VXLAN_L3MISS, 0) + attribute(VXLAN_PORT, port.to_bytes(2, "big"))
    )  # fmt: skip
    if not local:
        data += _u8(VXLAN_ZERO_CSUM6_TX, 1) + _u8(VXLAN_ZERO_CSUM6_RX, 1)
    info = _text(INFO_KIND, "vxlan") + attribute(INFO_DATA | NESTED, data)
    body = (
        _LINK.pack(0, 0, index, IFF_UP, IFF_UP) + _text(IFLA_IFNAME, name) + _u32(IFLA_MTU, mtu)
        + _u32(IFLA_NET_NS_FD, namespace) + _u32(IFLA_MASTER, master) + attribute(IFLA_LINKINFO | NESTED, info)
    )  # fmt: skip
    return Request(RTM_NEWLINK, CREATE | EXCL, body, f"vxlan {vni} from {local}")


def add_wireguard(name: str, namespace: int) -> Request:
    """Make a WireGuard link in another namespace, sent from the one that is to hold its UDP socket."""
    info = _text(INFO_KIND, "wireguard")
    body = (
        _LINK.pack(0, 0, 0, 0, 0) + _text(IFLA_IFNAME, name) + _u32(IFLA_NET_NS_FD, namespace)
        + attribute(IFLA_LINKINFO | NESTED, info)
    )  # fmt: skip
    return Request(RTM_NEWLINK, CREATE | EXCL, body, f"WireGuard link {name}")


def add_veth(
    index: int, name: str, *, master: int, mtu: int, peer: str, peer_index: int, peer_mac: str, namespace: int
) -> Request:
    """Make a pair whose other end is born, with its name, MAC and index, in another namespace, but not up."""
    other = (
        _LINK.pack(0, 0, peer_index, 0, 0) + _text(IFLA_IFNAME, peer)
        + _u32(IFLA_NET_NS_FD, namespace) + attribute(IFLA_ADDRESS, mac_bytes(peer_mac)) + _u32(IFLA_MTU, mtu)
    )  # fmt: skip
    info = _text(INFO_KIND, "veth") + attribute(INFO_DATA | NESTED, attribute(VETH_INFO_PEER | NESTED, other))
    body = (
        _LINK.pack(0, 0, index, IFF_UP, IFF_UP) + _text(IFLA_IFNAME, name) + _u32(IFLA_MTU, mtu)
        + _u32(IFLA_MASTER, master) + attribute(IFLA_LINKINFO | NESTED, info)
    )  # fmt: skip
    return Request(RTM_NEWLINK, CREATE | EXCL, body, f"link {peer} ({name})")


def port_flags(index: int, name: str, *, locked: bool) -> Request:
    """Let a bridge port learn nothing and get only frames to MACs that static rows name for it.

    A locked one also takes only frames from such MACs (kernels before 5.16 do not know that and pass over it).
    """
    data = _u8(BRPORT_LEARNING, 0) + _u8(BRPORT_UNICAST_FLOOD, 0) + _u8(BRPORT_LOCKED, locked)
    info = _text(INFO_SLAVE_KIND, "bridge") + attribute(INFO_SLAVE_DATA | NESTED, data)
    body = _LINK.pack(0, 0, index, 0, 0) + attribute(IFLA_LINKINFO | NESTED, info)
    return Request(RTM_NEWLINK, 0, body, f"bridge port {name}")


def set_master(index: int, name: str, master: int) -> Request:
    body = _LINK.pack(0, 0, index, 0, 0) + _u32(IFLA_MASTER, master)
    return Request(RTM_NEWLINK, 0, body, f"bridge port {name}")


def link_up(index: int, name: str) -> Request:
    return Request(RTM_NEWLINK, 0, _LINK.pack(0, 0, index, IFF_UP, IFF_UP), f"link {name}")


def move_link(name: str, namespace: int) -> Request:
    body = _LINK.pack(0, 0, 0, 0, 0) + _text(IFLA_IFNAME, name) + _u32(IFLA_NET_NS_FD, namespace)
    return Request(RTM_NEWLINK, 0, body, f"link {name}")


def set_mtu(index: int, name: str, mtu: int) -> Request:
    return Request(RTM_NEWLINK, 0, _LINK.pack(0, 0, index, 0, 0) + _u32(IFLA_MTU, mtu), f"the MTU of link {name}")


def set_mac(index: int, name: str, mac: str) -> Request:
    body = _LINK.pack(0, 0, index, 0, 0) + attribute(IFLA_ADDRESS, mac_bytes(mac))
    return Request(RTM_NEWLINK, 0, body, f"the MAC of link {name}")


def set_alias(index: int, name: str, alias: str) -> Request:
    """Mark a link with a text; in the message that makes one the kernel passes over it."""
    return Request(RTM_NEWLINK, 0, _LINK.pack(0, 0, index, 0, 0) + _text(IFLA_IFALIAS, alias), f"link {name}")


def delete_link(name: str, index: int = 0) -> Request:
    """Delete a link by its index, or by its name without one; it is no error that there is none."""
    body = _LINK.pack(0, 0, index, 0, 0) + (b"" if index else _text(IFLA_IFNAME, name))
    return Request(RTM_DELLINK, 0, body, f"link {name}", (errno.ENODEV,))


def add_address(index: int, address: str, prefix: int) -> Request:
    """Give a link an address, usable at once: addresses come from one allocator, so nobody need be asked."""
    raw = packed(address)
    body = _ADDRESS.pack(_family(raw), prefix, IFA_F_PERMANENT | (IFA_F_NODAD if len(raw) == 16 else 0), 0, index)
    body += attribute(IFA_LOCAL, raw) + attribute(IFA_ADDRESS, raw)
    return Request(RTM_NEWADDR, CREATE | REPLACE, body, f"address {address}/{prefix}")


def delete_address(index: int, address: str, prefix: int) -> Request:
    raw = packed(address)
    body = _ADDRESS.pack(_family(raw), prefix, 0, 0, index) + attribute(IFA_LOCAL, raw)
    return Request(RTM_DELADDR, 0, body, f"address {address}/{prefix}", (errno.EADDRNOTAVAIL,))


def set_host_route(index: int, address: str, source: str) -> Request:
    """Lead to one address by a link, and by nothing else, from an address of our own."""
    raw = packed(address)
    body = ROUTE.pack(_family(raw), 8 * len(raw), 0, 0, 0, _STATIC, 0, _UNICAST, 0)
    body += attribute(RTA_DST, raw) + _u32(RTA_OIF, index) + attribute(RTA_PREFSRC, packed(source))
    return Request(RTM_NEWROUTE, CREATE | REPLACE, body + _u32(RTA_TABLE, _MAIN), f"route to {address}")


def delete_host_route(address: str) -> Request:
    raw = packed(address)
    body = ROUTE.pack(_family(raw), 8 * len(raw), 0, 0, _MAIN, _STATIC, 0, 0, 0) + attribute(RTA_DST, raw)
    return Request(RTM_DELROUTE, 0, body, f"route to {address}", (errno.ESRCH,))


def set_default_route(index: int, gateway: str, *, table: int = _MAIN, metric: int = 0, first: bool = False) -> Request:
    """Lead by a gateway where no other route leads; `first` leaves one that is there already as it is."""
    raw = packed(gateway)
    body = ROUTE.pack(_family(raw), 0, 0, 0, 0, _STATIC, 0, _UNICAST, 0)
    body += attribute(RTA_GATEWAY, raw) + _u32(RTA_OIF, index) + _u32(RTA_TABLE, table) + _u32(RTA_PRIORITY, metric)
    flags, fine = (CREATE | EXCL, (errno.EEXIST,)) if first else (CREATE | REPLACE, ())
    return Request(RTM_NEWROUTE, flags, body, f"default route by {gateway}", fine)


def add_mark_rule(family: int, mark: int, mask: int, table: int, priority: int) -> Request:
    """Route packets of a mark by a table of their own; it is no error that they are already."""
    body = ROUTE.pack(family, 0, 0, 0, 0, 0, 0, _UNICAST, 0)
    body += _u32(FRA_PRIORITY, priority) + _u32(FRA_FWMARK, mark) + _u32(FRA_FWMASK, mask) + _u32(FRA_TABLE, table)
    return Request(RTM_NEWRULE, CREATE | EXCL, body, f"rule for mark {mark:#x}", (errno.EEXIST,))


def set_neighbour(index: int, address: str, mac: str) -> Request:
    raw = packed(address)
    body = _NEIGHBOUR.pack(_family(raw), index, NUD_PERMANENT, 0, 0)
    body += attribute(NDA_DST, raw) + attribute(NDA_LLADDR, mac_bytes(mac))
    return Request(RTM_NEWNEIGH, CREATE | REPLACE, body, f"neighbour {address} at {mac}")


def delete_neighbour(index: int, address: str) -> Request:
    raw = packed(address)
    body = _NEIGHBOUR.pack(_family(raw), index, 0, 0, 0) + attribute(NDA_DST, raw)
    return Request(RTM_DELNEIGH, 0, body, f"neighbour {address}", (errno.ENOENT,))


def set_remote_mac(index: int, mac: str, vtep: str) -> Request:
    """Tell the VXLAN link which node has a MAC."""
    body = _NEIGHBOUR.pack(AF_BRIDGE, index, NUD_PERMANENT | NUD_NOARP, NTF_SELF, 0)
    body += attribute(NDA_LLADDR, mac_bytes(mac)) + attribute(NDA_DST, packed(vtep))
    return Request(RTM_NEWNEIGH, CREATE | REPLACE, body, f"forwarding of {mac} to {vtep}")


def set_port_mac(index: int, mac: str) -> Request:
    """Tell the bridge which of its ports leads to a MAC."""
    body = _NEIGHBOUR.pack(AF_BRIDGE, index, NUD_NOARP, NTF_MASTER, 0) + attribute(NDA_LLADDR, mac_bytes(mac))
    return Request(RTM_NEWNEIGH, CREATE | REPLACE, body, f"forwarding of {mac} to a port")


def delete_mac(index: int, mac: str, flag: int) -> Request:
    """Forget a MAC of the link itself (NTF_SELF) or of the bridge that it is a port of (NTF_MASTER)."""
    body = _NEIGHBOUR.pack(AF_BRIDGE, index, 0, flag, 0) + attribute(NDA_LLADDR, mac_bytes(mac))
    return Request(RTM_DELNEIGH, 0, body, f"forwarding of {mac}", (errno.ENOENT,))


def list_links() -> Request:
    body = _LINK.pack(0, 0, 0, 0, 0) + _u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    return Request(RTM_GETLINK, DUMP, body, "the list of links")


def get_link(index: int, name: str) -> Request:
    """Ask for one link. Newer kernels first carry out what its carrier's last change calls for."""
    body = _LINK.pack(0, 0, index, 0, 0) + _u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    return Request(RTM_GETLINK, 0, body, f"link {name}")


def list_addresses() -> Request:
    return Request(RTM_GETADDR, DUMP, _ADDRESS.pack(0, 0, 0, 0, 0), "the list of addresses")


def list_neighbours(family: int) -> Request:
    return Request(RTM_GETNEIGH, DUMP, _NEIGHBOUR.pack(family, 0, 0, 0, 0), "the list of neighbours")


def list_routes(family: int) -> Request:
    return Request(RTM_GETROUTE, DUMP, ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0), "the list of routes")


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Split what was received into (kind, flags, sequence, body)."""
    offset = 0
    while offset + 16 <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < 16:
            return
        yield kind, flags, sequence, data[offset + 16 : offset + length]
        offset += (length + 3) & ~3


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    found = {}
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def error_of(flags: int, body: bytes) -> tuple[int, str]:
    """Read an answer: the errno (0: done) and the kernel's own words, if it has any."""
    (negative,) = struct.unpack_from("=i", body)
    words = b""
    if negative and flags & 0x200:  # NLM_F_ACK_TLVS, after the capped copy of our header
        offset = 4 + (16 if flags & 0x100 else struct.unpack_from("=I", body, 4)[0])
        words = attributes(body, offset).get(1, b"").rstrip(b"\0")
    return -negative, words.decode(errors="replace")


def _number(raw: bytes | None) -> int:
    return int.from_bytes(raw, "little" if _LITTLE else "big") if raw else 0


def _mac(raw: bytes | None) -> str:
    return raw.hex(":") if raw else ""


def _address(raw: bytes | None) -> str:
    return str(ipaddress.ip_address(raw)) if raw else ""


def read_link(body: bytes) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(body)
    found = attributes(body, 16)
    info = attributes(found.get(IFLA_LINKINFO, b""))
    kind = info.get(INFO_KIND, b"").rstrip(b"\0").decode()
    vxlan = None
    if kind == "vxlan":
        data = attributes(info.get(INFO_DATA, b""))
        local = _address(data.get(VXLAN_LOCAL) or data.get(VXLAN_LOCAL6))
        port = int.from_bytes(data.get(VXLAN_PORT, b""), "big")
        vxlan = (_number(data.get(VXLAN_ID)), local, port, bool(_number(data.get(VXLAN_LEARNING))))
    slave = attributes(info.get(INFO_SLAVE_DATA, b""))
    return Link(
        index, found.get(IFLA_IFNAME, b"").rstrip(b"\0").decode(), bool(flags & IFF_UP), _number(found.get(IFLA_MTU)),
        _mac(found.get(IFLA_ADDRESS)), _number(found.get(IFLA_MASTER)), kind, vxlan,
        bool(_number(slave.get(BRPORT_LOCKED))), found.get(IFLA_OPERSTATE) == bytes((OPERSTATE_UP,)),
        found.get(IFLA_IFALIAS, b"").rstrip(b"\0").decode(errors="replace"),
    )  # fmt: skip


def read_address(body: bytes) -> tuple[int, str, int]:
    """Read an address of a link: its index, the address and the prefix length."""
    _, prefix, _, _, index = _ADDRESS.unpack_from(body)
    found = attributes(body, 8)
    return index, _address(found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)), prefix


def read_host_route(body: bytes) -> tuple[str, int, str] | None:
    """Read a route as `set_host_route` makes them: the address, the index of the link, our own; None for any other."""
    _, prefix, _, _, table, protocol, _, _, _ = ROUTE.unpack_from(body)
    found = attributes(body, 12)
    raw = found.get(RTA_DST, b"")
    if table != _MAIN or protocol != _STATIC or not raw or prefix != 8 * len(raw):
        return None
    return _address(raw), _number(found.get(RTA_OIF)), _address(found.get(RTA_PREFSRC))


def read_neighbour(body: bytes) -> Neighbour:
    family, index, state, flags, _ = _NEIGHBOUR.unpack_from(body)
    found = attributes(body, 12)
    return Neighbour(
        family, index, state, flags, _address(found.get(NDA_DST)), _mac(found.get(NDA_LLADDR)),
        _number(found.get(NDA_MASTER)),
    )  # fmt: skip
