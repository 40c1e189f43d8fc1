"""Attachments: containers that somebody started by hand, as members of a network."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Attachment:
    """What the API was asked for: a container on a node is to be in a network, by id, until it is gone or detached.

    While it is `asked` for by a name that no node has found yet, `container` is "", and so is `node` unless that was
    said. Its addresses are the claims that it owns; `addresses` are those that it is to have. The container's name is
    among the `aliases` once it is known. With `removing` it is to be taken off.
    """

    id: str
    network: str
    asked: str
    created_at: float
    node: str = ""
    container: str = ""
    aliases: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    removing: bool = False

    @property
    def sandbox(self) -> str:
        return sandbox_of(self.container)


class AttachmentState(StrEnum):
    """What a node's agent says of an attachment.

    In the last three nothing of it is wired, and stays so with the addresses that it had: they are free.
    """

    MISSING = "missing"  # there is no such container on this node
    UNFIT = "unfit"  # there is, and it cannot be attached
    FOUND = "found"  # it runs, and may have addresses
    WAITING = "waiting"  # it is about to be wired, or is not for a moment
    ATTACHED = "attached"
    ENDED = "ended"  # the container does not run; when it is started again it is attached again
    GONE = "gone"  # the container was removed, or the attachment was taken off

    @property
    def is_over(self) -> bool:
        return self in (AttachmentState.ENDED, AttachmentState.GONE)


@dataclass(frozen=True, slots=True)
class AttachmentReport:
    """An agent's word on an attachment, with the container's id and name; `at` is when a manager heard it first."""

    state: AttachmentState
    message: str = ""
    container: str = ""
    name: str = ""
    at: float = 0.0


BY_HAND = "hand-"
"""Begins the names of sandboxes that are a container's own; those of tasks are hexadecimal."""


def sandbox_of(container: str) -> str:
    """Name the sandbox that a container's own namespace is, whichever networks it is attached to."""
    return BY_HAND + container[:20]
