"""A project held to the table of verdicts: what becomes of each key that it uses, and its model without those refused.

A refused key stops the conversion, unless the files list it under `x-stackyard: {accept: [...]}`; then it is as if it
had not been written.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cluster.compose.convert.field import Path, Source, root
from cluster.compose.convert.verdicts import (
    OTHER,
    TABLE,
    WHOLE,
    YES,
    Depends,
    Honoured,
    Refused,
    Rule,
    Translated,
    Verdict,
    accept_name,
    acceptable,
)
from cluster.compose.tree import Where
from cluster.errors import ComposeError

ACCEPT = "x-stackyard"
_SECTIONS = ("services", "networks", "volumes", "secrets", "configs")


class Written(Source, Protocol):
    """A loaded project that knows what its files wrote; `tree` is that, merged, with keys of one's own (`x-*`)."""

    @property
    def tree(self) -> Mapping[str, Any]: ...

    @property
    def used(self) -> Iterable[tuple[Path, Where]]: ...


@dataclass(frozen=True, slots=True)
class Judged:
    """What becomes of one key. `name` is that by which a file accepts it, and `accepted` tells that it does."""

    path: Path
    where: Where
    verdict: Verdict
    name: str
    accepted: bool = False

    @property
    def refused(self) -> bool:
        """It stops a deploy."""
        return isinstance(self.verdict, Refused) and not self.accepted

    @property
    def word(self) -> str:
        match self.verdict:
            case Honoured():
                return "honoured"
            case Translated():
                return "translated"
            case Refused():
                return "accepted" if self.accepted else "refused"

    @property
    def text(self) -> str:
        match self.verdict:
            case Honoured(note):
                return note
            case Translated(to):
                return to
            case Refused(why, instead):
                hint = instead or f"To run without it, list {self.name} under {ACCEPT}: {{accept: [{self.name}]}}."
                return f"without effect: {why}" if self.accepted else f"{why}. {hint}"

    def __str__(self) -> str:
        text = f": {self.text}" if self.text else ""
        return f"{self.where.file}:{self.where.line}: {'.'.join(map(str, self.path))}: {self.word}{text}"


def judge(project: Written) -> tuple[Judged, ...]:
    """Give the verdict on each key that the files wrote, and on those refused that short forms stand for, by line."""
    accept = _accepted(project)
    found = {path: (rule, name, value, beside) for path, rule, name, value, beside in _walk(project.model)}
    judged: dict[Path, Judged] = {}
    for path, where in project.used:
        if not isinstance(path[-1], str) or _left_out(path, project.model):
            continue
        rule, name, value, beside = found[path] if path in found else (*_rule_for(path), None, {})
        if rule is not None:
            verdict = _verdict(rule, value, beside) if path in found or not isinstance(rule, Depends) else YES
            judged[path] = _judged(path, where, verdict, name, accept)
    for path, (rule, name, value, beside) in found.items():
        if path not in judged and rule is not None:
            verdict = _verdict(rule, value, beside)
            if isinstance(verdict, Refused):
                judged[path] = _judged(path, project.where(*path), verdict, name, accept)
    files = {one.where.file: n for n, one in reversed(list(enumerate(judged.values())))}
    return tuple(sorted(judged.values(), key=lambda one: (files[one.where.file], one.where.line)))


def allowed(project: Written) -> dict[str, Any]:
    """Give the model without the refused keys that the files accept. Raises ComposeError that tells of all others."""
    judged = judge(project)
    stopping = [one for one in judged if one.refused]
    if stopping:
        raise _error(stopping)
    model = project.model
    for one in judged:
        if isinstance(one.verdict, Refused):
            model = _without(model, one.path)
    return model


def _error(refused: list[Judged]) -> ComposeError:
    first = refused[0]
    assert isinstance(first.verdict, Refused)
    if len(refused) == 1:
        hint = first.verdict.instead or first.text.rpartition(". ")[2]
        where = Where(first.where.file, first.where.line, ".".join(map(str, first.path)))
        return where.error(f"not supported: {first.verdict.why}", hint=hint)
    names = ", ".join(dict.fromkeys(one.name for one in refused))
    return ComposeError(
        "\n".join((f"{len(refused)} keys are not supported:", *(f"  {one}" for one in refused))),
        hint=f"To run without them, list them under {ACCEPT}: {{accept: [{names}]}}.",
    )


def _judged(path: Path, where: Where, verdict: Verdict, name: str, accept: frozenset[str]) -> Judged:
    if isinstance(verdict, Refused) and verdict.accept:
        name = verdict.accept
    return Judged(path, where, verdict, name, isinstance(verdict, Refused) and name in accept)


def _left_out(path: Path, model: Mapping[str, Any]) -> bool:
    """Tell of what belongs to a service that no profile asks for, or to a volume and the like that no service uses."""
    section = model.get(str(path[0]))
    return path[0] in _SECTIONS and len(path) > 1 and not (isinstance(section, dict) and path[1] in section)


def _verdict(rule: Rule, value: Any, beside: Mapping[str, Any]) -> Verdict:
    return rule.judge(value, beside) if isinstance(rule, Depends) else rule


def _accepted(project: Source) -> frozenset[str]:
    known = acceptable()
    names: set[str] = set()
    for key, field in root(project)[ACCEPT].entries():
        if key != "accept":
            raise field.error("the key is unknown", hint=f"{ACCEPT} takes accept: [KEY, ...].")
        for item in field.items():
            name = item.text()
            if name not in known:
                close = difflib.get_close_matches(name[:60], sorted(known), n=1)
                hint = f"Did you mean {close[0]}?" if close else "Write it like deploy.update_config."
                raise item.error(f"{name[:60]!r} is no key of a Compose file", hint=hint)
            names.add(name)
    return frozenset(names)


Found = tuple[Path, Rule | None, str, Any, Mapping[str, Any]]


def _walk(model: Mapping[str, Any]) -> Iterator[Found]:
    """Give each key of the table that the model has: path, rule, name, value, and the mapping that it stands in."""
    waiting: list[tuple[Path, str, Any]] = [((), "", model)]
    while waiting:
        path, pattern, node = waiting.pop()
        if isinstance(node, list):
            waiting += [((*path, n), f"{pattern}.[]", item) for n, item in enumerate(node)]
        elif isinstance(node, Mapping):
            rules = TABLE.get(pattern)
            for key, value in node.items():
                if rules is None:
                    waiting.append(((*path, key), f"{pattern}.*", value))
                elif (rule := rules.get(key) or rules.get(OTHER)) is not None:
                    yield (*path, key), rule, accept_name(pattern, key), value, node
                    inner = f"{pattern}.{key}".lstrip(".")
                    if inner not in WHOLE:
                        waiting.append(((*path, key), inner, value))
            for key, rule in (rules or {}).items():
                if isinstance(rule, Depends) and rule.whole and key not in node:
                    yield (*path, key), rule, accept_name(pattern, key), None, node


def _rule_for(path: Path) -> tuple[Rule | None, str]:
    """Give the rule for a path as it was written, by the keys alone."""
    pattern = ""
    for n, step in enumerate(path):
        rules = TABLE.get(pattern)
        if isinstance(step, int):
            pattern = f"{pattern}.[]"
        elif rules is None:
            pattern = f"{pattern}.*"
        elif n == len(path) - 1:
            return rules.get(step) or (None if step.startswith("x-") else rules.get(OTHER)), accept_name(pattern, step)
        elif (pattern := f"{pattern}.{step}".lstrip(".")) in WHOLE:
            return None, ""
    return None, ""


def _without(node: Any, path: Path) -> Any:
    """Give the tree without one path; list items keep their numbers, an item that had to have the key is empty."""
    step, rest = path[0], path[1:]
    if isinstance(node, list) and isinstance(step, int):
        return [*node[:step], _without(node[step], rest) if rest else None, *node[step + 1 :]]
    if not isinstance(node, dict):
        return node
    if rest:
        return {**node, step: _without(node[step], rest)} if step in node else node
    if step not in node:
        return None
    return {key: value for key, value in node.items() if key != step}
