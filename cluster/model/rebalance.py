"""Moving tasks for a better spread: what an operator asked for, and how far the leader is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RebalanceWish:
    """The operator's word. Another `id` than the leader last worked on asks for a rebalance now, "" does not.

    At most `max_unavailable` tasks of the cluster are on their way at a time. Services of a single task are left alone
    unless `include_single`. With `automatic_after` the leader begins by itself so many seconds after a node joined or
    came back.
    """

    id: str
    asked_at: float
    include_single: bool = False
    max_unavailable: int = 1
    automatic_after: float | None = None


@dataclass(frozen=True, slots=True)
class Rebalance:
    """The leader's record: it goes round the services by uid, `after` the last one, until a round moves nothing."""

    wish: str
    active: bool
    began_at: float
    ended_at: float = 0.0
    after: str = ""
    moved: int = 0
    moved_in_round: int = 0
