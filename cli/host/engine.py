"""The Docker Engine of this host: what it says of itself, where its configuration lies, how it reads that anew."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.client.transport import UnixConnection
from cluster.errors import Failed, Forbidden, Unavailable

SOCKETS = (Path("/run/docker.sock"), Path("/var/run/docker.sock"))
CONFIGURATION = Path("/etc/docker/daemon.json")
_TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class Configuration:
    """The engine's file of settings; `named` when its command line names it, and the engine then insists on it."""

    file: Path
    named: bool


class Engine:
    """Asks the engine behind one UNIX socket. Raises Unavailable when it does not answer."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def info(self) -> dict[str, Any]:
        """What the engine says of itself and its host. Raises Forbidden for what only looks like a Docker Engine."""
        status, headers, body = self._call("GET", "/info")
        if "Libpod" in headers.get("Server", ""):
            raise Forbidden(
                f"behind {self.path} is Podman, which has no OCI runtime of ours to call",
                hint="Install the Docker Engine, and give its socket with --engine.",
            )
        if status != 200 or not isinstance(found := _json(body), dict):
            raise Failed(f"the engine at {self.path} does not describe itself (status {status})")
        return found

    def configuration(self) -> Configuration:
        """Where the running engine was told to look, or looks by itself."""
        words = Path(f"/proc/{self.pid()}/cmdline").read_bytes().decode(errors="replace").split("\0")
        for number, word in enumerate(words):
            name, equals, value = word.partition("=")
            if name in ("--config-file", "-config-file"):
                return Configuration(Path(value if equals else words[number + 1]), named=True)
        return Configuration(CONFIGURATION, named=False)

    def reload(self) -> None:
        """Have the engine read its configuration anew. Containers notice nothing; it is not told when it is done."""
        handle = os.pidfd_open(self.pid())
        try:
            signal.pidfd_send_signal(handle, signal.SIGHUP)
        finally:
            os.close(handle)

    def pid(self) -> int:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_TIMEOUT)
            try:
                probe.connect(str(self.path))
                pid: int = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
                # where systemd listens for the engine, the socket is systemd's
                return int((self.path.parent / "docker.pid").read_text()) if pid in (0, 1) else pid
            except (OSError, ValueError) as error:
                raise Unavailable(
                    f"the process of the engine at {self.path} is not to be found: {error}",
                    hint="It must run on this host, in the same process namespace.",
                ) from error

    def _call(self, method: str, path: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = UnixConnection(str(self.path), _TIMEOUT)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                f"no Docker Engine answers at {self.path}: {error}",
                hint="Install it (Debian: apt-get install docker.io) and start it, or give its socket with --engine.",
            ) from error
        finally:
            connection.close()


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
