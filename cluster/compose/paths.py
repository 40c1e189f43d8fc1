"""Paths of a tree in long forms, made absolute: from the folder of the files, and `~` from the user's home."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cluster.compose.kinds import found
from cluster.compose.tree import List, Map, Wrong, entries

_REMOTE = ("https://", "http://", "git://", "ssh://", "github.com/", "git@")
_WINDOWS = re.compile(r"(?:[a-zA-Z]:)?[\\/]{1,2}|[a-zA-Z]:")


@dataclass(frozen=True, slots=True)
class Paths:
    """`folder` is absolute; `home` replaces `~` where it is known."""

    folder: str
    home: str | None

    def absolute(self, path: str) -> str:
        path = self._expanded(path)
        return posixpath.normpath(posixpath.join(self.folder, path)) if not path.startswith("/") else path

    def _expanded(self, path: str) -> str:
        if path.startswith("~") and self.home:
            return posixpath.normpath(posixpath.join(self.home, path[1:].lstrip("/")))
        return path

    def local(self, path: str) -> str:
        """Make absolute what may also be a path of Windows."""
        expanded = self._expanded(path)
        if expanded.startswith("/") or (_WINDOWS.match(expanded) and not expanded.startswith("/")):
            return expanded
        return posixpath.normpath(posixpath.join(self.folder, expanded))

    def context(self, path: str) -> str:
        """Make absolute what may also be a URL, a Git repository or another service's image."""
        if "://" in path or path.startswith((*_REMOTE, "service:", "docker-image:", "target:")):
            return path
        return self.absolute(path)

    def resolve(self, root: Map) -> None:
        """Make the paths of a tree absolute, in place. Raises Wrong."""
        for name, service, _ in entries(root.get("services") or {}):
            if isinstance(service, Map):
                try:
                    self.service(service)
                except Wrong as wrong:
                    raise wrong.within(name).within("services") from None
        for section in ("configs", "secrets"):
            for name, value, _ in entries(root.get(section) or {}):
                if isinstance(value, Map):
                    _within((section, name, "file"), value, "file", self.local)
        for _, volume, _ in entries(root.get("volumes") or {}):
            if isinstance(volume, Map):
                self._volume(volume)

    def _volume(self, volume: Map) -> None:
        """A local volume may be a folder of the host in truth."""
        options = volume.get("driver_opts")
        device = options.get("device") if isinstance(options, Map) else None
        if isinstance(options, Map) and isinstance(device, str):
            if volume.get("driver") == "local" and options.get("o") == "bind":
                options["device"] = self.local(device)

    def service(self, service: Map) -> None:
        build = service.get("build")
        if isinstance(build, Map):
            _within(("build", "context"), build, "context", self.context)
            _each_value(build.get("ssh"), self.local)
            contexts = build.get("additional_contexts")
            if isinstance(contexts, Map):
                for name in contexts:
                    _within(("build", "additional_contexts", name), contexts, name, self.context)
        for n, file in _listed(service.get("env_file")):
            _within(("env_file", n, "path"), file, "path", self.absolute)
        _each_text(service.get("label_file"), "label_file", self.absolute)
        develop = service.get("develop")
        watch = develop.get("watch") if isinstance(develop, Map) else None
        for n, one in _listed(watch):
            _within(("develop", "watch", n, "path"), one, "path", self.absolute)
        for n, mount in _listed(service.get("volumes")):
            if isinstance(mount, Map) and mount.get("type") == "bind":
                if not mount.get("source"):
                    raise Wrong("a bind mount needs a source").within(n).within("volumes")
                _within(("volumes", n, "source"), mount, "source", self.local)


def _listed(value: Any) -> Iterator[tuple[int, Any]]:
    return enumerate(value if isinstance(value, List) else ())


def _within(path: tuple[str | int, ...], holder: Any, key: str, change: Callable[[Any], Any]) -> None:
    value = holder.get(key) if isinstance(holder, Map) else None
    if value is None:
        return
    try:
        if not isinstance(value, str):
            raise Wrong(f"a path is wanted here, not {found(value)}")
        holder[key] = change(value)
    except Wrong as wrong:
        for step in reversed(path):
            wrong = wrong.within(step)
        raise wrong from None


def _each_value(value: Any, change: Callable[[str], str]) -> None:
    if isinstance(value, Map):
        value.update((key, change(inner)) for key, inner in value.items() if isinstance(inner, str) and inner)


def _each_text(value: Any, key: str, change: Callable[[str], str]) -> None:
    if isinstance(value, List):
        for n, item in enumerate(value):
            if not isinstance(item, str):
                raise Wrong(f"a path is wanted here, not {found(item)}").within(n).within(key)
            value[n] = change(item)
