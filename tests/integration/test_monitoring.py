"""A real Prometheus in the cluster, by the files of monitoring/ as README says: what it reads, and what it warns of."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import urllib.parse
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Cluster, eventually
from tests.monitoring.prometheus import MONITORING, programs, promtool

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1200)]

STACK, PORT = "monitoring", 9090

IMAGE = """
FROM debian:bookworm-slim
COPY prometheus /bin/
RUN mkdir /prometheus && chown 65534:65534 /prometheus
USER 65534:65534
ENTRYPOINT ["/bin/prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
"""
"""As Prometheus' own, which is out of reach."""

TROUBLE = """
services:
  job: {image: "busybox:1", command: "false", deploy: {mode: replicated-job, restart_policy: {condition: none}}}
"""


def ask(cluster: Cluster, path: str, **query: str) -> Any:
    return cluster.get("n1", PORT, f"/api/v1/{path}?{urllib.parse.urlencode(query)}")["data"]


def series(cluster: Cluster, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(cluster, "query", query=query.replace("$__rate_interval", "30s"))["result"]
    return found


def targets(cluster: Cluster) -> set[tuple[str, str, str]]:
    """The job, the instance or service, and the health of what it reads."""
    told = ask(cluster, "targets", state="active")["activeTargets"]
    return {(t["labels"]["job"], t["labels"].get("service", t["labels"]["instance"]), t["health"]) for t in told}


def firing(cluster: Cluster, alert: str) -> list[dict[str, str]]:
    return [one["metric"] for one in series(cluster, f'ALERTS{{alertname="{alert}", alertstate="firing"}}')]


@pytest.fixture
def folder(cluster: Cluster, tmp_path: Path) -> Iterator[Path]:
    """The files, with what a person has to put in: managers' addresses, a token, the CA. Times are shorter."""
    folder = shutil.copytree(MONITORING, tmp_path / "monitoring")
    manager = cluster.lab.layout.node("n1").address
    config, alerts = folder / "prometheus.yml", folder / "alerts.yml"
    config.write_text(re.sub(r"192\.0\.2\.\d", manager, config.read_text()).replace("15s", "1s"))
    alerts.write_text(re.sub("for: .*", "for: 1s", alerts.read_text()))
    token = cluster.stack("user", "create", "prometheus", "--role", "viewer", "--stack", "*").stdout
    (folder / "stackyard.token").write_text(token)
    unknown = ssl._create_unverified_context()
    with urllib.request.urlopen(f"https://{manager}:2377/v1/ca", context=unknown) as answer:
        (folder / "stackyard-ca.pem").write_bytes(answer.read())
    (folder / "image").mkdir()
    shutil.copy(programs() / "prometheus", folder / "image")
    (folder / "image" / "Dockerfile").write_text(IMAGE)
    (folder / "built.yml").write_text('services: {prometheus: {image: "stackyard-prometheus:1", build: ./image}}')
    (folder / "trouble.yml").write_text(TROUBLE)
    cluster.stack("lab", "build", "-f", str(folder / "built.yml"))
    yield folder
    for stack in ("trouble", STACK):
        cluster.stack("rm", "--volumes", stack, code=None)
    cluster.stack("user", "rm", "prometheus")


def test_prometheus_reads_all_that_it_is_told_and_warns(cluster: Cluster, folder: Path) -> None:
    cluster.stack("deploy", "-f", str(folder / "compose.yml"), "-f", str(folder / "built.yml"), STACK)
    cluster.stack("deploy", "--detach", "-f", str(folder / "trouble.yml"), "trouble")
    manager = f"{cluster.lab.layout.node('n1').address}:2377"
    wanted = {("stackyard", manager, "up"), ("stackyard-tasks", manager, "up"),
              ("services", f"{STACK}_prometheus", "up")}  # fmt: skip

    def answers() -> set[tuple[str, str, str]]:
        try:
            return targets(cluster)
        except OSError:
            return set()  # it does not listen yet

    eventually(lambda: answers() == wanted, "managers and services are read")
    eventually(lambda: [one["service"] for one in firing(cluster, "TasksFailed")] == ["trouble_job"], "the job failed")

    panels = json.loads((folder / "dashboard.json").read_text())["panels"]
    for query in [target["expr"] for panel in panels for target in panel["targets"]]:
        eventually(partial(series, cluster, query), f"there is something to show for {query}")
    for metric in set(re.findall(r"stackyard_\w+", (folder / "alerts.yml").read_text())):
        assert series(cluster, metric), metric

    cluster.lab.kill("n3", "agent")
    eventually(lambda: [one["node"] for one in firing(cluster, "NodeNotReady")] == ["n3"], "a node is silent")
    cluster.lab.start("n3", "agent")
    eventually(lambda: not firing(cluster, "NodeNotReady"), "it is back")

    context = ssl.create_default_context(cafile=str(folder / "stackyard-ca.pem"))
    for path in ("metrics", "metrics/tasks"):
        token = (folder / "stackyard.token").read_text().strip()
        request = urllib.request.Request(f"https://{manager}/v1/{path}", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, context=context) as answer:
            promtool("check", "metrics", text=answer.read().decode())
