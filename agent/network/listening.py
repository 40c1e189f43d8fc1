"""The ports that programs of the host listen on: published ones would take them from these, for everybody.

What was published is led elsewhere before any program of the host is asked, so nothing but a look tells of a clash.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from agent.network.netlink import AF_INET, AF_INET6, DUMP, Request
from agent.network.netlink_socket import Netlink
from cluster.errors import StackyardError
from cluster.protocol import MOST_LISTENING

NETLINK_SOCK_DIAG = 4
_BY_FAMILY = 20
_REQUEST, _PORT = struct.Struct("=BBBxI48x"), struct.Struct("!H")
_PORT_AT = 4
_LISTENING, _UNCONNECTED = 1 << 10, 1 << 7  # of TCP, and of UDP, where clients have such sockets, too
_FIRST_OF_CLIENTS = 32768


def listening(sockets: Netlink) -> tuple[str, ...]:
    """Tell them as `tcp/22`, the lowest first, by a socket of the host's namespace.

    Nothing where the kernel does not tell, as it may be built without that.
    """
    try:
        found = {f"tcp/{port}" for port in _ports(sockets, socket.IPPROTO_TCP, _LISTENING)}
        found |= {f"udp/{port}" for port in _ports(sockets, socket.IPPROTO_UDP, _UNCONNECTED)
                  if port < _FIRST_OF_CLIENTS}  # fmt: skip
    except (StackyardError, OSError):
        return ()
    return tuple(sorted(found, key=lambda one: int(one[4:]))[:MOST_LISTENING])


def _ports(sockets: Netlink, protocol: int, states: int) -> Iterator[int]:
    for family in (AF_INET, AF_INET6):
        asked = Request(_BY_FAMILY, DUMP, _REQUEST.pack(family, protocol, 0, states), "the list of sockets")
        for body in sockets.dump(asked):
            (port,) = _PORT.unpack_from(body, _PORT_AT)
            if port:
                yield port
