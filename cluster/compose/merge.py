"""One tree laid over another, by the rules of the Compose Specification's section on merging.

Mappings merge key by key and lists grow; single values are replaced; nothing (null) changes nothing. The exceptions are
in `_RULES`. What a list must hold only once is in `unique`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.compose.kinds import found
from cluster.compose.patterns import Patterns
from cluster.compose.scalars import write
from cluster.compose.tree import List, Map, Pairs, Path, Wrong, entries, items

_Rule = Callable[[Any, Any, Path], Any]


def merge(base: Map, over: Map) -> Map:
    """Lay `over` over `base`; both may be changed and shared by the result. Raises Wrong."""
    return _mappings(base, over, ())


def _merge(base: Any, over: Any, path: Path) -> Any:
    rule = _RULES.get(path)
    if rule is not None:
        return rule(base, over, path)
    if over is None:
        return base
    if isinstance(base, Map):
        return _mappings(base, over, path)
    if isinstance(base, List):
        if not isinstance(over, List):
            raise Wrong(f"a list of an earlier file cannot be overridden by {found(over)}")
        return List([*base, *over], [*base.places, *over.places])
    return over


def _mappings(base: Any, over: Any, path: Path) -> Map:
    if not isinstance(base, Map):
        raise Wrong(f"{found(base)} of an earlier file cannot be overridden")
    if not isinstance(over, Map):
        raise Wrong(f"a mapping of an earlier file cannot be overridden by {found(over)}")
    for key, value, place in entries(over):
        try:
            merged = _merge(base[key], value, (*path, key)) if key in base else value
        except Wrong as wrong:
            raise wrong.within(key) from None
        base.put(key, merged, base.places.get(key) if value is None and merged is not None else place)
    return base


def _replace(base: Any, over: Any, path: Path) -> Any:
    return over


def pairs(value: Any) -> Map:
    """A list of NAME=value, or a mapping, to a mapping of texts; nothing is an empty one."""
    result = Map()
    if isinstance(value, Map):
        for key, inner, place in entries(value):
            result.put(key, _text(inner), place)
    elif isinstance(value, list):
        for n, (item, place) in enumerate(items(value)):
            if not isinstance(item, str):
                raise Wrong(f"text like NAME=value is wanted here, not {found(item)}").within(n)
            name, equals, text = item.partition("=")
            result.put(name, text if equals else None, place)
    elif isinstance(value, str):
        name, equals, text = value.partition("=")
        result.put(name, text if equals else None, None)
    elif value is not None:
        raise Wrong(f"a mapping or a list is wanted here, not {found(value)}")
    return result


def _text(value: Any) -> Any:
    return write(value) if isinstance(value, bool | int | float) else value


def _pairs(base: Any, over: Any, path: Path) -> Any:
    result = Pairs()
    for value in (pairs(base), pairs(over)):
        for key, text, place in entries(value):
            result.put(key, text, place)
    return result


def _lists(base: Any, over: Any, path: Path) -> Any:
    """Text counts as a list of one."""
    both = [*items(as_list(base)), *items(as_list(over))]
    return List([item for item, _ in both], [place for _, place in both])


def as_list(value: Any) -> List:
    if isinstance(value, List):
        return value
    if isinstance(value, Map):
        return List((key if inner is None else f"{key}={_text(inner)}" for key, inner in value.items()))
    return List() if value is None else List([value])


def hosts(value: Any) -> List:
    """Any form of extra_hosts to a list of name=address."""
    result = List()
    if isinstance(value, Map):
        for name, addresses, place in entries(value):
            for address in addresses if isinstance(addresses, list) else [addresses]:
                result.put(f"{name}={address}", place)
    elif isinstance(value, List):
        for item, place in items(value):
            known = isinstance(item, str) and "=" not in item
            result.put(item.replace(":", "=", 1) if known else item, place)
    elif value is not None:
        raise Wrong(f"a mapping or a list is wanted here, not {found(value)}")
    return result


def _hosts(base: Any, over: Any, path: Path) -> Any:
    before, after = hosts(base), hosts(over)
    result = List(before, list(before.places))
    for item, place in items(after):
        if item not in before:
            result.put(item, place)
    return result


def _build(base: Any, over: Any, path: Path) -> Any:
    return _mappings(_as_build(base), _as_build(over), path)


def _as_build(value: Any) -> Any:
    if value is None:
        return Map()
    return Map([("context", value)]) if isinstance(value, str) else value


def named(value: Any, make: Callable[[], Any]) -> Any:
    """A list of names to a mapping of them."""
    if not isinstance(value, list):
        return Map() if value is None else value
    result = Map()
    for n, (item, place) in enumerate(items(value)):
        if not isinstance(item, str):
            raise Wrong(f"text is wanted here, not {found(item)}").within(n)
        result.put(item, make(), place)
    return result


def dependency() -> Map:
    return Map([("condition", "service_started"), ("required", True)])


def _depends_on(base: Any, over: Any, path: Path) -> Any:
    return _mappings(named(base, dependency), named(over, dependency), path)


def _named(base: Any, over: Any, path: Path) -> Any:
    return _mappings(named(base, lambda: None), named(over, lambda: None), path)


def _logging(base: Any, over: Any, path: Path) -> Any:
    """Options of another driver are of no use."""
    if over is None:
        return base
    if not isinstance(base, Map) or not isinstance(over, Map):
        return over
    drivers = base.get("driver"), over.get("driver")
    if "driver" in base and "driver" in over and drivers[0] != drivers[1]:
        return over
    return _mappings(base, over, path)


def _ulimit(base: Any, over: Any, path: Path) -> Any:
    return _mappings(base, over, path) if isinstance(base, Map) and isinstance(over, Map) else over


def _ipam_config(base: Any, over: Any, path: Path) -> Any:
    """Entries for one subnet merge."""
    result = List()
    if not isinstance(base, List) or not (over is None or isinstance(over, List)):
        raise Wrong(f"a list of mappings is wanted here, not {found(base if not isinstance(base, List) else over)}")
    used: list[Any] = []
    for item, place in items(base):
        for other in over or ():
            if isinstance(item, Map) and isinstance(other, Map) and item.get("subnet") == other.get("subnet"):
                used.append(other)
                item = _mappings(item, other, (*path, 0))
        result.put(item, place)
    for other, place in items(over or List()):
        if not any(other is one for one in used):
            result.put(other, place)
    return result


_RULES: Patterns[_Rule] = Patterns(
    {
        "networks.*.ipam.config": _ipam_config,
        "networks.*.labels": _pairs,
        "volumes.*.labels": _pairs,
        "services.*.annotations": _pairs,
        "services.*.build": _build,
        "services.*.build.args": _pairs,
        "services.*.build.additional_contexts": _pairs,
        "services.*.build.extra_hosts": _hosts,
        "services.*.build.labels": _pairs,
        "services.*.command": _replace,
        "services.*.depends_on": _depends_on,
        "services.*.deploy.labels": _pairs,
        "services.*.dns": _lists,
        "services.*.dns_opt": _lists,
        "services.*.dns_search": _lists,
        "services.*.entrypoint": _replace,
        "services.*.env_file": _lists,
        "services.*.label_file": _lists,
        "services.*.environment": _pairs,
        "services.*.extra_hosts": _hosts,
        "services.*.healthcheck.test": _replace,
        "services.*.labels": _pairs,
        "services.*.volumes.*.volume.labels": _pairs,
        "services.*.logging": _logging,
        "services.*.models": _named,
        "services.*.networks": _named,
        "services.*.sysctls": _pairs,
        "services.*.tmpfs": _lists,
        "services.*.ulimits.*": _ulimit,
    }
)


def lay_service(base: Map, over: Map, name: str) -> Map:
    """Lay a service over the one that it extends. Raises Wrong."""
    try:
        return _mappings(base, over, ("services", name))
    except Wrong as wrong:
        raise wrong.within(name).within("services") from None
