"""The WireGuard tunnels between nodes, which encrypted networks go through.

They end in a namespace of their own. Its links are the inner ends of the tunnels and nothing else; their UDP sockets
are the node's. The VXLAN links of encrypted networks are made from there, so that no packet of theirs has a way in or
out but a tunnel, whatever becomes of routes, rows or firewalls: what is sent in clear to this node finds nobody. There
is a device for each of the node's keys; it sends by the first one, and is heard by all.

All of it blocks and runs in threads of `Namespaces.pool`, one call at a time.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from agent.network import netlink, wireguard_go, wireguard_kernel
from agent.network.namespaces import Namespaces, write_sysctl
from agent.network.netlink import Link
from agent.network.netlink_socket import Netlink
from agent.network.watch import LINKS, listener
from agent.network.wireguard import PORTS, Change, Gone, Held, OwnKey, Peer, address_of, change
from cluster.errors import Failed, StackyardError

log = logging.getLogger(__name__)

NAMESPACE = "sw-tunnels"
LINK = "sywg"
MARK = "stackyard"
LOOK_INTERVAL = 60.0
"""Seconds until a node that cannot encrypt is looked at again: for each look the kernel searches for its module."""


class Driver(Protocol):
    """What speaks to a device; called in the namespace of the tunnels. Both raise Gone when the device is not there."""

    def read(self, name: str, public_of: Mapping[str, str]) -> Held: ...

    def write(self, name: str, said: Change) -> None: ...


class Tunnels:
    """This node's ends. Nothing is made before `apply` is called for the first time."""

    def __init__(self, namespaces: Namespaces, node: str, keys: Sequence[OwnKey] = ()) -> None:
        self._namespaces = namespaces
        self._names = {port: f"{LINK}{number}-{node[:9]}" for number, port in enumerate(PORTS)}
        self._home: Netlink
        self._fd = -1
        self._inode = 0
        self._inside: Netlink | None = None
        self._listener: socket.socket | None = None
        self._keys = tuple(keys)
        self._peers: dict[str, Peer] = {}
        self._mtu = 0
        self._told: dict[str, dict[str, Peer]] = {}
        self._settled = self._ready = False
        self._looked_at = 0.0
        self.trouble = ""
        """Why there can be no tunnels on this node, and what to do; "" if there can."""

    def open(self, home: Netlink) -> None:
        """Make ready, and look whether this node can have tunnels at all."""
        self._home = home
        self.look()

    def look(self) -> None:
        self._looked_at = time.monotonic()
        missing = wireguard_kernel.trouble(), wireguard_go.trouble()
        self.trouble = ""
        if all(missing):
            self.trouble = f"{missing[0]}, and {missing[1]}: load the kernel module wireguard, or install wireguard-go"
        elif not Path("/proc/net/if_inet6").exists():
            self.trouble = "the kernel's IPv6 is turned off, which tunnels need inside: boot without ipv6.disable"

    @property
    def listeners(self) -> list[socket.socket]:
        """Sockets that hear of changes to the links."""
        return [] if self._listener is None else [self._listener]

    def underlay(self) -> Netlink:
        """A socket of the tunnels' namespace, to make VXLAN links by. Raises Failed while there are no tunnels."""
        if not self._ready:
            raise Failed("it is to be encrypted, and there are no tunnels between nodes to do it", hint=self.trouble)
        return self._within()

    def apply(self, peers: Mapping[str, Peer], mtu: int, *, prune: bool) -> None:
        """Have a device for each of the node's keys, the first of which is sent by, and on each all of these peers."""
        wanted = dict(peers) if prune else {**self._peers, **peers}
        if self._settled and (wanted, mtu) == (self._peers, self._mtu):
            return
        self._peers, self._mtu = wanted, mtu
        self._settled = False
        self._bring(prune)
        self._settled = True

    def use(self, keys: Sequence[OwnKey]) -> None:
        """Exchange the node's keys."""
        self._keys = tuple(keys)
        if self._inside is not None:
            self._bring(prune=True)

    def mend(self) -> None:
        """Compare what was applied with the kernel and mend what differs; what cannot be is tried again."""
        if self._inside is None:
            return
        try:
            self._bring(prune=True)
        except (StackyardError, OSError) as error:
            log.error("the tunnels between nodes cannot be mended, it is tried again: %s", error)

    def glance(self) -> None:
        """Look at what the kernel tells nobody of."""
        if not self._is_whole():
            self.mend()
        elif self.trouble and time.monotonic() - self._looked_at >= LOOK_INTERVAL:
            self.look()

    def is_met(self, key: OwnKey) -> bool:
        """Tell whether every node that is sent to has answered to a key: then it may be sent by."""
        if self._inside is None:
            return True
        wanted = {public for public, peer in self._peers.items() if peer.preferred}
        link = self._links().get(self._names[key.port])
        return not wanted or (link is not None and wanted <= self._read(link).met)

    def _is_whole(self) -> bool:
        return self._inside is None or self._namespaces.inode(NAMESPACE) == self._inode

    def close(self) -> None:
        """Let go of everything and leave it in place."""
        if self._inside is not None and self._listener is not None:
            self._inside.close()
            self._listener.close()
            os.close(self._fd)
        self._inside = self._listener = None
        self._settled = self._ready = False

    def remove(self) -> None:
        """Take the tunnels away, also those that an earlier process left."""
        with suppress(FileNotFoundError):
            self._enter(make=False)
            log.info("removing the tunnels between nodes, as no network here is encrypted")
            self._leave()
        self._namespaces.delete(NAMESPACE)
        self._peers, self._told = {}, {}

    def _enter(self, *, make: bool = True) -> None:
        if not self._is_whole():
            log.warning("the tunnels between nodes have lost their namespace, making it again")
            self._leave()
        if self._inside is not None:
            return
        try:
            self._fd = self._namespaces.open(NAMESPACE)
        except FileNotFoundError:
            if not make:
                raise
            self._namespaces.delete(NAMESPACE)
            with self._namespaces.created(NAMESPACE):
                _settle()
            self._fd = self._namespaces.open(NAMESPACE)
        with self._namespaces.inside(self._fd):
            self._inside = Netlink()
            self._listener = listener(socket.NETLINK_ROUTE, LINKS)
        self._inode = os.fstat(self._fd).st_ino
        self._told = {}

    def _leave(self) -> None:
        """Delete the links, which ends what serves them, then let go."""
        self._within().send(*(netlink.delete_link(name) for name in self._links() if name.startswith(LINK)))
        self.close()

    def _within(self) -> Netlink:
        assert self._inside is not None
        return self._inside

    def _links(self) -> dict[str, Link]:
        return {link.name: link for link in self._within().links().values()}

    def _bring(self, prune: bool) -> None:
        if not self._keys:
            raise Failed("this node has no keys for tunnels between nodes", hint=self.trouble)
        self._enter()
        strange = {name for name in self._links() if name.startswith(LINK)} - set(self._names.values())
        self._within().send(*map(netlink.delete_link, strange))  # of this host when it was another node
        indexes: dict[OwnKey, int] = {}
        for key in self._keys:
            indexes[key] = self._bring_device(key, prune)
        first = self._keys[0]
        self._route(indexes[first], address_of(first.public), indexes.values(), prune)
        self._ready = True

    def _bring_device(self, key: OwnKey, prune: bool) -> int:
        name = self._names[key.port]
        link, held = self._links().get(name), None
        if link is not None:
            try:
                held = self._read(link)
            except Gone as gone:
                log.warning("%s: making the tunnels anew", gone)
                self._within().send(netlink.delete_link(name))
                link = None
        if link is None:
            link = self._make(name, key.port)
        newest = len(self._keys) > 1 and key is self._keys[1]
        wanted = {public: replace(peer, called=newest) for public, peer in self._peers.items()}
        said = change(held, self._told.get(name, {}), key, wanted, prune)
        if not said.is_nothing:
            with self._namespaces.inside(self._fd):
                _driver(link).write(name, said)
        self._told[name] = wanted
        self._bring_up(link, address_of(key.public))
        return link.index

    def _make(self, name: str, port: int) -> Link:
        inside = self._within()
        self._home.send(netlink.delete_link(name))  # one that was never brought to its place
        kernel = not wireguard_kernel.trouble()
        if not kernel and (trouble := wireguard_go.trouble()):
            raise Failed(f"the kernel has no WireGuard, and {trouble}")
        if kernel:
            self._home.send(netlink.add_wireguard(name, self._fd))
        else:
            wireguard_go.await_end(name)
            _check_free(port)
            wireguard_go.make(name)
            self._home.send(netlink.move_link(name, self._fd))
        link = self._links()[name]
        inside.send(netlink.set_alias(link.index, name, MARK))
        self._told.pop(name, None)
        log.info("made the tunnels of UDP port %d, by %s", port, "the kernel" if kernel else wireguard_go.PROGRAM)
        return link

    def _bring_up(self, link: Link, address: str) -> None:
        inside = self._within()
        requests = []
        if link.mtu != self._mtu:
            requests.append(netlink.set_mtu(link.index, link.name, self._mtu))
        if not link.up:
            requests.append(netlink.link_up(link.index, link.name))
        held = {(found, prefix) for index, found, prefix in inside.addresses() if index == link.index}
        requests += [netlink.delete_address(link.index, *other) for other in held - {(address, 128)}]
        if (address, 128) not in held:
            requests.append(netlink.add_address(link.index, address, 128))
        if requests:
            inside.send(*requests)

    def _route(self, index: int, source: str, devices: Collection[int], prune: bool) -> None:
        inside = self._within()
        found = (netlink.read_host_route(body) for body in inside.dump(netlink.list_routes(netlink.AF_INET6)))
        held = {address: (link, own) for address, link, own in filter(None, found) if link in devices}
        wanted = set(map(address_of, self._peers))
        requests = [
            netlink.set_host_route(index, address, source) for address in wanted if held.get(address) != (index, source)
        ]
        if prune:
            requests += [netlink.delete_host_route(address) for address in held.keys() - wanted]
        if requests:
            inside.send(*requests)

    def _read(self, link: Link) -> Held:
        with self._namespaces.inside(self._fd):
            return _driver(link).read(link.name, {key.private: key.public for key in self._keys})


def _driver(link: Link) -> Driver:
    return wireguard_kernel if link.kind == wireguard_kernel.KIND else wireguard_go


def _settle() -> None:
    write_sysctl("ipv6/conf/default/disable_ipv6", "0", optional=True)
    write_sysctl("ipv6/conf/default/accept_ra", "0", optional=True)
    write_sysctl("ipv6/conf/default/addr_gen_mode", "1", optional=True)


def _check_free(port: int) -> None:
    """wireguard-go tells nobody that another program has its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.bind(("", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise Failed(
                f"UDP port {port} is taken by another program of this host",
                hint=f"encrypted networks need the UDP ports {' and '.join(map(str, PORTS))}",
            ) from error
