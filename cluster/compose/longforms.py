"""Short forms to long ones, once a file is merged onto those before it and found to fit the schema.

So everything after this meets one form of each key; those that differ only in their type of value (`command` as text,
`environment` as a list) are settled where the model is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.compose.kinds import wanted
from cluster.compose.merge import dependency, named, pairs
from cluster.compose.mountforms import parse_mount
from cluster.compose.portforms import long_ports
from cluster.compose.servicefields import SERVICE
from cluster.compose.tree import List, Map, Wrong, entries, items

_Step = Callable[[Any], Any]


def expand(root: Map) -> Map:
    """Give the tree in long forms, changed in place. Raises Wrong."""
    _each(root, "services", _service)
    for section in ("networks", "volumes", "secrets", "configs"):
        _each(root, section, _resource)
    return root


def _each(root: Map, section: str, step: _Step) -> None:
    holder = root.get(section)
    if not isinstance(holder, Map):
        return
    for name, value in holder.items():
        try:
            holder[name] = step(value)
        except Wrong as wrong:
            raise wrong.within(name).within(section) from None


def _service(service: Any) -> Any:
    """What does not fit the schema is left as it is, for the schema to refuse."""
    for key, value in service.items() if isinstance(service, Map) else ():
        step = _STEPS.get(key)
        if step is not None and value is not None:
            try:
                if SERVICE.fields[key].accepts(value):
                    service[key] = step(value)
                elif key in _STRICT:
                    raise wanted(value, _STRICT[key])
            except Wrong as wrong:
                raise wrong.within(key) from None
    return service


def _resource(value: Any) -> Any:
    """The old `external: {name: N}`."""
    external = value.get("external") if isinstance(value, Map) else None
    if isinstance(external, Map):
        if "name" in external:
            if "name" in value and value["name"] != external["name"]:
                hint = "Write the name beside external: true."
                raise Wrong("there are two names, here and in external", hint=hint).within("name")
            value.put("name", external["name"], external.places.get("name"))
        value["external"] = True
    return value


def _build(value: Any) -> Any:
    build = Map([("context", value)]) if isinstance(value, str) else value
    if isinstance(build.get("additional_contexts"), List):
        build["additional_contexts"] = pairs(build["additional_contexts"])
    if isinstance(build.get("ssh"), List):
        build["ssh"] = pairs(build["ssh"])
    if isinstance(build.get("secrets"), List):
        build["secrets"] = _items(build["secrets"], _grant)
    return build


def _items(value: Any, step: _Step) -> List:
    result = List()
    for n, (item, place) in enumerate(items(value)):
        try:
            result.put(step(item), place)
        except Wrong as wrong:
            raise wrong.within(n) from None
    return result


def _grant(value: Any) -> Any:
    return Map([("source", value)]) if isinstance(value, str) else value


def _grants(value: Any) -> Any:
    return _items(value, _grant)


def _depends_on(value: Any) -> Any:
    dependencies = named(value, dependency)
    for one in dependencies.values():
        if isinstance(one, Map):
            one.setdefault("required", True)
    return dependencies


def _env_file(value: Any) -> Any:
    def step(item: Any) -> Any:
        one = Map([("path", item)]) if isinstance(item, str) else item
        if isinstance(one, Map):
            one.setdefault("required", True)
        return one

    return _items(_list(value), step)


def _list(value: Any) -> Any:
    return List([value]) if isinstance(value, str) else value


def _dns(value: Any) -> Any:
    kept = [(item, place) for item, place in items(_list(value)) if item != ""]
    return List([item for item, _ in kept], [place for _, place in kept])


def _gpus(value: Any) -> Any:
    return List([Map([("count", "all")])]) if isinstance(value, str) else value


def _named(value: Any) -> Any:
    return named(value, lambda: None)


def _volumes(value: Any) -> Any:
    return _items(value, lambda item: parse_mount(item) if isinstance(item, str) else item)


def _devices(value: Any) -> Any:
    return _items(value, _device)


def _device(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    parts = value.split(":")
    if len(parts) > 3:
        raise Wrong(f"{value[:60]!r} has too many colons", hint="Use the long form: source, target, permissions.")
    source = parts[0]
    target = parts[1] if len(parts) > 1 else source
    permissions = parts[2] if len(parts) > 2 else "rwm"
    return Map([("source", source), ("target", target or source), ("permissions", permissions)])


def _extends(value: Any) -> Any:
    return Map([("service", value)]) if isinstance(value, str) else value


_STEPS: dict[str, _Step] = {
    "build": _build,
    "depends_on": _depends_on,
    "env_file": _env_file,
    "label_file": _list,
    "extends": _extends,
    "gpus": _gpus,
    "models": _named,
    "networks": _named,
    "volumes": _volumes,
    "dns": _dns,
    "devices": _devices,
    "secrets": _grants,
    "configs": _grants,
    "ports": long_ports,
}


_STRICT: dict[str, tuple[str, ...]] = {
    "build": ("string", "object"),
    "depends_on": ("array", "object"),
    "env_file": ("string", "array"),
    "gpus": ("string", "array"),
    "models": ("array", "object"),
    "networks": ("array", "object"),
    "ports": ("array",),
}
"""What is refused even in services of which nobody asks, in files that are only extended from."""


def complete(root: Map) -> None:
    """Fill in what long forms leave to a default, once all files are merged."""
    for _, service, _ in entries(root.get("services") or {}):
        if not isinstance(service, Map):
            continue
        build = service.get("build")
        if isinstance(build, Map):
            build.setdefault("context", ".")
        for grant in service.get("secrets") or ():
            if grant.get("target") is None:
                grant["target"] = f"/run/secrets/{grant.get('source', '')}"
        for port in service.get("ports") or ():
            port.setdefault("mode", "ingress")
            port.setdefault("protocol", "tcp")
        reservations = _path(service, "deploy", "resources", "reservations", "devices")
        for device in [*(service.get("gpus") or ()), *(reservations or ())]:
            if "count" not in device and "device_ids" not in device:
                device["count"] = "all"


def _path(value: Any, *steps: str) -> Any:
    for step in steps:
        value = value.get(step) if isinstance(value, Map) else None
    return value
