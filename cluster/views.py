"""What the manager's API takes and answers: the cluster as people see it, so that a client has nothing left to join.

Bodies are JSON objects of these types. A stream (progress, logs) is NDJSON: one Progress or LogLine a line. An error is
an ErrorBody with the HTTP status of its kind in `cluster.errors`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from cluster.model.node import Availability, NodeStatus, Role
from cluster.model.secret import FileKind
from cluster.model.service import PortSpec, ServiceMode
from cluster.model.stack import StackSpec
from cluster.model.task import Desired, TaskState
from cluster.model.update import UpdateStatus

API_VERSION = "v1"


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The body of every answer that is not a success; `kind` is the name of the class in `cluster.errors`."""

    error: str
    hint: str = ""
    kind: str = ""


# The cluster and its members.


@dataclass(frozen=True, slots=True)
class VersionView:
    """`protocol` is the newest version of the agents' session that the manager speaks."""

    version: str
    api: str
    protocol: int


@dataclass(frozen=True, slots=True)
class ProgramView:
    """A program of the cluster and its release. What keeps an upgrade from its end is said in `behind`, "" if nothing.

    `version` is the newest of records and messages that it is known to understand.
    """

    kind: Literal["manager", "agent"]
    name: str
    version: int
    release: str
    behind: str = ""


@dataclass(frozen=True, slots=True)
class UpgradeView:
    """`version` is that of records and messages which the cluster writes, `newest` that of its newest manager."""

    version: int
    newest: int
    programs: tuple[ProgramView, ...]

    @property
    def behind(self) -> tuple[ProgramView, ...]:
        return tuple(program for program in self.programs if program.behind)


@dataclass(frozen=True, slots=True)
class ManagerView:
    id: str
    name: str
    url: str
    leader: bool
    started_at: float


@dataclass(frozen=True, slots=True)
class ClusterView:
    """`revision` is the etcd revision that the manager's picture stands at."""

    id: str
    created_at: float
    revision: int
    managers: tuple[ManagerView, ...]
    nodes: int
    ready_nodes: int
    stacks: int
    services: int
    tasks: int


@dataclass(frozen=True, slots=True)
class NodeView:
    """`tasks` counts the tasks that are to run there; `conditions` are its troubles by name, a sentence each.

    `reserved_*` is what its tasks reserve; `resources` are the named things that it offers, of which the tasks reserve
    `reserved_resources`. `volumes` are those with their data there. A drain ends at `drain_until`, ready or not.
    `tunnels_trouble` is why it can be in no encrypted network.
    """

    id: str
    name: str
    role: Role
    status: NodeStatus
    availability: Availability
    address: str
    engine_version: str
    agent_version: str
    tasks: int
    since: float
    reason: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    conditions: dict[str, str] = field(default_factory=dict)
    operating_system: str = ""
    architecture: str = ""
    cpus: int = 0
    memory: int = 0
    reserved_cpus: float = 0.0
    reserved_memory: int = 0
    resources: dict[str, int] = field(default_factory=dict)
    reserved_resources: dict[str, int] = field(default_factory=dict)
    drain_until: float | None = None
    joined_at: float = 0.0
    kernel: str = ""
    engine_labels: dict[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    tunnels_trouble: str = ""


@dataclass(frozen=True, slots=True)
class NodeChange:
    """The body of PATCH /v1/nodes/{name}: what is None stays; a label or resource of None is taken off.

    `deadline` goes with a drain: the seconds that it may take for not leaving a service with less than it should have,
    "never" for as long as it takes; ten minutes unless given.
    """

    availability: Availability | None = None
    labels: dict[str, str | None] | None = None
    resources: dict[str, int | None] | None = None
    deadline: float | Literal["never"] | None = None
    role: Role | None = None
    """A manager that becomes a worker has its etcd taken out; a worker becomes one by `stack join --manager`."""


@dataclass(frozen=True, slots=True)
class RebalanceRequest:
    """The body of POST /v1/rebalance: move tasks for a better spread, or with `dry_run` only tell which.

    With `automatic` nothing begins now: it is the cool-down in seconds after a node joined or came back, after which
    the cluster does so by itself from now on, or "off".
    """

    operation: str
    dry_run: bool = False
    include_single: bool = False
    max_unavailable: int = 1
    automatic: float | Literal["off"] | None = None


@dataclass(frozen=True, slots=True)
class MoveView:
    """`task` is `stack_service.slot`; `source` and `target` are nodes' names."""

    task: str
    id: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class RebalanceView:
    """`moves` are those that would make the spread better as things stand; `under_way` those that are being made."""

    active: bool
    moved: int
    under_way: int
    moves: tuple[MoveView, ...] = ()
    automatic_after: float | None = None
    ended_at: float = 0.0


# Stacks, services, tasks.


ResolveImage = Literal["always", "changed", "never"]


@dataclass(frozen=True, slots=True)
class DeployRequest:
    """The body of PUT /v1/stacks/{name}.

    `operation` is a random id of the caller's: the same id again is answered like the first time and changes nothing.
    `base_revision` refuses the deploy when the stack has moved on since. `secrets` and `configs` are the contents of
    those that are not external, base64, by key. Services in `force` get new tasks, and jobs
    among them run again, though nothing has changed. If it is `atomic`, one service whose new tasks fail takes all that
    this deploy changes back with it. The same spec again has updates of the stack go on that are paused.
    `resolve_image` tells whether images are looked up in their registries: all, those that the spec changes, or none.
    """

    spec: StackSpec
    operation: str
    reason: str = ""
    base_revision: int | None = None
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    configs: dict[str, str] = field(default_factory=dict, repr=False)
    force: tuple[str, ...] = ()
    atomic: bool = False
    resolve_image: ResolveImage = "always"


@dataclass(frozen=True, slots=True)
class ExternalRequest:
    """The body of PUT /v1/secrets/{name} and /v1/configs/{name}; `data` is the content, base64.

    `stacks` are patterns (with *) of those whose deployers may use it.
    """

    data: str = field(repr=False)
    labels: dict[str, str] = field(default_factory=dict)
    stacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExternalView:
    """A secret or config made apart from stacks: all but its content. `used_by` are services, `stack_service`."""

    kind: FileKind
    name: str
    digest: str
    size: int
    created_at: float
    author: str
    labels: dict[str, str] = field(default_factory=dict)
    used_by: tuple[str, ...] = ()
    stacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScaleRequest:
    """The body of POST /v1/stacks/{name}/scale: replicas by the service's key within the stack."""

    replicas: dict[str, int]
    operation: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RollbackRequest:
    """The body of POST /v1/stacks/{name}/rollback: make the stack, or only some services, what a revision was.

    `revision` None is the newest one in which they were different. `services` empty is the whole stack.
    """

    operation: str
    revision: int | None = None
    services: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class UpdateRequest:
    """The body of POST /v1/stacks/{name}/update, about all services or some.

    With `proceed`, updates that are paused go on; with `force`, tasks are replaced though nothing has changed.
    """

    operation: str
    services: tuple[str, ...] = ()
    proceed: bool = False
    force: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RevisionReply:
    """The answer to whatever makes a revision; `changed` is false when the stack was like that already.

    `notes` are for whoever asked: nothing is wrong, but worth knowing.
    """

    stack: str
    uid: str
    revision: int
    changed: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoveReply:
    """The answer to DELETE: the stack is going; its uid tells it from a later stack of the same name."""

    stack: str
    uid: str
    revision: int


StackPhase = Literal["running", "converging", "removing"]


@dataclass(frozen=True, slots=True)
class StackView:
    """`running` counts the tasks of `wanted` that run at the newest version, and those of jobs that have completed."""

    name: str
    uid: str
    revision: int
    phase: StackPhase
    services: int
    wanted: int
    running: int
    created_at: float
    updated_at: float
    author: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RevisionView:
    """One revision of a stack; `images` maps the service's key to its image, `digests` to what that meant, if known.

    `changes` says what became different with it, a few words each; it is empty for the oldest that is kept.
    """

    stack: str
    n: int
    author: str
    reason: str
    created_at: float
    images: dict[str, str]
    replicas: dict[str, int]
    current: bool = False
    changes: tuple[str, ...] = ()
    atomic: bool = False
    digests: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServiceView:
    """`name` is `stack_service`. `running` counts running tasks of any version, `updated` those of the newest.

    `completed` counts the tasks of the newest version that have done their work for good, of `wanted` a job has. A
    global service wants one on each node that it is for and that is up.

    `problem` is the newest reason why the service is not whole, "" when it is. `update` is the newest update, None
    before the first.
    """

    name: str
    stack: str
    service: str
    uid: str
    version: int
    image: str
    wanted: int
    running: int
    updated: int
    ports: tuple[PortSpec, ...] = ()
    problem: str = ""
    mode: ServiceMode = ServiceMode.REPLICATED
    completed: int = 0
    update: UpdateStatus | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class TaskView:
    """`name` is `stack_service.slot`; `node` is a name, "" while unbound.

    `message` joins what the agent said and the leader's reason. `since` is when `state` was entered. `restarts` counts
    restarts in place, `failures` those in a row before it in its slot. `log` has the last lines that it printed before
    it failed.
    """

    id: str
    name: str
    stack: str
    service: str
    slot: int
    image: str
    node: str
    desired: Desired
    state: TaskState
    since: float
    message: str = ""
    exit_code: int | None = None
    restarts: int = 0
    container: str = ""
    version: int = 0
    created_at: float = 0.0
    log: tuple[str, ...] = ()
    failures: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why something is not as it should be, and what change would mend it ("" when none is known).

    `about` is the task (`stack_service.slot`), the network or the port that it is about.
    """

    about: str
    why: str
    change: str = ""


@dataclass(frozen=True, slots=True)
class NodeFit:
    """Whether one more task of a service would fit a node, and if not, each reason with what would mend it.

    `tasks` counts those of the service that are to run there, `lately` tells of those that failed there.
    """

    node: str
    tasks: int
    fits: bool
    reasons: tuple[Trouble, ...] = ()
    lately: tuple[Trouble, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer to GET /v1/explain/{name}: `what` is the service or the task that was asked for."""

    what: str
    service: str
    wanted: int
    running: int
    troubles: tuple[Trouble, ...]
    nodes: tuple[NodeFit, ...]


@dataclass(frozen=True, slots=True)
class AttachmentView:
    """A container in a network that was started by hand. `message` tells what is wrong with it, if anything is."""

    network: str
    node: str
    container: str
    name: str
    addresses: tuple[str, ...]
    aliases: tuple[str, ...]
    state: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class AttachRequest:
    """The body of POST /v1/networks/{name}/attachments: a container by name or id, on any node if none is given."""

    container: str
    node: str = ""
    aliases: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkView:
    """`endpoints` counts the tasks that hold an address in it; `stack` is "" for the network of published ports."""

    id: str
    name: str
    stack: str
    vni: int
    subnets: tuple[str, ...]
    internal: bool
    endpoints: int
    encrypted: bool = False
    attachable: bool = False
    attachments: tuple[AttachmentView, ...] = ()


@dataclass(frozen=True, slots=True)
class DelayView:
    """So many delays of late, in seconds; None where there was none."""

    count: int
    p50: float | None = None
    p99: float | None = None
    longest: float | None = None


@dataclass(frozen=True, slots=True)
class ConvergenceView:
    """How long changes take to be in force on every node, as one manager measured it on the nodes in session with it.

    From the word that a task is healthy until names, virtual addresses and published ports lead to it everywhere, and
    from the decision that it stops (or the word that it ended) until nothing does. `unconfirmed` changes were not
    confirmed by some node within 30 s; `behind` names nodes that are being waited for, and for how many seconds.
    """

    manager: str
    nodes: int
    reachable: DelayView
    unreachable: DelayView
    unconfirmed: int
    behind: dict[str, float]


@dataclass(frozen=True, slots=True)
class VolumeView:
    """A volume whose data is on one node. `stack` made it ("": that stack is gone); `used_by` are `stack_service`.

    `problem` tells what keeps it from being used or, when it is `removing`, from being gone.
    """

    name: str
    node: str
    stack: str
    used_by: tuple[str, ...]
    created_at: float
    removing: bool = False
    problem: str = ""


# Streams.


@dataclass(frozen=True, slots=True)
class ServiceProgress:
    """How far one service of a stack is: `done` of `wanted` tasks are as asked for, or gone when it is removed.

    `states` counts the current tasks by state. `failures` counts tasks of this version that failed; `message` is the
    newest trouble, and `log` the last lines of the task that failed last. `leaving` counts tasks that have yet to end:
    of an older version, too many, or of a removed service.
    """

    service: str
    wanted: int
    done: int
    states: dict[str, int] = field(default_factory=dict)
    failures: int = 0
    message: str = ""
    leaving: int = 0
    mode: ServiceMode = ServiceMode.REPLICATED
    log: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """One line of GET /v1/stacks/{name}/progress; the last one has `done` or `failed`.

    A stream that ends without either was cut (the manager stopped): ask again. `failed` tells why the revision cannot
    be reached any more (replaced by a newer one, removed, or all restarts used up). `waits` tells, a sentence each,
    what a removal waits for when all tasks are gone.
    """

    stack: str
    revision: int
    removing: bool
    services: tuple[ServiceProgress, ...] = ()
    done: bool = False
    failed: str = ""
    waits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of GET /v1/services/{name}/logs; `task` is `stack_service.slot`, `line` has no line end.

    `at` is when it was printed, to the nanosecond. A line with a `note` is no output: it tells that something is
    missing, such as a node that is out of reach. The last one has `end`: a stream without was cut.
    """

    task: str
    id: str
    slot: int
    node: str
    stream: Literal["stdout", "stderr"] = "stdout"
    line: str = ""
    note: str = ""
    at: str = ""
    end: bool = False
