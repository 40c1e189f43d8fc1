"""From labels to parts of Traefik's dynamic configuration, and what is wrong with those that come to nothing. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cluster.alike import did_you_mean
from cluster.traefik.options import PROTOCOLS, Anything, Kind, Many, Named, Options, Scalar

PREFIX, ENABLE = "traefik.", "traefik.enable"
LONGEST = 256
"""Characters of a part of a label: YAML, by whose rules Traefik reads what it is given, has no keys that are long."""

Element = tuple[str, str, str]
"""Protocol, part and name: ("http", "routers", "shop")."""
Parts = dict[Element, dict[str, object]]

_NOT_OURS = frozenset(("enable", "docker", "swarm", "constraint-label", "tags"))
"""What Traefik's own Docker providers are told by, which has no place in a configuration."""

_FLAGS = dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True) | dict.fromkeys(
    ("0", "f", "F", "false", "FALSE", "False"), False
)
_NUMBER = re.compile(r"[+-]?[0-9]{1,25}", re.ASCII)
_LARGEST = 2**63 - 1
_UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PIECE = re.compile(r"([0-9]{1,19}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(ns|us|ms|s|m|h)", re.ASCII)
_SPAN = re.compile(rf"[+-]?(?:{_PIECE.pattern}){{1,6}}", re.ASCII)
_COUNTED = re.compile(r"(.+)\[([0-9]{1,3})\]", re.ASCII)
_UNREADABLE = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]|\u2551"
)
"""What YAML has no way to write or takes for ends of lines, and what Traefik's reader puts lists together with."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a label, and what may be meant; `element` is what is left out for it, if it belongs to one."""

    label: str
    why: str
    hint: str = ""
    element: Element | None = None

    @property
    def what(self) -> str:
        """Say what is wrong, and what Traefik is not told of for that."""
        if self.element is None:
            return self.why
        _, part, name = self.element
        return f"{self.why}; Traefik is told nothing of its {part.removesuffix('s')} {name}"


class _Wrong(Exception):
    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.why, self.hint = why, hint


def enabled(labels: Mapping[str, str]) -> bool:
    """Tell whether Traefik is to be told of a service."""
    return _FLAGS.get(next((value for name, value in labels.items() if name.lower() == ENABLE), ""), False)


def faults(labels: Mapping[str, str]) -> tuple[Fault, ...]:
    """Tell what is wrong with the labels of a service that Traefik is to be told of; of others with ENABLE alone."""
    _, found = read(labels)
    return found if enabled(labels) else tuple(one for one in found if one.label.lower() == ENABLE)


def read(labels: Mapping[str, str], *, unknown: bool = False) -> tuple[Parts, tuple[Fault, ...]]:
    """Read all labels that are Traefik's. What one label spoils is not in the parts.

    Options that are `unknown` here, as those of a newer Traefik, are such a fault, or else taken for text.
    """
    parts: Parts = {}
    faults: list[Fault] = []
    off: list[tuple[dict[str, object], str]] = []
    for label, value in sorted(labels.items()):
        if not label.lower().startswith(PREFIX):
            continue
        element: Element | None = None
        try:
            words = _words(label)
            if words[0] in _NOT_OURS:
                if label.lower() == ENABLE and value not in _FLAGS:
                    raise _Wrong(f"{value[:40]!r} is neither true nor false")
                continue
            element = _element(label, words)
            _put(parts.setdefault(element, {}), PROTOCOLS[element[0]][element[1]], words[3:], value, off, unknown)
        except _Wrong as wrong:
            faults.append(Fault(label, wrong.why, wrong.hint, element))
    for place, word in off:
        place.pop(word, None)
    spoilt = {fault.element for fault in faults}
    told = {element: _listed(options) for element, options in parts.items() if element not in spoilt and options}
    return told, tuple(faults)


def _words(label: str) -> list[str]:
    words = label.split(".")[1:]
    if _UNREADABLE.search(label) or any(not 0 < len(word) <= LONGEST for word in words):
        raise _Wrong(f"a part of its name is empty, longer than {LONGEST} characters, or no text")
    return [word.lower() for word in words]


def _element(label: str, words: list[str]) -> Element:
    protocol = words[0]
    if protocol not in PROTOCOLS:
        raise _Wrong(f"{protocol[:40]!r} is none of http, tcp and udp", did_you_mean(protocol, PROTOCOLS))
    parts = PROTOCOLS[protocol]
    if len(words) < 2 or words[1] not in parts:
        told = words[1] if len(words) > 1 else ""
        raise _Wrong(f"{told[:40]!r} is none of {', '.join(parts)}", did_you_mean(told, parts))
    if len(words) < 4:
        raise _Wrong(
            f"it has to say which option of which of the {words[1]} it is: traefik.{protocol}.{words[1]}.NAME.OPTION"
        )
    return protocol, words[1], label.split(".")[3]


def _put(
    place: dict[str, object],
    kind: Options,
    words: list[str],
    value: str,
    off: list[tuple[dict[str, object], str]],
    unknown: bool,
) -> None:
    """Put a value to where the words lead. What is to be taken `off` in the end was switched off as a whole."""
    at: Kind = kind
    for n, word in enumerate(words):
        last = n == len(words) - 1
        match at:
            case Options(known):
                at = _option(word, known, unknown)
                if not isinstance(at, Anything) and isinstance(at, Many) != (_COUNTED.fullmatch(word) is not None):
                    raise _Wrong(f"{word[:40]} is {'' if isinstance(at, Many) else 'not '}counted: {word[:40]}[0]")
                if isinstance(at, Many):
                    at = at.each
            case Named(each):
                if not last or _COUNTED.fullmatch(word):
                    raise _Wrong(f"a name below {words[n - 1]} has no dots, and is not counted")
                at = each
            case Anything():
                if word.startswith("["):
                    raise _Wrong("a counted option has a name")
            case _:
                raise _Wrong(f"{words[n - 1][:40]} takes a value, and no options below it")
        if last:
            _end(place, word, at, value, off, alone=n == 0 and word == "plugin")
            return
        inner = place.setdefault(word, {})
        if not isinstance(inner, dict):  # of a plugin, `a=x` beside `a.b=y`
            inner = place[word] = {}
        place = inner


def _option(word: str, known: Mapping[str, Kind], unknown: bool) -> Kind:
    base = match[1] if (match := _COUNTED.fullmatch(word)) else word
    found = next((kind for name, kind in known.items() if name.lower() == base), None)
    if found is None and unknown:
        return Anything()
    if found is None:
        near = did_you_mean(base, (name.lower() for name in known), f"There are {', '.join(known)}.")
        raise _Wrong(f"Traefik has no option {word[:40]!r} there", near)
    return found


def _end(
    place: dict[str, object],
    word: str,
    kind: Kind,
    value: str,
    off: list[tuple[dict[str, object], str]],
    *,
    alone: bool,
) -> None:
    if isinstance(kind, Options) and kind.empty:
        if value not in _FLAGS:
            raise _Wrong(f"{value[:40]!r} is neither true nor false")
        place.setdefault(word, {})
        if not _FLAGS[value]:
            off.append((place, word))
    elif isinstance(kind, Options | Named) or (isinstance(kind, Anything) and alone):
        raise _Wrong(f"{word[:40]} has options below it, and takes no value itself")
    elif isinstance(kind, Anything):
        if not isinstance(place.get(word), dict):
            place[word] = _text(value)
    else:
        assert not isinstance(kind, Many)
        place[word] = _scalar(kind, value)


def _scalar(kind: Scalar, value: str) -> object:
    match kind:
        case "text":
            return _text(value)
        case "flag":
            if value not in _FLAGS:
                raise _Wrong(f"{value[:40]!r} is neither true nor false")
            return _FLAGS[value]
        case "number":
            if not _NUMBER.fullmatch(value) or abs(int(value)) > _LARGEST:
                raise _Wrong(f"{value[:40]!r} is no number")
            return int(value)
        case "port":
            if not _NUMBER.fullmatch(value) or not 0 < int(value) < 65536:
                raise _Wrong(f"{value[:40]!r} is no port")
            return int(value)
        case "duration":
            if not _is_duration(value):
                raise _Wrong(f"{value[:40]!r} is no duration", "Write it like 10s or 500ms.")
            return value
        case "list":
            items = [one.strip() for one in _text(value).split(",")]
            if items == [""]:
                raise _Wrong("the list is empty")
            return items


def _is_duration(value: str) -> bool:
    if _NUMBER.fullmatch(value):
        return abs(int(value)) <= _LARGEST // _UNITS["s"]
    pieces = _PIECE.findall(value)
    return bool(_SPAN.fullmatch(value)) and sum(float(number) * _UNITS[unit] for number, unit in pieces) < _LARGEST


def _text(value: str) -> str:
    if _UNREADABLE.search(value):
        raise _Wrong("it holds characters that are no text, or that Traefik keeps for itself")
    return value


def _listed(options: Mapping[str, object]) -> dict[str, object]:
    """Make {"domains[0]": x} into {"domains": [x]}."""
    told: dict[str, object] = {}
    counted: dict[str, dict[int, object]] = {}
    for key, value in options.items():
        inner = _listed(value) if isinstance(value, dict) else value
        if match := _COUNTED.fullmatch(key):
            counted.setdefault(match[1], {})[int(match[2])] = inner
        else:
            told[key] = inner
    return told | {key: [some[index] for index in sorted(some)] for key, some in counted.items()}
