"""What became different from one revision of a stack to the next, in a few words each. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from cluster.model.service import ServiceMode, ServiceSpec
from cluster.model.stack import StackRevision

WORDS = {"update": "update_config", "rollback": "rollback_config", "restart": "restart_policy"}
"""Fields that Compose calls by another name."""

_TOLD = {"replicas", "container", "name", "stopped"}
_PARTS = ("networks", "volumes", "secrets", "configs")


def changes(before: StackRevision, after: StackRevision) -> tuple[str, ...]:
    """Tell what `after` made different; services that got new tasks without that were forced."""
    told = [*_services(before, after)]
    for name, version in after.services.items():
        had = before.services.get(name)
        if (
            had is not None
            and had.version != version.version
            and after.spec.services[name] == before.spec.services[name]
            and after.image_digests.get(name) == before.image_digests.get(name)
        ):
            told.append(f"{name}: new tasks")
        elif had is not None and version.attempt > had.attempt:
            told.append(f"{name}: update goes on")
    for part in _PARTS:
        told += _keys(part.removesuffix("s"), getattr(before.spec, part), getattr(after.spec, part))
    return tuple(told)


def _services(before: StackRevision, after: StackRevision) -> Iterator[str]:
    for name in sorted(before.spec.services.keys() | after.spec.services.keys()):
        old, new = before.spec.services.get(name), after.spec.services.get(name)
        if old is None or new is None:
            yield f"{name}: {'removed' if new is None else 'added'}"
        elif words := [*_digest(before, after, new), *_words(old, new)]:
            yield f"{name}: {', '.join(words)}"


def _digest(before: StackRevision, after: StackRevision, service: ServiceSpec) -> Iterator[str]:
    """Tell of an image that is another one under the name that it had."""
    name, image = service.name, service.container.image
    digest = after.image_digests.get(name, "")
    if image == before.spec.services[name].container.image and digest != before.image_digests.get(name, ""):
        yield f"image {image} is now {digest[:19] or 'whatever the tag means'}"


def _words(old: ServiceSpec, new: ServiceSpec) -> Iterator[str]:
    if old.container.image != new.container.image:
        yield f"image {old.container.image} -> {new.container.image}"
    if old.replicas != new.replicas and new.mode is not ServiceMode.GLOBAL:
        yield f"replicas {old.replicas} -> {new.replicas}"
    if old.stopped != new.stopped:
        yield "stopped" if new.stopped else "started"
    yield from (name for name in _differing(old.container, new.container) if name != "image")
    yield from (WORDS.get(name, name) for name in _differing(old, new) if name not in _TOLD)


def _differing(old: Any, new: Any) -> Iterator[str]:
    return (field.name for field in fields(new) if getattr(old, field.name) != getattr(new, field.name))


def _keys(what: str, before: Mapping[str, object], after: Mapping[str, object]) -> Iterator[str]:
    for key in sorted(before.keys() | after.keys()):
        if key not in after or key not in before:
            yield f"{what} {key}: {'removed' if key not in after else 'added'}"
        elif before[key] != after[key]:
            yield f"{what} {key}: changed"
