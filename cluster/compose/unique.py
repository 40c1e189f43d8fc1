"""What lists hold only once: the later of two items that mean the same takes the place of the earlier one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.compose.kinds import found
from cluster.compose.mountforms import parse_mount
from cluster.compose.patterns import Patterns
from cluster.compose.tree import List, Map, Path, Wrong, items

_Index = Callable[[Any], str]


def make_unique(value: Any, path: Path = ()) -> Any:
    """Take out, in place, what lists hold twice. Raises Wrong."""
    if isinstance(value, Map):
        for key, inner in value.items():
            if isinstance(inner, Map | List):
                try:
                    value[key] = make_unique(inner, (*path, key))
                except Wrong as wrong:
                    raise wrong.within(key) from None
    elif isinstance(value, List) and (index := _INDEXES.get(path)) is not None:
        return _once(value, index)
    return value


def _once(value: List, index: _Index) -> List:
    result = List()
    at: dict[str, int] = {}
    for n, (item, place) in enumerate(items(value)):
        try:
            mark = index(item)
        except Wrong as wrong:
            raise wrong.within(n) from None
        if mark in at:
            result[at[mark]], result.places[at[mark]] = item, place
        else:
            at[mark] = len(result)
            result.put(item, place)
    return result


def _name(item: Any) -> str:
    if not isinstance(item, str):
        raise Wrong(f"text is wanted here, not {found(item)}")
    return item.partition("=")[0]


def _exposed(item: Any) -> str:
    if isinstance(item, bool) or not isinstance(item, str | int):
        raise Wrong(f"{found(item)} is no port to expose")
    return str(item)


def _mounted(item: Any) -> str:
    if isinstance(item, Map):
        target = item.get("target")
        if not isinstance(target, str):
            raise Wrong("the mount has no target")
        return target
    return str(parse_mount(item).get("target", "")) if isinstance(item, str) else ""


def _device(item: Any) -> str:
    if isinstance(item, Map):
        target = item.get("target")
        if not isinstance(target, str):
            raise Wrong("the device has no target")
        return target
    if not isinstance(item, str):
        return ""
    parts = item.split(":")
    return parts[1] if len(parts) > 1 else parts[0]


def _granted(folder: str) -> _Index:
    def index(item: Any) -> str:
        if isinstance(item, Map):
            target = item.get("target")
            if target is not None and not isinstance(target, str):
                raise Wrong(f"text is wanted here, not {found(target)}").within("target")
            return target if target is not None else f"{folder}/{item.get('source')}"
        if not isinstance(item, str):
            raise Wrong(f"text or a mapping is wanted here, not {found(item)}")
        return f"{folder}/{item}"

    return index


def _port(item: Any) -> str:
    if isinstance(item, Map):
        target = item.get("target")
        if isinstance(target, bool) or not isinstance(target, int):
            raise Wrong("the port has no target")
        host, protocol = item.get("host_ip"), item.get("protocol")
        address = host if isinstance(host, str) else "0.0.0.0"
        published = item.get("published")
        return f"{address}:{'' if published is None else published}:{target}/{protocol or 'tcp'}"
    return str(item)


def _env_file(item: Any) -> str:
    return str(item.get("path")) if isinstance(item, Map) else str(item)


_INDEXES: Patterns[_Index] = Patterns(
    {
        "networks.*.labels": _name,
        "networks.*.ipam.options": _name,
        "services.*.annotations": _name,
        "services.*.build.args": _name,
        "services.*.build.additional_contexts": _name,
        "services.*.build.tags": _name,
        "services.*.build.labels": _name,
        "services.*.cap_add": _name,
        "services.*.cap_drop": _name,
        "services.*.devices": _device,
        "services.*.configs": _granted(""),
        "services.*.deploy.labels": _name,
        "services.*.dns": _name,
        "services.*.dns_opt": _name,
        "services.*.dns_search": _name,
        "services.*.environment": _name,
        "services.*.env_file": _env_file,
        "services.*.expose": _exposed,
        "services.*.labels": _name,
        "services.*.links": _name,
        "services.*.networks.*.aliases": _name,
        "services.*.networks.*.link_local_ips": _name,
        "services.*.ports": _port,
        "services.*.profiles": _name,
        "services.*.secrets": _granted("/run/secrets"),
        "services.*.sysctls": _name,
        "services.*.tmpfs": _name,
        "services.*.volumes": _mounted,
    }
)
