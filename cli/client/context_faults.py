"""What is wrong with the file of contexts, with the line where it is written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from cli.client.contexts import Context, Contexts
from cluster.errors import UserError

_HINT = "Mend it, or remove the file and add the contexts again; `stack context --help` shows what it has."
_BYTE = re.compile(r" \(byte (\d+)\)")
_FIELD = re.compile(r"field `(\w+)`|`\$\.(\w+)|^`(\w+)`: ")
_PLACE = re.compile(r" - at `.*`")


def unreadable(path: Path, data: bytes) -> UserError:
    """Tell why the file cannot be read: it is no JSON, or not of the form that it should have."""
    try:
        written = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        at = _BYTE.search(str(error))
        line = data[: int(at[1]) if at else len(data)].count(b"\n") + 1
        return UserError(f"{path}:{line}: {_BYTE.sub('', str(error))}", hint=_HINT)
    contexts = written.get("contexts") if isinstance(written, dict) else None
    for name, one in contexts.items() if isinstance(contexts, dict) else ():
        try:
            msgspec.convert(one, Context)
        except msgspec.ValidationError as error:
            return _told(path, data, str(error), name)
    try:
        msgspec.convert(written, Contexts)
    except msgspec.ValidationError as error:
        return _told(path, data, str(error))
    raise AssertionError("nothing is wrong with it")


def unusable(path: Path, name: str, problem: str) -> UserError:
    """Tell what is wrong with a context that can be read."""
    return _told(path, path.read_bytes(), problem, name)


def _told(path: Path, data: bytes, problem: str, name: str = "") -> UserError:
    field = _FIELD.search(problem)
    keys = ["contexts", name] if name else []
    line = _line(data, [*keys, *filter(None, field.groups())] if field else keys)
    about = f"context {name}: " if name else ""
    return UserError(f"{path}:{line}: {about}{_PLACE.sub('', problem)}", hint=_HINT)


def _line(data: bytes, keys: Sequence[str]) -> int:
    """Find the line of a key within others; where one is not found, the line of the last that is."""
    at = 0
    for key in keys:
        if found := re.compile(re.escape(msgspec.json.encode(key)) + rb"\s*:").search(data, at):
            at = found.start()
    return data[:at].count(b"\n") + 1
