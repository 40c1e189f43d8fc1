"""Questions to the lab's programs that end quickly with yes or no, and where this installation has its parts."""

from __future__ import annotations

import socket
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from cluster.errors import Failed


def http_ok(url: str, unix_socket: Path | None = None, timeout: float = 5) -> bool:
    """Whether a GET is answered with 200; the name in the URL does not matter with a UNIX socket."""
    from http.client import HTTPConnection, HTTPException

    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        if unix_socket is not None:
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.settimeout(timeout)
            connection.sock.connect(str(unix_socket))
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def runtime_wrapper() -> Path:
    """The OCI runtime of this installation; it belongs to the agent, which the command does not import."""
    spec = find_spec("agent")
    if spec is None or not spec.submodule_search_locations:
        raise Failed("the package `agent` is not installed beside this command", hint="Install stackyard anew.")
    return Path(next(iter(spec.submodule_search_locations))) / "runtime" / "stackyard-runtime"
