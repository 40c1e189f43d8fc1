"""The kinds of values that many keys share: texts, numbers, sizes, lists of names, pairs, commands, hosts, limits."""

from __future__ import annotations

from typing import Any

from cluster.compose import quantities, shellwords
from cluster.compose.kinds import OMITTED, Array, Either, Made, Object, Scalar, Table, wanted
from cluster.compose.scalars import write
from cluster.compose.tree import Wrong

NAME = r"^[a-zA-Z0-9._-]+$"
_TEXT_TYPES = ("string", "number", "boolean", "null")


# What the model holds for a single value


def to_text(value: Any) -> str:
    if isinstance(value, bool | float):
        raise wanted(value, ("string",))
    return str(value)


def to_loose(value: Any) -> str:
    """Any single value as text; nothing is empty text."""
    if isinstance(value, dict | list):
        raise wanted(value, ("string",))
    return "" if value is None else value if isinstance(value, str) else write(value)


def _or_null(value: Any) -> str | None:
    return None if value is None else to_loose(value)


def to_whole(value: Any) -> int:
    if isinstance(value, str):
        return quantities.integer(value)
    if not isinstance(value, int | float):
        raise wanted(value, ("integer",))
    if not -(2**63) <= value < 2**63:
        raise Wrong(f"{value:g} is too large a number")
    return int(value)


def to_only_whole(value: Any) -> int:
    if isinstance(value, str):
        raise wanted(value, ("integer",))
    return to_whole(value)


def to_count(value: Any) -> int:
    whole = to_whole(value)
    if whole < 0:
        raise Wrong(f"{whole} is less than nothing")
    return whole


def _number(value: Any) -> float | int:
    return quantities.plain(quantities.number(value) if isinstance(value, str) else value)


def to_single(value: Any) -> float | int:
    return quantities.single(quantities.number(value) if isinstance(value, str) else value)


def to_truth(value: Any) -> bool:
    return quantities.boolean(value) if isinstance(value, str) else bool(value)


def to_size(value: Any) -> str | int:
    if isinstance(value, float):
        return 0  # Docker takes a number with a point, other than in text, for no size at all
    size = quantities.size(value) if isinstance(value, str) else to_whole(value)
    return str(size) if size else 0


def to_mode(value: Any) -> str:
    if isinstance(value, float):
        raise Wrong("a file mode is a whole number", hint='Write it in octal: "0440".')
    return quantities.mode(value) if isinstance(value, str) else quantities.write_mode(value)


def to_devices(value: Any) -> int:
    if isinstance(value, str):
        return -1 if value.lower() == "all" else quantities.integer(value)
    return to_whole(value)


def to_tmpfs_mode(value: Any) -> int:
    return int(quantities.mode(value), 8) if isinstance(value, str) else to_whole(value)


TEXT = Scalar(("string",), to_text)
SOME_TEXT = Scalar(("string",), to_text, keep_empty=True)
LOOSE_TEXT = Scalar(("string", "number"), to_text, keep_empty=True)
FLAG = Scalar(("boolean", "string"), to_truth, cast=quantities.boolean)
CHOICE = Scalar(("boolean", "string"), to_truth, cast=quantities.boolean, keep_empty=True)
LATE_FLAG = Scalar(("boolean", "string"), to_truth)
TRUE_FLAG = Scalar(("boolean",), to_truth)
SETTING = Scalar(("string", "boolean"), lambda value: value if isinstance(value, str) else write(value))
INTEGER = Scalar(("integer", "string"), to_whole, cast=quantities.integer)
GIVEN_INTEGER = Scalar(("integer", "string"), to_whole, cast=quantities.integer, keep_empty=True)
COUNT = Scalar(("integer", "string"), to_count, cast=quantities.integer, keep_empty=True)
LATE_INTEGER = Scalar(("integer", "string"), to_whole)
NUMERIC = Scalar(("number", "string"), to_whole, cast=quantities.integer)
RATIO = Scalar(("number", "string"), to_single, cast=quantities.number)
CPUS = Scalar(("number", "string"), to_single)
PRIORITY = Scalar(("number",), to_whole)
SIZE = Scalar(("integer", "string"), to_size)
ANY_SIZE = Scalar(("number", "string"), to_size)
DURATION = Scalar(("string",), quantities.duration, keep_empty=True)
TEXTS = Array(TEXT)
UNIQUE_TEXTS = Array(SOME_TEXT, unique=True)


def _list(value: Any) -> Any:
    return [to_text(item) for item in (value if isinstance(value, list) else [value])] or OMITTED


TEXT_OR_LIST = Made(Either((Scalar(("string",)), UNIQUE_TEXTS)), _list)


def _entry(text: Any) -> tuple[str, str | None]:
    name, equals, value = to_text(text).partition("=")
    return name, value if equals else None


def _pairs(value: Any) -> dict[str, str | None]:
    """A list of NAME=value, or a mapping, to a mapping."""
    if isinstance(value, list):
        found = [_entry(item) for item in value]
    else:
        found = [(name, _or_null(inner)) for name, inner in (value or {}).items()]
    return dict(sorted(found, key=lambda pair: pair[0]))


def _variables(value: Any) -> Any:
    return _pairs(value) or OMITTED


def _given_variables(value: Any) -> Any:
    return {name: text for name, text in _pairs(value).items() if text is not None} or OMITTED


def _labels(value: Any) -> Any:
    return {name: text or "" for name, text in _pairs(value).items()} or OMITTED


def to_ssh(value: Any) -> Any:
    return [name if not path else f"{name}={path}" for name, path in _pairs(value).items()] or OMITTED


LIST_OR_DICT = Either(
    (Table(Scalar(_TEXT_TYPES), names=".", closed=True), Array(Scalar(("string",), to_text), unique=True))
)
VARIABLES = Made(LIST_OR_DICT, _variables)
ARGUMENTS = Made(LIST_OR_DICT, _given_variables)
LABELS = Made(LIST_OR_DICT, _labels)


def _command(value: Any) -> Any:
    if value is None:
        return OMITTED
    return [to_text(item) for item in value] if isinstance(value, list) else shellwords.split(value)


COMMAND = Made(Either((Scalar(("null",)), Scalar(("string",)), Array(Scalar(("string",))))), _command)


def _hosts(value: Any) -> Any:
    """Any form to a sorted list of name=address."""
    hosts: dict[str, list[str]] = {}
    if isinstance(value, dict):
        for name, addresses in value.items():
            hosts[name] = [to_text(a) for a in addresses] if isinstance(addresses, list) else [to_text(addresses)]
    else:
        for n, item in enumerate(value or ()):
            name, separator, addresses = _split_host(to_text(item))
            if not separator or not name:
                hint = 'Write it like "name=10.0.0.1".'
                raise Wrong(f"{item[:60]!r} has no {'name' if separator else 'address'}", hint=hint).within(n)
            hosts.setdefault(name, []).extend(addresses.split(","))
    for name in hosts:
        if ":" in name or "=" in name:
            raise Wrong(f"{name[:60]!r} is no name of a host", hint='Write it like "name=10.0.0.1".')
    # Docker sorts the written entries, in which "=" stands before what a longer name has there
    return sorted(f"{name}={_bare(a)}" for name, addresses in hosts.items() for a in addresses) or OMITTED


def _split_host(text: str) -> tuple[str, str, str]:
    return text.partition("=") if "=" in text else text.partition(":")


def _bare(address: str) -> str:
    return address[1:-1] if address.startswith("[") and address.endswith("]") else address


HOSTS = Made(
    Either(
        (Table(Either((SOME_TEXT, Array(SOME_TEXT))), names=".", closed=True), Array(Scalar(("string",)), unique=True))
    ),
    _hosts,
)


def _limit(value: Any) -> Any:
    if not isinstance(value, dict):
        return to_whole(value) or {}
    soft, hard = to_whole(value.get("soft", 0)), to_whole(value.get("hard", 0))
    return {name: limit for name, limit in (("soft", soft), ("hard", hard)) if limit}


ULIMITS = Table(
    Made(Either((LATE_INTEGER, Object({"soft": INTEGER, "hard": INTEGER}, required=("soft", "hard")))), _limit),
    names="^[a-z]+$",
)
OPTIONS = Table(Scalar(("string", "number"), to_loose, keep_empty=True), names=".")
