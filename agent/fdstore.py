"""Sockets that outlive this process: kept by whoever started it, and found again by the next one.

The protocol is systemd's, which a holder of the same kind speaks where there is no systemd: sd_notify(3) with FDSTORE,
sd_listen_fds(3). Where nobody keeps anything, all calls do nothing. What is kept also keeps its network namespace, so
it has to be forgotten when that goes.
"""

from __future__ import annotations

import array
import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import MutableMapping

log = logging.getLogger(__name__)

_FIRST = 3  # descriptors are handed over from here on


class FdStore:
    """The keeper at an address ("": none), and what it gave this process by name. Used from the event loop's thread."""

    def __init__(self, address: str = "", inherited: dict[str, list[socket.socket]] | None = None) -> None:
        self._inherited = inherited or {}
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        self._socket: socket.socket | None = None
        if address:
            opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            try:
                opened.connect("\0" + address[1:] if address.startswith("@") else address)
            except OSError:
                opened.close()
                raise
            self._socket = opened

    @classmethod
    def of_process(cls, environment: MutableMapping[str, str]) -> FdStore:
        """Take over what this process was started with; nothing of it stays in the environment."""
        address = environment.pop("NOTIFY_SOCKET", "")
        pid, count, names = (environment.pop(f"LISTEN_{what}", "") for what in ("PID", "FDS", "FDNAMES"))
        inherited: dict[str, list[socket.socket]] = {}
        if pid == str(os.getpid()):
            for fd, name in zip(range(_FIRST, _FIRST + int(count)), names.split(":"), strict=False):
                os.set_inheritable(fd, False)
                inherited.setdefault(name, []).append(socket.socket(fileno=fd))
        try:
            return cls(address, inherited)
        except OSError as error:
            log.warning("nothing can be kept for the next agent, as %s does not answer: %s", address, error)
            return cls("", inherited)

    def take(self, name: str) -> list[socket.socket]:
        """Give what was kept by that name, once."""
        return self._inherited.pop(name, [])

    def keep(self, name: str, *sockets: socket.socket) -> None:
        """Have sockets kept by a name; the process keeps its own descriptors."""
        self._send(f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0", sockets)

    def forget(self, name: str) -> None:
        """Have nothing kept by that name any more."""
        self._send(f"FDSTOREREMOVE=1\nFDNAME={name}")

    def show(self, status: str) -> None:
        """Have one line shown of how this program fares (`systemctl status`)."""
        self._send(f"STATUS={status}")

    def forget_rest(self) -> None:
        """Have everything forgotten that was inherited and that nobody took."""
        for name in tuple(self._inherited):
            for each in self.take(name):
                each.close()
            self.forget(name)

    def close(self) -> None:
        """Say no more; what was not said in time is not kept."""
        if self._socket is not None:
            while self._waiting:
                self._drop_first()
            asyncio.get_running_loop().remove_writer(self._socket)
            self._socket.close()
            self._socket = None

    def _send(self, message: str, sockets: tuple[socket.socket, ...] = ()) -> None:
        if self._socket is not None:
            self._waiting.append((message.encode(), [os.dup(each.fileno()) for each in sockets]))
            if len(self._waiting) == 1:
                self._flush()

    def _flush(self) -> None:
        """Send in order what waits, and the rest when the keeper has read some."""
        assert self._socket is not None
        while self._waiting:
            message, fds = self._waiting[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            try:
                self._socket.sendmsg([message], rights)
            except BlockingIOError:
                asyncio.get_running_loop().add_writer(self._socket, self._flush)
                return
            except OSError as error:
                log.warning("the next agent will not find what was to be kept for it: %s", error)
            self._drop_first()
        asyncio.get_running_loop().remove_writer(self._socket)

    def _drop_first(self) -> None:
        for fd in self._waiting.popleft()[1]:
            os.close(fd)
