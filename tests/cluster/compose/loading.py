"""Loads Compose text without any file: a reader over a dictionary, and short ways to one service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from cluster import compose
from cluster.errors import ComposeError
from cluster.model.container import ContainerSpec
from cluster.model.service import ServiceSpec
from cluster.model.stack import StackSpec

FOLDER = "/srv/app"
FILE = f"{FOLDER}/compose.yml"


def reader_of(files: Mapping[str, str | bytes]) -> Callable[[str], bytes]:
    def reader(path: str) -> bytes:
        if path not in files:
            raise FileNotFoundError(2, "No such file or directory", path)
        content = files[path]
        return content.encode() if isinstance(content, str) else content

    return reader


def project(
    *texts: str | bytes, env: Mapping[str, str] | None = None, files: Mapping[str, str | bytes] | None = None
) -> compose.Project:
    """Read the texts as compose.yml, second.yml, ... of one folder."""
    paths = [FILE, f"{FOLDER}/second.yml", f"{FOLDER}/third.yml"][: len(texts)]
    everything = {**dict(zip(paths, texts, strict=True)), **(files or {})}
    return compose.read(paths, env or {}, reader_of(everything))


def stack(
    *texts: str | bytes, env: Mapping[str, str] | None = None, files: Mapping[str, str | bytes] | None = None
) -> StackSpec:
    return project(*texts, env=env, files=files).stack()


def service(
    fields: str,
    *,
    top: str = "",
    env: Mapping[str, str] | None = None,
    files: Mapping[str, str | bytes] | None = None,
) -> ServiceSpec:
    """Load one service `a` with the fields of its mapping in flow form."""
    return stack(f"services:\n  a: {{image: x, {fields}}}\n{top}", env=env, files=files).services["a"]


def container(
    fields: str, *, env: Mapping[str, str] | None = None, files: Mapping[str, str | bytes] | None = None
) -> ContainerSpec:
    return service(fields, env=env, files=files).container


def refused(
    *texts: str | bytes, env: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None
) -> ComposeError:
    """Load what cannot be loaded, and give the error."""
    with pytest.raises(ComposeError) as caught:
        stack(*texts, env=env, files=files)
    return caught.value


def refused_service(fields: str, *, top: str = "", env: Mapping[str, str] | None = None) -> ComposeError:
    return refused(f"services:\n  a: {{image: x, {fields}}}\n{top}", env=env)


def model(
    *texts: str,
    env: Mapping[str, str] | None = None,
    files: Mapping[str, str | bytes] | None = None,
    profiles: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Give the model of compose.yml, second.yml, ... of the project p in one folder."""
    paths = [FILE, f"{FOLDER}/second.yml", f"{FOLDER}/third.yml"][: len(texts)]
    everything = {**dict(zip(paths, texts, strict=True)), **(files or {})}
    surroundings = {"HOME": "/home/user", **(env or {})}
    return compose.read(paths, surroundings, reader_of(everything), name="p", profiles=profiles).model


def fields(
    text: str, *over: str, env: Mapping[str, str] | None = None, files: Mapping[str, str | bytes] | None = None
) -> dict[str, Any]:
    """Give what the model holds of a service a of the image x with these keys, without what it always holds.

    `over` are the keys of the same service in files laid over the first.
    """
    texts = [f"services:\n  a: {{image: x, {text}}}\n  b: {{image: y}}\n{RESOURCES}"]
    texts += [f"services:\n  a: {{{one}}}\n" for one in over]
    service = dict(model(*texts, env=env, files=files)["services"]["a"])
    for key, value in {"image": "x", "command": None, "entrypoint": None, "networks": {"default": None}}.items():
        if service.get(key) == value:
            service.pop(key, None)
    return service


RESOURCES = (
    "networks: {n: , m: }\nvolumes: {vv: , ww: }\nsecrets: {s: {file: s}, t: {file: t}}\nconfigs: {c: {file: c}}\n"
)


def wrong(text: str, *over: str, env: Mapping[str, str] | None = None) -> ComposeError:
    """Load a service a with keys that cannot be loaded, and give the error."""
    with pytest.raises(ComposeError) as caught:
        fields(text, *over, env=env)
    return caught.value
