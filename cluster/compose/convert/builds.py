"""Which images the files say how to build. Nothing on the nodes builds; `stack lab build` does before a deploy."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from cluster.compose.convert.field import Field, Source, root

_KNOWN = ("context", "dockerfile", "args", "target")


@dataclass(frozen=True, slots=True)
class Build:
    """How the image of a service is built; `context` and `dockerfile` are absolute paths."""

    service: str
    image: str
    context: str
    dockerfile: str
    args: dict[str, str]
    target: str = ""


def builds(project: Source) -> tuple[Build, ...]:
    """Give the builds of all services. Raises ComposeError."""
    return tuple(_build(key, service) for key, service in root(project)["services"].entries() if service["build"].given)


def _build(key: str, service: Field) -> Build:
    build, image = service["build"], service["image"]
    if not image.text():
        raise build.error("there is no image beside build", hint="Add image: NAME.")
    for name, field in build.entries():
        if name not in _KNOWN and not name.startswith("x-"):
            raise field.error("images are not built with that here", hint=f"{', '.join(_KNOWN)} are known.")
    context = build["context"].text(".")
    if not posixpath.isabs(context):
        raise build["context"].error("only a folder can be built from", hint="Check it out and name the folder.")
    return Build(
        service=key,
        image=image.text(),
        context=context,
        dockerfile=posixpath.normpath(posixpath.join(context, build["dockerfile"].text("Dockerfile"))),
        args={name: value.text() for name, value in build["args"].entries() if value.given},
        target=build["target"].text(),
    )
