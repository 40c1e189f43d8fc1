"""What changes mean for the networks of all nodes: partitions, addresses that are used up, ports that are taken."""

from __future__ import annotations

import json
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Cluster, eventually
from tests.integration.test_names import RESOLVE

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1200)]

PARTED = """
services:
  web: {image: "stackyard-probe:1", deploy: {replicas: 3}}
  client: {image: "stackyard-probe:1", command: [sleep, infinity], deploy: {mode: global}}
"""
SMALL = """
services:
  web: {image: "stackyard-probe:1", command: [sleep, infinity], networks: [small], deploy: {replicas: 9}}
networks: {small: {ipam: {config: [{subnet: 10.250.0.0/29}]}}}
"""
PUBLISHING = """
services:
  web: {image: "stackyard-probe:1", ports: ["8080:8000"]}
"""
ASK = """
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=60).status)
"""


def inside(cluster: Cluster, node: str, stack: str, *command: str) -> str:
    """Run a command in the client on a node; "" when it fails."""
    [client] = cluster.containers(node, f"label=com.stackyard.stack={stack}", "label=com.stackyard.service=client")
    engine = ["docker", "-H", f"unix://{cluster.lab.engine_socket(node)}"]
    done = subprocess.run([*engine, "exec", client, *command], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def resolved(cluster: Cluster, node: str, stack: str, name: str) -> list[str]:
    found: list[str] = json.loads(inside(cluster, node, stack, "python3", "-c", RESOLVE, name) or "[]")
    return found


def test_names_are_right_on_both_sides_once_a_partition_heals(cluster: Cluster, probe: str, tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text(PARTED)
    cluster.deploy(tmp_path / "c.yml", probe)
    before = resolved(cluster, "n3", probe, "tasks.web")
    assert len(before) == 3
    cluster.lab.cut("n3")
    try:
        web = f"{probe}_web"
        eventually(lambda: len(t := cluster.tasks(web)) == 3 and all(x["node"] != "n3" for x in t), "replaced")
        now = resolved(cluster, "n1", probe, "tasks.web")
        assert len(now) == 3 and now != before
        assert resolved(cluster, "n3", probe, "tasks.web") == before, "it knows no better yet, and still answers"
    finally:
        cluster.lab.heal("n3")
    eventually(lambda: resolved(cluster, "n3", probe, "tasks.web") == now, "n3 has the names of those that run")
    for node in ("n1", "n3"):
        asking = partial(inside, cluster, node, probe, "python3", "-c", ASK, "http://web:8000/")
        assert eventually(asking, f"the service answers on {node}") == "200"
    assert resolved(cluster, "n1", probe, "tasks.web") == now


def test_tasks_for_whom_there_is_no_address_wait_and_say_so(cluster: Cluster, probe: str, tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text(SMALL)
    cluster.stack("deploy", "--detach", "-f", str(tmp_path / "c.yml"), probe)

    def waiting() -> list[dict[str, Any]]:
        return [task for task in cluster.listing("ps", probe) if "no free address left" in task["message"]]

    # Of eight addresses two are no host's, one is the nodes', one the service's.
    eventually(lambda: (len(cluster.tasks(probe)), len(waiting())) == (4, 5), "four run, five wait")
    assert {task["state"] for task in waiting()} <= {"new", "pending"}
    assert "10.250.0.0/29" in cluster.stack("explain", f"{probe}_web", code=None).stdout
    cluster.stack("scale", f"{probe}_web=2")
    cluster.stack("scale", f"{probe}_web=4")
    assert len(cluster.tasks(probe)) == 4, "addresses of those that went are given again"


def test_a_port_that_another_stack_publishes_is_refused_with_its_name(
    cluster: Cluster, probe: str, tmp_path: Path
) -> None:
    (tmp_path / "c.yml").write_text(PUBLISHING)
    cluster.deploy(tmp_path / "c.yml", probe)
    refused = cluster.stack("deploy", "-f", str(tmp_path / "c.yml"), f"{probe}-2", code=None)
    assert refused.returncode != 0
    assert "8080" in refused.stderr and f"{probe}_web" in refused.stderr
    assert cluster.listing("ls") == [s for s in cluster.listing("ls") if s["name"] != f"{probe}-2"]


def test_how_long_changes_take_is_measured_on_all_nodes(cluster: Cluster, probe: str, tmp_path: Path) -> None:
    def measured() -> dict[str, Any]:
        return cluster.listing("network", "convergence")[0]

    (tmp_path / "c.yml").write_text(PARTED)
    before = measured()
    cluster.deploy(tmp_path / "c.yml", probe)
    eventually(lambda: measured()["reachable"]["count"] > before["reachable"]["count"], "tasks that came are measured")
    cluster.stack("scale", f"{probe}_web=1")
    eventually(lambda: measured()["unreachable"]["count"] > before["unreachable"]["count"], "and those that went")
    found = measured()
    assert found["nodes"] == 3
    for what in ("reachable", "unreachable"):
        assert 0 < found[what]["p50"] <= found[what]["p99"] <= found[what]["longest"]
    shown = cluster.stack("network", "convergence").stdout
    assert "P99" in shown and "on 3 nodes" in shown
