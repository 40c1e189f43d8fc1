"""Rounds of chaos: blows while clients work, healing, convergence, and the judgement of all that happened."""

from __future__ import annotations

import base64
import random
import subprocess
import time
from collections.abc import Callable, Iterator

from cli.client import Client
from cli.client.contexts import Context
from cli.lab import Lab
from cluster import compose, views
from cluster.codec import SEALED_PREFIX
from cluster.errors import Failed, Unavailable
from cluster.model.node import NodeStatus
from cluster.model.task import Desired, TaskState
from cluster.model.update import UpdateState
from tests.chaos import calm
from tests.chaos.blows import Blow, Hammer, chosen, struck
from tests.chaos.history import contradictions
from tests.chaos.people import SECRET, STACKS, People
from tests.chaos.replay import Replay
from tests.patience import PATIENCE

NODES = ("n1", "n2", "n3")
AGENT_AWAY = 15.0
"""Seconds that an agent may be away before its tasks may be replaced: half of its grace, for on a busy machine it takes
its time to come back."""

EACH = 0.5


class Broken(Exception):
    """Something that must hold does not; the message lists it all."""


class Chaos:
    """A lab under blows. Made once; `round` as often as one likes."""

    def __init__(self, lab: Lab, seed: int, say: Callable[[str], None]) -> None:
        self._lab, self._say = lab, say
        self._rng = random.Random(seed)
        self._hammer = Hammer(lab)
        self._context = Context()
        self._rounds = 0

    def begin(self, context: Context) -> None:
        """Take over a lab that is up: `context` is how clients reach it."""
        self._context = context
        self._hammer.prepare()
        self._replay = Replay([f"http://{self._lab.layout.node(node).address}:2379" for node in NODES])
        self._eventually(self._ready, "all nodes are ready")
        with Client(context) as client:
            client.deploy(compose.load(["c.yml"], {}, lambda _: calm.FILE.encode(), project_name=calm.STACK))
        self._replay.catch_up()
        self.people = People(self._rng, context)
        self._eventually(self._converged, "the cluster has converged at the beginning")

    def round(self) -> None:
        """Strike, heal, wait for convergence, and judge. Raises Broken."""
        self._rounds += 1
        blows = chosen(self._rng, NODES)
        self._say(f"round {self._rounds}: {'; '.join(map(str, blows))}")
        before = self._containers()
        with self.people.at_work():
            struck(self._hammer, blows)
        self._eventually(self._ready, "all nodes are ready")
        self._eventually(self._converged, "the cluster has converged")
        self._judge(before, self._containers(), blows)
        account = self.people.account
        self._say(
            f"  holds: {len(account.writes)} writes, {len(account.reads)} reads so far, "
            f"{len(self._replay.stored)} revisions, etcd at {self._replay.revision}"
        )

    def leaks(self) -> list[str]:
        """Give the files with a secret in them, as it is or as it is sent: of all that hosts have on their disks.

        So in etcd's, the agents' and the engines' data, and in the logs of all programs.
        """
        sent = base64.b64encode(SECRET.encode())[:8].decode()
        if not self._files_with(SEALED_PREFIX):
            raise RuntimeError(f"not even etcd's files have {SEALED_PREFIX} in them: they were not searched")
        return self._files_with(f"{SECRET}|{sent}")

    def _files_with(self, pattern: str) -> list[str]:
        search = ["grep", "-rlaE", "--devices=skip", pattern, str(self._lab.layout.data_dir)]
        return subprocess.run(search, capture_output=True, text=True, check=False).stdout.splitlines()

    def _judge(
        self, before: dict[str, list[calm.Container]], after: dict[str, list[calm.Container]], blows: list[Blow]
    ) -> None:
        self._replay.catch_up()
        account = self.people.account
        found = [
            *self._replay.faults,
            *account.odd,
            *contradictions(
                account.writes, account.reads, [one for one in self._replay.stored if one.stack != calm.STACK]
            ),
            *calm.disturbed(before, after, calm.with_cause(blows, AGENT_AWAY)),
            *self._secrets(after),
        ]
        if found:
            raise Broken("\n".join(found))

    def _containers(self) -> dict[str, list[calm.Container]]:
        return {node: calm.running(self._lab, node) for node in NODES}

    def _secrets(self, after: dict[str, list[calm.Container]]) -> Iterator[str]:
        """Each container has the secret that its stack's newest revision is about."""
        wanted = {}
        for one in self._replay.stored:
            if one.mark in self.people.account.secrets:
                wanted[one.stack] = self.people.account.secrets[one.mark]
        for node, containers in after.items():
            for container in containers:
                if container.stack in STACKS:
                    seen = self._inside(node, container.ident, "cat", "/run/secrets/key")
                    if seen != wanted[container.stack]:
                        yield f"{container} on {node} has the secret {seen!r}, not {wanted[container.stack]!r}"

    def _inside(self, node: str, container: str, *command: str) -> str:
        docker = ["docker", "-H", f"unix://{self._lab.engine_socket(node)}", "exec", container, *command]
        return subprocess.run(docker, capture_output=True, text=True, check=False, timeout=PATIENCE).stdout

    def _ready(self) -> str:
        """What is not yet ready, "" when all is."""
        with Client(self._context) as client:
            nodes = client.nodes()
            managers = {manager.name for manager in client.cluster().managers}
        troubles = [f"{n.name}: {n.status} {n.reason} {n.conditions or ''}" for n in nodes if _troubled(n)]
        troubles += [f"no manager on {name}" for name in NODES if name not in managers]
        return "; ".join(troubles)

    def _converged(self) -> str:
        """What is not yet as it was asked for, "" when all is: for the managers, and on the nodes."""
        self._replay.catch_up()
        newest = {one.stack: one.n for one in self._replay.stored}
        with Client(self._context) as client:
            # another manager than the one that took the last write may not have seen it yet
            if late := [stack for stack, n in newest.items() if client.revision(stack).n != n]:
                return f"the manager that was asked has yet to see the newest of {late}"
            wanted = 0
            for service in client.services():
                wanted += service.wanted
                if service.running != service.wanted or service.updated != service.wanted or _updating(service):
                    return f"{service.name}: {service.running} of {service.wanted} run, {service.updated} as asked for"
            listed = client.tasks()
        if ending := [task.name for task in listed if task.desired is not Desired.RUNNING and not task.state.terminal]:
            return f"{ending} have yet to end"
        tasks = [task for task in listed if task.desired is Desired.RUNNING]
        if len(tasks) > wanted:
            return f"{len(tasks) - wanted} of the tasks finish what they are about, and end then"
        if waiting := [task.name for task in tasks if task.state is not TaskState.RUNNING]:
            return f"{waiting} do not run"
        bound = {(task.node, task.id) for task in tasks}
        there = {(node, container.task) for node in NODES for container in calm.running(self._lab, node)}
        return "" if bound == there else f"tasks without container {bound - there}, and otherwise {there - bound}"

    def _eventually(self, what: Callable[[], str], why: str) -> None:
        end = time.monotonic() + 2 * PATIENCE
        while True:
            try:
                missing = what()
            except (Unavailable, Failed, OSError) as error:
                missing = str(error)
            if not missing:
                return
            if time.monotonic() > end:
                raise Broken(f"not within {2 * PATIENCE:.0f} s: {why}: {missing}")
            time.sleep(EACH)


def _troubled(node: views.NodeView) -> bool:
    """Tell whether a node is not as it was. What agents find out about the network at leisure is left out."""
    return node.status is not NodeStatus.READY or "engine" in node.conditions


def _updating(service: views.ServiceView) -> bool:
    return service.update is not None and service.update.state is UpdateState.UPDATING
