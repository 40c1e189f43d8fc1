from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.container import Image, ImageWish, Observed, Phase
from agent.converge import (
    MAX_TRIES,
    OFFLINE_AFTER,
    Clean,
    Decision,
    Deliver,
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
from cluster.model.service import OnDisconnect, RestartCondition, RestartPolicy
from cluster.model.task import Desired, TaskState, TaskStatus
from tests.agent.builders import a_task, an_item

NOW = 10_000.0
ENGINE = EngineLife(started_at=5_000.0, ready_at=5_001.0)
ITEM = an_item()
TASK = a_task(ITEM)
IMAGE = Image("sha256:1")
MEMORY = Memory(seen_at=NOW)


def container(phase: Phase, **fields: Any) -> Observed:
    if phase is not Phase.CREATED:
        fields.setdefault("started_at", NOW - 100)
    if phase is Phase.EXITED:
        fields = {"finished_at": NOW - 1, "inspected": True, "exit_code": 1, **fields}
    return Observed("c1", TASK.id, phase, **fields)


CREATED, RUNNING, EXITED = (container(phase) for phase in (Phase.CREATED, Phase.RUNNING, Phase.EXITED))

QUICKLY = replace(EXITED, started_at=NOW - 2)


def view(found: Observed | None = None, *, sandbox: bool = True, **fields: Any) -> View:
    return View(**{"task": TASK, "item": ITEM, "container": found, "sandbox": sandbox, "image": IMAGE,
                   "memory": MEMORY, **fields})  # fmt: skip


def world(**fields: Any) -> World:
    return World(**{"now": NOW, "complete": True, "engine": ENGINE, **fields})


def wanted(desired: Desired) -> Any:
    return replace(TASK, desired=desired)


def come_to(state: TaskState, **fields: Any) -> Memory:
    return replace(MEMORY, outcome=TaskStatus(TASK.id, state, 1.0), **fields)


NOTHING = view(sandbox=False)
S = TaskState


@pytest.mark.parametrize(
    ("seen", "around", "step", "state"),
    [
        # The way up.
        pytest.param(
            view(sandbox=False, image=None), world(), Pull(ImageWish("box:1")), S.PREPARING, id="first the image"
        ),
        pytest.param(NOTHING, world(), Launch(True, True), S.PREPARING, id="then container, sandbox and start in one"),
        pytest.param(view(CREATED), world(), Launch(False, True), S.STARTING, id="a container is there: only start it"),
        pytest.param(view(RUNNING), world(), None, S.RUNNING, id="it runs, and nothing is to be done"),
        pytest.param(
            view(container(Phase.RUNNING, health="starting")),
            world(),
            None,
            S.STARTING,
            id="its health is not known yet",
        ),
        pytest.param(view(container(Phase.RUNNING, health="healthy")), world(), None, S.RUNNING, id="it is healthy"),
        pytest.param(
            view(container(Phase.RUNNING, health="unhealthy")),
            world(),
            Stop("c1"),
            None,
            id="it is sick, so it is stopped",
        ),
        pytest.param(
            view(sandbox=False, memory=replace(MEMORY, retry_at=NOW + 1)), world(), None, None, id="a back-off is kept"
        ),
        # Its end by itself.
        pytest.param(
            view(replace(EXITED, inspected=False)),
            world(),
            Inspect("c1"),
            None,
            id="it exited: the engine's last word first",
        ),
        pytest.param(
            view(EXITED), world(), Clean(sandbox=True), None, id="a failure is told only when its addresses are free"
        ),
        pytest.param(view(EXITED, sandbox=False), world(), None, S.FAILED, id="now they are: it failed"),
        pytest.param(view(replace(EXITED, exit_code=0), sandbox=False), world(), None, S.COMPLETE, id="it ended well"),
        pytest.param(
            view(replace(EXITED, exit_code=0, health="unhealthy"), sandbox=False),
            world(),
            None,
            S.FAILED,
            id="it was sick and stopped: no matter how nicely it exits, it failed",
        ),
        pytest.param(
            view(container(Phase.DEAD)),
            world(),
            Clean(True, "c1", force=True),
            None,
            id="the engine gave it up: away with it",
        ),
        pytest.param(
            view(sandbox=False, memory=replace(MEMORY, ran=True)),
            world(),
            None,
            S.FAILED,
            id="its container was taken away behind our back: a task runs once",
        ),
        # Its end by command.
        pytest.param(view(RUNNING, task=wanted(Desired.SHUTDOWN)), world(), Stop("c1"), None, id="shut down: stop it"),
        pytest.param(
            view(EXITED, task=wanted(Desired.SHUTDOWN)),
            world(),
            Clean(sandbox=True),
            None,
            id="its container stays for its log",
        ),
        pytest.param(
            view(EXITED, sandbox=False, task=wanted(Desired.SHUTDOWN)), world(), None, S.SHUTDOWN, id="it was shut down"
        ),
        pytest.param(
            view(CREATED, task=wanted(Desired.SHUTDOWN)),
            world(),
            Clean(True, "c1"),
            None,
            id="shut down before it ever ran: there is no log to keep",
        ),
        pytest.param(
            view(EXITED, task=wanted(Desired.REMOVE)),
            world(),
            Clean(True, "c1"),
            None,
            id="removed: everything goes at once",
        ),
        pytest.param(
            view(sandbox=False, task=wanted(Desired.REMOVE)), world(), None, S.SHUTDOWN, id="nothing is left of it"
        ),
        pytest.param(
            view(sandbox=False, task=wanted(Desired.SHUTDOWN), image=None),
            world(),
            None,
            S.SHUTDOWN,
            id="shut down before anything was made: no image is pulled for that",
        ),
        pytest.param(
            view(EXITED, memory=come_to(S.FAILED), sandbox=False, task=wanted(Desired.REMOVE)),
            world(),
            Clean(False, "c1"),
            None,
            id="a failed one is removed",
        ),
        pytest.param(
            view(memory=come_to(S.FAILED), sandbox=False, task=wanted(Desired.REMOVE)),
            world(),
            None,
            S.FAILED,
            id="and it stays a failed one",
        ),
        pytest.param(
            view(RUNNING, memory=come_to(S.FAILED)),
            world(),
            Stop("c1"),
            None,
            id="what came to its end must not run again",
        ),
        # What cannot run.
        pytest.param(
            view(CREATED, memory=replace(MEMORY, refused="no such program")),
            world(),
            Clean(True, "c1"),
            None,
            id="refused: clean up first",
        ),
        pytest.param(
            view(sandbox=False, memory=replace(MEMORY, refused="no such program")),
            world(),
            None,
            S.REJECTED,
            id="refused: then say so",
        ),
        # The node.
        pytest.param(NOTHING, world(engine=None), None, S.ACCEPTED, id="no engine: a new task waits"),
        pytest.param(view(RUNNING), world(engine=None), None, None, id="no engine: nothing is said of a running one"),
        pytest.param(
            view(EXITED, task=wanted(Desired.REMOVE)), world(engine=None), None, None, id="no engine: removal waits"
        ),
        pytest.param(
            NOTHING,
            world(blocked="no runtime"),
            None,
            S.ACCEPTED,
            id="an engine that cannot: a new task waits and says why",
        ),
        pytest.param(view(RUNNING), world(blocked="no runtime"), None, S.RUNNING, id="but what runs, runs"),
        pytest.param(
            view(replace(EXITED, started_at=4_000.0, finished_at=4_999.0)),
            world(),
            Restart("c1", counted=False),
            S.STARTING,
            id="the engine restarted and took it down: the same task starts again",
        ),
        pytest.param(
            view(replace(EXITED, started_at=4_000.0, finished_at=None, exit_code=255)),
            world(),
            Restart("c1", counted=False),
            S.STARTING,
            id="the host lost power: the same task starts again",
        ),
        pytest.param(
            view(replace(EXITED, started_at=4_000.0, finished_at=6_000.0), sandbox=False),
            world(),
            None,
            S.FAILED,
            id="it survived the engine's restart and failed later: its own fault",
        ),
        pytest.param(
            view(replace(EXITED, started_at=4_000.0, finished_at=4_500.0), memory=come_to(S.FAILED), sandbox=False),
            world(),
            None,
            S.FAILED,
            id="it had failed before the engine restarted: it stays failed",
        ),
        # What is unwanted.
        pytest.param(view(RUNNING, task=None, item=None), world(), Stop("c1"), None, id="of no task: stopped"),
        pytest.param(view(EXITED, task=None, item=None), world(), Clean(True, "c1"), None, id="of no task: removed"),
        pytest.param(
            view(task=None, item=None), world(), Clean(sandbox=True), None, id="a sandbox of no task: removed"
        ),
        pytest.param(
            view(RUNNING, task=None, item=None),
            world(complete=False),
            None,
            None,
            id="of no task in an incomplete set: not touched",
        ),
        # Without a manager.
        pytest.param(
            NOTHING, world(complete=False), None, S.ACCEPTED, id="what only the journal knows is not made anew"
        ),
        pytest.param(
            view(replace(EXITED, started_at=4_000.0, finished_at=4_999.0)),
            world(complete=False),
            Restart("c1", counted=False),
            S.STARTING,
            id="but what the journal knows is started again after a reboot",
        ),
        pytest.param(
            view(EXITED),
            world(offline_since=NOW - OFFLINE_AFTER),
            Restart("c1", counted=True),
            S.STARTING,
            id="no manager for a while: a crashed task is restarted here",
        ),
        pytest.param(
            view(EXITED),
            world(offline_since=NOW - 1),
            Clean(sandbox=True),
            None,
            id="no manager for a moment: it is waited for",
        ),
        pytest.param(
            view(EXITED, memory=come_to(S.FAILED, announced=S.FAILED), sandbox=False),
            world(offline_since=NOW - 1000),
            None,
            S.FAILED,
            id="a manager may have heard of its failure and replaced it: it is not restarted",
        ),
        pytest.param(
            view(EXITED, task=wanted(Desired.SHUTDOWN)),
            world(offline_since=NOW - 1000),
            Clean(sandbox=True),
            None,
            id="what was to be shut down is not restarted",
        ),
    ],
)
def test_one_step_at_a_time(seen: View, around: World, step: Step | None, state: TaskState | None) -> None:
    decision = decide(seen, around)
    assert decision.step == step
    assert (decision.status.state if decision.status else None) is state


@pytest.mark.parametrize(
    ("found", "message"),
    [
        pytest.param(replace(EXITED, exit_code=7), "exited with code 7", id="an exit code"),
        pytest.param(replace(EXITED, exit_code=137, oom=True), "out of memory", id="its memory limit"),
        pytest.param(replace(EXITED, error="exec: no such file"), "exec: no such file", id="the engine's words"),
        pytest.param(replace(EXITED, health="unhealthy"), "health check", id="its health check"),
        pytest.param(
            replace(EXITED, health="unhealthy", check_said="the check said nothing"),
            "its health check failed, so it was stopped: the check said nothing",
            id="what its health check said",
        ),
    ],
)
def test_a_failure_says_why(found: Observed, message: str) -> None:
    status = decide(view(found, sandbox=False), world()).status
    assert status is not None
    assert message in status.message
    assert status.exit_code == found.exit_code
    assert status.container == "c1"


def test_a_failure_keeps_its_reason_when_its_container_is_removed_later() -> None:
    outcome = decide(view(EXITED), world()).outcome
    assert outcome is not None
    removed = view(sandbox=False, memory=replace(MEMORY, outcome=outcome), task=wanted(Desired.REMOVE))
    assert decide(removed, world(now=NOW + 50)).status == replace(outcome, container="")


@pytest.mark.parametrize(
    ("task", "seen_at", "expected"),
    [
        pytest.param({"not_before": NOW + 5, "created_at": NOW}, NOW, NOW + 5, id="clocks agree"),
        pytest.param({"not_before": NOW + 605, "created_at": NOW + 600}, NOW, NOW + 5, id="this clock is behind"),
        pytest.param({"not_before": NOW - 595, "created_at": NOW - 600}, NOW, None, id="this clock is ahead"),
        pytest.param({"not_before": 0.0, "created_at": NOW}, NOW, None, id="at once"),
    ],
)
def test_a_task_starts_when_its_time_has_come_whatever_the_clocks_say(
    task: dict[str, Any], seen_at: float, expected: float | None
) -> None:
    later = replace(TASK, **task)
    prepared = view(CREATED, task=later, memory=replace(MEMORY, seen_at=seen_at))
    decision = decide(prepared, world())
    assert decision.wake_at == expected
    assert (decision.step is None) is (expected is not None)
    if expected is not None:
        first = decide(replace(prepared, container=None), world())
        assert first.step == Launch(create=True, start=False), "everything is made ready in the meantime"
        assert decide(prepared, world(now=expected)).step == Launch(create=False, start=True)


HELD = replace(TASK, held=True)


@pytest.mark.parametrize(
    ("seen", "around", "step", "state"),
    [
        pytest.param(view(sandbox=False, image=None), {}, Pull(ImageWish("box:1")), S.PREPARING, id="its image"),
        pytest.param(NOTHING, {}, Launch(create=True, start=False), S.PREPARING, id="its sandbox and container"),
        pytest.param(view(CREATED, sandbox=False), {}, Launch(create=False, start=False), S.PREPARING, id="sandbox"),
        pytest.param(view(CREATED, files=False), {}, Deliver(), S.PREPARING, id="its secrets"),
        pytest.param(view(CREATED), {}, None, S.READY, id="and there it waits"),
        pytest.param(view(CREATED), {"offline_since": NOW - 900}, None, S.READY, id="without a manager, too"),
        pytest.param(view(CREATED), {"complete": False}, None, S.READY, id="also after a restart of the agent"),
        pytest.param(view(RUNNING), {"complete": False}, None, S.RUNNING, id="the journal is old"),
    ],
)  # fmt: skip
def test_a_held_task_is_made_ready_and_no_more(
    seen: View, around: dict[str, Any], step: Step | None, state: TaskState
) -> None:
    decision = decide(replace(seen, task=HELD), world(**around))
    assert decision.step == step
    assert decision.status is not None and decision.status.state is state
    assert decision.wake_at is None


def test_a_task_that_is_let_go_only_has_to_be_started() -> None:
    assert decide(view(CREATED), world()).step == Launch(create=False, start=True)


def test_a_held_task_that_is_not_wanted_any_more_leaves_nothing() -> None:
    unwanted = replace(HELD, desired=Desired.SHUTDOWN)
    assert decide(view(CREATED, task=unwanted), world()).step == Clean(sandbox=True, container="c1")
    status = decide(view(sandbox=False, task=unwanted), world()).status
    assert status is not None and status.state is S.SHUTDOWN


@pytest.mark.parametrize(
    ("policy", "found", "memory", "delay"),
    [
        pytest.param(RestartPolicy(), EXITED, MEMORY, 0.0, id="the first crash is answered at once"),
        pytest.param(RestartPolicy(delay=7.0), EXITED, MEMORY, 7.0, id="unless a delay is given"),
        pytest.param(
            RestartPolicy(), QUICKLY, replace(MEMORY, restarts=3, quick_failures=3), 8.0, id="then it backs off"
        ),
        pytest.param(
            RestartPolicy(), QUICKLY, replace(MEMORY, restarts=9999, quick_failures=9999), 60.0, id="up to a bound"
        ),
        pytest.param(RestartPolicy(RestartCondition.NONE), EXITED, MEMORY, None, id="never, says the policy"),
        pytest.param(
            RestartPolicy(RestartCondition.ON_FAILURE), replace(EXITED, exit_code=0), MEMORY, None, id="it did not fail"
        ),
        pytest.param(RestartPolicy(max_attempts=2), EXITED, replace(MEMORY, restarts=2), None, id="often enough"),
    ],
)
def test_restarts_in_place_follow_the_policy(
    policy: RestartPolicy, found: Observed, memory: Memory, delay: float | None
) -> None:
    item = replace(ITEM, spec=replace(ITEM.spec, restart=policy))
    seen = view(found, item=item, memory=memory)
    assert found.finished_at is not None
    decision = decide(seen, world(now=found.finished_at, offline_since=0.0))
    if delay is None:
        assert decision == Decision(step=Clean(sandbox=True), outcome=decision.outcome)
    elif delay == 0.0:
        assert decision.step == Restart("c1", counted=True)
    else:
        assert decision.wake_at == found.finished_at + delay
        assert decide(seen, world(now=decision.wake_at, offline_since=0.0)).step == Restart("c1", counted=True)


def test_a_long_run_ends_a_row_of_quick_failures() -> None:
    memory = replace(MEMORY, restarts=4, quick_failures=4)
    short, long = (replace(EXITED, started_at=NOW - length, finished_at=NOW) for length in (1.0, 100.0))
    assert after_restart(memory, short, counted=True).quick_failures == 5
    assert after_restart(memory, long, counted=True).quick_failures == 1
    assert after_restart(memory, short, counted=False) == memory, "the engine's restart is nobody's failure"


def test_what_may_pass_is_tried_again_with_a_growing_pause_and_then_given_up() -> None:
    memory, pauses = MEMORY, []
    for _ in range(MAX_TRIES - 1):
        memory = after_trouble(memory, Pull(ImageWish("x")), NOW, "registry away", passing=True)
        pauses.append(memory.retry_at - NOW)
    assert pauses == [1.0, 2.0, 4.0, 8.0]
    assert memory.refused == ""
    assert after_success(memory) == MEMORY
    assert after_trouble(memory, Pull(ImageWish("x")), NOW, "registry away", passing=True).refused == "registry away"


def test_what_will_not_pass_is_given_up_at_once_but_taking_away_never_is() -> None:
    assert after_trouble(MEMORY, Launch(True, True), NOW, "no", passing=False).refused == "no"
    memory = MEMORY
    for _ in range(50):
        memory = after_trouble(memory, Clean(True), NOW, "busy", passing=False)
    assert memory.refused == ""
    assert memory.retry_at == NOW + 60


def test_a_report_never_falls_behind_what_was_told_before() -> None:
    told = replace(MEMORY, announced=S.RUNNING)
    again = TaskStatus(TASK.id, S.STARTING, NOW, "starts again", restarts=1)
    assert reportable(again, told) == replace(again, state=S.RUNNING)
    assert reportable(again, MEMORY) == again


# A service that must not run where no manager reaches it


def out_of_reach(seen: View, *, since: float, stop_after: float | None = 30.0) -> Decision:
    spec = replace(ITEM.spec, on_disconnect=OnDisconnect(stop_after=stop_after))
    return decide(replace(seen, item=replace(ITEM, spec=spec)), world(offline_since=NOW - since))


def test_a_copy_out_of_reach_is_stopped_when_its_time_is_over_and_not_started_again() -> None:
    before = out_of_reach(view(RUNNING), since=29.0)
    assert (before.step, before.wake_at) == (None, NOW + 1.0)
    stopped = out_of_reach(view(RUNNING), since=30.0)
    assert stopped.step == Stop("c1") and stopped.outcome is not None
    assert stopped.outcome.state is TaskState.SHUTDOWN and "stop_after" in stopped.outcome.message
    memory = replace(MEMORY, outcome=stopped.outcome)
    after = out_of_reach(view(EXITED, memory=memory), since=40.0)
    assert after.step == Clean(sandbox=True)
    told = decide(view(EXITED, sandbox=False, memory=memory), world())
    assert told.status is not None and told.status.state is TaskState.SHUTDOWN, "also when a manager is back"


def test_other_copies_run_on_out_of_reach() -> None:
    assert out_of_reach(view(RUNNING), since=1e6, stop_after=None).step is None


def test_nothing_is_started_any_more_when_the_time_is_over() -> None:
    assert out_of_reach(NOTHING, since=31.0).status is not None
    assert out_of_reach(view(CREATED), since=31.0).step == Clean(True, "c1")
