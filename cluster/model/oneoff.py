"""One-off tasks: a service's container with another command, run once because somebody asks for it."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.model.service import ServiceSpec


@dataclass(frozen=True, slots=True)
class OneOff:
    """What the API was asked for. Its one task is of a service of its own: `id` is the uid of that, `name` its name.

    `spec` is what runs: that of `service` at `version` of the stack, with what was asked for in its place. One that is
    `attended` is made ready, starts once somebody's terminal is `joined` to it, by the manager `manager`, and goes when
    that does; nobody has been there since `alone_since`. Any other is kept for a while after its end if it is `kept`.
    With `removing` it is to go at once.
    """

    id: str
    stack_uid: str
    stack: str
    service: str
    name: str
    version: int
    spec: ServiceSpec
    author: str
    created_at: float
    attended: bool = False
    kept: bool = False
    manager: str = ""
    joined: bool = False
    alone_since: float | None = None
    removing: bool = False

    @property
    def is_held(self) -> bool:
        """Tell whether its task is not to start yet."""
        return self.attended and not self.joined
