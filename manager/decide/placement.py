"""From the tasks that a service needs to the steps that make them: a node and addresses each, or the reason to wait."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cluster.codec import key_for, key_of
from cluster.model.cluster import Claim
from cluster.model.network import Endpoint, Network
from cluster.model.node import Node
from cluster.model.service import NetworkAttachment, ServiceState
from cluster.model.stack import Stack
from cluster.model.task import Desired, Task, task_id
from cluster.model.volume import Volume
from cluster.protocol import HOLDS
from manager.decide import ahead, handover, moves, vips
from manager.decide.allocator import AddressAllocator, NoRoom, attachments
from manager.decide.filters import host_port_claim
from manager.decide.plan import Draft
from manager.decide.restarts import Successor
from manager.decide.scheduler import Scheduler
from manager.decide.slots import Opening, ServicePicture

WAITS = "waits until the task before it has ended"


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to be made, and the task whose place it takes.

    `replaced` is `replaces` as it is to be stored; None leaves it as it is, or drops one that never had a node.
    """

    opening: Opening
    successor: Successor
    replaces: Task | None = None
    replaced: Task | None = None


class Placement:
    """Binds the tasks of one service within one plan.

    `held` tells why none is bound now, "" when they may be. With `prepares` those that are bound are only made ready.
    """

    def __init__(self, picture: ServicePicture, draft: Draft, held: str, *, prepares: bool = False) -> None:
        self._picture, self._draft, self._held, self._prepares = picture, draft, held, prepares
        self._addresses = AddressAllocator(picture.state)
        self._networks: list[tuple[Network, NetworkAttachment]] | None = None
        self._network_problem = ""
        try:
            self._networks = attachments(picture.state, picture.head, picture.spec)
        except NoRoom as problem:
            self._network_problem = str(problem)
        self._network_ids = {network.id for network, _ in self._networks or ()}

    @functools.cached_property
    def _scheduler(self) -> Scheduler:
        """What counts all tasks; most decisions bind none."""
        picture = self._picture
        tasks = [task for slot in picture.slots for task in slot.tasks]
        update, has_image = picture.service.update, set[str]()
        if update is not None and update.state.at_work:
            has_image = ahead.holders(picture.state, tasks, picture.service.uid, picture.version)
        return Scheduler(picture.state, picture.head, picture.spec, tasks, picture.now, picture.version, has_image)

    @functools.cached_property
    def _rows(self) -> dict[int, tuple[Task, ...]]:
        return {slot.number: slot.tasks for slot in self._picture.slots}

    def has_other_networks(self, task: Task) -> bool:
        """Tell whether a task is in other networks than it should be; not while those are not all there."""
        if task.node is None or self._networks is None:
            return False
        return {endpoint.network for endpoint in task.endpoints} != self._network_ids

    def settle_virtual_addresses(self) -> None:
        if self._networks is not None:
            networks = [network for network, _ in self._networks]
            vips.settle(self._picture, self._draft, networks, self._addresses)

    def pinned_by(self, task: Task) -> str:
        """Give the volume that holds a task to its node, "" for none."""
        return "" if task.node is None else self._scheduler.holds(task.slot, task.node)

    def make(self, new: Sequence[NewTask], service: ServiceState) -> Iterator[None]:
        """Write as many new tasks as the plan takes; the service's record, with their number, goes with the first.

        Yields after each.
        """
        new, made = new[: self._draft.room], service.tasks_made
        service = dataclasses.replace(service, tasks_made=made + len(new))
        for n, one in enumerate(new, made + 1):
            task = Task(
                id=task_id(service.uid, one.opening.slot, n),
                stack_uid=service.stack_uid,
                service_uid=service.uid,
                slot=one.opening.slot,
                n=n,
                version=self._picture.version,
                created_at=self._picture.now,
                not_before=one.successor.not_before,
                failures=one.successor.failures,
                first_failure_at=one.successor.first_failure_at,
                reason=one.successor.reason,
                meant_for=one.opening.node,
            )
            self._bind(task, self._rows.get(one.opening.slot, ()), new=one, service=service if one is new[0] else None)
            yield

    def bind(self, task: Task) -> None:
        """Give a stored task that waits what it can have by now."""
        before = tuple(other for other in self._rows[task.slot] if other.n < task.n)
        self._bind(task, before, stored=task)

    def _bind(
        self,
        task: Task,
        before: Sequence[Task],
        *,
        stored: Task | None = None,
        new: NewTask | None = None,
        service: ServiceState | None = None,
    ) -> None:
        """Give a task its node and addresses if it can have them now, else the reason why it waits; write it."""
        if self._draft.full:
            return
        volumes: list[Volume] = []
        claims: list[Claim] = []
        full_name, stack = self._picture.service.full_name, self._picture.service.stack
        guards: list[str] = [key_for(Stack, stack), key_of(self._picture.service)]
        if self._picture.now < task.not_before:
            self._draft.wake(task.not_before)
        elif (waits := self.waits(before)) and not (waits == WAITS and self._can_be_made_ready(before)):
            task = dataclasses.replace(task, reason=waits)
        elif self._held:
            task = dataclasses.replace(task, reason=self._held)
        else:
            try:
                task, claims, names = self._place(dataclasses.replace(task, held=bool(waits) or self._prepares))
            except NoRoom as problem:
                # With the one before it gone there may be room.
                task = dataclasses.replace(task, reason=WAITS if waits else str(problem))
            else:
                assert task.node is not None
                volumes = self._scheduler.bindings(names, task.node, task.stack_uid, self._picture.now)
                guards += [key_for(Node, task.node), *(key_for(Volume, name) for name in names)]
                guards += [key_for(Network, endpoint.network) for endpoint in task.endpoints]
        if stored == task:
            return
        puts: list[ServiceState | Task | Volume | Claim] = [task, *volumes, *claims]
        deletes: list[str] = []
        if new is not None and new.replaced is not None:
            puts.append(new.replaced)
        elif new is not None and new.replaces is not None and new.replaces.node is None:
            deletes.append(key_of(new.replaces))
        if service is not None:
            puts.append(service)
        where = f"on {task.node}" if task.node else f"waiting: {task.reason}"
        self._draft.step(f"task {full_name}.{task.slot} {task.id} {where}", puts=puts, deletes=deletes, guards=guards)

    @functools.cached_property
    def _makes_ready(self) -> bool:
        """Tell whether tasks get their node, and are made ready there, while those before them have yet to end.

        Not where both would hold what only one can: a volume, a host port, an address of its choice.
        """
        state, spec = self._picture.state, self._picture.spec
        if spec.mode.is_job or spec.volume_names or spec.container.mac_address:
            return False
        if any(port.mode == "host" for port in spec.ports) or any(one.addresses for one in spec.networks):
            return False
        return all(state.sessions[node].version >= HOLDS for node in state.nodes if node in state.sessions)

    def _can_be_made_ready(self, before: Sequence[Task]) -> bool:
        """Tell whether nobody sends to those before it any more: to let go of them is the first work of the nodes."""
        if any(old.desired is Desired.RUNNING and old.leaving_at is None and old.node is not None for old in before):
            return False
        withdrawn = [old for old in before if old.desired is Desired.RUNNING and old.leaving_at is not None]
        state, now = self._picture.state, self._picture.now
        return self._makes_ready and not any(handover.wait_of(state, old, now).laggards for old in withdrawn)

    def waits(self, before: Sequence[Task]) -> str:
        """Tell why a task may not start because of those before it in its slot, "" when it may.

        They may run on, and do not yield. One on a node that is down may, too, for as long as its service wishes that.
        """
        picture, waits = self._picture, ""
        for node in self._may_run_on(before):
            if not picture.state.is_lost(node):
                waits = WAITS
                continue
            if node not in picture.state.nodes:
                continue
            at = moves.replace_at(picture, node)
            if at is not None and at <= picture.now:
                continue
            if at is not None:
                self._draft.wake(at)
            return f"waits for node {picture.state.nodes[node].name}, which is down (x-on-disconnect)"
        return waits

    def _may_run_on(self, before: Sequence[Task]) -> Iterator[str]:
        for old in before:
            if old.node is not None and not old.yields and not self._picture.state.has_ended(old):
                yield old.node

    def _place(self, task: Task) -> tuple[Task, list[Claim], tuple[str, ...]]:
        """Give a task its node and addresses; with it, its claims and volumes. Raises NoRoom."""
        if self._networks is None:
            raise NoRoom(self._network_problem)
        node = task.meant_for or self._scheduler.pick(task.slot)
        if task.meant_for:
            self._scheduler.pick_on(node)
        volumes = self._scheduler.volumes_of(task, node)
        endpoints: list[Endpoint] = []
        claims: list[Claim] = []
        for network, wish in self._networks:
            endpoint, claimed = self._addresses.endpoint(network, task.id, wish.aliases, wish.addresses)
            if not endpoints and self._picture.spec.container.mac_address:
                endpoint = dataclasses.replace(endpoint, mac_address=self._picture.spec.container.mac_address)
            endpoints.append(endpoint)
            claims += claimed
        claims += [host_port_claim(port, node, task.id) for port in self._picture.spec.ports if port.mode == "host"]
        return dataclasses.replace(task, node=node, endpoints=tuple(endpoints), reason=""), claims, volumes
