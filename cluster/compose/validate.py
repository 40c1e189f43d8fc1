"""What a set of files must hold beyond the schema, each set for itself: those of the project and of each include."""

from __future__ import annotations

from typing import Any

from cluster.compose.kinds import found
from cluster.compose.portforms import check_address
from cluster.compose.tree import Map, Wrong, entries


def validate(root: Map) -> None:
    """Check a tree in long forms with its defaults. Raises Wrong."""
    for name, service, _ in entries(root.get("services") or {}):
        if isinstance(service, Map):
            try:
                _service(service)
            except Wrong as wrong:
                raise wrong.within(name).within("services") from None
    for name, volume, _ in entries(root.get("volumes") or {}):
        _volume(name, volume)
    for section, sources in (("configs", ("file", "environment", "content")), ("secrets", ("file", "environment"))):
        for name, value, _ in entries(root.get(section) or {}):
            if isinstance(value, Map):
                _source(section, name, value, sources)


def _service(service: Map) -> None:
    for n, port in enumerate(service.get("ports") or ()):
        address = port.get("host_ip")
        if isinstance(address, str):
            try:
                check_address(address)
            except Wrong as wrong:
                raise wrong.within("host_ip").within(n).within("ports") from None
    _not_negative(service, "scale")
    deploy = service.get("deploy")
    if isinstance(deploy, Map):
        try:
            _not_negative(deploy, "replicas")
            reservations = (deploy.get("resources") or {}).get("reservations") or {}
            _devices(reservations.get("devices"), ("resources", "reservations", "devices"))
        except Wrong as wrong:
            raise wrong.within("deploy") from None
    _devices(service.get("gpus"), ("gpus",))
    develop = service.get("develop")
    watch = develop.get("watch") if isinstance(develop, Map) else None
    for n, one in enumerate(watch or ()):
        if one.get("path") == "":
            raise Wrong("the path is empty").within("path").within(n).within("watch").within("develop")


def _not_negative(holder: Map, key: str) -> None:
    value = holder.get(key)
    if isinstance(value, int | float) and value < 0:
        raise Wrong(f"{value} is less than none").within(key)


def _devices(devices: Any, path: tuple[str, ...]) -> None:
    for n, device in enumerate(devices or ()):
        if isinstance(device, Map) and device.get("count") is not None and device.get("device_ids") is not None:
            wrong = Wrong("count and device_ids exclude each other", hint="Take one of them away.").within(n)
            for step in reversed(path):
                wrong = wrong.within(step)
            raise wrong


def _volume(name: str, volume: Any) -> None:
    if not isinstance(volume, Map) or not _external(volume.get("external")):
        return
    for key in volume:
        if key not in ("name", "external") and not key.startswith("x-"):
            hint = "The volume is there already; take external or this key away."
            raise Wrong("an external volume cannot have it", hint=hint).within(key).within(name).within("volumes")


def _external(value: Any) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    raise Wrong(f"true or false is wanted here, not {found(value)}").within("external")


def _source(section: str, name: str, value: Map, sources: tuple[str, ...]) -> None:
    given = [key for key in sources if key in value]
    if len(given) > 1:
        message = f"{' and '.join(given)} exclude each other"
        raise Wrong(message, hint="Take one of them away.").within(given[1]).within(name).within(section)
    if not given and not value.get("external") and not value.get("driver"):
        hint = "Or write external: true, if it is there already."
        raise Wrong(f"one of {', '.join(sources)} is missing", hint=hint).within(name).within(section)
