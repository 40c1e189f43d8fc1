"""Placement: constraints are kept as written, their grammar checked; spread preferences and the most on one node."""

from __future__ import annotations

import re

from cluster.compose.convert.field import Field

_CONSTRAINT = re.compile(r"\s*(?P<key>[a-zA-Z_][a-zA-Z0-9_.\-/]*)\s*(?:==|!=)\s*(?P<value>[^\s=!].*?|)\s*")
_KEYS = ("node.id", "node.hostname", "node.role", "node.platform.os", "node.platform.arch", "node.ip")
_PREFIXES = ("node.labels.", "engine.labels.")


def constraints(field: Field) -> tuple[str, ...]:
    """Read constraints, each like `node.labels.disk == ssd`."""
    found = []
    for item in field.items():
        written = item.text()
        match = _CONSTRAINT.fullmatch(written)
        if match is None or not match["value"]:
            raise item.error(f"{written[:80]!r} is not a constraint", hint="Write it like node.labels.disk == ssd.")
        _check_key(item, match["key"], *_KEYS)
        found.append(written.strip())
    return tuple(found)


def spread(field: Field) -> tuple[str, ...]:
    """Read spread preferences: by which label the tasks are spread, the first one first."""
    found = []
    for item in field.items():
        by = item["spread"]
        if not by.text():
            raise item.error("the preference says nothing", hint="Write it like spread: node.labels.zone.")
        _check_key(by, by.text())
        found.append(by.text())
    return tuple(found)


def _check_key(field: Field, written: str, *others: str) -> None:
    key = written.lower()
    if key not in others and not any(key.startswith(prefix) and len(key) > len(prefix) for prefix in _PREFIXES):
        names = ", ".join((*others, "node.labels.NAME"))
        raise field.error(f"{written[:60]!r} is nothing that a node has", hint=f"{names} and engine.labels.NAME are.")
