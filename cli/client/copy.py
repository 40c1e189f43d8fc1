"""Files between here and tasks' containers, as tar streams that are packed on one side while unpacked on the other.

What goes where is as `docker cp` has it: into a folder that is there, or under a new name; `SRC/.` means what is in it.
"""

from __future__ import annotations

import os
import posixpath
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from cli.client.channel import Channel
from cli.client.pump import Pump
from cluster.channel import ArchiveStat, Kind, ReadArchive, Request, StatArchive, WriteArchive
from cluster.errors import NotFound, StackyardError, Unavailable, UserError

Open = Callable[[], Channel]
"""Opens another channel to the task."""

_LINKS = 16


class _NoPath(NotFound):
    """There is nothing at a path of a container."""


def read_tar(opening: Open, path: str, sink: int, *, follow: bool) -> None:
    """Write what is at a path of the container to a descriptor, as tar."""
    _run(opening, ReadArchive(_followed(opening, path) if follow else path), None, {Kind.OUTPUT: sink})


def write_tar(opening: Open, path: str, source: int) -> None:
    """Unpack the tar that comes from a descriptor into a folder of the container."""
    _run(opening, WriteArchive(path), source, {})


def copy_out(opening: Open, path: str, target: str, *, follow: bool, own: bool) -> None:
    """Copy a file or folder of the container to here."""
    if follow:
        path = _followed(opening, path)
    stat = _stat(opening, path)
    place, name = Path(target), stat.name
    contents = path.endswith("/.")
    if place.is_dir():
        folder, new = place, "" if contents else name
    elif stat.folder and place.exists():
        raise UserError(f"{target} is a file, and a folder cannot be copied over it")
    elif target.endswith("/") and not stat.folder:
        raise NotFound(f"there is no folder {target}")
    elif not place.parent.is_dir():
        raise NotFound(f"there is no folder {place.parent}")
    elif contents:
        place.mkdir()
        folder, new = place, ""
    else:
        folder, new = place.parent, place.name

    def kept(member: tarfile.TarInfo, where: str) -> tarfile.TarInfo | None:
        _, _, rest = member.name.removeprefix("./").partition("/") if not contents else ("", "", member.name)
        renamed = posixpath.normpath(posixpath.join(new, rest)) if new or rest else "."
        changed = (
            {"name": renamed} if own else {"name": renamed, "uid": None, "gid": None, "uname": None, "gname": None}
        )
        if member.islnk():
            changed["linkname"] = posixpath.join(new, member.linkname.partition("/")[2])
        safe = tarfile.tar_filter(member.replace(**changed, deep=False), where)
        return safe.replace(mode=member.mode & 0o7777, deep=False)

    with _piped(lambda sink: _run(opening, ReadArchive(path), None, {Kind.OUTPUT: sink})) as end:
        with os.fdopen(end, "rb") as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            archive.extractall(folder, numeric_owner=True, filter=kept)
            while stream.read(2**16):
                pass  # what pads the archive


def copy_in(opening: Open, source: str, path: str, *, follow: bool, own: bool) -> None:
    """Copy a file or folder of here into the container."""
    if not os.path.lexists(source):
        raise NotFound(f"there is no {source}")
    contents = source.endswith("/.") or source == "."
    here = os.path.realpath(source) if follow or contents else source.rstrip("/")
    is_folder = os.path.isdir(here) and not os.path.islink(here)
    name = os.path.basename(os.path.abspath(source))
    try:
        resolved = _followed(opening, path)
        stat: ArchiveStat | None = _stat(opening, resolved)
    except _NoPath:
        resolved, stat = path, None
    if stat is not None and stat.folder:
        folder, new = resolved, "." if contents else name
    elif stat is not None and is_folder:
        raise UserError(f"{path} is a file, and a folder cannot be copied over it")
    elif path.endswith("/") and not is_folder:
        raise NotFound(f"there is no folder {path} in its container")
    else:
        folder, new = posixpath.split(resolved.rstrip("/"))

    def kept(member: tarfile.TarInfo) -> tarfile.TarInfo:
        if not own:
            member.uid = member.gid = 0
            member.uname = member.gname = ""
        return member

    def pack(sink: int) -> None:
        with os.fdopen(os.dup(sink), "wb") as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
            archive.add(here, new, filter=kept)

    with _piped(pack) as end:
        try:
            _run(opening, WriteArchive(folder or "/"), end, {})
        finally:
            os.close(end)


def _run(opening: Open, request: Request, source: int | None, sinks: dict[Kind, int]) -> bytes:
    told = b""

    def started(content: bytes) -> None:
        nonlocal told
        told = content

    with closing(opening()) as channel:
        channel.request(request)
        try:
            Pump(channel, source, sinks, started=started).run()
        except StackyardError as error:
            kind = _NoPath if isinstance(error, NotFound) else type(error)
            raise kind(f"{channel.task} on {channel.node}: {error.message}", hint=error.hint) from error
    return told


def _stat(opening: Open, path: str) -> ArchiveStat:
    return msgspec.json.decode(_run(opening, StatArchive(path), None, {}), type=ArchiveStat)


def _followed(opening: Open, path: str) -> str:
    """Give what a path leads to, when it is a symbolic link."""
    for _ in range(_LINKS):
        target = _stat(opening, path).target
        if not target:
            return path
        path = posixpath.join(posixpath.dirname(path), target)
    raise UserError(f"{path} is a link that leads to a link, and so on")


@contextmanager
def _piped(work: Callable[[int], object]) -> Iterator[int]:
    """Have something write to a pipe in a thread of its own, and give the end to read; its failure comes first."""
    reading, writing = os.pipe()
    problem: list[BaseException] = []

    def run() -> None:
        try:
            work(writing)
        except BrokenPipeError:
            pass  # the other side has failed, and says why
        except (StackyardError, OSError, tarfile.TarError) as error:
            problem.append(error)
        finally:
            os.close(writing)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield reading
    except (tarfile.TarError, EOFError, OSError, Unavailable) as error:
        thread.join(1)
        if problem:
            raise problem[0] from error
        if isinstance(error, tarfile.TarError):
            raise UserError(f"the archive cannot be unpacked: {error}") from error
        raise
    thread.join()
    if problem:
        raise problem[0]
