"""Variables in values: `$V`, `${V}`, `${V:-default}`, `-`, `:?`, `?`, `:+`, `+`, nested, and `$$` for one dollar.

A default, message or replacement is itself interpolated, used or not, and stands in one line with its braces. Keys are
never interpolated. Text that stands where a number or a truth value belongs is read as one afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from cluster.compose.kinds import Array, Either, Kind, Object, Scalar, Table
from cluster.compose.tree import Wrong

Lookup = Callable[[str], str | None]
"""Gives the value of a variable, None where it is not set."""

MAX_DEPTH = 50
MAX_LENGTH = 1 << 20

_NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_BRACED = re.compile(r"([_a-zA-Z][_a-zA-Z0-9]*)(?:(:?[-+?])|\})")
_BRACE = re.compile(r"\{.?|\}", re.DOTALL)
_HINT = "Write ${NAME}, ${NAME:-default} or ${NAME:?message}; a dollar sign itself is $$."


def ignore(name: str) -> None:
    """Tell nobody of a variable that is not set."""


def interpolate(value: Any, kind: Kind | None, lookup: Lookup, unset: Callable[[str], None]) -> Any:
    """Replace the variables in a tree of its own, in place; `unset` hears of those without a value. Raises Wrong."""
    if isinstance(value, dict):
        for key, inner in value.items():
            try:
                value[key] = interpolate(inner, _inner(kind, key), lookup, unset)
            except Wrong as wrong:
                raise wrong.within(key) from None
        return value
    if isinstance(value, list):
        for n, inner in enumerate(value):
            try:
                value[n] = interpolate(inner, _inner(kind, n), lookup, unset)
            except Wrong as wrong:
                raise wrong.within(n) from None
        return value
    if not isinstance(value, str):
        return value
    text = substitute(value, lookup, unset) if "$" in value else value
    cast = _cast(kind)
    return cast(text) if cast is not None else text


def _inner(kind: Kind | None, step: str | int) -> Kind | None:
    """Give the kind of what a key or an index leads to."""
    if isinstance(kind, Either):
        return next((inner for form in kind.forms if (inner := _inner(form, step)) is not None), None)
    if isinstance(step, int):
        return kind.item if isinstance(kind, Array) else None
    if isinstance(kind, Object):
        return kind.fields.get(step)
    return kind.value if isinstance(kind, Table) else None


def _cast(kind: Kind | None) -> Callable[[str], Any] | None:
    if isinstance(kind, Either):
        return next((cast for form in kind.forms if (cast := _cast(form)) is not None), None)
    return kind.cast if isinstance(kind, Scalar) else None


def substitute(text: str, lookup: Lookup, unset: Callable[[str], None] = ignore, depth: int = 0) -> str:
    """Replace the variables of one text. Raises Wrong for a wrong expression or a required variable without a value."""
    if depth > MAX_DEPTH:
        raise Wrong(f"variables are nested more than {MAX_DEPTH} deep")
    parts: list[str] = []
    length, start = 0, 0
    while (dollar := text.find("$", start)) >= 0:
        parts.append(text[start:dollar])
        at = dollar + 1
        if text.startswith("$", at):
            value, start = "$", at + 1
        elif text.startswith("{", at):
            value, start = _braced(text, at, lookup, unset, depth)
        elif name := _NAME.match(text, at):
            value, start = _value(name.group(), lookup, unset), name.end()
        else:  # as in "costs $1" and at the end of a text
            value, start = "$", at
        parts.append(value)
        length += len(value)
        if length > MAX_LENGTH:
            raise Wrong("the text grows too long when its variables are replaced")
    parts.append(text[start:])
    return "".join(parts)


def _value(name: str, lookup: Lookup, unset: Callable[[str], None]) -> str:
    value = lookup(name)
    if value is None:
        unset(name)
        return ""
    return value


def _braced(text: str, at: int, lookup: Lookup, unset: Callable[[str], None], depth: int) -> tuple[str, int]:
    """Give what the expression stands for whose brace opens at `at`, and where it ends."""
    found = _BRACED.match(text, at + 1)
    if found is None:
        raise Wrong(f"{_short(text[at - 1 :])} is not a variable expression", hint=_HINT)
    name, operator = found.groups()
    if operator is None:
        return _value(name, lookup, unset), found.end()
    end = _closing(text, at)
    word = substitute(text[found.end() : end], lookup, unset, depth + 1)
    value = lookup(name)
    present = value is not None and (value != "" or not operator.startswith(":"))
    if operator.endswith("+"):
        return word if present else "", end + 1
    if value is not None and present:
        return value, end + 1
    if operator.endswith("-"):
        return word, end + 1
    raise Wrong(
        f"the variable {name} is required and has no value" + (f": {word}" if word else ""),
        hint=f"Set {name} in the environment or in the .env file beside the first file.",
    )


def _closing(text: str, at: int) -> int:
    """Find the brace that closes the one at `at`, in the same line; a brace after an opening one does not count."""
    newline = text.find("\n", at)
    last = text.rfind("}", at, newline if newline >= 0 else len(text))
    if last < 0:
        raise Wrong(f"the brace of {_short(text[at - 1 :])} is never closed", hint=_HINT)
    open_braces = 0
    for brace in _BRACE.finditer(text, at, last + 1):
        open_braces += 1 if brace.group()[0] == "{" else -1
        if open_braces == 0:
            return brace.start()
    return last


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
