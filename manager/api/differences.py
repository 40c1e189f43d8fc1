"""How two revisions of a stack differ, field by field. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from cluster.model.service import ServiceSpec
from cluster.model.stack import ServiceVersion, StackRevision
from cluster.plans import FieldChange, ItemChange, Kind
from manager.api.changes import WORDS

_DIGEST = 19
"""Characters of an image's digest that are shown: `sha256:` and twelve."""

_CONTENT = 12

_NAMES = ("network", "source", "target")
"""What names an object in a list: a network that is attached, a secret, a mount, a port."""

_ABSENT = object()


def differences(before: StackRevision | None, after: StackRevision) -> Iterator[ItemChange]:
    """Tell what `after` adds, changes and removes; without `before` all is new."""
    old = {} if before is None else before.spec.services
    for name in sorted(old.keys() | after.spec.services.keys()):
        if name not in after.spec.services:
            yield ItemChange("service", name, "remove")
            continue
        if before is None or name not in old:
            yield ItemChange("service", name, "add", tuple(_main_fields(after.spec.services[name])))
            continue
        had, has = before.services[name], after.services[name]
        if (fields := (*_service(before, after, name),)) or had != has:
            yield ItemChange("service", name, "change", fields, _renewal(had, has))
    yield from _items("network", {} if before is None else before.spec.networks, after.spec.networks)
    yield from _items("volume", {} if before is None else before.spec.volumes, after.spec.volumes)
    for kind in ("secret", "config"):
        yield from _files(kind, before, after)


def _renewal(had: ServiceVersion, has: ServiceVersion) -> str:
    if had.uid != has.uid:
        return "another service of its name"
    if had.version != has.version:
        return "new tasks"
    return "its update goes on" if has.attempt > had.attempt else ""


def _main_fields(service: ServiceSpec) -> Iterator[FieldChange]:
    yield FieldChange("image", "", service.container.image)
    yield FieldChange("mode" if service.mode.is_global else "replicas", "", _number_or_mode(service))


def _number_or_mode(service: ServiceSpec) -> str:
    return str(service.mode) if service.mode.is_global else str(service.replicas)


def _service(before: StackRevision, after: StackRevision, name: str) -> Iterator[FieldChange]:
    for path, old, new in _fields("", _plain(before.spec.services[name]), _plain(after.spec.services[name])):
        first, _, rest = path.partition(".")
        yield FieldChange(
            rest if first == "container" else ".".join(filter(None, (WORDS.get(first, first), rest))), old, new
        )
    had, has = before.image_digests.get(name, ""), after.image_digests.get(name, "")
    if had != has:
        yield FieldChange("image digest", had[:_DIGEST], has[:_DIGEST])


def _items(kind: Kind, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[ItemChange]:
    for key in sorted(before.keys() | after.keys()):
        if key not in after:
            yield ItemChange(kind, key, "remove")
        elif key not in before:
            yield ItemChange(kind, key, "add")
        elif before[key] != after[key]:
            found = _fields("", _plain(before[key]), _plain(after[key]))
            yield ItemChange(kind, key, "change", tuple(FieldChange(*one) for one in found))


def _files(kind: Kind, before: StackRevision | None, after: StackRevision) -> Iterator[ItemChange]:
    """Tell of secrets or configs: what is said of them, and their contents, of which only digests are known."""
    old, new = (None if one is None else _kept(kind, one) for one in (before, after))
    assert new is not None
    yield from _items(kind, old or {}, new)


def _kept(kind: Kind, revision: StackRevision) -> dict[str, Any]:
    spec = revision.spec
    if kind == "secret":
        return {key: _plain(one) | _digest(revision.secret_digests, key) for key, one in spec.secrets.items()}
    return {key: _plain(one) | _digest(revision.config_digests, key) for key, one in spec.configs.items()}


def _digest(digests: Mapping[str, str], key: str) -> dict[str, str]:
    return {"content": f"digest {digests[key][:_CONTENT]}"} if key in digests else {}


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value)


def _fields(path: str, before: Any, after: Any) -> Iterator[tuple[str, str, str]]:
    """Give the path, and both values, of whatever differs."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            deeper = f"{path}.{key}" if path else key
            yield from _fields(deeper, before.get(key, _ABSENT), after.get(key, _ABSENT))
    elif before == after:
        return
    elif _has_objects(before) and _has_objects(after):
        yield from _elements(path, before, after)
    elif path.endswith(".digest"):
        yield path, before[:_CONTENT], after[:_CONTENT]
    else:
        yield path, _text(before), _text(after)


def _has_objects(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, dict) for one in value)


def _elements(path: str, before: Sequence[Any], after: Sequence[Any]) -> Iterator[tuple[str, str, str]]:
    """Compare lists of objects: one by one where something names them, else by which went and which came."""
    for name in _NAMES:
        old, new = ({str(one[name]): one for one in side if one.get(name)} for side in (before, after))
        if len(old) == len(before) and len(new) == len(after):
            yield from _fields(path, old, new)
            return
    went, came = [one for one in before if one not in after], [one for one in after if one not in before]
    yield path, _text(went), _text(came)


def _text(value: Any) -> str:
    if value is _ABSENT or value is None or value in ((), [], {}):
        return ""
    if isinstance(value, str):
        return value if value and value == value.strip() else f'"{value}"'
    return msgspec.json.encode(value).decode()
