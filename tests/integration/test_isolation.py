"""What containers reach outside of their networks, and what they do not."""

from __future__ import annotations

import pytest

from tests.integration.conftest import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1200)]


def test_containers_reach_outside_but_not_their_node(cluster: Cluster, probe: str) -> None:
    cluster.deploy("two-nets.yml", probe)
    [door] = cluster.tasks(f"{probe}_door")
    node = cluster.lab.layout.node(door["node"])

    def fetch(url: str) -> str:
        return str(cluster.get("n1", 8080, f"/fetch?url={url}&timeout=60", timeout=90))

    assert "'status': 200" in fetch(f"http://{cluster.lab.layout.registry}/v2/"), "the lab's registry is outside"
    for port in (2377, 2379):
        assert "ConnectionRefusedError" in fetch(f"http://{node.address}:{port}/") or "refused" in fetch(
            f"http://{node.address}:{port}/"
        )
    others = [n for n in ("n1", "n2", "n3") if n != door["node"]]
    assert "'status': 200" in fetch(f"http://{cluster.lab.layout.node(others[0]).address}:8080/"), "published ports"
    assert "'status': 200" in fetch(f"http://{node.address}:8080/"), "those of its own node as well"
