"""Keeps the table of virtual addresses and of the way to the resolver in every sandbox of this node.

It blocks, and is safe to be called from several threads.

A sandbox's netlink socket, opened inside it once, carries its rules and its tracked flows. It also keeps the kernel
from ending the namespace, so it has to be closed when the sandbox goes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from agent.network import lookups, nftmessages, returns, vips
from agent.network.conntrack import Lost, end_stale, flows_tracked
from agent.network.netlink import Request
from agent.network.netlink_socket import Netlink, NetlinkError
from agent.network.plan import Wire
from agent.network.vips import Services, Table
from cluster.errors import StackyardError

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Door:
    """One sandbox: its networks, what was programmed (None: nothing, by this process), and the kernel's count then.

    In a `bare` one nothing is translated, and so no connection tracked: its table leads look-ups to the resolver only.
    `lost` is what flows are yet to be ended for.
    """

    socket: Netlink
    wires: tuple[Wire, ...]
    networks: tuple[str, ...]
    held: Table | None = None
    bare: bool = False
    generation: int = 0
    lost: Lost = field(default_factory=Lost)


class Translation:
    """The tables of all sandboxes, by task."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._doors: dict[str, _Door] = {}
        self._services: Mapping[str, Services] = {}
        self._tables: dict[tuple[str, ...], Table] = {}
        self._steps: dict[tuple[Table, Table], tuple[tuple[Request, ...], Table]] = {}

    def open(self, task: str, wires: Iterable[Wire], socket: Netlink) -> None:
        """Take over a sandbox by a netfilter socket from inside of it, and program it."""
        with self._lock:
            self._close(task)
            wires = tuple(wires)
            door = self._doors[task] = _Door(socket, wires, tuple(sorted(wire.network for wire in wires)))
            self._program(door)

    def close(self, task: str) -> None:
        """Let go of a sandbox; no error if it is not known."""
        with self._lock:
            self._close(task)

    def close_all(self) -> None:
        """Let go of all sandboxes, and leave what the next agent may need."""
        with self._lock:
            for task, door in tuple(self._doors.items()):
                self._hand_over(task, door)
                self._close(task)

    def unknown(self, tasks: Collection[str]) -> list[str]:
        """Name those of the tasks whose sandbox is not open here."""
        return [task for task in tasks if task not in self._doors]

    def want(self, services: Mapping[str, Services]) -> None:
        """Bring all sandboxes to what is wanted, by network. Raises the first refusal after all have been tried."""
        with self._lock:
            before, self._services = self._services, services
            self._tables.clear()
            self._steps.clear()
            lost = {n: gone for n, held in before.items() if (gone := _lost(held, services.get(n, Services())))}
            refused: list[StackyardError | OSError] = []
            for task, door in self._doors.items():
                for network in lost.keys() & door.networks:
                    door.lost.add(lost[network])
                try:
                    self._program(door)
                    if door.lost:
                        self._end_flows(door)
                except (StackyardError, OSError) as error:
                    log.error("the virtual addresses in the sandbox of task %s: %s", task, error)
                    refused.append(error)
            if refused:
                raise refused[0]

    def audit(self) -> None:
        """Load the tables again of sandboxes whose rules somebody else has touched."""
        with self._lock:
            for task, door in self._doors.items():
                if door.held is None or _generation(door.socket) == door.generation:
                    continue
                log.warning("the nftables rules of task %s were changed by someone else, loading ours again", task)
                door.held = None
                self._program(door, anew=True)

    def verify(self, task: str) -> tuple[int, list[str]]:
        """Compare the table of a sandbox with what is wanted, element by element, and load it again if it differs.

        Returns how many virtual addresses it has, and those that led elsewhere than they should.
        """
        with self._lock:
            door = self._doors.get(task)
            if door is None or door.held is None or door.bare:
                return 0, []
            wanted = vips.elements(self._table(door.networks).vips.values())
            try:
                there = vips.listed(door.socket.dump)
            except NetlinkError:
                there = {}  # the table, or a map of it, is gone
            differing = {place for place in wanted.keys() | there.keys() if wanted.get(place) != there.get(place)}
            if differing:
                door.held = None
                self._program(door, anew=True)
            return len(vips.addresses(wanted)), sorted(vips.addresses(differing))

    def _hand_over(self, task: str, door: _Door) -> None:
        batch = () if door.held is None or door.bare else vips.handover(door.held)
        if not batch:
            return
        try:
            door.socket.transact(batch)
        except (StackyardError, OSError) as error:
            log.warning("task %s may lose connections if an older agent takes over: %s", task, error)

    def _close(self, task: str) -> None:
        door = self._doors.pop(task, None)
        if door is not None:
            door.socket.close()

    def _program(self, door: _Door, *, anew: bool = False) -> None:
        wanted = self._table(door.networks)
        if door.held is None or (door.bare and wanted.vips):
            gate = next((wire for wire in door.wires if wire.gate), None)
            door.bare = not wanted.vips and gate is None
            if door.bare:
                self._load(door, lambda: lookups.whole(vips.TABLE), wanted)
            else:
                answers = returns.rules(vips.TABLE, gate, door.wires) if gate is not None else ()
                besides = (*lookups.rules(vips.TABLE), *answers)
                try:
                    self._load(door, lambda: vips.whole(wanted, besides, anew=anew), wanted)
                except NetlinkError as error:
                    if anew:
                        raise
                    log.info("the table of a sandbox cannot be changed in place, making it anew: %s", error)
                    self._load(door, lambda: vips.whole(wanted, besides, anew=True), wanted)
        elif door.held is not wanted and not door.bare:
            batch, kept = self._step(door.held, wanted)
            self._load(door, lambda: batch, kept)

    def _load(self, door: _Door, requests: Callable[[], tuple[Request, ...]], then: Table) -> None:
        batch = requests()
        if batch:
            # Should it be refused, the next time begins from nothing.
            before, door.held = door.held, None
            door.socket.transact(batch)
            generation = _generation(door.socket)
            expected = door.generation + 1
            # Another number than that says that somebody else was at it as well: the audit will see to it.
            door.generation = generation if before is None else expected
        door.held = then

    def _step(self, held: Table, wanted: Table) -> tuple[tuple[Request, ...], Table]:
        """Give what leads from one table to the other, and what is held then: the same in many sandboxes."""
        if (held, wanted) not in self._steps:
            # Chains that are no longer used stay.
            kept = wanted if held.chains <= wanted.chains else Table(wanted.vips, held.chains | wanted.chains)
            self._steps[held, wanted] = vips.changes(held, wanted), kept
        return self._steps[held, wanted]

    def _table(self, networks: tuple[str, ...]) -> Table:
        if networks not in self._tables:
            services = (self._services.get(network, Services()) for network in networks)
            self._tables[networks] = vips.table(vip for each in services for vip in each.vips)
        return self._tables[networks]

    def _end_flows(self, door: _Door) -> None:
        """End what leads where no virtual address leads any more: UDP at once, TCP when the endpoint is gone."""
        if door.held is not None and flows_tracked(door.socket):
            services = (self._services.get(network, Services()) for network in door.networks)
            leads = {vip.address: vip.endpoints for each in services for vip in each.vips}
            ended = end_stale(door.socket, leads, door.lost)
            if ended:
                log.info("%d flows to endpoints that have left were ended", ended)
        door.lost = Lost()


def _lost(held: Services, wanted: Services) -> Lost:
    leads = {vip.address: vip.endpoints for vip in wanted.vips}
    fewer = {vip.address for vip in held.vips if not set(vip.endpoints) <= set(leads.get(vip.address, ()))}
    return Lost(fewer, set(held.present - wanted.present))


def _generation(socket: Netlink) -> int:
    return nftmessages.read_generation(socket.ask(nftmessages.get_generation()))
