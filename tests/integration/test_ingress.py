"""Published ports, as somebody outside of the cluster sees them."""

from __future__ import annotations

import ipaddress

import pytest

from tests.integration.conftest import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1200)]


def test_tasks_see_the_address_of_the_client_whichever_node_it_dials(cluster: Cluster, probe: str) -> None:
    cluster.deploy("two-nets.yml", probe)
    seen = {cluster.get(node, 8080)["client"] for node in ("n1", "n2", "n3") for _ in range(3)}
    [client] = seen
    nodes = {cluster.lab.layout.node(node).address for node in ("n1", "n2", "n3")}
    assert client not in nodes, "nor does a node stand in for it"
    assert ipaddress.ip_address(client) in ipaddress.ip_network(cluster.lab.layout.subnet)
