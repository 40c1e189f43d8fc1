"""Moves for a better spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class RebalanceRequest:
    """The body of POST /v1/rebalance: move tasks for a better spread, or with `dry_run` only tell which.

    With `automatic` nothing begins now: it is the cool-down in seconds after a node joined or came back, after which
    the cluster does so by itself from now on, or "off".
    """

    operation: str
    dry_run: bool = False
    include_single: bool = False
    max_unavailable: int = 1
    automatic: float | Literal["off"] | None = None


@dataclass(frozen=True, slots=True)
class MoveView:
    """`task` is `stack_service.slot`; `source` and `target` are nodes' names."""

    task: str
    id: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class RebalanceView:
    """`moves` are those that would make the spread better as things stand; `under_way` those that are being made."""

    active: bool
    moved: int
    under_way: int
    moves: tuple[MoveView, ...] = ()
    automatic_after: float | None = None
    ended_at: float = 0.0
