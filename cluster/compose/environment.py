"""Variables from outside a project's files: its `.env`, and the files that services name for variables and labels."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from typing import Any

from cluster.compose import dotenv
from cluster.compose.layers import Session
from cluster.compose.tree import Where
from cluster.errors import ComposeError


def project(
    session: Session, folder: str, environment: Mapping[str, str], files: Iterable[str] | None
) -> dict[str, str]:
    """Give the variables for the files of a project: the environment's go before those of `.env`.

    `files` are read instead of `.env`. Raises ComposeError.
    """
    found: dict[str, str] = {}
    if files is None and environment.get("COMPOSE_ENV_FILES"):
        files = environment["COMPOSE_ENV_FILES"].split(",")
    if files is not None:
        for file in files:
            found = dotenv.parse(session.read(file), file, environment.get, found)
    elif environment.get("COMPOSE_DISABLE_ENV_FILE", "").lower() not in ("1", "t", "true", "y", "yes"):
        path = posixpath.join(folder, ".env")
        try:
            content = session.reader(path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            content = b""
        except (OSError, ValueError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            raise ComposeError(f"the file cannot be read: {reason}", file=path) from None
        found = dotenv.parse(content, path, environment.get)
    return {**found, **environment}


def of_service(session: Session, service: dict[str, Any], variables: Mapping[str, str], at: Where) -> None:
    """Fold `env_file` and `label_file` of a bound service into its variables and labels. Raises ComposeError."""
    own = service.get("environment") or {}
    given: dict[str, str] = {}

    def known(name: str) -> str | None:
        value = variables.get(name)
        return own.get(name) if value is None else value

    for n, entry in enumerate(service.pop("env_file", None) or ()):
        path = entry["path"]
        content = _content(session, path, entry.get("required", True), at.inner("env_file").inner(n))
        form = entry.get("format", "")
        if form not in ("", "raw"):
            raise at.inner("env_file").inner(n).error(f"{form!r} is no format of variables", hint="It may be raw.")
        if form:
            given.update(dotenv.parse_raw(content, path, known))
        else:
            given = dotenv.parse(content, path, known, given)
    found = {**given, **own}
    for name in found:
        if name.endswith((" ", "\t")):
            raise at.inner("environment").error(f"the name {name!r} ends with a space")
    if found:
        service["environment"] = dict(sorted(found.items()))
    labels: dict[str, str] = {}
    for n, path in enumerate(service.pop("label_file", None) or ()):
        labels.update(dotenv.parse(_content(session, path, True, at.inner("label_file").inner(n)), path, _nothing))
    labels.update(service.get("labels") or {})
    if labels:
        service["labels"] = dict(sorted(labels.items()))


def _nothing(name: str) -> None:
    return None


def _content(session: Session, path: str, required: bool, at: Where) -> bytes:
    if required:
        return session.read(path, at)
    try:
        return session.reader(path)
    except FileNotFoundError:
        return b""
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise at.error(f"{path} cannot be read: {reason}") from None
