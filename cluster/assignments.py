"""What an agent is given to work from: items, each with an identity within its type, and sets of them by that.

How they travel is `cluster.protocol`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.model.attachment import sandbox_of
from cluster.model.network import Endpoint, Network, TunnelKey
from cluster.model.service import PortSpec, ServiceSpec
from cluster.model.task import Task
from cluster.model.volume import VolumeSpec


@dataclass(frozen=True, slots=True)
class ServiceItem:
    """One version of a service's spec that tasks on this node run, with the volumes that it mounts.

    One that is `coming` is that to which tasks here are about to be updated: its image is to be there by then.

    Of secrets and configs it has the digests only: the agent fetches the contents for itself, from
    `/v1/agent/contents/<stack>/<digest>`.
    """

    uid: str
    version: int
    stack: str
    spec: ServiceSpec
    volumes: tuple[VolumeSpec, ...] = ()
    digest: str = ""
    """What the image's name meant to its registry at the deploy; "" where nobody knew."""
    coming: bool = False

    @property
    def ident(self) -> str:
        return f"service/{self.name}"

    @property
    def name(self) -> str:
        """What Fetched calls it."""
        return f"{self.uid}/{self.version}"

    @property
    def image(self) -> str:
        """The image as the engine is to be asked for it; with a digest, engines only show the tag."""
        name = self.spec.container.image
        return f"{name}@{self.digest}" if self.digest else name


@dataclass(frozen=True, slots=True)
class TaskItem:
    """A task bound to this node; its spec is the ServiceItem of the same uid and version."""

    task: Task

    @property
    def ident(self) -> str:
        return f"task/{self.task.id}"


@dataclass(frozen=True, slots=True)
class NetworkItem:
    """A network that a task of this node is in; `node_address` is the node's own address in it (ingress only)."""

    network: Network
    node_addresses: tuple[str, ...] = ()

    @property
    def ident(self) -> str:
        return f"network/{self.network.id}"


@dataclass(frozen=True, slots=True)
class PeerItem:
    """An endpoint, here or elsewhere, in a network of this node: what FDB, neighbours and names are made of.

    `vtep` is the underlay address of its node. `ready` tells whether names and published ports may lead to it; one that
    is `leaving` ends, at the latest once nobody sends to it. A node's own endpoint in the ingress network has
    no task, service or slot.
    """

    network: str
    owner: str
    node: str
    vtep: str
    addresses: tuple[str, ...]
    mac: str
    ready: bool
    stack: str = ""
    service: str = ""
    service_uid: str = ""
    slot: int = 0
    aliases: tuple[str, ...] = ()
    leaving: bool = False
    keeps_source: bool = False
    """Its node leads answers to published ports back to where they came by: clients' addresses can be kept."""
    place: str = ""
    """Its node's name, where tasks are told apart by that: those of global services."""
    hostname: str = ""
    """What its container calls itself, if it was told to."""
    tunnels: tuple[TunnelKey, ...] = ()
    """In an encrypted network, those of its node, the one to send to first."""

    @property
    def ident(self) -> str:
        return f"peer/{self.network}/{self.owner}"


@dataclass(frozen=True, slots=True)
class VipItem:
    """The virtual address of a service in a network of this node: its names lead there, and it to the ready endpoints.

    With `sticky` a client gets the same endpoint each time for as long as that endpoint is there.
    """

    network: str
    service_uid: str
    stack: str
    service: str
    addresses: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    sticky: bool = False

    @property
    def ident(self) -> str:
        return f"vip/{self.network}/{self.service_uid}"


@dataclass(frozen=True, slots=True)
class PortItem:
    """A port published on every node; traffic goes to the ready ingress peers of the service, at `port.target`.

    With `local_first` a node that has some of them leads to no others.
    """

    service_uid: str
    port: PortSpec
    local_first: bool = False

    @property
    def ident(self) -> str:
        return f"port/{self.port.protocol}/{self.port.published}"


@dataclass(frozen=True, slots=True)
class VolumeItem:
    """A volume that is to be removed from this node, with its data. The agent answers with VolumesRemoved."""

    name: str

    @property
    def ident(self) -> str:
        return f"volume/{self.name}"


@dataclass(frozen=True, slots=True)
class AttachmentItem:
    """A container that is to be in a network, if it is on this node: its id, or while that is "" what it is `asked` by.

    It is wired with the `endpoint` (None: it has no addresses now), and not at all when it is `removing`.
    """

    id: str
    network: str
    asked: str
    container: str = ""
    endpoint: Endpoint | None = None
    removing: bool = False

    @property
    def ident(self) -> str:
        return f"attachment/{self.id}"

    @property
    def sandbox(self) -> str:
        return sandbox_of(self.container)


Item = ServiceItem | TaskItem | NetworkItem | PeerItem | VipItem | PortItem | VolumeItem | AttachmentItem


@dataclass(frozen=True, slots=True)
class Assignments:
    """The set that an agent works from: everything by ident, as of one revision of the cluster's state."""

    epoch: int = 0
    revision: int = 0
    items: dict[str, Item] = field(default_factory=dict)
