"""Volumes."""

from __future__ import annotations

from dataclasses import dataclass


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
