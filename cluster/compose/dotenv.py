"""Files of `NAME=value` lines: the `.env` file of a project and the `env_file` of a service.

A value without quotes ends at a ` #` comment; in single quotes everything is literal; in double quotes `\\n` and the
like are escapes and the value may go over several lines. Without single quotes variables are replaced, from the lines
before and from the given lookup. `NAME` alone takes its value from the lookup.
"""

from __future__ import annotations

import re

from cluster.compose.interpolate import Lookup, substitute
from cluster.compose.tree import Where
from cluster.errors import ComposeError

_KEY = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.\-]*)[ \t]*")
_SINGLE = re.compile(r"'([^']*)'")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_COMMENT = re.compile(r"[ \t]#")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "'": "'", "$": "$$"}


def parse(content: bytes, file: str, lookup: Lookup) -> dict[str, str | None]:
    """Read such a file; a name without a value that the lookup does not know either is None. Later lines win."""
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise ComposeError("this is not UTF-8 text", file=file) from None
    values: dict[str, str | None] = {}

    def known(name: str) -> str | None:
        return found if (found := lookup(name)) is not None else values.get(name)

    at, line = 0, 1
    while at < len(text):
        end = _line_end(text, at)
        stripped = text[at:end].strip()
        if stripped and not stripped.startswith("#"):
            where = Where(file, line)
            key = _KEY.match(text, at, end)
            if key is None or (key.end() < end and text[key.end()] not in "=:#"):
                raise where.error("this is not a NAME=value line", hint="A comment begins with #.")
            name = key.group(1)
            if key.end() == end or text[key.end()] == "#":
                values[name] = lookup(name)
            else:
                values[name], end = _value(text, key.end() + 1, end, where, known)
        line += text.count("\n", at, end + 1)
        at = end + 1
    return values


def parse_raw(content: bytes, file: str) -> dict[str, str | None]:
    """Read a file of `format: raw`: everything after the first equals sign is the value, as it stands."""
    values: dict[str, str | None] = {}
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ComposeError("this is not UTF-8 text", file=file) from None
    for n, text in enumerate(lines, 1):
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals or not _KEY.fullmatch(name):
            raise Where(file, n).error("this is not a NAME=value line", hint="A comment begins with #.")
        values[name.strip()] = value
    return values


def _value(text: str, at: int, end: int, where: Where, lookup: Lookup) -> tuple[str, int]:
    """Give the value that begins at `at`, and the end of the line on which it ends."""
    while at < end and text[at] in " \t":
        at += 1
    if at < end and text[at] in "'\"":
        quoted = (_SINGLE if text[at] == "'" else _DOUBLE).match(text, at)
        if quoted is None:
            raise where.error("the quote is never closed")
        end = _line_end(text, quoted.end())
        rest = text[quoted.end() : end].strip()
        if rest and not rest.startswith("#"):
            raise where.error(f"unexpected text after the closing quote: {rest[:20]!r}")
        if text[at] == "'":
            return quoted.group(1), end
        unescaped = _ESCAPE.sub(lambda m: _ESCAPES.get(m.group(1), m.group()), quoted.group(1))
        return substitute(unescaped, lookup, where), end
    value = text[at:end]
    if value.startswith("#"):
        value = ""
    if comment := _COMMENT.search(value):
        value = value[: comment.start()]
    return substitute(value.strip(), lookup, where), end


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end
