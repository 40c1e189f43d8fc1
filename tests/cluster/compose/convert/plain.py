"""A project that is nothing but a model: converts mappings in the form that `docker compose config` prints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from cluster.compose.convert import convert
from cluster.compose.convert.field import Path
from cluster.compose.tree import Where
from cluster.errors import ComposeError
from cluster.model.container import ContainerSpec
from cluster.model.service import ServiceSpec
from cluster.model.stack import StackSpec

FILE = "compose.yml"


@dataclass(frozen=True, slots=True)
class Plain:
    """`written` are the paths that the files wrote; every key of the model, if not told."""

    model: Any
    name: str = "shop"
    written: Iterable[Path] | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def tree(self) -> Any:
        return self.model

    @property
    def used(self) -> Iterator[tuple[Path, Where]]:
        return ((path, self.where(*path)) for path in (paths(self.model) if self.written is None else self.written))

    def where(self, *path: str | int) -> Where:
        return Where(FILE, 7, ".".join(map(str, path)))

    def reader(self, path: str) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return self.files[path]


def paths(node: Any, path: Path = ()) -> Iterator[Path]:
    steps = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for step, value in steps:
        yield (*path, step)
        yield from paths(value, (*path, step))


def stack(services: dict[str, Any], **top: Any) -> StackSpec:
    return convert(Plain({"services": services, **top}))


def service(fields: dict[str, Any], **top: Any) -> ServiceSpec:
    """Convert one service `a` with these keys."""
    return stack({"a": {"image": "x", **fields}}, **top).services["a"]


def container(fields: dict[str, Any], **top: Any) -> ContainerSpec:
    return service(fields, **top).container


def refused(fields: dict[str, Any], **top: Any) -> ComposeError:
    """Convert one service `a` that cannot be converted, and give the error."""
    with pytest.raises(ComposeError) as caught:
        service(fields, **top)
    assert caught.value.file in (FILE, None)
    return caught.value
