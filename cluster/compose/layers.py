"""Files laid over one another: the way from the text of a set of files to one tree in long forms.

A set is what `-f A -f B` names, or one entry of `include`. Each file goes through the same steps: parse, variables,
extends, include, merge onto what is there, schema, long forms. The set then gets its defaults and absolute paths.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from cluster.compose.extends import extend
from cluster.compose.fields import ROOT
from cluster.compose.implicit import resolve
from cluster.compose.include import include
from cluster.compose.interpolate import interpolate
from cluster.compose.longforms import complete, expand
from cluster.compose.merge import merge
from cluster.compose.parse import Document, parse
from cluster.compose.paths import Paths
from cluster.compose.tree import Map, Path, Where, drop, located
from cluster.compose.unique import make_unique
from cluster.compose.validate import validate
from cluster.errors import ComposeError

Reader = Callable[[str], bytes]
"""Gives the content of a file by its path, or raises OSError."""

MAX_FILES = 1000
_REMOTE = ("https://", "http://", "git://", "ssh://", "github.com/", "git@", "oci://")


@dataclass(slots=True)
class Session:
    """What all sets of one project share."""

    reader: Reader
    home: str | None
    unset: Callable[[str, Where], None]
    files: int = 0

    def read(self, path: str, by: Where | None = None) -> bytes:
        """Give the content of a file that `by` refers to. Raises ComposeError."""
        self.files += 1
        if self.files > MAX_FILES:
            raise ComposeError(f"more than {MAX_FILES} files belong to the project", file=path)
        if path.startswith(_REMOTE):
            hint = "Copy the file to this machine."
            raise (by or Where(path, 1)).error(f"{path} is on another machine, which is not supported", hint=hint)
        try:
            return self.reader(path)
        except FileNotFoundError:
            message = f"there is no file {path}" if by else "there is no such file"
        except (OSError, ValueError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            message = f"{path} cannot be read: {reason}" if by else f"the file cannot be read: {reason}"
        raise by.error(message) if by else ComposeError(message, file=path)


@dataclass(frozen=True, slots=True)
class Layers:
    """One set of files; relative paths start from `folder`."""

    session: Session
    folder: str
    variables: Mapping[str, str]
    chain: tuple[str, ...] = ()
    """The files whose includes led here."""

    @property
    def paths(self) -> Paths:
        return Paths(self.folder, self.session.home)

    def at(self, path: str) -> str:
        """Give the path of a file that this set refers to."""
        return path if path.startswith(_REMOTE) else posixpath.normpath(posixpath.join(self.folder, path))

    def load(self, files: Iterable[str], documents: Mapping[str, list[Document]] | None = None) -> Map:
        """Load the set. `documents` are those of files that are parsed already. Raises ComposeError."""
        root = Map()
        last = ""
        for last in files:
            known = documents.get(last) if documents else None
            root = self._file(root, last, parse(self.session.read(last), last) if known is None else known)
        with located(root, last):
            complete(root)
            validate(root)
            self.paths.resolve(root)
            resolve(root, self.variables.get)
        return root

    def _file(self, root: Map, file: str, documents: list[Document]) -> Map:
        for document in documents:
            tree = self._interpolated(document, file)
            extend(self, tree, file, document.drops)
            include(self, tree, file)
            root = self._laid(root, tree, file, document.drops)
            with located(root, file):
                ROOT.check(root)
                root.pop("version", None)
                expand(root)
                make_unique(root)
        return root

    def part(self, file: str, by: Where) -> tuple[Map, tuple[Path, ...]]:
        """Load a file of which one service is extended: nothing of it is followed or held to the schema yet.

        Gives the paths that it takes out beside its tree.
        """
        root = Map()
        drops: tuple[Path, ...] = ()
        for document in parse(self.session.read(file, by), file):
            root = self._laid(root, self._interpolated(document, file), file, document.drops)
            drops = document.drops
            with located(root, file):
                expand(root)
                make_unique(root)
        services = root.get("services")
        paths = Paths(posixpath.dirname(file), self.session.home)
        with located(root, file):
            for service in services.values() if isinstance(services, Map) else ():
                if isinstance(service, Map):
                    paths.service(service)
        return root, drops

    def _interpolated(self, document: Document, file: str) -> Map:
        tree = document.root
        if not isinstance(tree, Map):
            raise ComposeError("the file is not a mapping", file=file, line=1, hint="It begins with services:.")
        with located(tree, file):
            interpolate(tree, ROOT, self.variables.get, lambda name: self.session.unset(name, Where(file, 1)))
        return tree

    def _laid(self, root: Map, tree: Map, file: str, drops: Iterable[Path]) -> Map:
        drop(root, drops)
        with located(tree, file):
            root = merge(root, tree)
        with located(root, file):
            make_unique(root)
        return root
