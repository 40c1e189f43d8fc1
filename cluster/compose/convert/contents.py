"""The contents of a project's secrets and configs: of files, variables, and texts in the Compose file itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from cluster.compose.convert.field import Field, Source, root

MOST_BYTES = 1_000_000


class Readable(Source, Protocol):
    """A loaded project that can read files and knows the variables of its environment."""

    @property
    def reader(self) -> Callable[[str], bytes]: ...

    @property
    def variables(self) -> Mapping[str, str]: ...


def contents(project: Readable) -> dict[tuple[str, str], bytes]:
    """Give the contents of all secrets and configs that are not external, by ("secret" or "config", key).

    Raises ComposeError where a file or variable is not there, or holds more than 1 MB.
    """
    model = root(project)
    return {
        (kind, key): _content(field, kind, project)
        for kind, section in (("secret", "secrets"), ("config", "configs"))
        for key, field in model[section].entries()
        if not field["external"].boolean()
    }


def _content(field: Field, kind: str, project: Readable) -> bytes:
    file, variable, text = field["file"], field["environment"], field["content"]
    if file.given:
        content = _file(file, project)
    elif variable.given:
        value = project.variables.get(variable.text())
        if value is None:
            raise variable.error(f"the variable {variable.text()[:60]} of the {kind} is not set")
        content = value.encode()
    elif text.given:
        content = text.text().encode()
    else:
        raise field.error(f"the {kind} has no content", hint="Add file:, environment:, content: or external: true.")
    if len(content) > MOST_BYTES:
        raise field.error(f"the {kind} has {len(content)} bytes; 1 MB is the most")
    return content


def _file(field: Field, project: Readable) -> bytes:
    try:
        return project.reader(field.text())
    except FileNotFoundError:
        raise field.error(f"there is no file {field.text()}") from None
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise field.error(f"{field.text()} cannot be read: {reason}") from None
