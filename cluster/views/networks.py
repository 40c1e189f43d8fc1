"""Networks, and how long it takes until their nodes know what changed."""

from __future__ import annotations

from dataclasses import dataclass


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
class MemberView:
    """Who has these addresses: a task, a service its virtual ones, a node its own in the network of published ports.

    `kind` is "task", "service" or "node"; `node` is where a task is, "" before it is placed and for services.
    """

    kind: str
    name: str
    node: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NetworkDetail:
    """A network with all its members. `gateways` and `mtu` are those that were asked for."""

    network: NetworkView
    gateways: tuple[str, ...]
    mtu: int | None
    members: tuple[MemberView, ...]


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
