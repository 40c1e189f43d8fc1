"""Questions to the lab's programs that end quickly with yes or no."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit


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
