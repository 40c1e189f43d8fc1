"""Placement constraints: kept as written, their grammar checked."""

from __future__ import annotations

import re

from cluster.compose import values
from cluster.compose.tree import Mapping

_CONSTRAINT = re.compile(r"\s*(?P<key>[a-zA-Z_][a-zA-Z0-9_.\-/]*)\s*(?:==|!=)\s*(?P<value>[^\s=!].*?|)\s*")
_KEYS = ("node.id", "node.hostname", "node.role", "node.platform.os", "node.platform.arch", "node.ip")
_PREFIXES = ("node.labels.", "engine.labels.")


def constraints(deploy: Mapping) -> tuple[str, ...]:
    """Read `deploy.placement.constraints`, each like `node.labels.disk == ssd`."""
    placement = values.mapping(deploy.get("placement"))
    found = []
    for node in values.items(placement.get("constraints")):
        written = values.text(node)
        match = _CONSTRAINT.fullmatch(written)
        if match is None or not match["value"]:
            hint = "Write it like node.labels.disk == ssd."
            raise node.where.error(f"{written[:80]!r} is not a constraint", hint=hint)
        key = match["key"].lower()
        if key not in _KEYS and not any(key.startswith(p) and len(key) > len(p) for p in _PREFIXES):
            raise node.where.error(
                f"{match['key'][:60]!r} is nothing that a node has",
                hint=f"{', '.join(_KEYS)}, node.labels.NAME and engine.labels.NAME are.",
            )
        found.append(written.strip())
    return tuple(found)
