"""The kinds of values that the table of fields is made of: what the schema accepts, and what the model holds.

Each kind answers two questions. `check`: may this value, as written and with its variables replaced, stand here? And
`bind`: what does the model hold for it, once short forms are long ones and files are merged? `OMITTED` is left out.
Both raise Wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.compose.suggest import suggest
from cluster.compose.tree import Timestamp, Wrong, entries

OMITTED = object()
"""Stands for a value that the model leaves out, as Docker leaves out what is empty."""

_NAMES = {
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "null": "nothing",
    "object": "a mapping",
    "array": "a list",
}


def types_of(value: Any) -> tuple[str, ...]:
    """Give the names that JSON Schema has for the type of a value."""
    if value is None:
        return ("null",)
    if isinstance(value, bool):
        return ("boolean",)
    if isinstance(value, int):
        return ("integer", "number")
    if isinstance(value, float):
        return ("integer", "number") if value.is_integer() else ("number",)
    if isinstance(value, str):
        return ("string",)
    if isinstance(value, dict):
        return ("object",)
    if isinstance(value, list):
        return ("array",)
    assert isinstance(value, Timestamp)
    return ()


def found(value: Any) -> str:
    """Say what a value is, for errors."""
    names = types_of(value)
    return _NAMES[names[0]] if names else "a date (put it in quotes)"


def wanted(value: Any, names: tuple[str, ...]) -> Wrong:
    words = " or ".join(_NAMES[name] for name in names)
    hint = "Put it in quotes." if names == ("string",) and isinstance(value, bool | int | float | Timestamp) else ""
    return Wrong(f"{words} is wanted here, not {found(value)}", hint=hint)


class Kind:
    """What may stand at a place of the tree."""

    def accepts(self, value: Any) -> bool:
        """Whether the type of a value fits at all; decides between short and long forms."""
        raise NotImplementedError

    def check(self, value: Any) -> None:
        raise NotImplementedError

    def bind(self, value: Any) -> Any:
        raise NotImplementedError


def same(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Scalar(Kind):
    """A single value; `cast` reads text after its variables are replaced, `make` gives what the model holds."""

    types: tuple[str, ...]
    make: Callable[[Any], Any] = same
    cast: Callable[[str], Any] | None = None
    keep_empty: bool = False
    choices: tuple[str, ...] = ()
    pattern: str = ""
    least: int | None = None
    most: int | None = None

    def accepts(self, value: Any) -> bool:
        return any(name in self.types for name in types_of(value))

    def check(self, value: Any) -> None:
        if not self.accepts(value):
            raise wanted(value, self.types)
        if self.choices and value not in self.choices:
            raise Wrong(f"{str(value)[:40]!r} is none of {', '.join(self.choices)}")
        if self.pattern and isinstance(value, str) and not re.search(self.pattern, value):
            raise Wrong(f"{value[:40]!r} is not a possible value here")
        if isinstance(value, int | float) and (
            (self.least is not None and value < self.least) or (self.most is not None and value > self.most)
        ):
            limits = [f"at least {self.least}"] if self.least is not None else []
            limits += [f"at most {self.most}"] if self.most is not None else []
            raise Wrong(f"{value} is out of range: it must be {' and '.join(limits)}")

    def bind(self, value: Any) -> Any:
        if value is None:
            return OMITTED
        made = self.make(value)
        return made if self.keep_empty or made not in ("", 0) else OMITTED


@dataclass(frozen=True, slots=True)
class Array(Kind):
    item: Kind
    unique: bool = False
    keep_empty: bool = False

    def accepts(self, value: Any) -> bool:
        return isinstance(value, list)

    def check(self, value: Any) -> None:
        if not isinstance(value, list):
            raise wanted(value, ("array",))
        seen = set()
        for n, item in enumerate(value):
            try:
                self.item.check(item)
                if self.unique:
                    mark = digest(item)
                    if mark in seen:
                        raise Wrong("the same is in the list already")
                    seen.add(mark)
            except Wrong as wrong:
                raise wrong.within(n) from None

    def bind(self, value: Any) -> Any:
        if not isinstance(value, list | type(None)):
            raise wanted(value, ("array",))
        result = []
        for n, item in enumerate(value or ()):
            try:
                bound = self.item.bind(item)
            except Wrong as wrong:
                raise wrong.within(n) from None
            result.append(empty_of(item) if bound is OMITTED else bound)
        return result if result or self.keep_empty else OMITTED


def empty_of(item: Any) -> Any:
    """What stands in a list for an item that would be left out of a mapping."""
    return {} if isinstance(item, dict) else [] if isinstance(item, list) else "" if item is None else item


@dataclass(frozen=True, slots=True)
class Object(Kind):
    """A mapping with known keys; `x-*` keys are allowed but where `extensions` is False."""

    fields: Mapping[str, Kind]
    required: tuple[str, ...] = ()
    closed: bool = True
    extensions: bool = True
    null: bool = False
    always: Mapping[str, Any] = field(default_factory=dict)
    """What the model holds for keys that are missing."""

    def accepts(self, value: Any) -> bool:
        return isinstance(value, dict) or (self.null and value is None)

    def check(self, value: Any) -> None:
        if value is None and self.null:
            return
        if not isinstance(value, dict):
            raise wanted(value, ("object",))
        for key, inner in value.items():
            try:
                kind = self.fields.get(key)
                if kind is not None:
                    kind.check(inner)
                elif self.closed and not (self.extensions and key.startswith("x-")):
                    raise Wrong("the key is unknown", hint=suggest(key, self.fields))
            except Wrong as wrong:
                raise wrong.within(key) from None
        for key in self.required:
            if key not in value:
                raise Wrong(f"{key} is missing")

    def bind(self, value: Any) -> Any:
        if value is None:
            return OMITTED
        if not isinstance(value, dict):  # below a name that the schema does not look into
            raise wanted(value, ("object",))
        result: dict[str, Any] = {}
        for key, kind in self.fields.items():
            if key in value:
                try:
                    bound = kind.bind(value[key])
                except Wrong as wrong:
                    raise wrong.within(key) from None
                if bound is not OMITTED:
                    result[key] = bound
                    continue
            if key in self.always:
                result[key] = self.always[key]
        return result


def plain_tree(value: Any) -> Any:
    """Give an extension's value as JSON has it."""
    if isinstance(value, Timestamp):
        return value.text
    if isinstance(value, dict):
        return {key: plain_tree(inner) for key, inner in value.items()}
    return [plain_tree(item) for item in value] if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class Table(Kind):
    """A mapping whose keys are names of the user's own."""

    value: Kind
    names: str = ""
    """The pattern of a name; other names are refused if `closed`, and else not looked into."""

    closed: bool = False
    keep_empty: bool = False

    def accepts(self, value: Any) -> bool:
        return isinstance(value, dict)

    def check(self, value: Any) -> None:
        if not isinstance(value, dict):
            raise wanted(value, ("object",))
        for key, inner in value.items():
            try:
                if not self.names or re.search(self.names, key):
                    self.value.check(inner)
                elif self.closed:
                    raise Wrong("the name is not possible", hint="Use letters, digits, dots, dashes and underscores.")
            except Wrong as wrong:
                raise wrong.within(key) from None

    def bind(self, value: Any) -> Any:
        value = {} if value is None else value
        if not isinstance(value, dict):
            raise wanted(value, ("object",))
        result = {}
        for key in sorted(value):
            try:
                bound = self.value.bind(value[key])
            except Wrong as wrong:
                raise wrong.within(key) from None
            result[key] = bound if bound is not OMITTED else None
        return result if result or self.keep_empty else OMITTED


@dataclass(frozen=True, slots=True)
class Either(Kind):
    """One of several forms, told apart by their types; the model holds the last one."""

    forms: tuple[Kind, ...]

    def accepts(self, value: Any) -> bool:
        return any(form.accepts(value) for form in self.forms)

    def check(self, value: Any) -> None:
        for form in self.forms:
            if form.accepts(value):
                form.check(value)
                return
        raise wanted(value, _type_names(self))

    def bind(self, value: Any) -> Any:
        for form in self.forms:
            if form.accepts(value):
                return form.bind(value)
        raise wanted(value, _type_names(self))


@dataclass(frozen=True, slots=True)
class Made(Kind):
    """Accepts as another kind does, and makes what the model holds in a way of its own."""

    form: Kind
    make: Callable[[Any], Any]

    def accepts(self, value: Any) -> bool:
        return self.form.accepts(value)

    def check(self, value: Any) -> None:
        self.form.check(value)

    def bind(self, value: Any) -> Any:
        if value is not None and not self.accepts(value):
            raise wanted(value, _type_names(self.form))
        return self.make(value)


def _type_names(kind: Kind) -> tuple[str, ...]:
    if isinstance(kind, Either):
        return tuple(dict.fromkeys(name for form in kind.forms for name in _type_names(form)))
    if isinstance(kind, Made):
        return _type_names(kind.form)
    return kind.types if isinstance(kind, Scalar) else ("array",) if isinstance(kind, Array) else ("object",)


def digest(value: Any) -> Any:
    """Give what two values have in common that JSON Schema calls equal."""
    if isinstance(value, dict):
        return tuple(sorted((key, digest(inner)) for key, inner, _ in entries(value)))
    if isinstance(value, list):
        return ("list", *map(digest, value))
    if isinstance(value, bool):
        return ("boolean", value)
    return value
