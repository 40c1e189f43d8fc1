"""Secrets and configs of this node's tasks: files in memory, one for each reference, that the engine binds read-only.

They lie on a tmpfs of the agent's, a folder a task, so they are gone with the task, at the latest with the host; the
journal knows their digests only. A restarted agent finds the folders and asks for nothing again. Contents come from a
manager, which gives a node what its own tasks use.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import shutil
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

from agent.create import Host, expanded
from agent.libc import call
from cluster.assignments import ServiceItem
from cluster.errors import Unavailable
from cluster.model.container import FileReference
from cluster.model.task import Task
from cluster.templates import Function, TemplateError, Value, render, values_of

log = logging.getLogger(__name__)

_NOSUID, _NODEV, _NOEXEC, _DETACH = 2, 4, 8, 2
_OPTIONS = b"mode=0700,size=25%"
_UNFINISHED = ".new"


class OutOfReach(Unavailable):
    """No manager gives the contents now; the task waits."""


class Source(Protocol):
    async def fetch(self, stack: str, digest: str) -> bytes:
        """Give a content of a stack. Raises OutOfReach."""
        ...


class Secrets:
    """The files of all tasks, below `folder`, which is made and mounted when it is first needed."""

    def __init__(self, folder: Path, source: Source) -> None:
        self._folder, self._source = folder, source
        self._under_way: dict[tuple[str, str], asyncio.Task[bytes]] = {}
        self._mounting = threading.Lock()

    def tasks(self) -> set[str]:
        """Name the tasks whose files are all there."""
        if not _mounted(self._folder):
            return set()
        return {name for name in os.listdir(self._folder) if not name.endswith(_UNFINISHED)}

    async def deliver(self, task: Task, item: ServiceItem, host: Host) -> None:
        """Make the files of a task. Raises OutOfReach, and TemplateError for a content that cannot be expanded."""
        item = expanded(item, task, host)
        spec = item.spec.container
        files = (*spec.secrets, *spec.configs)
        digests = list(dict.fromkeys(file.digest for file in files))
        found = await asyncio.gather(*(self._content(item.stack, digest) for digest in digests))
        contents = dict(zip(digests, found, strict=True))
        made = [_made(file, item, task, host, contents) for file in files]
        await asyncio.to_thread(self._write, task.id, files, made)

    def binds(self, item: ServiceItem, task: str) -> tuple[str, ...]:
        """Give the binds of a task's files, in the order of its references."""
        spec = item.spec.container
        targets = [file.target for file in (*spec.secrets, *spec.configs)]
        return tuple(f"{self._folder}/{task}/{n}:{target}:ro,z" for n, target in enumerate(targets))

    def values(self, item: ServiceItem, task: str) -> list[bytes]:
        """Give what is in the secrets of a task that has them. Raises OSError when they are not there."""
        return [(self._folder / task / str(n)).read_bytes() for n in range(len(item.spec.container.secrets))]

    def remove(self, task: str) -> None:
        """Remove a task's files, if there are any."""
        shutil.rmtree(self._folder / task, ignore_errors=True)

    def keep_only(self, tasks: Collection[str]) -> None:
        """Remove the files of all other tasks."""
        for task in self.tasks() - set(tasks):
            self.remove(task)

    def close(self) -> None:
        """Remove everything, as the node leaves its cluster."""
        if _mounted(self._folder):
            call("umount2", os.fsencode(self._folder), _DETACH)

    async def _content(self, stack: str, digest: str) -> bytes:
        """Fetch a content once for all tasks that want it at the time."""
        key = (stack, digest)
        fetching = self._under_way.get(key)
        if fetching is None:
            fetching = self._under_way[key] = asyncio.create_task(self._source.fetch(stack, digest), name="contents")
            fetching.add_done_callback(lambda done: self._over(key, done))
        return await asyncio.shield(fetching)

    def _over(self, key: tuple[str, str], fetching: asyncio.Task[bytes]) -> None:
        del self._under_way[key]
        if not fetching.cancelled() and fetching.exception() is not None:
            log.debug("content %s of stack %s did not come", key[1], key[0])  # its waiters, if any are left, tell why

    def _write(self, task: str, files: Sequence[FileReference], contents: Sequence[bytes]) -> None:
        self._mount()
        unfinished = self._folder / f"{task}{_UNFINISHED}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(0o700)
        for n, (file, content) in enumerate(zip(files, contents, strict=True)):
            with open(os.open(unfinished / str(n), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as written:
                written.write(content)
                os.fchown(written.fileno(), int(file.uid), int(file.gid))
                os.fchmod(written.fileno(), file.mode)
        self.remove(task)
        unfinished.rename(self._folder / task)

    def _mount(self) -> None:
        with self._mounting:  # tasks are written in threads, and a second mount would hide the files in the first
            if not _mounted(self._folder):
                self._folder.mkdir(0o700, parents=True, exist_ok=True)
                flags = ctypes.c_ulong(_NOSUID | _NODEV | _NOEXEC)
                call("mount", b"tmpfs", os.fsencode(self._folder), b"tmpfs", flags, _OPTIONS)


def _made(file: FileReference, item: ServiceItem, task: Task, host: Host, contents: dict[str, bytes]) -> bytes:
    """Expand a content if it is a template: with the task's values, its environment and its other files."""
    if not file.templated:
        return contents[file.digest]
    spec = item.spec.container

    def lookup(files: Sequence[FileReference], kind: str) -> Function:
        def find(given: Sequence[Value]) -> Value:
            for one in files:
                if len(given) == 1 and given[0] in (one.source, one.target, one.target.rpartition("/")[2]):
                    return contents[one.digest].decode()
            raise TemplateError(f"the service has no {kind} {' '.join(map(str, given))}")

        return find

    def variable(given: Sequence[Value]) -> Value:
        return spec.environment.get(str(given[0]), "") if len(given) == 1 else ""

    functions = {"env": variable, "secret": lookup(spec.secrets, "secret"), "config": lookup(spec.configs, "config")}
    try:
        return render(
            contents[file.digest].decode(), values_of(item.stack, item.spec, task, host.place), functions
        ).encode()
    except UnicodeDecodeError:
        raise TemplateError(f"{file.source} is a template, and it or what it takes in is not UTF-8") from None
    except TemplateError as error:
        raise TemplateError(f"{file.source}: {error.message}") from None


def _mounted(folder: Path) -> bool:
    return folder.is_dir() and os.path.ismount(folder)
