"""Go templates as far as Swarm's services use them: `{{.Task.Slot}}`, `{{index .Service.Labels "zone"}}`, conditions.

A text is parsed once and rendered with the values of one task. Actions may be pipelines with parentheses, strings,
numbers and the functions below, `if`/`else`/`end`, comments, and the trim markers `{{-` and `-}}`. What Go has beyond
that (variables, range, with, define) is refused by name. A label that is missing is an error, as in Swarm.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from cluster.errors import UserError
from cluster.model.service import ServiceMode, ServiceSpec
from cluster.model.task import Task
from cluster.model.volume import VolumeSpec

Value: TypeAlias = "str | int | bool | Mapping[str, Value]"
Function = Callable[[Sequence[Value]], Value]


class TemplateError(UserError):
    """A template cannot be parsed, or has no value for what it asks; the message tells where in the text."""


def is_template(text: str) -> bool:
    return "{{" in text


def render(text: str, values: Mapping[str, Value], functions: Mapping[str, Function] | None = None) -> str:
    """Expand a text. Raises TemplateError. `functions` are known beside those that every template has."""
    if not is_template(text):
        return text
    known = FUNCTIONS | dict(functions or {})
    return "".join(part.show(values, known) for part in _Parser(text, known.keys()).parse())


def check(text: str, functions: Collection[str] = ()) -> None:
    """Raise TemplateError for what cannot be parsed, with names of functions that are known beside the usual ones."""
    if is_template(text):
        _Parser(text, FUNCTIONS.keys() | set(functions)).parse()


# Values as Go shows and judges them.


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{_shown(each)}" for key, each in sorted(value.items())) + "]"
    return str(value)


def _strings(name: str, given: Sequence[Value]) -> list[str]:
    for value in given:
        if not isinstance(value, str):
            raise TemplateError(f"{name} takes texts, not {_shown(value)}")
    return [str(value) for value in given]


def _index(given: Sequence[Value]) -> Value:
    if not given:
        raise TemplateError("index takes a map and keys")
    found = given[0]
    for key in given[1:]:
        if not isinstance(found, Mapping) or not isinstance(key, str):
            raise TemplateError(f"index finds no {_shown(key)} in {_shown(found)}")
        found = found.get(key, "")
    return found


def _join(given: Sequence[Value]) -> Value:
    separator, *rest = _strings("join", given) or [""]
    return separator.join(rest)


def _printf(given: Sequence[Value]) -> Value:
    template, *rest = given or [""]
    left = iter(rest)

    def put(match: re.Match[str]) -> str:
        if match[0] == "%%":
            return "%"
        value = next(left, None)
        if value is None:
            raise TemplateError(f"printf has no value for {match[0]}")
        text = _shown(value)
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' if match[0] == "%q" else text

    made = re.sub(r"%[%sdvq]", put, _shown(template))
    if next(left, None) is not None:
        raise TemplateError("printf has more values than places for them")
    return made


def _one(name: str, given: Sequence[Value]) -> Value:
    if len(given) != 1:
        raise TemplateError(f"{name} takes one value, not {len(given)}")
    return given[0]


def _len(given: Sequence[Value]) -> Value:
    value = _one("len", given)
    if isinstance(value, int):
        raise TemplateError("len takes a text or a map")
    return len(value.encode()) if isinstance(value, str) else len(value)


def _eq(given: Sequence[Value]) -> Value:
    if len(given) < 2:
        raise TemplateError("eq takes two values or more")
    return any(given[0] == other for other in given[1:])


FUNCTIONS: dict[str, Function] = {
    "index": _index,
    "join": _join,
    "print": lambda given: "".join(map(_shown, given)),
    "printf": _printf,
    "len": _len,
    "eq": _eq,
    "ne": lambda given: not _eq(given),
    "not": lambda given: not _one("not", given),
    "and": lambda given: next((value for value in given if not value), given[-1] if given else True),
    "or": lambda given: next((value for value in given if value), given[-1] if given else False),
}


# Expressions, each with its place for when it has no value.


@dataclass(frozen=True, slots=True)
class _Constant:
    value: Value

    def of(self, values: Mapping[str, Value], functions: Mapping[str, Function]) -> Value:
        return self.value


@dataclass(frozen=True, slots=True)
class _Field:
    path: tuple[str, ...]
    place: str

    def of(self, values: Mapping[str, Value], functions: Mapping[str, Function]) -> Value:
        found: Value = values
        for depth, name in enumerate(self.path, 1):
            if not isinstance(found, Mapping) or name not in found:
                raise TemplateError(f"{self.place}: there is no .{'.'.join(self.path[:depth])}")
            found = found[name]
        return found


@dataclass(frozen=True, slots=True)
class _Call:
    name: str
    arguments: tuple[_Expression, ...]
    place: str

    def of(self, values: Mapping[str, Value], functions: Mapping[str, Function]) -> Value:
        given = [argument.of(values, functions) for argument in self.arguments]
        try:
            return functions[self.name](given)
        except TemplateError as error:
            raise (
                error if error.message.startswith("at ") else TemplateError(f"{self.place}: {error.message}")
            ) from None


_Expression = _Constant | _Field | _Call


@dataclass(frozen=True, slots=True)
class _Text:
    text: str

    def show(self, values: Mapping[str, Value], functions: Mapping[str, Function]) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class _Output:
    expression: _Expression

    def show(self, values: Mapping[str, Value], functions: Mapping[str, Function]) -> str:
        return _shown(self.expression.of(values, functions))


@dataclass(frozen=True, slots=True)
class _If:
    condition: _Expression
    then: tuple[_Part, ...]
    otherwise: tuple[_Part, ...]

    def show(self, values: Mapping[str, Value], functions: Mapping[str, Function]) -> str:
        chosen = self.then if self.condition.of(values, functions) else self.otherwise
        return "".join(part.show(values, functions) for part in chosen)


_Part = _Text | _Output | _If

_ACTION = re.compile(r"""\{\{(-\s)?((?:"(?:[^"\\\n]|\\.)*"|`[^`]*`|/\*.*?\*/|(?!\}\}).)*?)(\s-)?\}\}""", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\\n]|\\.)*")|(?P<raw>`[^`]*`)|(?P<number>-?\d+\b)|(?P<field>(?:\.[A-Za-z_]\w*)+)"""
    r"""|(?P<word>[A-Za-z_]\w*)|(?P<mark>[()|]))"""
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
_REFUSED = {"range", "with", "define", "template", "block", "break", "continue"}


class _Parser:
    def __init__(self, text: str, functions: Collection[str]) -> None:
        self._text, self._functions = text, functions
        self._at = 0
        self._trim = False
        self._tokens: list[tuple[str, str]] = []
        self._place = ""

    def parse(self) -> tuple[_Part, ...]:
        parts, ended_by = self._parts(inside=False)
        if ended_by:
            raise TemplateError(f"{self._place}: {ended_by} without an if")
        return parts

    def _parts(self, *, inside: bool) -> tuple[tuple[_Part, ...], str]:
        """Read on to the end, or, of a part inside of an if, to its `else` or `end`."""
        parts: list[_Part] = []
        began = self._place
        while (start := self._text.find("{{", self._at)) >= 0:
            self._place = f"at {self._text[start : start + 24]!r}"
            match = _ACTION.match(self._text, start)
            if match is None:
                raise TemplateError(f"{self._place}: the action has no end", hint="Write }} after it.")
            self._add(parts, self._text[self._at : start], trim=bool(match[1]))
            self._at, self._trim = match.end(), bool(match[3])
            body = match[2].strip()
            if body.startswith("/*") and body.endswith("*/"):
                continue
            self._tokens = self._tokenize(body)
            word = self._tokens[0][1] if self._tokens[0][0] == "word" else ""
            if word in ("end", "else"):
                self._tokens.pop(0)
                return tuple(parts), word
            if word == "if":
                self._tokens.pop(0)
                parts.append(self._if())
            elif word in _REFUSED:
                raise TemplateError(f"{self._place}: {word} is not supported in templates")
            else:
                parts.append(_Output(self._pipeline_to_the_end()))
        if inside:
            raise TemplateError(f"{began}: the if has no end", hint="Write {{end}} after it.")
        self._add(parts, self._text[self._at :], trim=False)
        self._at = len(self._text)
        return tuple(parts), ""

    def _add(self, parts: list[_Part], text: str, *, trim: bool) -> None:
        text = text.lstrip() if self._trim else text
        text = text.rstrip() if trim else text
        if text:
            parts.append(_Text(text))

    def _if(self) -> _If:
        condition = self._pipeline_to_the_end()
        then, ended_by = self._parts(inside=True)
        otherwise: tuple[_Part, ...] = ()
        if ended_by == "else":
            if self._tokens and self._tokens[0] == ("word", "if"):
                self._tokens.pop(0)
                return _If(condition, then, (self._if(),))
            otherwise, ended_by = self._parts(inside=True)
            if ended_by != "end":
                raise TemplateError(f"{self._place}: a second else")
        return _If(condition, then, otherwise)

    def _tokenize(self, body: str) -> list[tuple[str, str]]:
        tokens, at = [], 0
        while at < len(body):
            match = _TOKEN.match(body, at)
            if match is None or match.lastgroup is None:
                raise TemplateError(
                    f"{self._place}: {body[at:].split()[0]!r} is not understood",
                    hint='For the characters {{ themselves write {{"{{"}}.',
                )
            tokens.append((match.lastgroup, match[match.lastgroup]))
            at = match.end()
        if not tokens:
            raise TemplateError(f"{self._place}: the action is empty")
        return tokens

    def _pipeline_to_the_end(self) -> _Expression:
        found = self._pipeline()
        if self._tokens:
            raise TemplateError(f"{self._place}: {self._tokens[0][1]!r} comes too much")
        return found

    def _pipeline(self) -> _Expression:
        found = self._command(())
        while self._tokens and self._tokens[0] == ("mark", "|"):
            self._tokens.pop(0)
            found = self._command((found,))
        return found

    def _command(self, piped: tuple[_Expression, ...]) -> _Expression:
        """Read a function with its arguments, or one operand; what is piped comes as the last argument."""
        if self._tokens and self._tokens[0][0] == "word" and self._tokens[0][1] not in ("true", "false"):
            name = self._tokens.pop(0)[1]
            if name not in self._functions:
                raise TemplateError(f"{self._place}: there is no function {name}")
            arguments = []
            while self._tokens and self._tokens[0] not in (("mark", "|"), ("mark", ")")):
                arguments.append(self._operand())
            return _Call(name, (*arguments, *piped), self._place)
        if piped:
            raise TemplateError(f"{self._place}: only a function comes after |")
        return self._operand()

    def _operand(self) -> _Expression:
        kind, text = self._tokens.pop(0) if self._tokens else ("end", "")
        match kind:
            case "string":
                return _Constant(re.sub(r"\\(.)", self._unescaped, text[1:-1]))
            case "raw":
                return _Constant(text[1:-1])
            case "number":
                return _Constant(int(text))
            case "field":
                return _Field(tuple(text[1:].split(".")), self._place)
            case "word" if text in ("true", "false"):
                return _Constant(text == "true")
            case "word" if text in self._functions:
                return _Call(text, (), self._place)
            case "mark" if text == "(":
                inner = self._pipeline()
                if not self._tokens or self._tokens.pop(0) != ("mark", ")"):
                    raise TemplateError(f"{self._place}: a bracket is not closed")
                return inner
            case _:
                raise TemplateError(f"{self._place}: {text!r} is no value" if text else f"{self._place}: it ends early")

    def _unescaped(self, match: re.Match[str]) -> str:
        if match[1] not in _ESCAPES:
            raise TemplateError(f"{self._place}: {match[0]} is not understood in a text")
        return _ESCAPES[match[1]]


# What a task's own values are.


@dataclass(frozen=True, slots=True)
class Place:
    """A node, as templates see it."""

    id: str
    hostname: str
    os: str = "linux"
    architecture: str = ""


def task_values(
    *, service: str, name: str, labels: Mapping[str, str], task: str, slot: str, place: Place
) -> dict[str, Value]:
    """Give what templates know of a task; `name` is the service's full name, `slot` a node's id in global services."""
    return {
        "Service": {"ID": service, "Name": name, "Labels": dict(labels)},
        "Node": {
            "ID": place.id,
            "Hostname": place.hostname,
            "Platform": {"OS": place.os, "Architecture": place.architecture},
        },
        "Task": {"ID": task, "Name": f"{name}.{slot}.{task}", "Slot": slot},
    }


def values_of(stack: str, spec: ServiceSpec, task: Task, place: Place) -> dict[str, Value]:
    """Give what templates know of a task of a stack's service on a node."""
    return task_values(
        service=task.service_uid,
        name=f"{stack}_{spec.name}",
        labels=spec.labels,
        task=task.id,
        slot=place.id if spec.mode in (ServiceMode.GLOBAL, ServiceMode.GLOBAL_JOB) else str(task.slot),
        place=place,
    )


# Where a service may have templates.


def expand_service(spec: ServiceSpec, values: Mapping[str, Value]) -> ServiceSpec:
    """Expand environment values, host name, and sources and targets of mounts. Raises TemplateError with the field."""
    given = spec.container
    texts = [
        *given.environment.values(),
        given.hostname,
        *(text for m in given.mounts for text in (m.source, m.target)),
    ]
    if not any(map(is_template, texts)):
        return spec
    container = replace(
        given,
        environment={key: _field(f"environment.{key}", text, values) for key, text in given.environment.items()},
        hostname=_field("hostname", given.hostname, values),
        mounts=tuple(
            replace(
                mount,
                source=_field(f"volumes.{n}.source", mount.source, values),
                target=_field(f"volumes.{n}.target", mount.target, values),
            )
            for n, mount in enumerate(given.mounts)
        ),
    )
    return replace(spec, container=container)


def expand_volume(spec: VolumeSpec, values: Mapping[str, Value]) -> VolumeSpec:
    """Expand a volume's name, labels and driver options. Raises TemplateError with the field."""
    return replace(
        spec,
        name=_field("name", spec.name, values),
        labels={key: _field(f"labels.{key}", text, values) for key, text in spec.labels.items()},
        driver_options={key: _field(f"driver_opts.{key}", text, values) for key, text in spec.driver_options.items()},
    )


def _field(where: str, text: str, values: Mapping[str, Value]) -> str:
    try:
        return render(text, values)
    except TemplateError as error:
        raise TemplateError(f"{where}: {error.message}", hint=error.hint) from None
