"""Our runtimes in the text of the engine's configuration file. Pure.

The engine reads its file anew only when it is told to, and refuses to start with one that is wrong: so whatever cannot
be kept exactly as it is, is refused, with the line, and nothing is guessed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from cluster.engine import RUNTIME
from cluster.errors import UserError

_HINT = "Mend the file (the engine would not start with it either), then run the command again."
_OPTION = "--stackyard-runtime="


def read(data: bytes, file: str) -> dict[str, Any]:
    """Read the file's content; nothing but spaces counts as no settings. Raises UserError with the place of a fault."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise _fault(file, data[: error.start].count(b"\n") + 1, "this is not UTF-8") from error
    if not text.strip():
        return {}
    try:
        found = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_finite, parse_int=_short
        )
    except json.JSONDecodeError as error:
        raise _fault(file, error.lineno, f"{error.msg} (column {error.colno})") from error
    except _Twice as error:
        raise _fault(file, _line_of_second(text, error.key), f"the key {error.key!r} is there twice") from error
    except _Odd as error:
        raise _fault(file, text[: max(0, text.find(str(error)))].count("\n") + 1, f"{error} is no number") from error
    except RecursionError as error:
        raise UserError(f"{file}: it is nested too deeply to be an engine's configuration", hint=_HINT) from error
    if not isinstance(found, dict):
        raise _fault(file, 1, "this is no object of settings")
    if not isinstance(found.get("runtimes", {}), dict):
        raise UserError(f"{file}: runtimes is no object of runtimes by name", hint=_HINT)
    return found


def written(settings: Mapping[str, Any], before: bytes) -> bytes:
    """Give the file's new content, indented as it was."""
    text = before.decode(errors="replace")
    indent = re.search(r"\n([ \t]+)\"", text)
    compact = bool(text.strip()) and "\n" not in text.strip()
    made = json.dumps(settings, indent=None if compact else indent[1] if indent else 2, ensure_ascii=text.isascii())
    # a lone surrogate, which JSON may hold only escaped, goes back as it came
    return (made + "\n").encode(errors="backslashreplace")


def ours(name: str) -> bool:
    return name == RUNTIME or name.startswith(RUNTIME + "-")


def missing(settings: Mapping[str, Any], known: Iterable[str]) -> list[str]:
    """Name the runtimes that the engine knows from elsewhere than its file, but for those that it always has."""
    stated = settings.get("runtimes", {})
    own = (name for name in known if name != "runc" and not name.startswith("io.containerd.") and not ours(name))
    return sorted(name for name in own if name not in stated)


def with_runtimes(settings: Mapping[str, Any], wrapper: str, default: str) -> dict[str, Any]:
    """Add our runtime in front of the engine's default one, and one in front of each that is configured by its path.

    `default` is the name of the default runtime as the engine tells it. Runtimes that are no OCI programs
    (`runtimeType`) are left out: there is nothing to put in front of them. Raises UserError when the default is one.
    """
    others = {name: one for name, one in settings.get("runtimes", {}).items() if not ours(name)}
    made: dict[str, dict[str, Any]] = {RUNTIME: {"path": wrapper}}
    for name, one in others.items():
        if isinstance(one, dict) and isinstance(path := one.get("path"), str) and not one.get("runtimeType"):
            arguments = [_OPTION + path, *(one.get("runtimeArgs") or ())]
            made[f"{RUNTIME}-{name}"] = {"path": wrapper, "runtimeArgs": arguments}
    if default in others:
        if f"{RUNTIME}-{default}" not in made:
            raise UserError(
                f"the engine's default runtime {default!r} is no program that runs OCI bundles, "
                "so its containers cannot be put into networks of this cluster",
                hint="Make runc the engine's default-runtime again; services can still ask for other runtimes.",
            )
        made[RUNTIME] = made[f"{RUNTIME}-{default}"]
    return {**settings, "runtimes": {**others, **made}}


def without_runtimes(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Take our runtimes out, and the key when nothing else is in it."""
    others = {name: one for name, one in settings.get("runtimes", {}).items() if not ours(name)}
    rest = {key: value for key, value in settings.items() if key != "runtimes"}
    return {**settings, "runtimes": others} if others else rest


class _Twice(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class _Odd(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Twice(key)
        found[key] = value
    return found


def _no_number(text: str) -> NoReturn:
    raise _Odd(text)


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _short(text: str) -> int:
    return int(text) if len(text) < 100 else _no_number(text)


def _line_of_second(text: str, key: str) -> int:
    places = [match.start() for match in re.finditer(re.escape(json.dumps(key)) + r"\s*:", text)]
    return text[: places[-1]].count("\n") + 1 if places else 1


def _fault(file: str, line: int, what: str) -> UserError:
    return UserError(f"{file}:{line}: {what}", hint=_HINT)
