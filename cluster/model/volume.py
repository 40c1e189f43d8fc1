"""Named volumes and where they live."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    """A volume of a stack as asked for. `name` is the full name; `driver` "" is the engine's local driver."""

    key: str
    name: str
    external: bool = False
    driver: str = ""
    driver_options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Volume:
    """The leader's record of a local volume: bound to the first node that got it, never made anew elsewhere.

    `removing` is final: its data is to go, no task gets it any more, and the manager that holds the node's session
    deletes the record when the agent says that the volume is gone.
    """

    name: str
    node: str
    stack_uid: str
    bound_at: float
    removing: bool = False
