"""Several files to one tree: what a later file says is laid over the earlier ones, by the rules of each key.

Mappings are merged key by key. Lists are joined without repeats, but for commands, which are replaced, and for ports
and volumes, of which a later one replaces the earlier with the same identity.
"""

from __future__ import annotations

from cluster.compose import mounts, ports
from cluster.compose.tree import Mapping, Node, Scalar, Sequence, is_null

_REPLACED = ("command", "entrypoint", "test")
_CLEARED_BY_NULL = ("command", "entrypoint")


def merge(base: Mapping, over: Mapping) -> Mapping:
    """Lay the normalised tree `over` onto `base`."""
    return _mapping(base, over, ())


def _mapping(base: Mapping, over: Mapping, path: tuple[str, ...]) -> Mapping:
    if path[2:] == ("logging",) and _text(over, "driver") and _text(base, "driver") != _text(over, "driver"):
        return over  # options of one driver mean nothing to another
    entries = dict(base.entries)
    for key, node in over.entries.items():
        entries[key] = _node(entries[key], node, (*path, key)) if key in entries else node
    return base.with_entries(entries)


def _node(base: Node, over: Node, path: tuple[str, ...]) -> Node:
    key = path[-1]
    inside_service = len(path) > 2 and path[0] == "services"
    if is_null(over):
        clears = len(path) == 3 and key in _CLEARED_BY_NULL
        unsets = len(path) == 4 and path[2] == "environment"
        return over if inside_service and (clears or unsets) else base
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        return _mapping(base, over, path)
    if not isinstance(base, Sequence) or not isinstance(over, Sequence) or (inside_service and key in _REPLACED):
        return over
    if inside_service and path[2:] in (("ports",), ("volumes",), ("tmpfs",)):
        return _by_identity(base, over, key)
    written = {_plain(item) for item in base.items}
    return Sequence((*base.items, *(item for item in over.items if _plain(item) not in written)), base.where)


def _by_identity(base: Sequence, over: Sequence, key: str) -> Sequence:
    merged: dict[object, Node] = {}
    for item in (*base.items, *over.items):
        assert isinstance(item, Mapping)  # normalised
        merged[ports.identity(item) if key == "ports" else mounts.identity(item)] = item
    return Sequence(tuple(merged.values()), base.where)


def _plain(node: Node) -> object:
    """Give a node's content without its places, to compare."""
    if isinstance(node, Scalar):
        return (type(node.value), node.value)
    if isinstance(node, Sequence):
        return tuple(_plain(item) for item in node.items)
    return tuple((key, _plain(value)) for key, value in sorted(node.entries.items(), key=lambda entry: entry[0]))


def _text(node: Mapping, key: str) -> object:
    found = node.get(key)
    return found.value if isinstance(found, Scalar) else None
