"""`extends`: a service that begins as a copy of another one, of the same file or of another."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cluster.compose.kinds import found
from cluster.compose.merge import lay_service
from cluster.compose.tree import Map, Path, Where, copy, drop, located, place_of, written

if TYPE_CHECKING:
    from cluster.compose.layers import Layers

MAX_CHAIN = 100


def extend(layers: Layers, tree: Map, file: str, drops: Iterable[Path]) -> None:
    """Replace each service of a tree that extends another one by the whole of it. Raises ComposeError."""
    services = tree.get("services")
    if services is None and "services" not in tree:
        return
    if not isinstance(services, Map):
        raise _at(tree, file, "services").error(f"a mapping is wanted here, not {found(services)}")
    for name in services:
        services[name] = _extended(layers, tree, file, name, tuple(drops), ())


def _at(tree: Map, file: str, *path: str) -> Where:
    return Where(*(place_of(tree, path) or (file, 1)), written(path))


def _extended(
    layers: Layers, tree: Map, file: str, name: str, drops: tuple[Path, ...], chain: tuple[tuple[str, str], ...]
) -> Any:
    service = tree["services"][name]
    at = _at(tree, file, "services", name)
    if service is None:
        return None
    if not isinstance(service, Map):
        raise at.error(f"a mapping is wanted here, not {found(service)}")
    if "extends" not in service:
        return service
    extends, at = service["extends"], _at(tree, file, "services", name, "extends")
    ref = extends.get("service") if isinstance(extends, Map) else extends
    if not isinstance(ref, str):
        raise at.error("the service to extend is not named", hint="Write extends: {service: NAME}.")
    other = extends.get("file") if isinstance(extends, Map) else None
    if other is not None and not isinstance(other, str):
        raise at.inner("file").error(f"a path is wanted here, not {found(other)}")
    if (file, name) in chain or len(chain) > MAX_CHAIN:
        names = " -> ".join([*(one for _, one in chain), name])
        raise at.error(f"services extend each other in a circle: {names}")
    chain = (*chain, (file, name))
    more: tuple[Path, ...] = ()
    if other is None:
        source, source_file = tree, file
    else:
        source_file = layers.at(other) if not chain[1:] else _beside(layers, file, other)
        source, more = layers.part(source_file, at)
    services = source.get("services")
    if not isinstance(services, Map) or ref not in services:
        raise at.error(f"there is no service {ref!r} in {source_file}")
    base = _extended(layers, source, source_file, ref, (*drops, *more), chain)
    if base is None:
        return service
    result = copy(base)
    drop(result, (path[2:] for path in drops if path[:2] == ("services", name)))
    over = copy(service)
    with located(tree, file):
        lay_service(result, over, name)
    result.pop("extends", None)
    return result


def _beside(layers: Layers, file: str, other: str) -> str:
    return layers.at(posixpath.join(posixpath.dirname(file), other))
