"""A Compose document as a tree that remembers where each value was written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cluster.errors import ComposeError


@dataclass(frozen=True, slots=True)
class Where:
    """`line`, from 1, is that of the key for a value in a mapping; `field` is like `services.web.ports.0`."""

    file: str
    line: int
    field: str = ""

    def inner(self, name: str | int, line: int | None = None) -> Where:
        return Where(self.file, line or self.line, f"{self.field}.{name}" if self.field else str(name))

    def error(self, message: str, *, hint: str = "") -> ComposeError:
        return ComposeError(message, file=self.file, line=self.line, field=self.field, hint=hint)


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A date or time written without quotes; Compose has no field that takes one."""

    text: str


ScalarValue = str | int | float | bool | Timestamp | None

Place = tuple[str, int]
"""A file and a line of it, from 1."""

Path = tuple[str | int, ...]


class Map(dict[str, Any]):
    """A mapping that remembers where each of its keys was written; keys that no file wrote have no place."""

    __slots__ = ("places",)

    def __init__(self, entries: Iterable[tuple[str, Any]] = (), places: dict[str, Place] | None = None) -> None:
        super().__init__(entries)
        self.places: dict[str, Place] = {} if places is None else places

    def put(self, key: str, value: Any, place: Place | None) -> None:
        self[key] = value
        if place is not None:
            self.places[key] = place


class Pairs(Map):
    """A mapping that stands for a list of NAME=value."""

    __slots__ = ()


class List(list[Any]):
    """A list that remembers where each of its items was written; None for an item that no file wrote."""

    __slots__ = ("places",)

    def __init__(self, items: Iterable[Any] = (), places: list[Place | None] | None = None) -> None:
        super().__init__(items)
        self.places: list[Place | None] = [None] * len(self) if places is None else places

    def put(self, value: Any, place: Place | None) -> None:
        self.append(value)
        self.places.append(place)


class Wrong(Exception):
    """Something is wrong at a path below the value at hand; `located` turns it into a ComposeError at the root."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.steps: list[str | int] = []

    def within(self, step: str | int) -> Wrong:
        """Give the same, seen from one level further out."""
        self.steps.append(step)
        return self


def place_of(root: Any, path: Path) -> Place | None:
    """Give the place of the deepest part of the path that was written in a file."""
    node, best = root, None
    for step in path:
        if isinstance(node, Map) and isinstance(step, str) and step in node:
            best = node.places.get(step, best)
            node = node[step]
        elif isinstance(node, List) and isinstance(step, int) and 0 <= step < len(node):
            best = node.places[step] or best
            node = node[step]
        else:
            break
    return best


def written(path: Path) -> str:
    """Write a path as errors show it: services.web.ports.0."""
    return ".".join(map(str, path))


@contextmanager
def located(root: Any, file: str) -> Iterator[None]:
    """Turn what is Wrong below `root` into a ComposeError with its place; `file` is told where there is none."""
    try:
        yield
    except Wrong as wrong:
        path = tuple(reversed(wrong.steps))
        place = place_of(root, path) or (file, 1)
        raise Where(*place, written(path)).error(wrong.message, hint=wrong.hint) from None


def entries(value: Any) -> Iterator[tuple[str, Any, Place | None]]:
    """Give the keys of a mapping with their values and places."""
    places = value.places if isinstance(value, Map) else {}
    for key, inner in value.items():
        yield key, inner, places.get(key)


def items(value: Any) -> Iterator[tuple[Any, Place | None]]:
    """Give the items of a list with their places."""
    if isinstance(value, List):
        yield from zip(value, value.places, strict=True)
    else:
        yield from ((item, None) for item in value)


def copy(value: Any) -> Any:
    """Copy a tree, down to its scalars."""
    if isinstance(value, dict):
        kind = Pairs if isinstance(value, Pairs) else Map
        return kind(((key, copy(inner)) for key, inner in value.items()), dict(getattr(value, "places", {})))
    if isinstance(value, list):
        places = list(value.places) if isinstance(value, List) else None
        return List((copy(item) for item in value), places)
    return value


def drop(root: Any, paths: Iterable[Path]) -> None:
    """Take out what `!reset` and `!override` of a later file name."""
    for path in paths:
        node = root
        for step in path[:-1]:
            node = node.get(str(step)) if isinstance(node, Map) else None
        if path and isinstance(node, Map):
            node.pop(str(path[-1]), None)
