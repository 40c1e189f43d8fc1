"""A manager's UNIX socket on another host, by the system's `ssh`: its configuration, keys, agent and known hosts hold.

On the other host `stack dial-stdio` joins the socket, as the user that one logs in as: root, who may open it.
"""

from __future__ import annotations

import http.client
import re
import shlex
import signal
import socket
import subprocess
import tempfile
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from cluster.errors import Unavailable, UserError

SCHEME = "ssh://"
_CONNECT_SECONDS = 10
_END_SECONDS = 5.0
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*")


def command(url: str) -> list[str]:
    """Give the words that reach a manager at ssh://[USER@]HOST[:PORT][/PATH/OF/ITS/SOCKET]. Raises UserError."""
    hint = "Write ssh://[USER@]HOST[:PORT], such as ssh://root@manager.example.org."
    try:
        parts = urllib.parse.urlsplit(url)
        port, named = parts.port, parts.netloc.rpartition("@")[2]
    except ValueError as error:
        raise UserError(f"{url}: {error}", hint=hint) from error
    if parts.password is not None:
        raise UserError("there is a password in the address", hint="ssh asks for it, or finds a key.")
    # as it is written: what an ssh configuration calls a host may have capitals
    host = named[1 : named.index("]")] if named.startswith("[") else named.partition(":")[0]
    user = parts.username
    if _HOST.fullmatch(host) is None or (user is not None and _USER.fullmatch(user) is None):
        raise UserError(f"{url} is no address for ssh", hint=hint)
    if parts.query or parts.fragment:
        raise UserError(f"{url} has something after the path", hint=hint)
    there = ["stack", "dial-stdio", *([shlex.quote(parts.path)] if parts.path not in ("", "/") else [])]
    options = ["-T", "-o", f"ConnectTimeout={_CONNECT_SECONDS}", *(["-p", str(port)] if port else [])]
    return ["ssh", *options, *(["-l", user] if user else []), "--", host, *there]


class SshConnection(http.client.HTTPConnection):
    """HTTP through `ssh`. What ssh says is told as the reason when it ends; it asks at the terminal what it has to."""

    def __init__(self, url: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._url = url
        self._pipe: _Pipe | None = None

    def connect(self) -> None:
        self.sock = self._pipe = _started(self._url)
        self.sock.settimeout(self.timeout)

    def request(self, *words: Any, **named: Any) -> None:
        try:
            super().request(*words, **named)
        except ConnectionError as error:
            raise self._ended() from error

    def getresponse(self) -> http.client.HTTPResponse:
        """Raises Unavailable when ssh failed, and ConnectionError when it is only the manager that has gone."""
        assert self._pipe is not None
        try:
            heard = self._pipe.recv(1, socket.MSG_PEEK)
        except ConnectionError:
            heard = b""
        if not heard:
            raise self._ended()
        return super().getresponse()

    def _ended(self) -> Exception:
        assert self._pipe is not None
        code, said = self._pipe.ending()
        if code in (0, Unavailable.exit_code):
            return ConnectionRefusedError(said)
        words = command(self._url)
        shown = shlex.join(words[: words.index("stack")])
        return Unavailable(f"{self._url} cannot be reached: {said}", hint=f"Try `{shown} stack version`.")


class _Pipe(socket.socket):
    """Our end of the socket that is standard input and output of a program, which ends with it."""

    def __init__(self, fileno: int, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
        super().__init__(fileno=fileno)
        self._process, self._said = process, said

    def ending(self) -> tuple[int, str]:
        """Give the exit code of the program, which has hung up, and what it said last."""
        try:
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return 0, "it hung up"
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return code, lines[-1].removeprefix("error: ") if lines else f"ssh ended with code {code}"

    def close(self) -> None:
        super().close()
        if self.fileno() >= 0:
            return  # a file made of it keeps it open
        self._said.close()
        self._process.terminate()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _started(url: str) -> _Pipe:
    words = command(url)
    ours, theirs = socket.socketpair()
    said = tempfile.TemporaryFile()
    with ours, theirs, _ignored(signal.SIGINT, signal.SIGQUIT):
        try:
            process = subprocess.Popen(words, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=said)
        except FileNotFoundError as error:
            said.close()
            raise UserError("there is no program `ssh` here", hint="Install OpenSSH's client.") from error
        return _Pipe(ours.detach(), process, said)


@contextmanager
def _ignored(*numbers: signal.Signals) -> Iterator[None]:
    """Have programs that are started in the block not mind Ctrl-C, which is for what runs at the other end."""
    here = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers} if here else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
