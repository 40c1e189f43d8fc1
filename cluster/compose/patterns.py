"""A table by path, in which `*` stands for any one step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from cluster.compose.tree import Path

T = TypeVar("T")


class Patterns(Generic[T]):
    """Finds what a table says for a path; the keys are written like `services.*.ports`."""

    def __init__(self, table: Mapping[str, T]) -> None:
        self._found: dict[tuple[int, str], list[tuple[tuple[str, ...], T]]] = {}
        for pattern, value in table.items():
            steps = tuple(pattern.split("."))
            self._found.setdefault((len(steps), steps[-1]), []).append((steps, value))

    def get(self, path: Path) -> T | None:
        depth = len(path)
        if not depth:
            return None
        for last in (path[-1], "*"):
            for steps, value in self._found.get((depth, last), ()):  # type: ignore[arg-type]
                if all(step in ("*", given) for step, given in zip(steps, path, strict=True)):
                    return value
        return None
