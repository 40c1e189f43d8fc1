"""The node's share of all networks, for the rest of the agent to call: one object, level-triggered.

`apply` is given everything and does what differs from the last time. Only `clean` and `delete_sandbox` take namespaces
away. What was applied is trusted until the slow `run` loop compares it with the kernel and mends what someone else
undid.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from agent.network.byhand import ByHand
from agent.network.kernel import NETWORKS, Network, remove_network, remove_stale_links, underlay_mtu, wire_node
from agent.network.listening import NETLINK_SOCK_DIAG, listening
from agent.network.namespaces import Namespaces, namespace_of, read_sysctl
from agent.network.netlink_socket import NETLINK_NETFILTER, Netlink
from agent.network.nft import Nftables
from agent.network.plan import Overlay, Plan, Wire, in_tunnel, node_link, plan, wires, wires_by_hand
from agent.network.routes import look_elsewhere
from agent.network.sandboxes import Sandboxes
from agent.network.survey import Survey, survey
from agent.network.tables import NodeTables
from agent.network.translation import Translation
from agent.network.tunnels import Tunnels
from agent.network.watch import LINKS, RULES, Watch, listener
from agent.network.wireguard import OwnKey
from cluster.assignments import Item
from cluster.errors import Failed, StackyardError
from cluster.model.network import INGRESS, Endpoint

T = TypeVar("T")

log = logging.getLogger(__name__)

NETNS_DIRECTORY = Path("/run/netns")
LINKS_DIRECTORY = Path("/run/stackyard/netns")
AUDIT_INTERVAL, GLANCE_INTERVAL, AUDIT_PAUSE = 60.0, 5.0, 1.0
"""Seconds until everything is compared although nothing was heard, until a look at what nobody tells of, and between
two looks.
"""


class Wiring:
    """Networks, sandboxes and published ports of one node. `vtep` is its address towards the other nodes.

    `managers` gives the URLs of the cluster's managers, by address: their ports are kept from containers, but for
    the API from those whose service asks for it.
    """

    def __init__(
        self,
        node: str,
        vtep: str,
        *,
        netns: Path = NETNS_DIRECTORY,
        links: Path = LINKS_DIRECTORY,
        home: Path | None = None,
        keys: Sequence[OwnKey] = (),
        managers: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._managers = managers
        self._node, self._vtep, self._links = node, vtep, links
        self._namespaces = Namespaces(netns, home)
        self.tunnels = Tunnels(self._namespaces, node, keys)
        self._networks: dict[str, Network] = {}
        self._plan = Plan()  # its overlays are those that were wired, which may be fewer than were wanted
        self._refused: dict[str, str] = {}
        self._wanted: frozenset[str] | None = None
        self._busy: dict[str, asyncio.Future[None]] = {}
        self._translation = Translation()
        self._sandboxes = Sandboxes(self._namespaces, self._networks, self._translation)
        self._by_hand = ByHand(self._namespaces, self._networks, self._sandboxes, self._translation)
        self._lock = asyncio.Lock()
        self._opened = ExitStack()
        self._home: Netlink
        self._sockets: Netlink
        self._tables: NodeTables
        self._links_here: socket.socket
        self._rules_here: socket.socket
        self._mtu = 0
        self._given: tuple[Item, ...] = ()
        self._ipv6 = True
        self.keeps_source = False
        """Whether tasks here see the address of clients of published ports; known once opened."""
        self.elsewhere: dict[str, str] = {}
        """The subnets that this host reaches otherwise, and by which link; looked at anew every few seconds."""
        self.listening: tuple[str, ...] = ()
        """The ports that programs of this host listen on; looked at as often."""

    async def open(self) -> None:
        """Make ready to work; touches nothing that is wired already."""
        await self._in_thread(self._open)

    def _open(self) -> None:
        try:
            self._namespaces.prepare()
        except PermissionError as error:
            raise Failed(
                f"network namespaces cannot be kept in {self._namespaces.directory}: {error.strerror}",
                hint="the agent needs to run as root, outside of any container",
            ) from error
        self._links.mkdir(parents=True, exist_ok=True)
        self._home = self._opened.enter_context(closing(Netlink()))
        self._sockets = self._opened.enter_context(closing(Netlink(NETLINK_SOCK_DIAG)))
        flows = self._opened.enter_context(closing(Netlink(NETLINK_NETFILTER)))
        nft = self._opened.enter_context(closing(Nftables()))
        self._tables = NodeTables(nft, self._home, flows)
        self._links_here = self._opened.enter_context(listener(socket.NETLINK_ROUTE, LINKS))
        self._rules_here = self._opened.enter_context(listener(NETLINK_NETFILTER, RULES))
        self._mtu = underlay_mtu(self._home, self._vtep)
        self.tunnels.open(self._home)
        self._look_around()
        self._ipv6 = bool(read_sysctl("ipv6/conf/all/forwarding"))
        if not self._ipv6:
            log.warning("this kernel knows no IPv6: containers here have no such addresses, and reach none")
        try:
            self._tables.probe()
        except Failed as error:
            log.warning("this kernel cannot keep the address of clients of published ports: %s", error)
        else:
            self.keeps_source = True

    async def close(self) -> None:
        """Let go of everything and leave it in place, so that traffic goes on without this process.

        Also for one whose `open` failed.
        """
        await self._in_turn(self._in_thread(self._close))
        self._namespaces.close()

    def _close(self) -> None:
        self._translation.close_all()
        for network in self._networks.values():
            network.close()
        self.tunnels.close()
        self._opened.close()

    async def run(self) -> None:
        """Mend what somebody else undoes, for ever: when the kernel tells of a change, and every so often anyway."""
        loop = asyncio.get_running_loop()
        watch = Watch()
        thorough_at = loop.time() + AUDIT_INTERVAL
        try:
            while True:
                async with self._lock:  # or a thread that applies would open and close networks meanwhile
                    networks = (network.listener for network in self._networks.values())
                    watch.keep([self._links_here, self._rules_here, *self.tunnels.listeners, *networks])
                heard = await watch.heard(GLANCE_INTERVAL)
                try:
                    if self._rules_here in heard or loop.time() >= thorough_at:
                        await self.audit()
                        thorough_at = loop.time() + AUDIT_INTERVAL
                    elif heard:
                        await self.audit(firewall=False)
                    else:
                        await self._in_turn(self._in_thread(self._glance))
                except (StackyardError, OSError) as error:
                    log.warning("checking the node's networks failed, it is tried again: %s", error)
                await asyncio.sleep(AUDIT_PAUSE)
        finally:
            watch.keep(())

    async def apply(self, items: Iterable[Item], *, prune: bool = True) -> None:
        """Bring networks, rows of remote endpoints and published ports to what a full set of assignments says.

        Without `prune` nothing is taken away: for a set that may be older than what is wired. A network that cannot be
        wired does not keep the others from it; its error is raised at the end, and the next call tries it again.
        """
        await self._in_turn(self._in_thread(self._apply, tuple(items), prune))

    async def audit(self, *, firewall: bool = True) -> None:
        """Compare everything applied with the kernel and mend it, the host's own `firewall` included or not."""
        await self._in_turn(self._mend(firewall))

    async def _mend(self, firewall: bool) -> None:
        lost = await self._in_thread(self._audit, frozenset(self._busy), firewall)
        for task, missing in lost.items():
            log.warning("task %s has lost %s, making it again", task, " and ".join(wire.inner for wire in missing))
            await self._alone(task, partial(self._sandboxes.mend, task, missing))

    @property
    def trouble(self) -> str:
        """What a firewall of the host keeps from containers; "" where it lets all through."""
        return self._tables.firewall.trouble

    async def create_sandbox(
        self, task: str, endpoints: Collection[Endpoint], furnish: Callable[[], None] = lambda: None
    ) -> Path:
        """Make a task's namespace, completely wired, in place of any earlier one. Returns its path.

        `furnish` is called in a thread inside of it, when it has all but links that carry packets.
        """
        self._refuse(endpoints)
        laid = wires(task, endpoints, self._plan.overlays)
        await self._alone(task, partial(self._sandboxes.make, task, laid, furnish))
        return self.namespace(task)

    def _refuse(self, endpoints: Iterable[Endpoint]) -> None:
        for endpoint in endpoints:
            if problem := self._refused.get(endpoint.network):
                raise Failed(f"network {endpoint.network} cannot be wired on this node: {problem}")

    async def delete_sandbox(self, task: str) -> None:
        """Take a task's namespace away, and with it its addresses; no error if there is none."""
        await self._alone(task, partial(self._sandboxes.delete, task))

    async def attach(self, sandbox: str, pid: int, endpoints: Collection[Endpoint]) -> bool:
        """Wire the namespace that a process has of its own as it is to be; see `cluster.model.attachment.sandbox_of`.

        Tells whether it is another namespace than the sandbox was before. Raises NotFound when the process is gone.
        """
        self._refuse(endpoints)
        laid = wires_by_hand(sandbox, endpoints, self._plan.overlays)
        before = self._sandboxes.inode(sandbox)
        await self._alone(sandbox, partial(self._by_hand.attach, sandbox, pid, laid))
        return self._sandboxes.inode(sandbox) != before

    async def release(self, sandbox: str) -> None:
        """Take everything of ours out of a namespace that was attached; no error if there is none."""
        await self._alone(sandbox, partial(self._by_hand.release, sandbox))

    def attached(self) -> frozenset[str]:
        """Sandboxes that are containers' own namespaces, by the names that the kernel holds."""
        return self._sandboxes.attached()

    def sandboxes(self) -> frozenset[str]:
        """Tasks that have a namespace on this node, by the names that the kernel holds."""
        return self._sandboxes.here() - self.attached()

    def namespace(self, task: str) -> Path:
        return self._sandboxes.path(task)

    async def in_sandbox(self, task: str, work: Callable[[], T]) -> T:
        """Call something in a thread inside a task's namespace. Raises NotFound if the task has none."""
        return await self._in_thread(self._sandboxes.inside, task, work)

    def holds(self, task: str, opened: socket.socket) -> bool:
        """Tell whether a socket is inside of a task's namespace as that is now, not of an earlier one."""
        return self._sandboxes.inode(task) == namespace_of(opened)

    async def at_home(self, work: Callable[[], T]) -> T:
        """Call something in a thread in the node's own namespace."""
        return await self._in_thread(work)

    async def apart(self, work: Callable[[Netlink, int], T]) -> T:
        """Call something in a thread inside of a new namespace that has no name; see `Namespaces.nameless`.

        It gets a socket of the node's own namespace and a descriptor of the new one.
        """

        def inside() -> T:
            with self._namespaces.nameless() as fd:
                return work(self._home, fd)

        return await self._in_thread(inside)

    async def in_turn(self, work: Callable[[], T]) -> T:
        """Call something in a thread while nothing else opens or closes networks."""
        return await self._in_turn(self._in_thread(work))

    async def survey(self, tasks: Collection[str]) -> Survey:
        """Look at what the kernel holds; `tasks` are those that sandboxes are wanted or used for."""
        wanted = self._wanted or frozenset()
        look = partial(survey, self._home, self._namespaces, self._vtep)
        overlays = tuple(self._plan.overlays.values())
        return await self._in_turn(self._in_thread(look, overlays, wanted, tasks, self._mtu))

    async def verify(self, task: str) -> tuple[int, list[str]]:
        """See where the virtual addresses in a task's sandbox lead; see `Translation.verify`."""
        return await self._in_thread(self._translation.verify, task)

    async def link_container(self, container: str, task: str) -> None:
        """Tell the OCI runtime wrapper in which namespace to start a container."""
        link = self._links / container
        fresh = link.with_name(f".{container}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(self.namespace(task))
        fresh.replace(link)

    async def unlink_container(self, container: str) -> None:
        (self._links / container).unlink(missing_ok=True)

    async def clean(self, tasks: Collection[str], containers: Collection[str]) -> None:
        """Remove what nobody wants: sandboxes of other tasks, links of other containers, networks not applied last.

        Links of the node's own that are left of such networks go, too; nothing goes that is not known to be ours.

        Only for a caller who holds a full set.
        """
        for task in self.sandboxes().difference(tasks):
            log.info("removing the sandbox of task %s, which nobody wants", task)
            await self.delete_sandbox(task)
        for name in os.listdir(self._links):
            if name not in containers:
                await self.unlink_container(name)
        await self._in_turn(self._in_thread(self._clean_networks))

    async def _in_turn(self, job: Coroutine[None, None, T]) -> T:
        """Do what opens or closes networks alone: to its end, also when the caller is cancelled, the next only then."""

        async def alone() -> T:
            async with self._lock:
                return await job

        return await asyncio.shield(asyncio.ensure_future(alone()))

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._namespaces.pool, work, *args))

    async def _alone(self, task: str, work: Callable[[], None]) -> None:
        """Run a task's jobs one after another, also when the caller of an earlier one was cancelled."""
        while (earlier := self._busy.get(task)) is not None:
            await asyncio.wait([earlier])
        job = asyncio.get_running_loop().run_in_executor(self._namespaces.pool, work)
        self._busy[task] = job
        job.add_done_callback(lambda _: self._busy.pop(task, None))
        await asyncio.shield(job)

    def _apply(self, items: tuple[Item, ...], prune: bool) -> None:
        self._given = items
        wanted = plan(self._node, self._vtep, self._mtu, items, returns=self.keeps_source, ipv6=self._ipv6)
        self._wanted = frozenset({*wanted.overlays, *wanted.refused})
        done: dict[str, Overlay] = {}
        refused: list[StackyardError | OSError] = []
        self._refused = dict(wanted.refused)
        refused += [Failed(f"network {ident} cannot be wired: {why}") for ident, why in wanted.refused.items()]
        try:
            if wanted.encrypts:
                self.tunnels.apply(wanted.tunnels, self._mtu - in_tunnel(self._vtep), prune=prune)
        except (StackyardError, OSError) as error:
            log.error("the tunnels between nodes cannot be made or changed: %s", error)
            refused.append(error)
        for overlay in wanted.overlays.values():
            try:
                self._apply_overlay(overlay)
            except (StackyardError, OSError) as error:
                log.error("network %s cannot be wired: %s", overlay.network, error)
                refused.append(error)
                self._refused[overlay.network] = str(error)
            else:
                done[overlay.network] = overlay
        here = self._sandboxes.here() & wanted.sandboxes.keys()
        for task in here:
            self._sandboxes.laid.setdefault(task, wanted.sandboxes[task])
        self._plan = replace(wanted, overlays=done)
        self._guard(prune)
        self._lead_out(prune=prune)
        if prune:
            self._translation.want(wanted.services)
            self._sandboxes.adopt(here, self._busy)
        self._tables.publish(wanted.ports, prune=prune)
        if prune:  # only now, as nothing leads to those that go any more
            for overlay in done.values():
                self._networks[overlay.network].prune(overlay)
        if refused:
            raise refused[0]

    def _lead_out(self, *, prune: bool) -> None:
        self._tables.lead_out(self._plan.overlays.values(), tuple(self._managers()), self._plan.callers, prune=prune)

    def _under(self, overlay: Overlay) -> Callable[[], Netlink]:
        return self.tunnels.underlay if overlay.encrypted else lambda: self._home

    def _apply_overlay(self, overlay: Overlay) -> None:
        network = self._networks.get(overlay.network)
        held = self._plan.overlays.get(overlay.network)
        if network is None:
            network = self._networks[overlay.network] = Network(self._namespaces, self._under(overlay), overlay)
        elif held is None or held.shape != overlay.shape:
            network.audit(overlay, (), self._sandboxes.outer_names, prune=False)
        network.program(overlay)
        if overlay.node is not None and (held is None or held.node != overlay.node):
            wire_node(overlay.node, self._home, self._namespaces.home, network)

    def _guard(self, prune: bool) -> None:
        """Guard the ports of networks; those of one that an earlier process left only once all sandboxes are known."""
        here = tuple(self._sandboxes.laid.values())  # sandboxes come and go meanwhile
        for ident in self._plan.overlays:
            network = self._networks[ident]
            if prune and not network.guarded:
                network.guard(wire for laid in here for wire in laid if wire.network == ident)

    def _audit(self, busy: frozenset[str], firewall: bool) -> dict[str, tuple[Wire, ...]]:
        """Mend all that is the network's own; returns the links that sandboxes lack."""
        self._look_around()
        self.tunnels.mend()
        self._follow_underlay()
        there, overlays = self._sandboxes.here() - busy, self._plan.overlays
        laid = {task: wires for task, wires in tuple(self._sandboxes.laid.items()) if task in there}
        settled = {task: self._sandboxes.fit(task, wires, overlays) for task, wires in laid.items()}
        lost: set[Wire] = set()
        for overlay in self._plan.overlays.values():
            local = [wire for laid in settled.values() for wire in laid if wire.network == overlay.network]
            try:
                lost.update(self._audit_overlay(overlay, local))
            except (StackyardError, OSError) as error:
                log.error("network %s cannot be mended, it is tried again: %s", overlay.network, error)
        self._translation.audit()
        self._tables.audit(firewall=firewall)
        missing = {task: tuple(wire for wire in laid if wire in lost) for task, laid in settled.items()}
        return {task: wires for task, wires in missing.items() if wires}

    def _follow_underlay(self) -> None:
        """Take up another MTU of the link between nodes, in place: nothing that is connected is cut."""
        try:
            mtu = underlay_mtu(self._home, self._vtep)
        except Failed as error:
            log.warning("the MTU of networks stays: %s", error)
            return
        if mtu != self._mtu:
            log.info("packets between nodes have %d bytes now, not %d: networks follow", mtu, self._mtu)
            self._mtu = mtu
            self._apply(self._given, prune=False)

    def _look_around(self) -> None:
        self.elsewhere, self.listening = look_elsewhere(self._home), listening(self._sockets)

    def _glance(self) -> None:
        """Look at what the kernel tells nobody of: rules in sandboxes and networks, names of namespaces, routes."""
        self._look_around()
        self.tunnels.glance()
        self._translation.audit()
        if self._wanted is not None:
            self._lead_out(prune=False)  # managers come and go, too
        for overlay in tuple(self._plan.overlays.values()):
            network = self._networks[overlay.network]
            network.audit_guard()
            if self._namespaces.inode(network.name) != network.inode:
                self._audit_overlay(overlay, [])

    def _audit_overlay(self, overlay: Overlay, local: list[Wire]) -> list[Wire]:
        network = self._networks[overlay.network]
        if self._namespaces.inode(network.name) != network.inode:
            log.warning("network %s has lost its namespace, making it again", overlay.network)
            network.abandon()
            network = self._networks[overlay.network] = Network(self._namespaces, self._under(overlay), overlay)
        own = [] if overlay.node is None else [overlay.node]
        missing = network.audit(overlay, [*local, *own], self._sandboxes.outer_names)
        network.audit_guard()
        if overlay.node is not None:
            wire_node(overlay.node, self._home, self._namespaces.home, network)
        return [wire for wire in missing if wire not in own]

    def _clean_networks(self) -> None:
        if self._wanted is None:
            return
        for name in self._namespaces.names(NETWORKS):
            network = name.removeprefix(NETWORKS)
            if network in self._wanted:
                continue
            log.info("removing network %s, which nobody wants", network)
            held = self._networks.pop(network, None)
            if held is not None:
                held.close()
            remove_network(self._namespaces, name)
        if not any(overlay.encrypted for overlay in self._plan.overlays.values()):
            self.tunnels.remove()
        remove_stale_links(self._home, set(map(node_link, self._wanted)))
        if INGRESS not in self._wanted:
            self._tables.unpublish(node_link(INGRESS))
