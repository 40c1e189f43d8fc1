"""What keeps etcd small and well: how much history it keeps, which member is to be defragmented, what is wrong with it.

A compaction only frees room within the file; a defragmentation gives it back, and its member serves nobody meanwhile.
So that is done member by member, only while all others are well, and with raft's leader last. An etcd whose quota is
used up takes nothing but deletions until it was compacted, defragmented and told so: all of that is decided here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cluster.examination import Finding
from manager.picture import ClusterState

KEEP_HISTORY = 600.0
"""Seconds of etcd's history that are kept at least, for watches that resume; at most twice as much is."""

WORTHWHILE_BYTES, WORTHWHILE_SHARE = 64 * 2**20, 0.5
"""A file is made smaller when at least so much of it, in bytes and as a part, holds nothing any more."""

FULL_SHARE = 0.1
"""The same of a file that has used up the quota: there, any room is worth it."""

SLOW = 1.5
"""Seconds within which a member answers that is well."""

LOOKS, MOST_SLOW = 12, 6
"""Of so many last looks at a member so many may be slow, or without answer: more than that, and it is called slow."""


@dataclass(frozen=True, slots=True)
class Mark:
    """At the instant `at` (cluster time) etcd stood at `revision`."""

    revision: int
    at: float


@dataclass(frozen=True, slots=True)
class Seen:
    """A member as it was looked at. What follows `serves` is its own word, and is known of one that answers only.

    `serves`: it also read something, which one that is being defragmented does not. `size` and `used` are of its file,
    in bytes. `alarms` are those of any member, as they all know them: kind by id.
    """

    id: int
    name: str
    serves: bool = False
    leads: bool = False
    size: int = 0
    used: int = 0
    revision: int = 0
    alarms: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Compact:
    """Forget all history before a revision, and free its pages at once."""

    revision: int


@dataclass(frozen=True, slots=True)
class Defragment:
    member: int


@dataclass(frozen=True, slots=True)
class Disarm:
    """Say that a member's quota is not used up any more; one for which that is not true says so again."""

    member: int


Step = Compact | Defragment | Disarm
FULL, CORRUPT = "NOSPACE", "CORRUPT"


def compaction(mark: Mark | None, now: float, revision: int) -> tuple[int | None, Mark | None]:
    """Give the revision before which history goes now, and the mark to store in place of the one that is stored."""
    if mark is None or mark.revision > revision:  # of another life of the cluster
        return None, Mark(revision, now)
    if now - mark.at < KEEP_HISTORY:
        return None, None
    return mark.revision, Mark(revision, now)


def is_full(members: Iterable[Seen]) -> bool:
    return bool(_armed(members, FULL))


def next_step(members: Sequence[Seen], compacted: int) -> Step | None:
    """Tell what is to be done next, if anything. `compacted` is the revision up to which history went for want of room.

    Asked again, on a new look, after each step: so no member is defragmented while another one is.
    """
    full = is_full(members)
    revision = max((member.revision for member in members), default=0)
    if full and compacted < revision:
        return Compact(revision)
    if not members or not all(member.serves for member in members):
        return None
    worth = [member for member in members if _is_worth(member, full)]
    if worth:
        return Defragment(min(worth, key=lambda member: (member.leads, member.id)).id)
    return Disarm(min(_armed(members, FULL))) if full else None


def _is_worth(member: Seen, full: bool) -> bool:
    free = member.size - member.used
    if full:
        return free >= member.size * FULL_SHARE
    return free >= WORTHWHILE_BYTES and free >= member.size * WORTHWHILE_SHARE


def _armed(members: Iterable[Seen], kind: str) -> set[int]:
    return {ident for member in members for ident, what in member.alarms.items() if what == kind}


class Answers:
    """How fast members answered the last looks. `took` is None for one that did not answer."""

    def __init__(self) -> None:
        self._of: dict[int, deque[float | None]] = {}

    def note(self, member: int, took: float | None) -> None:
        self._of.setdefault(member, deque(maxlen=LOOKS)).append(took)

    def keep(self, members: Iterable[int]) -> None:
        """Forget all other members."""
        kept = set(members)
        self._of = {ident: answers for ident, answers in self._of.items() if ident in kept}

    def slow(self, member: int) -> int:
        """Count the last looks at a member for which it took too long."""
        return sum(took is None or took > SLOW for took in self._of.get(member, ()))


def troubles(members: Sequence[Seen], away: Mapping[int, str], answers: Answers) -> dict[str, str]:
    """Say what is wrong with which member, by its name. `away` are those that do not answer, with why."""
    found: dict[str, list[str]] = {}
    full, corrupt = _armed(members, FULL), _armed(members, CORRUPT)
    for member in members:
        told = found.setdefault(member.name, [])
        if member.id in away:
            told.append(away[member.id])
        elif (slow := answers.slow(member.id)) > MOST_SLOW:
            told.append(f"its etcd is slow: {slow} of the last {LOOKS} answers took more than {SLOW:g} s or never came")
        if member.id in full:
            used = f", {_size(member.used)} of {_size(member.size)} in use" if member.size else ""
            told.append(f"the quota of its etcd is used up{used}: nothing can be changed until room is made")
        if member.id in corrupt:
            told.append("its etcd says that its data is not that of the other members")
    return {name: "; ".join(told) for name, told in found.items() if told}


def of_nodes(state: ClusterState, told: Mapping[str, str]) -> dict[str, str]:
    """Say it by the id of the node that it is about: the member's, or those of all managers for another's etcd."""
    nodes = {node.name: node.id for node in state.nodes.values()}
    found: dict[str, list[str]] = {}
    for name, text in sorted(told.items()):
        managers = sorted(manager.name for manager in state.managers.values())
        for about in (name,) if name in nodes else managers:
            if about in nodes:
                found.setdefault(nodes[about], []).append(text if name in nodes else f"{name}: {text}")
    return {ident: "; ".join(texts) for ident, texts in found.items()}


_REMEDIES = (
    ("used up", "The managers make room by themselves; if that does not last, remove stacks or raise etcd's quota."),
    ("slow", "Look at that host's load and disk: etcd waits for the disk with each write."),
    ("not that of", "Take that member out (`stack leave` on its host) and let it join again."),
)
_START_IT = "Start it; its log tells why it ended. While it is away, etcd is not defragmented."


def findings(told: Mapping[str, str]) -> Iterator[Finding]:
    for name, text in sorted(told.items()):
        remedy = next((remedy for words, remedy in _REMEDIES if words in text), _START_IT)
        yield Finding("etcd", name, text, remedy)


def _size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
