"""Names, as containers look them up: also while the agent of their node is away, and what stands in their files."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Cluster, eventually

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1200)]

ON_N1 = "deploy: {placement: {constraints: [node.hostname == n1]}}"
STACK = f"""
services:
  web: {{image: "stackyard-probe:1", hostname: the-web}}
  every: {{image: "stackyard-probe:1", deploy: {{mode: global}}}}
  client:
    image: "stackyard-probe:1"
    command: [sleep, infinity]
    init: true
    extra_hosts: ["db=192.0.2.1", "node=host-gateway"]
    dns_search: .
    dns_opt: [timeout:30]
    {ON_N1}
  server: {{image: "stackyard-probe:1", command: [sleep, infinity], init: true, {ON_N1}}}
"""
LOOK_UP = """
import json, select, socket, sys, time
ok, failed, longest = 0, [], 0.0
rounds, end = 0, None
while rounds != end:
    rounds += 1
    if end is None and select.select([sys.stdin], [], [], 0.02)[0]:
        end = rounds + 10
    for name in sys.argv[1:]:
        began = time.monotonic()
        try:
            assert socket.getaddrinfo(name, 80, socket.AF_INET)
            ok += 1
        except (OSError, AssertionError) as error:
            failed.append(f"{time.strftime('%T')} {name}: {error!r}")
        longest = max(longest, time.monotonic() - began)
    if rounds == 1:
        print("ready", flush=True)
print(json.dumps({"ok": ok, "failed": failed, "longest": longest}))
"""
RESOLVE = """
import json, socket, sys
try:
    print(json.dumps(sorted({found[4][0] for found in socket.getaddrinfo(sys.argv[1], 80)})))
except socket.gaierror:
    print("[]")
"""


class Client:
    """A container on n1 that looks names up."""

    def __init__(self, cluster: Cluster, stack: str, service: str = "client") -> None:
        labels = (f"label=com.stackyard.stack={stack}", f"label=com.stackyard.service={service}")
        [container] = cluster.containers("n1", *labels)
        self._inside = ["docker", "-H", f"unix://{cluster.lab.engine_socket('n1')}", "exec", "-i", container]

    def run(self, *command: str) -> str:
        return subprocess.run([*self._inside, *command], capture_output=True, text=True, check=True).stdout

    def resolve(self, name: str) -> list[str]:
        found: list[str] = json.loads(self.run("python3", "-c", RESOLVE, name))
        return found

    def look_up(self, *names: str) -> Callable[[], dict[str, Any]]:
        """Begin to look names up all the time; what is given ends it after some more rounds, and tells how it went."""
        command = [*self._inside, "python3", "-c", LOOK_UP, *names]
        running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert running.stdout and running.stdout.readline() == "ready\n"

        def end() -> dict[str, Any]:
            told: dict[str, Any] = json.loads(running.communicate("\n")[0])
            print(told)  # noqa: T201 (seen when the test fails)
            return told

        return end


def deploy(cluster: Cluster, stack: str, folder: Path) -> Client:
    (folder / "names.yml").write_text(STACK)
    cluster.deploy(folder / "names.yml", stack)
    return Client(cluster, stack)


def test_no_look_up_fails_while_the_agent_is_away(cluster: Cluster, probe: str, tmp_path: Path) -> None:
    client = deploy(cluster, probe, tmp_path)
    for away in (cluster.lab.stop, cluster.lab.kill, cluster.lab.kill):
        end = client.look_up("web", "tasks.every", f"{probe}_web.1")
        away("n1", "agent")
        cluster.lab.start("n1", "agent")
        eventually(lambda: not cluster.stack("node", "ls").stdout.count("lost"), "the agent is back")
        told = end()
        assert told["failed"] == [], away


def test_names_are_right_as_soon_as_the_agent_is_back(cluster: Cluster, probe: str, tmp_path: Path) -> None:
    client = deploy(cluster, probe, tmp_path)
    assert len(client.resolve("tasks.web")) == 1
    cluster.lab.kill("n1", "agent")
    try:
        cluster.stack("scale", "--detach", f"{probe}_web=2", code=None)
    finally:
        cluster.lab.start("n1", "agent")
    eventually(lambda: len(client.resolve("tasks.web")) == 2, "the new task has a name")


def test_tasks_are_called_by_slot_by_node_and_by_their_host_names(cluster: Cluster, probe: str, tmp_path: Path) -> None:
    client = deploy(cluster, probe, tmp_path)
    [web] = client.resolve("tasks.web")
    assert client.resolve("web.1") == client.resolve("the-web") == client.resolve("THE-WEB.") == [web]
    by_node = [client.resolve(f"every.n{number}") for number in (1, 2, 3)]
    assert sorted(address for [address] in by_node) == client.resolve("tasks.every")
    assert client.resolve("every.n4") == client.resolve("nobody") == []
    said = client.run("python3", "-c", f"import socket; print(socket.gethostbyaddr({by_node[1][0]!r})[0])")
    assert said.strip() == f"{probe}_every.n2"


def test_files_are_as_users_expect(cluster: Cluster, probe: str, tmp_path: Path) -> None:
    client = deploy(cluster, probe, tmp_path)
    hosts = client.run("cat", "/etc/hosts").splitlines()
    assert {"127.0.0.1\tlocalhost", "ff02::1\tip6-allnodes", "192.0.2.1\tdb"} <= set(hosts)
    assert f"{cluster.lab.layout.node('n1').address}\tnode" in hosts
    assert client.run("cat", "/etc/resolv.conf") == "nameserver 127.0.0.11\noptions timeout:30 ndots:0\n"
    own = Client(cluster, probe, "server")
    name = own.run("hostname").strip()
    assert own.resolve(name) == client.resolve(name) != []
