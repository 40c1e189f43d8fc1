"""The namespaces of containers that were started by hand: found by process, wired, and left as they were found."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing, suppress

from agent.network import nftmessages
from agent.network.kernel import Network
from agent.network.namespaces import Namespaces
from agent.network.netlink_socket import NETLINK_NETFILTER, Netlink
from agent.network.plan import Wire, outer_name
from agent.network.sandboxes import SANDBOXES, Sandboxes, settle_translation
from agent.network.translation import Translation
from agent.network.vips import HANDOVER, TABLE
from cluster.errors import Failed, NotFound


class ByHand:
    """Works on what the wiring holds: its networks, and all sandboxes that are here. Blocks."""

    def __init__(
        self,
        namespaces: Namespaces,
        networks: Mapping[str, Network],
        sandboxes: Sandboxes,
        translation: Translation,
    ) -> None:
        self._namespaces, self._networks = namespaces, networks
        self._sandboxes, self._translation = sandboxes, translation

    def attach(self, sandbox: str, pid: int, laid: tuple[Wire, ...]) -> None:
        """Bring the namespace of a process to these links, whatever it had of ours before."""
        own = _namespace_of_process(pid, self._namespaces)
        try:
            if self._sandboxes.inode(sandbox) != os.fstat(own).st_ino:
                self.release(sandbox)
                self._namespaces.adopt(SANDBOXES + sandbox, own)
        finally:
            os.close(own)
        held = self._sandboxes.laid.get(sandbox, ())
        for wire in held:
            if wire not in laid and wire.network in self._networks:
                self._networks[wire.network].silence(wire)
                self._networks[wire.network].detach(wire.outer)
        self._sandboxes.mend(sandbox, laid)
        if held != laid or self._translation.unknown([sandbox]):
            self._sandboxes.inside(sandbox, settle_translation)
            self._sandboxes.inside(sandbox, lambda: self._sandboxes.translate(sandbox, laid))
        self._sandboxes.laid[sandbox] = laid

    def release(self, sandbox: str) -> None:
        """Take links, rules and the name away; no error if there are none."""
        self._translation.close(sandbox)
        for wire in self._sandboxes.laid.pop(sandbox, ()):
            if wire.network in self._networks:
                self._networks[wire.network].silence(wire)
        for network in tuple(self._networks.values()):
            network.detach(outer_name(sandbox))
        with suppress(NotFound):
            self._sandboxes.inside(sandbox, _leave)
        self._namespaces.delete(SANDBOXES + sandbox)


def _namespace_of_process(pid: int, namespaces: Namespaces) -> int:
    """Open the namespace that a process is in. Raises NotFound when it is gone, Failed when it is the node's own."""
    try:
        own = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound(f"process {pid} has gone: {error.strerror}") from error
    if os.fstat(own).st_ino == os.fstat(namespaces.home).st_ino:
        os.close(own)
        raise Failed(f"process {pid} is in the node's own network")
    return own


def _leave() -> None:
    """Take the tables of ours out of the calling thread's namespace."""
    gone = (request for table in (TABLE, HANDOVER) for request in nftmessages.no_table(nftmessages.INET, table))
    with closing(Netlink(NETLINK_NETFILTER)) as inside:
        inside.transact(nftmessages.batch(*gone))
