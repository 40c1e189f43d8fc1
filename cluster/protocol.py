"""Messages between a manager and an agent, over one WebSocket that carries control only.

The agent dials `/v1/agent/session`, says Hello and gets Welcome with the epoch of its session, then pages of
assignments: first the full set, later what changed. It answers with statuses and a beat each `beat_interval` seconds.
Frames stay below MAX_FRAME bytes. Streams (logs, exec) never run here: on OpenStream or OpenChannel the agent dials
`/v1/agent/streams/<ticket>`, a connection of its own per stream, with back-pressure from end to end.

An agent ignores a set of an older epoch, or of an older revision within the epoch, than it has acted on. It removes
nothing before the last page of a full set has arrived.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec

from cluster.assignments import (
    AttachmentItem,
    Item,
    NetworkItem,
    PeerItem,
    PortItem,
    ServiceItem,
    TaskItem,
    VipItem,
    VolumeItem,
)
from cluster.channel import OpenChannel
from cluster.examination import NodeReport, Target
from cluster.latency import Latency
from cluster.model.attachment import AttachmentReport
from cluster.model.node import NodeDescription
from cluster.model.task import TaskStatus
from cluster.reading import untrusted
from cluster.usage import Counters, Stored, Traffic

VERSION = 4
OLDEST_VERSION = 1
RESOLVES_IMAGES = 2
"""From this version on an agent knows ResolveImages."""
HOLDS = 3
"""From this version on an agent starts no task that is held."""
CHANNELS = 3
"""From this version on an agent knows OpenChannel."""
CONSOLES = 4
"""From this version on an agent knows channels that attach to a task's program, or send it a signal."""
FETCHES = 4
"""From this version on an agent pulls images of versions that it is to have tasks of, and says Fetched."""
MANAGERS = 4
"""From this version on an agent knows Managers."""
TUNNELS = 4
"""From this version on an agent knows encrypted networks; an older one would send their packets in clear."""
IPV6 = 4
"""From this version on an agent tells its host's routes, and does without IPv6 where its kernel does."""
GENERATIONS = 4
"""From this version on an agent says Programmed of every set that changes which endpoints are led to."""
EXAMINES = 4
"""From this version on an agent knows Examine."""
ATTACHES = 4
"""From this version on an agent attaches containers that were started by hand, and says Attached."""
MEASURES = 4
"""From this version on an agent knows Measure."""
KEEPS = 4
"""From this version on an agent says in Hello what it has of topics, and keeps of those what a full set says."""
CLOCKS = 4
"""From this version on an agent tells its time of day with each beat."""
TIMINGS = 4
"""From this version on a manager knows Timings."""
ROTATES = 4
"""From this version on a manager knows that the CA can be rotated, and an agent knows Roots."""

USERS = 4
"""From this version on a manager knows records of users."""
STOPPED_SERVICES = 4
"""From this version on a manager knows services that are stopped; an older one would start them."""
NETWORK_OPTIONS = 4
"""From this version on a manager knows networks that are encrypted, have IPv6 or a gateway that was asked for."""
LOCKED_FILES = 4
"""From this version on a manager knows key files that are locked; an older one would write the keys in clear."""
ONE_OFFS = 4
"""From this version on a manager knows records of one-off tasks, and an agent attaches to containers yet to start."""

MAX_FRAME = 64 * 1024
MOST_ROUTES = 128
"""Routes of a node's host that are told and kept."""
MOST_LISTENING = 256
"""Ports that programs of a node's host listen on that are told and kept."""


# The wire form of items is one optional field a type, so that msgspec can tell them apart without a tag in the types.


class Page(msgspec.Struct, tag="assignments", omit_defaults=True, frozen=True):
    """A part of a set. `full` on all pages of a full set, `last` on the last page of any set.

    `removed` holds idents, perhaps of items that came and went unsent, and is empty in full sets: there, what is not
    mentioned is gone, except what the agent has of the topics `kept`, which the last page names.
    """

    epoch: int
    revision: int
    full: bool
    last: bool
    services: tuple[ServiceItem, ...] = ()
    tasks: tuple[TaskItem, ...] = ()
    networks: tuple[NetworkItem, ...] = ()
    peers: tuple[PeerItem, ...] = ()
    ports: tuple[PortItem, ...] = ()
    removed: tuple[str, ...] = ()
    volumes: tuple[VolumeItem, ...] = ()
    vips: tuple[VipItem, ...] = ()
    attachments: tuple[AttachmentItem, ...] = ()
    kept: tuple[str, ...] = ()

    @property
    def items(self) -> tuple[Item, ...]:
        own: tuple[Item, ...] = (*self.services, *self.tasks, *self.networks, *self.volumes, *self.attachments)
        return (*own, *self.peers, *self.ports, *self.vips)


class Hello(msgspec.Struct, tag="hello", frozen=True):
    """The agent's first message. `cluster` is the cluster that it acted for (empty on a fresh node), in its `life`.

    `has` are the digests of what it was told of topics (cluster/topics.py).
    """

    oldest_version: int
    newest_version: int
    description: NodeDescription
    cluster: str = ""
    epoch: int = 0
    revision: int = 0
    life: str = ""
    has: dict[str, str] = {}


class Welcome(msgspec.Struct, tag="welcome", frozen=True):
    """The manager's answer. `managers` are the URLs of all managers, for when this one goes."""

    version: int
    cluster: str
    node: str
    epoch: int
    beat_interval: float
    managers: tuple[str, ...] = ()
    life: str = ""


class Refused(msgspec.Struct, tag="refused", frozen=True):
    """The manager will not have this session; the reason is for the agent's log. The socket closes after it.

    `final` means that asking again cannot help (another cluster, a removed node, no common version).
    """

    reason: str
    final: bool = False


class Beat(msgspec.Struct, tag="beat", frozen=True):
    """The agent lives. `conditions` are its node's troubles by name, such as {"engine": "engine down since ..."}.

    `routes` are the subnets that its host reaches otherwise than by our networks, with the link that leads there; None
    where they are as the session's last beat said. So with `listening`, the ports that programs of the host listen on
    (`tcp/22`). `at` is the time of day on the node, 0 from an agent that does not tell it.
    """

    conditions: dict[str, str] = {}
    routes: dict[str, str] | None = None
    listening: tuple[str, ...] | None = None
    at: float = 0.0


class Statuses(msgspec.Struct, tag="statuses", frozen=True):
    """What became of tasks, newest only. The manager answers with Recorded once etcd has them."""

    sequence: int
    statuses: tuple[TaskStatus, ...]


class Recorded(msgspec.Struct, tag="recorded", frozen=True):
    """All statuses up to this sequence number are stored; the agent may forget them."""

    sequence: int


class VolumesRemoved(msgspec.Struct, tag="volumes-removed", frozen=True):
    """These volumes of VolumeItems are gone from the node. Said in each session for as long as the items are there."""

    names: tuple[str, ...]


class Programmed(msgspec.Struct, tag="programmed", frozen=True):
    """Names, virtual addresses, published ports and networks of this node are as in the set of that revision.

    Said of sets in which a peer leaves, and from GENERATIONS on of those in which one became, or ceased to be, ready.
    """

    revision: int


class Fetched(msgspec.Struct, tag="fetched", frozen=True):
    """Of these versions of services (`uid/version`) that are coming the image is there, or (not "") why not."""

    images: dict[str, str] = {}


class Attached(msgspec.Struct, tag="attached", frozen=True):
    """How all attachments are that this node was told of, by id. Said whenever that changes, and first in a session."""

    reports: dict[str, AttachmentReport] = {}


class Timings(msgspec.Struct, tag="timings", frozen=True):
    """How long the agent's work (`cluster.latency.AgentWork`) took since it last said so.

    For managers of version TIMINGS and later.
    """

    latencies: dict[str, Latency] = {}


class Trusting(msgspec.Struct, tag="trusting", frozen=True):
    """Which roots (digests) the agent trusts, and which signed its certificate. Said to Roots, and as it changes."""

    roots: tuple[str, ...]
    signer: str


class Goodbye(msgspec.Struct, tag="goodbye", frozen=True):
    """The agent goes down by plan and means to be back within `seconds`."""

    seconds: float


class ImagesResolved(msgspec.Struct, tag="images-resolved", frozen=True):
    """The answer to ResolveImages of that id: the digests of images, or why there is none.

    `platforms` are those (`linux/arm64/v8`) that an image is made for, as far as its registry tells.
    """

    id: str
    digests: dict[str, str] = {}
    problems: dict[str, str] = {}
    platforms: dict[str, tuple[str, ...]] = {}


class Examined(msgspec.Struct, tag="examined", frozen=True):
    """The answer to Examine of that id: a report, or why there is none."""

    id: str
    report: NodeReport | None = None
    problem: str = ""


class Measured(msgspec.Struct, tag="measured", frozen=True):
    """The answer to Measure of that id: what was asked for, as far as it is there, or why there is nothing."""

    id: str
    tasks: tuple[Counters, ...] = ()
    disk: tuple[Stored, ...] = ()
    problem: str = ""
    traffic: tuple[Traffic, ...] = ()


@dataclass(frozen=True, slots=True)
class LogsRequest:
    """The log of one task's container, as the engine gives it; `tail` None is all of it, instants in seconds."""

    task: str
    follow: bool = False
    tail: int | None = None
    since: float | None = None
    until: float | None = None
    timestamps: bool = False
    kind: Literal["logs"] = "logs"


class OpenStream(msgspec.Struct, tag="open-stream", frozen=True):
    """Asks the agent to dial in with this one-time ticket and carry the stream described."""

    ticket: str
    request: LogsRequest


class ResolveImages(msgspec.Struct, tag="resolve-images", frozen=True):
    """Asks what registries mean by these images now; each is given up after so many seconds."""

    id: str
    images: tuple[str, ...]
    seconds: float


class Examine(msgspec.Struct, tag="examine", frozen=True):
    """Asks for an examination of the node, and of the ways to these others; given up after so many seconds."""

    id: str
    targets: tuple[Target, ...]
    seconds: float


class Measure(msgspec.Struct, tag="measure", frozen=True):
    """Asks for the counters of tasks, with `traffic` those of their networks alone, or what lies on the disk; given up
    after so many seconds.
    """

    id: str
    tasks: tuple[str, ...]
    disk: bool
    seconds: float
    traffic: bool = False


class Managers(msgspec.Struct, tag="managers", frozen=True):
    """There is another manager: the URLs of all, as in Welcome. Only for agents of version MANAGERS and later."""

    urls: tuple[str, ...]


class Roots(msgspec.Struct, tag="roots", frozen=True):
    """The roots of the CA (PEM) that are to be trusted, the one that signs first: a certificate of that is to be had.

    Said once the CA was rotated, first in a session and as it changes, to agents of version ROTATES and later.
    """

    roots: tuple[str, ...]


Answer = ImagesResolved | Examined | Measured
"""What is said to a question, by its id."""

ToManager = (
    Hello | Beat | Statuses | VolumesRemoved | Programmed | Fetched | Attached | Timings | Trusting | Goodbye | Answer
)


ToAgent = (
    Welcome
    | Managers
    | Roots
    | Refused
    | Page
    | Recorded
    | OpenStream
    | OpenChannel
    | ResolveImages
    | Examine
    | Measure
)


# Frames of a log stream: the first byte tells the source, the rest is the bytes as the engine gave them.
STDOUT, STDERR, STREAM_ERROR, STREAM_END = b"\x01", b"\x02", b"\x03", b"\x04"

_encoder = msgspec.json.Encoder()
_to_manager: msgspec.json.Decoder[ToManager] = msgspec.json.Decoder(ToManager)
_to_agent: msgspec.json.Decoder[ToAgent] = msgspec.json.Decoder(ToAgent)
_page = msgspec.json.Decoder(Page)


def encode(message: ToManager | ToAgent) -> bytes:
    """Write a message to one frame."""
    return _encoder.encode(message)


def decode_to_manager(frame: bytes | str) -> ToManager:
    """Read what an agent sent. Raises msgspec.MsgspecError when it is no message of this protocol."""
    return untrusted(_to_manager, frame)


def decode_to_agent(frame: bytes | str) -> ToAgent:
    """Read what a manager sent. Raises msgspec.MsgspecError when it is no message of this protocol."""
    return untrusted(_to_agent, frame)


class Part(NamedTuple):
    """An item as it stands in a frame: the field of the page that it belongs in, and its text there."""

    field: str
    text: bytes


_FIELDS: dict[type, str] = {
    ServiceItem: "services",
    TaskItem: "tasks",
    NetworkItem: "networks",
    PeerItem: "peers",
    PortItem: "ports",
    VolumeItem: "volumes",
    VipItem: "vips",
    AttachmentItem: "attachments",
}


def part(item: Item) -> Part:
    """Write an item once for all whom it is told."""
    return Part(_FIELDS[type(item)], _encoder.encode(item))


def frames(
    epoch: int,
    revision: int,
    parts: Iterable[Part],
    removed: tuple[str, ...] = (),
    *,
    full: bool,
    kept: tuple[str, ...] = (),
) -> Iterator[bytes]:
    """Cut a set into the frames of its pages, each below MAX_FRAME (one huge item alone may exceed it)."""
    texts: dict[str, list[bytes]] = {}
    size = 0

    def frame(gone: tuple[str, ...], *, last: bool) -> bytes:
        head = {"type": "assignments", "epoch": epoch, "revision": revision, "full": full, "last": last}
        items = {name: msgspec.Raw(b"[" + b",".join(some) + b"]") for name, some in texts.items()}
        texts.clear()
        stays = {"kept": kept} if last and kept else {}
        return _encoder.encode(head | items | ({"removed": gone} if gone else {}) | stays)

    for name, text in parts:
        if size and size + len(text) + 1 > MAX_FRAME - 1024:
            yield frame((), last=False)
            size = 0
        texts.setdefault(name, []).append(text)
        size += len(text) + 1
    room = max(1, (MAX_FRAME - 1024) // 96)
    chunks = [removed[i : i + room] for i in range(0, len(removed), room)] or [()]
    if size and removed:
        yield frame((), last=False)
    for index, chunk in enumerate(chunks):
        yield frame(chunk, last=index == len(chunks) - 1)


def paginate(
    epoch: int, revision: int, items: tuple[Item, ...], removed: tuple[str, ...] = (), *, full: bool
) -> list[Page]:
    """Cut a set into pages, as `frames` does."""
    return [_page.decode(frame) for frame in frames(epoch, revision, map(part, items), removed, full=full)]
