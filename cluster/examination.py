"""What a node is asked and tells when a cluster's network is examined, and what is found by it."""

from __future__ import annotations

from dataclasses import dataclass, field

CLOCK_TOLERANCE = 1.0
"""Seconds that clocks may differ, beyond what the exchange of two packets leaves open."""
WAY = "way/"
"""Begins the names of a node's conditions that are about the way to another node; its id follows."""


@dataclass(frozen=True, slots=True)
class Target:
    """A node to send probes to, by its id and its address between nodes."""

    node: str
    address: str


@dataclass(frozen=True, slots=True)
class ExaminationRequest:
    """What one manager asks of another: to have its nodes examined, with the ways to these."""

    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Probed:
    """What became of the probes to a target. Sizes are of whole IP packets that may not be cut to pieces, in bytes.

    `passed` is the largest that was answered, 0 if none. `refused` is what this node's own kernel said to sending,
    `answerer` the node that answered. Its clock is `ahead` of this node's by so many seconds, give or take `give`.
    `spoilt` tells that what was answered no more are packets whose checksums were left to who sends them on.
    """

    target: Target
    passed: int = 0
    refused: str = ""
    answerer: str = ""
    ahead: float = 0.0
    give: float = 0.0
    spoilt: bool = False


@dataclass(frozen=True, slots=True)
class Foreign:
    """A VXLAN link of somebody else that takes packets from the same UDP port."""

    link: str
    vni: int


@dataclass(frozen=True, slots=True)
class Astray:
    """A name, or a virtual address, that in a task's sandbox led elsewhere than it should.

    `told` is what was said there, or why nothing was. `mended` if the agent has put it right.
    """

    task: str
    name: str
    told: str
    meant: str
    mended: bool = False


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What a node found when it examined itself and the ways to other nodes.

    `link` carries its address between nodes and takes packets of `mtu` bytes; `needed` is the size of the largest that
    its networks send there. `deaf` tells why it cannot answer others' probes. `stale` are namespaces and links that
    nothing accounts for and that stay though they were to be removed, `removed` those that it has just removed.
    `networks` are digests, by network, of what the node knows of the endpoints and virtual addresses in each. `names`
    and `vips` count what was looked up in the sandboxes of tasks.
    """

    link: str
    mtu: int
    needed: int
    probed: tuple[Probed, ...] = ()
    deaf: str = ""
    stale: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    foreign: tuple[Foreign, ...] = ()
    networks: dict[str, str] = field(default_factory=dict)
    names: int = 0
    vips: int = 0
    astray: tuple[Astray, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or that was put right (`mended`), with what a person can do about it.

    `kind` is a word for programs, `about` what it is about: a node, a way such as `n1 -> n2`, a network.
    """

    kind: str
    about: str
    what: str
    remedy: str = ""
    mended: bool = False


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was looked at and what was found; `ways` between nodes count each direction.

    `names` and `vips` count look-ups and virtual addresses, each wherever it was looked at.
    """

    nodes: int
    ways: int
    names: int = 0
    vips: int = 0
    findings: tuple[Finding, ...] = ()
