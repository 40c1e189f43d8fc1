"""What Compose adds by itself to a project: networks, names, dependencies, the Dockerfile, variables from outside."""

from __future__ import annotations

import posixpath
from typing import Any

from cluster.compose.interpolate import Lookup
from cluster.compose.merge import pairs
from cluster.compose.tree import List, Map, Pairs, Wrong, entries

_DEFAULT = "default"
_SERVICE = "service:"


def normalise(root: Map, project: str, lookup: Lookup) -> None:
    """Add it, in place, to a tree in long forms. Raises Wrong."""
    services = root.get("services") or {}
    uses_default = False
    for name, service in services.items():
        try:
            uses_default = _service(service, lookup) or uses_default
        except Wrong as wrong:
            raise wrong.within(name).within("services") from None
    networks = root.get("networks")
    if uses_default:
        if networks is None:
            networks = root["networks"] = Map()
        networks.setdefault(_DEFAULT, None)
    for section in ("networks", "volumes", "configs", "secrets"):
        for key, value, _ in entries(root.get(section) or {}):
            resource = root[section][key] = Map() if value is None else value
            if isinstance(resource, Map) and resource.get("name") is None:
                resource["name"] = key if resource.get("external") else f"{project}_{key}"


def resolve(root: Map, lookup: Lookup) -> None:
    """Give variables that services list by name alone the values that the files' own set of variables has."""
    services = root.get("services")
    for service in services.values() if isinstance(services, Map) else ():
        if isinstance(service, Map) and isinstance(service.get("environment"), List | Pairs):
            service["environment"] = _resolved(service["environment"], lookup, keep=True)


def _service(service: Map, lookup: Lookup) -> bool:
    """Whether the service comes to the default network, named or not."""
    if service.get("pull_policy") == "if_not_present":
        service["pull_policy"] = "missing"
    build = service.get("build")
    if build is not None:
        if build.get("dockerfile") is None and build.get("dockerfile_inline") is None:
            build["dockerfile"] = "Dockerfile"
        if "args" in build:
            build["args"] = _resolved(build["args"], lookup, keep=False)
    if "environment" in service:
        service["environment"] = _resolved(service["environment"], lookup, keep=True)
    _depend(service)
    for mount in service.get("volumes") or ():
        target = mount.get("target")
        if isinstance(target, str):
            mount["target"] = clean(target)
    if service.get("provider") is not None:
        return False
    if not service.get("networks") and not service.get("network_mode"):
        service["networks"] = Map([(_DEFAULT, None)])
    return _DEFAULT in (service.get("networks") or ())


def clean(path: str) -> str:
    """Take needless parts out of a path; two slashes at its beginning are one."""
    cleaned = posixpath.normpath(path) if path else "."
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def scale(service: dict[str, Any]) -> None:
    """Write the number of containers in both of its places, in a service of the model whose places agree."""
    if service.get("scale") is not None and "deploy" in service:
        service["deploy"] = {**service["deploy"], "replicas": service["scale"]}


def _resolved(value: Any, lookup: Lookup, *, keep: bool) -> Map:
    """Give names without a value that of the surroundings; without one they stay null, or are left out."""
    result = Map()
    for name, text, place in entries(pairs(value)):
        found = lookup(name) if text is None else text
        if found is not None or keep:
            result.put(name, found, place)
    return result


def _depend(service: Map) -> None:
    depends_on = service.get("depends_on") or Map()
    for link in service.get("links") or ():
        parts = link.split(":")
        _add(depends_on, parts[0] if len(parts) == 2 else link, restart=True)
    for namespace in ("network_mode", "ipc", "pid", "uts", "cgroup"):
        shared = service.get(namespace)
        if isinstance(shared, str) and shared.startswith(_SERVICE):
            _add(depends_on, shared.removeprefix(_SERVICE), restart=True)
    for source in service.get("volumes_from") or ():
        if not source.startswith("container:"):
            _add(depends_on, source.partition(":")[0], restart=False)
    if depends_on:
        service["depends_on"] = depends_on


def _add(depends_on: Map, service: str, *, restart: bool) -> None:
    if service not in depends_on:
        depends_on[service] = Map([("condition", "service_started"), ("restart", restart), ("required", True)])
