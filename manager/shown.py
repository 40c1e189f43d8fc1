"""What a picture of the cluster shows, by what it is asked for, and what follows from that. Pure.

`manager.picture` keeps it up to date.
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster.codec import Record
from cluster.model.attachment import Attachment
from cluster.model.cluster import Claim, ClockMark, Cluster, Trust
from cluster.model.network import Network
from cluster.model.node import Manager, Node, NodeState, NodeStatus, Session, SessionState
from cluster.model.oneoff import OneOff
from cluster.model.rebalance import Rebalance, RebalanceWish
from cluster.model.secret import Content, External
from cluster.model.service import ServiceSpec, ServiceState
from cluster.model.stack import ServiceVersion, Stack, StackRevision
from cluster.model.task import Desired, Task, TaskState, TaskStatus
from cluster.model.update import Withdrawn
from cluster.model.user import User
from cluster.model.volume import Volume


class Shown:
    """The records, their indexes, and how to read them. The public mappings are not for their readers to change.

    `unbound` holds the live tasks without a node by service, `noted` those with one that have a reason; `load` the
    number of live tasks by node, `occupied` the claimed addresses by network as integers. `newest` is what was claimed
    last, with its revision: numbers are given out in turn, so that one that was just freed is not given to somebody
    else at once.
    """

    def __init__(self) -> None:
        self.revision = 0
        self.cluster: Cluster | None = None
        self.clock: ClockMark | None = None
        self.rebalance_wish: RebalanceWish | None = None
        self.rebalance: Rebalance | None = None
        self.trust: Trust | None = None
        self.stacks: dict[str, Stack] = {}  # by name
        self.stack_names: dict[str, str] = {}  # by uid
        self.revisions: dict[str, dict[int, StackRevision]] = {}  # by stack uid, number
        self.services: dict[str, ServiceState] = {}
        self.services_of: dict[str, set[str]] = {}  # by stack uid
        self.oneoffs: dict[str, OneOff] = {}  # by the uid of the service that each has of its own
        self.networks: dict[str, Network] = {}
        self.networks_of: dict[str, set[str]] = {}  # by stack uid
        self.networks_named: dict[str, set[str]] = {}
        self.volumes: dict[str, Volume] = {}
        self.volumes_on: dict[str, set[str]] = {}  # by node
        self.volumes_leaving: dict[str, set[str]] = {}  # by node: the names of those to be removed from it
        self.tasks: dict[str, Task] = {}
        self.statuses: dict[str, TaskStatus] = {}
        self.tasks_of: dict[str, set[str]] = {}  # by service uid
        self.rows: dict[str, dict[int, tuple[Task, ...]]] = {}  # by service uid, slot: newest first
        self.unsettled: dict[str, set[str]] = {}  # by service uid: the tasks that `is_settled` does not hold for
        self.tasks_on: dict[str, set[str]] = {}  # by node, also ended ones
        self.tasks_in: dict[str, set[str]] = {}  # by network, only those that have not ended
        self.versions_used: dict[str, dict[int, set[str]]] = {}  # by stack uid, version
        self.unbound: dict[str, set[str]] = {}
        self.noted: dict[str, set[str]] = {}
        self.load: dict[str, int] = {}
        self.nodes: dict[str, Node] = {}
        self.drained: set[str] = set()  # the nodes that are to give up their tasks
        self.moving: set[str] = set()  # the tasks that make way for a better spread, or made way
        self.node_states: dict[str, NodeState] = {}
        self.sessions: dict[str, Session] = {}
        self.sessions_at: dict[str, set[str]] = {}  # by manager
        self.managers: dict[str, Manager] = {}
        self.withdrawn: dict[str, Withdrawn] = {}  # by manager
        self.contents: dict[str, dict[str, Content]] = {}  # by owner, digest
        self.externals: dict[str, External] = {}  # by owner, such as secret.NAME
        self.users: dict[str, User] = {}
        self.credentials: dict[str, str] = {}  # by id: the user's name
        self.attachments: dict[str, Attachment] = {}
        self.attachments_on: dict[str, set[str]] = {}  # by node, "" for those that are looked for everywhere
        self.attachments_in: dict[str, set[str]] = {}  # by network
        self.claims: dict[str, Claim] = {}  # by key
        self.claims_of: dict[str, set[str]] = {}  # by owner
        self.occupied: dict[str, set[int]] = {}
        self.holders: dict[str, set[tuple[str, str]]] = {}  # by network: owner and address of each claim
        self.vnis: set[int] = set()
        self.newest: dict[str, tuple[int, int]] = {}  # by "vni", subnet/VERSION, port/PROTOCOL, NETWORK/VERSION
        self._records: dict[str, Record] = {}
        self._revisions: dict[str, int] = {}

    def revision_of(self, key: str) -> int:
        """Give the revision at which the record at `key` was written last, 0 when there is none."""
        return self._revisions.get(key, 0)

    def get(self, key: str) -> Record | None:
        return self._records.get(key)

    def records(self) -> Iterator[tuple[str, Record]]:
        yield from self._records.items()

    def head(self, stack_uid: str) -> StackRevision | None:
        """Give the newest revision of a stack, whether or not the stack is being removed."""
        stack = self.stacks.get(self.stack_names.get(stack_uid, ""))
        return None if stack is None else self.revisions.get(stack_uid, {}).get(stack.head)

    def wanted(self, service: ServiceState) -> tuple[ServiceSpec, ServiceVersion] | None:
        """Give what the stack's head asks of a service, or somebody of a one-off; None when the service is to go."""
        stack = self.stacks.get(self.stack_names.get(service.stack_uid, ""))
        head = self.head(service.stack_uid)
        if stack is None or stack.removing or head is None:
            return None
        if (oneoff := self.oneoffs.get(service.uid)) is not None:
            return None if oneoff.removing else (oneoff.spec, ServiceVersion(oneoff.id, oneoff.version))
        version = head.services.get(service.name)
        if version is None or version.uid != service.uid:
            return None
        return head.spec.services[service.name], version

    def basis(self, service: ServiceState) -> StackRevision | None:
        """Give the revision that a service is wanted by: the stack's head, or for a one-off that of its beginning."""
        oneoff = self.oneoffs.get(service.uid)
        if oneoff is not None:
            return self.revisions.get(service.stack_uid, {}).get(oneoff.version)
        return self.head(service.stack_uid)

    def spec_of(self, task: Task) -> ServiceSpec | None:
        """Give the spec that a task runs, as it was at the task's own version."""
        if (oneoff := self.oneoffs.get(task.service_uid)) is not None:
            return oneoff.spec
        service = self.services.get(task.service_uid)
        revision = self.revisions.get(task.stack_uid, {}).get(task.version)
        return None if service is None or revision is None else revision.spec.services.get(service.name)

    def digest_of(self, task: Task) -> str:
        """Give the digest of the image that a task runs, "" if that is not known."""
        spec = self.spec_of(task)
        revision = self.revisions.get(task.stack_uid, {}).get(task.version)
        return "" if spec is None or revision is None else revision.image_digests.get(spec.name, "")

    def all_of(self, service_uid: str) -> list[Task]:
        """Give the tasks of a service, ended ones too, in the order of their ids."""
        return [self.tasks[ident] for ident in sorted(self.tasks_of.get(service_uid, ()))]

    def reported_state(self, task: Task) -> TaskState:
        """Tell how far a task has come by what is stored: this only ever grows."""
        if (status := self.statuses.get(task.id)) is not None:
            return status.state
        return TaskState.PENDING if task.node is None else TaskState.ASSIGNED

    def state_of(self, task: Task) -> TaskState:
        """Tell how far a task has come, for people.

        A wanted task whose node is down counts as PENDING: either its replacement is on the way, or it waits for that
        node because its volume is there (`task.reason` says so).
        """
        state = self.reported_state(task)
        if task.desired is Desired.RUNNING and not state.terminal and task.node is not None:
            if self.is_lost(task.node):
                return TaskState.PENDING
        return state

    def message_of(self, task: Task) -> str:
        """Say why a task is as it is, for people: the leader's reason, else what the agent said."""
        status = self.statuses.get(task.id)
        return task.reason or ("" if status is None else status.message)

    def is_ready(self, task: Task) -> bool:
        """Tell whether names and published ports may lead to a task."""
        return task.leaving_at is None and self.serves(task)

    def serves(self, task: Task) -> bool:
        """Tell whether a task answers whoever still finds it."""
        status = self.statuses.get(task.id)
        if status is None or status.state is not TaskState.RUNNING or task.desired is not Desired.RUNNING:
            return False
        return task.node is None or not self.is_lost(task.node)

    def is_live(self, task: Task) -> bool:
        """Tell whether a task is wanted and has not ended."""
        return task.desired is Desired.RUNNING and not self.has_ended(task)

    def has_ended(self, task: Task) -> bool:
        """Tell whether nothing of a task runs any more, so that what it held is free."""
        status = self.statuses.get(task.id)
        return status is not None and status.state.terminal

    def is_settled(self, task: Task) -> bool:
        """Tell whether a task lives on, or ended, holds nothing any more and is kept for its log: nearly all do."""
        if self.has_ended(task):
            return task.desired is not Desired.REMOVE and task.id not in self.claims_of
        return task.desired is Desired.RUNNING

    def is_heard(self, session: Session | None) -> bool:
        """Tell whether an agent is connected to a manager that is alive."""
        return session is not None and session.state is SessionState.OPEN and session.manager in self.managers

    def is_lost(self, node: str) -> bool:
        """Tell whether a node is gone or called down, and its agent has not come back since."""
        if node not in self.nodes:
            return True
        verdict = self.node_states.get(node)
        down = verdict is not None and verdict.status is NodeStatus.DOWN
        return down and not self.is_heard(self.sessions.get(node))

    def virtual_addresses(self, service_uid: str) -> dict[str, tuple[str, ...]]:
        """Give a service's virtual addresses by network: the addresses that the service itself has claimed."""
        return self.addresses_of(service_uid)

    def addresses_of(self, owner: str) -> dict[str, tuple[str, ...]]:
        """Give the addresses that one has claimed, by network."""
        found: dict[str, tuple[str, ...]] = {}
        for key in sorted(self.claims_of.get(owner, ())):
            claim = self.claims[key]
            if claim.kind == "address":
                network, _, address = claim.name.rpartition("/")
                found[network] = (*found.get(network, ()), address)
        return found
