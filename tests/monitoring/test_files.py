"""The files of monitoring/, as Prometheus' own tool judges them; tests/integration/test_monitoring.py has the rest."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from manager.api import exposition
from manager.latencies import Latencies
from tests.cli.tree import parse
from tests.manager.decide.builders import Lab, a_service, a_stack
from tests.monitoring.prometheus import MONITORING, promtool


@pytest.mark.root
def test_the_configuration_and_the_alerts_are_right(tmp_path: Path) -> None:
    folder = shutil.copytree(MONITORING, tmp_path / "monitoring")
    for name in ("stackyard.token", "stackyard-ca.pem"):
        (folder / name).touch()
    promtool("check", "config", "--lint-fatal", str(folder / "prometheus.yml"))
    promtool("check", "rules", "--lint-fatal", str(folder / "alerts.yml"))


@pytest.mark.root
def test_alerts_fire_when_they_should_and_not_before() -> None:
    promtool("test", "rules", str(Path(__file__).with_name("alerts.yml")))


@pytest.mark.root
def test_metrics_are_written_as_prometheus_would_have_them() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("shop", a_service("web", replicas=2, networks=("front",))))
    lab.run_all()
    samples = [*exposition.of_manager(ready=True, leads=True, events=7), *exposition.of_cluster(lab.state)]
    samples += exposition.of_latencies(Latencies().view())
    for stack in lab.state.stacks.values():
        samples += exposition.of_stack(lab.state, stack, lab.now)
    promtool("check", "metrics", text="".join(exposition.parts(samples)))


def test_each_alert_is_tried() -> None:
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
    tried = yaml.safe_load(Path(__file__).with_name("alerts.yml").read_text())["tests"]
    fired = {one["alertname"] for test in tried for one in test["alert_rule_test"] if one["exp_alerts"]}
    quiet = {one["alertname"] for test in tried for one in test["alert_rule_test"] if not one["exp_alerts"]}
    assert {rule["alert"] for rule in rules} == fired == quiet


def test_what_alerts_tell_to_type_are_commands() -> None:
    told = re.findall(r"`(stack .*?)`", (MONITORING / "alerts.yml").read_text())
    assert told
    for line in told:
        parse(shlex.split(re.sub(r"{{.*?}}", "x", line)))
