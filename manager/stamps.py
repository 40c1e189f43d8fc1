"""Tells whether something that is made of a service's tasks still stands: an index of the picture. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Stamp(NamedTuple):
    tasks: int
    nodes: int


class Stamps:
    """Fed by the picture that owns it. No number comes twice, not even for a service that is deleted and made again."""

    def __init__(self) -> None:
        self._services: dict[str, int] = {}
        self._nodes = self._newest = 0

    def of(self, service_uid: str) -> Stamp:
        """Give what is another after any change of a service's tasks, of their statuses, or of what nodes are like."""
        return Stamp(self._services.get(service_uid, 0), self._nodes)

    def note_service(self, uid: str) -> None:
        self._newest += 1
        self._services[uid] = self._newest

    def note_nodes(self) -> None:
        self._nodes += 1

    def forget(self, service_uid: str) -> None:
        self._services.pop(service_uid, None)
