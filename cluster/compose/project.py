"""A set of Compose files read as one project: the way from bytes to the model that `docker compose config` prints."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster.compose import consistency, implicit, output, selection
from cluster.compose import environment as outside
from cluster.compose.fields import bind
from cluster.compose.interpolate import substitute
from cluster.compose.layers import Layers, Reader, Session
from cluster.compose.parse import Document, parse
from cluster.compose.tree import List, Map, Path, Where, located, place_of, written
from cluster.errors import ComposeError

if TYPE_CHECKING:
    from cluster.compose.convert import Build, Judged
    from cluster.model.stack import StackSpec

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_PROJECT_NAME = "COMPOSE_PROJECT_NAME"


@dataclass(frozen=True, slots=True)
class Note:
    """Something that is worth telling and stops nothing: an unset variable, a key that has no effect."""

    text: str
    where: Where

    def __str__(self) -> str:
        field = f"{self.where.field}: " if self.where.field else ""
        return f"{self.where.file}:{self.where.line}: {field}{self.text}"


@dataclass(frozen=True, slots=True)
class Project:
    """A loaded project: what it becomes is told by the package `convert`, which is imported only when it is asked.

    `variables` are those of the surroundings and of `.env`; `directory` is where it lies.
    """

    name: str
    directory: str
    variables: Mapping[str, str]
    reader: Reader
    notes: tuple[Note, ...]
    model: dict[str, Any]
    """What `docker compose config --format json` prints, with single dollars."""

    tree: Map
    """The files merged, in long forms, with the places of what they wrote."""

    file: str

    @property
    def used(self) -> Iterator[tuple[Path, Where]]:
        """Each key and list item that the files wrote and that no later file took out, by its path."""
        return _walk(self.tree, ())

    def where(self, *path: str | int) -> Where:
        """Say where a path of the model was written, or the nearest part of it that was."""
        file, line = place_of(self.tree, path) or (self.file, 1)
        return Where(file, line, written(path))

    def config(self, format: str = "json") -> str:
        """Print the model as `docker compose config` does: `json` or `yaml`."""
        return output.as_json(self.model) if format == "json" else output.as_yaml(self.model)

    def stack(self) -> StackSpec:
        """Convert to what the cluster runs. Raises ComposeError."""
        from cluster.compose import convert

        return convert.convert(self)

    def verdicts(self) -> tuple[Judged, ...]:
        """Tell what becomes of each key that is used. Raises ComposeError where the files accept what is no key."""
        from cluster.compose import convert

        return convert.judge(self)

    def doubts(self) -> tuple[Note, ...]:
        """Tell what is worth knowing although nothing is wrong: labels that come to nothing, folders of other hosts."""
        from cluster.compose.convert.doubts import doubts

        return tuple(doubts(self, self.directory))

    def contents(self) -> dict[tuple[str, str], bytes]:
        """Give what is in the secrets and configs that are not external, by ("secret" or "config", key).

        Raises ComposeError.
        """
        from cluster.compose import convert

        return convert.contents(self)

    def builds(self) -> tuple[Build, ...]:
        """Give the images that the files say how to build. Raises ComposeError."""
        from cluster.compose import convert

        return convert.builds(self)


def _walk(node: Any, path: Path) -> Iterator[tuple[Path, Where]]:
    places: Iterable[tuple[str | int, Any, Any]] = ()
    if isinstance(node, Map):
        places = ((key, node[key], place) for key, place in node.places.items() if key in node)
    elif isinstance(node, List):
        places = ((n, value, node.places[n]) for n, value in enumerate(node))
    for step, value, place in places:
        inner = (*path, step)
        if place is not None:
            yield inner, Where(place[0], place[1], written(inner))
        if isinstance(value, Map | List):
            yield from _walk(value, inner)


def read(
    files: Iterable[str],
    environment: Mapping[str, str],
    reader: Reader,
    *,
    name: str | None = None,
    directory: str | None = None,
    profiles: Iterable[str] = (),
    env_files: Iterable[str] | None = None,
) -> Project:
    """Read Compose files, later ones laid over earlier ones. Raises ComposeError, and nothing else, for any content.

    `directory` is what relative paths start from and where `.env` is looked for: the first file's folder, if not told.
    `name` goes before COMPOSE_PROJECT_NAME, that before the `name:` of the files, and that before the folder's name.
    `profiles` are the active ones, COMPOSE_PROFILES if there are none; `env_files` are read instead of `.env`.
    """
    paths = tuple(files)
    if not paths:
        raise ComposeError("no file is given", hint="Name one with -f.")
    folder = posixpath.dirname(paths[0]) if directory is None else directory
    notes: dict[str, Note] = {}

    def unset(variable: str, where: Where) -> None:
        if variable not in notes:
            notes[variable] = Note(f"the variable {variable} is not set and stands for nothing", where)

    session = Session(reader, environment.get("HOME"), unset)
    variables = outside.project(session, folder, environment, env_files)
    documents = {path: parse(session.read(path), path) for path in paths}
    given = _name(name, documents, variables, folder)
    variables[_PROJECT_NAME] = given
    root = Layers(session, folder, variables).load(paths, documents)
    if not root:
        raise ComposeError("the file is empty", file=paths[0], hint="Add a service under services.")
    chosen = set(profiles) or {word.strip() for word in variables.get("COMPOSE_PROFILES", "").split(",")}
    model = _model(root, given, paths[0], session, variables, chosen)
    return Project(given, folder, variables, reader, tuple(notes.values()), model, root, paths[0])


def _model(
    root: Map, name: str, file: str, session: Session, variables: Mapping[str, str], profiles: set[str]
) -> dict[str, Any]:
    with located(root, file):
        implicit.normalise(root, name, variables.get)
        root["name"] = name
        model = {"name": name, "services": {}, **bind(root)}
        services = model["services"]
        model["services"] = {key: one for key, one in services.items() if selection.active(one, profiles)}
        consistency.check(model, frozenset(services) - frozenset(model["services"]))
    for key, service in model["services"].items():
        from_file, line = place_of(root, ("services", key)) or (file, 1)
        outside.of_service(session, service, variables, Where(from_file, line, f"services.{key}"))
        service.pop("extends", None)
        implicit.scale(service)
    selection.only_used(model)
    return model


def _name(given: str | None, documents: Mapping[str, list[Document]], variables: Mapping[str, str], folder: str) -> str:
    file = next(iter(documents))
    if given is None:
        given = variables.get(_PROJECT_NAME) or None
    if given is not None:
        if not _NAME.fullmatch(given):
            hint = "Lower-case letters, digits, - and _, beginning with a letter or digit."
            raise ComposeError(f"{given[:80]!r} cannot be the name of a project", hint=hint)
        return given
    found, at = "", (file, 1)
    for path, parsed in documents.items():
        for document in parsed:
            value = document.root.get("name") if isinstance(document.root, Map) else None
            if isinstance(value, str) and value:
                found, at = value, place_of(document.root, ("name",)) or (path, 1)
    holder = Map([("name", found)], {"name": at})
    with located(holder, file):
        name = _normalised(substitute(found, variables.get))
    name = name or _normalised(posixpath.basename(folder.rstrip("/")))
    if not name:
        raise ComposeError("the project has no name", file=file, hint="Write name: NAME, or give one.")
    return name


def _normalised(name: str) -> str:
    """Turn a name of the files or of a folder into a project's, as Docker does; "" when nothing is left."""
    return re.sub(r"[^a-z0-9_-]", "", name.lower()).lstrip("_-")
