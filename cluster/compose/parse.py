"""YAML text to trees: anchors, aliases and merge keys are resolved here, duplicate keys and unknown tags refused.

The parser's events are put together without recursion, and what aliases multiply is bounded, so that no text can
exhaust the stack or the memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from cluster.compose import scalars
from cluster.compose.tree import Mapping, Node, Scalar, ScalarValue, Sequence, Where
from cluster.errors import ComposeError

MAX_BYTES = 10 * 2**20
MAX_COPIES = 100_000
"""How many values aliases and merge keys may add to those that are written."""

MAX_DEPTH = 100

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE = "<<"
_TAG = "tag:yaml.org,2002:"


@dataclass(slots=True)
class _Raw:
    """A node of the graph as written: shared where an alias refers to it, and so perhaps within itself."""

    kind: type[Scalar] | type[Sequence] | type[Mapping]
    line: int
    tag: str | None = None
    text: str = ""
    plain: bool = False
    items: list[_Raw] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    """Of the items: an alias stands elsewhere than what it refers to."""

    @property
    def pairs(self) -> Iterator[tuple[_Raw, _Raw]]:
        return zip(self.items[::2], self.items[1::2], strict=True)


def parse(content: bytes, file: str) -> list[Node]:
    """Read all documents of a file, empty ones left out; `file` is its name in errors."""
    if len(content) > MAX_BYTES:
        raise ComposeError(f"the file is larger than {MAX_BYTES >> 20} MiB", file=file)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content.count(b"\n", 0, error.start)
        raise ComposeError("this is not UTF-8 text", file=file, line=before + 1) from None
    try:
        raws, written = _compose(text, file)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        # At the end of a text the mark may be in the line after the last.
        line = min(mark.line + 1, len(text.splitlines()) or 1) if mark is not None else None
        raise ComposeError(f"this is not YAML: {problem}", file=file, line=line) from None
    except yaml.YAMLError as error:
        raise ComposeError(f"this is not YAML: {str(error).splitlines()[0]}", file=file) from None
    builder = _Builder(written + MAX_COPIES)
    return [builder.build(raw, Where(file, raw.line)) for raw in raws if raw.kind is not Scalar or raw.text]


def _compose(text: str, file: str) -> tuple[list[_Raw], int]:
    """Give the graph of each document, and how many nodes all have together."""
    written = 0
    documents: list[_Raw] = []
    stack: list[_Raw] = []
    anchors: dict[str, _Raw] = {}
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.DocumentStartEvent):
            anchors = {}
        elif isinstance(event, yaml.CollectionEndEvent):
            stack.pop()
        elif isinstance(event, yaml.NodeEvent):
            line = event.start_mark.line + 1 if event.start_mark is not None else 0
            if isinstance(event, yaml.AliasEvent):
                if event.anchor not in anchors:
                    raise ComposeError(f"there is no anchor &{event.anchor} before this alias", file=file, line=line)
                raw = anchors[event.anchor]
            else:
                written += 1
                raw = _raw(event, line)
                if event.anchor is not None:
                    anchors[event.anchor] = raw
            (stack[-1].items if stack else documents).append(raw)
            if stack:
                stack[-1].lines.append(line)
            if isinstance(event, yaml.CollectionStartEvent):
                stack.append(raw)
                if len(stack) > MAX_DEPTH:
                    raise ComposeError(f"more than {MAX_DEPTH} levels deep", file=file, line=line)
    return documents, written


def _raw(event: Any, line: int) -> _Raw:
    if isinstance(event, yaml.ScalarEvent):
        return _Raw(Scalar, line, event.tag, text=event.value, plain=event.implicit[0])
    return _Raw(Sequence if isinstance(event, yaml.SequenceStartEvent) else Mapping, line, event.tag)


class _Builder:
    """Turns the graph of one file into trees, giving each place its own nodes with its own path."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._open: list[_Raw] = []

    def _count(self, nodes: int, where: Where) -> None:
        self._left -= nodes
        if self._left < 0:
            raise where.error(f"aliases add more than {MAX_COPIES} values to those that are written")

    def build(self, raw: _Raw, where: Where) -> Node:
        self._count(1, where)
        if raw.kind is Scalar:
            return Scalar(_scalar(raw, where), where)
        self._enter(raw, where)
        try:
            if raw.kind is Sequence:
                _expect_tag(raw, where, "seq")
                placed = enumerate(zip(raw.items, raw.lines, strict=True))
                return Sequence(tuple(self.build(item, where.inner(n, line)) for n, (item, line) in placed), where)
            _expect_tag(raw, where, "map")
            return Mapping({key: self.build(value, at) for key, (value, at) in self._flat(raw, where).items()}, where)
        finally:
            self._open.pop()

    def _enter(self, raw: _Raw, where: Where) -> None:
        if any(raw is outer for outer in self._open):
            raise where.error("this alias refers to a value that it is part of")
        if len(self._open) >= MAX_DEPTH:
            raise where.error(f"more than {MAX_DEPTH} levels deep")
        self._open.append(raw)

    def _flat(self, raw: _Raw, where: Where) -> dict[str, tuple[_Raw, Where]]:
        """Give the entries of a mapping with those of its merge key below its own."""
        own: dict[str, tuple[_Raw, Where]] = {}
        merged: dict[str, tuple[_Raw, Where]] = {}
        merge_line = 0
        for key, value in raw.pairs:
            if key.kind is Scalar and key.text == _MERGE and key.plain:
                if merge_line:
                    at = where.inner(_MERGE, key.line)
                    raise at.error(f"the merge key is there twice (also in line {merge_line})")
                merge_line = key.line
                merged = self._merge_sources(value, where, key.line)
                continue
            name = _key(key, where)
            at = where.inner(name, key.line)
            if name in own:
                raise at.error(f"the key is there twice (also in line {own[name][1].line})")
            own[name] = (value, at)
        return {**merged, **own}

    def _merge_sources(self, raw: _Raw, where: Where, line: int) -> dict[str, tuple[_Raw, Where]]:
        at = where.inner(_MERGE, line)
        merged: dict[str, tuple[_Raw, Where]] = {}
        for source in raw.items if raw.kind is Sequence else [raw]:
            if source.kind is not Mapping:
                raise at.error("only a mapping, or a list of mappings, can be merged")
            self._enter(source, at)
            try:
                entries = self._flat(source, where)
            finally:
                self._open.pop()
            self._count(len(entries), at)
            merged = {**entries, **merged}
        return merged


def _key(raw: _Raw, where: Where) -> str:
    at = Where(where.file, raw.line, where.field)
    if raw.kind is not Scalar:
        raise at.error("a key must be text, not a list or a mapping")
    value = _scalar(raw, at)
    if not isinstance(value, str):
        raise at.error(f"the key {raw.text or 'null'} is not text", hint=f'Write it in quotes: "{raw.text}".')
    return value


def _expect_tag(raw: _Raw, where: Where, kind: str) -> None:
    if raw.tag not in (None, "!", _TAG + kind):
        raise _unknown_tag(raw, where)


def _unknown_tag(raw: _Raw, where: Where) -> ComposeError:
    tag = (raw.tag or "").replace(_TAG, "!!")
    if tag in ("!reset", "!override"):
        return where.error(f"{tag} is not supported", hint="Take the value out of the earlier file.")
    return where.error(f"the tag {tag} is unknown", hint="Compose files need no tags; take it away.")


_TAGGED_TYPES: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "null": (type(None),),
}


def _scalar(raw: _Raw, where: Where) -> ScalarValue:
    try:
        raw.text.encode()
    except UnicodeEncodeError:
        raise where.error("the text holds half of a character (a lone surrogate)") from None
    if raw.tag in (None, "!"):
        return scalars.resolve(raw.text) if raw.plain and raw.tag is None else raw.text
    name = raw.tag.removeprefix(_TAG) if raw.tag else ""
    if name == "str":
        return raw.text
    if name not in _TAGGED_TYPES:
        raise _unknown_tag(raw, where)
    value = scalars.resolve(raw.text)
    if not isinstance(value, _TAGGED_TYPES[name]) or (isinstance(value, bool) and name != "bool"):
        raise where.error(f"{raw.text!r} is not of the type that its tag !!{name} says")
    return value
