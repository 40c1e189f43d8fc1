"""What networks, volumes, secrets and configs are called in the cluster, and the labels on things."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cluster.compose import names
from cluster.compose.convert.field import Field

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_ACTION = re.compile(r"\{\{.*?\}\}")
_RESERVED = "com.stackyard."


@dataclass(frozen=True, slots=True)
class Naming:
    """What a thing of a stack is called in the cluster."""

    name: str
    external: bool


def naming(field: Field, stack: str, kind: str) -> Naming:
    """An explicit name is used as it is, an external thing without one is called by its key.

    That of a volume may hold templates, so that each task has its own.
    """
    key = str(field.path[-1])
    names.check_key(key, kind, field.source.where(*field.path))
    external = field["external"].boolean()
    given = field["name"]
    name = given.template() if kind == "volume" else given.text()
    if given.given and not _NAME.fullmatch(_ACTION.sub("x", name) if kind == "volume" else name):
        raise given.error(
            f"{name[:80]!r} cannot be the name of a {kind}",
            hint="Letters, digits, dots, - and _, beginning with a letter or digit.",
        )
    return Naming(name or (key if external else f"{stack}_{key}"), external)


def labels(field: Field) -> dict[str, str]:
    """Read labels; names that the cluster uses itself are refused."""
    for name, value in field.entries():
        if not name or name.startswith(_RESERVED):
            raise value.error(f"the label {name[:60]!r} is reserved" if name else "a label without a name")
    return field.pairs()
