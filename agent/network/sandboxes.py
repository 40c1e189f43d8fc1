"""The sandboxes of this node: tasks' namespaces with their links into networks, made, found again, mended and let go.

Everything here blocks and runs in threads of `Namespaces.pool`; the jobs of one sandbox come one after another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from agent.network import netlink, returns
from agent.network.kernel import Network, fitting
from agent.network.namespaces import Namespaces, write_sysctl
from agent.network.netlink import Request
from agent.network.netlink_socket import NETLINK_NETFILTER, Netlink
from agent.network.plan import Overlay, Wire, outer_name
from agent.network.translation import Translation
from cluster.errors import NotFound
from cluster.model.attachment import BY_HAND

T = TypeVar("T")

SANDBOXES = "sy-"

_IDLE_SESSIONS = str(5 * 24 * 3600)
"""Seconds that a connection to a virtual address may be silent: the kernel's own default, which hosts often lower."""


class Sandboxes:
    """Those that the kernel holds by name. `networks` are the open ones, which others open and close."""

    def __init__(self, namespaces: Namespaces, networks: Mapping[str, Network], translation: Translation) -> None:
        self._namespaces, self._networks, self._translation = namespaces, networks, translation
        self.laid: dict[str, tuple[Wire, ...]] = {}
        """The links of those that are here, as far as they are known; jobs of several threads."""

    def here(self) -> frozenset[str]:
        """All of them, those of containers that were started by hand included."""
        return frozenset(name.removeprefix(SANDBOXES) for name in self._namespaces.names(SANDBOXES))

    def attached(self) -> frozenset[str]:
        """Those that are containers' own namespaces."""
        return frozenset(name for name in self.here() if name.startswith(BY_HAND))

    def path(self, task: str) -> Path:
        return self._namespaces.directory / (SANDBOXES + task)

    def inode(self, task: str) -> int:
        """Tell a sandbox from an earlier one of the same task (0: there is none)."""
        return self._namespaces.inode(SANDBOXES + task)

    def outer_names(self) -> frozenset[str]:
        return frozenset(map(outer_name, self.here()))

    def inside(self, task: str, work: Callable[[], T]) -> T:
        """Call something inside of a sandbox. Raises NotFound if there is none."""
        try:
            fd = self._namespaces.open(SANDBOXES + task)
        except FileNotFoundError:
            raise NotFound(f"task {task} has no network namespace on this node") from None
        try:
            with self._namespaces.inside(fd):
                return work()
        finally:
            os.close(fd)

    def make(self, task: str, laid: tuple[Wire, ...], furnish: Callable[[], None]) -> None:
        """Make a sandbox, completely wired, in place of any earlier one, and `furnish` it from inside."""
        if task in self.laid or self.path(task).exists():
            self.delete(task)
        try:
            self._make(task, laid, furnish)
        except BaseException:
            self._translation.close(task)
            raise
        self.laid[task] = laid

    def _make(self, task: str, laid: tuple[Wire, ...], furnish: Callable[[], None]) -> None:
        attached: list[Wire] = []
        try:
            with self._namespaces.created(SANDBOXES + task) as fd, closing(Netlink()) as inner:
                _settle()
                for wire in laid:
                    self._networks[wire.network].attach(wire, fd)
                    attached.append(wire)
                _settle_links(laid)
                inner.send(netlink.link_up(1, "lo"), *_addressing(laid))
                self.translate(task, laid)
                furnish()
                self._wait_running(inner, laid)
        except BaseException:
            for wire in attached:
                self._networks[wire.network].detach(wire.outer)
            raise

    def mend(self, task: str, wires: tuple[Wire, ...]) -> None:
        """Make those of the links again that a sandbox has lost; does nothing when the sandbox is gone."""
        try:
            fd = self._namespaces.open(SANDBOXES + task)
        except FileNotFoundError:
            return
        try:
            with self._namespaces.inside(fd), closing(Netlink()) as inner:
                lost = tuple(wire for wire in wires if self._networks[wire.network].lacks(wire))
                for wire in lost:
                    inner.send(netlink.delete_link(wire.inner))
                    self._networks[wire.network].attach(wire, fd)
                _settle_links(lost)
                inner.send(*_addressing(lost))
                self._wait_running(inner, lost)
        finally:
            os.close(fd)

    def fit(self, task: str, laid: tuple[Wire, ...], overlays: Mapping[str, Overlay]) -> tuple[Wire, ...]:
        """Bring the links laid in a sandbox to the MTU that their networks have now; returns the links."""
        wanted = tuple(replace(w, mtu=overlays[w.network].mtu) if w.network in overlays else w for w in laid)
        if wanted != laid:
            try:
                self.inside(task, partial(_fit, wanted))
            except NotFound:
                return laid  # it goes
            if self.laid.get(task) is laid:
                self.laid[task] = wanted
        return wanted

    def adopt(self, tasks: Collection[str], busy: Collection[str]) -> None:
        """Take over what an earlier process left of those that lead nowhere else meanwhile: MTU and tables.

        Those that are `busy` are being made, and see to themselves.
        """
        for task in self._translation.unknown(tasks):
            laid = self.laid.get(task)
            if laid is None or task in busy:
                continue  # it went meanwhile, or is being made
            try:
                self.inside(task, partial(_fit, laid))
                self.inside(task, partial(self.translate, task, laid))
            except NotFound:
                continue

    def translate(self, task: str, laid: tuple[Wire, ...]) -> None:
        """Load the table of the sandbox that the calling thread is in."""
        self._translation.open(task, laid, Netlink(NETLINK_NETFILTER))

    def delete(self, task: str) -> None:
        """Take a sandbox away, and with it its addresses; no error if there is none."""
        self._translation.close(task)
        laid = self.laid.pop(task, None)
        for wire in laid or ():
            if wire.network in self._networks:
                self._networks[wire.network].silence(wire)
        self._namespaces.delete(SANDBOXES + task)
        if laid is None:
            for network in tuple(self._networks.values()):
                network.detach(outer_name(task))

    def _wait_running(self, inner: Netlink, wires: Iterable[Wire]) -> None:
        for wire in wires:
            inner.wait_running(wire.inner_index, wire.inner)
            self._networks[wire.network].netlink.wait_running(wire.outer_index, wire.outer)


def settle_translation() -> None:
    """Set the sysctls of the calling thread's namespace that virtual addresses need."""
    # A packet that tracking finds odd must be translated all the same: untranslated, it would reset its connection.
    write_sysctl("netfilter/nf_conntrack_tcp_be_liberal", "1", optional=True)
    write_sysctl("netfilter/nf_conntrack_tcp_timeout_established", _IDLE_SESSIONS, optional=True)


def _fit(wires: Iterable[Wire]) -> None:
    """Bring the links of the sandbox that the calling thread is in to their MTU."""
    with closing(Netlink()) as inner:
        links = inner.links()
        held = ((links.get(wire.inner_index), wire) for wire in wires)
        inner.send(*(one for link, wire in held if link is not None for one in fitting(link, wire.mtu)))


def _addressing(wires: Collection[Wire]) -> Iterator[Request]:
    for wire in wires:
        for address, prefix in wire.addresses:
            yield netlink.add_address(wire.inner_index, address, prefix)
        yield netlink.link_up(wire.inner_index, wire.inner)
        for gateway in wire.gateways:
            yield netlink.set_default_route(wire.inner_index, gateway, first=wire.by_hand)
        if wire.gate:
            yield from returns.routes(wire, only_way=not any(other.gateways for other in wires))


def _settle() -> None:
    """Set a sandbox's sysctls as the engine does for its own; links have no IPv6 unless it is given to them later."""
    write_sysctl("ipv4/ip_unprivileged_port_start", "0")
    write_sysctl("ipv4/ping_group_range", "0 2147483647")
    settle_translation()
    write_sysctl("ipv6/conf/default/disable_ipv6", "1", optional=True)


def _settle_links(wires: Iterable[Wire]) -> None:
    """Set the sysctls of links; they are there, and not up yet."""
    for wire in wires:
        for name, value in returns.sysctls(wire) if wire.gate else ():
            write_sysctl(name, value)
        if wire.has_ipv6:
            write_sysctl(f"ipv6/conf/{wire.inner}/accept_ra", "0")
            write_sysctl(f"ipv6/conf/{wire.inner}/disable_ipv6", "0")
