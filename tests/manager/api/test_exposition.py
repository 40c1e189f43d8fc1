"""What programs that watch the cluster are told: metrics, where to scrape, and how Traefik leads to services."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from cluster.latency import BOUNDS, Latency
from cluster.model.service import ServiceSpec
from cluster.model.task import TaskState, TaskStatus
from cluster.usage import Traffic
from cluster.views import ConvergenceView, DelayView
from manager.api import exposition
from manager.api.show import everything
from manager.latencies import Latencies
from manager.picture import Change
from tests.manager.decide.builders import Lab, a_service, a_stack

MONITORING = Path(__file__).parents[3] / "monitoring"


def labelled(**labels: str) -> ServiceSpec:
    told = {key.replace("__", "."): value for key, value in labels.items()}
    return dataclasses.replace(a_service("web", replicas=2, networks=("front",)), labels=told)


def running(service: ServiceSpec, *nodes: str) -> Lab:
    lab = Lab(*(nodes or ("n1", "n2")))
    lab.deploy(a_stack("shop", service))
    lab.run_all()
    return lab


def told(lab: Lab) -> dict[str, float]:
    samples = [*exposition.of_manager(ready=True, leads=True, events=7), *exposition.of_cluster(lab.state)]
    for stack in lab.state.stacks.values():
        samples += exposition.of_stack(lab.state, stack, lab.now)
    return {name: float(value) for name, value in (one.rsplit(" ", 1) for one in samples)}


def test_nodes_and_services_are_told() -> None:
    lab = running(labelled())
    before = told(lab)
    where = 'stack="shop",service="shop_web"'
    assert before[f"stackyard_service_tasks_wanted{{{where}}}"] == 2
    assert before[f"stackyard_service_tasks_ready{{{where}}}"] == 2
    assert before[f"stackyard_service_tasks_running{{{where}}}"] == 2
    assert before[f"stackyard_service_updating{{{where}}}"] == 0
    assert before[f'stackyard_service_tasks{{{where},state="running"}}'] == 2
    assert before['stackyard_nodes{status="ready",availability="active"}'] == 2
    assert before['stackyard_node_ready{node="n1"}'] == 1 and before["stackyard_manager_leads"] == 1
    lab.fall_silent("n1")
    lab.wait(60.0)
    after = told(lab)
    assert after['stackyard_node_ready{node="n1"}'] == 0
    assert after['stackyard_nodes{status="down",availability="active"}'] == 1


def test_the_text_has_each_metric_once_with_its_kind() -> None:
    lab = running(labelled())
    samples = [*exposition.of_manager(ready=True, leads=False, events=7), *exposition.of_cluster(lab.state)]
    text = "".join(exposition.parts(samples))
    kinds = re.findall(r"# TYPE (\S+) (\S+)\n\1", text)
    assert dict(kinds)["stackyard_manager_events_total"] == "counter" and dict(kinds)["stackyard_nodes"] == "gauge"
    assert len(kinds) == len(dict(kinds)) and text.endswith("\n")


def test_latencies_are_told_as_histograms() -> None:
    seen = Latencies()
    for seconds in (0.001, 0.0011, 7.0, 1e6, -0.5):
        seen.observe("commit", seconds)
    seen.add({"pull": Latency((0,) * 3 + (2,) + (0,) * (len(BOUNDS) - 3), 0.015)})
    lines = "".join(exposition.parts(exposition.of_latencies(seen.view()))).splitlines()
    assert "# TYPE stackyard_commit_seconds histogram" in lines
    assert "stackyard_decide_seconds_count 0" in lines, "also what has not happened yet, or its first time has no rate"
    told = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    commit = [
        told[f'stackyard_commit_seconds_bucket{{le="{bound}"}}'] for bound in ("0.001", "0.0025", "5", "10", "+Inf")
    ]
    assert commit == ["2", "3", "3", "4", "5"]
    assert (told["stackyard_commit_seconds_count"], float(told["stackyard_commit_seconds_sum"])) == ("5", 1000007.002)
    assert told['stackyard_image_pull_seconds_bucket{le="0.005"}'] == "0"
    assert told['stackyard_image_pull_seconds_bucket{le="0.01"}'] == "2" == told["stackyard_image_pull_seconds_count"]


def test_tasks_are_timed_from_their_making() -> None:
    seen, lab = Latencies(), running(labelled(), "n1")
    [one, two] = lab.tasks()
    now = one.created_at + 2.0
    waits = dataclasses.replace(one, node=None)
    seen.changed(lab.state, [Change("", None, waits, 1), Change("", waits, one, 2), Change("", one, two, 3)], now)
    runs = TaskStatus(one.id, TaskState.RUNNING, now)
    starts = dataclasses.replace(runs, state=TaskState.STARTING)
    seen.changed(lab.state, [Change("", starts, runs, 4), Change("", runs, runs, 5), Change("", None, starts, 6)], now)
    told = {work: (sum(latency.counts), latency.total) for work, latency in seen.view().items()}
    assert {work: held for work, held in told.items() if held[0]} == {"schedule": (1, 2.0), "run": (1, 2.0)}


def test_what_has_passed_a_tasks_links_is_told_whole() -> None:
    lab = running(labelled(), "n1")
    task = lab.tasks()[0]
    lines = list(exposition.of_traffic(lab.state, task, Traffic(task.id, 10**15 + 1, 2, 3, 4, 5)))
    where = f'stack="shop",service="shop_web",task="shop_web.{task.slot}",node="n1",task_id="{task.id}"'
    assert lines[0] == f"stackyard_task_network_received_bytes_total{{{where}}} {10**15 + 1}"
    assert [line.rsplit(" ", 1)[1] for line in lines[1:]] == ["2", "3", "4", "5"]
    gone = dataclasses.replace(task, service_uid="gone")
    assert list(exposition.of_traffic(lab.state, gone, Traffic(task.id, 1, 2, 3, 4, 5))) == []


def test_each_node_in_session_is_told_how_far_behind_it_is() -> None:
    view = ConvergenceView("m1", 2, DelayView(0), DelayView(0), 0, {"n2": 3.5})
    assert [line for line in exposition.of_convergence(view, ("n2", "n1")) if "behind" in line] == [
        'stackyard_convergence_behind_seconds{node="n1"} 0', 'stackyard_convergence_behind_seconds{node="n2"} 3.5',
    ]  # fmt: skip


def test_what_labels_hold_is_escaped() -> None:
    assert exposition.sample("stackyard_node_ready", 1, node='a"b\\c\nd') == (
        'stackyard_node_ready{node="a\\"b\\\\c\\nd"} 1'
    )


@pytest.mark.parametrize("file", ["alerts.yml", "dashboard.json"])
def test_alerts_and_the_dashboard_ask_for_what_is_told(file: str) -> None:
    asked = {exposition.metric_of(name) for name in re.findall(r"stackyard_[a-z_]+", (MONITORING / file).read_text())}
    assert asked and asked <= exposition.HELP.keys()
    if file.endswith(".json"):
        assert json.loads((MONITORING / file).read_text())["panels"]


def test_prometheus_finds_the_tasks_that_run_and_have_a_port_for_it() -> None:
    lab = running(labelled(prometheus__port="9100", prometheus__path="/m", team="red"))
    found = exposition.prometheus_targets(lab.state, everything, "shop_front")
    assert len(found) == 2 and all(str(one["targets"]).endswith(":9100']") for one in found)
    labels = found[0]["labels"]
    assert isinstance(labels, dict) and labels["__metrics_path__"] == "/m"
    assert (labels["__meta_stackyard_task"], labels["__meta_stackyard_label_team"]) == ("shop_web.1", "red")
    assert exposition.prometheus_targets(lab.state, everything, "other") == []
    assert exposition.prometheus_targets(lab.state, lambda stack: False, "") == []
    lab.fall_silent("n1")
    lab.wait(60.0)
    left = exposition.prometheus_targets(lab.state, everything, "")
    assert {one["labels"]["__meta_stackyard_node"] for one in left} == {"n2"}  # type: ignore[index]
    assert exposition.prometheus_targets(running(labelled()).state, everything, "") == []
