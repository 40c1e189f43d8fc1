"""Network namespaces by name, made and entered by threads: nothing is forked.

The functions block, and all but the plain look-ups must run in a thread of `Namespaces.pool`: those threads live in the
node's own namespace, leave it for the length of one `inside` block, and come back. /proc/sys/net and sockets follow the
thread that opens them, so whatever is opened inside stays there.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from agent.libc import call
from cluster.errors import Failed

log = logging.getLogger(__name__)

_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED = 0x1000, 0x4000, 1 << 20
_MNT_DETACH = 2
_SIOCGSKNS = 0x894C  # linux/sockios.h: give a descriptor of the socket's namespace
_OWN = "/proc/thread-self/ns/net"


def _mount(source: str, target: str, flags: int) -> None:
    call("mount", source.encode(), target.encode(), None, ctypes.c_ulong(flags), None)


class Namespaces:
    """The directory of named namespaces, and the threads that work in them.

    `home` is a descriptor of the node's own namespace: that of the process unless a path is given.
    """

    def __init__(self, directory: Path, home: Path | None = None, threads: int = 4) -> None:
        self.directory = directory
        self.home = os.open(home or "/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.pool = ThreadPoolExecutor(threads, "netns", self._go_home if home is not None else None)

    def close(self) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)
        os.close(self.home)

    def prepare(self) -> None:
        """Make the directory a shared mount as `ip netns` does, so that the engine sees what is mounted later."""
        self.directory.mkdir(parents=True, exist_ok=True)
        path = str(self.directory)
        try:
            _mount("", path, _MS_SHARED | _MS_REC)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            _mount(path, path, _MS_BIND | _MS_REC)
            _mount("", path, _MS_SHARED | _MS_REC)

    def names(self, prefix: str) -> list[str]:
        """List what is there by prefix, whether or not it is still mounted."""
        if not self.directory.is_dir():
            return []
        return [name for name in os.listdir(self.directory) if name.startswith(prefix)]

    def open(self, name: str) -> int:
        """Open a namespace by name. Raises FileNotFoundError also for a file that is a namespace no longer."""
        fd = os.open(self.directory / name, os.O_RDONLY | os.O_CLOEXEC)
        if os.fstat(fd).st_dev != os.fstat(self.home).st_dev:  # all namespaces are files of one device, nsfs
            os.close(fd)
            raise FileNotFoundError(errno.ENOENT, "not a network namespace", str(self.directory / name))
        return fd

    def inode(self, name: str) -> int:
        """Tell one namespace of a name from a later one (0: there is none)."""
        try:
            fd = self.open(name)
        except FileNotFoundError:
            return 0
        try:
            return os.fstat(fd).st_ino
        finally:
            os.close(fd)

    @contextmanager
    def created(self, name: str) -> Iterator[int]:
        """Make a namespace, stay in it for the block, and leave with it named; a failure in the block unmakes it.

        Yields a descriptor of it that is good within the block.
        """
        path = str(self.directory / name)
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
        try:
            call("unshare", _CLONE_NEWNET)
            try:
                fd = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    _mount(_OWN, path, _MS_BIND)
                    yield fd
                finally:
                    os.close(fd)
            finally:
                self._go_home()
        except BaseException:
            self.delete(name)
            raise

    def adopt(self, name: str, fd: int) -> None:
        """Give a name to a namespace that somebody else made; nobody else's may have that name."""
        path = self.directory / name
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
        try:
            _mount(f"/proc/self/fd/{fd}", str(path), _MS_BIND)
        except OSError:
            path.unlink()
            raise

    @contextmanager
    def nameless(self) -> Iterator[int]:
        """Stay in a new namespace for the block; it goes when nothing that was opened there is open any more.

        Yields a descriptor of it that is good within the block.
        """
        call("unshare", _CLONE_NEWNET)
        try:
            fd = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
            try:
                yield fd
            finally:
                os.close(fd)
        finally:
            self._go_home()

    @contextmanager
    def inside(self, fd: int) -> Iterator[None]:
        """Stay in a namespace for the block."""
        call("setns", fd, _CLONE_NEWNET)
        try:
            yield
        finally:
            self._go_home()

    def delete(self, name: str) -> None:
        """Take the name away; the kernel ends the namespace when nobody is in it. No error if there is none."""
        path = self.directory / name
        try:
            call("umount2", str(path).encode(), _MNT_DETACH)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                raise
        path.unlink(missing_ok=True)

    def _go_home(self) -> None:
        try:
            call("setns", self.home, _CLONE_NEWNET)
        except OSError:
            # A thread lost in a container's namespace would do the next job there. A fresh process adopts everything.
            log.critical("a thread cannot return to the node's network namespace; the process ends", exc_info=True)
            os.abort()


def namespace_of(opened: socket.socket) -> int:
    """The namespace that a socket is in, as `Namespaces.inode` tells it."""
    fd = fcntl.ioctl(opened, _SIOCGSKNS)
    try:
        return os.fstat(fd).st_ino
    finally:
        os.close(fd)


def write_sysctl(name: str, value: str, *, optional: bool = False) -> None:
    """Set a network sysctl of the calling thread's namespace; an optional one may be missing from this kernel."""
    path = "/proc/sys/net/" + name
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if optional:
            return
        raise Failed(
            f"this kernel has no sysctl {path}",
            hint="load the kernel module that provides it, then start the agent again",
        ) from None
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def read_sysctl(name: str) -> str:
    """Read a network sysctl of the calling thread's namespace, "" where there is none."""
    try:
        return Path("/proc/sys/net/" + name).read_text().strip()
    except OSError:
        return ""
