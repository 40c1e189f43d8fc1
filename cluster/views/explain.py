"""Why something is as it is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why something is not as it should be, and what change would mend it ("" when none is known).

    `about` is the task (`stack_service.slot`), the network or the port that it is about.
    """

    about: str
    why: str
    change: str = ""


@dataclass(frozen=True, slots=True)
class NodeFit:
    """Whether one more task of a service would fit a node, and if not, each reason with what would mend it.

    `tasks` counts those of the service that are to run there, `lately` tells of those that failed there.
    """

    node: str
    tasks: int
    fits: bool
    reasons: tuple[Trouble, ...] = ()
    lately: tuple[Trouble, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer to GET /v1/explain/{name}: `what` is the service or the task that was asked for."""

    what: str
    service: str
    wanted: int
    running: int
    troubles: tuple[Trouble, ...]
    nodes: tuple[NodeFit, ...]
