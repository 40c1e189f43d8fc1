"""The shell round `converge`: learns what changed, asks for the next step of each task, does it, reports.

Each task has at most one step under way; when it ends, or anything about the task changes, the next one is asked for.
The engine is given at most so many starts and so many removals at a time, in the order in which they were wanted; a
start keeps its place from create to start, so that the first tasks run before the last are created.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from agent.ahead import Ahead
from agent.attachments import Attachments
from agent.container import Event, Foreign, Observed, fold
from agent.converge import (
    Decision,
    EngineLife,
    Launch,
    Memory,
    Pull,
    Restart,
    Step,
    World,
    after_success,
    after_trouble,
    decide,
    reportable,
)
from agent.create import Host, Unsupported
from agent.disk import Disk
from agent.engine import ContainerMissing, Engine, EngineDown, EngineRefused, ImageMissing
from agent.engine_facts import EngineFacts
from agent.journal import Entry, Journal
from agent.known import Known
from agent.node_dns import NodeDns
from agent.outbox import Outbox
from agent.secrets import OutOfReach, Secrets
from agent.steps import AT_ONCE, Network, Steps
from agent.timings import Timings
from agent.volumes import Volumes
from agent.withdrawals import Withdrawals
from cluster.assignments import Assignments, Item
from cluster.errors import StackyardError
from cluster.model.task import Desired, TaskStatus
from cluster.templates import Place, TemplateError

log = logging.getLogger(__name__)

SLOW_PASS = 60.0
ENGINE_RETRY = (0.05, 2.0)
NETWORK_RETRY = 2.0
LONGEST_MESSAGE = 400
SETTLING = 30.0
"""An engine that was there before the agent is taken to have restored its containers within so many seconds."""


class Runner:
    """Makes a node's tasks be as assigned. `run` is its life; the rest may be called at any time from the same loop."""

    def __init__(
        self,
        engine: Engine,
        network: Network,
        outbox: Outbox,
        journal: Journal,
        *,
        cluster: str,
        files: Path,
        address: str,
        place: Place,
        secrets: Secrets,
    ) -> None:
        self._engine, self._network = engine, network
        self._outbox, self._journal = outbox, journal
        self._cluster, self._files, self._address, self._place = cluster, files, address, place
        self.known = Known()
        self.volumes = Volumes(engine, self.known)
        self.disk = Disk()
        self.withdrawals = Withdrawals()
        self.timings = Timings()
        self.managers: tuple[str, ...] = ()
        self._troubles: dict[str, str] = {"engine": "the Docker Engine has not been reached yet"}
        self.facts: EngineFacts | None = None
        """What the engine was when it last answered."""
        self._life: EngineLife | None = None
        self._last_life: EngineLife | None = None
        self._offline_since: float | None = time.time()
        self._to_apply = asyncio.Event()
        self._to_clean = True
        self._applied: frozenset[str] = frozenset()
        self._applied_assignments = Assignments()
        self._networks: frozenset[str] = frozenset()
        self._settled = asyncio.Event()
        self._dirty: dict[str, None] = {}  # in the order in which they were marked
        self._wake = asyncio.Event()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._under_way: dict[str, tuple[Step, asyncio.Task[None]]] = {}
        self._reported: dict[str, TaskStatus] = {}
        self._secrets = secrets
        self._node_dns = NodeDns()
        self._steps = Steps(
            engine, network, self.known, self._host, files, self._report, self._still_wanted, secrets, self.timings
        )
        self.ahead = Ahead(self.known, self._steps.have)
        self.attachments = Attachments(engine, network, lambda: self.known.complete and self._life is not None)

    # What others tell it.

    def assign(self, assignments: Assignments, *, complete: bool) -> None:
        """Work from this set from now on; `complete` if a manager gave all of it, which allows to remove things."""
        changed = self.known.assign(assignments, complete=complete, now=time.time())
        self.volumes.assigned()
        self.ahead.assigned()
        self._to_apply.set()
        self._journal.changed()
        for task in changed:
            under_way = self._under_way.get(task)
            wanted = self.known.tasks.get(task)
            if under_way and isinstance(under_way[0], Pull) and (not wanted or wanted.desired is not Desired.RUNNING):
                under_way[1].cancel()
        self._poke(changed)

    def meet(self, managers: tuple[str, ...]) -> None:
        """Learn which managers there are, for this life of the agent and the next."""
        if managers and managers != self.managers:
            self.managers = managers
            self._journal.changed()

    def online(self) -> None:
        """A manager answers."""
        self._offline_since = None
        self._journal.changed()

    def offline(self) -> None:
        """There is no manager; after a while crashed tasks are restarted here."""
        if self._offline_since is None:
            self._offline_since = time.time()
            self._journal.changed()  # an agent that starts anew meanwhile does not begin to wait anew
            self._poke(self.known.tasks)

    @property
    def conditions(self) -> dict[str, str]:
        """The node's troubles by name, for the beats."""
        facts = self._engine.facts
        volumes = {"volumes": self.volumes.trouble} if self.volumes.trouble else {}
        disk = {"disk": self.disk.trouble} if self.disk.trouble else {}
        firewall = {"firewall": self._network.trouble} if self._network.trouble else {}
        return {**self._troubles, **firewall, **volumes, **disk, **(facts.troubles if facts else {})}

    @property
    def reported(self) -> Collection[TaskStatus]:
        """What was reported last of each task."""
        return self._reported.values()

    @property
    def is_offline(self) -> bool:
        """Whether no manager answers."""
        return self._offline_since is not None

    @property
    def accounted(self) -> frozenset[str] | None:
        """The tasks whose sandboxes are wanted or in use; None before a manager gave a full set."""
        return self._in_use() | self.attachments.sandboxes if self.known.complete else None

    @property
    def items(self) -> Collection[Item]:
        """All that the node is to work from."""
        return self.known.assignments.items.values()

    def clean_again(self) -> None:
        """Look for what nobody wants, now."""
        self._to_clean = True
        self._to_apply.set()

    def _in_use(self) -> frozenset[str]:
        return frozenset(self.known.in_use() | self._under_way.keys())

    async def announce(self, statuses: Collection[TaskStatus]) -> None:
        """Call before statuses are sent: what was told to have ended must never be started again, by no later life."""
        self.known.announced(statuses)
        for status in statuses:
            if status.state.terminal:
                self._steps.forget_secrets(status.task)
        if any(status.state.terminal for status in statuses):
            await self._journal.flush()

    async def settled(self) -> None:
        """Wait for the first word on the engine, so that the first beat can tell it."""
        await self._settled.wait()

    def resume(self, entry: Entry) -> None:
        """Go on from what the journal says; call before `run`."""
        self.managers = entry.managers
        if entry.offline_since is not None and self._offline_since is not None:
            self._offline_since = min(self._offline_since, entry.offline_since)
        self.known.remember_outcomes(entry.outcomes, time.time())
        self.assign(entry.assignments, complete=False)

    def entry(self) -> Entry:
        """What the journal is to keep."""
        outcomes = self.known.outcomes()
        return Entry(self._cluster, self.managers, self.known.assignments, outcomes, self._offline_since)

    async def run(self) -> None:
        """Work, for ever."""
        self.known.sandboxes = set(self._network.sandboxes())
        self.known.delivered = self._secrets.tasks()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_engine())
            group.create_task(self._apply())
            group.create_task(self._look_again())
            group.create_task(self.volumes.run())
            group.create_task(self.ahead.run())
            group.create_task(self.attachments.run())
            group.create_task(self.disk.run())
            while True:
                await self._wake.wait()
                self._wake.clear()
                dirty, self._dirty = self._dirty, {}
                for task in dirty:
                    if task not in self._under_way:
                        self._consider(task, group)

    # Deciding.

    def _poke(self, tasks: Iterable[str]) -> None:
        self._dirty.update(dict.fromkeys(tasks))
        if self._dirty:
            self._wake.set()

    @property
    def _world(self) -> World:
        facts = self._engine.facts
        return World(
            now=time.time(),
            complete=self.known.complete,
            engine=self._life,
            blocked="; ".join(facts.troubles.values()) if facts else "",
            offline_since=self._offline_since,
        )

    def _decide(self, task: str) -> Decision:
        decision = decide(self.known.view(task), self._world)
        if isinstance(decision.step, Launch | Restart) and task not in self._applied:
            return replace(decision, step=None)  # its networks come first; then it is asked for again
        return decision

    def _still_wanted(self, task: str, step: Step) -> bool:
        return self._decide(task).step == step

    def _consider(self, task: str, group: asyncio.TaskGroup) -> None:
        if (timer := self._timers.pop(task, None)) is not None:
            timer.cancel()
        decision = self._decide(task)
        memory = self.known.memory.get(task)
        if decision.outcome is not None and memory is not None and memory.outcome is None:
            self.known.memory[task] = replace(memory, outcome=decision.outcome)
            self._journal.changed()
        if decision.status is not None:
            self._report(decision.status)
        if decision.wake_at is not None:
            delay = max(0.0, decision.wake_at - time.time())
            self._timers[task] = asyncio.get_running_loop().call_later(delay, self._poke, (task,))
        if decision.step is not None:
            doing = group.create_task(self._do(task, decision.step), name=f"{type(decision.step).__name__} {task}")
            self._under_way[task] = (decision.step, doing)
        elif not self.known.knows(task):
            self.known.memory.pop(task, None)
            self._reported.pop(task, None)
            self._outbox.drop((task,))

    def _report(self, status: TaskStatus) -> None:
        memory = self.known.memory.get(status.task)
        status = reportable(status, memory) if memory else status
        status = replace(status, message=status.message[:LONGEST_MESSAGE])
        before = self._reported.get(status.task)
        if before is not None and replace(before, at=status.at) == status:
            return
        self._reported[status.task] = status
        self._outbox.put(status)

    # Doing.

    async def _do(self, task: str, step: Step) -> None:
        memory = self.known.memory
        try:
            await self._steps.do(task, step)
            if task in memory:
                memory[task] = after_success(memory[task])
            if isinstance(step, Restart):
                self._journal.changed()  # it may have said that the task had ended
        except EngineDown as error:
            log.info("task %s: %s waits for the engine: %s", task, type(step).__name__, error.message)
            self._retry(task, step, error.message, passing=None)
        except OutOfReach as error:
            self._retry(task, step, error.message, passing=None)
            if memory[task].trouble != error.message:
                log.warning("task %s %s", task, error.message)
                memory[task] = replace(memory[task], trouble=error.message)
        except ContainerMissing as error:
            log.info("task %s: %s", task, error.message)
            if (seen := self.known.container_of(task)) is not None:
                self._lose(seen)
        except ImageMissing as error:
            log.info("task %s: %s", task, error.message)
            self.known.images.clear()
            self._retry(task, step, error.message, passing=True)
        except (EngineRefused, Unsupported, TemplateError) as error:
            log.warning("task %s: %s was refused: %s", task, type(step).__name__, error.message)
            self._retry(task, step, " ".join(filter(None, (error.message, error.hint))), passing=False)
        except (StackyardError, OSError) as error:
            log.warning("task %s: %s failed and is tried again: %s", task, type(step).__name__, error)
            self._retry(task, step, str(error), passing=True)
        except Exception:
            log.exception("task %s: %s met a bug; it is tried again, other tasks go on", task, step)
            self._retry(task, step, "a bug in the agent, see its log", passing=True)
        finally:
            self._under_way.pop(task, None)
            self._poke((task,))

    def _retry(self, task: str, step: Step, trouble: str, *, passing: bool | None) -> None:
        """Remember a failure; `passing` None is the engine's absence, which does not count."""
        now = time.time()
        memory = self.known.memory.get(task) or Memory(seen_at=now)
        if passing is None:
            self.known.memory[task] = replace(memory, retry_at=now + 1)
        else:
            self.known.memory[task] = after_trouble(memory, step, now, trouble, passing=passing)

    # Learning.

    def _host(self) -> Host:
        facts = self._engine.facts
        assert facts is not None
        place = replace(self._place, os=facts.os, architecture=facts.architecture)
        return Host(self._cluster, str(self._files), self._address, facts.api, place, self._node_dns.read())

    async def _follow_engine(self) -> None:
        """Stay subscribed to the engine's events; whenever that broke, begin with a look at everything."""
        first, most = ENGINE_RETRY
        delay = first
        while True:
            try:
                facts = self.facts = await self._engine.connect()
                self.disk.root = facts.root
                ready_at = time.time()
                async with self._engine.events(self._cluster) as events:
                    listed_at = time.time()
                    await self._look_at_all()
                    self._engine_answers(facts.started_at, ready_at)
                    self._settled.set()
                    delay = first
                    async for event in events:
                        await self._learn(event, listed_at)
                reason = "the engine closed its stream of events"
            except StackyardError as error:
                reason = str(error)
            self._engine_lost(reason)
            self._settled.set()
            await asyncio.sleep(delay)
            delay = min(most, delay * 2)

    def _engine_answers(self, started_at: float, ready_at: float) -> None:
        if self._last_life is None:
            ready_at = min(ready_at, started_at + SETTLING)
        if self._last_life is None or self._last_life.started_at != started_at:
            self._last_life = EngineLife(started_at, ready_at)
        self._life = self._last_life
        del self._troubles["engine"]
        self.known.images.clear()
        self.known.sandboxes = set(self._network.sandboxes())
        version = self.facts.version if self.facts else ""
        log.info("Docker Engine %s answers, it has %d containers of ours", version, len(self.known.containers))
        self._poke(self.known.everything())
        self.attachments.again()

    def _engine_lost(self, reason: str) -> None:
        if self._life is not None or "engine" not in self._troubles:
            log.warning("the engine is lost, tasks wait for it: %s", reason)
        self._life = None
        self._engine.forget()
        self._troubles["engine"] = reason
        self._poke(self.known.tasks)

    async def _look_at_all(self) -> None:
        """Inspect each container of ours; with the events that follow nothing is missed."""
        limit = asyncio.Semaphore(AT_ONCE)

        async def look(container: str) -> Observed | None:
            async with limit:
                try:
                    return await self._engine.inspect(container)
                except ContainerMissing:
                    return None

        ids = await self._engine.containers(self._cluster)
        self.known.saw_all([seen for seen in await asyncio.gather(*map(look, ids)) if seen])

    async def _learn(self, event: Event | Foreign | str, listed_at: float) -> None:
        if isinstance(event, Foreign):
            self.attachments.again(event.container)
        elif event == "images":
            self.known.images.clear()
        elif event == "engine":
            self.facts = await self._engine.refresh()
            self._poke(self.known.everything())
        elif isinstance(event, Event) and event.at >= listed_at:
            seen = self.known.containers.get(event.container)
            if seen is None:
                await self._meet(event)
            elif (now := fold(seen, event)) is None:
                self._lose(seen)
            elif now != seen:
                self.known.saw(now)
                self._poke((seen.task,))

    def _lose(self, seen: Observed) -> None:
        """A container is gone, and not by a step of ours; what led to it has yet to go."""
        self.known.gone(seen.id)
        self._poke((seen.task,))
        self.clean_again()

    async def _meet(self, event: Event) -> None:
        """A container that starts unknown to us: the answer to its create call was lost."""
        if event.action != "start":
            return
        try:
            seen = await self._engine.inspect(event.container)
        except ContainerMissing:
            return
        self.known.saw(seen)
        self._poke((seen.task,))

    async def _look_again(self) -> None:
        """Every so often compare what is known with what is there, in case an event was lost."""
        while True:
            await asyncio.sleep(SLOW_PASS)
            if self._life is None:
                continue
            try:
                await self._compare()
            except (StackyardError, OSError) as error:
                log.info("comparing with the engine failed: %s", error)

    async def _compare(self) -> None:
        before = dict(self.known.containers)
        there = await self._engine.containers(self._cluster)
        for container, seen in before.items():
            if container not in there and seen.task not in self._under_way:
                log.warning("container %s of task %s has gone unnoticed", container[:12], seen.task)
                self._lose(seen)
        for container, phase in there.items():
            known = self.known.containers.get(container)
            if known is None or (known.phase is not phase and known.task not in self._under_way):
                try:
                    self.known.saw(await self._engine.inspect(container))
                except ContainerMissing:
                    continue
        here = self._network.sandboxes()
        settled = {task for task in here | self.known.sandboxes if task not in self._under_way}
        self.known.sandboxes = (self.known.sandboxes - settled) | (here & settled)
        self.clean_again()
        self._poke(self.known.everything())

    async def _apply(self) -> None:
        """Bring the node's networks up to date with the newest assignments, and clean up behind old ones."""
        while True:
            await self._to_apply.wait()
            self._to_apply.clear()
            known, complete = self.known, self.known.complete
            tasks, networks = frozenset(known.tasks), known.networks
            try:
                if known.assignments is not self._applied_assignments:
                    assignments = known.assignments
                    try:
                        await self._network.apply(assignments.items.values(), prune=complete)
                    finally:
                        self.attachments.assign(assignments.items.values())
                    self._applied_assignments = assignments
                    if complete:  # else nothing was taken away, whatever the journal says that leaves
                        self.withdrawals.applied(assignments)
                    self._to_clean |= bool(self._networks - networks)
                    self._networks = networks
                    arrived, self._applied = [t for t in known.tasks if t in tasks - self._applied], tasks
                    self._poke(arrived)
                if complete and self._to_clean:
                    self._to_clean = False  # before it is done: what comes up meanwhile asks for another round
                    in_use = self._in_use()
                    # The containers are given as they are at any time: one may be linked while this runs.
                    await self._network.clean(in_use, known.containers.keys())
                    self._steps.clean_files(in_use)
                self._troubles.pop("network", None)
            except (StackyardError, OSError) as error:
                log.warning("the node's networks cannot be brought up to date, tried again: %s", error)
                self._troubles["network"] = f"networks cannot be brought up to date: {error}"
                self._to_clean = True
                asyncio.get_running_loop().call_later(NETWORK_RETRY, self._to_apply.set)
