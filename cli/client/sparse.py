"""What a request says, without what is so by default: a manager of an older release need not know of the rest.

A manager refuses fields that it does not know, so only who asks for what is new is refused, with the field's name.
"""

from __future__ import annotations

import dataclasses
from typing import Any


def sparse(value: Any) -> Any:
    """Give a request's body in plain containers, fields that have their default left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: sparse(said)
            for field in dataclasses.fields(value)
            if (said := getattr(value, field.name)) != _default(field)
        }
    if isinstance(value, dict):
        return {key: sparse(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [sparse(item) for item in value]
    return value


def _default(field: dataclasses.Field[Any]) -> Any:
    factory = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()
