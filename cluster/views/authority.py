"""The cluster's CA: its roots, and how far a rotation is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cluster.model.cluster import TrustPhase


@dataclass(frozen=True, slots=True)
class RootView:
    """`digest` is the SHA-256 (hex) of its certificate, as join tokens carry it."""

    digest: str
    signs: bool
    ends_at: float


@dataclass(frozen=True, slots=True)
class MissingView:
    """Who a rotation waits for: a manager or node by name, or a user's certificate.

    `absent`: it does not come along by itself, unless somebody does something.
    """

    kind: Literal["manager", "node", "certificate"]
    name: str
    why: str
    absent: bool = False


@dataclass(frozen=True, slots=True)
class CaView:
    """`since` is when the phase began, None for a CA that was never rotated. `managers` and `nodes` tell how many there
    are; those that the rotation waits for are `missing`.
    """

    phase: TrustPhase
    since: float | None
    roots: tuple[RootView, ...]
    managers: int
    nodes: int
    missing: tuple[MissingView, ...] = ()
