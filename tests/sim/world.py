"""The world of a history: time, etcd, managers, hosts, people; and what must hold in it after every step.

After every step, in the true state of etcd:

 1. `manager.invariants.broken` finds nothing: no address, subnet, VXLAN id or host port twice or unclaimed, no claim
    without owner, one wanted task per slot, tasks with their service and revision, volumes where their tasks are;
 2. no record went back: states and desired states only grow, a task keeps its node and addresses, epochs only grow;
 3. no two leaders: whatever was written with a fence was written by the one whose key is the oldest;
 4. a node is called down only after its agent has not been heard of for long enough, and a task is made for the newest
    spec of its service and given to a node that takes tasks, as these are at that very revision.

And on the hosts:

 5. every sandbox that exists has its addresses claimed for its task, so nothing was freed early (unless the task was
    given up: its node has been down for a day, or is down when its service is removed);
 6. no two containers use one local volume from different nodes, or for one slot at the same time;
 7. a task that ended is never run again;
 8. a volume that was to be removed is forgotten only when its data is gone;
 9. where a service wishes that its tasks are not replaced, or replaced well after their node has stopped them, no slot
    runs twice (`outofreach`).

Of services, `rules` says more.

When all is healed, within ROUNDS rounds: each service has its replicas, each ready, at rest by its policy, or waiting
with a reason (`settled`); the containers that run are exactly those; asking every question again changes nothing. When
then all stacks are removed, nothing of them is left: no container, and no key but those of the cluster and its nodes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from cluster.codec import PREFIX, encode, key_of
from cluster.model.cluster import ClockMark, Cluster
from cluster.model.node import Availability, Node, NodeState, NodeStatus, Session, SessionState
from cluster.model.task import Task, TaskState, TaskStatus
from cluster.model.volume import Volume
from cluster.protocol import HOLDS, VERSION
from manager.decide.plan import Step
from manager.decide.volumes import volumes_of
from manager.etcd.records import Compare, Operation, Put, TxnResult
from manager.invariants import backwards, broken
from manager.leader import Leader
from manager.picture import Change, ClusterState, Event
from manager.roster import needs_of
from tests.sim.agent import Agent, Container
from tests.sim.manager import ELECTION, Manager
from tests.sim.outofreach import runs_twice
from tests.sim.people import BAD, People
from tests.sim.rules import RULES
from tests.sim.seen import Seen
from tests.sim.settled import unsettled
from tests.sim.store import Store

ROUNDS = 250
KEPT = ("cluster", "clock", "node", "nodestate", "session", "manager", "volume", "rebalance", "rebalancewish")
"""The kinds of records that are not a stack's."""

EPOCH = 1_700_000_000.0


def completes(truth: ClusterState, task: Task) -> bool:
    """Tell whether a task is there to complete: a job's, or one whose completion others wait for."""
    service, head = truth.services.get(task.service_uid), truth.head(task.stack_uid)
    spec = None if head is None or service is None else head.spec.services.get(service.name)
    if head is None or spec is None:
        return False
    waits = (other.depends_on.get(spec.name) for other in head.spec.services.values())
    return spec.mode.is_job or any(w is not None and w.condition == "service_completed_successfully" for w in waits)


class Broken(AssertionError):
    """The history led to something that must not be."""


class World:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.time = EPOCH
        self.trouble = self.rng.choice([0.0, 0.05, 0.2])
        self.store = Store()
        self.truth = ClusterState()
        self.story: list[str] = []
        self.leases: set[int] = set()
        self.late: list[tuple[Sequence[Compare], Sequence[Operation]]] = []
        self.unheard_since: dict[str, float] = {}
        self.orphaned: set[str] = set()
        self.steps = 0
        self.ended: set[str] = set()
        self.steady = True
        """No clock has been far from the others in this history."""
        self.managers: list[Manager] = []
        self.seen = Seen(self)
        self.rules = [*(make(self) for make in RULES), self.seen]
        self._made = 0
        small = self.rng.random() < 0.25
        pool = {"address_pool": "10.128.0.0/26", "subnet_prefix": 29} if small else {}
        self.write(Cluster("c1", EPOCH, version=VERSION, **pool))  # type: ignore[arg-type]
        self.agents = [Agent(f"id-n{i}", f"n{i}") for i in range(1, self.rng.randint(2, 5))]
        older = self.rng.random() < 0.15
        for agent in self.agents:
            agent.last_beat = self.time
            agent.version = HOLDS - 1 if older and self.rng.random() < 0.5 else VERSION
            self.write(Node(agent.node, agent.name, "worker", EPOCH, {"zone": agent.name[-1]}))
        for _ in range(self.rng.randint(1, 3)):
            self.start_manager()
        self.people = People(self)

    def tell(self, what: str) -> None:
        self.story.append(f"{self.time - EPOCH:8.1f} r{self.store.revision}: {what}")

    # etcd

    def write(self, *records: object) -> None:
        self.txn((), [Put(key_of(r), encode(r)) for r in records])  # type: ignore[arg-type]

    def txn(self, compares: Sequence[Compare], operations: Sequence[Operation]) -> TxnResult:
        result = self.store.txn(compares, operations)
        if result.succeeded:
            self._check_fence(compares)
        self._look()
        return result

    def unreliable_txn(
        self, compares: Sequence[Compare], operations: Sequence[Operation], rng: random.Random
    ) -> TxnResult | None:
        """None: the outcome is not known. The request was lost, or its answer, or it comes late."""
        chance = rng.random() / max(self.trouble, 1e-9)
        if chance < 0.15:
            self.tell("  a request is lost")
            return None
        if chance < 0.3:
            self.tell("  a request is late")
            self.late.append((compares, operations))
            return None
        result = self.txn(compares, operations)
        if chance < 0.45:
            self.tell(f"  an answer is lost ({result.succeeded})")
            return None
        return result

    def arrive(self, which: int) -> bool:
        """Let a late request arrive. etcd refuses to put anything on a lease that has run out."""
        compares, operations = self.late.pop(which)
        known = all(op.lease in {0, *self.leases} for op in operations if isinstance(op, Put))
        return known and self.txn(compares, operations).succeeded

    def expire(self, lease: int) -> None:
        self.leases.discard(lease)
        self.store.expire(lease)
        self._look()

    def _check_fence(self, compares: Sequence[Compare]) -> None:
        fences = [compare for compare in compares if compare.key.startswith(ELECTION) and compare.operand]
        if fences:
            oldest = min(self.store.listing(ELECTION), key=lambda item: item.create_revision)
            self.hold(oldest.key == fences[0].key, f"{fences[0].key} wrote, but {oldest.key} leads")

    def _look(self) -> None:
        """Let the true state follow etcd, and check every revision of it."""
        for revision, events in self.store.since(self.truth.revision):
            ours = [
                Event(e.key, e.current.value if e.current else None, revision)
                for e in events
                if e.key.startswith(PREFIX)
            ]
            changes = self.truth.apply(ours, revision)
            for change in changes:
                self._check_change(change)
            if any(not isinstance(change.new, ClockMark) for change in changes):
                self.hold(not (found := broken(self.truth)), f"{found}")
                self._note_silence()

    # What must hold

    def hold(self, condition: bool, what: str) -> None:
        if not condition:
            raise Broken(what)

    def _check_change(self, change: Change) -> None:
        self.hold(not (wrong := backwards(change)), wrong)
        for rule in self.rules:
            rule.note(change)
        match change.old, change.new:
            case (Session() as old, Session() as new):
                self.hold(new.epoch >= old.epoch, f"the epoch of {new.node} went back")
            case (NodeState() as old, NodeState() as new):
                if new.status is NodeStatus.DOWN and old.status is not NodeStatus.DOWN:
                    self._check_down(new.node)
            case (Task() | None as old, Task() as new):
                self._check_task(old, new)
            case (Volume(removing=True) as old, None):
                kept = any(agent.node == old.node and old.name in agent.volumes for agent in self.agents)
                self.hold(not kept, f"volume {old.name} is forgotten, and still there")
        if isinstance(change.new, TaskStatus) and change.new.state.terminal:
            self.ended.add(change.new.task)
            if change.new.state is TaskState.ORPHANED and change.new.task not in self.orphaned:
                self.orphaned.add(change.new.task)
                self._check_orphan(change.new.task)

    def _check_task(self, old: Task | None, new: Task) -> None:
        if old is None:
            wanted = self.truth.wanted(self.truth.services[new.service_uid])
            newest = wanted is not None and wanted[1].version == new.version
            self.hold(newest, f"{new.id} is made for version {new.version}, which is not the newest")
        if new.node is not None and (old is None or old.node is None):
            node = self.truth.nodes.get(new.node)
            able = node is not None and node.availability is Availability.ACTIVE
            self.hold(able, f"{new.id} is given to {new.node}, which takes none")
            self._check_room(new, new.node)

    def _check_room(self, task: Task, node: str) -> None:
        """What tasks reserve is there, and no node gets more of a service than it may, when one is added."""
        has, spec = self.truth.sessions[node].description, self.truth.spec_of(task)
        used = self.truth.roster.reserved(node)
        asks = None if spec is None else needs_of(spec)
        short = asks and ((asks.nano_cpus and used.nano_cpus > has.cpus * 10**9) or used.generic.get("gpu", 0) > 1)
        self.hold(not short, f"{task.id} is given to {node}, where {used} is reserved")
        wanted = self.truth.wanted(self.truth.services[task.service_uid])
        most = wanted[0].max_replicas_per_node if wanted else 0
        own = [t for t in map(self.truth.tasks.__getitem__, self.truth.tasks_of[task.service_uid]) if t.node == node]
        live = sum(map(self.truth.is_live, own))
        self.hold(not most or live <= most, f"{task.id} is given to {node}, which has {live} of its service")

    def _check_down(self, node: str) -> None:
        session = self.truth.sessions.get(node)
        self.hold(not self.truth.is_heard(session), f"{node} is called down while its agent is heard")
        known = self.time - self.unheard_since[node]
        assert session is not None
        least = 1.7 if session.state is SessionState.SILENT else 4.4
        self.hold(known >= least, f"{node} is called down after {known:.1f} s")

    def _check_orphan(self, ident: str) -> None:
        task = self.truth.tasks[ident]
        if task.node not in self.truth.nodes:
            return  # its host was taken out
        verdict = self.truth.node_states[task.node or ""]
        unheard = self.time - self.unheard_since.get(verdict.node, self.time)
        gone = self.truth.wanted(self.truth.services[task.service_uid]) is None and verdict.status is NodeStatus.DOWN
        self.hold(gone or unheard > 20 * 3600, f"{ident} is given up after {unheard:.0f} s")

    def _note_silence(self) -> None:
        for node in self.truth.nodes:
            if self.truth.is_heard(self.truth.sessions.get(node)):
                self.unheard_since.pop(node, None)
            else:
                self.unheard_since.setdefault(node, self.time)

    def check_hosts(self) -> None:
        volumes: dict[str, str] = {}
        for agent, container in self.sandboxes():
            task = container.task
            if task.id in self.orphaned:
                continue
            owned = self.truth.claims_of.get(task.id, set())
            for endpoint in task.endpoints:
                for address in endpoint.addresses:
                    key = f"{PREFIX}claim/address/{endpoint.network}/{address}"
                    self.hold(key in owned, f"{address} of {task.id} on {agent.name} was freed while in use")
            for name in volumes_of(self.truth, task):
                volume = self.truth.volumes.get(name)
                self.hold(volume is not None and volume.node == agent.node, f"volume {name} is used on {agent.name}")
                slot = f"{name}/{task.service_uid}/{task.slot}"
                self.hold(slot not in volumes, f"volume {name} is used by {task.id} and {volumes.get(slot)} at once")
                volumes[slot] = task.id
            self.hold(
                task.id not in self.ended or task.id in agent.ends, f"{task.id} ended, and runs again on {agent.name}"
            )
        self.hold(not (twice := runs_twice(self)), twice)

    def sandboxes(self) -> Iterator[tuple[Agent, Container]]:
        for agent in self.agents:
            if agent.host_up:
                for container in agent.containers.values():
                    if container.sandbox:
                        yield agent, container

    # Managers and agents

    def start_manager(self) -> Manager:
        self._made += 1
        self.leases.add(self._made)
        skew = self.rng.choice([0.0, 0.0, -5.0, 3.0, -600.0, 600.0])
        self.steady = self.steady and abs(skew) <= 5.0
        manager = Manager(self, f"m{self._made}", self._made, skew)
        self.managers.append(manager)
        return manager

    def lose(self, manager: Manager) -> None:
        """A manager finds out that its lease is lost, and ends."""
        self.tell(f"{manager.id} finds that its lease is lost")
        manager.alive = False
        manager.resign()

    def manager(self, ident: str) -> Manager | None:
        return next((m for m in self.managers if m.id == ident and m.alive), None)

    def serves(self, agent: Agent) -> Manager | None:
        """The manager that an agent can talk to within its session, if it can."""
        if agent.session is None or not agent.reachable:
            return None
        manager = self.manager(agent.session[0])
        return manager if manager is not None and manager.connected else None

    def beat(self, seconds: float) -> None:
        """Let time pass. Agents in touch with their managers beat; others fall silent, and do what they do alone."""
        before = self.time
        self.time += seconds
        for agent in self.agents:
            if self.serves(agent) is not None:
                agent.last_beat, agent.alone_since = self.time, None
            elif agent.working and agent.bide(before, self.time):
                self.seen.counts["a node out of reach stopped its copy"] += 1

    def connect(self, agent: Agent) -> None:
        if not agent.reachable or self.serves(agent) is not None:
            return
        able = [m for m in self.managers if m.connected]
        if able:
            if self.rng.random() < 0.3:
                agent.version = VERSION  # it has come back as a newer program
            self.rng.choice(able).open(agent)
            agent.last_beat = self.time

    def watch_over(self, manager: Manager) -> None:
        """A manager judges the sessions that it holds."""
        for node in list(manager.sessions):
            agent = next((a for a in self.agents if a.node == node), None)
            if agent is None:
                continue  # its host was taken out
            if self.serves(agent) is manager:
                manager.change_session(node, state=SessionState.OPEN, reachable=None, back_by=None)
            elif self.time - agent.last_beat > 3.25:
                reachable = self.rng.choice([None, agent.host_up and not agent.cut])
                manager.change_session(node, state=SessionState.SILENT, reachable=reachable)

    def send(self, agent: Agent) -> None:
        manager = self.serves(agent)
        if manager is not None and (assignment := manager.assignment(agent)) is not None:
            agent.inbox.append(assignment)

    def work(self, agent: Agent, step: int) -> None:
        if not agent.working:
            return
        while agent.inbox:
            agent.take(agent.inbox.pop(0))
        agent.converge(self.time, step)
        for ident, container in agent.containers.items():
            spec = self.truth.spec_of(container.task)
            if spec is not None and spec.container.image.startswith(BAD) and not container.ended:
                if container.state is TaskState.RUNNING and self.rng.random() < 0.5:
                    agent.fail(ident, self.time, 1)

    def finish(self, agent: Agent) -> None:
        """What is there to complete does so."""
        for ident, container in agent.containers.items():
            if container.ended or container.state is not TaskState.RUNNING or not agent.working:
                continue
            if completes(self.truth, container.task) and self.rng.random() < 0.5:
                agent.fail(ident, self.time, 0)

    def report(self, agent: Agent) -> None:
        manager = self.serves(agent)
        if manager is not None:
            manager.record(agent, self.rng)

    # The end

    def heal(self) -> None:
        self.tell("all is healed")
        self.trouble = 0.0
        while self.late:
            self.arrive(0)
        for manager in self.managers:
            manager.paused = manager.cut = False
            if manager.lease not in self.leases:
                manager.alive = False
            if manager.leader is not None:
                manager.leader.credit(manager.now())
        if not any(manager.alive for manager in self.managers):
            self.start_manager()
        for manager in [m for m in self.managers if not m.alive and m.lease in self.leases]:
            self.expire(manager.lease)
        for agent in self.agents:
            agent.power_on(self.time)
            agent.cut = False
        self.people.heal()

    def converge(self) -> None:
        why = ""
        for _ in range(ROUNDS):
            self.round()
            if not (why := self.unsettled()):
                self.check_content()
                return
        raise Broken(f"not settled {ROUNDS} rounds after all was healed: {why}")

    def round(self) -> None:
        self.beat(1.0)
        for agent in self.agents:
            self.connect(agent)
        for manager in self.managers:
            if manager.alive:
                manager.campaign()
                for _ in range(50):
                    before = self.store.revision, manager.state.revision
                    manager.receive(10_000, self.rng)
                    manager.lead(self.rng, 100)
                    if before == (self.store.revision, manager.state.revision):
                        break
                self.watch_over(manager)
        for agent in self.agents:
            self.send(agent)
            self.work(agent, 2)
            self.finish(agent)
            self.report(agent)
        self.check_hosts()

    def unsettled(self) -> str:
        """What is not yet as people want it, or known not to be possible."""
        if not any(manager.alive and manager.leader is not None for manager in self.managers):
            return "nobody leads"
        return unsettled(self.truth, {container.task.id for _, container in self.sandboxes()}, self.time)

    def check_content(self) -> None:
        """Ask every question again: the marks that changes made have left nothing undecided."""
        leading = [m for m in self.managers if m.alive and m.leader is not None]
        self.hold(len(leading) == 1, f"{len(leading)} managers lead")
        [manager] = leading
        leader = Leader(manager.state, manager.now())
        leader.hearing = manager.leader.hearing  # type: ignore[union-attr]
        while (question := leader.agenda.take(manager.now())) is not None:
            plan = leader.decide(question, manager.now())
            missed = [step.why for step in plan.steps if not self._is_only_said(step)]
            self.hold(not missed, f"a change was missed: {question} has {missed}")

    def _is_only_said(self, step: Step) -> bool:
        """Tell whether a step only words anew why a task waits: that others fill the cluster marks nobody."""
        old = [self.truth.tasks.get(new.id) if isinstance(new, Task) else None for new in step.puts]
        return not step.deletes and all(
            was is not None and isinstance(new, Task) and new.node is None and replace(was, reason=new.reason) == new
            for was, new in zip(old, step.puts, strict=True)
        )

    def check_clean(self) -> None:
        """After the removal of all stacks nothing of them is left."""
        kinds = {key.removeprefix(PREFIX).partition("/")[0] for key in self.store.keys if key.startswith(PREFIX)}
        left = kinds - {*KEPT}
        self.hold(not left, f"left after removal: {left}")
        self.hold(not any(agent.containers for agent in self.agents), "containers are left after removal")
