"""Files of `NAME=value` lines: the `.env` file of a project, and the `env_file` and `label_file` of a service.

A value without quotes ends at a ` #` comment; in single quotes everything is literal; in double quotes `\\n` and the
like are escapes, and a value in quotes may go over several lines. Without single quotes variables are replaced, from
the given lookup and from the lines before. `NAME` alone takes its value from the lookup, and is left out without one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cluster.compose.interpolate import Lookup, substitute
from cluster.compose.tree import Where, Wrong
from cluster.errors import ComposeError

_EXPORT = re.compile(r"export(?=\s)[^\S\n]*")
_BLANK = re.compile(r"(?:\s+|#[^\n]*)*")
_KEY = re.compile(r"[^=:\n]*")
_SPACE = re.compile(r"[^\S\n]*")
_QUOTED = {
    "'": re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL),
    '"': re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL),
}
_ESCAPE = re.compile(r'\\(0[0-7]{0,3}|[abfnrtv$"\\])')
_ESCAPES = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", '"': '"', "$": "$$",
}  # fmt: skip
_HINT = "A comment begins with #."


def parse(content: bytes, file: str, lookup: Lookup, before: Mapping[str, str] | None = None) -> dict[str, str]:
    """Read such a file; later lines win. Raises ComposeError.

    `before` is what earlier files of the same list gave: its values count as lines before, and are in the result.
    """
    text = content.decode("utf-8", "replace").removeprefix("\ufeff").replace("\r\n", "\n")
    values = dict(before or {})

    def known(name: str) -> str | None:
        return found if (found := lookup(name)) is not None else values.get(name)

    at = _skip(_BLANK, text, 0)
    while at < len(text):
        where = Where(file, text.count("\n", 0, at) + 1)
        at = _skip(_EXPORT, text, at)
        if at == len(text):
            raise where.error("there is no name after export")
        key = _KEY.match(text, at)
        assert key is not None
        name = key.group().strip()
        _check_name(name, where)
        if key.end() == len(text) or text[key.end()] == "\n":
            value, at = lookup(name), key.end()
        else:
            try:
                value, at = _value(text, _skip(_SPACE, text, key.end() + 1), known)
            except Wrong as wrong:
                raise where.error(wrong.message, hint=wrong.hint) from None
        if value is not None:
            values[name] = value
        at = _skip(_BLANK, text, at)
    return values


def _skip(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found is not None else at


def _check_name(name: str, where: Where) -> None:
    if " " in name:
        raise where.error("the name of a variable holds a space", hint=_HINT)
    for character in name:
        if not (character.isalnum() or character in "_.-[]" or character.isspace()):
            raise where.error(f"the name of a variable holds {character!r}", hint=_HINT)


def _value(text: str, at: int, lookup: Lookup) -> tuple[str, int]:
    """Give the value that begins at `at`, and where it ends."""
    if text[at : at + 1] in _QUOTED:
        quote = text[at]
        quoted = _QUOTED[quote].match(text, at)
        if quoted is None:
            raise Wrong("the quote is never closed")
        if quote == "'":
            return quoted[1].replace("\\'", "'"), quoted.end()
        return substitute(_ESCAPE.sub(_unescape, quoted[1]), lookup), quoted.end()
    end = text.find("\n", at)
    end = len(text) if end < 0 else end
    return substitute(text[at:end].partition(" #")[0].rstrip(), lookup), end


def _unescape(found: re.Match[str]) -> str:
    return chr(int(found[1], 8)) if found[1].startswith("0") else _ESCAPES[found[1]]


def parse_raw(content: bytes, file: str, lookup: Lookup) -> dict[str, str]:
    """Read a file of `format: raw`: everything after the first equals sign is the value, as it stands."""
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise ComposeError("this is not UTF-8 text", file=file) from None
    values: dict[str, str] = {}
    for n, written in enumerate(lines, 1):
        line = written.removesuffix("\r").lstrip()
        if not line or line.startswith("#"):
            continue
        name, equals, text = line.partition("=")
        if not name or " " in name or "\t" in name:
            raise Where(file, n).error("this is not a NAME=value line", hint=_HINT)
        value = text if equals else lookup(name)
        if value is not None:
            values[name] = value
    return values
