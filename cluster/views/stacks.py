"""Stacks and their revisions, and what makes a new one of an old one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


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
class SwitchRequest:
    """The body of POST /v1/stacks/{name}/switch: stop or start all services or some, which keep their definitions."""

    operation: str
    running: bool
    services: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RevisionReply:
    """The answer to whatever makes a revision; `changed` is false when the stack was like that already.

    `notes` are for whoever asked: nothing is wrong, but worth knowing. `changes` is as in RevisionView. `source` is the
    revision that a rollback goes back to (0: unknown, or no rollback).
    """

    stack: str
    uid: str
    revision: int
    changed: bool
    notes: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    source: int = 0


@dataclass(frozen=True, slots=True)
class RemoveReply:
    """The answer to DELETE: the stack is going; its uid tells it from a later stack of the same name.

    `volumes_left` are those that stay, with the node that each is on.
    """

    stack: str
    uid: str
    revision: int
    volumes_left: dict[str, str] = field(default_factory=dict)


StackPhase = Literal["running", "converging", "removing"]


@dataclass(frozen=True, slots=True)
class StackView:
    """`running` counts the tasks of `wanted` that run at the newest version, and those of jobs that have completed.

    `up` counts those of any version (None: the manager is too old to tell); `paused` the services whose update waits
    for a person, `stopped` those that were stopped.
    """

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
    up: int | None = None
    paused: int = 0
    stopped: int = 0


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
