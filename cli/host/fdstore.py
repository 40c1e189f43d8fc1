"""`stack-fdstore SOCKET -- COMMAND`: what systemd's store of file descriptors is, for a program that runs without it.

It becomes the command, with the descriptors that an earlier run of it gave away (sd_listen_fds(3)), and with the socket
where it may give more (sd_notify(3), FDSTORE=1). They are held by a process that lives on when the command ends; it is
made when it is first needed.
"""

from __future__ import annotations

import fcntl
import os
import resource
import socket
import sys
from pathlib import Path

from cli.host.units import MOST_KEPT

_FIRST = 3  # descriptors are handed over from here on
_MESSAGE, _AT_ONCE = 4096, 253  # the kernel passes no more descriptors in one message
_FETCH = b"FETCH=1"

Held = list[tuple[str, int]]


def main() -> None:
    """Become the command, with what is held for it."""
    match sys.argv[1:]:
        case [path, "--", *command] if command:
            pass
        case _:
            sys.exit("usage: stack-fdstore SOCKET -- COMMAND...")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    held = fetch(Path(path))
    environment = os.environ | {"NOTIFY_SOCKET": path}
    if held:
        # Out of the way first, as one may have the number that is another's to be.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST + len(held)) for _, fd in held]
        for number, fd in enumerate(high, _FIRST):
            os.dup2(fd, number, inheritable=True)
        names = ":".join(name for name, _ in held)
        environment |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(held)), "LISTEN_FDNAMES": names}
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        sys.exit(f"stack-fdstore: {command[0]} cannot be started: {error.strerror}")


def fetch(path: Path) -> Held:
    """Give all that is held, with names; a holder is made if there is none. The command does not inherit them."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # or two of them would make two holders
            if not _ask(path, theirs):
                _make_holder(path)
                return []
        theirs.close()
        held: Held = []
        while True:
            name, fds, _, _ = socket.recv_fds(ours, _MESSAGE, _AT_ONCE)
            if not name:
                return held
            for fd in fds:
                os.set_inheritable(fd, False)
                held.append((name.decode(), fd))


def _ask(path: Path, answers: socket.socket) -> bool:
    """Ask the holder for everything; False if there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(str(path))
            socket.send_fds(asking, [_FETCH], [answers.fileno()])
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


def _make_holder(path: Path) -> None:
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(path))
    os.umask(before)
    if os.fork():
        listening.close()
        return
    try:
        os.setsid()
        os.chdir("/")
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in range(_FIRST):
            os.dup2(nothing, stream)
        os.dup2(listening.detach(), _FIRST)
        os.closerange(_FIRST + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])  # the lock among them
        hold(socket.socket(fileno=_FIRST))
    finally:
        os._exit(0)


def hold(listening: socket.socket) -> None:
    """Serve, for ever."""
    held: Held = []
    while True:
        message, fds, _, _ = socket.recv_fds(listening, _MESSAGE, _AT_ONCE)
        said = dict(line.partition("=")[::2] for line in message.decode(errors="replace").splitlines())
        name = said.get("FDNAME", "stored")
        if "FDSTORE" in said and len(held) + len(fds) <= MOST_KEPT:
            held += [(name, fd) for fd in fds]
            continue
        if message == _FETCH and fds:
            _give(held, fds[0])
        elif "FDSTOREREMOVE" in said:
            for gone in [each for each in held if each[0] == name]:
                held.remove(gone)
                os.close(gone[1])
        for fd in fds:
            os.close(fd)


def _give(held: Held, to: int) -> None:
    with socket.fromfd(to, socket.AF_UNIX, socket.SOCK_SEQPACKET) as receiver:
        try:
            for name, fd in held:
                socket.send_fds(receiver, [name.encode()], [fd])
        except (BrokenPipeError, ConnectionResetError):
            pass  # who asked is gone
