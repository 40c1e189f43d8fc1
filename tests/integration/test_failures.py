"""What breaks, breaks here: containers, nodes, agents, managers, engines, etcd, networks."""

from __future__ import annotations

import json
import signal
import sysconfig
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Cluster, eventually

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1200)]

LOAD = """
services:
  web:
    image: "stackyard-probe:1"
    healthcheck: {test: ["CMD", "bash", "-c", "</dev/tcp/127.0.0.1/8000"], interval: 1s}  # no traffic before it listens
    deploy: {replicas: 3}
  client:
    image: "stackyard-probe:1"
    ports: ["8090:8000"]
    deploy: {placement: {constraints: ["node.hostname == n2"]}}
"""


def ready(cluster: Cluster) -> bool:
    return all(node["status"] == "ready" for node in cluster.listing("node", "ls"))


def task_ids(cluster: Cluster, what: str) -> set[str]:
    return {task["id"] for task in cluster.tasks(what)}


class Load:
    """Traffic from a task on n2 to all tasks of `web`, a new connection and a new look-up each."""

    def __init__(self, cluster: Cluster, stack: str, folder: Path) -> None:
        self.cluster = cluster
        (folder / "load.yml").write_text(LOAD)
        cluster.deploy(folder / "load.yml", stack)
        eventually(self._listens, "the client listens")
        cluster.get("n2", 8090, "/load?url=http://web:8000/")
        self.goes_on()

    def _listens(self) -> bool:
        try:
            return bool(self.cluster.get("n2", 8090))
        except OSError:
            return False

    def stats(self) -> Any:
        return self.cluster.get("n2", 8090, "/stats")

    def goes_on(self) -> None:
        """Wait for a hundred more answers, and see that none ever failed."""
        start = self.stats()["ok"]
        eventually(lambda: self.stats()["ok"] >= start + 100, "the load goes on")
        stats = self.stats()
        assert stats["failed"] == 0, stats


def test_a_killed_container_is_replaced(cluster: Cluster, probe: str, tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text("services: {web: {image: 'stackyard-probe:1', deploy: {replicas: 3}}}")
    cluster.deploy(tmp_path / "c.yml", probe)
    before = task_ids(cluster, probe)
    [container] = cluster.containers("n2", f"label=com.stackyard.stack={probe}")
    cluster.docker("n2", "kill", container)
    eventually(lambda: len(now := task_ids(cluster, probe)) == 3 and len(now & before) == 2, "a new task in its place")
    [dead] = [t for t in cluster.listing("ps", probe) if t["state"] == "failed"]
    assert dead["exit_code"] == 137


def test_a_dead_node_s_tasks_go_elsewhere_and_it_is_taken_back(cluster: Cluster, probe: str, tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text(
        "services:\n"
        "  web: {image: 'stackyard-probe:1', deploy: {replicas: 3}}\n"
        "  data:\n"
        "    image: 'stackyard-probe:1'\n"
        "    volumes: ['data:/data']\n"
        "    deploy: {placement: {constraints: ['node.hostname == n3']}}\n"
        "volumes: {data: {}}\n"
    )
    cluster.deploy(tmp_path / "c.yml", probe)
    [data] = cluster.tasks(f"{probe}_data")
    assert data["node"] == "n3"
    cluster.lab.kill("n3")
    try:
        eventually(
            lambda: len(t := cluster.tasks(f"{probe}_web")) == 3 and all(x["node"] != "n3" for x in t),
            "its task of web runs elsewhere",
        )
        [waits] = cluster.tasks(f"{probe}_data", state="pending")
        assert "data" in waits["message"] and "n3" in waits["message"], waits
        [node] = [n for n in cluster.listing("node", "ls") if n["name"] == "n3"]
        assert node["status"] == "down"
    finally:
        cluster.lab.start("n3")
    eventually(lambda: ready(cluster), "n3 is taken back")
    eventually(lambda: [t["node"] for t in cluster.tasks(f"{probe}_data")] == ["n3"], "what waited for it runs there")
    eventually(lambda: len(cluster.tasks(f"{probe}_web")) == 3, "three of web, not four")
    eventually(
        lambda: sum(len(cluster.docker(n, "ps", "-q", "--filter", f"label=com.stackyard.stack={probe}").split())
                    for n in ("n1", "n2", "n3")) == 4,
        "no container of the old tasks runs on",
    )  # fmt: skip


def test_a_stack_is_removed_although_a_node_is_down(cluster: Cluster, probe: str, tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text("services: {web: {image: 'stackyard-probe:1', deploy: {replicas: 3}}}")
    cluster.deploy(tmp_path / "c.yml", probe)
    cluster.lab.kill("n3")
    try:
        cluster.stack("rm", probe)
    finally:
        cluster.lab.start("n3")
    eventually(lambda: ready(cluster), "n3 is taken back")
    eventually(
        lambda: not cluster.containers("n3", f"label=com.stackyard.stack={probe}"), "n3 removes what nobody knows"
    )


def test_a_cut_node_is_replaced_and_ends_what_it_ran_when_it_returns(
    cluster: Cluster, probe: str, tmp_path: Path
) -> None:
    (tmp_path / "c.yml").write_text("services: {web: {image: 'stackyard-probe:1', deploy: {replicas: 3}}}")
    cluster.deploy(tmp_path / "c.yml", probe)
    cluster.lab.cut("n3")
    try:
        eventually(lambda: len(t := cluster.tasks(probe)) == 3 and all(x["node"] != "n3" for x in t), "replaced")
    finally:
        cluster.lab.heal("n3")
    eventually(lambda: ready(cluster), "n3 is taken back")
    eventually(
        lambda: not cluster.docker("n3", "ps", "-q", "--filter", f"label=com.stackyard.stack={probe}").split(),
        "the copy on n3 is ended",
    )
    assert len(cluster.tasks(probe)) == 3


@pytest.mark.parametrize(
    ("node", "program"),
    [
        pytest.param("n2", "agent", id="the agent beside the client is killed and started"),
        pytest.param("n1", "manager", id="the manager is killed and started"),
        pytest.param("n1", "etcd", id="etcd is killed and started"),
    ],
)
def test_traffic_goes_on_and_nothing_is_lost(
    cluster: Cluster, probe: str, tmp_path: Path, node: str, program: str
) -> None:
    load = Load(cluster, probe, tmp_path)
    before = task_ids(cluster, probe)
    cluster.lab.kill(node, program)
    try:
        if program != "agent":  # names are answered by the agent: look-ups wait until it is back
            load.goes_on()
    finally:
        cluster.lab.start(node, program)
    load.goes_on()
    eventually(lambda: cluster.stack("ls", code=None).returncode == 0 and ready(cluster), "the cluster is whole again")
    assert task_ids(cluster, probe) == before, "no task was touched"
    cluster.stack("scale", f"{probe}_web=4")
    assert len(cluster.tasks(f"{probe}_web")) == 4
    load.goes_on()


def test_agents_of_a_newer_release_take_over_under_traffic(cluster: Cluster, probe: str, tmp_path: Path) -> None:
    def releases() -> set[str]:
        programs = json.loads(cluster.stack("upgrade", "--format", "json").stdout)["programs"]
        return {program["release"] for program in programs if program["kind"] == "agent"}

    load = Load(cluster, probe, tmp_path)
    before, [now] = task_ids(cluster, probe), releases()
    installed = Path(sysconfig.get_path("purelib")) / f"stackyard-{now}.dist-info" / "METADATA"
    newer = tmp_path / "METADATA"
    newer.write_text(installed.read_text().replace(f"\nVersion: {now}\n", "\nVersion: 99.0\n"))
    try:
        for node in ("n2", "n1", "n3"):
            assert cluster.lab.exec(node, ["mount", "--bind", str(newer), str(installed)]).returncode == 0
            cluster.lab.stop(node, "agent")
            cluster.lab.start(node, "agent")
            load.goes_on()
        eventually(lambda: releases() == {"99.0"} and ready(cluster), "all have taken over")
        assert task_ids(cluster, probe) == before, "no task was touched"
        load.goes_on()
    finally:
        for node in ("n2", "n1", "n3"):
            cluster.lab.exec(node, ["umount", str(installed)])
            cluster.lab.stop(node, "agent")
            cluster.lab.start(node, "agent")
    eventually(lambda: releases() == {now} and ready(cluster), "and the older one again")
    load.goes_on()


def test_an_engine_that_restarts_brings_the_same_tasks_back(cluster: Cluster, probe: str, tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text("services: {web: {image: 'stackyard-probe:1', deploy: {replicas: 3}}}")
    cluster.deploy(tmp_path / "c.yml", probe)
    before = task_ids(cluster, probe)
    cluster.lab.stop("n2", "engine")
    eventually(
        lambda: any("engine" in n["conditions"] for n in cluster.listing("node", "ls")), "the node's condition says so"
    )
    cluster.lab.start("n2", "engine")
    eventually(lambda: not any(n["conditions"] for n in cluster.listing("node", "ls")), "the condition goes")
    eventually(
        lambda: len(cluster.docker("n2", "ps", "-q", "--filter", f"label=com.stackyard.stack={probe}").split()) == 1,
        "the same task runs again",
    )
    assert task_ids(cluster, probe) == before, "and no failure was counted"


def test_an_engine_that_hangs_is_told_and_nothing_comes_of_it(cluster: Cluster, probe: str, tmp_path: Path) -> None:
    def trouble() -> str:
        [node] = [node for node in cluster.listing("node", "ls") if node["name"] == "n3"]
        assert node["status"] == "ready", node
        return str(node["conditions"].get("engine", ""))

    load = Load(cluster, probe, tmp_path)
    before = task_ids(cluster, probe)
    cluster.lab.pause("n3", "engine")
    try:
        eventually(lambda: "hangs" in trouble(), "it is told that the engine of n3 hangs")
        cluster.stack("scale", f"{probe}_web=6")
        assert not {task["id"] for task in cluster.tasks(probe) if task["node"] == "n3"} - before, "n3 gets no new task"
        load.goes_on()
    finally:
        cluster.lab.unpause("n3", "engine")
    eventually(lambda: not trouble(), "its engine answers again")
    assert task_ids(cluster, probe) >= before, "no task was touched"
    load.goes_on()


def test_containers_outlive_an_engine_with_live_restore(cluster: Cluster, probe: str, tmp_path: Path) -> None:
    def running() -> list[str]:
        return cluster.docker("n2", "ps", "-q", "--filter", f"label=com.stackyard.stack={probe}").split()

    cluster.lab.up(engine_args=["--live-restore"])
    try:
        cluster.lab.stop("n2", "engine")
        cluster.lab.start("n2", "engine")
        load = Load(cluster, probe, tmp_path)
        before, tasks = running(), task_ids(cluster, probe)
        cluster.lab.stop("n2", "engine")
        load.goes_on()
        cluster.lab.start("n2", "engine")
        load.goes_on()
        eventually(lambda: not any(n["conditions"] for n in cluster.listing("node", "ls")), "the engine is back")
        assert running() == before
        assert task_ids(cluster, probe) == tasks
    finally:
        cluster.lab.up(engine_args=[])
        cluster.lab.stop("n2", "engine")
        cluster.lab.start("n2", "engine")


def test_a_leader_stopped_for_20_s_declares_no_node_down(cluster: Cluster, probe: str, tmp_path: Path) -> None:
    load = Load(cluster, probe, tmp_path)
    before = task_ids(cluster, probe)
    cluster.lab.signal("n1", "manager", signal.SIGSTOP)
    try:
        time.sleep(20)  # the length of the stop is what is tried here
    finally:
        cluster.lab.signal("n1", "manager", signal.SIGCONT)
    eventually(lambda: cluster.stack("ls", code=None).returncode == 0 and ready(cluster), "the manager answers")
    load.goes_on()
    assert task_ids(cluster, probe) == before
    assert not [t for t in cluster.listing("ps", probe) if t["desired"] != "running"], "nothing was ever replaced"
