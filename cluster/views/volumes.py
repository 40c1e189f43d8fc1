"""Volumes."""

from __future__ import annotations

from dataclasses import dataclass

NODE_DOWN = "its node is down"
"""The problem of a volume whose node is away, for now."""


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


@dataclass(frozen=True, slots=True)
class VolumeRemoval:
    """What came of having a volume removed: it is `gone`, or will be; `problem` tells what keeps it there meanwhile."""

    name: str
    node: str
    gone: bool
    problem: str = ""
