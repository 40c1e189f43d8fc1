"""converge on a toy engine, through histories of crashes, restarts and changes of mind."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.strategies import booleans, floats, integers, sampled_from

from agent.container import Image, Observed, Phase
from agent.converge import (
    Clean,
    EngineLife,
    Inspect,
    Launch,
    Memory,
    Pull,
    Restart,
    Step,
    Stop,
    View,
    World,
    after_restart,
    after_success,
    after_trouble,
    decide,
    reportable,
)
from cluster.model.service import RestartCondition, RestartPolicy
from cluster.model.task import Desired, Task, TaskState, TaskStatus
from tests.agent.builders import a_task, an_item

ITEM = an_item()
TASK = a_task(ITEM)


class History(RuleBasedStateMachine):
    """One task on one node. `told` is what a manager has recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 10_000.0
        self.task: Task | None = TASK
        self.item = ITEM
        self.complete = True
        self.offline_since: float | None = None
        self.life: EngineLife | None = EngineLife(5_000.0, 5_001.0)
        self.last_life = self.life
        self.container: Observed | None = None
        self.sandbox = False
        self.used = False  # something has run in the sandbox
        self.image = False
        self.memory = Memory(seen_at=self.now)
        self.told: TaskStatus | None = None
        self.unsent: TaskStatus | None = None
        self.wake_at: float | None = None

    @initialize(
        phase=sampled_from([None, *Phase]), sandbox=booleans(), image=booleans(), complete=booleans(),
        code=integers(0, 3), began=floats(4_000, 9_000), condition=sampled_from(RestartCondition),
        wanted=sampled_from([True, True, True, False]), held=booleans(),
    )  # fmt: skip
    def an_agent_starts(
        self,
        phase: Phase | None,
        sandbox: bool,
        image: bool,
        complete: bool,
        code: int,
        began: float,
        condition: RestartCondition,
        wanted: bool,
        held: bool,
    ) -> None:
        """It finds the node in any state whatsoever."""
        held = held and phase in (None, Phase.CREATED)
        self.task = replace(TASK, held=held) if wanted else None
        self.sandbox, self.used, self.image, self.complete = sandbox, sandbox, image, complete
        self.item = replace(ITEM, spec=replace(ITEM.spec, restart=RestartPolicy(condition)))
        if not complete:
            self.offline_since = self.now
        if phase is not None:
            ran = phase is not Phase.CREATED
            self.container = Observed("c1", TASK.id, phase, started_at=began if ran else None, inspected=True)
            if phase is Phase.EXITED:
                self.container = replace(self.container, exit_code=code, finished_at=began + 10)

    # What happens to it.

    @rule(steps=integers(1, 6))
    def steps_are_done(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    @rule(seconds=floats(0.1, 100))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.running)
    @rule(code=integers(0, 2))
    def it_ends(self, code: int) -> None:
        self.ends(code)

    @precondition(lambda self: self.running)
    @rule(health=sampled_from(["starting", "healthy", "unhealthy"]))
    def its_health_changes(self, health: str) -> None:
        assert self.container is not None
        self.container = replace(self.container, health=health)

    @precondition(lambda self: self.container is not None and self.memory.ran)
    @rule()
    def somebody_removes_its_container(self) -> None:
        self.container = None

    @precondition(lambda self: self.life)
    @rule(kills=booleans())
    def the_engine_goes_away(self, kills: bool) -> None:
        self.life = None
        if kills and self.running:
            self.ends(137)

    @precondition(lambda self: self.life is None)
    @rule(new=booleans())
    def the_engine_answers(self, new: bool) -> None:
        self.now += 1
        self.life = self.last_life = EngineLife(self.now - 0.5, self.now) if new else self.last_life
        if self.container is not None:
            self.container = replace(self.container, inspected=True)

    @precondition(lambda self: self.offline_since is None)
    @rule()
    def the_manager_goes_away(self) -> None:
        self.offline_since = self.now

    @rule()
    def a_manager_gives_a_full_set(self) -> None:
        self.offline_since, self.complete = None, True

    @precondition(lambda self: self.complete)
    @rule()
    def the_agent_restarts(self) -> None:
        """It keeps what the journal says: the assignments and what was told to have ended."""
        outcome = self.memory.outcome if self.told and self.told.state.terminal else None
        self.memory = Memory(self.now, outcome=outcome, announced=outcome.state if outcome else None)
        self.complete, self.offline_since = False, self.now
        self.unsent = None

    @precondition(lambda self: self.task and self.task.desired is not Desired.REMOVE and self.offline_since is None)
    @rule(desired=sampled_from([Desired.SHUTDOWN, Desired.REMOVE]))
    def it_is_no_longer_wanted(self, desired: Desired) -> None:
        assert self.task is not None
        self.task = replace(self.task, desired=desired)
        self.memory = replace(self.memory, tries=0, retry_at=0.0)

    @precondition(lambda self: self.task and self.task.held and self.offline_since is None)
    @rule()
    def it_is_let_go(self) -> None:
        assert self.task is not None
        self.task = replace(self.task, held=False)
        self.memory = replace(self.memory, tries=0, retry_at=0.0)

    @precondition(lambda self: self.offline_since is None and self.told and self.told.state.terminal)
    @rule()
    def it_is_forgotten(self) -> None:
        self.task = None

    @precondition(lambda self: self.task and self.memory.outcome is None)
    @rule(passing=booleans())
    def a_step_fails(self, passing: bool) -> None:
        step = self.decided()
        if step is not None:
            self.memory = after_trouble(self.memory, step, self.now, "no", passing=passing)

    # The toy.

    @property
    def running(self) -> bool:
        return self.container is not None and self.container.phase is Phase.RUNNING

    @property
    def world(self) -> World:
        return World(self.now, self.complete, self.life, offline_since=self.offline_since)

    def decided(self) -> Step | None:
        item = self.item if self.task else None
        image = Image("i") if self.image else None
        view = View(self.task, item, self.container, self.sandbox, image, self.memory)
        decision = decide(view, self.world)
        self.wake_at = decision.wake_at
        if decision.outcome is not None and self.memory.outcome is None:
            self.memory = replace(self.memory, outcome=decision.outcome)
        if decision.status is not None:
            status = reportable(decision.status, self.memory)
            if status.state.terminal:
                assert not self.sandbox, "told to have ended while its addresses are in use"
                assert not self.running
            elif self.task is not None and self.task.held:
                assert status.state.rank <= TaskState.READY.rank, "told to have started before it was let go"
            self.unsent = status
        if self.unsent is not None and self.offline_since is None:
            self.memory = replace(self.memory, announced=self.unsent.state)
            # A manager passes over what falls behind: an agent that restarted does not know what was told before.
            if self.told is None or self.unsent.state.rank >= self.told.state.rank:
                self.told = self.unsent
            self.unsent = None
        return decision.step

    def step(self) -> bool:
        step = self.decided()
        if step is None:
            return False
        assert self.life is not None, "nothing is asked of an engine that is down"
        self.do(step)
        self.memory = after_success(self.memory)
        return True

    def do(self, step: Step) -> None:
        match step:
            case Pull():
                assert not self.image
                self.image = True
            case Launch(create, start):
                assert create is (self.container is None), "two containers of one task"
                assert self.complete or not create
                self.sandbox, self.used = True, False
                if self.container is None:
                    self.container = Observed("c1", TASK.id, Phase.CREATED)
                if start:
                    self.runs()
            case Restart(_, counted):
                assert self.container is not None and self.container.phase is Phase.EXITED
                self.memory = after_restart(self.memory, self.container, counted=counted)
                self.sandbox, self.used = True, False
                self.runs()
            case Inspect():
                assert self.container is not None
                self.container = replace(self.container, inspected=True)
            case Stop():
                assert self.running
                self.ends(143)
            case Clean(sandbox, container, force):
                assert not self.running, "a running container is never removed"
                assert self.task is not None or self.complete, "removed on an incomplete set"
                if sandbox:
                    self.sandbox = False
                if container:
                    assert self.container is not None
                    assert force is (self.container.phase is Phase.DEAD)
                    self.container = None

    def runs(self) -> None:
        assert self.sandbox and not self.used, "started in a namespace that another run has left"
        assert self.task is not None and self.task.desired is Desired.RUNNING and not self.task.held
        assert self.told is None or not self.told.state.terminal, "told to have ended, and started again"
        assert self.container is not None
        self.used = True
        self.container = Observed("c1", TASK.id, Phase.RUNNING, started_at=self.now)
        self.memory = replace(self.memory, ran=True)

    def ends(self, code: int) -> None:
        assert self.container is not None
        self.container = replace(
            self.container, phase=Phase.EXITED, exit_code=code, finished_at=self.now, inspected=False
        )

    @invariant()
    def nothing_runs_outside_of_a_sandbox(self) -> None:
        if self.running and self.used:
            assert self.sandbox

    def teardown(self) -> None:
        """When things calm down the task comes to be as it is wanted, and stays so."""
        if self.life is None:
            self.the_engine_answers(new=True)
        self.a_manager_gives_a_full_set()
        for _ in range(60):
            if not self.step():
                if self.wake_at is None:
                    break
                self.now = self.wake_at
            if self.running and self.container is not None and self.container.health == "starting":
                self.container = replace(self.container, health="healthy")
        else:
            raise AssertionError("it never comes to rest")
        if self.task is None or self.task.desired is Desired.REMOVE:
            assert self.container is None and not self.sandbox
        elif self.task.desired is Desired.SHUTDOWN:
            assert not self.running and not self.sandbox
        if self.task is not None and self.told is not None and self.told.state is TaskState.READY:
            assert self.task.held and self.sandbox and self.container is not None, "ready, and waits to be let go"
        elif self.task is not None:
            assert self.told is not None
            assert self.told.state.terminal is not self.running
            assert self.running is (self.task.desired is Desired.RUNNING and self.memory.outcome is None)


TestHistories = History.TestCase
TestHistories.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
