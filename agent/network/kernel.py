"""Brings the kernel to what is planned: networks with their bridge and VXLAN link, and sandboxes' links into them.

Everything here blocks and runs in threads of `Namespaces.pool`. What was applied is kept in memory, so that a change
costs what changed; `audit` reads the kernel again and mends what differs.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
from collections.abc import Callable, Collection, Iterable

from agent.network import guard, netlink
from agent.network.namespaces import Namespaces, read_sysctl, write_sysctl
from agent.network.netlink import Link, Request
from agent.network.netlink_socket import NETLINK_NETFILTER, Netlink, NetlinkError
from agent.network.nftmessages import get_generation, read_generation
from agent.network.plan import (
    BRIDGE,
    BRIDGE_INDEX,
    NODE_LINKS,
    NODE_OUTER,
    OUTER,
    VXLAN,
    VXLAN_INDEX,
    VXLAN_PORT,
    Overlay,
    Wire,
)
from agent.network.watch import LINKS, ROWS, listener
from cluster.errors import Failed
from cluster.model.network import INGRESS

log = logging.getLogger(__name__)

NETWORKS = "sn-"
MARK = "stackyard"
"""The alias of the node's own links into networks: without it a link is somebody else's, whatever its name."""


class Network:
    """One network's namespace on this node. Closing it leaves the namespace and its traffic as they are."""

    def __init__(self, namespaces: Namespaces, underlay: Callable[[], Netlink], wanted: Overlay) -> None:
        """Take over the namespace if it is there, else make it; then bring it to what is wanted.

        `underlay` gives a socket of the namespace that packets between nodes leave from, or raises.
        """
        self._underlay = underlay
        self._lock = threading.Lock()
        self.name = NETWORKS + wanted.network
        made_here = False
        try:
            self._fd = namespaces.open(self.name)
        except FileNotFoundError:
            made_here = True
            namespaces.delete(self.name)
            with namespaces.created(self.name):
                _quieten()
            self._fd = namespaces.open(self.name)
        with namespaces.inside(self._fd):
            self.netlink = Netlink()
            self._filter = Netlink(NETLINK_NETFILTER)
            self.listener = listener(socket.NETLINK_ROUTE, LINKS | ROWS)
        self.inode = os.fstat(self._fd).st_ino
        self._admitted: dict[int, Wire] = {}
        self._generation = 0
        self._remote: dict[str, str] = {}
        self._neighbours: dict[str, str] = {}
        try:
            if made_here:
                self.guard(())
            self.audit(wanted, (), tuple, prune=False)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.netlink.close()
        self._filter.close()
        self.listener.close()
        os.close(self._fd)

    def abandon(self) -> None:
        """Free the VXLAN number and the node's link, then close: the namespace has lost its name."""
        self.netlink.send(netlink.delete_link(VXLAN), netlink.delete_link(NODE_OUTER))
        self.close()

    def program(self, wanted: Overlay) -> None:
        """Have all rows of remote endpoints that are wanted."""
        with self._lock:
            self._program(wanted)

    def prune(self, wanted: Overlay) -> None:
        """Take away the rows of remote endpoints that are not wanted; call when nothing leads to them any more."""
        with self._lock:
            self._prune(wanted)

    def _program(self, wanted: Overlay) -> None:
        requests: list[Request] = []
        for mac, vtep in wanted.remote.items():
            if self._remote.get(mac) != vtep:
                requests.append(netlink.set_remote_mac(VXLAN_INDEX, mac, vtep))
                requests.append(netlink.set_port_mac(VXLAN_INDEX, mac))
        for address, mac in wanted.neighbours.items():
            if self._neighbours.get(address) != mac:
                requests.append(netlink.set_neighbour(VXLAN_INDEX, address, mac))
        if requests:
            self.netlink.send(*requests)
        self._remote = {**self._remote, **wanted.remote}
        self._neighbours = {**self._neighbours, **wanted.neighbours}

    def _prune(self, wanted: Overlay) -> None:
        addresses = self._neighbours.keys() - wanted.neighbours.keys()
        macs = self._remote.keys() - wanted.remote.keys()
        requests = [netlink.delete_neighbour(VXLAN_INDEX, address) for address in addresses]
        for mac in macs:
            requests.append(netlink.delete_mac(VXLAN_INDEX, mac, netlink.NTF_SELF))
            requests.append(netlink.delete_mac(VXLAN_INDEX, mac, netlink.NTF_MASTER))
        if not requests:
            return
        self.netlink.send(*requests)
        self._remote = {mac: vtep for mac, vtep in self._remote.items() if mac not in macs}
        self._neighbours = {address: mac for address, mac in self._neighbours.items() if address not in addresses}

    def audit(
        self, wanted: Overlay, wires: Iterable[Wire], present: Callable[[], Collection[str]], *, prune: bool = True
    ) -> list[Wire]:
        """Compare with the kernel and mend what differs; returns those of the wires whose link is not there at all.

        `present` names the outer ends of the sandboxes that are there now; links of others are left over and go.
        """
        with self._lock:
            links = self.netlink.links()
            requests = self._mend_devices(wanted, links)
            rows = self._read_rows()
            missing = []
            for wire in wires:
                link = links.get(wire.outer_index)
                if link is None or link.name != wire.outer:
                    missing.append(wire)
                    continue
                requests += fitting(link, wire.mtu)
                if link.master != BRIDGE_INDEX or not link.locked or rows.get(wire.mac) != wire.outer_index:
                    requests.append(netlink.set_master(wire.outer_index, wire.outer, BRIDGE_INDEX))
                    requests += _port_rules(wire)
            # A sandbox has its name before its links, so one that is made meanwhile is in what is asked for only now.
            kept = present() if prune else None
            for link in links.values():
                if kept is not None and link.name.startswith(OUTER) and link.name not in kept:
                    requests.append(netlink.delete_link(link.name))
            if requests:
                self.netlink.send(*requests)
            self._program(wanted)
            if prune:
                self._prune(wanted)
            return missing

    def attach(self, wire: Wire, namespace: int) -> None:
        """Make a link between this network and a sandbox; what is left of an earlier one by the same address goes."""
        requests = (
            netlink.add_veth(
                wire.outer_index, wire.outer, master=BRIDGE_INDEX, mtu=wire.mtu, peer=wire.inner,
                peer_index=wire.inner_index, peer_mac=wire.mac, namespace=namespace,
            ),
            *_port_rules(wire),
        )  # fmt: skip
        self._admit(wire)
        try:
            self.netlink.send(*requests)
        except NetlinkError as error:
            if error.code not in (errno.EEXIST, errno.EBUSY):
                raise
            self.netlink.send(
                netlink.delete_link(wire.outer), netlink.delete_link(wire.outer, wire.outer_index), *requests
            )

    def silence(self, wire: Wire) -> None:
        """Let nothing pass a link any more; the link itself goes with the sandbox's namespace, in the kernel's time."""
        self.netlink.send(netlink.delete_mac(wire.outer_index, wire.mac, netlink.NTF_MASTER))
        with self._lock:
            self._dismiss(wire)

    def detach(self, outer: str) -> None:
        """Delete a link into this network by the name of its outer end, if there is one. Takes the kernel a while."""
        self.netlink.send(netlink.delete_link(outer))

    def lacks(self, wire: Wire) -> bool:
        return wire.outer_index not in self.netlink.links()

    def guard(self, wires: Iterable[Wire]) -> None:
        """Load the table that lets each port send by its own addresses only; nobody else's may be left out."""
        with self._lock:
            self._admitted = {wire.outer_index: wire for wire in wires}
            self._filter.transact(guard.whole(self._admitted.values()))
            self._generation = read_generation(self._filter.ask(get_generation()))

    @property
    def guarded(self) -> bool:
        """Tell whether this process has loaded the table."""
        return self._generation != 0

    def audit_guard(self) -> None:
        if self._generation and read_generation(self._filter.ask(get_generation())) != self._generation:
            log.warning("the nftables rules in %s were changed by someone else, loading them again", self.name)
            self.guard(tuple(self._admitted.values()))

    def _admit(self, wire: Wire) -> None:
        """Let a port send by its addresses; the node's own is free to send what it forwards."""
        if wire.outer == NODE_OUTER:
            return
        with self._lock:
            if self._admitted.get(wire.outer_index) != wire:
                self._dismiss(wire)
                self._change_guard(guard.admit(wire))
                self._admitted[wire.outer_index] = wire

    def _dismiss(self, wire: Wire) -> None:
        held = self._admitted.pop(wire.outer_index, None)
        if held is not None:
            self._change_guard(guard.dismiss(held))

    def _change_guard(self, requests: tuple[Request, ...]) -> None:
        try:
            self._filter.transact(requests)
        except NetlinkError as error:
            if error.code != errno.ENOENT:
                raise
            self._generation = -1 if self._generation else 0  # the table, or a key of it, is gone: load it again
        else:
            self._generation += 1 if self._generation else 0

    def _mend_devices(self, wanted: Overlay, links: dict[int, Link]) -> list[Request]:
        """Make bridge and VXLAN link, at once, where none is there to be changed; returns what else is to be said."""
        bridge = links.get(BRIDGE_INDEX)
        requests: list[Request] = []
        if bridge is None or bridge.kind != "bridge":
            self.netlink.send(
                netlink.delete_link(BRIDGE),
                netlink.add_bridge(BRIDGE_INDEX, BRIDGE, wanted.bridge_mac, wanted.mtu),
            )
            for index, link in links.items():
                if link.master == BRIDGE_INDEX:
                    links[index] = Link(link.index, link.name, link.up, link.mtu, link.mac, 0, link.kind, link.vxlan)
        else:
            requests += fitting(bridge, wanted.mtu)
            if bridge.mac != wanted.bridge_mac:
                requests.append(netlink.set_mac(BRIDGE_INDEX, BRIDGE, wanted.bridge_mac))
            if not bridge.up:
                requests.append(netlink.link_up(BRIDGE_INDEX, BRIDGE))
        vxlan = links.get(VXLAN_INDEX)
        shape = (wanted.vni, wanted.vtep, VXLAN_PORT, False)
        if vxlan is None or vxlan.vxlan != shape:
            self.netlink.send(netlink.delete_link(VXLAN))
            self._underlay().send(
                netlink.add_vxlan(
                    VXLAN_INDEX, VXLAN, self._fd, master=BRIDGE_INDEX, vni=wanted.vni, local=wanted.vtep,
                    port=VXLAN_PORT, mtu=wanted.mtu,
                )
            )  # fmt: skip
            self.netlink.send(netlink.port_flags(VXLAN_INDEX, VXLAN, locked=False))
        else:
            requests += fitting(vxlan, wanted.mtu)
            if vxlan.master != BRIDGE_INDEX:
                requests.append(netlink.set_master(VXLAN_INDEX, VXLAN, BRIDGE_INDEX))
                requests.append(netlink.port_flags(VXLAN_INDEX, VXLAN, locked=False))
            if not vxlan.up:
                requests.append(netlink.link_up(VXLAN_INDEX, VXLAN))
        return requests

    def _read_rows(self) -> dict[str, int]:
        """Learn which rows of remote endpoints the kernel holds; returns which port each MAC is at by static rows."""
        forwarding: dict[str, str] = {}
        ports: dict[str, int] = {}
        for row in self.netlink.neighbours(netlink.AF_BRIDGE):
            if row.flags & netlink.NTF_SELF:
                if row.link == VXLAN_INDEX:
                    forwarding[row.mac] = row.address
            elif row.state & netlink.NUD_NOARP:
                ports[row.mac] = row.link
        # A row that only one of the two tables has counts as a wrong one: set again if wanted, else taken out of both.
        behind = {mac for mac, port in ports.items() if port == VXLAN_INDEX}
        self._remote = {mac: forwarding.get(mac, "") if mac in behind else "" for mac in forwarding.keys() | behind}
        self._neighbours = {
            row.address: row.mac
            for family in (netlink.AF_INET, netlink.AF_INET6)
            for row in self.netlink.neighbours(family)
            if row.link == VXLAN_INDEX and row.state & netlink.NUD_PERMANENT
        }
        return ports


def remove_network(namespaces: Namespaces, name: str) -> None:
    """Remove a network's namespace; its VXLAN number and the node's link are free when this returns."""
    try:
        fd = namespaces.open(name)
    except FileNotFoundError:
        namespaces.delete(name)
        return
    try:
        with namespaces.inside(fd):
            inner = Netlink()
        inner.send(netlink.delete_link(VXLAN), netlink.delete_link(NODE_OUTER))
        inner.close()
    finally:
        os.close(fd)
    namespaces.delete(name)


def wire_node(wire: Wire, home: Netlink, namespace: int, network: Network) -> None:
    """Give the node itself its link into a network; does nothing where all is in place."""
    inner = next((link for link in home.links().values() if link.name == wire.inner), None)
    if inner is None or inner.mac != wire.mac or network.lacks(wire):
        network.detach(wire.outer)
        home.send(netlink.delete_link(wire.inner))
        network.attach(wire, namespace)
        inner = next(link for link in home.links().values() if link.name == wire.inner)
        # It has the addresses that it is given, at once; those that the kernel makes take seconds to be sure of.
        write_sysctl(f"ipv6/conf/{wire.inner}/addr_gen_mode", "1", optional=True)
    home.send(*fitting(inner, wire.mtu))
    if wire.has_ipv6:
        _forward_ipv6(home, wire.inner)
    if inner.alias != MARK:
        home.send(netlink.set_alias(inner.index, inner.name, MARK))
    held = {(address, prefix) for index, address, prefix in home.addresses() if index == inner.index}
    home.send(*(netlink.add_address(inner.index, *pair) for pair in wire.addresses if pair not in held))
    if not inner.up:
        home.send(netlink.link_up(inner.index, inner.name))
        home.wait_running(inner.index, inner.name)
        network.netlink.wait_running(wire.outer_index, wire.outer)
    # Published ports are forwarded, and with route_localnet also to clients that dial the node's loopback address.
    write_sysctl("ipv4/ip_forward", "1")
    if wire.network == INGRESS:
        write_sysctl(f"ipv4/conf/{wire.inner}/route_localnet", "1")


def _forward_ipv6(home: Netlink, link: str) -> None:
    """Let the node forward, and a link of ours have the addresses that it is given and no others.

    A host that forwards passes over what routers advertise, and with that loses its own default route, unless it is
    told on each link not to.
    """
    if read_sysctl("ipv6/conf/all/forwarding") == "0":
        for other in home.links().values():
            if read_sysctl(f"ipv6/conf/{other.name}/accept_ra") == "1":
                write_sysctl(f"ipv6/conf/{other.name}/accept_ra", "2", optional=True)
        write_sysctl("ipv6/conf/all/forwarding", "1")
    write_sysctl(f"ipv6/conf/{link}/accept_ra", "0")
    write_sysctl(f"ipv6/conf/{link}/disable_ipv6", "0")


def remove_stale_links(home: Netlink, kept: Collection[str]) -> None:
    """Remove the node's own links into networks other than these, which one that ended half-way has left."""
    for link in home.links().values():
        if link.name.startswith(NODE_LINKS) and link.alias == MARK and link.name not in kept:
            log.info("removing the link %s, which leads into no network of this node", link.name)
            home.send(netlink.delete_link(link.name, link.index))


def underlay_mtu(home: Netlink, vtep: str) -> int:
    """The MTU of the link that carries this node's address between nodes."""
    index = next((index for index, address, _ in home.addresses() if address == vtep), None)
    if index is None:
        raise Failed(
            f"no network interface of this node has the address {vtep}",
            hint="start the agent with --advertise set to an address of this node that the other nodes reach",
        )
    return home.links()[index].mtu


def fitting(link: Link, mtu: int) -> tuple[Request, ...]:
    return () if link.mtu == mtu else (netlink.set_mtu(link.index, link.name, mtu),)


def _port_rules(wire: Wire) -> tuple[Request, ...]:
    return (
        netlink.port_flags(wire.outer_index, wire.outer, locked=True),
        netlink.set_port_mac(wire.outer_index, wire.mac),
    )


def _quieten() -> None:
    """Keep a network's namespace from speaking for itself, and bridged frames out of the way of host firewalls."""
    write_sysctl("ipv6/conf/default/addr_gen_mode", "1", optional=True)  # no link-local addresses, so no solicitations
    write_sysctl("ipv6/conf/default/accept_ra", "0", optional=True)
    for table in ("arptables", "iptables", "ip6tables"):
        write_sysctl(f"bridge/bridge-nf-call-{table}", "0", optional=True)
