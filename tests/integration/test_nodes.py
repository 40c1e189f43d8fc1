"""Nodes on a lab: drained under requests, chosen by label, explained, given their share again, and out of reach."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.conftest import Cluster, eventually

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1200)]

WEB = """
services:
  web:
    image: "stackyard-probe:1"
    ports: ["8095:8000"]
    stop_grace_period: 3s
    healthcheck: {test: ["CMD", "bash", "-c", "</dev/tcp/127.0.0.1/8000"], interval: 1s}
    deploy:
      replicas: 4
      update_config: {parallelism: 1, order: start-first}
"""


class Requests:
    """GETs from outside of the cluster, a new connection each, one after another; `failed` has what went wrong."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answered = 0
        self.failed: list[str] = []
        self._stop = threading.Event()

    def run(self) -> None:
        while not self._stop.wait(0.02):
            try:
                with urllib.request.urlopen(self.url, timeout=60) as answer:
                    answer.read()
                self.answered += 1
            except OSError as error:
                self.failed.append(f"{time.time():.2f}: {error}")

    def more(self) -> None:
        """Wait until there are some more."""
        end = self.answered + len(self.failed) + 20
        eventually(lambda: self.answered + len(self.failed) >= end, "the requests go on")

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """For the block: from some before it to some after it."""
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            self.more()
            yield
            self.more()
        finally:
            self._stop.set()
            thread.join()


def where(cluster: Cluster, stack: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for task in cluster.tasks(stack):
        counts[task["node"]] = counts.get(task["node"], 0) + 1
    return counts


@pytest.fixture
def mended(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.stack("node", "activate", "n1", "n2", "n3")
    cluster.stack("node", "update", "--label-rm", "disk", "n3")


@pytest.mark.usefixtures("mended")
def test_a_drain_under_requests_loses_none_and_a_rebalance_gives_the_node_its_share(
    cluster: Cluster, probe: str, tmp_path: Path
) -> None:
    (tmp_path / "web.yml").write_text(WEB)
    cluster.deploy(tmp_path / "web.yml", probe)
    url = f"http://{cluster.lab.layout.node('n1').address}:8095/"
    eventually(lambda: cluster.get("n1", 8095), "the port answers")
    requests = Requests(url)
    with requests.going_on():
        done = cluster.stack("node", "drain", "n3", "--deadline", "3m")
        assert done.stdout == "n3 is empty: all tasks found other places\n"
        assert "n3" not in where(cluster, probe) and sum(where(cluster, probe).values()) == 4
        cluster.stack("node", "activate", "n3")
        planned = cluster.stack("rebalance", "--dry-run").stdout
        assert "n3" in planned
        done = cluster.stack("rebalance")
        assert done.stdout == "moved 1 task\n", done.stdout
    assert where(cluster, probe)["n3"] == 1
    assert not requests.failed, requests.failed


@pytest.mark.usefixtures("mended")
def test_a_task_that_no_node_fits_is_explained_and_goes_where_the_told_change_is_made(
    cluster: Cluster, probe: str, tmp_path: Path
) -> None:
    (tmp_path / "c.yml").write_text(
        "services: {web: {image: 'stackyard-probe:1', deploy: {placement: {constraints: [node.labels.disk == ssd]},"
        " resources: {reservations: {memory: 16m}}}}}"
    )
    cluster.stack("deploy", "--detach", "-f", str(tmp_path / "c.yml"), probe)
    service = f"{probe}_web"

    def explained() -> str:
        said = cluster.stack("explain", service, code=None).stdout
        return said if "no node fits" in said else ""

    said = eventually(explained, "the reason is told")
    assert "no node fits: 3 of 3 do not match node.labels.disk == ssd" in said
    assert "`stack node update --label-add disk=ssd n3`" in said
    cluster.stack("node", "update", "--label-add", "disk=ssd", "n3")
    eventually(lambda: where(cluster, probe) == {"n3": 1}, "it runs on n3")


def test_a_node_out_of_reach_stops_its_copy_and_another_takes_its_place_when_it_was_told_to(
    cluster: Cluster, probe: str, tmp_path: Path
) -> None:
    (tmp_path / "c.yml").write_text(
        "services:\n"
        "  once:\n"
        "    image: stackyard-probe:1\n"
        "    x-on-disconnect: {replace_after: 20s, stop_after: 8s}\n"
        "    deploy: {placement: {constraints: ['node.hostname != n1']}}\n"
    )
    cluster.deploy(tmp_path / "c.yml", probe)
    [before] = cluster.tasks(probe)
    there = before["node"]
    try:
        cut_at = time.monotonic()
        cluster.lab.cut(there)

        def stopped() -> bool:
            running = cluster.docker(there, "ps", "-q", "--filter", f"label=com.stackyard.stack={probe}")
            return not running.split()

        eventually(stopped, "the copy out of reach is stopped")
        assert time.monotonic() - cut_at >= 8
        eventually(lambda: where(cluster, probe) not in ({}, {there: 1}), "another one runs")
        assert time.monotonic() - cut_at >= 15
    finally:
        cluster.lab.heal(there)
    eventually(lambda: all(n["status"] == "ready" for n in cluster.listing("node", "ls")), "it is back")
    [after] = cluster.tasks(probe)
    assert after["id"] != before["id"] and after["node"] != there
