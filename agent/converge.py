"""What is wanted, what is there, what time it is -> the next step of each task. Pure.

One call gives one step; when the step is done (or anything changed) the answer is asked for again, so a restarted
agent goes on from wherever the engine and the kernel stand.

    nothing --Pull--> image known --Deliver--> its secrets and configs there --Launch--> running (--healthy--> RUNNING)
    exited  --Inspect--> judged --Clean sandbox--> COMPLETE | FAILED is reported
    unwanted --Stop--> exited --Clean--> SHUTDOWN is reported

A terminal state is decided once (`outcome`) and reported only when the sandbox is gone, since with that report its
addresses are free for others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.container import Image, ImageWish, Observed, Phase, image_wish
from cluster.assignments import ServiceItem
from cluster.model.service import RestartCondition, RestartPolicy
from cluster.model.task import Desired, Task, TaskState, TaskStatus

OFFLINE_AFTER = 10.0
"""Seconds without a manager after which the agent itself restarts what crashed."""
STABLE_RUN = 60.0
"""A run of this many seconds ends a row of quick failures."""
MAX_BACK_OFF = 60.0
MAX_TRIES = 5
"""A step that failed this often in a row, each time for a reason that may pass, is the task's failure after all."""


@dataclass(frozen=True, slots=True)
class Pull:
    """Make the image known, and fetch it if it is wished so or not there."""

    image: ImageWish


@dataclass(frozen=True, slots=True)
class Deliver:
    """Bring the task's secrets and configs to this node."""


@dataclass(frozen=True, slots=True)
class Launch:
    """Make the sandbox, create the container if `create`, and, if `start`, link both and start it."""

    create: bool
    start: bool


@dataclass(frozen=True, slots=True)
class Restart:
    """Start a container that exited once more, in a fresh sandbox with the same addresses.

    `counted` unless engine or host made it exit.
    """

    container: str
    counted: bool


@dataclass(frozen=True, slots=True)
class Inspect:
    """Ask the engine for its last word on a container that exited unasked."""

    container: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop a running container: its stop signal, its grace period, SIGKILL."""

    container: str


@dataclass(frozen=True, slots=True)
class Clean:
    """Take away what is left of a task: its sandbox, its container, or both. `force` for one the engine calls dead."""

    sandbox: bool
    container: str = ""
    force: bool = False


_NOT_HERE = "waits for a manager, as it has no container here yet"

Step = Pull | Deliver | Launch | Restart | Inspect | Stop | Clean


@dataclass(frozen=True, slots=True)
class Memory:
    """What the agent knows of a task beyond engine and kernel.

    `ran` tells that its container was seen running in this life of the agent. `announced` is the furthest state that a
    manager may have heard of. `refused` holds the words of whoever cannot
    run the task; `tries` counts failures in a row that may pass, of which `trouble` is the last.
    """

    seen_at: float
    ran: bool = False
    outcome: TaskStatus | None = None
    announced: TaskState | None = None
    refused: str = ""
    trouble: str = ""
    tries: int = 0
    retry_at: float = 0.0
    restarts: int = 0
    quick_failures: int = 0


@dataclass(frozen=True, slots=True)
class EngineLife:
    """When the running engine process started, and when it was first seen to answer."""

    started_at: float
    ready_at: float


@dataclass(frozen=True, slots=True)
class World:
    """What is true for all tasks of the node.

    `complete` says that the assignments are a full set from a manager, not only what the journal remembers. `engine`
    is None while it is down, `blocked` why no container can be made now, `offline_since` since when no manager.
    """

    now: float
    complete: bool
    engine: EngineLife | None
    blocked: str = ""
    offline_since: float | None = None


@dataclass(frozen=True, slots=True)
class View:
    """One task as wanted (None: unwanted here) and as found; `files`: whether its secrets and configs are there."""

    task: Task | None
    item: ServiceItem | None
    container: Observed | None
    sandbox: bool
    image: Image | None
    memory: Memory
    files: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """The next step, what to report, what the task has come to, and when to ask again if nothing happens before."""

    step: Step | None = None
    status: TaskStatus | None = None
    outcome: TaskStatus | None = None
    wake_at: float | None = None


IDLE = Decision()


def decide(view: View, world: World) -> Decision:
    """Give the next step of one task."""
    task, memory = view.task, view.memory
    if task is None:
        if not world.complete or world.engine is None:
            return IDLE
        return Decision(wake_at=memory.retry_at) if world.now < memory.retry_at else _take_away(view)
    if world.engine is None:
        if view.container is None and memory.outcome is None and task.desired is Desired.RUNNING:
            return Decision(status=_status(task.id, TaskState.ACCEPTED, world, "waits for the engine"))
        return IDLE
    if world.now < memory.retry_at:
        return Decision(wake_at=memory.retry_at)
    if memory.outcome is not None:
        return _offline_restart(view, world, task, memory.outcome) or _end(view, task, memory.outcome)
    if memory.refused:
        return _end(view, task, _status(task.id, TaskState.REJECTED, world, memory.refused))
    if task.desired is not Desired.RUNNING:
        return _shut_down(view, world, task)
    return _run(view, world, task)


def _run(view: View, world: World, task: Task) -> Decision:
    """Keep a task running, unless there has been no manager for longer than its service wants copies out of reach."""
    stop_after = None if view.item is None else view.item.spec.on_disconnect.stop_after
    if world.offline_since is None or stop_after is None:
        return _run_on(view, world, task)
    stop_at = world.offline_since + stop_after
    if world.now < stop_at:
        decision = _run_on(view, world, task)
        return replace(decision, wake_at=min(stop_at, decision.wake_at or stop_at))
    message = f"stopped: no manager could be reached for {stop_after:g} s (x-on-disconnect.stop_after)"
    return _end(view, task, _status(task.id, TaskState.SHUTDOWN, world, message, view.container, view.memory.restarts))


def _run_on(view: View, world: World, task: Task) -> Decision:
    container, memory = view.container, view.memory

    def report(state: TaskState, message: str = "") -> TaskStatus:
        return _status(task.id, state, world, message, container, memory.restarts)

    match container.phase if container else None:
        case None if memory.ran:
            return _end(view, task, report(TaskState.FAILED, "its container was removed by somebody else"))
        case None | Phase.CREATED:
            return _start(view, world, task)
        case Phase.RUNNING:
            assert container is not None
            if container.health == "unhealthy":
                return Decision(step=Stop(container.id))
            if container.health == "starting":
                return Decision(status=report(TaskState.STARTING, "waits for its health check"))
            return Decision(status=report(TaskState.RUNNING))
        case Phase.EXITED:
            assert container is not None and world.engine is not None
            if _ended_by_engine(container, world.engine):
                if world.blocked:
                    return Decision(status=report(TaskState.STARTING, world.blocked))
                if not view.files:
                    return Decision(step=Deliver(), status=report(TaskState.STARTING, memory.trouble))
                return Decision(
                    step=Restart(container.id, counted=False),
                    status=report(TaskState.STARTING, "starts again after engine or host did"),
                )
            if not container.inspected:
                return Decision(step=Inspect(container.id))
            judged = _judge(task.id, container, world, memory.restarts)
            return _offline_restart(view, world, task, judged) or _end(view, task, judged)
        case _:
            return _end(view, task, report(TaskState.FAILED, "the engine gave its container up"))


def _start(view: View, world: World, task: Task) -> Decision:
    """Bring a task that never ran to its start, but not to the start itself before its time, nor while it is held."""
    container, item, memory = view.container, view.item, view.memory

    def report(state: TaskState, message: str = "") -> TaskStatus:
        return _status(task.id, state, world, message or memory.trouble, container)

    if item is None or (container is None and not world.complete):
        # Without its spec nothing can be made; and what the journal alone remembers may be over by now.
        return Decision(status=report(TaskState.ACCEPTED, "" if world.complete else _NOT_HERE))
    if world.blocked:
        return Decision(status=report(TaskState.ACCEPTED, world.blocked))
    if container is None and view.image is None:
        return Decision(step=Pull(image_wish(item)), status=report(TaskState.PREPARING))
    under_way = TaskState.PREPARING if container is None or task.held else TaskState.STARTING
    if not view.files:
        return Decision(step=Deliver(), status=report(under_way))
    # Either clock may be wrong; the wait that the leader meant is also the distance of its two instants.
    start_at = min(task.not_before, memory.seen_at + max(0.0, task.not_before - task.created_at))
    if world.now >= start_at and not task.held:
        return Decision(step=Launch(create=container is None, start=True), status=report(under_way))
    if container is None or (item.spec.container.has_sandbox and not view.sandbox):
        return Decision(step=Launch(create=container is None, start=False), status=report(TaskState.PREPARING))
    if task.held:
        return Decision(status=report(TaskState.READY, "is ready, and waits until it may start"))
    return Decision(status=report(TaskState.READY, "waits for its time to start"), wake_at=start_at)


def _shut_down(view: View, world: World, task: Task) -> Decision:
    if view.container is not None and view.container.phase is Phase.RUNNING:
        return Decision(step=Stop(view.container.id))
    return _end(view, task, _status(task.id, TaskState.SHUTDOWN, world, "", view.container, view.memory.restarts))


def _end(view: View, task: Task, outcome: TaskStatus) -> Decision:
    """Clean up after a task that has come to its end, then report it."""
    container = view.container
    if container is not None and container.phase is Phase.RUNNING:
        return Decision(step=Stop(container.id), outcome=outcome)
    keep = container is not None and container.phase is Phase.EXITED and task.desired is not Desired.REMOVE
    if container is not None and not keep:
        clean = Clean(view.sandbox, container.id, force=container.phase is Phase.DEAD)
        return Decision(step=clean, outcome=outcome)
    if view.sandbox:
        return Decision(step=Clean(sandbox=True), outcome=outcome)
    final = replace(outcome, container=container.id if container else "")
    return Decision(status=final, outcome=outcome)


def _take_away(view: View) -> Decision:
    """Remove what belongs to no task of this node."""
    container = view.container
    if container is None:
        return Decision(step=Clean(sandbox=True)) if view.sandbox else IDLE
    if container.phase is Phase.RUNNING:
        return Decision(step=Stop(container.id))
    return Decision(step=Clean(view.sandbox, container.id, force=container.phase is Phase.DEAD))


def _ended_by_engine(container: Observed, engine: EngineLife) -> bool:
    """Tell whether the run ended because the engine or the host did: it began under an earlier engine and was over
    when this one first answered."""
    began_before = container.started_at is None or container.started_at < engine.started_at
    return began_before and (container.finished_at is None or container.finished_at <= engine.ready_at)


def _judge(task: str, container: Observed, world: World, restarts: int) -> TaskStatus:
    """Say what a run that ended by itself has come to."""
    if not container.has_failed:
        state, message = TaskState.COMPLETE, ""
    elif container.health == "unhealthy":
        said = f": {container.check_said}" if container.check_said else ""
        state, message = TaskState.FAILED, f"its health check failed, so it was stopped{said}"
    elif container.oom:
        state, message = TaskState.FAILED, "out of memory: it used more than its limit"
    else:
        state, message = TaskState.FAILED, container.error or f"exited with code {container.exit_code}"
    return replace(_status(task, state, world, message, container, restarts), log=container.log)


def _offline_restart(view: View, world: World, task: Task, outcome: TaskStatus) -> Decision | None:
    """Without a manager to replace it, start a crashed task once more, unless a manager may know that it ended."""
    container, item, memory = view.container, view.item, view.memory
    if world.offline_since is None or world.blocked or container is None or item is None:
        return None
    if container.phase is not Phase.EXITED or task.desired is not Desired.RUNNING:
        return None
    if outcome.state is TaskState.SHUTDOWN or (memory.announced is not None and memory.announced.terminal):
        return None
    delay = _delay(item.spec.restart, outcome.state, memory.restarts + task.failures, _quick(memory, container))
    if delay is None:
        return None
    at = max((container.finished_at or world.now) + delay, world.offline_since + OFFLINE_AFTER)
    if world.now >= at and not view.files:
        return Decision(step=Deliver(), status=_status(task.id, TaskState.STARTING, world, memory.trouble, container))
    if world.now >= at:
        status = _status(task.id, TaskState.STARTING, world, "restarted in place", container, memory.restarts)
        return Decision(step=Restart(container.id, counted=True), status=status)
    return replace(_end(view, task, outcome), wake_at=at)


def _delay(policy: RestartPolicy, ended: TaskState, failures: int, quick: int) -> float | None:
    """Say how long after its end a task is to be started again; None is never."""
    if policy.condition is RestartCondition.NONE or ended is TaskState.REJECTED:
        return None
    if policy.condition is RestartCondition.ON_FAILURE and ended is TaskState.COMPLETE:
        return None
    if policy.max_attempts is not None and failures >= policy.max_attempts:
        return None
    back_off = 0.0 if quick == 0 else min(MAX_BACK_OFF, 2.0 ** min(quick, 10))
    return max(policy.delay or 0.0, back_off)


def _quick(memory: Memory, container: Observed) -> int:
    """Count the quick failures in a row before this one."""
    ran = (container.finished_at or 0.0) - (container.started_at or 0.0)
    return 0 if ran >= STABLE_RUN else memory.quick_failures


def _status(
    task: str,
    state: TaskState,
    world: World,
    message: str = "",
    container: Observed | None = None,
    restarts: int = 0,
) -> TaskStatus:
    return TaskStatus(
        task=task,
        state=state,
        at=world.now,
        message=message,
        container=container.id if container else "",
        exit_code=container.exit_code if container and state.terminal else None,
        restarts=restarts,
    )


# How memory changes with what happened.


def after_restart(memory: Memory, container: Observed, *, counted: bool) -> Memory:
    """Remember a restart in place; one after a long run starts the row of quick failures anew."""
    cleared = replace(memory, outcome=None, trouble="", tries=0, retry_at=0.0)
    if not counted:
        return cleared
    return replace(cleared, restarts=memory.restarts + 1, quick_failures=_quick(memory, container) + 1)


def after_success(memory: Memory) -> Memory:
    """A step was done: what went wrong before is over."""
    return replace(memory, trouble="", tries=0, retry_at=0.0) if memory.tries or memory.trouble else memory


def after_trouble(memory: Memory, step: Step, now: float, trouble: str, *, passing: bool) -> Memory:
    """Remember that a step failed, for a reason that may pass or for one that will not.

    Only what leads to a start is ever given up; taking things away is tried for ever.
    """
    tries = memory.tries + 1
    if isinstance(step, Pull | Deliver | Launch | Restart) and (not passing or tries >= MAX_TRIES):
        return replace(memory, refused=trouble, tries=0, retry_at=0.0)
    return replace(memory, trouble=trouble, tries=tries, retry_at=now + min(MAX_BACK_OFF, 2.0 ** (tries - 1)))


def reportable(status: TaskStatus, memory: Memory) -> TaskStatus:
    """Never let a report fall behind what a manager may have heard: a task's state only grows."""
    if memory.announced is not None and memory.announced.rank > status.state.rank:
        return replace(status, state=memory.announced)
    return status
