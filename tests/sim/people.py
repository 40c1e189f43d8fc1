"""What people do in a history: deploy, change, scale and remove stacks, drain nodes. Their writes get through."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from cluster.codec import encode, key_for, key_of
from cluster.model.network import NetworkSpec
from cluster.model.node import Availability, Node
from cluster.model.rebalance import RebalanceWish
from cluster.model.service import (
    Dependency,
    FailureAction,
    OnDisconnect,
    PortSpec,
    Reservations,
    RestartCondition,
    RestartPolicy,
    ServiceMode,
    ServiceSpec,
    UpdateConfig,
)
from cluster.model.stack import StackSpec
from manager.etcd.records import delete, put, unchanged
from tests.manager.decide.builders import a_service, a_stack, next_revision

if TYPE_CHECKING:
    from tests.sim.world import World

POLICIES = (
    None,
    None,
    RestartPolicy(RestartCondition.ON_FAILURE),
    RestartPolicy(RestartCondition.NONE),
    RestartPolicy(max_attempts=2, window=60.0),
    RestartPolicy(delay=2.0),
)


MODES = (
    *[ServiceMode.REPLICATED] * 6,
    ServiceMode.GLOBAL,
    ServiceMode.GLOBAL,
    ServiceMode.REPLICATED_JOB,
    ServiceMode.REPLICATED_JOB,
    ServiceMode.GLOBAL_JOB,
)
Condition = Literal["service_started", "service_healthy", "service_completed_successfully"]
CONDITIONS: tuple[Condition, ...] = (
    "service_started",
    "service_healthy",
    "service_healthy",
    "service_completed_successfully",
)
RESERVATIONS = (
    Reservations(),
    Reservations(),
    Reservations(nano_cpus=500_000_000),
    Reservations(generic={"gpu": 1}),
)
BAD = "bad:"
"""How the images begin of which containers fail soon after they run."""

VOLUMES = ("_data", "_data-{{.Task.Slot}}", "_data-{{.Node.Hostname}}")
WISHES = (
    OnDisconnect(),
    OnDisconnect(),
    OnDisconnect(replace=False),
    OnDisconnect(replace=False, stop_after=10.0),
    OnDisconnect(replace_after=20.0),
    OnDisconnect(replace_after=40.0, stop_after=10.0),
    OnDisconnect(replace_after=40.0, stop_after=10.0),
)


UPDATES = (
    UpdateConfig(),
    UpdateConfig(monitor=20.0),
    UpdateConfig(parallelism=2, order="start-first"),
    UpdateConfig(parallelism=0, failure_action=FailureAction.CONTINUE),
    UpdateConfig(failure_action=FailureAction.ROLLBACK, delay=3.0),
    UpdateConfig(parallelism=2, failure_action=FailureAction.ROLLBACK, order="start-first", max_failure_ratio=0.3),
)


class People:
    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.rng

    def deploy(self) -> None:
        name = self.rng.choice(["a", "b"])
        stack = self.world.truth.stacks.get(name)
        if stack is not None and stack.removing:
            return
        services = [self._service(name, key) for key in ("web", "db", "job") if self.rng.random() < 0.6]
        self._write(self._networks(a_stack(name, *self._in_order(services))))

    def deploy_plain(self) -> None:
        """Deploy a stack that runs wherever there is a node at all."""
        stack = self.world.truth.stacks.get("c")
        if stack is None:
            self._write(a_stack("c", a_service("plain", replicas=4)))

    def change(self) -> None:
        """Change one thing in a stack that is there."""
        stacks = [s for s in self.world.truth.stacks.values() if not s.removing]
        if not stacks:
            return
        head = self.world.truth.head(self.rng.choice(stacks).uid)
        if head is None or not head.spec.services:
            return
        key = self.rng.choice(sorted(head.spec.services))
        service = head.spec.services[key]
        forced: tuple[str, ...] = ()
        match self.rng.randrange(6):
            case 0:
                service = dataclasses.replace(service, replicas=self.rng.randrange(5))
            case 1:
                image = f"app:{self.rng.randrange(9)}"
                service = dataclasses.replace(service, container=dataclasses.replace(service.container, image=image))
            case 2:
                service = dataclasses.replace(service, ports=self._ports())
            case 3:
                service = dataclasses.replace(self._service(head.spec.name, key), depends_on=service.depends_on)
            case 4:
                service = dataclasses.replace(service, max_concurrent=self.rng.choice([None, 1, 2]))
            case 5:
                forced = (key,)
        services = {**head.spec.services, key: service}
        self._write(self._networks(a_stack(head.spec.name, *services.values())), forced)

    def roll_out(self) -> None:
        """Give a service a new image, now and then one that does not run for long, and nothing else."""
        found = [(spec, one) for spec in self._specs() for one in spec.services.values() if one.replicas > 1]
        if found:
            spec, service = self.rng.choice(found)
            name = BAD if self.rng.random() < 0.3 else "app:"
            services = {**spec.services, service.name: _with_image(service, f"{name}{self.rng.randrange(10, 99)}")}
            self._write(dataclasses.replace(spec, services=services), atomic=self.rng.random() < 0.2)

    def place(self) -> None:
        """Have a service run elsewhere, and change nothing else of it."""
        found = [(spec, one) for spec in self._specs() for one in spec.services.values() if one.replicas > 1]
        if found:
            spec, service = self.rng.choice(found)
            placed = dataclasses.replace(
                service,
                constraints=self.rng.choice([(), ("node.hostname != n1",), ("node.hostname != n2",)]),
                max_replicas_per_node=self.rng.choice([0, 0, 2]),
            )
            self._write(dataclasses.replace(spec, services={**spec.services, service.name: placed}))

    def _specs(self) -> list[StackSpec]:
        """Give what people want now."""
        stacks = sorted((s for s in self.world.truth.stacks.values() if not s.removing), key=lambda s: s.name)
        return [head.spec for stack in stacks if (head := self.world.truth.head(stack.uid)) is not None]

    def roll_back(self) -> None:
        """Make a stack what one of its revisions was."""
        stacks = sorted((s for s in self.world.truth.stacks.values() if not s.removing), key=lambda s: s.name)
        if stacks:
            known = self.world.truth.revisions[self.rng.choice(stacks).uid]
            revision = known[self.rng.choice(sorted(known))]
            self.world.tell(f"{revision.spec.name} goes back to {revision.n}")
            self._write(revision.spec, back=tuple(revision.services), atomic=self.rng.random() < 0.3)

    def remove(self) -> None:
        stacks = sorted((s for s in self.world.truth.stacks.values() if not s.removing), key=lambda s: s.name)
        if stacks:
            stack = self.rng.choice(stacks)
            removing = dataclasses.replace(stack, removing=True, remove_volumes=self.rng.random() < 0.5)
            self.world.tell(f"remove {stack.name}")
            self._put(removing)

    def remove_all(self) -> None:
        while any(not stack.removing for stack in self.world.truth.stacks.values()):
            self.remove()

    def drain(self) -> None:
        node = self._node()
        availability = self.rng.choice([Availability.DRAIN, *Availability])
        until = self.world.time + self.rng.choice([0.0, 5.0, 600.0]) if availability is Availability.DRAIN else None
        self.world.tell(f"{node.name} is to {availability}")
        self._put(dataclasses.replace(node, availability=availability, drain_until=self.rng.choice([until, None])))

    def drain_any(self) -> str:
        """Drain a node for as long as it takes, and tell which."""
        node = self._node()
        self.world.tell(f"{node.name} is drained")
        self._put(dataclasses.replace(node, availability=Availability.DRAIN, drain_until=None))
        return node.id

    def activate(self, ident: str) -> None:
        node = self.world.truth.nodes.get(ident)
        if node is not None:
            self.world.tell(f"{node.name} takes tasks again")
            self._put(dataclasses.replace(node, availability=Availability.ACTIVE, drain_until=None))

    def rebalance_now(self) -> None:
        self._put(RebalanceWish(f"w{self.rng.randrange(10**6)}", self.world.time, max_unavailable=2))

    def rebalance(self) -> None:
        """Ask for a better spread, now or from now on after nodes came."""
        wish = RebalanceWish(
            self.rng.choice(["", f"w{self.rng.randrange(10**6)}"]),
            self.world.time,
            include_single=self.rng.random() < 0.5,
            max_unavailable=self.rng.choice([1, 3]),
            automatic_after=self.rng.choice([None, 5.0, 5.0]),
        )
        self.world.tell(f"rebalance: {wish}")
        self._put(wish)

    def label(self) -> None:
        node = self._node()
        zone = self.rng.choice(["1", "2"])
        self.world.tell(f"{node.name} is in zone {zone}")
        self._put(dataclasses.replace(node, labels={"zone": zone}))

    def take_out(self) -> None:
        """A host that lost power is taken out of the cluster, and never comes back."""
        gone = [agent for agent in self.world.agents if not agent.host_up]
        if gone and len(self.world.agents) > 1:
            agent = self.rng.choice(gone)
            self.world.tell(f"{agent.name} is taken out")
            self.world.agents.remove(agent)
            assert self.world.txn((), [delete(key_for(Node, agent.node))]).succeeded

    def _node(self) -> Node:
        return self.rng.choice(sorted(self.world.truth.nodes.values(), key=lambda n: n.id))

    def heal(self) -> None:
        for node in list(self.world.truth.nodes.values()):
            if node.availability is not Availability.ACTIVE:
                self._put(dataclasses.replace(node, availability=Availability.ACTIVE, drain_until=None))
        for spec in self._specs():
            services = {
                key: _with_image(service, "app:mended") if service.container.image.startswith(BAD) else service
                for key, service in spec.services.items()
            }
            if services != spec.services:
                self._write(dataclasses.replace(spec, services=services))

    def _put(self, *records: object) -> None:
        keys = [key_of(record) for record in records]  # type: ignore[arg-type]
        guards = [unchanged(key, self.world.truth.revision_of(key)) for key in keys]
        puts = [put(key, encode(r)) for key, r in zip(keys, records, strict=True)]  # type: ignore[arg-type]
        assert self.world.txn(guards, puts).succeeded

    def _write(
        self, spec: StackSpec, forced: tuple[str, ...] = (), back: tuple[str, ...] = (), *, atomic: bool = False
    ) -> None:
        stack, revision = next_revision(self.world.truth, spec, forced, back)
        revision = dataclasses.replace(revision, atomic=atomic)
        asked = {
            s.name: (str(s.mode), s.replicas, s.container.image, len(s.ports), sorted(s.depends_on))
            for s in spec.services.values()
        }
        self.world.tell(f"deploy {spec.name} revision {stack.head}: {asked} forced {forced}")
        self._put(stack, revision)

    def _in_order(self, services: list[ServiceSpec]) -> list[ServiceSpec]:
        """Have some services wait for others, never in a circle."""
        found: list[ServiceSpec] = []
        for service in services:
            on = {
                other.name: Dependency(self._condition(other), self.rng.random() < 0.3, self.rng.random() < 0.8)
                for other in found
                if self.rng.random() < 0.3
            }
            if self.rng.random() < 0.1:
                on["nobody"] = Dependency(required=False)
            found.append(dataclasses.replace(service, depends_on=on))
        return found

    def _condition(self, other: ServiceSpec) -> Condition:
        return "service_completed_successfully" if other.mode.is_job else self.rng.choice(CONDITIONS)

    def _service(self, stack: str, key: str) -> ServiceSpec:
        rng = self.rng
        if rng.random() < 0.4:  # one that is updated without obstacles
            plain = a_service(key, replicas=rng.randrange(1, 5), image=f"app:{rng.randrange(9)}", networks=("default",))
            return dataclasses.replace(
                plain, update=rng.choice(UPDATES), rollback=rng.choice(UPDATES), on_disconnect=rng.choice(WISHES)
            )
        constraints: tuple[str, ...] = ()
        if rng.random() < 0.2:
            constraints = (rng.choice(["node.hostname == n1", "node.hostname != n1", "node.labels.zone == 2"]),)
        networks = tuple(n for n in ("default", "back") if rng.random() < 0.6)
        service = a_service(
            key,
            replicas=rng.randrange(4),
            image=f"app:{rng.randrange(9)}",
            networks=networks,
            ports=self._ports(),
            volumes=(stack + rng.choice(VOLUMES),) if key == "db" and rng.random() < 0.8 else (),
            constraints=constraints,
            restart=rng.choice(POLICIES),
            mode=rng.choice(MODES),
            max_concurrent=rng.choice([None, None, 1, 2]),
        )
        return dataclasses.replace(
            service,
            spread=rng.choice([(), ("node.labels.zone",)]),
            max_replicas_per_node=rng.choice([0, 0, 0, 1, 2]),
            reservations=rng.choice(RESERVATIONS),
            on_disconnect=rng.choice(WISHES),
            update=rng.choice(UPDATES),
            rollback=rng.choice(UPDATES),
        )

    def _ports(self) -> tuple[PortSpec, ...]:
        return self.rng.choice([(), (PortSpec(80, 0),), (PortSpec(80, 8080),), (PortSpec(80, 9090, mode="host"),)])

    def _networks(self, spec: StackSpec) -> StackSpec:
        """Now and then a network asks for a subnet, or is another stack's."""
        networks = dict(spec.networks)
        if "back" in networks:
            match self.rng.randrange(6):
                case 0:
                    networks["back"] = NetworkSpec("back", f"{spec.name}_back", subnets=("10.200.0.0/28",))
                case 1 if spec.name == "b":
                    networks["back"] = NetworkSpec("back", "a_back", external=True)
        return dataclasses.replace(spec, networks=networks)


def _with_image(service: ServiceSpec, image: str) -> ServiceSpec:
    return dataclasses.replace(service, container=dataclasses.replace(service.container, image=image))
