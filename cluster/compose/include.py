"""`include`: other projects' files, loaded with their own folder and variables, become a part of this one."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

from cluster.compose import dotenv
from cluster.compose.fields import ROOT
from cluster.compose.tree import List, Map, Where, entries, located, place_of

if TYPE_CHECKING:
    from cluster.compose.layers import Layers

_SECTIONS = ("services", "volumes", "networks", "secrets", "configs", "models")


def include(layers: Layers, tree: Map, file: str) -> None:
    """Load what a tree includes into it. Raises ComposeError."""
    if tree.get("include") is None:
        tree.pop("include", None)
        return
    with located(tree, file):
        ROOT.check(Map([("include", tree["include"])], {"include": tree.places["include"]}))
    for n, entry in enumerate(tree["include"]):
        at = Where(*(place_of(tree, ("include", n)) or (file, 1)), f"include.{n}")
        _import(_loaded(layers, entry, file, at), tree, at)
    del tree["include"]


def _texts(value: Any) -> list[str]:
    return list(value) if isinstance(value, List) else [] if value is None else [value]


def _loaded(layers: Layers, entry: Any, file: str, at: Where) -> Map:
    fields = entry if isinstance(entry, Map) else Map([("path", entry)])
    paths = [layers.at(path) for path in _texts(fields.get("path"))]
    if not paths:
        raise at.error("there is no path", hint="Write - path: FILE.")
    chain = (*layers.chain, file)
    for path in paths:
        if path in chain:
            raise at.error(f"files include each other in a circle: {' -> '.join([*chain, path])}")
    directory = fields.get("project_directory")
    folder = layers.at(directory) if directory else posixpath.dirname(paths[0])
    given: dict[str, str] = {}
    for env_file in _texts(fields.get("env_file")) or [posixpath.join(folder, ".env")]:
        content = _env_file(layers, layers.at(env_file), at, required=bool(fields.get("env_file")))
        given = dotenv.parse(content, layers.at(env_file), layers.variables.get, given)
    variables = {**given, **layers.variables}
    inner = type(layers)(layers.session, folder, variables, chain)
    for path in paths[:1]:
        layers.session.read(path, at)  # so that a missing file is told of here
    return inner.load(paths)


def _env_file(layers: Layers, path: str, at: Where, *, required: bool) -> bytes:
    if required:
        return layers.session.read(path, at)
    try:
        return layers.session.reader(path)
    except (OSError, ValueError):
        return b""


def _import(source: Map, tree: Map, at: Where) -> None:
    for section in _SECTIONS:
        for name, value, place in entries(source.get(section) or {}):
            holder = tree.setdefault(section, Map())
            if not isinstance(holder, Map):
                return  # the schema tells
            if name not in holder:
                holder.put(name, value, place)
            elif holder[name] != value:
                hint = "Rename one of them, or change it in a file that is named with -f."
                raise at.error(f"{section}.{name} is in this file and in an included one", hint=hint)
