"""What must fit together in a whole model: names that refer to something, keys that exclude each other, no circles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.compose.tree import Wrong

_Model = Mapping[str, Any]


def check(model: _Model, disabled: frozenset[str]) -> None:
    """Check the services that are enabled. Raises Wrong."""
    names: dict[str, str] = {}
    for name, service in model["services"].items():
        try:
            _service(service, model, disabled)
            _amounts(service)
            _mounts(service)
            container = service.get("container_name")
            if container is not None and names.setdefault(container, name) != name:
                message = f"the service {names[container]} has this container_name too"
                raise Wrong(message).within("container_name")
        except Wrong as wrong:
            raise wrong.within(name).within("services") from None
    for name, secret in (model.get("secrets") or {}).items():
        if not (secret.get("external") or secret.get("file") or secret.get("environment")):
            raise Wrong("file or environment is missing").within(name).within("secrets")
    _cycle(model["services"])


def _exclude(holder: _Model, one: str, other: str) -> None:
    if holder.get(one) and holder.get(other):
        raise Wrong(f"{one} and {other} exclude each other", hint="Take one of them away.").within(other)


def _service(service: _Model, model: _Model, disabled: frozenset[str]) -> None:
    build = service.get("build")
    if build is None and not service.get("image") and service.get("provider") is None:
        raise Wrong("the service has no image and no build", hint="Add image: NAME.")
    if build is not None:
        _build(build, service, model)
    _exclude(service, "network_mode", "networks")
    test = (service.get("healthcheck") or {}).get("test")
    if test and test[0] not in ("CMD", "CMD-SHELL", "NONE"):
        hint = 'Write test: ["CMD", "program", ...] or test: "command line".'
        wrong = Wrong("the list must begin with CMD, CMD-SHELL or NONE", hint=hint)
        raise wrong.within("test").within("healthcheck")
    for other, dependency in (service.get("depends_on") or {}).items():
        if other not in model["services"] and (dependency.get("required", False) or other not in disabled):
            why = ", as its profile is not active" if other in disabled else ""
            raise Wrong(f"there is no service {other}{why}").within(other).within("depends_on")
    mode = service.get("network_mode", "")
    if mode.startswith("service:") and mode.removeprefix("service:") not in model["services"]:
        raise Wrong(f"there is no service {mode.removeprefix('service:')}").within("network_mode")
    for section in ("networks", "models"):
        for name in service.get(section) or {}:
            _declared(model, section, name, section, name)
    for section in ("configs", "secrets"):
        for n, grant in enumerate(service.get(section) or ()):
            _declared(model, section, grant.get("source", ""), section, n)
    for n, mount in enumerate(service.get("volumes") or ()):
        if mount.get("type") == "volume" and mount.get("source"):
            _declared(model, "volumes", mount["source"], "volumes", n)


def _declared(model: _Model, section: str, name: str, *path: str | int) -> None:
    if name not in (model.get(section) or {}):
        wrong = Wrong(f"there is no {section[:-1]} {name}", hint=f"Declare it under {section} at the top of the file.")
        for step in reversed(path):
            wrong = wrong.within(step)
        raise wrong


def _build(build: _Model, service: _Model, model: _Model) -> None:
    try:
        _exclude(build, "dockerfile", "dockerfile_inline")
        for name, context in (build.get("additional_contexts") or {}).items():
            if context.startswith("service:"):
                other = model["services"].get(context.removeprefix("service:"))
                if other is None or other.get("build") is None:
                    message = f"there is no service {context.removeprefix('service:')} with a build"
                    raise Wrong(message).within(name).within("additional_contexts")
        platforms, platform = build.get("platforms"), service.get("platform")
        if platforms and platform and platform not in platforms:
            raise Wrong(f"the service's platform {platform} is not among them").within("platforms")
        for n, grant in enumerate(build.get("secrets") or ()):
            _declared(model, "secrets", grant.get("source", ""), "secrets", n)
    except Wrong as wrong:
        raise wrong.within("build") from None


def _amounts(service: _Model) -> None:
    """Amounts that have two places must agree."""
    deploy = service.get("deploy")
    scale = service.get("scale")
    if deploy is not None:
        replicas = deploy.get("replicas")
        if scale is not None and replicas is not None and scale != replicas:
            raise Wrong(f"deploy.replicas says {replicas}", hint="Take one of them away.").within("scale")
        resources = deploy.get("resources") or {}
        for key, section, inner in (
            ("cpus", "limits", "cpus"),
            ("mem_limit", "limits", "memory"),
            ("mem_reservation", "reservations", "memory"),
            ("pids_limit", "limits", "pids"),
        ):
            amounts = resources.get(section)
            if service.get(key) and amounts is not None and amounts.get(inner, 0) != service[key]:
                message = f"deploy.resources.{section}.{inner} says {amounts.get(inner, 'nothing')}"
                raise Wrong(message, hint="Write the amount in one place, or the same in both.").within(key)
    count = scale if scale is not None else (deploy or {}).get("replicas")
    if count is not None and count > 1 and service.get("container_name"):
        hint = "Take container_name away."
        raise Wrong(f"only one of {count} containers can have this name", hint=hint).within("container_name")


def _mounts(service: _Model) -> None:
    for n, watch in enumerate((service.get("develop") or {}).get("watch") or ()):
        if not watch.get("target") and watch["action"] not in ("rebuild", "restart"):
            raise Wrong(f"{watch['action']} needs a target").within(n).within("watch").within("develop")
    seen: set[str] = set()
    for n, tmpfs in enumerate(service.get("tmpfs") or ()):
        _once(tmpfs.partition(":")[0], seen, "tmpfs", n)
    for n, mount in enumerate(service.get("volumes") or ()):
        _once(mount.get("target", ""), seen, "volumes", n)


def _once(target: str, seen: set[str], *path: str | int) -> None:
    if target in seen:
        wrong = Wrong(f"something is mounted at {target} already")
        for step in reversed(path):
            wrong = wrong.within(step)
        raise wrong
    seen.add(target)


def _cycle(services: _Model) -> None:
    """Follow the dependencies without recursion."""
    done: set[str] = set()
    for start in services:
        way: list[tuple[str, list[str]]] = [] if start in done else [(start, _needs(services, start))]
        on_way = {start}
        while way:
            name, rest = way[-1]
            if not rest:
                way.pop()
                on_way.discard(name)
                done.add(name)
                continue
            other = rest.pop()
            if other in on_way:
                names = [one for one, _ in way]
                circle = " -> ".join([*names[names.index(other) :], other])
                wrong = Wrong(f"services depend on each other in a circle: {circle}")
                raise wrong.within(other).within("depends_on").within(name).within("services")
            if other not in done:
                on_way.add(other)
                way.append((other, _needs(services, other)))


def _needs(services: _Model, name: str) -> list[str]:
    return [other for other in services[name].get("depends_on") or () if other in services]
