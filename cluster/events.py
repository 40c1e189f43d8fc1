"""The events of a cluster, as its stream tells them: what changed, when, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

EventType = Literal["stack", "service", "task", "node", "network", "volume", "secret", "config", "manager", "stream"]
"""`stream` is about the stream itself: see StreamAction."""

StreamAction = Literal["lost", "at", "end"]
"""`lost`: some events are missing here, and `message` says why. `at`: nothing came, up to this revision (what comes
next is newer). `end`: it was all that was asked for."""

NOUNS = ("stack", "service", "task", "node", "network", "volume", "secret", "config", "manager")
KEYS = ("type", "event", *NOUNS)


@dataclass(frozen=True, slots=True)
class ClusterEvent:
    """`action` is Docker's word where it has one, `id` and `name` are of the thing that it happened to.

    `revision` is etcd's, of the transaction that did it: all managers tell the same events in the same order. `stack`,
    `service` (`stack_service`) and `node` (its name) tell where it belongs.
    """

    revision: int
    at: float
    type: EventType
    action: str
    id: str = ""
    name: str = ""
    stack: str = ""
    service: str = ""
    node: str = ""
    message: str = ""
    exit_code: int | None = None

    @property
    def identity(self) -> tuple[str, str, str]:
        """Tells it from the others of its revision."""
        return self.type, self.action, self.id


def matches(event: ClusterEvent, filters: Iterable[tuple[str, str]]) -> bool:
    """Tell whether an event passes filters of KEYS: of those with the same key one has to, as with `docker events`."""
    wanted: dict[str, list[str]] = {}
    for key, value in filters:
        wanted.setdefault(key, []).append(value)
    return all(any(_matches(event, key, value) for value in values) for key, values in wanted.items())


def _matches(event: ClusterEvent, key: str, value: str) -> bool:
    if key == "type":
        return event.type == value
    if key == "event":
        return event.action == value
    if key == event.type:
        return event.name == value or (value != "" and event.id.startswith(value)) or _short(event) == value
    if key == "service":
        return event.service == value or event.service.removeprefix(f"{event.stack}_") == value
    return {"stack": event.stack, "node": event.node}.get(key) == value


def _short(event: ClusterEvent) -> str:
    """Give a name without its stack, as people may say it."""
    return event.name.removeprefix(f"{event.stack}_") if event.stack else event.name
