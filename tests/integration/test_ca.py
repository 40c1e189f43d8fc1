"""The CA of a lab is rotated under requests and a deploy, with a node cut off that comes back later."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from cluster import pki
from tests.integration.conftest import Cluster, eventually
from tests.integration.test_nodes import Requests

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1200)]

WEB = """
services:
  web:
    image: "stackyard-probe:1"
    ports: ["8096:8000"]
    stop_grace_period: 3s
    environment: {VERSION: "%s"}
    healthcheck: {test: ["CMD", "bash", "-c", "</dev/tcp/127.0.0.1/8000"], interval: 1s}
    deploy:
      replicas: 2
      placement: {constraints: ["node.hostname != n3"]}
      update_config: {parallelism: 1, order: start-first}
"""


def refuses(url: str, tls: ssl.SSLContext) -> bool:
    """Whether a manager lets in nobody with that certificate, or is not trusted with these roots."""
    import http.client
    import urllib.parse

    where = urllib.parse.urlsplit(url)
    connection = http.client.HTTPSConnection(where.hostname or "", where.port, timeout=30, context=tls)
    try:
        connection.request("GET", "/v1/self")
        return connection.getresponse().status != 200
    except (ssl.SSLError, ConnectionError):
        return True
    finally:
        connection.close()


def test_a_rotation_under_requests_loses_none_and_a_node_that_was_cut_off_comes_along(
    cluster: Cluster, tmp_path: Path
) -> None:
    compose = tmp_path / "web.yml"
    compose.write_text(WEB % "1")
    cluster.stack("deploy", "-f", str(compose), "cert", "--yes")
    files = [cluster.lab.layout.data_dir / "n2" / "agent" / name for name in ("ca.pem", "node.pem", "key.pem")]
    kept = []
    for file in files:
        kept.append(tmp_path / file.name)
        kept[-1].write_bytes(file.read_bytes())
    ca, certificate, key = kept
    old = pki.client_context(ca.read_text(), str(certificate), str(key))
    manager = cluster.lab.layout.node("n1").api_url
    assert not refuses(manager, old), "the test asks as that node"
    sessions = {one["name"]: one["status"] for one in cluster.listing("node", "ls")}
    assert set(sessions.values()) == {"ready"}

    requests = Requests(f"http://{cluster.lab.layout.node('n2').address}:8096/")
    with requests.going_on():
        cluster.lab.cut("n3")
        try:
            waits = cluster.stack("ca", "rotate", code=None)
            assert waits.returncode == 1 and "node n3: " in waits.stderr, waits
            compose.write_text(WEB % "2")
            cluster.stack("deploy", "-f", str(compose), "cert", "--yes")
        finally:
            cluster.lab.heal("n3")
        eventually(lambda: "One root is trusted" in cluster.stack("ca").stdout, "it goes on by itself to its end")
    assert not requests.failed

    # what is dialled from now on goes by the new root alone
    assert "CERTIFICATE" in files[0].read_text() and files[0].read_text() != ca.read_text()
    eventually(lambda: refuses(manager, old), "the old certificate is refused")
    eventually(
        lambda: {one["status"] for one in cluster.listing("node", "ls")} == {"ready"}, "all nodes are in the cluster"
    )
    for task in cluster.tasks("cert"):
        assert cluster.stack("exec", task["id"], "true").returncode == 0
    cluster.stack("logs", "cert_web", "--tail", "1")
    cluster.stack("rm", "cert")
