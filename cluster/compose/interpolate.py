"""Variables in values: `$V`, `${V}`, `${V:-default}`, `-`, `:?`, `?`, `:+`, `+`, nested, and `$$` for one dollar.

A default, message or replacement is itself interpolated, and only where it is used. Keys are never interpolated.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from cluster.compose.tree import Mapping, Node, Scalar, Sequence, Where

Lookup = Callable[[str], str | None]
"""Gives the value of a variable, None where it is not set."""

MAX_DEPTH = 50
MAX_LENGTH = 1 << 20

_NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_OPERATORS = (":-", ":?", ":+", "-", "?", "+")


def interpolate(node: Node, lookup: Lookup, unset: Callable[[str, Where], None]) -> Node:
    """Give the tree with every variable in its text values replaced; `unset` hears of those that have no value."""
    if isinstance(node, Mapping):
        return node.with_entries({key: interpolate(value, lookup, unset) for key, value in node.entries.items()})
    if isinstance(node, Sequence):
        return Sequence(tuple(interpolate(item, lookup, unset) for item in node.items), node.where)
    if isinstance(node.value, str) and "$" in node.value:
        return Scalar(substitute(node.value, lookup, node.where, unset), node.where)
    return node


def substitute(
    text: str, lookup: Lookup, where: Where, unset: Callable[[str, Where], None] = lambda name, where: None
) -> str:
    """Replace the variables of one text. Raises ComposeError at `where` for a wrong expression or a required one."""
    return _Substitution(lookup, where, unset).text(text, 0)


class _Substitution:
    def __init__(self, lookup: Lookup, where: Where, unset: Callable[[str, Where], None]) -> None:
        self._lookup, self._where, self._unset = lookup, where, unset

    def text(self, text: str, depth: int) -> str:
        if depth > MAX_DEPTH:
            raise self._where.error(f"variables are nested more than {MAX_DEPTH} deep")
        parts: list[str] = []
        length, start = 0, 0
        while (dollar := text.find("$", start)) >= 0:
            parts.append(text[start:dollar])
            value, start = self._after_dollar(text, dollar + 1, depth)
            parts.append(value)
            length += len(value)
            if length > MAX_LENGTH:
                raise self._where.error("the text grows too long when its variables are replaced")
        parts.append(text[start:])
        return "".join(parts)

    def _after_dollar(self, text: str, at: int, depth: int) -> tuple[str, int]:
        """Give what the expression that begins after the dollar stands for, and where it ends."""
        if text.startswith("$", at):
            return "$", at + 1
        if text.startswith("{", at):
            end = _closing_brace(text, at)
            if end is None:
                raise self._where.error(f"the brace of {_short(text[at - 1 :])} is never closed", hint=_HINT)
            return self._expression(text[at + 1 : end], depth), end + 1
        name = _NAME.match(text, at)
        if name is None:  # as in "costs $1" and at the end of a text
            return "$", at
        return self._value(name.group()), name.end()

    def _value(self, name: str) -> str:
        value = self._lookup(name)
        if value is None:
            self._unset(name, self._where)
            return ""
        return value

    def _expression(self, expression: str, depth: int) -> str:
        name = _NAME.match(expression)
        rest = expression[name.end() :] if name else expression
        operator = next((o for o in _OPERATORS if rest.startswith(o)), "")
        if name is None or (rest and not operator):
            raise self._where.error(f"${{{_short(expression)}}} is not a variable expression", hint=_HINT)
        if not rest:
            return self._value(name.group())
        word = rest[len(operator) :]
        value = self._lookup(name.group())
        present = value is not None and (value != "" or not operator.startswith(":"))
        if operator.endswith("+"):
            return self.text(word, depth + 1) if present else ""
        if present:
            return value or ""
        if operator.endswith("-"):
            return self.text(word, depth + 1)
        message = self.text(word, depth + 1)
        raise self._where.error(
            f"the variable {name.group()} is required and has no value" + (f": {message}" if message else ""),
            hint=f"Set {name.group()} in the environment or in the .env file beside the first file.",
        )


_HINT = "Write ${NAME}, ${NAME:-default} or ${NAME:?message}; a dollar sign itself is $$."


def _closing_brace(text: str, at: int) -> int | None:
    depth = 0
    for n in range(at, len(text)):
        if text[n] == "{":
            depth += 1
        elif text[n] == "}":
            depth -= 1
            if depth == 0:
                return n
    return None


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
