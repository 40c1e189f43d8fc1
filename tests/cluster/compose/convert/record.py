"""Records what Docker makes of the files in recorded/, to hold our conversion to it.

    python -m tests.cluster.compose.convert.record DOCKER_COMPOSE

runs `docker stack deploy` against an empty swarm's manager that is none, and keeps every create call; and the given
docker-compose for the model that the conversion starts from.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

FOLDER = Path(__file__).parent / "recorded"
STACK = "shop"
ROOT = "/recorded"
"""Stands in recordings for the folder of the files."""


class _Manager(BaseHTTPRequestHandler):
    """Has no service, network, secret or config of its own, and every external one that it is asked for."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, code: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Api-Version", "1.47")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _path(self) -> str:
        return re.sub(r"^/v[0-9.]+", "", urlsplit(self.path).path)

    def do_HEAD(self) -> None:
        self._answer(200, "OK")

    def do_GET(self) -> None:
        path = self._path()
        if path == "/_ping":
            self._answer(200, "OK")
        elif path == "/info":
            self._answer(200, {"Swarm": {"ControlAvailable": True, "LocalNodeState": "active", "NodeID": "n"}})
        elif path in ("/secrets", "/configs"):
            filters = json.loads(parse_qs(urlsplit(self.path).query).get("filters", ["{}"])[0])
            self._answer(200, [{"ID": name, "Spec": {"Name": name}} for name in filters.get("name", ())])
        elif path in ("/networks", "/services"):
            self._answer(200, [])
        elif path.startswith("/networks/"):
            self._answer(200, {"Name": path[10:], "Id": path[10:], "Scope": "swarm", "Driver": "overlay"})
        else:
            self._answer(404, {"message": "not found"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.calls.append((self._path(), json.loads(body)))
        self._answer(201, {"ID": "made", "Id": "made"})


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    calls: list[tuple[str, Any]]

    def get_request(self) -> tuple[Any, Any]:
        return super().get_request()[0], ("local", 0)


def record(compose: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        socket = f"{scratch}/docker.sock"
        with _Server(socket, _Manager) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            environment = {"PATH": os.environ["PATH"], "HOME": scratch, "DOCKER_HOST": f"unix://{socket}"}
            for file in sorted(FOLDER.glob("*.yml")):
                server.calls = []
                deploy = [
                    "docker",
                    "stack",
                    "deploy",
                    "--detach=true",
                    "--resolve-image",
                    "never",
                    "-c",
                    file.name,
                    STACK,
                ]
                subprocess.run(deploy, cwd=FOLDER, env=environment, check=True, stdout=subprocess.DEVNULL)
                config = [compose, "-f", file.name, "-p", STACK, "config", "--format", "json"]
                model = subprocess.run(config, cwd=FOLDER, env=environment, check=True, stdout=subprocess.PIPE).stdout
                found = {
                    "calls": sorted(server.calls, key=lambda call: (call[0], call[1]["Name"])),
                    "model": json.loads(model.replace(b"$$", b"$")),
                }
                text = json.dumps(found, indent=1, sort_keys=True).replace(str(FOLDER), ROOT)
                file.with_suffix(".json").write_text(text + "\n")
            server.shutdown()


if __name__ == "__main__":
    record(sys.argv[1])
