"""A set of Compose files read as one project: the way from bytes to a StackSpec, step by step."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Mapping as Variables
from dataclasses import dataclass, field
from typing import Any

from cluster.compose import convert, dotenv, keys, names, stack, values
from cluster.compose.convert import Judged
from cluster.compose.interpolate import interpolate
from cluster.compose.merge import merge
from cluster.compose.normalise import normalise
from cluster.compose.parse import parse
from cluster.compose.tree import Mapping, Node, Sequence, Where
from cluster.errors import ComposeError
from cluster.model.stack import StackSpec

Reader = Callable[[str], bytes]
"""Gives the content of a file by its path, or raises OSError."""


Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """Something that is worth telling and stops nothing: an unset variable, a key that has no effect."""

    text: str
    where: Where

    def __str__(self) -> str:
        field = f"{self.where.field}: " if self.where.field else ""
        return f"{self.where.file}:{self.where.line}: {field}{self.text}"


@dataclass(frozen=True, slots=True)
class Build:
    """How the image of a service is built; `context` and `dockerfile` are absolute paths."""

    service: str
    image: str
    context: str
    dockerfile: str
    args: dict[str, str]
    target: str = ""


@dataclass(frozen=True, slots=True)
class Project:
    """The files, interpolated, normalised and merged, with everything that is needed to convert them."""

    name: str
    tree: Mapping
    directory: str
    variables: Variables[str, str]
    reader: Reader
    notes: tuple[Note, ...]
    model: dict[str, Any] = field(default_factory=dict)
    """What `docker compose config --format json` prints, with single dollars."""

    @property
    def used(self) -> Iterator[tuple[Path, Where]]:
        """Each key and list item that the files wrote and that no later file took out, by its path."""
        return _walk(self.tree, ())

    def where(self, *path: str | int) -> Where:
        """Say where a path of the model was written, or the nearest part of it that was."""
        node: Node = self.tree
        best = self.tree.where
        for step in path:
            inner = node.entries.get(str(step)) if isinstance(node, Mapping) else None
            if isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
                inner = node.items[step]
            if inner is None:
                break
            node, best = inner, inner.where
        return Where(best.file, best.line, ".".join(map(str, path)))

    def config(self, format: str = "json") -> str:
        """Print the model as `docker compose config` does: `json` or `yaml`."""
        if format == "json":
            return json.dumps(self.model, indent=2).replace("$", "$$") + "\n"
        import yaml

        text: str = yaml.dump(self.model, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper))
        return text.replace("$", "$$")

    def stack(self) -> StackSpec:
        """Convert to what the cluster runs. Raises ComposeError."""
        return stack.convert(
            self.name,
            self.tree,
            directory=self.directory,
            variables=self.variables.get,
            read_env=self._read_env,
        )

    def verdicts(self) -> tuple[Judged, ...]:
        """Tell what becomes of each key that is used. Raises ComposeError where the files accept what is no key."""
        return convert.judge(self)

    def contents(self) -> dict[tuple[str, str], bytes]:
        """Give what is in the secrets and configs that are not external, by ("secret" or "config", key).

        Raises ComposeError.
        """
        return convert.contents(self)

    def builds(self) -> tuple[Build, ...]:
        """Give the images that the files say how to build. Raises ComposeError."""
        found = []
        for key, node in values.mapping(self.tree.get("services")).entries.items():
            service = values.mapping(node)
            if (build_node := service.get("build")) is not None:
                image = service.get("image")
                if image is None:
                    raise build_node.where.error("there is no image beside build", hint="Add image: NAME.")
                found.append(self._build(key, values.text(image), values.mapping(build_node)))
        return tuple(found)

    def _build(self, key: str, image: str, build: Mapping) -> Build:
        context_node, dockerfile, target = build.get("context"), build.get("dockerfile"), build.get("target")
        written = values.filled_text(context_node) if context_node else "."
        if "://" in written or written.startswith("git@"):
            raise build.where.error("only a folder can be built from", hint="Check it out and name the folder.")
        context = posixpath.normpath(posixpath.join(self.directory, written))
        file = values.filled_text(dockerfile) if dockerfile else "Dockerfile"
        args = {
            name: given
            for name, value in values.mapping(build.get("args")).entries.items()
            if (given := self._given(name, value)) is not None
        }
        return Build(
            service=key,
            image=image,
            context=context,
            dockerfile=posixpath.normpath(posixpath.join(context, file)),
            args=args,
            target=values.text(target) if target else "",
        )

    def _given(self, name: str, value: Node) -> str | None:
        text = values.loose_text(value)
        return self.variables.get(name) if text is None else text

    def _read_env(self, entry: Mapping) -> dict[str, str | None]:
        path_node, required, format_node = entry.get("path"), entry.get("required"), entry.get("format")
        if path_node is None:
            raise entry.where.error("the entry has no path")
        raw = format_node is not None and values.one_of(format_node, "raw") == "raw"
        path = values.filled_text(path_node)
        full = posixpath.normpath(posixpath.join(self.directory, path))
        try:
            content = self.reader(full)
        except FileNotFoundError:
            if required is not None and not values.boolean(required):
                return {}
            raise path_node.where.error(f"there is no file {full}") from None
        except (OSError, ValueError) as error:
            raise path_node.where.error(f"{full} cannot be read: {_reason(error)}") from None
        return dotenv.parse_raw(content, full) if raw else dotenv.parse(content, full, self.variables.get)


def read(
    files: Iterable[str],
    environment: Variables[str, str],
    reader: Reader,
    *,
    name: str | None = None,
    directory: str | None = None,
    profiles: Iterable[str] = (),
    env_files: Iterable[str] | None = None,
) -> Project:
    """Read Compose files, later ones laid over earlier ones. Raises ComposeError, and nothing else, for any content.

    `directory` is what relative paths start from and where `.env` is looked for: the first file's folder, if not told.
    `name` goes before the `name:` of the files, and that before the name of the folder.
    """
    paths = tuple(files)
    if not paths:
        raise ComposeError("no file is given", hint="Name one with -f.")
    folder = posixpath.dirname(paths[0]) if directory is None else directory
    variables = {**_dotenv(folder, environment, reader), **environment}
    notes: list[Note] = []
    told: set[str] = set()

    def unset(variable: str, where: Where) -> None:
        if variable not in told:
            told.add(variable)
            notes.append(Note(f"the variable {variable} is not set and stands for nothing", where))

    trees: list[Mapping] = []
    for path in paths:
        documents = parse(_content(path, reader), path)
        if not documents:
            raise ComposeError("the file is empty", file=path, hint="Add a service under services.")
        trees += (normalise(interpolate(document, variables.get, unset)) for document in documents)
    accept = frozenset[str]().union(*(keys.accepted(tree) for tree in trees))
    checked = [keys.check(tree, accept, lambda text, where: notes.append(Note(text, where))) for tree in trees]
    tree = checked[0]
    for over in checked[1:]:
        tree = merge(tree, over)
    if (version := tree.get("version")) is not None:
        values.text(version)  # of no effect, as in Docker
    given = _name(name, tree, folder, paths[0])
    return Project(given, tree, folder, variables, reader, tuple(notes), {"name": given, **_plain(tree)})


def _plain(node: Node) -> Any:
    if isinstance(node, Mapping):
        return {key: _plain(value) for key, value in node.entries.items()}
    if isinstance(node, Sequence):
        return [_plain(item) for item in node.items]
    return node.value


def _walk(node: Node, path: Path) -> Iterator[tuple[Path, Where]]:
    inner: Iterable[tuple[str | int, Node]] = ()
    if isinstance(node, Mapping):
        inner = node.entries.items()
    elif isinstance(node, Sequence):
        inner = enumerate(node.items)
    for step, value in inner:
        yield (*path, step), value.where
        yield from _walk(value, (*path, step))


def _content(path: str, reader: Reader) -> bytes:
    try:
        return reader(path)
    except FileNotFoundError:
        raise ComposeError("there is no such file", file=path) from None
    except (OSError, ValueError) as error:
        raise ComposeError(f"the file cannot be read: {_reason(error)}", file=path) from None


def _reason(error: OSError | ValueError) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _dotenv(folder: str, environment: Variables[str, str], reader: Reader) -> dict[str, str]:
    path = posixpath.join(folder, ".env")
    try:
        content = reader(path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise ComposeError(f"the file cannot be read: {_reason(error)}", file=path) from None
    return {name: value for name, value in dotenv.parse(content, path, environment.get).items() if value is not None}


def _name(given: str | None, tree: Mapping, folder: str, file: str) -> str:
    if given is not None:
        return names.check_stack(given, Where(file, 1, "name"))
    node = tree.get("name")
    if node is not None:
        return names.check_stack(values.text(node), node.where)
    name = names.normalise_stack(posixpath.basename(folder.rstrip("/")))
    if not name:
        raise ComposeError("the stack has no name", file=file, hint="Give one after the files, or write name: NAME.")
    return names.check_stack(name, Where(file, 1, "name"))
