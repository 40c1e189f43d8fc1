"""YAML text to trees: anchors, aliases and merge keys are resolved here, duplicate keys refused, `!reset` taken out.

The parser's events are put together without recursion, and depth and what aliases multiply are bounded, so that no
text can exhaust the stack or the memory.
"""

from __future__ import annotations

import base64
import binascii
import codecs
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from cluster.compose import scalars
from cluster.compose.tree import List, Map, Path, Where, written
from cluster.errors import ComposeError

MAX_BYTES = 10 * 2**20
MAX_COPIES = 500_000
"""How many values aliases and merge keys may add to those that are written."""

MAX_DEPTH = 100

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE = "<<"
_TAG = "tag:yaml.org,2002:"
_RESET, _OVERRIDE = "!reset", "!override"
_SCALAR, _SEQUENCE, _MAPPING = range(3)


@dataclass(frozen=True, slots=True)
class Document:
    """One document; `drops` are the paths that it takes out of the files before it (`!reset`, `!override`)."""

    root: Any
    drops: tuple[Path, ...]


@dataclass(slots=True)
class _Raw:
    """A node of the graph as written: shared where an alias refers to it, and so perhaps within itself."""

    kind: int
    line: int
    tag: str | None = None
    text: str = ""
    plain: bool = False
    anchored: bool = False
    items: list[_Raw] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    """Of the items: an alias stands elsewhere than what it refers to."""

    @property
    def pairs(self) -> Iterator[tuple[_Raw, _Raw]]:
        return zip(self.items[::2], self.items[1::2], strict=True)


def parse(content: bytes, file: str) -> list[Document]:
    """Read all documents of a file; `file` is its name in errors. Raises ComposeError."""
    if len(content) > MAX_BYTES:
        raise ComposeError(f"the file is larger than {MAX_BYTES >> 20} MiB", file=file)
    raws, count = _graph(_decode(content, file), file)
    builder = _Builder(file, count + MAX_COPIES)
    documents = []
    for raw in raws:
        builder.drops = []
        documents.append(Document(builder.build(raw, (), raw.line), tuple(builder.drops)))
    return documents


def _decode(content: bytes, file: str) -> str:
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        before = content.count(b"\n", 0, error.start)
        raise ComposeError("this is not UTF-8 text", file=file, line=before + 1) from None


def _graph(text: str, file: str) -> tuple[list[_Raw], int]:
    """Give the graph of each document, and how many nodes all have together."""
    count = 0
    documents: list[_Raw] = []
    stack: list[_Raw] = []
    anchors: dict[str, _Raw] = {}
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, yaml.DocumentStartEvent):
                anchors = {}
            elif isinstance(event, yaml.CollectionEndEvent):
                stack.pop()
            elif isinstance(event, yaml.NodeEvent):
                line = event.start_mark.line + 1 if event.start_mark is not None else 0
                if isinstance(event, yaml.AliasEvent):
                    if event.anchor not in anchors:
                        message = f"there is no anchor &{event.anchor} before this alias"
                        raise ComposeError(message, file=file, line=line)
                    raw = anchors[event.anchor]
                else:
                    count += 1
                    raw = _raw(event, line)
                    if event.anchor is not None:
                        anchors[event.anchor] = raw
                        raw.anchored = True
                (stack[-1].items if stack else documents).append(raw)
                if stack:
                    stack[-1].lines.append(line)
                if isinstance(event, yaml.CollectionStartEvent):
                    stack.append(raw)
                    if len(stack) > MAX_DEPTH:
                        raise ComposeError(f"more than {MAX_DEPTH} levels deep", file=file, line=line)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        # At the end of a text the mark may be in the line after the last.
        at = min(mark.line + 1, len(text.splitlines()) or 1) if mark is not None else None
        raise ComposeError(f"this is not YAML: {problem}", file=file, line=at) from None
    except yaml.YAMLError as error:
        raise ComposeError(f"this is not YAML: {str(error).splitlines()[0]}", file=file) from None
    return documents, count


def _raw(event: Any, line: int) -> _Raw:
    if isinstance(event, yaml.ScalarEvent):
        return _Raw(_SCALAR, line, event.tag, text=event.value, plain=event.implicit[0])
    return _Raw(_SEQUENCE if isinstance(event, yaml.SequenceStartEvent) else _MAPPING, line, event.tag)


_Entry = tuple[_Raw, int, bool]
"""A value, its line, and whether its `!reset` or `!override` counts."""


class _Builder:
    """Turns the graph of one file into trees, giving each place its own values."""

    def __init__(self, file: str, most: int) -> None:
        self._file = file
        self._left = most
        self._open: list[_Raw] = []
        self.drops: list[Path] = []

    def _error(self, message: str, line: int, path: Path, hint: str = "") -> ComposeError:
        return Where(self._file, line, written(path)).error(message, hint=hint)

    def _count(self, nodes: int, line: int, path: Path) -> None:
        self._left -= nodes
        if self._left < 0:
            message = f"aliases add more than {MAX_COPIES} values to those that are written"
            raise self._error(message, line, path)

    def build(self, raw: _Raw, path: Path, line: int) -> Any:
        """Build the value that stands in a line; what an alias refers to stands elsewhere itself."""
        self._count(1, line, path)
        if raw.kind == _SCALAR:
            return self._scalar(raw, path)
        self._enter(raw, path, line)
        if raw.kind == _SEQUENCE:
            built: Any = self._sequence(raw, path)
        else:
            built = self._mapping(raw, path)
        self._open.pop()
        return built

    def _sequence(self, raw: _Raw, path: Path) -> List:
        result = List()
        for item, line in zip(raw.items, raw.lines, strict=True):
            if item.tag != _RESET:
                result.put(self.build(item, (*path, len(result)), line), (self._file, line))
        return result

    def _mapping(self, raw: _Raw, path: Path) -> Map:
        result = Map()
        for key, (value, line, drops) in self._flat(raw, path).items():
            inner = (*path, key)
            if drops and value.tag in (_RESET, _OVERRIDE):
                self.drops.append(inner)
            if value.tag != _RESET:
                result.put(key, self.build(value, inner, line), (self._file, line))
        return result

    def _enter(self, raw: _Raw, path: Path, line: int) -> None:
        if any(raw is outer for outer in self._open):
            raise self._error("this alias refers to a value that it is part of", line, path)
        if len(self._open) >= MAX_DEPTH:
            raise self._error(f"more than {MAX_DEPTH} levels deep", line, path)
        self._open.append(raw)

    def _flat(self, raw: _Raw, path: Path) -> dict[str, _Entry]:
        """Give the entries of a mapping with those of its merge key below its own."""
        own: dict[str, _Entry] = {}
        merged: dict[str, _Entry] = {}
        merge_line = 0
        for key, value in raw.pairs:
            if key.kind == _SCALAR and key.text == _MERGE and key.plain and key.tag is None:
                if merge_line:
                    message = f"the merge key is there twice (also in line {merge_line})"
                    raise self._error(message, key.line, (*path, _MERGE))
                merge_line = key.line
                merged = self._merge_sources(value, (*path, _MERGE), key.line)
                continue
            name = self._key(key, path)
            if name in own:
                message = f"the key is there twice (also in line {own[name][1]})"
                raise self._error(message, key.line, (*path, name))
            own[name] = (value, key.line, True)
        return {**merged, **own}

    def _merge_sources(self, raw: _Raw, path: Path, line: int) -> dict[str, _Entry]:
        merged: dict[str, _Entry] = {}
        for source in raw.items if raw.kind == _SEQUENCE else [raw]:
            if source.kind != _MAPPING:
                raise self._error("only a mapping, or a list of mappings, can be merged", line, path)
            self._enter(source, path, line)
            found = self._flat(source, path)
            self._open.pop()
            self._count(len(found), line, path)
            if source.anchored:  # what it takes out, it takes out only where it is written
                found = {name: (value, at, False) for name, (value, at, _) in found.items()}
            merged = {**found, **merged}
        return merged

    def _key(self, raw: _Raw, path: Path) -> str:
        if raw.kind != _SCALAR:
            raise self._error("a key must be text, not a list or a mapping", raw.line, path)
        value = self._scalar(raw, path)
        if not isinstance(value, str):
            hint = f'Write it in quotes: "{raw.text}".'
            raise self._error(f"the key {raw.text or 'null'} is not text", raw.line, path, hint)
        return value

    def _scalar(self, raw: _Raw, path: Path) -> Any:
        try:
            raw.text.encode()
        except UnicodeEncodeError:
            message = "the text holds half of a character (a lone surrogate)"
            raise self._error(message, raw.line, path) from None
        tag = raw.tag
        if tag is None or tag in (_RESET, _OVERRIDE):
            return scalars.resolve(raw.text) if raw.plain or tag is not None else raw.text
        name = tag.removeprefix(_TAG)
        if name == tag or name == "str":
            return raw.text
        return self._tagged(raw, name, path)

    def _tagged(self, raw: _Raw, name: str, path: Path) -> Any:
        if name == "binary":
            try:
                return base64.b64decode(raw.text, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                raise self._error("this is not text in base64", raw.line, path) from None
        value = scalars.resolve(raw.text)
        if name == "float" and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if name in _TAGGED_TYPES and type(value) not in _TAGGED_TYPES[name]:
            message = f"{raw.text!r} is not of the type that its tag !!{name} says"
            raise self._error(message, raw.line, path)
        return value


_TAGGED_TYPES: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (float,),
    "null": (type(None),),
}
