"""The namespaces of containers that were started by hand: found by process, and left as they were found."""

from __future__ import annotations

import os
from contextlib import closing

from agent.network import nftmessages
from agent.network.namespaces import Namespaces
from agent.network.netlink_socket import NETLINK_NETFILTER, Netlink
from agent.network.vips import TABLE
from cluster.errors import Failed, NotFound


def namespace_of_process(pid: int, namespaces: Namespaces) -> int:
    """Open the namespace that a process is in. Raises NotFound when it is gone, Failed when it is the node's own."""
    try:
        own = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound(f"process {pid} has gone: {error.strerror}") from error
    if os.fstat(own).st_ino == os.fstat(namespaces.home).st_ino:
        os.close(own)
        raise Failed(f"process {pid} is in the node's own network")
    return own


def leave() -> None:
    """Take the table of ours out of the calling thread's namespace."""
    with closing(Netlink(NETLINK_NETFILTER)) as inside:
        inside.transact(nftmessages.batch(*nftmessages.no_table(nftmessages.INET, TABLE)))
