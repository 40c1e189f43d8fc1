"""What people do in a history: deploy, change, scale and remove stacks, drain nodes. Their writes get through."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cluster.codec import encode, key_of
from cluster.model.network import NetworkSpec
from cluster.model.node import Availability
from cluster.model.service import PortSpec, RestartCondition, RestartPolicy, ServiceSpec
from cluster.model.stack import StackSpec
from manager.etcd.records import put, unchanged
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
        self._write(self._networks(a_stack(name, *services)))

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
        match self.rng.randrange(4):
            case 0:
                service = dataclasses.replace(service, replicas=self.rng.randrange(5))
            case 1:
                image = f"app:{self.rng.randrange(9)}"
                service = dataclasses.replace(service, container=dataclasses.replace(service.container, image=image))
            case 2:
                service = dataclasses.replace(service, ports=self._ports())
            case 3:
                service = self._service(head.spec.name, key)
        services = {**head.spec.services, key: service}
        self._write(self._networks(a_stack(head.spec.name, *services.values())))

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
        node = self.rng.choice(sorted(self.world.truth.nodes.values(), key=lambda n: n.id))
        availability = self.rng.choice(list(Availability))
        self.world.tell(f"{node.name} is to {availability}")
        self._put(dataclasses.replace(node, availability=availability))

    def heal(self) -> None:
        for node in list(self.world.truth.nodes.values()):
            if node.availability is not Availability.ACTIVE:
                self._put(dataclasses.replace(node, availability=Availability.ACTIVE))

    def _put(self, *records: object) -> None:
        keys = [key_of(record) for record in records]  # type: ignore[arg-type]
        guards = [unchanged(key, self.world.truth.revision_of(key)) for key in keys]
        puts = [put(key, encode(r)) for key, r in zip(keys, records, strict=True)]  # type: ignore[arg-type]
        assert self.world.txn(guards, puts).succeeded

    def _write(self, spec: StackSpec) -> None:
        stack, revision = next_revision(self.world.truth, spec)
        asked = {s.name: (s.replicas, s.container.image, len(s.ports)) for s in spec.services.values()}
        self.world.tell(f"deploy {spec.name} revision {stack.head}: {asked}")
        self._put(stack, revision)

    def _service(self, stack: str, key: str) -> ServiceSpec:
        rng = self.rng
        constraints: tuple[str, ...] = ()
        if rng.random() < 0.2:
            constraints = (rng.choice(["node.hostname == n1", "node.hostname != n1", "node.labels.zone == 2"]),)
        networks = tuple(n for n in ("default", "back") if rng.random() < 0.6)
        return a_service(
            key,
            replicas=rng.randrange(4),
            image=f"app:{rng.randrange(9)}",
            networks=networks,
            ports=self._ports(),
            volumes=(f"{stack}_data",) if key == "db" and rng.random() < 0.8 else (),
            constraints=constraints,
            restart=rng.choice(POLICIES),
        )

    def _ports(self) -> tuple[PortSpec, ...]:
        return self.rng.choice([(), (), (PortSpec(80, 8080),), (PortSpec(80, 9090, mode="host"),)])

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
