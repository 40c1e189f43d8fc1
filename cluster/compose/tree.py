"""A Compose document as a tree that remembers where each value was written."""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass, field, replace

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


@dataclass(frozen=True, slots=True)
class Scalar:
    value: ScalarValue
    where: Where


@dataclass(frozen=True, slots=True)
class Sequence:
    items: tuple[Node, ...]
    where: Where


@dataclass(frozen=True, slots=True)
class Mapping:
    entries: AnyMapping[str, Node] = field(default_factory=dict)
    where: Where = Where("", 0)

    def get(self, key: str) -> Node | None:
        """Give the value of a key; None where it is missing or null, which mean the same nearly everywhere."""
        node = self.entries.get(key)
        return None if is_null(node) else node

    def with_entries(self, entries: AnyMapping[str, Node]) -> Mapping:
        return replace(self, entries=entries)


Node = Scalar | Sequence | Mapping


def is_null(node: Node | None) -> bool:
    return node is None or (isinstance(node, Scalar) and node.value is None)
