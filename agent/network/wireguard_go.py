"""WireGuard devices of `wireguard-go`, for kernels without: one process each, which ends when its link does.

The process is no child of the agent's for long: it goes on while the agent restarts. It is spoken to by a socket under
/run/wireguard, named like the link.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from agent.network import wireguard
from agent.network.wireguard import Change, Gone, Held
from cluster.errors import Failed

PROGRAM = "wireguard-go"
KIND = "tun"

_SOCKETS = Path("/var/run/wireguard")
_TIMEOUT = 10.0
_PAUSE = 0.02
_ANSWER = 1 << 16


def trouble() -> str:
    """Tell why it cannot be used, "" if it can."""
    if shutil.which(PROGRAM) is None:
        return f"there is no {PROGRAM} in PATH"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return f"{PROGRAM} needs /dev/net/tun, which is not there: load the kernel module tun"
    return ""


def make(name: str) -> None:
    """Start a process with a link in the calling thread's namespace.

    The link may be taken to another one when this returns: not before, as the process looks it up when it begins.
    """
    try:
        done = subprocess.run(
            [PROGRAM, name], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{PROGRAM} cannot be started: {error}") from error
    if done.returncode:
        raise Failed(f"{PROGRAM} ended at once: {_last_line(done.stderr)}")
    _ask(name, wireguard.QUESTION)  # the socket is there already, and answers when the process has begun


def await_end(name: str) -> None:
    """Wait for the process of a link that has been deleted. Raises Failed when it does not end."""
    deadline = time.monotonic() + _TIMEOUT
    while time.monotonic() < deadline:
        try:
            _ask(name, wireguard.QUESTION)
        except Gone:
            return
        time.sleep(_PAUSE)
    raise Failed(f"the {PROGRAM} of {name}, whose link is gone, does not end", hint="end that process")


def read(name: str, public_of: Mapping[str, str]) -> Held:
    """Ask a device what it is. Raises Gone when its process is gone."""
    return wireguard.answer(_ask(name, wireguard.QUESTION), public_of)


def write(name: str, said: Change) -> None:
    """Tell a device what to be. Raises Gone when its process is gone."""
    for _ in wireguard.pairs(_ask(name, wireguard.command(said))):
        pass


def _ask(name: str, text: str) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as asking:
        asking.settimeout(_TIMEOUT)
        answer = b""
        try:
            asking.connect(str(_SOCKETS / f"{name}.sock"))
            asking.sendall(text.encode())
            while not answer.endswith(b"\n\n"):
                if not (some := asking.recv(_ANSWER)):
                    raise Gone(f"the process of {name} ended while it was asked")
                answer += some
        except TimeoutError:
            raise Failed(f"the process of {name} did not answer within {_TIMEOUT:g} s") from None
        except OSError as error:
            raise Gone(f"link {name} has no {PROGRAM}: {error.strerror}") from error
    return answer.decode()


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(("┌", "│", "└"))]
    return lines[-1].strip() if lines else "it did not say why"
