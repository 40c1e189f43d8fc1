"""Global services, jobs, dependencies and crash loops, on real hosts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Cluster, eventually

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1200)]

PROBE = "image: stackyard-probe:1"


def written(folder: Path, services: str, name: str = "c.yml") -> Path:
    (folder / name).write_text(f"services:\n{services}")
    return folder / name


def service(cluster: Cluster, name: str) -> dict[str, Any]:
    [found] = [one for one in cluster.listing("services") if one["name"] == name]
    return found


def started(cluster: Cluster, stack: str, node: str, key: str) -> list[str]:
    """When the containers of a service on a node started."""
    containers = cluster.containers(node, f"label=com.stackyard.stack={stack}", f"label=com.stackyard.service={key}")
    found = json.loads(cluster.docker(node, "inspect", *containers)) if containers else []
    return sorted(one["State"]["StartedAt"] for one in found)


def test_a_global_service_is_on_every_node_and_goes_on_when_one_is_back(
    cluster: Cluster, probe: str, tmp_path: Path
) -> None:
    file = written(tmp_path, f"  web: {{{PROBE}, deploy: {{mode: global}}}}\n")
    cluster.deploy(file, probe)
    before = {task["node"]: task["id"] for task in cluster.tasks(probe)}
    assert set(before) == {"n1", "n2", "n3"}
    cluster.lab.kill("n3")
    eventually(lambda: len(cluster.tasks(probe)) == 2, "the lost task does not count as running")
    eventually(lambda: service(cluster, f"{probe}_web")["wanted"] == 2, "it is not waited for")
    cluster.deploy(file, probe)
    cluster.lab.start("n3")
    eventually(lambda: len(cluster.tasks(probe)) == 3, "the node is back with its task")
    assert {task["node"]: task["id"] for task in cluster.tasks(probe)} == before, "which is the same one"
    cluster.stack("node", "update", "n2", "--availability", "drain")
    try:
        eventually(lambda: {t["node"] for t in cluster.tasks(probe)} == {"n1", "n3"}, "a drained node loses its task")
    finally:
        cluster.stack("node", "update", "n2", "--availability", "active")
    eventually(lambda: {t["node"] for t in cluster.tasks(probe)} == {"n1", "n2", "n3"}, "and gets one again")


def test_a_job_completes_is_left_alone_and_runs_again_when_forced(cluster: Cluster, probe: str, tmp_path: Path) -> None:
    job = (
        f"  job: {{{PROBE}, command: sh -c 'sleep 0.5', x-max-concurrent: 2,"
        " deploy: {mode: replicated-job, replicas: 5}}\n"
    )
    file = written(tmp_path, job + f"  web: {{{PROBE}}}\n")
    said = cluster.deploy(file, probe)
    assert "job  5/5 completed" in said.stderr
    assert service(cluster, f"{probe}_job")["completed"] == 5
    assert "5/5 completed" in cluster.stack("services", probe).stdout
    done = {task["id"] for task in cluster.tasks(f"{probe}_job", state="complete")}
    assert len(done) == 5
    cluster.deploy(written(tmp_path, job + f"  web: {{{PROBE}, environment: {{A: b}}}}\n"), probe)
    cluster.stack("scale", f"{probe}_web=2")
    assert {task["id"] for task in cluster.tasks(f"{probe}_job", state="complete")} == done
    cluster.deploy(file, probe, code=0)
    cluster.stack("deploy", "-f", str(file), probe, "--force", "job")
    again = {task["id"] for task in cluster.tasks(f"{probe}_job", state="complete")}
    assert len(again) == 5 and not again & done


CHAIN = f"""
  db:
    {PROBE}
    command: sh -c 'sleep 1; touch /tmp/ready; exec sleep 1000'
    stop_grace_period: 0s
    healthcheck: {{test: ["CMD", "test", "-e", "/tmp/ready"], interval: 1s}}
    deploy: {{placement: {{constraints: ["node.hostname == n1"]}}}}
  migrate:
    {PROBE}
    command: sh -c 'sleep 0.5'
    depends_on: {{db: {{condition: service_healthy}}}}
    deploy: {{placement: {{constraints: ["node.hostname == n2"]}}}}
  web:
    {PROBE}
    command: sleep 1000
    stop_grace_period: 0s
    depends_on:
      migrate: {{condition: service_completed_successfully}}
      db: {{condition: service_healthy, restart: true}}
    deploy: {{placement: {{constraints: ["node.hostname == n3"]}}}}
"""


def test_services_start_in_the_order_of_their_dependencies_over_hosts(
    cluster: Cluster, probe: str, tmp_path: Path
) -> None:
    file = written(tmp_path, CHAIN)
    cluster.stack("deploy", "--detach", "-f", str(file), probe)
    waiting = eventually(
        lambda: [t for t in cluster.listing("ps", f"{probe}_web") if "waits for service" in t["message"]], "it waits"
    )
    assert waiting[0]["node"] == ""
    cluster.deploy(file, probe)
    [db], [migrate], [web] = (
        started(cluster, probe, node, key) for node, key in (("n1", "db"), ("n2", "migrate"), ("n3", "web"))
    )
    assert db < migrate < web
    [run] = json.loads(cluster.docker("n2", "inspect", *cluster.containers("n2", f"label=com.stackyard.stack={probe}")))
    assert run["State"]["FinishedAt"] < web
    assert service(cluster, f"{probe}_migrate")["completed"] == 1, "it is not run again, though others run on"

    first = {task["service"]: task["id"] for task in cluster.tasks(probe)}
    text = CHAIN.replace("touch /tmp/ready;", "touch /tmp/ready; true;")
    cluster.deploy(written(tmp_path, text), probe)
    second = {task["service"]: task["id"] for task in cluster.tasks(probe)}
    assert second["db"] != first["db"]
    assert second["web"] != first["web"], "restart: true"
    assert started(cluster, probe, "n1", "db")[-1] < started(cluster, probe, "n3", "web")[-1]


def test_what_depends_on_a_job_that_fails_is_told_with_its_last_words(
    cluster: Cluster, probe: str, tmp_path: Path
) -> None:
    file = written(
        tmp_path,
        f"  migrate: {{{PROBE}, command: sh -c 'echo no such table; exit 3', restart: 'on-failure:1'}}\n"
        f"  web: {{{PROBE}, depends_on: {{migrate: {{condition: service_completed_successfully}}}}}}\n",
    )
    said = cluster.deploy(file, probe, code=1)
    assert "exited with code 3" in said.stderr and "migrate | no such table" in said.stderr
    [web] = [t for t in cluster.listing("ps", f"{probe}_web") if t["desired"] == "running"]
    assert "waits in vain for service migrate" in web["message"]


def test_a_crash_loop_is_seen_with_its_exit_code_and_last_words(cluster: Cluster, probe: str, tmp_path: Path) -> None:
    cluster.stack("deploy", "--detach", "-f", str(written(
        tmp_path, f"  web: {{{PROBE}, command: sh -c 'echo one; echo two; sleep 0.2; exit 7'}}\n"
    )), probe)  # fmt: skip

    def loops() -> str:
        told = cluster.stack("ps", probe, "--no-trunc", "--all").stdout
        return told if "exited with code 7" in told and "one | two" in told and "times before" in told else ""

    eventually(loops, "the loop is told")
    [now] = [t for t in cluster.listing("ps", probe) if t["desired"] == "running"]
    assert now["failures"] >= 1


def test_an_unhealthy_container_is_stopped_and_replaced_and_traffic_waits_for_health(
    cluster: Cluster, probe: str, tmp_path: Path
) -> None:
    file = written(
        tmp_path,
        f"""
  web:
    {PROBE}
    command: sh -c 'touch /tmp/ready; exec sleep 1000'
    stop_grace_period: 0s
    healthcheck: {{test: ["CMD", "test", "-e", "/tmp/ready"], interval: 0.5s, retries: 1}}
""",
    )
    cluster.deploy(file, probe)
    [task] = cluster.tasks(probe)
    [container] = cluster.containers(task["node"], f"label=com.stackyard.task={task['id']}")
    cluster.docker(task["node"], "exec", container, "rm", "/tmp/ready")
    eventually(lambda: [t for t in cluster.tasks(probe) if t["id"] != task["id"]], "another takes its place")
    [failed] = [t for t in cluster.listing("ps", probe) if t["id"] == task["id"]]
    assert failed["state"] == "failed" and "health check failed" in failed["message"]
    assert failed["message"].endswith("the check said nothing, with exit code 1")
